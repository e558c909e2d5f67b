//! Listeners: accepting, the bound on connections, and stopping. What a connection says is left to `login` and
//! `session`.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use mammoth_wire::header::STREAM_END;
use mammoth_wire::stream_error::{StreamCondition, StreamError};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio_util::task::TaskTracker;
use tracing::{debug, info, warn};

use crate::house::House;
use crate::login::{self, Door};
use crate::stopping;
use crate::{metrics_page, session};

/// The pause after a failed accept (out of file descriptors, mostly), in milliseconds.
const ACCEPT_PAUSE_MS: u64 = 100;
/// How long sessions may take to end once the server is stopping, in seconds.
const STOP_SECONDS: u64 = 10;

/// A bound listener and what it expects of its connections.
#[derive(Debug)]
pub struct Listener {
    /// The socket.
    pub socket: TcpListener,
    /// TLS or not.
    pub door: Door,
}

/// Accepts until stopped, then waits for the sessions to end.
pub async fn run(
    house: Arc<House>,
    listeners: Vec<Listener>,
    metrics: Option<TcpListener>,
    stop: watch::Receiver<bool>,
) {
    let places = Arc::new(Semaphore::new(house.settings.limits.connections));
    let tasks = TaskTracker::new();
    for listener in listeners {
        tasks.spawn(accept(house.clone(), listener, places.clone(), tasks.clone(), stop.clone()));
    }
    if let Some(socket) = metrics {
        tasks.spawn(metrics_page::serve(house.clone(), socket, stop.clone()));
    }
    let mut stopped = stop;
    stopping(&mut stopped).await;
    tasks.close();
    let error = StreamError::new(StreamCondition::SystemShutdown, "the server is stopping");
    for resource in house.online.all() {
        resource.outbox.close(format!("{}{STREAM_END}", error.to_xml()).into());
    }
    if tokio::time::timeout(Duration::from_secs(STOP_SECONDS), tasks.wait()).await.is_err() {
        warn!(left = tasks.len(), "some sessions did not end in time");
    }
}

async fn accept(
    house: Arc<House>,
    listener: Listener,
    places: Arc<Semaphore>,
    tasks: TaskTracker,
    mut stop: watch::Receiver<bool>,
) {
    loop {
        let accepted = tokio::select! {
            () = stopping(&mut stop) => return,
            accepted = listener.socket.accept() => accepted,
        };
        let (io, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                warn!(%error, "cannot accept");
                tokio::time::sleep(Duration::from_millis(ACCEPT_PAUSE_MS)).await;
                continue;
            }
        };
        let Ok(place) = places.clone().try_acquire_owned() else {
            warn!(%peer, limit = house.settings.limits.connections, "too many connections: refused");
            continue;
        };
        let (house, door, stop) = (house.clone(), listener.door.clone(), stop.clone());
        tasks.spawn(async move {
            house.metrics.connections.inc();
            // Boxed apart, so that what a login needs is given back before the session begins.
            Box::pin(connection(house.clone(), io, peer, door, stop)).await;
            house.metrics.connections.dec();
            drop(place);
        });
    }
}

async fn connection(
    house: Arc<House>,
    io: TcpStream,
    peer: SocketAddr,
    door: Door,
    mut stop: watch::Receiver<bool>,
) {
    if let Err(error) = io.set_nodelay(true) {
        debug!(%peer, %error, "cannot switch Nagle off");
    }
    let patience = Duration::from_secs(house.settings.limits.login_seconds);
    let login = Box::pin(tokio::time::timeout(patience, login::login(&house, io, door)));
    let outcome = tokio::select! {
        () = stopping(&mut stop) => return,
        outcome = login => outcome,
    };
    match outcome {
        Ok(Ok(bound)) => session::run(house, bound, stop).await,
        Ok(Err((stream, end))) => {
            debug!(%peer, ?end, "no session came of it");
            if matches!(end, crate::stream::End::Error(_)) {
                house.metrics.stream_errors.inc();
            }
            if let Some(stream) = stream {
                let domain = house.settings.domains.first().cloned().unwrap_or_default();
                let ending = stream.end(end, &domain);
                let _ = tokio::time::timeout(Duration::from_secs(STOP_SECONDS), ending).await;
            }
        }
        Err(_) => info!(%peer, "did not log in in time"),
    }
}
