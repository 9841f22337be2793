//! Rows that were held back, added after all: because the expectation was wrong, or because somebody answers for them.

use datafusion::prelude::{ident, lit};
use serde::Serialize;

use crate::dataset::add::Pending;
use crate::dataset::commit::{Refused, Replace};
use crate::dataset::quarantine::Entries;
use crate::dataset::stage::{Stager, remove};
use crate::dataset::{Added, Change, Dataset, Gate, Gated, How, Rows, number};
use crate::source::{Origin, Source};
use crate::{Error, store};

/// What came of a release.
#[derive(Debug, Serialize)]
pub struct Released {
    /// Rows of the attempt that were in quarantine.
    pub held: u64,
    /// What was expected of them; `None` when nobody looked.
    pub gated: Option<Gated>,
    /// What was added; `None` when they were refused again, and are still held back.
    #[serde(skip)]
    pub added: Option<Added>,
}

impl Dataset {
    /// Adds the rows that an attempt left in quarantine, and takes them out of it: behind the gate, or without one. When they are
    /// refused they stay there as they are; where a gate lets some of them in, the others are there again, under the new attempt. If the process ends between the two steps the rows are
    /// in both; the log and the quarantine name the attempt.
    ///
    /// # Errors
    /// As [`Dataset::add`]; [`Error::Invalid`] for an attempt that left no rows, or rows with lists or structs.
    pub async fn release(
        &self,
        attempt: &str,
        change: &Change,
        gate: Option<&Gate>,
    ) -> Result<Released, Error> {
        let failed = |e| store::query("read the quarantine", &e);
        let none = || {
            let why = "it left no rows in quarantine; `forebay data quarantine list` shows those that did";
            Error::invalid(format!("the attempt `{attempt}`"), why)
        };
        let aside = self.aside()?;
        let Some(table) = aside.current().await? else { return Err(none()) };
        let session = self.warehouse.session();
        let own = ident("attempt").eq(lit(attempt)).and(ident("row").is_not_null());
        let frame = aside.frame(&session, &table).await?.filter(own).map_err(failed)?;
        let spool = self.spool().map_err(unwritten)?;
        let held = spooled(Rows::run(frame, Entries::schema()).await?, spool.path()).await?;
        if held == 0 {
            return Err(none());
        }
        let origin = Origin { name: format!("quarantine of attempt {attempt}"), ..Origin::default() };
        let source = Source { origin: Some(origin), ..Source::file(spool.path()) };
        let (gated, added) = match gate {
            Some(gate) => {
                let mut gated = Box::pin(self.checked(&source, change, gate, Some(attempt))).await?;
                let added = gated.added.take();
                (Some(gated), added)
            }
            None => (None, Some(Box::pin(self.add(&source, change)).await?)),
        };
        if added.is_some() {
            aside.forget(attempt).await?;
        }
        Ok(Released { held, gated, added })
    }

    /// A file for rows on their way, where the warehouse puts what it does not keep.
    fn spool(&self) -> std::io::Result<tempfile::NamedTempFile> {
        let mut file = tempfile::Builder::new();
        file.prefix("forebay-release-").suffix(".jsonl");
        match &self.warehouse.inner.settings.spill {
            None => file.tempfile(),
            Some(folder) => {
                std::fs::create_dir_all(folder)?;
                file.tempfile_in(folder)
            }
        }
    }

    /// Takes the rows of an attempt out of this quarantine. Its older versions keep them until `gc`.
    async fn forget(&self, attempt: &str) -> Result<(), Error> {
        const ATTEMPTS: usize = 8;
        let failed = |e| store::query("read the quarantine", &e);
        let change = Change {
            how: How::Overwrite,
            who: None,
            message: Some(format!("the rows of attempt {attempt} were released")),
            effect: None,
            lineage: None,
        };
        let schema = Entries::schema();
        let mut theirs = 0;
        for _ in 0..ATTEMPTS {
            let table = self.existing().await?;
            let session = self.warehouse.session();
            let others = ident("attempt").not_eq(lit(attempt));
            let frame = self.frame(&session, &table).await?.filter(others).map_err(failed)?;
            let mut rows = Rows::run(frame, schema.clone()).await?;
            let mut stager = Stager::new(self, &table, &schema, true)?;
            while let Some(batch) = rows.next_arrow().await? {
                stager.write(&batch, &self.name).await?;
            }
            let staged = stager.finish(&self.name).await?;
            let pending = Pending {
                change: &change,
                source: String::new(),
                origin: None,
                schema: schema.clone(),
                read: staged.fingerprint.rows,
                checked: None,
                held: None,
                pinned: false,
            };
            let facts = self.facts_of(&staged.fingerprint, &pending);
            match self.commit(&table, &staged, Replace::Everything, &schema, &facts).await {
                Ok(_) => return Ok(()),
                Err(refused) => {
                    remove(&*self.store(), &staged.files).await;
                    match refused {
                        // Somebody put more rows aside meanwhile.
                        Refused::Taken => theirs = number(&table) + 1,
                        Refused::Failed(error) => return Err(error),
                    }
                }
            }
        }
        Err(Error::Conflict { dataset: self.name.to_string(), base: theirs.saturating_sub(1), theirs })
    }
}

fn unwritten(error: std::io::Error) -> Error {
    Error::Storage { doing: "write down the rows", why: error.to_string() }
}

/// Writes the `row` of each entry as a line of JSON; says how many there were.
async fn spooled(mut entries: Rows, to: &std::path::Path) -> Result<u64, Error> {
    use std::io::Write as _;
    let mut file = std::io::BufWriter::new(std::fs::File::create(to).map_err(unwritten)?);
    let mut count = 0;
    while let Some(batch) = entries.next().await? {
        for entry in batch.to_json() {
            if let Some(row) = entry.get("row").and_then(serde_json::Value::as_str) {
                writeln!(file, "{row}").map_err(unwritten)?;
                count += 1;
            }
        }
    }
    file.flush().map_err(unwritten)?;
    Ok(count)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use contract::{ManualClock, UnixMillis};

    use crate::{Settings, Warehouse};

    #[test]
    fn rows_on_their_way_lie_where_the_warehouse_puts_what_it_does_not_keep() {
        let folder = tempfile::tempdir().unwrap();
        let spill = folder.path().join("aside");
        let settings = Settings { spill: Some(spill.clone()), ..Settings::default() };
        let clock = Arc::new(ManualClock::starting_at(UnixMillis(1)));
        let root = folder.path().join("warehouse");
        let warehouse = Warehouse::open(root.to_str().unwrap(), clock, settings).unwrap();
        let spool = warehouse.dataset("x").unwrap().spool().unwrap();
        assert_eq!(spool.path().parent().unwrap(), spill);
    }
}
