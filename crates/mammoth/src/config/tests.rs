//! What a configuration becomes, and what is said about one that is wrong.

use super::*;

const FILE: &str = "/etc/mammoth/mammoth.toml";

/// A file that is right, to which a test adds lines; `#` comments keep the line numbers in sight.
const RIGHT: &str = "domain = \"example.org\"\ntls = { certificate = \"c.pem\", key = \"k.pem\" }\n";

fn parse(text: &str) -> Result<Settings, Problems> {
    Settings::parse(Path::new(FILE), text, [])
}

fn right(lines: &str) -> Settings {
    parse(&format!("{RIGHT}{lines}")).unwrap_or_else(|problems| panic!("{lines}\n{problems}"))
}

/// The problems of a file that is wrong, as shown, one a line.
fn wrong(text: &str) -> Vec<String> {
    let shown = parse(text).expect_err(text).to_string();
    shown.lines().map(String::from).collect()
}

fn with_environment(lines: &str, variables: &[(&str, &str)]) -> Result<Settings, Problems> {
    let environment = variables.iter().map(|(name, value)| (name.to_string(), value.to_string()));
    Settings::parse(Path::new(FILE), &format!("{RIGHT}{lines}"), environment)
}

#[test]
fn the_smallest_file_has_the_documented_defaults() {
    let settings = right("");
    assert_eq!(settings.domains.len(), 1);
    assert_eq!(settings.domains[0].name.as_str(), "example.org");
    assert_eq!(settings.domains[0].tls.as_ref().unwrap().key, Path::new("/etc/mammoth/k.pem"));
    assert_eq!(settings.data, Path::new("/var/lib/mammoth"));
    assert_eq!(
        settings.modules,
        Modules { roster: true, carbons: true, mam: true, ping: true, version: true }
    );
    assert_eq!(
        settings.archive,
        ArchiveRules {
            page_max: 50,
            default_policy: DefaultPolicy::Always,
            expires_after: ExpiresAfter::Seconds(604_800),
            expiry_interval: Duration::from_secs(600),
            allow_trim: true,
            quota: Quota { entries: None, bytes: None },
        }
    );
    assert_eq!(settings.listen.c2s, ["0.0.0.0:5222".parse().unwrap()]);
    assert_eq!(settings.listen.c2s_tls, ["0.0.0.0:5223".parse().unwrap()]);
    assert_eq!((settings.listen.c2s_plain.len(), settings.listen.metrics), (0, None));
    assert_eq!(settings.limits.stanza_bytes, 262_144);
    assert_eq!(settings.log, Log { level: "info".into(), format: LogFormat::Human });
}

#[test]
fn every_default_and_every_example_is_itself_allowed() {
    for key in keys::KEYS {
        let value = match key.default {
            keys::Default::Value(value) | keys::Default::Required(value) => Some(value),
            keys::Default::Nothing(_) => None,
        };
        let examples = key.examples.iter().map(|(value, _)| *value);
        for value in value.into_iter().chain(examples) {
            if key.path == "domain" || key.path.starts_with("tls.") {
                continue; // shown whole in the next test
            }
            match key.path.rsplit_once('.') {
                Some((section, name)) => right(&format!("[{section}]\n{name} = {value}\n")),
                None => right(&format!("{}\n", format_args!("{} = {value}", key.path))),
            };
        }
    }
}

#[test]
fn the_default_file_is_the_defaults() {
    let settings = parse(&docs::default_file()).unwrap();
    let mut expected = right("");
    expected.domains[0].tls = Some(TlsFiles {
        certificate: "/etc/mammoth/certificate.pem".into(),
        key: "/etc/mammoth/key.pem".into(),
    });
    assert_eq!(settings, expected);
    // With every comment sign before a key taken away it is still the same, but for the keys without a default.
    let written: String = docs::default_file()
        .lines()
        .filter(|line| !line.contains("# default: "))
        .map(|line| match line.strip_prefix('#') {
            Some(rest) if !rest.starts_with(' ') => format!("{rest}\n"),
            _ => format!("{line}\n"),
        })
        .collect();
    assert_eq!(parse(&written).unwrap(), expected);
}

#[test]
fn the_forms_of_mod_mam() {
    let periods = [
        ("\"1d\"", ExpiresAfter::Seconds(86_400)),
        ("\"1w\"", ExpiresAfter::Seconds(604_800)),
        ("\"2m\"", ExpiresAfter::Seconds(2 * 31 * 86_400)),
        ("\"1y\"", ExpiresAfter::Seconds(31_556_952)),
        ("\" 1 W \"", ExpiresAfter::Seconds(604_800)),
        ("3600", ExpiresAfter::Seconds(3_600)),
        ("\"3600\"", ExpiresAfter::Seconds(3_600)),
        ("\"never\"", ExpiresAfter::Never),
        ("\"NEVER\"", ExpiresAfter::Never),
    ];
    for (written, period) in periods {
        let settings = right(&format!("archive_expires_after = {written}\n"));
        assert_eq!(settings.archive.expires_after, period, "{written}");
    }
    let policies = [
        ("true", DefaultPolicy::Always),
        ("false", DefaultPolicy::Never),
        ("\"roster\"", DefaultPolicy::Roster),
    ];
    for (written, policy) in policies {
        let settings = right(&format!("default_archive_policy = {written}\n"));
        assert_eq!(settings.archive.default_policy, policy, "{written}");
    }
    assert_eq!(right("max_archive_query_results = 20\n").archive.page_max, 20);
}

#[test]
fn other_forms() {
    let rules = |lines: &str| right(lines).archive;
    assert_eq!(rules("archive_expiry_interval = 90\n").expiry_interval, Duration::from_secs(90));
    assert_eq!(rules("archive_expiry_interval = \"2 H\"\n").expiry_interval, Duration::from_secs(7_200));
    assert_eq!(rules("archive_quota_bytes = \"500 MiB\"\n").quota.bytes, Some(500 << 20));
    assert_eq!(rules("archive_quota_entries = 1_000\n").quota.entries, Some(1_000));
    assert!(!rules("archive_allow_trim = false\n").allow_trim);
    assert_eq!(
        right("[log]\nlevel = \"info,mammoth_server=debug\"\n").log.level,
        "info,mammoth_server=debug"
    );
    let modules = right("modules_enabled = [\"mam\"]\n").modules;
    assert_eq!(modules, Modules { roster: false, carbons: false, mam: true, ping: false, version: false });
    let with_disco =
        right("modules_enabled = [\"mam\", \"disco\", \"saslauth\", \"tls\", \"presence\"]\n").modules;
    assert_eq!(with_disco, modules, "what is always on may be listed");
    assert_eq!(right("[listen]\nc2s = \"127.0.0.1:5222\"\n").listen.c2s.len(), 1, "one will do for a list");
}

#[test]
fn each_problem_names_file_line_key_value_and_what_is_allowed() {
    let cases = [
        (
            "archive_expires_after = \"1 fortnight\"\n",
            "/etc/mammoth/mammoth.toml:3: archive_expires_after: \"1 fortnight\" is not a period; allowed: \
             a number of seconds, a number with d, w, m or y (\"1d\", \"1w\", \"2m\", \"1y\"), or \"never\"",
        ),
        (
            "\narchive_expires_after = -1\n",
            "/etc/mammoth/mammoth.toml:4: archive_expires_after: -1 is not a period; allowed: \
             a number of seconds, a number with d, w, m or y (\"1d\", \"1w\", \"2m\", \"1y\"), or \"never\"",
        ),
        (
            "default_archive_policy = \"always\"\n",
            "/etc/mammoth/mammoth.toml:3: default_archive_policy: \"always\" is not a policy; allowed: \
             true, false or \"roster\"",
        ),
        (
            "max_archive_query_results = 0\n",
            "/etc/mammoth/mammoth.toml:3: max_archive_query_results: 0 is out of range; allowed: a number from 1 to 5000",
        ),
        (
            "max_archive_query_results = 2.5\n",
            "/etc/mammoth/mammoth.toml:3: max_archive_query_results: a number with a fraction is not a whole number; \
             allowed: a number from 1 to 5000",
        ),
        (
            "modules_enabled = [\n  \"roster\",\n  \"mamm\",\n]\n",
            "/etc/mammoth/mammoth.toml:5: modules_enabled: \"mamm\" is not a module; allowed: \
             a list of \"roster\", \"carbons\", \"mam\", \"ping\", \"version\"",
        ),
        (
            "archive_expiry_interval = \"10m\"\n",
            "/etc/mammoth/mammoth.toml:3: archive_expiry_interval: \"10m\" is not an interval; allowed: \
             a number of seconds, or a number with s, min or h (\"30s\", \"10min\", \"1h\"), from 1 s to 24 h",
        ),
        (
            "[listen]\nc2s_plain = [\"127.0.0.1:1\", \"192.0.2.1:5222\"]\n",
            "/etc/mammoth/mammoth.toml:4: listen.c2s_plain: \"192.0.2.1:5222\" is not a loopback address; allowed: \
             a list of loopback \"IP:port\", such as \"127.0.0.1:5224\"",
        ),
        (
            "[listen]\nmetrics = \"0.0.0.0:9090\"\n",
            "/etc/mammoth/mammoth.toml:4: listen.metrics: \"0.0.0.0:9090\" is not a loopback address; allowed: \
             a loopback \"IP:port\", such as \"127.0.0.1:9090\"",
        ),
        (
            "[listen]\nc2s = [\"example.org:5222\"]\n",
            "/etc/mammoth/mammoth.toml:4: listen.c2s: \"example.org:5222\" is not an IP address and port; allowed: \
             a list of \"IP:port\"",
        ),
        (
            "[listen]\nc2s = []\nc2s_tls = []\n",
            "/etc/mammoth/mammoth.toml:4: listen: no address to listen on; give one in c2s, c2s_tls or c2s_plain",
        ),
        (
            "[storage]\narchive = \"mysql\"\n",
            "/etc/mammoth/mammoth.toml:4: storage.archive: \"mysql\" is not one of them; allowed: \"embedded\" or \"postgresql\"",
        ),
        (
            "[log]\nlevel = \"loud\"\n",
            "/etc/mammoth/mammoth.toml:4: log.level: \"loud\" is not a level; allowed: \"error\", \"warn\", \"info\", \
             \"debug\" or \"trace\", or several as \"info,mammoth_server=debug\"",
        ),
        (
            "[limits]\nstanza_bytes = 1\n",
            "/etc/mammoth/mammoth.toml:4: limits.stanza_bytes: 1 is out of range; allowed: \
             a number of bytes, or a number with KiB or MiB, from 10000 to 16 MiB",
        ),
    ];
    for (lines, expected) in cases {
        assert_eq!(wrong(&format!("{RIGHT}{lines}")), [expected]);
    }
}

#[test]
fn an_unknown_key_comes_with_the_one_that_was_meant() {
    let cases = [
        (
            "archive_expire_after = \"1w\"\n",
            "unknown key archive_expire_after; did you mean archive_expires_after?",
        ),
        ("[listen]\nc2s_tsl = []\n", "unknown key listen.c2s_tsl; did you mean listen.c2s_tls?"),
        ("c2s = []\n", "unknown key c2s; c2s belongs under [listen]"),
        (
            "[log]\nmodules_enabled = []\n",
            "unknown key log.modules_enabled; modules_enabled belongs at the top of the file, before the first [section]",
        ),
        ("[storage]\nzebra = 1\n", "unknown key storage.zebra; allowed here: storage.archive"),
        ("listen = 5222\n", "listen is a section: write [listen] on a line of its own"),
    ];
    for (lines, expected) in cases {
        let shown = wrong(&format!("{RIGHT}{lines}"));
        assert_eq!(shown.len(), 1, "{shown:?}");
        assert!(shown[0].ends_with(expected), "{}", shown[0]);
        assert!(shown[0].starts_with("/etc/mammoth/mammoth.toml:"), "{}", shown[0]);
    }
    let zebra = wrong(&format!("{RIGHT}zebra = 1\n"));
    assert!(zebra[0].contains("allowed here: domain, data, modules_enabled"), "{zebra:?}");
}

#[test]
fn all_problems_are_told_at_once_in_the_order_of_the_lines() {
    let shown = wrong("max_archive_query_results = 0\ndomain = 5\n[lisen]\n[log]\nformat = \"xml\"\n");
    let starts = shown.iter().map(|line| line.split_once(": ").unwrap().0).collect::<Vec<_>>();
    assert_eq!(starts, ["1", "2", "3", "5"].map(|line| format!("{FILE}:{line}")), "{shown:#?}");
}

#[test]
fn what_is_not_toml_is_said_with_its_line_and_a_hint_for_those_who_come_from_lua() {
    let cases = [
        ("archive_expires_after = \"1d\" -- one day\n", "(a comment begins with #, not with --)"),
        ("max_archive_query_results = 20;\n", "(no semicolon at the end of a line)"),
        ("archive_expires_after = 60 * 60\n", "(write the product: 3600 instead of 60 * 60)"),
        ("modules_enabled = { \"mam\" }\n", "(a list is written [\"like\", \"this\"])"),
    ];
    for (lines, hint) in cases {
        let shown = wrong(&format!("{RIGHT}{lines}")).join(" ");
        assert!(shown.starts_with("/etc/mammoth/mammoth.toml:3: not TOML: "), "{shown}");
        assert!(shown.ends_with(hint), "{shown}");
    }
}

#[test]
fn domains_and_their_certificates() {
    let two = "domain = [\"example.org\", \"Example.NET\"]\n";
    let own = |domain: &str| format!("[tls.\"{domain}\"]\ncertificate = \"own.pem\"\nkey = \"/k/own.key\"\n");
    let settings = parse(&format!("{two}{}{}", own("example.org"), own("example.net"))).unwrap();
    let files = TlsFiles { certificate: "/etc/mammoth/own.pem".into(), key: "/k/own.key".into() };
    assert!(settings.domains.iter().all(|domain| domain.tls.as_ref() == Some(&files)));
    assert_eq!(settings.domains[1].name.as_str(), "example.net", "a domain is normalised");

    let mixed = format!("{two}[tls]\ncertificate = \"c.pem\"\nkey = \"k.pem\"\n{}", own("example.net"));
    let settings = parse(&mixed).unwrap();
    assert_eq!(settings.domains[0].tls.as_ref().unwrap().certificate, Path::new("/etc/mammoth/c.pem"));
    assert_eq!(settings.domains[1].tls.as_ref(), Some(&files));

    let missing = wrong(&format!("{two}{}", own("example.org")));
    assert_eq!(
        missing,
        [
            "/etc/mammoth/mammoth.toml:1: tls: no certificate for example.net; set certificate and key under [tls], \
          or under [tls.\"example.net\"]"
        ]
    );
    let foreign =
        wrong(&format!("{RIGHT}[tls.\"other.example\"]\ncertificate = \"c\"\nkey = \"k\"\n").replace(
            "tls = { certificate = \"c.pem\", key = \"k.pem\" }\n",
            "[tls]\ncertificate = \"c\"\nkey = \"k\"\n",
        ));
    assert!(
        foreign[0].contains(
            "other.example is not in domain; allowed: certificate, key, or a section of example.org"
        ),
        "{foreign:?}"
    );
    let half = wrong("domain = \"example.org\"\n[tls]\nkey = \"k\"\n");
    assert_eq!(half, ["/etc/mammoth/mammoth.toml:3: tls.key without tls.certificate: set both"]);
    let half = wrong("domain = \"localhost\"\n[tls.localhost]\nkey = \"k\"\n");
    assert!(half[0].ends_with("needs both certificate and key, each a PEM file"), "{half:?}");
    let bad = wrong("domain = [\"alice@example.org\"]\n");
    assert!(
        bad[0].starts_with("/etc/mammoth/mammoth.toml:1: domain: \"alice@example.org\" is not a domain"),
        "{bad:?}"
    );
    let twice = wrong("domain = [\"localhost\", \"LOCALHOST\"]\n");
    assert_eq!(twice, ["/etc/mammoth/mammoth.toml:1: domain: the list names a domain twice"]);
    let none = wrong("data = \"x\"\n");
    assert_eq!(
        none,
        [
            "/etc/mammoth/mammoth.toml: domain is missing: a domain, or a list of domains, such as domain = \"example.org\""
        ]
    );
}

#[test]
fn localhost_and_plain_listeners_need_no_certificate() {
    assert_eq!(parse("domain = \"localhost\"\n").unwrap().domains[0].tls, None);
    let plain = "domain = \"example.org\"\n[listen]\nc2s = []\nc2s_tls = []\nc2s_plain = [\"[::1]:5224\"]\n";
    assert_eq!(parse(plain).unwrap().domains[0].tls, None);
}

#[test]
fn relative_paths_count_from_the_file() {
    assert_eq!(right("data = \"here\"\n").data, Path::new("/etc/mammoth/here"));
    let settings =
        Settings::parse(Path::new("mammoth.toml"), "domain = \"localhost\"\ndata = \"here\"\n", []).unwrap();
    assert_eq!(settings.data, Path::new("here"));
}

#[test]
fn the_environment_overrides_the_file() {
    let settings = with_environment(
        "archive_expires_after = \"1d\"\n",
        &[
            ("MAMMOTH_ARCHIVE_EXPIRES_AFTER", "1y"),
            ("MAMMOTH_LISTEN__C2S", "127.0.0.1:5222, [::1]:5222"),
            ("MAMMOTH_LISTEN__C2S_TLS", "[\"127.0.0.1:5223\"]"),
            ("MAMMOTH_MAX_ARCHIVE_QUERY_RESULTS", "7"),
            ("MAMMOTH_DEFAULT_ARCHIVE_POLICY", "roster"),
            ("MAMMOTH_ARCHIVE_ALLOW_TRIM", "false"),
            ("MAMMOTH_DATA", "123"),
            ("MAMMOTH_MODULES_ENABLED", "mam,ping"),
            ("MAMMOTH_CONFIG", "elsewhere"),
            ("MAMMOTH_PORT_5222_TCP_ADDR", "10.0.0.1"),
            ("HOME", "/root"),
        ],
    )
    .unwrap();
    assert_eq!(settings.archive.expires_after, ExpiresAfter::Seconds(31_556_952));
    assert_eq!(settings.listen.c2s.len(), 2);
    assert_eq!(settings.listen.c2s_tls.len(), 1);
    assert_eq!(settings.archive.page_max, 7);
    assert_eq!(settings.archive.default_policy, DefaultPolicy::Roster);
    assert!(!settings.archive.allow_trim);
    assert_eq!(settings.data, Path::new("/etc/mammoth/123"));
    assert!(settings.modules.ping && !settings.modules.carbons);
}

#[test]
fn a_database() {
    let embedded = right("[storage.embedded]\nmemory_table_bytes = \"8MiB\"\n");
    assert_eq!(embedded.storage, Storage::Embedded { memory_table_bytes: 8 << 20 });

    let text = "[storage]\narchive = \"postgresql\"\n[storage.postgresql]\nhost = \"/run/postgresql\"\nport = 5433\n\
                password_file = \"pw\"\nreaders = 3\n";
    let Storage::Postgresql(database) = right(text).storage else { panic!("a database was asked for") };
    assert_eq!((database.host.as_deref(), database.port), (Some("/run/postgresql"), Some(5433)));
    assert_eq!(database.password_file.as_deref(), Some(Path::new("/etc/mammoth/pw")));
    assert_eq!((database.readers, database.writers, database.partitions), (3, 2, 16));

    let settings = with_environment(text, &[("MAMMOTH_STORAGE__POSTGRESQL__DATABASE", "mam")]).unwrap();
    let Storage::Postgresql(database) = settings.storage else { panic!("a database was asked for") };
    assert_eq!(database.database.as_deref(), Some("mam"));
    let both = with_environment(text, &[("MAMMOTH_STORAGE__POSTGRESQL__PASSWORD", "secret")]).unwrap_err();
    assert_eq!(
        both.to_string(),
        "/etc/mammoth/mammoth.toml:8: storage.postgresql: password and password_file are both written; leave one out"
    );
}

#[test]
fn secrets_are_not_shown() {
    let text = "[storage]\narchive = \"postgresql\"\n[storage.postgresql]\npassword = \"hidden\"\nurl = \"postgresql://u:hidden@h\"\n";
    assert!(!format!("{:?}", right(text)).contains("hidden"));
    let shown = wrong(&format!("{RIGHT}[storage.postgresql]\npassword = 4711\n"));
    assert_eq!(
        shown,
        [
            "/etc/mammoth/mammoth.toml:4: storage.postgresql.password: what is written is not a text; allowed: a text"
        ]
    );
}

#[test]
fn problems_of_the_environment_name_the_variable() {
    let cases = [
        (
            ("MAMMOTH_ARCHIVE_EXPIRES_AFTER", "1 fortnight"),
            "environment variable MAMMOTH_ARCHIVE_EXPIRES_AFTER: archive_expires_after: \"1 fortnight\" is not a \
             period; allowed: a number of seconds, a number with d, w, m or y (\"1d\", \"1w\", \"2m\", \"1y\"), \
             or \"never\"",
        ),
        (
            ("MAMMOTH_ARCHIVE_EXPIRE_AFTER", "1w"),
            "environment variable MAMMOTH_ARCHIVE_EXPIRE_AFTER: no such key; did you mean \
             MAMMOTH_ARCHIVE_EXPIRES_AFTER?",
        ),
        (
            ("MAMMOTH_LISTEN__C2S_PLAIN", "127.0.0.1:1,0.0.0.0:2"),
            "environment variable MAMMOTH_LISTEN__C2S_PLAIN: listen.c2s_plain: \"0.0.0.0:2\" is not a loopback \
             address; allowed: a list of loopback \"IP:port\", such as \"127.0.0.1:5224\"",
        ),
    ];
    for (variable, expected) in cases {
        let shown = with_environment("", &[variable]).expect_err(expected).to_string();
        assert_eq!(shown, expected);
    }
}

#[test]
fn docs_config_md_is_up_to_date() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/config.md");
    let stored = std::fs::read_to_string(file).unwrap_or_default();
    assert!(stored == docs::markdown(), "docs/config.md is stale; refresh it with: {}", docs::REFRESH);
}
