//! The configuration shown: as a commented file (`mammoth config default`) and as docs/config.md. Both are made of
//! config/keys.rs; nothing is said here that is not said there, but for the words around it.

use std::fmt::Write as _;

use super::keys::{Default, KEYS, Key, SECTIONS, section_and_name, variable};

/// How docs/config.md is made new; the test that finds it stale says so.
pub const REFRESH: &str = "cargo xtask config-docs";

/// The keys of one section, in order.
fn keys_of(section: &str) -> impl Iterator<Item = &'static Key> {
    KEYS.iter().filter(move |key| section_and_name(key.path).0 == section)
}

/// A configuration file with every key at its default, explained.
pub fn default_file() -> String {
    let mut out = String::from(
        "# Mammoth's configuration. A line that begins with # is the default, and shows how to change it.\n\
         # Check a changed file with: mammoth config check\n",
    );
    for (section, heading) in SECTIONS {
        let _ = write!(out, "\n# ---- {heading} ----\n");
        if !section.is_empty() {
            let _ = write!(out, "\n[{section}]\n");
        }
        for key in keys_of(section) {
            let (_, name) = section_and_name(key.path);
            out.push('\n');
            for line in key.about.lines() {
                let _ = writeln!(out, "# {line}");
            }
            let _ = writeln!(out, "# Allowed: {}", key.form);
            match key.default {
                Default::Required(example) => {
                    let _ = writeln!(out, "{name} = {example}");
                }
                Default::Value(value) => {
                    let _ = writeln!(out, "#{name} = {value}");
                }
                Default::Nothing(meaning) => {
                    let example = key.examples.first().map_or("…", |(value, _)| value);
                    let _ = writeln!(out, "#{name} = {example}   # default: {meaning}");
                }
            }
        }
    }
    out
}

/// docs/config.md.
pub fn markdown() -> String {
    let mut out = format!(
        "<!-- Made by `{REFRESH}` from crates/mammoth/src/config/keys.rs: change it there. -->\n\n\
         # Configuration\n\n\
         One TOML file, read at start: the one that `--config` or `MAMMOTH_CONFIG` names, else `mammoth.toml` in the\n\
         current directory, else `/etc/mammoth/mammoth.toml`. `mammoth config default` prints one to begin with,\n\
         `mammoth config check` says whether a file is right. An unknown key, a value that is not allowed, a list\n\
         member that is none: each is an error at start that names the file, the line, the key and what is allowed.\n\n\
         The smallest file that serves the world:\n\n\
         ```toml\n\
         domain = \"example.org\"\n\n\
         [tls]\n\
         certificate = \"/etc/mammoth/certificate.pem\"\n\
         key = \"/etc/mammoth/key.pem\"\n\
         ```\n\n\
         ## From mod_mam\n\n\
         Those who come from Prosody's mod_mam find its options under the same names, with the same forms and\n\
         defaults:\n\n\
         | option | form | default |\n|---|---|---|\n"
    );
    for path in ["max_archive_query_results", "default_archive_policy", "archive_expires_after"] {
        if let Some(key) = KEYS.iter().find(|key| key.path == path) {
            let _ = writeln!(out, "| `{path}` | {} | {} |", key.form, default_words(key));
        }
    }
    out.push_str(
        "\nThe file is TOML, not Lua: comments begin with `#`, lists are written `[\"like\", \"this\"]`, and one hour is \
         `3600`,\nnot `60 * 60`.\n\n\
         ## Environment\n\n\
         Each key can be overridden by an environment variable: `MAMMOTH_`, the section and two underscores if there\n\
         is a section, and the name, in capitals. The value is written as in the file; quotes around a text can be\n\
         left out, and the members of a list can be parted by commas.\n\n\
         ```sh\n\
         MAMMOTH_ARCHIVE_EXPIRES_AFTER=1y\n\
         MAMMOTH_LISTEN__C2S=127.0.0.1:5222,[::1]:5222\n\
         MAMMOTH_LOG__FORMAT=json\n\
         ```\n\n\
         A variable that begins with `MAMMOTH_` and nearly names a key is an error, too; others are left alone.\n\
         The certificates of single domains (`[tls.\"example.net\"]`) can only be set in the file.\n",
    );
    for (section, heading) in SECTIONS {
        let title = if section.is_empty() { "Top".to_string() } else { format!("`[{section}]`") };
        let _ = write!(out, "\n## {title}\n\n{heading}.\n");
        for key in keys_of(section) {
            markdown_of(key, &mut out);
        }
        if *section == "tls" {
            out.push_str(
                "\n### One certificate for each domain\n\n\
                 ```toml\n\
                 domain = [\"example.org\", \"example.net\"]\n\n\
                 [tls.\"example.org\"]\n\
                 certificate = \"/etc/mammoth/example.org.pem\"\n\
                 key = \"/etc/mammoth/example.org.key\"\n\n\
                 [tls.\"example.net\"]\n\
                 certificate = \"/etc/mammoth/example.net.pem\"\n\
                 key = \"/etc/mammoth/example.net.key\"\n\
                 ```\n",
            );
        }
    }
    out
}

fn default_words(key: &Key) -> String {
    match key.default {
        Default::Value(value) => format!("`{value}`"),
        Default::Nothing(meaning) => meaning.to_string(),
        Default::Required(_) => "none: it must be written".to_string(),
    }
}

fn markdown_of(key: &Key, out: &mut String) {
    let (_, name) = section_and_name(key.path);
    let default = match key.path {
        "tls.certificate" | "tls.key" => "none; `localhost` alone gets a self-signed one".to_string(),
        _ => default_words(key),
    };
    let _ = write!(
        out,
        "\n### `{name}`\n\n{}\n\n- Allowed: {}\n- Default: {default}\n- Environment: `{}`\n",
        key.about,
        key.form,
        variable(key.path)
    );
    if !key.examples.is_empty() {
        out.push_str("\n```toml\n");
        for (value, meaning) in key.examples {
            let _ = writeln!(out, "{name} = {value}   # {meaning}");
        }
        out.push_str("```\n");
    }
}
