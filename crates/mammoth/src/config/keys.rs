//! Every key of the configuration, once: its form, its default, what it means. The parser takes the allowed keys and
//! the defaults from here, and so do `mammoth config default` and docs/config.md. What a value becomes is in
//! config.rs.

/// One key.
pub struct Key {
    /// Where it stands: `section.name`, or `name` at the top. Also what errors call it.
    pub path: &'static str,
    /// What may be written, in words that fit behind "allowed:".
    pub form: &'static str,
    /// What holds when the key is absent.
    pub default: Default,
    /// What it means, for an operator. Lines as they are to appear in a commented file.
    pub about: &'static str,
    /// Values, as TOML, with what they mean.
    pub examples: &'static [(&'static str, &'static str)],
}

/// What holds when a key is absent.
pub enum Default {
    /// The same as if this TOML value had been written.
    Value(&'static str),
    /// Nothing: said in words.
    Nothing(&'static str),
    /// It must be written; this TOML value serves in `mammoth config default`.
    Required(&'static str),
}

/// The modules that can be switched on and off; everything else is always there.
pub const MODULES: &[&str] = &["roster", "carbons", "mam", "ping", "version"];

/// Names that an operator may know as modules from elsewhere. They may be listed, and are on in any case.
pub const ALWAYS_ON: &[&str] = &["disco", "presence", "saslauth", "tls"];

/// The sections, in the order in which they are shown, with a heading line. The top has no name.
pub const SECTIONS: &[(&str, &str)] = &[
    ("", "What is served, and the archive's rules"),
    ("listen", "Addresses, as \"IP:port\"; IPv6 as \"[::1]:port\""),
    ("tls", "Certificates"),
    ("storage", "Where archives are kept"),
    ("storage.embedded", "The embedded store"),
    ("storage.postgresql", "A PostgreSQL database, 15 or newer; for archive = \"postgresql\""),
    ("limits", "What one client, and all of them together, may use"),
    ("log", "Logging, to standard error"),
];

/// All keys, in the order in which they are shown.
pub const KEYS: &[Key] = &[
    Key {
        path: "domain",
        form: "a domain, or a list of domains",
        default: Default::Required("\"example.org\""),
        about: "The domain behind the @ of the accounts. With several, each can have a certificate of its own.",
        examples: &[
            ("\"example.org\"", "one domain"),
            ("[\"example.org\", \"example.net\"]", "two, each with its own [tls.\"…\"]"),
        ],
    },
    Key {
        path: "data",
        form: "a directory",
        default: Default::Value("\"/var/lib/mammoth\""),
        about: "Everything the server keeps: accounts, rosters, archives. One server at a time; it locks the\n\
                directory. A relative path counts from the configuration file.",
        examples: &[],
    },
    Key {
        path: "modules_enabled",
        form: "a list of \"roster\", \"carbons\", \"mam\", \"ping\", \"version\"",
        default: Default::Value("[\"roster\", \"carbons\", \"mam\", \"ping\", \"version\"]"),
        about: "What is not in the list is neither advertised nor active. Service discovery, presence, login and\n\
                TLS are always there; \"disco\", \"presence\", \"saslauth\" and \"tls\" may be listed and change nothing.",
        examples: &[
            ("[\"roster\", \"carbons\", \"mam\"]", "without ping and version"),
            ("[\"mam\"]", "the archive alone"),
        ],
    },
    Key {
        path: "max_archive_query_results",
        form: "a number from 1 to 5000",
        default: Default::Value("50"),
        about: "The most messages that one page of an archive holds. A client that asks for more gets this many and\n\
                pages on; it is never refused.",
        examples: &[("20", "smaller pages")],
    },
    Key {
        path: "default_archive_policy",
        form: "true, false or \"roster\"",
        default: Default::Value("true"),
        about: "What is archived for users who have set no preferences of their own. The roster is asked at the\n\
                moment of each message.",
        examples: &[
            ("true", "store all messages"),
            ("false", "store none"),
            ("\"roster\"", "store messages to and from contacts in the user's roster"),
        ],
    },
    Key {
        path: "archive_expires_after",
        form: "a number of seconds, a number with d, w, m or y (\"1d\", \"1w\", \"2m\", \"1y\"), or \"never\"",
        default: Default::Value("\"1w\""),
        about: "How long a message stays. A month is 31 days, a year 365.2425 days; spaces and case do not matter.\n\
                An account can have a period of its own: mammoth account set JID --archive-expires-after PERIOD.",
        examples: &[
            ("\"1d\"", "one day"),
            ("\"1w\"", "one week, the default"),
            ("\"2m\"", "two months"),
            ("\"1y\"", "one year"),
            ("3600", "one hour, in seconds"),
            ("\"never\"", "forever"),
        ],
    },
    Key {
        path: "archive_expiry_interval",
        form: "a number of seconds, or a number with s, min or h (\"30s\", \"10min\", \"1h\"), from 1 s to 24 h",
        default: Default::Value("\"10min\""),
        about: "How often expired messages are removed: no message outstays its period by more than this. \"m\" is\n\
                not a unit here, because it means months in archive_expires_after.",
        examples: &[("\"1h\"", "once an hour")],
    },
    Key {
        path: "archive_allow_trim",
        form: "true or false",
        default: Default::Value("true"),
        about: "May users remove the older part of their own archives? Switch it off where the law wants messages\n\
                kept.",
        examples: &[],
    },
    Key {
        path: "archive_quota_entries",
        form: "a number from 1",
        default: Default::Nothing("no limit"),
        about: "The most messages that one archive keeps. Beyond it the oldest go.",
        examples: &[("100000", "a hundred thousand")],
    },
    Key {
        path: "archive_quota_bytes",
        form: "a number of bytes, or a number with KiB, MiB or GiB (\"500MiB\"), from 64 KiB",
        default: Default::Nothing("no limit"),
        about: "The most bytes of stanzas, before compression, that one archive keeps. Beyond it the oldest go.",
        examples: &[("\"500MiB\"", "half a gibibyte")],
    },
    Key {
        path: "listen.c2s",
        form: "a list of \"IP:port\"",
        default: Default::Value("[\"0.0.0.0:5222\"]"),
        about: "For clients that begin in plain text and must go on to TLS (STARTTLS).",
        examples: &[("[\"192.0.2.1:5222\", \"[2001:db8::1]:5222\"]", "two addresses")],
    },
    Key {
        path: "listen.c2s_tls",
        form: "a list of \"IP:port\"",
        default: Default::Value("[\"0.0.0.0:5223\"]"),
        about: "For clients that begin with TLS.",
        examples: &[("[]", "none")],
    },
    Key {
        path: "listen.c2s_plain",
        form: "a list of loopback \"IP:port\", such as \"127.0.0.1:5224\"",
        default: Default::Value("[]"),
        about: "Without any TLS: for tests, and for a proxy on the same machine. Loopback addresses only.",
        examples: &[("[\"127.0.0.1:5224\"]", "one for tests")],
    },
    Key {
        path: "listen.metrics",
        form: "a loopback \"IP:port\", such as \"127.0.0.1:9090\"",
        default: Default::Nothing("off"),
        about: "Prometheus metrics under http://…/metrics. Loopback addresses only.",
        examples: &[("\"127.0.0.1:9090\"", "on")],
    },
    Key {
        path: "tls.certificate",
        form: "a PEM file",
        default: Default::Required("\"/etc/mammoth/certificate.pem\""),
        about: "The certificate chain, the server's own certificate first; for every domain that has no section of\n\
                its own, such as [tls.\"example.net\"] with its own certificate and key. A server for localhost\n\
                alone needs none: it makes one and keeps it in the data directory.",
        examples: &[],
    },
    Key {
        path: "tls.key",
        form: "a PEM file",
        default: Default::Required("\"/etc/mammoth/key.pem\""),
        about: "The private key of the certificate.",
        examples: &[],
    },
    Key {
        path: "storage.archive",
        form: "\"embedded\" or \"postgresql\"",
        default: Default::Value("\"embedded\""),
        about: "The store of archives, accounts and rosters: \"embedded\" is files in the data directory,\n\
                \"postgresql\" a database.",
        examples: &[],
    },
    Key {
        path: "storage.embedded.memory_table_bytes",
        form: "a number of bytes, or a number with KiB, MiB or GiB, from 1 MiB to 4 GiB",
        default: Default::Value("\"64MiB\""),
        about: "How much of the newest messages is held in memory before it becomes a file of its own. Twice this is\n\
                the store's largest share of memory.",
        examples: &[],
    },
    Key {
        path: "storage.postgresql.url",
        form: "a connection string, such as \"postgresql://mammoth@db.example.org/mammoth\"",
        default: Default::Nothing("none; the keys below say it piece by piece"),
        about: "Where the database is, as libpq takes it.",
        examples: &[("\"postgresql://mammoth@db.example.org/mammoth\"", "all in one")],
    },
    Key {
        path: "storage.postgresql.host",
        form: "a host name, an address, or the directory of a Unix socket",
        default: Default::Nothing("that of url, else localhost"),
        about: "The database server.",
        examples: &[("\"/run/postgresql\"", "by its Unix socket")],
    },
    Key {
        path: "storage.postgresql.port",
        form: "a number from 1 to 65535",
        default: Default::Nothing("that of url, else 5432"),
        about: "Its port.",
        examples: &[("5433", "another one")],
    },
    Key {
        path: "storage.postgresql.database",
        form: "a text",
        default: Default::Nothing("that of url, else mammoth"),
        about: "The database. It must exist; its tables are made at the first start.",
        examples: &[("\"archive\"", "another one")],
    },
    Key {
        path: "storage.postgresql.user",
        form: "a text",
        default: Default::Nothing("that of url, else mammoth"),
        about: "The user. It must be allowed to make tables.",
        examples: &[("\"archive\"", "another one")],
    },
    Key {
        path: "storage.postgresql.password",
        form: "a text",
        default: Default::Nothing("that of url, else none"),
        about: "The user's password; better in the environment or in password_file than here.",
        examples: &[("\"…\"", "never shown, and never logged")],
    },
    Key {
        path: "storage.postgresql.password_file",
        form: "a file",
        default: Default::Nothing("none"),
        about: "A file whose first line is the password.",
        examples: &[("\"/etc/mammoth/postgresql.password\"", "readable by the server's user only")],
    },
    Key {
        path: "storage.postgresql.tls_authorities",
        form: "a PEM file",
        default: Default::Nothing("no TLS"),
        about: "With this, the connection is encrypted, and the database's certificate must be for its host name and\n\
                lead to one of these.",
        examples: &[("\"/etc/ssl/certs/ca-certificates.crt\"", "those of the system, on Debian")],
    },
    Key {
        path: "storage.postgresql.readers",
        form: "a number from 1 to 256",
        default: Default::Value("8"),
        about: "Connections that answer queries.",
        examples: &[],
    },
    Key {
        path: "storage.postgresql.writers",
        form: "a number from 1 to 16",
        default: Default::Value("2"),
        about: "Connections that append; each archive has one of them.",
        examples: &[],
    },
    Key {
        path: "storage.postgresql.partitions",
        form: "a number from 1 to 256",
        default: Default::Value("16"),
        about: "Into how many partitions the messages are put. Counts when the tables are made, and not later.",
        examples: &[],
    },
    Key {
        path: "limits.stanza_bytes",
        form: "a number of bytes, or a number with KiB or MiB, from 10000 to 16 MiB",
        default: Default::Value("\"256KiB\""),
        about: "The largest stanza that a client may send; a larger one ends its stream.",
        examples: &[],
    },
    Key {
        path: "limits.connections",
        form: "a number from 1 to 1000000",
        default: Default::Value("10000"),
        about: "The most connections at a time. Further ones are refused. Mind the limit on open files (ulimit -n).",
        examples: &[],
    },
    Key {
        path: "limits.login_seconds",
        form: "a number from 5 to 3600",
        default: Default::Value("60"),
        about: "The time from connecting to having logged in, in seconds. Who takes longer is disconnected.",
        examples: &[],
    },
    Key {
        path: "limits.sessions_per_account",
        form: "a number from 1 to 1000",
        default: Default::Value("20"),
        about: "The most devices of one account that are logged in at a time.",
        examples: &[],
    },
    Key {
        path: "limits.messages_in_flight",
        form: "a number from 1 to 1024",
        default: Default::Value("32"),
        about: "How many messages of one session are on their way into the archives before its next stanza has to\n\
                wait. More of them share one write to the disk.",
        examples: &[],
    },
    Key {
        path: "log.level",
        form: "\"error\", \"warn\", \"info\", \"debug\" or \"trace\", or several as \"info,mammoth_server=debug\"",
        default: Default::Value("\"info\""),
        about: "How much is said. Bodies of messages and passwords are in no log at any level.",
        examples: &[],
    },
    Key {
        path: "log.format",
        form: "\"human\" or \"json\"",
        default: Default::Value("\"human\""),
        about: "Lines for people, or one JSON object per line.",
        examples: &[],
    },
];

/// Is the key's value one that nobody but the operator may see?
pub fn is_secret(path: &str) -> bool {
    ["storage.postgresql.password", "storage.postgresql.url"].contains(&path)
}

/// The section and the name of a path.
pub fn section_and_name(path: &str) -> (&str, &str) {
    path.rsplit_once('.').unwrap_or(("", path))
}

/// The key at `path`, if there is one.
pub fn find(path: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.path == path)
}

/// Is `path` a section?
pub fn is_section(path: &str) -> bool {
    !path.is_empty() && SECTIONS.iter().any(|(name, _)| *name == path)
}

/// The environment variable that overrides a key.
pub fn variable(path: &str) -> String {
    format!("MAMMOTH_{}", path.replace('.', "__").to_ascii_uppercase())
}
