//! Who else is told of what was made of what: OpenLineage events to an address and a file, as the configuration says.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use contract::Clock;
use pipeline::lineage::{Emitter, Receivers};
use pipeline::outside::Call as _;
use pipeline::task::{self, Task};

use crate::Error;
use crate::config::Config;

/// How long the last events are waited for.
const FLUSH: Duration = Duration::from_secs(5);

/// Events on their way. They end with this.
#[derive(Debug)]
pub struct Telling {
    emitter: Emitter,
    worker: Task<()>,
}

/// Begins to tell, when the configuration says whom. Needs a runtime.
///
/// # Errors
/// An address that cannot be asked.
pub fn start(project: &Path, config: &Config, clock: Arc<dyn Clock>) -> Result<Option<Telling>, Error> {
    let c = &config.lineage;
    if c.url.is_none() && c.file.is_none() {
        return Ok(None);
    }
    // Whoever wrote the configuration named the address: it may be of a private network.
    let call = webhooks::Caller::new(true, clock);
    if let Some(url) = &c.url {
        let help = "correct `lineage.url` in forebay.yaml";
        call.check(url).map_err(|why| Error::new(format!("`lineage.url` cannot be told: {why}"), help))?;
    }
    let to = Receivers {
        url: c.url.clone(),
        api_key: c.api_key.clone(),
        file: c.file.as_ref().map(|file| project.join(file)),
    };
    let (emitter, work) = Emitter::new(&c.namespace, to, Some(Arc::new(call)));
    Ok(Some(Telling { emitter, worker: task::spawn("lineage", work) }))
}

impl Telling {
    /// Where stages leave events.
    pub fn emitter(&self) -> Emitter {
        self.emitter.clone()
    }

    /// Brings what is left, for at most five seconds.
    pub async fn close(self) {
        self.emitter.close();
        if tokio::time::timeout(FLUSH, self.worker).await.is_err() {
            tracing::warn!("not all events of lineage were taken in time");
        }
        let sent = self.emitter.sent();
        if sent.dropped > 0 {
            tracing::warn!(sent.sent, sent.dropped, "events of lineage were dropped");
        }
    }
}
