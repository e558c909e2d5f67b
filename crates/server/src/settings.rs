//! What an operator decides of a running server, ready to use: names, features, limits. Reading it from a file
//! is left to the binary.

use std::collections::BTreeSet;

use mammoth_archive::{DefaultPolicy, ExpiresAfter, Quota};

/// The settings of a server. Nothing here changes while it runs.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The domains it serves, the first being the one it names itself by.
    pub domains: Vec<String>,
    /// What is switched on (`modules_enabled`).
    pub modules: BTreeSet<Module>,
    /// What is archived for accounts that have set no prefs (`default_archive_policy`).
    pub default_policy: DefaultPolicy,
    /// How long entries stay (`archive_expires_after`), unless an archive has its own period.
    pub expires_after: ExpiresAfter,
    /// How large one archive may grow.
    pub quota: Quota,
    /// Whether owners may delete from their archives (`archive_allow_trim`).
    pub allow_trim: bool,
    /// How often expired entries are let go, in seconds.
    pub expiry_interval_seconds: u64,
    /// The bounds on what clients may take.
    pub limits: Limits,
}

/// A feature that can be switched on or off; what is off is neither advertised nor active.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Module {
    /// The message archive (XEP-0313).
    Mam,
    /// Carbons (XEP-0280).
    Carbons,
    /// Contact lists and subscriptions (RFC 6121 §2, §3).
    Roster,
    /// Ping (XEP-0199).
    Ping,
    /// Software version (XEP-0092).
    Version,
}

impl Module {
    /// Every module, in the order they are documented.
    pub const ALL: [Module; 5] =
        [Module::Mam, Module::Carbons, Module::Roster, Module::Ping, Module::Version];

    /// Its name in `modules_enabled`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Module::Mam => "mam",
            Module::Carbons => "carbons",
            Module::Roster => "roster",
            Module::Ping => "ping",
            Module::Version => "version",
        }
    }
}

/// Bounds on what clients may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections at once, logged in or not.
    pub connections: usize,
    /// Sessions of one account at once.
    pub sessions_per_account: usize,
    /// Bytes of one stanza after login.
    pub stanza_bytes: usize,
    /// Seconds from connecting to being bound.
    pub login_seconds: u64,
    /// Messages of one session on their way at once.
    pub in_flight: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            connections: 10_000,
            sessions_per_account: 20,
            stanza_bytes: 256 * 1024,
            login_seconds: 60,
            in_flight: 32,
        }
    }
}

impl Settings {
    /// Settings with every module on and every default, for these domains.
    #[must_use]
    pub fn new(domains: Vec<String>) -> Settings {
        Settings {
            domains,
            modules: Module::ALL.into(),
            default_policy: DefaultPolicy::Always,
            expires_after: ExpiresAfter::DEFAULT,
            quota: Quota::default(),
            allow_trim: true,
            expiry_interval_seconds: 600,
            limits: Limits::default(),
        }
    }

    /// Whether a module is on.
    #[must_use]
    pub fn has(&self, module: Module) -> bool {
        self.modules.contains(&module)
    }

    /// Whether a domain is one of ours. Compares normalised names.
    #[must_use]
    pub fn serves(&self, domain: &str) -> bool {
        self.domains.iter().any(|ours| ours == domain)
    }
}
