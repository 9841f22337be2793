//! What is seen of answers and labels, for the rollouts that are under way.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use contract::{BoxFuture, Error};
use predict::observe::{Answered, Arm, Observer, Told};

use super::Rolling;
use super::shadow::Copy;

impl Observer for Rolling {
    fn is_idle(&self) -> bool {
        !self.0.busy.load(Ordering::Relaxed)
    }

    fn answered(&self, answered: &Arc<Answered>) {
        let Some(of) = self.known(&answered.model) else { return };
        let Some(table) = of.table.load_full() else { return };
        of.collector.lock().answered(answered);
        // What the champion answered is asked again of those that are not heard.
        if matches!(answered.arm, Arm::Champion | Arm::Control) && answered.error.is_none() {
            for challenger in table.shadows() {
                let copy = Copy { challenger: challenger.into(), answered: answered.clone() };
                if of.copies.try_send(copy).is_err() {
                    of.collector.lock().dropped(challenger);
                    *of.dropped.lock().entry(challenger.to_owned()).or_default() += 1;
                }
            }
        }
    }

    fn told<'a>(&'a self, told: &'a [Told]) -> BoxFuture<'a, Result<(), Error>> {
        let all: Vec<_> = self.0.of.lock().values().cloned().collect();
        for of in all.iter().filter(|of| of.table.load().is_some()) {
            let mut collector = of.collector.lock();
            told.iter().for_each(|one| collector.told(one));
        }
        Box::pin(std::future::ready(Ok(())))
    }
}
