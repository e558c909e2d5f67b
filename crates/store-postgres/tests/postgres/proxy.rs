//! A network between a store and its database that fails: connections are cut, or fall silent, after so many bytes
//! in either direction. What must hold all the same is left to the tests.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// What happens to a connection when its bytes are used up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// Both ends see it closed.
    Cut,
    /// Nothing comes through any more, and nobody is told.
    Silence,
}

/// A proxy.
pub struct Proxy {
    pub port: u16,
    shared: Arc<Shared>,
}

struct Shared {
    to: u16,
    seed: AtomicU64,
    /// How many bytes a connection carries at most, about; 0 for as many as it likes.
    bytes: AtomicU64,
    failures: AtomicU64,
    /// Raised to cut everything that is open.
    generation: watch::Sender<u64>,
}

impl Shared {
    /// Numbers that follow from the seed and the order of connections.
    fn random(&self) -> u64 {
        let mut z = self.seed.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

impl Proxy {
    /// A proxy before the database at this port, faultless for the moment.
    pub async fn before(port: u16, seed: u64) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let shared = Arc::new(Shared {
            to: port,
            seed: AtomicU64::new(seed),
            bytes: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            generation: watch::Sender::new(0),
        });
        let port = listener.local_addr().unwrap().port();
        let accepting = shared.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(connection(client, accepting.clone()));
            }
        });
        Proxy { port, shared }
    }

    /// From now on, connections fail once they have carried about so many bytes; with 0, they do not.
    pub fn fail_after(&self, bytes: u64) {
        self.shared.bytes.store(bytes, Ordering::Relaxed);
    }

    /// Cuts whatever is open.
    pub fn cut(&self) {
        self.shared.generation.send_modify(|generation| *generation += 1);
    }

    /// How many connections have failed.
    pub fn failures(&self) -> u64 {
        self.shared.failures.load(Ordering::Relaxed)
    }
}

async fn connection(mut client: TcpStream, shared: Arc<Shared>) {
    let Ok(mut server) = TcpStream::connect(("127.0.0.1", shared.to)).await else { return };
    let most = shared.bytes.load(Ordering::Relaxed);
    // The bytes of each direction, and how it ends: one connection in eight falls silent.
    let mut left = [u64::MAX; 2];
    let mut end = End::Cut;
    if most > 0 {
        left[usize::try_from(shared.random() % 2).unwrap()] = shared.random() % most;
        end = if shared.random().is_multiple_of(8) { End::Silence } else { End::Cut };
    }
    let mut generation = shared.generation.subscribe();
    generation.borrow_and_update();
    let (mut up, mut down) = (vec![0; 16 * 1024], vec![0; 16 * 1024]);
    loop {
        let (n, way) = tokio::select! {
            n = client.read(&mut up) => (n, 0),
            n = server.read(&mut down) => (n, 1),
            _ = generation.changed() => return,
        };
        let Ok(n @ 1..) = n else { return };
        let through = n.min(usize::try_from(left[way]).unwrap_or(usize::MAX));
        left[way] -= through as u64;
        let (to, bytes) = if way == 0 { (&mut server, &up) } else { (&mut client, &down) };
        if to.write_all(&bytes[..through]).await.is_err() {
            return;
        }
        if through < n {
            shared.failures.fetch_add(1, Ordering::Relaxed);
            if end == End::Silence {
                // Until somebody closes it, or cuts everything.
                let _ = generation.changed().await;
            }
            return;
        }
    }
}
