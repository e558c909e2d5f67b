//! The client's side of SCRAM (RFC 5802), for the clients that Mammoth itself brings along: the demonstration and
//! the tests. Framing is the caller's.

use data_encoding::BASE64;
use subtle::ConstantTimeEq;

use super::{ScramError, ScramHash, TLS_EXPORTER, field, prepared};

/// An exchange that this side has begun.
#[derive(Debug)]
pub struct ClientExchange {
    hash: ScramHash,
    gs2_header: &'static str,
    binding: Vec<u8>,
    bare: String,
    nonce: String,
}

impl ClientExchange {
    /// Begins: the exchange, and the first message to send. `username` has neither `,` nor `=`; `nonce` is fresh
    /// printable text without a comma; `binding` is the connection's `tls-exporter` data, for a -PLUS mechanism.
    #[must_use]
    pub fn begin(hash: ScramHash, username: &str, nonce: &str, binding: Option<Vec<u8>>) -> (Self, Vec<u8>) {
        debug_assert_eq!(TLS_EXPORTER, "tls-exporter");
        let gs2_header = if binding.is_some() { "p=tls-exporter,," } else { "n,," };
        let bare = format!("n={username},r={nonce}");
        let first = format!("{gs2_header}{bare}").into_bytes();
        let nonce = nonce.to_owned();
        (Self { hash, gs2_header, binding: binding.unwrap_or_default(), bare, nonce }, first)
    }

    /// Answers the challenge: the message to send, and the signature that the server must show afterwards
    /// ([`proves`]).
    ///
    /// # Errors
    /// The challenge is not one, or not to this exchange; or the password cannot be used.
    pub fn answer(self, challenge: &[u8], password: &str) -> Result<(Vec<u8>, Vec<u8>), ScramError> {
        let malformed = ScramError::Malformed;
        let challenge = std::str::from_utf8(challenge).map_err(|_| malformed)?;
        let mut fields = challenge.split(',');
        let nonce = field(fields.next(), "r=")?;
        let salt = BASE64.decode(field(fields.next(), "s=")?.as_bytes()).map_err(|_| malformed)?;
        let iterations = field(fields.next(), "i=")?.parse().map_err(|_| malformed)?;
        if !nonce.starts_with(&self.nonce) {
            return Err(malformed);
        }
        let salted = self.hash.salted(&prepared(password).map_err(|_| malformed)?, &salt, iterations);
        let client_key = self.hash.hmac(&salted, b"Client Key");
        let bound = BASE64.encode(&[self.gs2_header.as_bytes(), &self.binding].concat());
        let without_proof = format!("c={bound},r={nonce}");
        let auth_message = format!("{},{challenge},{without_proof}", self.bare);
        let signature = self.hash.hmac(&self.hash.hash(&client_key), auth_message.as_bytes());
        let proof: Vec<u8> = client_key.iter().zip(&signature).map(|(key, byte)| key ^ byte).collect();
        let server_key = self.hash.hmac(&salted, b"Server Key");
        let verifier = self.hash.hmac(&server_key, auth_message.as_bytes());
        Ok((format!("{without_proof},p={}", BASE64.encode(&proof)).into_bytes(), verifier))
    }
}

/// Whether the server's last word shows that it knows the password's keys too.
#[must_use]
pub fn proves(last: &[u8], verifier: &[u8]) -> bool {
    let shown = last.strip_prefix(b"v=").and_then(|text| BASE64.decode(text).ok());
    shown.is_some_and(|shown| bool::from(shown.ct_eq(verifier)))
}

#[cfg(test)]
mod tests {
    use super::super::{ChannelBinding, ClientFirst};
    use super::*;
    use crate::Credentials;

    #[test]
    fn logs_in_to_our_own_server_and_to_no_impostor() {
        let credentials = Credentials::derive("pencil", b"salt of sixteen!").unwrap();
        for hash in [ScramHash::Sha1, ScramHash::Sha256] {
            for (binding, ours) in [
                (None, ChannelBinding::NotOffered),
                (None, ChannelBinding::Offered),
                (Some(vec![7; 32]), ChannelBinding::Chosen(vec![7; 32])),
            ] {
                let (client, first) = ClientExchange::begin(hash, "alice", "fresh", binding);
                let first = ClientFirst::read(&first).unwrap();
                let (server, challenge) =
                    first.challenge(hash, credentials.keys(hash), &ours, b"random").unwrap();
                let (last, verifier) = client.answer(&challenge, "pencil").unwrap();
                let shown = server.finish(&last).unwrap();
                assert!(proves(&shown, &verifier));
                assert!(!proves(b"v=AAAA", &verifier));
                assert!(!proves(b"", &verifier));
            }
        }
    }
}
