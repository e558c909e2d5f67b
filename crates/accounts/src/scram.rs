//! SCRAM for the server side (RFC 5802, RFC 7677, tls-exporter of RFC 9266): keys from a password, and the exchange
//! that proves that a client knows it. Base64 framing, mechanism names and failures on the wire are the stream's;
//! looking accounts up, and drawing salts and nonces, the caller's.

use data_encoding::BASE64;
use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::credentials::{Credentials, ScramKeys};

/// How often the hash is repeated for a new password.
pub const ITERATIONS: u32 = 10_000;
/// Bytes of a salt.
pub const SALT_BYTES: usize = 16;
/// Random bytes that make a nonce.
pub const NONCE_BYTES: usize = 18;
/// The longest password and client message that are looked at, in bytes.
pub const MESSAGE_MAX_BYTES: usize = 4096;
/// The one channel binding that is offered.
pub const TLS_EXPORTER: &str = "tls-exporter";

/// The hash of a mechanism.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ScramHash {
    /// SCRAM-SHA-1 and SCRAM-SHA-1-PLUS.
    Sha1,
    /// SCRAM-SHA-256 and SCRAM-SHA-256-PLUS.
    Sha256,
}

impl ScramHash {
    fn hash(self, data: &[u8]) -> Vec<u8> {
        match self {
            Self::Sha1 => Sha1::digest(data).to_vec(),
            Self::Sha256 => Sha256::digest(data).to_vec(),
        }
    }

    fn hmac(self, key: &[u8], data: &[u8]) -> Vec<u8> {
        // HMAC takes keys of any length; the signature of `new_from_slice` is for other MACs.
        match self {
            Self::Sha1 => Hmac::<Sha1>::new_from_slice(key)
                .map(|mac| mac.chain_update(data).finalize().into_bytes().to_vec()),
            Self::Sha256 => Hmac::<Sha256>::new_from_slice(key)
                .map(|mac| mac.chain_update(data).finalize().into_bytes().to_vec()),
        }
        .unwrap_or_default()
    }

    fn salted(self, password: &str, salt: &[u8], iterations: u32) -> Vec<u8> {
        match self {
            Self::Sha1 => {
                let mut out = [0; 20];
                pbkdf2::pbkdf2_hmac::<Sha1>(password.as_bytes(), salt, iterations, &mut out);
                out.to_vec()
            }
            Self::Sha256 => {
                let mut out = [0; 32];
                pbkdf2::pbkdf2_hmac::<Sha256>(password.as_bytes(), salt, iterations, &mut out);
                out.to_vec()
            }
        }
    }
}

/// A password that cannot be used: it is empty, too long, or has characters that SASLprep (RFC 4013) forbids.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the password is empty, longer than {MESSAGE_MAX_BYTES} bytes, or has control or unassigned characters"
)]
pub struct PasswordError;

fn prepared(password: &str) -> Result<std::borrow::Cow<'_, str>, PasswordError> {
    if password.len() > MESSAGE_MAX_BYTES {
        return Err(PasswordError);
    }
    let prepared = stringprep::saslprep(password).map_err(|_| PasswordError)?;
    if prepared.is_empty() { Err(PasswordError) } else { Ok(prepared) }
}

impl ScramKeys {
    /// The keys of a password. Costs `iterations` hashes: milliseconds.
    ///
    /// # Errors
    /// The password cannot be used.
    pub fn derive(
        hash: ScramHash,
        password: &str,
        salt: &[u8],
        iterations: u32,
    ) -> Result<Self, PasswordError> {
        let salted = hash.salted(&prepared(password)?, salt, iterations);
        let stored_key = hash.hash(&hash.hmac(&salted, b"Client Key"));
        let server_key = hash.hmac(&salted, b"Server Key");
        Ok(Self { salt: salt.to_vec(), iterations, stored_key, server_key })
    }
}

impl Credentials {
    /// The credentials of a new password, [`ITERATIONS`] strong. `salt` is fresh random bytes, [`SALT_BYTES`] of them.
    /// Costs tens of milliseconds of computing: not for a thread that serves others.
    ///
    /// # Errors
    /// The password cannot be used.
    pub fn derive(password: &str, salt: &[u8]) -> Result<Self, PasswordError> {
        Ok(Self {
            sha1: ScramKeys::derive(ScramHash::Sha1, password, salt, ITERATIONS)?,
            sha256: ScramKeys::derive(ScramHash::Sha256, password, salt, ITERATIONS)?,
        })
    }

    /// Stand-ins for an account that does not exist: no password fits them, and their salt is the same each time that
    /// the name is tried, so that trying does not tell who has an account. `secret` is random and kept.
    pub fn stand_in(secret: &[u8], name: &str) -> Self {
        let derived = |label: &str| ScramHash::Sha256.hmac(secret, format!("{label} {name}").as_bytes());
        let mut salt = derived("salt");
        salt.truncate(SALT_BYTES);
        let keys = |hash: ScramHash, label: &str| ScramKeys {
            salt: salt.clone(),
            iterations: ITERATIONS,
            // Nobody knows a client key that hashes to this.
            stored_key: hash.hash(&derived(label)),
            server_key: hash.hash(&derived("server")),
        };
        Self { sha1: keys(ScramHash::Sha1, "stored-1"), sha256: keys(ScramHash::Sha256, "stored-256") }
    }

    /// The keys for a hash.
    pub fn keys(&self, hash: ScramHash) -> &ScramKeys {
        match hash {
            ScramHash::Sha1 => &self.sha1,
            ScramHash::Sha256 => &self.sha256,
        }
    }

    /// Whether this is the password (for PLAIN). Costs as much as [`ScramKeys::derive`], and as much for a wrong one.
    pub fn verify_plain(&self, password: &str) -> bool {
        let keys = &self.sha256;
        ScramKeys::derive(ScramHash::Sha256, password, &keys.salt, keys.iterations)
            .is_ok_and(|derived| bool::from(derived.stored_key.ct_eq(&keys.stored_key)))
    }
}

/// The binding of the exchange to the TLS channel, as the server sees it.
#[derive(Clone, PartialEq, Eq)]
pub enum ChannelBinding {
    /// No -PLUS mechanism was offered.
    NotOffered,
    /// One was offered, but the client chose a mechanism without.
    Offered,
    /// The client chose a -PLUS mechanism; these are the connection's `tls-exporter` bytes.
    Chosen(Vec<u8>),
}

/// Why an exchange ends without a login.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScramError {
    /// The message is not SCRAM, or not of this mechanism: `malformed-request`.
    #[error("not a valid SCRAM message")]
    Malformed,
    /// Wrong password, unknown account, or a channel binding that does not match: `not-authorized`.
    #[error("not authorized")]
    NotAuthorized,
}

/// The client's first message, read: says who wants to log in, so that the credentials can be looked up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientFirst {
    username: String,
    authzid: Option<String>,
    gs2_header: String,
    binding: ClientBinding,
    bare: String,
    nonce: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum ClientBinding {
    /// `n`: the client cannot.
    Unable,
    /// `y`: the client can, and believes that the server cannot.
    Unoffered,
    /// `p=…`
    Used(String),
}

impl ClientFirst {
    /// Reads `client-first-message` (RFC 5802 §7).
    ///
    /// # Errors
    /// [`ScramError::Malformed`], also for mandatory extensions, of which none is known.
    pub fn read(message: &[u8]) -> Result<Self, ScramError> {
        let malformed = ScramError::Malformed;
        if message.len() > MESSAGE_MAX_BYTES {
            return Err(malformed);
        }
        let message = std::str::from_utf8(message).map_err(|_| malformed)?;
        let (flag, rest) = message.split_once(',').ok_or(malformed)?;
        let (authzid, bare) = rest.split_once(',').ok_or(malformed)?;
        let gs2_header = format!("{flag},{authzid},");
        let binding = match flag {
            "n" => ClientBinding::Unable,
            "y" => ClientBinding::Unoffered,
            _ => ClientBinding::Used(flag.strip_prefix("p=").ok_or(malformed)?.to_owned()),
        };
        let authzid = match authzid {
            "" => None,
            text => Some(unescaped(text.strip_prefix("a=").ok_or(malformed)?)?),
        };
        let mut fields = bare.split(',');
        let username = unescaped(field(fields.next(), "n=")?)?;
        let username = stringprep::saslprep(&username).map_err(|_| malformed)?.into_owned();
        let nonce = field(fields.next(), "r=")?.to_owned();
        if username.is_empty() || nonce.is_empty() || !nonce.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(malformed);
        }
        Ok(Self { username, authzid, gs2_header, binding, bare: bare.to_owned(), nonce })
    }

    /// The name of the account: the local part of its JID.
    pub fn username(&self) -> &str {
        &self.username
    }

    /// On whose behalf the client wants to act; anyone but itself is to be refused with `invalid-authzid`.
    pub fn authzid(&self) -> Option<&str> {
        self.authzid.as_deref()
    }

    /// The exchange, and the challenge to send (`server-first-message`). `random` is fresh random bytes,
    /// [`NONCE_BYTES`] of them.
    ///
    /// # Errors
    /// The client's idea of channel binding does not fit ours: [`ScramError::NotAuthorized`] if somebody between us
    /// seems to have hidden the offer of -PLUS, [`ScramError::Malformed`] if the client contradicts itself.
    pub fn challenge(
        self,
        hash: ScramHash,
        keys: &ScramKeys,
        binding: &ChannelBinding,
        random: &[u8],
    ) -> Result<(ScramExchange, Vec<u8>), ScramError> {
        self.challenge_with(hash, keys, binding, &BASE64.encode(random))
    }

    fn challenge_with(
        self,
        hash: ScramHash,
        keys: &ScramKeys,
        binding: &ChannelBinding,
        nonce: &str,
    ) -> Result<(ScramExchange, Vec<u8>), ScramError> {
        let mut expected_binding = self.gs2_header.into_bytes();
        match (&self.binding, binding) {
            (ClientBinding::Unable, ChannelBinding::NotOffered | ChannelBinding::Offered)
            | (ClientBinding::Unoffered, ChannelBinding::NotOffered) => {}
            (ClientBinding::Unoffered, ChannelBinding::Offered) => return Err(ScramError::NotAuthorized),
            (ClientBinding::Used(name), ChannelBinding::Chosen(data)) if name == TLS_EXPORTER => {
                expected_binding.extend_from_slice(data);
            }
            _ => return Err(ScramError::Malformed),
        }
        let nonce = format!("{}{nonce}", self.nonce);
        let server_first = format!("r={nonce},s={},i={}", BASE64.encode(&keys.salt), keys.iterations);
        let auth_message = format!("{},{server_first},", self.bare);
        let exchange = ScramExchange { hash, keys: keys.clone(), expected_binding, nonce, auth_message };
        Ok((exchange, server_first.into_bytes()))
    }
}

/// An exchange whose challenge has been sent.
#[derive(Debug)]
pub struct ScramExchange {
    hash: ScramHash,
    keys: ScramKeys,
    expected_binding: Vec<u8>,
    nonce: String,
    auth_message: String,
}

impl ScramExchange {
    /// Checks `client-final-message`. `Ok` means that the client knows the password; the bytes go with the success
    /// (`server-final-message`) and prove to the client that we know its keys.
    ///
    /// # Errors
    /// [`ScramError::Malformed`] or [`ScramError::NotAuthorized`]; the exchange is over in any case.
    pub fn finish(mut self, message: &[u8]) -> Result<Vec<u8>, ScramError> {
        let malformed = ScramError::Malformed;
        if message.len() > MESSAGE_MAX_BYTES {
            return Err(malformed);
        }
        let message = std::str::from_utf8(message).map_err(|_| malformed)?;
        let (without_proof, proof) = message.rsplit_once(",p=").ok_or(malformed)?;
        let proof = BASE64.decode(proof.as_bytes()).map_err(|_| malformed)?;
        let mut fields = without_proof.split(',');
        let binding = field(fields.next(), "c=")?;
        let binding = BASE64.decode(binding.as_bytes()).map_err(|_| malformed)?;
        let nonce = field(fields.next(), "r=")?;
        if fields.any(|extension| extension.starts_with("m=")) {
            return Err(malformed);
        }

        self.auth_message.push_str(without_proof);
        let auth_message = self.auth_message.as_bytes();
        let signature = self.hash.hmac(&self.keys.stored_key, auth_message);
        let client_key: Vec<u8> = proof.iter().zip(&signature).map(|(proof, byte)| proof ^ byte).collect();
        let proven = proof.len().ct_eq(&signature.len())
            & self.hash.hash(&client_key).ct_eq(&self.keys.stored_key)
            & binding.ct_eq(&self.expected_binding)
            & nonce.as_bytes().ct_eq(self.nonce.as_bytes());
        if !bool::from(proven) {
            return Err(ScramError::NotAuthorized);
        }
        let verifier = self.hash.hmac(&self.keys.server_key, auth_message);
        Ok(format!("v={}", BASE64.encode(&verifier)).into_bytes())
    }
}

/// The value of a field that must be there and start with its name.
fn field<'a>(field: Option<&'a str>, name: &str) -> Result<&'a str, ScramError> {
    field.and_then(|field| field.strip_prefix(name)).ok_or(ScramError::Malformed)
}

/// A `saslname` as it was meant: `=2C` is a comma, `=3D` an equals sign, and no other `=` may occur.
fn unescaped(name: &str) -> Result<String, ScramError> {
    let mut out = String::with_capacity(name.len());
    let mut pieces = name.split('=');
    out.push_str(pieces.next().unwrap_or_default());
    for piece in pieces {
        let (ch, rest) = match (piece.strip_prefix("2C"), piece.strip_prefix("3D")) {
            (Some(rest), _) => (',', rest),
            (_, Some(rest)) => ('=', rest),
            _ => return Err(ScramError::Malformed),
        };
        out.push(ch);
        out.push_str(rest);
    }
    Ok(out)
}

/// What a PLAIN message says (RFC 4616): who acts, who logs in, and with which password.
pub struct PlainMessage<'a> {
    /// On whose behalf, if not the account itself.
    pub authzid: Option<&'a str>,
    /// The name of the account, unprepared.
    pub username: &'a str,
    /// The password, as sent.
    pub password: &'a str,
}

impl<'a> PlainMessage<'a> {
    /// Reads the one message of the mechanism.
    ///
    /// # Errors
    /// [`ScramError::Malformed`].
    pub fn read(message: &'a [u8]) -> Result<Self, ScramError> {
        let malformed = ScramError::Malformed;
        if message.len() > MESSAGE_MAX_BYTES {
            return Err(malformed);
        }
        let message = std::str::from_utf8(message).map_err(|_| malformed)?;
        let mut fields = message.split('\0');
        let (Some(authzid), Some(username), Some(password), None) =
            (fields.next(), fields.next(), fields.next(), fields.next())
        else {
            return Err(malformed);
        };
        if username.is_empty() || password.is_empty() {
            return Err(malformed);
        }
        Ok(Self { authzid: Some(authzid).filter(|authzid| !authzid.is_empty()), username, password })
    }
}

pub mod client;

#[cfg(test)]
mod tests;
