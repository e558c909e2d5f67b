//! The log: `tracing` to standard error, for people or as JSON. What is logged is each crate's business; bodies and
//! passwords never are.

use std::io;

use tracing_subscriber::EnvFilter;

use crate::config::{Log, LogFormat};

/// Can `text` be the log's level: a level's name, or directives such as `info,mammoth_server=debug`?
pub fn is_filter(text: &str) -> bool {
    !text.trim().is_empty() && filter(text).is_some()
}

/// The levels' names; a bare word in a filter that is none of them would silently be taken for a module.
const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

fn filter(text: &str) -> Option<EnvFilter> {
    let text = text.replace(' ', "");
    let words_are_levels = text.split(',').all(|directive| {
        let level = directive.rsplit('=').next().unwrap_or_default().trim();
        LEVELS.contains(&level)
    });
    if !words_are_levels {
        return None;
    }
    EnvFilter::try_new(text).ok()
}

/// Starts the log, for the rest of the process's life. `level` overrides the configuration's (`--log`).
pub fn start(log: &Log, level: Option<&str>) -> anyhow::Result<()> {
    let level = level.unwrap_or(&log.level);
    let filter = filter(level).ok_or_else(|| {
        anyhow::anyhow!("{level:?} is not a level; allowed: error, warn, info, debug, trace, or several as \"info,mammoth_server=debug\"")
    })?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    let started = match log.format {
        LogFormat::Human => {
            let colours = io::IsTerminal::is_terminal(&io::stderr());
            builder.with_ansi(colours).with_target(false).try_init()
        }
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    started.map_err(|error| anyhow::anyhow!("cannot start the log: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters() {
        for right in ["info", "debug", "info,mammoth_server=debug", "warn, mammoth_wire=trace"] {
            assert!(is_filter(right), "{right}");
        }
        for wrong in ["", " ", "loud", "info,loud", "mammoth_server=loud", "mammoth_server"] {
            assert!(!is_filter(wrong), "{wrong}");
        }
    }
}
