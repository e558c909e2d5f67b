//! From raw keys to ready settings: what each key must be, and what they must be together. Where the values come from
//! is raw.rs's business.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use jid::BareJid;
use mammoth_archive::{DefaultPolicy, ExpiresAfter, Quota};

use super::raw::{Located, Raw, Value};
use super::{
    ArchiveRules, Domain, LOCALHOST, Limits, Listen, Log, LogFormat, Modules, Postgresql, Secret, Settings,
    Storage, TlsFiles, keys,
};

/// Every key is read even when an earlier one is wrong, so that all problems are told at once.
pub fn settings(raw: &mut Raw, base: &Path) -> Option<Settings> {
    let names = read_domains(raw);
    let listen = read_listen(raw);
    let domains = read_tls(raw, base, names.unwrap_or_default(), listen.as_ref());
    let data = raw.value("data", Located::text).map(|data| base.join(data));
    let modules = read_modules(raw);
    let archive = read_archive(raw);
    let storage = read_storage(raw, base);
    let limits = read_limits(raw);
    let log = read_log(raw);
    Some(Settings {
        domains: domains?,
        data: data?,
        modules: modules?,
        archive: archive?,
        listen: listen?,
        storage: storage?,
        limits: limits?,
        log: log?,
    })
}

fn read_domains(raw: &mut Raw) -> Option<Vec<BareJid>> {
    let names = raw.list("domain", |found| {
        let name = found.text()?;
        match name.parse::<BareJid>() {
            Ok(jid) if jid.node().is_none() => Ok(jid),
            _ => Err("is not a domain".into()),
        }
    })?;
    let distinct: BTreeSet<&BareJid> = names.iter().collect();
    if names.is_empty() || distinct.len() != names.len() {
        let what = if names.is_empty() { "names no domain" } else { "names a domain twice" };
        raw.problem(raw.place("domain"), format!("domain: the list {what}"));
        return None;
    }
    Some(names)
}

fn read_listen(raw: &mut Raw) -> Option<Listen> {
    let c2s = raw.list("listen.c2s", address);
    let c2s_tls = raw.list("listen.c2s_tls", address);
    let c2s_plain = raw.list("listen.c2s_plain", loopback);
    let metrics = raw.value("listen.metrics", loopback);
    let listen = Listen { c2s: c2s?, c2s_tls: c2s_tls?, c2s_plain: c2s_plain?, metrics };
    if listen.c2s.is_empty() && listen.c2s_tls.is_empty() && listen.c2s_plain.is_empty() {
        let text = "listen: no address to listen on; give one in c2s, c2s_tls or c2s_plain";
        raw.problem(raw.place("listen.c2s"), text.into());
    }
    Some(listen)
}

fn read_tls(raw: &mut Raw, base: &Path, names: Vec<BareJid>, listen: Option<&Listen>) -> Option<Vec<Domain>> {
    let shared = read_shared_tls(raw, base);
    let mut of_domain = Vec::new();
    for (section, (place, found)) in std::mem::take(&mut raw.tls_of_domain) {
        let domain = section.parse::<BareJid>().ok().filter(|domain| names.contains(domain));
        let file =
            |name: &str| found.get(name).and_then(|located| located.text().ok()).map(|file| base.join(file));
        match (domain, file("certificate"), file("key")) {
            (Some(domain), Some(certificate), Some(key)) => {
                of_domain.push((domain, TlsFiles { certificate, key }))
            }
            (Some(_), ..) => {
                raw.problem(
                    place,
                    format!("tls.{section:?}: needs both certificate and key, each a PEM file"),
                );
            }
            (None, ..) if names.is_empty() => {} // told already
            (None, ..) => {
                let names: Vec<&str> = names.iter().map(|name| name.as_str()).collect();
                let text = format!(
                    "tls.{section:?}: {section} is not in domain; allowed: certificate, key, or a section of {}",
                    names.join(", ")
                );
                raw.problem(place, text);
            }
        }
    }
    let tls_is_needed = listen.is_some_and(|listen| !listen.c2s.is_empty() || !listen.c2s_tls.is_empty());
    let mut domains = Vec::with_capacity(names.len());
    for name in names {
        let own = of_domain.iter().find(|(domain, _)| *domain == name).map(|(_, files)| files.clone());
        let tls = own.or_else(|| shared.clone().ok().flatten());
        if tls.is_none() && shared.is_ok() && tls_is_needed && name.as_str() != LOCALHOST {
            let text = format!(
                "tls: no certificate for {name}; set certificate and key under [tls], or under [tls.\"{name}\"]"
            );
            raw.problem(raw.place("domain"), text);
        }
        domains.push(Domain { name, tls });
    }
    Some(domains)
}

/// `[tls]` itself: both files or neither. `Err` when something is wrong and has been told.
fn read_shared_tls(raw: &mut Raw, base: &Path) -> Result<Option<TlsFiles>, ()> {
    let written = ["tls.certificate", "tls.key"].map(|path| raw.written(path).is_some());
    match written {
        [false, false] => Ok(None),
        [true, true] => {
            let certificate = raw.value("tls.certificate", Located::text);
            let key = raw.value("tls.key", Located::text);
            let files = certificate.zip(key).ok_or(())?;
            Ok(Some(TlsFiles { certificate: base.join(files.0), key: base.join(files.1) }))
        }
        [certificate, _] => {
            let (there, missing) =
                if certificate { ("tls.certificate", "tls.key") } else { ("tls.key", "tls.certificate") };
            raw.problem(raw.place(there), format!("{there} without {missing}: set both"));
            Err(())
        }
    }
}

fn read_modules(raw: &mut Raw) -> Option<Modules> {
    let enabled = raw.list("modules_enabled", |found| {
        let name = found.text()?;
        let known = keys::MODULES.contains(&name.as_str()) || keys::ALWAYS_ON.contains(&name.as_str());
        if known { Ok(name) } else { Err("is not a module".into()) }
    })?;
    let on = |name: &str| enabled.iter().any(|module| module == name);
    Some(Modules {
        roster: on("roster"),
        carbons: on("carbons"),
        mam: on("mam"),
        ping: on("ping"),
        version: on("version"),
    })
}

fn read_archive(raw: &mut Raw) -> Option<ArchiveRules> {
    let page_max = raw.value("max_archive_query_results", |found| number(found, 1, 5_000));
    let default_policy = raw.value("default_archive_policy", |found| match &found.value {
        Value::Boolean(true) => Ok(DefaultPolicy::Always),
        Value::Boolean(false) => Ok(DefaultPolicy::Never),
        Value::Text(text) if text == "roster" => Ok(DefaultPolicy::Roster),
        _ => Err("is not a policy".into()),
    });
    let expires_after = raw.value("archive_expires_after", |found| match &found.value {
        Value::Text(text) => text.parse().map_err(|_| "is not a period".to_string()),
        Value::Integer(seconds) => {
            u64::try_from(*seconds).map(ExpiresAfter::Seconds).map_err(|_| "is not a period".to_string())
        }
        _ => Err("is not a period".into()),
    });
    let expiry_interval = raw.value("archive_expiry_interval", interval);
    let allow_trim = raw.value("archive_allow_trim", truth);
    let entries = raw.value("archive_quota_entries", |found| number(found, 1, u64::MAX));
    let bytes = raw.value("archive_quota_bytes", |found| bytes(found, 64 * 1024, u64::MAX));
    Some(ArchiveRules {
        page_max: u32::try_from(page_max?).ok()?,
        default_policy: default_policy?,
        expires_after: expires_after?,
        expiry_interval: expiry_interval?,
        allow_trim: allow_trim?,
        quota: Quota { entries, bytes },
    })
}

fn read_storage(raw: &mut Raw, base: &Path) -> Option<Storage> {
    let embedded =
        raw.value("storage.archive", |found| choice(found, &[("embedded", true), ("postgresql", false)]));
    let memory_table =
        raw.value("storage.embedded.memory_table_bytes", |found| bytes(found, 1 << 20, 4 << 30));
    let postgresql = read_postgresql(raw, base);
    if embedded? {
        return Some(Storage::Embedded { memory_table_bytes: usize::try_from(memory_table?).ok()? });
    }
    Some(Storage::Postgresql(Box::new(postgresql?)))
}

fn read_postgresql(raw: &mut Raw, base: &Path) -> Option<Postgresql> {
    let mut text = |name: &str| raw.value(&format!("storage.postgresql.{name}"), Located::text);
    let (url, host) = (text("url").map(Secret), text("host"));
    let (database, user) = (text("database"), text("user"));
    let password = text("password").map(Secret);
    let password_file = text("password_file").map(|file| base.join(file));
    let tls_authorities = text("tls_authorities").map(|file| base.join(file));
    if password.is_some() && password_file.is_some() {
        let place = raw.place("storage.postgresql.password_file");
        raw.problem(
            place,
            "storage.postgresql: password and password_file are both written; leave one out".into(),
        );
    }
    let port = raw.value("storage.postgresql.port", |found| number(found, 1, 65_535));
    let readers = raw.value("storage.postgresql.readers", |found| number(found, 1, 256));
    let writers = raw.value("storage.postgresql.writers", |found| number(found, 1, 16));
    let partitions = raw.value("storage.postgresql.partitions", |found| number(found, 1, 256));
    Some(Postgresql {
        url,
        host,
        port: port.and_then(|port| u16::try_from(port).ok()),
        database,
        user,
        password,
        password_file,
        tls_authorities,
        readers: usize::try_from(readers?).ok()?,
        writers: usize::try_from(writers?).ok()?,
        partitions: u16::try_from(partitions?).ok()?,
    })
}

fn read_limits(raw: &mut Raw) -> Option<Limits> {
    let stanza_bytes = raw.value("limits.stanza_bytes", |found| bytes(found, 10_000, 16 << 20));
    let connections = raw.value("limits.connections", |found| number(found, 1, 1_000_000));
    let login_seconds = raw.value("limits.login_seconds", |found| number(found, 5, 3_600));
    let sessions = raw.value("limits.sessions_per_account", |found| number(found, 1, 1_000));
    let in_flight = raw.value("limits.messages_in_flight", |found| number(found, 1, 1_024));
    Some(Limits {
        stanza_bytes: usize::try_from(stanza_bytes?).ok()?,
        connections: usize::try_from(connections?).ok()?,
        login_seconds: login_seconds?,
        sessions_per_account: usize::try_from(sessions?).ok()?,
        messages_in_flight: usize::try_from(in_flight?).ok()?,
    })
}

fn read_log(raw: &mut Raw) -> Option<Log> {
    let level = raw.value("log.level", |found| {
        let level = found.text()?;
        crate::logging::is_filter(&level).then_some(level).ok_or_else(|| "is not a level".to_string())
    });
    let format = raw.value("log.format", |found| {
        choice(found, &[("human", LogFormat::Human), ("json", LogFormat::Json)])
    });
    Some(Log { level: level?, format: format? })
}

fn choice<T: Clone>(found: &Located, choices: &[(&str, T)]) -> Result<T, String> {
    let text = found.text()?;
    let chosen = choices.iter().find(|(name, _)| *name == text);
    chosen.map(|(_, value)| value.clone()).ok_or_else(|| "is not one of them".into())
}

fn truth(found: &Located) -> Result<bool, String> {
    match found.value {
        Value::Boolean(truth) => Ok(truth),
        _ => Err("is neither true nor false".into()),
    }
}

fn within(number: u64, from: u64, to: u64) -> Result<u64, String> {
    if (from..=to).contains(&number) { Ok(number) } else { Err("is out of range".into()) }
}

fn number(found: &Located, from: u64, to: u64) -> Result<u64, String> {
    match found.value {
        Value::Integer(number) => within(u64::try_from(number).map_err(|_| "is out of range")?, from, to),
        _ => Err("is not a whole number".into()),
    }
}

/// An integer, or a text of digits and one of `units`, spaces and case ignored.
fn with_unit(found: &Located, units: &[(&str, u64)]) -> Option<u64> {
    match &found.value {
        Value::Integer(number) => u64::try_from(*number).ok(),
        Value::Text(text) => {
            let text: String = text.chars().filter(|c| *c != ' ').collect::<String>().to_ascii_lowercase();
            let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
            let unit = text.strip_prefix(digits)?;
            let factor = if unit.is_empty() { 1 } else { units.iter().find(|(name, _)| *name == unit)?.1 };
            if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
                return None;
            }
            digits.parse::<u64>().ok()?.checked_mul(factor)
        }
        _ => None,
    }
}

fn bytes(found: &Located, from: u64, to: u64) -> Result<u64, String> {
    let units = [("kib", 1 << 10), ("mib", 1 << 20), ("gib", 1 << 30)];
    within(with_unit(found, &units).ok_or("is not a number of bytes")?, from, to)
}

fn interval(found: &Located) -> Result<Duration, String> {
    let units = [("s", 1), ("min", 60), ("h", 3_600)];
    let seconds = with_unit(found, &units).ok_or("is not an interval")?;
    within(seconds, 1, 24 * 3_600).map(Duration::from_secs)
}

fn address(found: &Located) -> Result<SocketAddr, String> {
    found.text()?.parse().map_err(|_| "is not an IP address and port".into())
}

fn loopback(found: &Located) -> Result<SocketAddr, String> {
    let address = address(found)?;
    if address.ip().is_loopback() { Ok(address) } else { Err("is not a loopback address".into()) }
}
