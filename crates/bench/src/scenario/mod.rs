//! The scenarios, one file each. What they share is here: the server, the accounts' names and where results go.

pub mod catchup;
pub mod cold;
pub mod depth;
pub mod fill;
pub mod idle;
pub mod ingest;
pub mod limits;
pub mod mixed;
pub mod null;
pub mod page;
pub mod pair;

use std::sync::Arc;

use anyhow::Result;
use tokio::{sync::Semaphore, task::JoinSet};

use crate::{conn::Conn, login::Target, result::Recorder, text::Plan};

/// Logins under way at the same time.
const LOGINS_AT_ONCE: usize = 16;

/// What every scenario needs.
#[derive(Debug)]
pub struct Bench {
    /// The server under load.
    pub target: Arc<Target>,
    /// Where results go.
    pub recorder: Recorder,
    /// What all account names begin with.
    pub prefix: String,
}

impl Bench {
    /// The account of a role, such as `a17`.
    pub fn account(&self, role: &str, number: u64) -> String {
        account(&self.prefix, role, number)
    }

    /// The archive of this depth.
    pub fn plan(&self, depth: u64, contacts: u64) -> Plan {
        Plan { owner: self.account("o", depth), depth, contacts }
    }

    /// Logs in all of these accounts, some at a time, and makes them available.
    ///
    /// # Errors
    /// One of them cannot log in.
    pub async fn log_in(&self, names: Vec<String>) -> Result<Vec<Conn>> {
        let gate = Arc::new(Semaphore::new(LOGINS_AT_ONCE));
        let mut tasks = JoinSet::new();
        for (i, name) in names.into_iter().enumerate() {
            let (gate, target) = (Arc::clone(&gate), Arc::clone(&self.target));
            tasks.spawn(async move {
                let _permit = gate.acquire().await?;
                Ok::<_, anyhow::Error>((i, target.available(&name).await?))
            });
        }
        let mut conns = Vec::new();
        while let Some(joined) = tasks.join_next().await {
            conns.push(joined??);
        }
        conns.sort_by_key(|(i, _)| *i);
        Ok(conns.into_iter().map(|(_, conn)| conn).collect())
    }
}

/// The name of an account.
pub fn account(prefix: &str, role: &str, number: u64) -> String {
    format!("{prefix}{role}{number}")
}
