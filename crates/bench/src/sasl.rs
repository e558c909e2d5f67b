//! The client's half of SCRAM (RFC 5802, RFC 7677) without channel binding. Which mechanism is chosen, and the XML
//! around the messages, are decided at login.

use data_encoding::BASE64;
use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;
use sha2::{Digest, Sha256};

/// The hash of a SCRAM mechanism.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Hash {
    /// SCRAM-SHA-1
    Sha1,
    /// SCRAM-SHA-256
    Sha256,
}

impl Hash {
    fn digest(self, data: &[u8]) -> Vec<u8> {
        match self {
            Hash::Sha1 => Sha1::digest(data).to_vec(),
            Hash::Sha256 => Sha256::digest(data).to_vec(),
        }
    }

    fn hmac(self, key: &[u8], data: &[u8]) -> Option<Vec<u8>> {
        match self {
            Hash::Sha1 => Hmac::<Sha1>::new_from_slice(key)
                .ok()
                .map(|m| m.chain_update(data).finalize().into_bytes().to_vec()),
            Hash::Sha256 => Hmac::<Sha256>::new_from_slice(key)
                .ok()
                .map(|m| m.chain_update(data).finalize().into_bytes().to_vec()),
        }
    }

    /// The salted password: the slow part of SCRAM, worth keeping between logins.
    pub fn salt(self, password: &str, salt: &[u8], iterations: u32) -> Vec<u8> {
        match self {
            Hash::Sha1 => {
                let mut out = vec![0; 20];
                pbkdf2::pbkdf2_hmac::<Sha1>(password.as_bytes(), salt, iterations, &mut out);
                out
            }
            Hash::Sha256 => {
                let mut out = vec![0; 32];
                pbkdf2::pbkdf2_hmac::<Sha256>(password.as_bytes(), salt, iterations, &mut out);
                out
            }
        }
    }
}

/// The server's first message, taken apart.
#[derive(Debug, PartialEq, Eq)]
pub struct Challenge {
    nonce: String,
    /// The account's salt.
    pub salt: Vec<u8>,
    /// How often the hash is repeated.
    pub iterations: u32,
}

impl Challenge {
    /// Reads `r=…,s=…,i=…`; `None` if it is anything else.
    pub fn parse(message: &str) -> Option<Self> {
        let field = |key: &str| message.split(',').find_map(|part| part.strip_prefix(key));
        Some(Self {
            nonce: field("r=")?.to_owned(),
            salt: BASE64.decode(field("s=")?.as_bytes()).ok()?,
            iterations: field("i=")?.parse().ok()?,
        })
    }
}

/// One login attempt.
#[derive(Debug)]
pub struct Scram {
    hash: Hash,
    nonce: String,
    bare: String,
}

impl Scram {
    /// Begins; `name` must need no escaping (the generator chooses its own account names).
    pub fn new(hash: Hash, name: &str, nonce: String) -> Self {
        let bare = format!("n={name},r={nonce}");
        Self { hash, nonce, bare }
    }

    /// The client's first message.
    pub fn first(&self) -> String {
        format!("n,,{}", self.bare)
    }

    /// The client's final message and the server signature to expect, or `None` if the challenge is not an answer
    /// to our nonce.
    pub fn answer(
        &self,
        challenge: &Challenge,
        challenge_text: &str,
        salted: &[u8],
    ) -> Option<(String, Vec<u8>)> {
        if !challenge.nonce.starts_with(&self.nonce) {
            return None;
        }
        let bare = format!("c=biws,r={}", challenge.nonce);
        let signed = format!("{},{challenge_text},{bare}", self.bare);
        let client_key = self.hash.hmac(salted, b"Client Key")?;
        let signature = self.hash.hmac(&self.hash.digest(&client_key), signed.as_bytes())?;
        let proof: Vec<u8> = client_key.iter().zip(&signature).map(|(a, b)| a ^ b).collect();
        let server_key = self.hash.hmac(salted, b"Server Key")?;
        let expected = self.hash.hmac(&server_key, signed.as_bytes())?;
        Some((format!("{bare},p={}", BASE64.encode(&proof)), expected))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dialogue(hash: Hash, nonce: &str, challenge: &str) -> (String, String) {
        let scram = Scram::new(hash, "user", nonce.to_owned());
        let parsed = Challenge::parse(challenge).unwrap();
        let salted = hash.salt("pencil", &parsed.salt, parsed.iterations);
        let (last, signature) = scram.answer(&parsed, challenge, &salted).unwrap();
        (last, BASE64.encode(&signature))
    }

    #[test]
    fn the_example_of_rfc_5802() {
        let nonce = "fyko+d2lbbFgONRv9qkxdawL";
        let challenge = "r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,s=QSXCR+Q6sek8bf92,i=4096";
        let (last, signature) = dialogue(Hash::Sha1, nonce, challenge);
        assert!(last.ends_with(",p=v0X8v3Bz2T0CJGbJQyF0X+HI4Ts="), "{last}");
        assert_eq!(signature, "rmF9pqV8S7suAoZWja4dJRkFsKQ=");
    }

    #[test]
    fn the_example_of_rfc_7677() {
        let nonce = "rOprNGfwEbeRWgbNEkqO";
        let challenge =
            "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
        let (last, signature) = dialogue(Hash::Sha256, nonce, challenge);
        assert!(last.ends_with(",p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="), "{last}");
        assert_eq!(signature, "6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");
    }

    #[test]
    fn a_foreign_nonce_is_refused() {
        let scram = Scram::new(Hash::Sha1, "user", "mine".to_owned());
        let text = "r=other,s=QSXCR+Q6sek8bf92,i=1";
        assert!(scram.answer(&Challenge::parse(text).unwrap(), text, b"x").is_none());
    }
}
