//! The news of an attempt for others: that it began, and what became of it. Who tells them never waits.

use std::sync::Arc;

use contract::lineage::Lineage;
use contract::{Clock, Error, RunId};

use crate::lineage::{Attempted, Emitter, State, Told, run_event};
use crate::runs::Finished;

/// An attempt that others were told of. Dropped before its end was told, it was ended from outside.
pub(super) struct News {
    emitter: Emitter,
    clock: Arc<dyn Clock>,
    run: RunId,
    key: String,
    told: Told,
    over: bool,
}

impl News {
    /// Tells that an attempt begins. `told` is what is known of it by now.
    pub(super) fn begin(
        emitter: &Emitter,
        clock: &Arc<dyn Clock>,
        (run, key): (RunId, &str),
        told: Told,
    ) -> News {
        let (emitter, clock, key) = (emitter.clone(), clock.clone(), key.to_owned());
        let news = News { emitter, clock, run, key, told, over: false };
        news.tell(State::Start);
        news
    }

    fn tell(&self, state: State<'_>) {
        let of = Attempted { run: self.run, key: &self.key, told: &self.told };
        self.emitter.offer(run_event(state, &of, self.clock.wall(), self.emitter.namespace()));
    }

    /// Tells what became of it. `said`: what the attempt itself told, of which one that failed shows what was read.
    pub(super) fn end(mut self, ended: Result<&Finished, &Error>, said: Lineage) {
        self.over = true;
        let fact = ended.ok().and_then(|f| f.lineage.as_deref());
        if let Some(told) = fact.and_then(|f| serde_json::from_str(&f.fact.body).ok()) {
            self.told = told;
        } else {
            self.told.lineage.add(Lineage { outputs: Vec::new(), ..said });
        }
        let failed = match ended {
            // What is missing from a result that is kept is the stage's contract's affair.
            Ok(finished) => finished.result.as_ref().err().filter(|_| !finished.partial),
            Err(e) => Some(e),
        };
        self.tell(failed.map_or(State::Complete, State::Fail));
    }
}

impl Drop for News {
    fn drop(&mut self) {
        if !self.over {
            self.tell(State::Abort);
        }
    }
}
