//! How long messages stay: the configuration's period, an account's own, and quotas, as a running server carries them
//! out.

use super::bodies;
use super::support::server::Options;
use super::support::{self, Server};

async fn write(server: &Server, name: &str, count: usize) {
    let mut client = server.client(name, "phone").await;
    for n in 0..count {
        client.chat(&format!("{name}@localhost"), &format!("m{n}"), &n.to_string()).await;
    }
    client.barrier().await;
    client.close().await;
}

/// Waits for the expiry at the start of a server that has something to let go.
fn expired(server: &Server) -> serde_json::Value {
    server.wait_for_log("the expiry", |line| {
        let line: serde_json::Value = serde_json::from_str(line).ok()?;
        (line["message"] == "expired").then_some(line)
    })
}

#[test]
fn an_accounts_own_period_goes_before_the_servers() {
    support::run(async {
        // Messages go at the first expiry that finds them: the one at the next start.
        let mut server =
            Server::with_accounts(Options::top("archive_expires_after = 0"), &["alice", "bob", "carol"]);
        for name in ["alice", "bob", "carol"] {
            write(&server, name, 3).await;
        }
        server.mammoth(&["account", "set", "alice@localhost", "--archive-expires-after", "1y"], "");
        server.down();
        server.mammoth(&["account", "set", "carol@localhost", "--archive-expires-after", "never"], "");
        let count = |server: &Server| {
            ["alice", "bob", "carol"].map(|name| bodies(server, &format!("{name}@localhost"), &[]).len())
        };
        assert_eq!(count(&server), [3, 3, 3]);

        server.up();
        assert_eq!(expired(&server)["entries"], 3);
        assert_eq!(count(&server), [3, 0, 3], "only bob follows the server");
        let set =
            server.mammoth(&["account", "set", "alice@localhost", "--archive-expires-after", "default"], "");
        assert_eq!(set, "messages of alice@localhost stay as long as archive_expires_after says\n");
        server.down();

        server.up();
        assert_eq!(expired(&server)["entries"], 3);
        assert_eq!(count(&server), [0, 0, 3]);
    });
}

#[test]
fn beyond_a_quota_the_oldest_go() {
    support::run(async {
        for (quota, left) in [("archive_quota_entries = 4", 4), ("archive_quota_bytes = \"64KiB\"", 3)] {
            let mut server = Server::with_accounts(Options::top(quota), &["alice"]);
            let mut alice = server.client("alice", "phone").await;
            for n in 0..6 {
                let body = format!("{n} {}", "x".repeat(18 << 10));
                alice.chat("alice@localhost", &format!("m{n}"), &body).await;
            }
            alice.barrier().await;
            alice.close().await;
            server.down();
            server.up();
            let expired = expired(&server);
            assert_eq!((&expired["entries"], &expired["by_quota"]), (&(6 - left).into(), &(6 - left).into()));
            let bodies = bodies(&server, "alice@localhost", &[]);
            let numbers: Vec<&str> = bodies.iter().map(|body| &body[..1]).collect();
            assert_eq!(numbers, ["0", "1", "2", "3", "4", "5"][6 - left..]);
        }
    });
}
