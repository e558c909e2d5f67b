//! Opening: each thing that can be wrong is told in words that say what to do. TLS and passwords.

use mammoth_archive::ArchiveStore;
use mammoth_store_postgres::{Config, OpenError, PostgresStore, Tls};

use crate::cluster::shared;
use crate::contract::open;

async fn refused(config: Config) -> OpenError {
    PostgresStore::open(config).await.expect_err("it should not open")
}

#[tokio::test]
async fn nobody_there() {
    let Some(cluster) = shared("nobody_there") else { return };
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let config = Config { port: Some(port), ..cluster.database().await };
    let error = refused(config).await;
    assert!(matches!(error, OpenError::Unreachable { .. }), "{error:?}");
    assert!(error.to_string().contains(&format!("127.0.0.1 (port {port}")), "{error}");
    assert!(error.to_string().contains("is it running"), "{error}");
}

#[tokio::test]
async fn no_such_database() {
    let Some(cluster) = shared("no_such_database") else { return };
    let config = Config { database: Some("nowhere".into()), ..cluster.database().await };
    let error = refused(config).await;
    assert!(matches!(error, OpenError::NoDatabase { .. }), "{error:?}");
    assert!(error.to_string().contains("createdb"), "{error}");
}

#[tokio::test]
async fn a_password_is_asked_for() {
    let Some(cluster) = shared("a_password_is_asked_for") else { return };
    let config = cluster.database().await;
    let database = config.database.clone().unwrap();
    cluster
        .say(
            "postgres",
            &format!(
                "CREATE ROLE guarded LOGIN PASSWORD 'correct'; GRANT CREATE ON DATABASE {database} TO guarded"
            ),
        )
        .await;
    let guarded = Config { user: Some("guarded".into()), ..config };
    let error = refused(guarded.clone()).await;
    assert!(matches!(error, OpenError::Login { .. }), "{error:?}");
    let error = refused(Config { password: Some("wrong".into()), ..guarded.clone() }).await;
    assert!(matches!(error, OpenError::Login { .. }), "{error:?}");
    assert!(!format!("{error} {error:?}").contains("wrong"), "{error}");
    let store = open(&Config { password: Some("correct".into()), ..guarded }).await;
    store.id_key().await.unwrap();
}

#[tokio::test]
async fn a_user_without_rights() {
    let Some(cluster) = shared("a_user_without_rights") else { return };
    let config = cluster.database().await;
    cluster.say("postgres", "CREATE ROLE weak LOGIN").await;
    let weak = Config { user: Some("weak".into()), ..config.clone() };
    let error = refused(weak.clone()).await;
    assert!(matches!(error, OpenError::Schema { .. }), "{error:?}");
    assert!(error.to_string().contains("GRANT CREATE"), "{error}");
    // Once the schema is there, reading and writing it is enough.
    open(&config).await;
    let database = config.database.unwrap();
    cluster
        .say(
            &database,
            "GRANT USAGE ON SCHEMA mammoth TO weak; GRANT ALL ON ALL TABLES IN SCHEMA mammoth TO weak",
        )
        .await;
    open(&weak).await.id_key().await.unwrap();
}

#[tokio::test]
async fn another_encoding() {
    let Some(cluster) = shared("another_encoding") else { return };
    cluster.say("postgres", "CREATE DATABASE latin ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0").await;
    let error = refused(Config { database: Some("latin".into()), ..cluster.database().await }).await;
    assert!(matches!(error, OpenError::Encoding { .. }), "{error:?}");
}

#[tokio::test]
async fn a_newer_schema() {
    let Some(cluster) = shared("a_newer_schema") else { return };
    let config = cluster.database().await;
    let key = open(&config).await.id_key().await.unwrap();
    assert!(open(&config).await.id_key().await.unwrap() == key, "opened again");
    let database = config.database.clone().unwrap();
    cluster.say(&database, "INSERT INTO mammoth.migrations (number) VALUES (999)").await;
    let error = refused(config).await;
    assert!(matches!(error, OpenError::NewerSchema { found: 999, .. }), "{error:?}");
    assert!(error.to_string().contains("newer Mammoth"), "{error}");
}

#[tokio::test]
async fn many_open_an_empty_database_at_once() {
    let Some(cluster) = shared("many_open_an_empty_database_at_once") else { return };
    let config = cluster.database().await;
    let (a, b, c) = tokio::join!(open(&config), open(&config), open(&config));
    let (a, b, c) = (a.id_key().await.unwrap(), b.id_key().await.unwrap(), c.id_key().await.unwrap());
    assert!(a == b && b == c, "one key for all");
}

#[tokio::test]
async fn tls_is_verified() {
    let Some(cluster) = shared("tls_is_verified") else { return };
    let config = cluster.database().await;
    let authorities = cluster.certificate();
    let verified = Config {
        host: Some("localhost".into()),
        tls: Tls::Verified { authorities: authorities.clone() },
        ..config.clone()
    };
    let store = open(&verified).await;
    store.id_key().await.unwrap();
    let client = cluster.client(config.database.as_deref().unwrap()).await;
    let encrypted = "SELECT count(*) FROM pg_stat_ssl s JOIN pg_stat_activity a USING (pid) \
        WHERE s.ssl AND a.application_name = 'mammoth' AND a.datname = current_database()";
    let encrypted: i64 = client.query_one(encrypted, &[]).await.unwrap().get(0);
    assert!(encrypted > 0, "the session is encrypted");

    let error = refused(Config { host: Some("127.0.0.1".into()), ..verified.clone() }).await;
    assert!(error.to_string().contains("certificate"), "not for this name: {error}");

    let stranger = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), stranger.cert.pem()).unwrap();
    let error = refused(Config { tls: Tls::Verified { authorities: file.path().into() }, ..verified }).await;
    assert!(matches!(error, OpenError::Unreachable { .. } | OpenError::Login { .. }), "{error:?}");
}
