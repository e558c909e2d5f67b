//! The null relay: a process that passes bytes from one connection to another, with no XML and no archive. Under the
//! same load it shows what sockets, kernel and generator allow on this machine.

use std::{
    collections::HashMap,
    io::{BufRead, BufReader},
    net::{Ipv4Addr, SocketAddr},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::{Context, Result};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy},
    net::{TcpListener, TcpStream},
};

use super::{
    Bench,
    ingest::{Load, Outcome, drive},
    pair::Pair,
};
use crate::conn::Conn;

/// Each connection begins with the number of its pair, in this many digits.
const GREETING_BYTES: usize = 8;

/// Runs the scenario against a relay process of its own.
///
/// # Errors
/// The relay cannot be started or used.
pub async fn run(bench: &Bench, load: &Load) -> Result<()> {
    let relay = Relay::start()?;
    let mut pairs = Vec::new();
    for n in 0..load.pairs {
        let greeting = format!("{n:0GREETING_BYTES$}");
        let mut a = Conn::open(relay.addr, bench.target.quickack).await?;
        a.send(greeting.as_bytes()).await?;
        let mut b = Conn::open(relay.addr, bench.target.quickack).await?;
        b.send(greeting.as_bytes()).await?;
        pairs.push(Pair {
            a,
            b,
            to: bench.target.jid(&bench.account("b", n)),
            tag: format!("n-{n}"),
            next: 0,
        });
    }
    let Outcome { record, faults, .. } = drive(bench, "null", load, pairs).await?;
    bench.recorder.write(&record.faults(faults))
}

/// The relay's process; it ends with this value.
struct Relay {
    child: Child,
    addr: SocketAddr,
}

impl Relay {
    fn start() -> Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .arg("null-relay")
            .stdout(Stdio::piped())
            .spawn()
            .context("starting the null relay")?;
        let mut line = String::new();
        let out = child.stdout.take().context("the null relay has no output")?;
        BufReader::new(out).read_line(&mut line)?;
        let addr = line.trim().parse().context("the null relay told no address")?;
        Ok(Self { child, addr })
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// Is the relay: listens on a free loopback port, prints its address, relays until killed.
///
/// # Errors
/// No port is free.
pub async fn relay() -> Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    println!("{}", listener.local_addr()?);
    let waiting: Arc<Mutex<HashMap<[u8; GREETING_BYTES], TcpStream>>> = Arc::default();
    loop {
        let (mut tcp, _) = listener.accept().await?;
        tcp.set_nodelay(true)?;
        let waiting = Arc::clone(&waiting);
        tokio::spawn(async move {
            let mut pair = [0; GREETING_BYTES];
            tcp.read_exact(&mut pair).await?;
            let other = waiting.lock().unwrap_or_else(PoisonError::into_inner).remove(&pair);
            match other {
                Some(other) => join(other, tcp).await,
                None => {
                    waiting.lock().unwrap_or_else(PoisonError::into_inner).insert(pair, tcp);
                    Ok(())
                }
            }
        });
    }
}

async fn join(a: TcpStream, b: TcpStream) -> std::io::Result<()> {
    let ((mut a_in, mut a_out), (mut b_in, mut b_out)) = (a.into_split(), b.into_split());
    let there = async {
        copy(&mut a_in, &mut b_out).await?;
        b_out.shutdown().await
    };
    let back = async {
        copy(&mut b_in, &mut a_out).await?;
        a_out.shutdown().await
    };
    tokio::try_join!(there, back).map(|_| ())
}
