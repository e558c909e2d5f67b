//! `mammoth serve`: from settings to a running server, and to a clean stop. What a server does is the server crate's
//! subject, what the demonstration shows demo.rs's.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context as _;
use mammoth_archive::Archive;
use mammoth_server::{Door, House, Listener, Module};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::Where;
use crate::admin::{self, AdminSocket};
use crate::backend::{self, Access, Stores};
use crate::config::Settings;
use crate::tls::{self, Tls};
use crate::{demo, logging, place};

mod administer;

/// The arguments of `mammoth serve`.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  mammoth serve --config /etc/mammoth/mammoth.toml
  mammoth serve --demo
  mammoth serve --demo --data /tmp/mammoth-demo

Ctrl-C, or SIGTERM, stops it cleanly. SIGHUP reads the certificates again.")]
pub struct ServeArguments {
    /// Try it out: localhost, two accounts, two clients that talk and page their conversation back
    #[arg(long, conflicts_with = "config")]
    demo: bool,

    #[command(flatten)]
    at: Where,
}

/// What sessions and lanes run on: half of the processors, for the threads of the store, the kernel and the clients
/// want the others. With as many threads as processors they were woken for each other's sake (docs/performance.md).
pub fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    tokio::runtime::Builder::new_multi_thread().worker_threads(processors.div_ceil(2)).enable_all().build()
}

/// Runs the server until it is told to stop.
pub fn run(arguments: &ServeArguments, level: Option<&str>) -> anyhow::Result<()> {
    if arguments.demo {
        return demo::run(arguments.at.data.as_deref(), level);
    }
    let mut settings = Settings::load(arguments.at.config.as_deref())?;
    if let Some(data) = &arguments.at.data {
        settings.data = data.clone();
    }
    logging::start(&settings.log, level)?;
    runtime()?.block_on(async {
        // Before it says that it is ready: whoever waits for that may stop it at once.
        let mut renewed = signal(SignalKind::hangup()).context("cannot wait for SIGHUP")?;
        let stop = told_to_stop()?;
        tokio::pin!(stop);
        let server = Server::start(&settings).await?;
        loop {
            tokio::select! {
                () = &mut stop => break,
                _ = renewed.recv() => server.reload_certificates(&settings),
            }
        }
        tracing::info!("stopping");
        server.stop().await;
        tracing::info!("stopped");
        Ok(())
    })
}

/// Ends with the first Ctrl-C or SIGTERM after this was called.
pub fn told_to_stop() -> anyhow::Result<impl Future<Output = ()>> {
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot wait for Ctrl-C")?;
    let mut terminate = signal(SignalKind::terminate()).context("cannot wait for SIGTERM")?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}

/// A server that runs in this process.
pub struct Server {
    /// Where it listens, in the order of the settings: the ports are real even where the settings say 0.
    pub addresses: Vec<(Kind, SocketAddr)>,
    /// What its parts share.
    pub house: Arc<House>,
    tls: Option<Tls>,
    stop: watch::Sender<bool>,
    running: JoinHandle<()>,
    admin: JoinHandle<()>,
}

/// What a listener is for; its name is that of the key in the configuration.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// STARTTLS.
    C2s,
    /// Direct TLS.
    C2sTls,
    /// No TLS.
    C2sPlain,
    /// Metrics.
    Metrics,
}

impl Server {
    /// The first address of a kind.
    pub fn address(&self, wanted: Kind) -> Option<SocketAddr> {
        self.addresses.iter().find(|(kind, _)| *kind == wanted).map(|(_, address)| *address)
    }
}

impl Kind {
    fn key(self) -> &'static str {
        match self {
            Kind::C2s => "listen.c2s",
            Kind::C2sTls => "listen.c2s_tls",
            Kind::C2sPlain => "listen.c2s_plain",
            Kind::Metrics => "listen.metrics",
        }
    }
}

impl Server {
    /// Opens the stores, binds every address, and serves. When this returns, clients can connect.
    pub async fn start(settings: &Settings) -> anyhow::Result<Server> {
        allow_open_files(settings.limits.connections);
        place::create_directory(&settings.data)?;
        let Stores { accounts, archives } =
            backend::open(&settings.data, Some(settings), Access::Make).await?;
        let tls = tls::load(&settings.domains, &settings.data)?;
        let limits = mammoth_archive::Limits {
            page_max: settings.archive.page_max as usize,
            ..mammoth_archive::Limits::default()
        };
        let archive = Archive::open(archives, limits).await.context("cannot open the archives")?;
        let house = Arc::new(House::new(server_settings(settings), archive, accounts));

        let mut listeners = Vec::new();
        let mut addresses = Vec::new();
        for (kind, wanted) in wanted_addresses(settings) {
            let socket = bind(kind, wanted).await?;
            addresses.push((kind, socket.local_addr()?));
            let tls = || tls.as_ref().context("there is no certificate to listen with");
            let door = match kind {
                Kind::C2s => Door::StartTls(tls()?.starttls.clone()),
                Kind::C2sTls => Door::Tls(tls()?.direct.clone()),
                Kind::C2sPlain | Kind::Metrics => Door::Plain,
            };
            listeners.push(Listener { socket, door });
        }
        let metrics = match settings.listen.metrics {
            Some(wanted) => {
                let socket = bind(Kind::Metrics, wanted).await?;
                addresses.push((Kind::Metrics, socket.local_addr()?));
                Some(socket)
            }
            None => None,
        };
        let socket = AdminSocket::bind(&settings.data)
            .with_context(|| format!("cannot listen on {}", settings.data.join(admin::SOCKET).display()))?;

        for (kind, address) in &addresses {
            tracing::info!(listener = kind.key(), %address, "listening");
        }
        let domains: Vec<&str> = settings.domains.iter().map(|domain| domain.name.as_str()).collect();
        tracing::info!(domains = domains.join(" "), version = env!("CARGO_PKG_VERSION"), "ready");
        let admin = tokio::spawn(administer::serve(socket, house.clone()));
        let (stop, stopped) = watch::channel(false);
        let running = tokio::spawn(mammoth_server::run(house.clone(), listeners, metrics, stopped));
        Ok(Server { addresses, house, tls, stop, running, admin })
    }

    /// Reads the certificates again, for those who connect from now on.
    fn reload_certificates(&self, settings: &Settings) {
        let Some(tls) = &self.tls else { return };
        match tls.reload(&settings.domains, &settings.data) {
            Ok(()) => tracing::info!("the certificates have been read again"),
            Err(error) => tracing::error!(error = format!("{error:#}"), "the certificates stay as they were"),
        }
    }

    /// Ends every session, makes what is under way durable, and returns.
    pub async fn stop(self) {
        self.admin.abort();
        let _ = self.stop.send(true);
        if let Err(error) = self.running.await {
            tracing::error!(%error, "the server did not stop cleanly");
        }
        let _ = self.admin.await;
    }
}

/// Files that are open besides one for each connection: listeners, the store, the log.
const OTHER_FILES: u64 = 512;

/// Raises this process's limit on open files as far as the connections need it and the system allows.
fn allow_open_files(connections: usize) {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let wanted = connections as u64 + OTHER_FILES;
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= wanted) {
        return;
    }
    let allowed = limit.maximum.map_or(wanted, |maximum| maximum.min(wanted));
    let raised = setrlimit(Resource::Nofile, Rlimit { current: Some(allowed), ..limit });
    if allowed < wanted || raised.is_err() {
        tracing::warn!(
            allowed,
            wanted,
            "fewer files may be open than limits.connections needs; see ulimit -n"
        );
    }
}

fn wanted_addresses(settings: &Settings) -> impl Iterator<Item = (Kind, SocketAddr)> {
    let listen = &settings.listen;
    let of =
        |kind, addresses: &[SocketAddr]| addresses.iter().map(|address| (kind, *address)).collect::<Vec<_>>();
    let mut all = of(Kind::C2s, &listen.c2s);
    all.extend(of(Kind::C2sTls, &listen.c2s_tls));
    all.extend(of(Kind::C2sPlain, &listen.c2s_plain));
    all.into_iter()
}

async fn bind(kind: Kind, address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address} ({})", kind.key()))
}

/// The configuration in the server's own terms.
fn server_settings(settings: &Settings) -> mammoth_server::Settings {
    let modules = settings.modules;
    let switches = [
        (Module::Mam, modules.mam),
        (Module::Carbons, modules.carbons),
        (Module::Roster, modules.roster),
        (Module::Ping, modules.ping),
        (Module::Version, modules.version),
    ];
    mammoth_server::Settings {
        domains: settings.domains.iter().map(|domain| domain.name.to_string()).collect(),
        modules: switches.into_iter().filter(|(_, on)| *on).map(|(module, _)| module).collect(),
        default_policy: settings.archive.default_policy,
        expires_after: settings.archive.expires_after,
        quota: settings.archive.quota,
        allow_trim: settings.archive.allow_trim,
        expiry_interval_seconds: settings.archive.expiry_interval.as_secs(),
        limits: mammoth_server::Limits {
            connections: settings.limits.connections,
            sessions_per_account: settings.limits.sessions_per_account,
            stanza_bytes: settings.limits.stanza_bytes,
            login_seconds: settings.limits.login_seconds,
            in_flight: settings.limits.messages_in_flight,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_modules_of_the_configuration_are_those_of_the_server() {
        let ours: std::collections::BTreeSet<&str> = crate::config::keys::MODULES.iter().copied().collect();
        assert_eq!(ours, Module::ALL.iter().map(|module| module.name()).collect());
        let settings = Settings::parse(
            "t".as_ref(),
            "domain = \"localhost\"\nmodules_enabled = [\"mam\", \"ping\"]",
            [],
        )
        .unwrap();
        assert_eq!(server_settings(&settings).modules, [Module::Mam, Module::Ping].into());
    }
}
