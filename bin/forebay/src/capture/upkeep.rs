//! Datasets of answers grow by a small file with each version, for ever: now and then their files are put together, rows that are older
//! than the configuration keeps them are taken out, and what nobody can need any more leaves the disk.

use std::collections::BTreeMap;
use std::num::NonZeroU64;
use std::sync::Weak;
use std::time::Duration;

use contract::UnixMillis;
use data::{Compact, Dataset, Gc};

use super::{FEEDBACK, Seen, dataset};

/// Files below this are put together.
const TARGET: NonZeroU64 = NonZeroU64::MIN.saturating_add((16 << 20) - 1);
/// As soon as there are so many; and after so many versions there is a look.
const FILES: usize = 32;
/// Files that the newest version does not need stay for readers of older ones for this long, where rows are not to go sooner.
const GRACE: Duration = Duration::from_secs(3_600);
/// The longest that rows stay which are to go.
const LATEST: Duration = Duration::from_secs(86_400);

/// What is known of a dataset.
#[derive(Default)]
struct Tended {
    /// Versions since the last look; the first one comes at once.
    versions: Option<usize>,
    /// When rows were looked for that are too old.
    expired: Option<i64>,
}

/// Tends the datasets that grow.
pub(super) struct Upkeep {
    seen: Weak<Seen>,
    all: BTreeMap<String, Tended>,
}

impl Upkeep {
    pub(super) fn new(seen: Weak<Seen>) -> Upkeep {
        Upkeep { seen, all: BTreeMap::new() }
    }

    /// A dataset has another version.
    pub(super) async fn grown(&mut self, of: &Dataset, now: UnixMillis) {
        let keep = self.keep(of.name());
        let known = self.all.entry(of.name().to_owned()).or_default();
        let versions = known.versions.map_or(FILES, |n| n + 1);
        known.versions = Some(versions % FILES);
        let mut changed = false;
        if versions >= FILES {
            match of.compact(Compact { target: TARGET, at_least: FILES }).await {
                Ok(fewer) => changed |= fewer > 0,
                Err(error) => tracing::warn!(%error, "small files of what is kept of answers stay"),
            }
        }
        let grace = match keep {
            None => GRACE,
            Some(keep) => {
                let slack = millis(keep / 10).clamp(1, millis(LATEST));
                if known.expired.is_none_or(|last| now.0.saturating_sub(last) >= slack) {
                    known.expired = Some(now.0);
                    changed = true;
                    let before = UnixMillis(now.0.saturating_sub(millis(keep)));
                    match of.expire("at", before, "capture").await {
                        Ok(None) => {}
                        Ok(Some(expired)) => {
                            tracing::info!(dataset = %of.name(), rows = expired.rows, "rows of answers are as old as they are kept, and go");
                        }
                        Err(error) => tracing::warn!(%error, "answers that are too old stay for now"),
                    }
                }
                GRACE.min(keep / 10)
            }
        };
        if changed && let Err(error) = of.gc(&Gc { older_than: grace, dry_run: false }).await {
            tracing::warn!(%error, "files that nobody needs stay");
        }
    }

    /// How long rows of a dataset are kept: feedback for as long as the answers that it may be of.
    fn keep(&self, of: &str) -> Option<Duration> {
        let models = self.seen.upgrade()?.models.lock().clone();
        let keep = |(_, config): (&String, &super::CaptureConfig)| config.keep.map(|keep| keep.0);
        if of == FEEDBACK {
            return models.iter().map(keep).collect::<Option<Vec<_>>>()?.into_iter().max();
        }
        models.iter().find(|(name, _)| dataset(name) == of).and_then(keep)
    }
}

fn millis(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}
