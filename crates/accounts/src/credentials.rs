//! What is kept instead of a password: the SCRAM keys of RFC 5802, for SHA-1 and for SHA-256. Plain data that a store
//! keeps field by field; how the keys are made and checked is in scram.rs.

use std::fmt;

/// The keys of one account, one set per hash that is offered. Neither set reveals the password, and logging in with
/// a stolen set is not possible (though guessing the password offline is).
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// For SCRAM-SHA-1 and SCRAM-SHA-1-PLUS.
    pub sha1: ScramKeys,
    /// For SCRAM-SHA-256, SCRAM-SHA-256-PLUS, and PLAIN.
    pub sha256: ScramKeys,
}

/// The keys for one hash (RFC 5802 section 3).
#[derive(Clone, PartialEq, Eq)]
pub struct ScramKeys {
    /// The salt, as raw bytes.
    pub salt: Vec<u8>,
    /// How often the hash is repeated.
    pub iterations: u32,
    /// `StoredKey`: as many bytes as the hash has.
    pub stored_key: Vec<u8>,
    /// `ServerKey`: as many bytes as the hash has.
    pub server_key: Vec<u8>,
}

/// Keys are not for logs.
impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials(..)")
    }
}

/// Keys are not for logs.
impl fmt::Debug for ScramKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ScramKeys({} iterations, ..)", self.iterations)
    }
}
