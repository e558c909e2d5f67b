//! The metrics page, and that docs/operations.md tells of exactly what is on it.

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};

use super::support::server::Options;
use super::support::{self, Server};

fn documentation() -> String {
    std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/operations.md")).unwrap()
}

/// What stands in backticks in the first column of tables.
fn first_columns(text: &str) -> BTreeSet<&str> {
    let rows = text.lines().filter_map(|line| line.strip_prefix("| `"));
    rows.map(|row| row.split('`').next().unwrap()).collect()
}

fn fetch(address: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn the_page_and_its_documentation_name_the_same() {
    support::run(async {
        let options = Options { listen: "metrics = \"127.0.0.1:0\"".into(), ..Options::default() };
        let server = Server::with_accounts(options, &["alice"]);
        let address = server.wait_for_log("the metrics", |line| {
            let line: serde_json::Value = serde_json::from_str(line).ok()?;
            (line["listener"] == "listen.metrics").then(|| line["address"].as_str().unwrap().parse().unwrap())
        });
        let mut alice = server.client("alice", "phone").await;
        alice.chat("alice@localhost", "m1", "kept").await;
        alice.send("<message to='alice@localhost'/>").await;
        alice.barrier().await;
        assert_eq!(alice.archived_bodies().await, ["kept"]);

        let page = fetch(address, "/metrics");
        assert!(page.starts_with("HTTP/1.1 200 OK\r\nContent-Type: application/openmetrics-text;"), "{page}");
        let found: BTreeSet<String> = page
            .lines()
            .filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '))
            .map(|(name, type_)| if type_ == "counter" { format!("{name}_total") } else { name.to_owned() })
            .collect();
        let documentation = documentation();
        let (_, metrics) = documentation.split_once("\n## Metrics\n").unwrap();
        let (metrics, _) = metrics.split_once("\n## ").unwrap();
        let documented: BTreeSet<String> = first_columns(metrics).into_iter().map(str::to_owned).collect();
        assert_eq!(found, documented, "on the page, and documented");
        for line in [
            "mammoth_appended_total 1",
            "mammoth_kept_total{reason=\"body\"} 1",
            "mammoth_dropped_total{reason=\"nothing-to-keep\"} 1",
            "mammoth_pages_total 1",
            "mammoth_sessions 1",
            "mammoth_archives 1",
            "mammoth_entries 1",
            "mammoth_store_errors_total 0",
        ] {
            assert!(page.lines().any(|found| found == line), "{line} in {page}");
        }
        assert!(!page.contains("kept\n"), "no bodies");
        assert!(fetch(address, "/").starts_with("HTTP/1.1 404 "));
        alice.close().await;
    });
}

#[test]
fn every_reason_is_documented_and_no_other() {
    use mammoth_archive::prefs::Reason;
    use mammoth_wire::eligible::{Dropped, Kept};

    let documentation = documentation();
    let (_, section) = documentation.split_once("\n## Why was this message kept, or not?\n").unwrap();
    let (section, _) = section.split_once("\n## ").unwrap();
    let mut codes: Vec<(&str, &str)> = Kept::ALL.iter().map(|why| (why.code(), why.text())).collect();
    codes.extend(Dropped::ALL.iter().map(|why| (why.code(), why.text())));
    codes.extend(Reason::ALL.iter().map(|why| (why.code(), why.text())));
    for (code, text) in &codes {
        assert!(section.contains(&format!("| `{code}` | {text} |")), "{code}: {text}");
    }
    let distinct: BTreeSet<&str> = codes.iter().map(|(code, _)| *code).collect();
    assert_eq!(distinct.len(), codes.len(), "no code stands for two rules");
    assert_eq!(first_columns(section), distinct);
    assert!(section.contains(&format!("`{}`", mammoth_server::lane::ARCHIVE_OFF)));
}
