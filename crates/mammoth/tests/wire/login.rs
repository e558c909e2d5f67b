//! Logging in: every mechanism over every listener, wrong passwords, resources, and sessions that replace each other.

use crate::support::client::{authenticate, try_mechanism};
use crate::support::server::PASSWORD;
use crate::support::{Auth, Client, Connection, Options, Server, run};

const ALL: [Auth; 5] = [Auth::Sha256Plus, Auth::Sha256, Auth::Sha1Plus, Auth::Sha1, Auth::Plain];

#[test]
fn every_mechanism_over_both_kinds_of_tls() {
    run(async {
        let server = Server::of(&["alice"]);
        for auth in ALL {
            let connection = Connection::starttls(server.c2s(), &server.certificate()).await;
            Client::over(connection, &server, "alice", "a", auth, "").await.close().await;
            let connection = Connection::direct_tls(server.c2s_tls(), &server.certificate()).await;
            Client::over(connection, &server, "alice", "a", auth, "").await.close().await;
        }
        for auth in [Auth::Sha256, Auth::Sha1] {
            let connection = Connection::open(server.c2s_plain()).await;
            Client::over(connection, &server, "alice", "a", auth, "").await.close().await;
        }
    });
}

#[test]
fn a_wrong_password_and_an_unknown_account_are_answered_alike() {
    run(async {
        let server = Server::of(&["alice"]);
        for auth in ALL {
            for (name, password) in [("alice", "wrong"), ("nobody", PASSWORD)] {
                let mut connection = Connection::starttls(server.c2s(), &server.certificate()).await;
                let outcome = authenticate(&mut connection, name, password, auth).await;
                assert_eq!(outcome, "not-authorized", "{name} with {auth:?}");
                // The connection is not lost: the right password still works.
                assert_eq!(try_mechanism(&mut connection, "alice", PASSWORD, auth).await, "success");
            }
        }
    });
}

#[test]
fn tries_are_limited() {
    run(async {
        let server = Server::of(&["alice"]);
        let mut connection = Connection::starttls(server.c2s(), &server.certificate()).await;
        authenticate(&mut connection, "alice", "wrong", Auth::Sha256).await;
        for _ in 0..4 {
            let outcome = try_mechanism(&mut connection, "alice", "wrong", Auth::Sha256).await;
            assert_eq!(outcome, "not-authorized");
        }
        assert_eq!(connection.receiver.stream_error().await, "policy-violation");
    });
}

#[test]
fn the_same_resource_replaces_the_session_before() {
    run(async {
        let server = Server::of(&["alice"]);
        let mut first = server.client("alice", "phone").await;
        let mut second = server.client("alice", "phone").await;
        assert_eq!(first.stream_error().await, "conflict");
        second.chat("alice@localhost", "self", "still here").await;
        assert_eq!(second.message().await.body().unwrap(), "still here");
    });
}

#[test]
fn sessions_of_one_account_are_limited() {
    run(async {
        let server = Server::with_accounts(Options::limits("sessions_per_account = 2"), &["alice", "bob"]);
        let _one = server.login("alice", "1").await;
        let _two = server.login("alice", "2").await;
        let mut connection = Connection::starttls(server.c2s(), &server.certificate()).await;
        assert_eq!(authenticate(&mut connection, "alice", PASSWORD, Auth::Sha256).await, "success");
        connection.sender.send(&crate::support::connection::header()).await;
        connection.receiver.features().await;
        let bind = "<iq type='set' id='b'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></iq>";
        connection.sender.send(bind).await;
        assert_eq!(connection.receiver.stanza().await.condition(), "resource-constraint");
        server.login("bob", "1").await.close().await;
    });
}

#[test]
fn a_resource_that_the_server_chooses_is_random() {
    run(async {
        let server = Server::of(&["alice"]);
        let mut jids = Vec::new();
        for _ in 0..2 {
            let mut connection = Connection::starttls(server.c2s(), &server.certificate()).await;
            authenticate(&mut connection, "alice", PASSWORD, Auth::Sha256).await;
            connection.sender.send(&crate::support::connection::header()).await;
            connection.receiver.features().await;
            let bind = "<iq type='set' id='b'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></iq>";
            connection.sender.send(bind).await;
            let ns = "urn:ietf:params:xml:ns:xmpp-bind";
            let bound = connection.receiver.stanza().await;
            jids.push(bound.child(ns, "bind").child(ns, "jid").text());
        }
        assert_ne!(jids[0], jids[1]);
        assert!(jids[0].len() > "alice@localhost/".len() + 16, "{jids:?}");
    });
}

#[test]
fn other_domains_are_not_served() {
    run(async {
        let server = Server::of(&["alice"]);
        let mut connection = Connection::open(server.c2s()).await;
        let header = crate::support::connection::header().replace("to='localhost'", "to='example.org'");
        connection.sender.send(&header).await;
        assert_eq!(connection.receiver.stream_error().await, "host-unknown");
    });
}
