//! Commands of `exec` stages are at home in MLflow: they are given where tracking is, a token that is good for as long as they run, and
//! what ties the runs they begin to the run and the stage that they are part of.
//!
//! The variables are those that MLflow's own clients know. Runs that a command left open when it ended are ended with it.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use contract::{Attempt, BoxFuture, Clock, TenantId};
use gateway::{Current, Latest, Listening, Pass, Passes, serve_commands};
use pipeline::exec::{Noted, Notes};
use pipeline::task::{self, Task};
use serde_json::json;
use store::tracking::{RunUpdate, Search, Tracking};
use tokio::sync::OnceCell;

/// The tag that names the attempt of a run.
const ATTEMPT: &str = "forebay.attempt";
/// Runs and experiments that are looked at behind a command.
const MOST: u64 = 1_000;

/// Where commands note what they try. Clones are the same.
#[derive(Clone)]
pub(crate) struct Noting(Arc<Inner>);

struct Inner {
    tracking: Tracking,
    clock: Arc<dyn Clock>,
    served: OnceLock<Latest>,
    passes: Passes,
    /// The port, once a command was begun.
    port: OnceCell<(SocketAddr, Task<()>)>,
}

impl Noting {
    /// Nobody comes in before [`Noting::serve`].
    pub(crate) fn new(tracking: Tracking, clock: Arc<dyn Clock>) -> Noting {
        let (served, passes, port) = (OnceLock::new(), Passes::default(), OnceCell::new());
        Noting(Arc::new(Inner { tracking, clock, served, passes, port }))
    }

    /// From now on commands find tracking there.
    pub(crate) fn serve(&self, current: &Current) {
        let _ = self.0.served.set(current.downgrade());
    }

    /// Where it listens.
    async fn address(&self) -> Option<SocketAddr> {
        let served = self.0.served.get()?.clone();
        let begun = self.0.port.get_or_try_init(async || {
            let listening = Listening::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await?;
            let address = listening.address;
            let serve = serve_commands(served, listening, self.0.passes.clone());
            Ok::<_, std::io::Error>((address, task::spawn("tracking for commands", serve)))
        });
        let begun = begun.await.inspect_err(|e| tracing::warn!(error = %e, "commands find no tracking"));
        begun.ok().map(|(address, _)| *address)
    }
}

impl Notes for Noting {
    fn open<'a>(
        &'a self,
        tenant: &'a TenantId,
        attempt: &'a Attempt,
        stage: &'a str,
    ) -> BoxFuture<'a, Option<Box<dyn Noted>>> {
        Box::pin(async move {
            let address = self.address().await?;
            let mut random = [0; 32];
            store::os_random(&mut random).ok()?;
            let token: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
            let pass = self.0.passes.give(tenant.clone(), token);
            let attempts = format!("{}/{}/{}", attempt.effect, attempt.number, attempt.again);
            let mark = blake3::hash(attempts.as_bytes()).to_hex().chars().take(32).collect();
            let tags = json!({
                "forebay.run": attempt.run.to_string(),
                "forebay.pipeline": attempt.pipeline.as_str(),
                "forebay.stage": stage,
                ATTEMPT: mark,
            });
            let env = vec![
                ("MLFLOW_TRACKING_URI".to_owned(), format!("http://{address}"), false),
                ("MLFLOW_TRACKING_TOKEN".to_owned(), pass.token().to_owned(), true),
                ("MLFLOW_EXPERIMENT_NAME".to_owned(), attempt.pipeline.as_str().to_owned(), false),
                ("MLFLOW_RUN_CONTEXT".to_owned(), tags.to_string(), false),
            ];
            let left = Left { noting: self.clone(), tenant: tenant.clone(), mark };
            Some(Box::new(Open { left, pass, env, ended: AtomicBool::new(false) }) as Box<dyn Noted>)
        })
    }
}

/// What an attempt's command notes.
struct Open {
    left: Left,
    pass: Pass,
    env: Vec<(String, String, bool)>,
    ended: AtomicBool,
}

impl Noted for Open {
    fn env(&self) -> Vec<(String, String, bool)> {
        self.env.clone()
    }

    fn ended<'a>(&'a self, well: bool) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            if self.pass.is_used() {
                self.left.end(well).await;
            }
            self.ended.store(true, Ordering::Relaxed);
        })
    }
}

impl Drop for Open {
    /// A command that was cut is ended, and what it began with it.
    fn drop(&mut self) {
        if self.pass.is_used() && !self.ended.load(Ordering::Relaxed) {
            let left = self.left.clone();
            task::beside("end tracked runs", async move { left.end(false).await });
        }
    }
}

/// The runs that a command left open.
#[derive(Clone)]
struct Left {
    noting: Noting,
    tenant: TenantId,
    mark: String,
}

impl Left {
    async fn end(&self, well: bool) {
        if let Err(error) = self.end_runs(well).await {
            tracing::warn!(%error, "tracked runs of a command stay open");
        }
    }

    async fn end_runs(&self, well: bool) -> Result<(), store::Error> {
        let of = self.noting.0.tracking.of(&self.tenant);
        let now = self.noting.0.clock.wall().0;
        let all = Search { most: MOST, ..Search::default() };
        let experiments = of.search_experiments(&all, now).await?;
        let ids: Vec<i64> = experiments.items.iter().map(|e| e.id).collect();
        let filter = format!("tags.`{ATTEMPT}` = '{}' AND attributes.status = 'RUNNING'", self.mark);
        let open = of.search_runs(&ids, &Search { filter, ..all }).await?;
        let status = if well { "FINISHED" } else { "FAILED" };
        for run in open.items {
            let update = RunUpdate { status: Some(status.to_owned()), ended_at: Some(now), name: None };
            of.update_run(&run.info.id, &update).await?;
        }
        Ok(())
    }
}
