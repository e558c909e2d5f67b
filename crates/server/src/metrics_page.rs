//! The page that Prometheus reads: `GET /metrics` on a loopback port, and nothing else. What is on it is left to
//! `metrics`.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tracing::{debug, warn};

use crate::house::House;
use crate::stopping;

/// The most bytes of a request that are read.
const REQUEST_BYTES_MAX: usize = 8 * 1024;
/// How long one request may take, in seconds.
const REQUEST_SECONDS: u64 = 5;
/// Requests at once.
const REQUESTS_MAX: usize = 16;

/// Answers requests until stopped.
pub async fn serve(house: Arc<House>, socket: TcpListener, mut stop: watch::Receiver<bool>) {
    let places = Arc::new(Semaphore::new(REQUESTS_MAX));
    loop {
        let accepted = tokio::select! {
            () = stopping(&mut stop) => return,
            accepted = socket.accept() => accepted,
        };
        match accepted {
            Ok((io, _)) => {
                let Ok(place) = places.clone().try_acquire_owned() else { continue };
                let house = house.clone();
                tokio::spawn(async move {
                    let patience = Duration::from_secs(REQUEST_SECONDS);
                    if let Ok(Err(error)) = tokio::time::timeout(patience, answer(&house, io)).await {
                        debug!(%error, "a metrics request broke off");
                    }
                    drop(place);
                });
            }
            Err(error) => {
                warn!(%error, "cannot accept for metrics");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn answer(house: &House, mut io: TcpStream) -> std::io::Result<()> {
    let mut request = Vec::new();
    let mut buffer = [0; 1024];
    while !request.windows(4).any(|w| w == b"\r\n\r\n") && request.len() < REQUEST_BYTES_MAX {
        let n = io.read(&mut buffer).await?;
        if n == 0 {
            return Ok(());
        }
        request.extend_from_slice(buffer.get(..n).unwrap_or_default());
    }
    let line = request.split(|b| *b == b'\r').next().unwrap_or_default();
    let (status, body) = match line {
        line if line.starts_with(b"GET /metrics ") => {
            if let Ok(stats) = house.archive.store().stats().await {
                house.metrics.stored(&stats);
            }
            ("200 OK", house.metrics.text())
        }
        line if line.starts_with(b"GET ") => ("404 Not Found", "see /metrics\n".to_owned()),
        _ => ("405 Method Not Allowed", String::new()),
    };
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/openmetrics-text; version=1.0.0; charset=utf-8\r\n\
         Content-Length: {length}\r\nConnection: close\r\n\r\n"
    );
    io.write_all(head.as_bytes()).await?;
    io.write_all(body.as_bytes()).await?;
    io.shutdown().await
}
