//! Rows that were worked out here (by a query, a join, or of another dataset) as a new version.

use crate::batch::conform;
use crate::dataset::add::Pending;
use crate::dataset::stage::{Staged, Stager};
use crate::dataset::{Added, Change, Dataset, How, On, Rows};
use crate::{Error, Schema};

/// Told how many rows were taken so far.
pub(crate) type Told<'a> = &'a (dyn Fn(u64) + Send + Sync);

impl Dataset {
    /// Adds rows as they are made: [`Dataset::add`] without a file.
    ///
    /// # Errors
    /// As [`Dataset::add`]; [`Error::Conflict`] when `on` is not the newest any more; [`Error::Invalid`] when they have other columns than the rows they come to.
    pub(crate) async fn put(
        &self,
        rows: Rows,
        change: &Change,
        source: String,
        (on, told): (On, Told<'_>),
    ) -> Result<Added, Error> {
        let (base, pinned) = match on {
            On::Newest => (self.current().await?, false),
            On::Seen(base) => (base, true),
        };
        let schema = match (&base, &change.how) {
            (Some(base), How::Append | How::Merge { .. }) => {
                let schema = self.schema_of(base)?;
                self.fits(&schema, rows.schema())?;
                schema
            }
            _ => rows.schema().clone(),
        };
        let table = match &base {
            Some(table) => table.clone(),
            None => self.table()?,
        };
        let stager = Stager::new(self, &table, &schema, true)?;
        let staged = Box::pin(self.take(rows, stager, &schema, told)).await?;
        let read = staged.fingerprint.rows;
        let pending =
            Pending { change, source, origin: None, schema, read, checked: None, held: None, pinned };
        Box::pin(self.settle(base, table, staged, &pending)).await
    }

    /// Writes rows as files. After an error there are none.
    async fn take(
        &self,
        mut rows: Rows,
        mut stager: Stager,
        schema: &Schema,
        told: Told<'_>,
    ) -> Result<Staged, Error> {
        let mut taken = 0;
        loop {
            let step = match rows.next_arrow().await {
                Ok(None) => break,
                Ok(Some(batch)) => match conform(&batch, schema) {
                    Ok(batch) => {
                        taken += batch.num_rows() as u64;
                        told(taken);
                        stager.write(&batch, &self.name).await
                    }
                    Err((column, why)) => Err(Error::Query(format!("the column `{column}`: {why}"))),
                },
                Err(error) => Err(error),
            };
            if let Err(error) = step {
                stager.discard().await;
                return Err(error);
            }
        }
        stager.finish(&self.name).await
    }

    /// The same columns of the same types, whatever their order.
    pub(super) fn fits(&self, held: &Schema, new: &Schema) -> Result<(), Error> {
        let mut wrong: Vec<String> = Vec::new();
        for column in &held.columns {
            match new.column(&column.name) {
                None => wrong.push(format!("`{}` is missing", column.name)),
                Some(own) if own.ty != column.ty => {
                    wrong
                        .push(format!("`{}` is {} there and {} in the rows", column.name, column.ty, own.ty));
                }
                Some(_) => {}
            }
        }
        let more = new.columns.iter().filter(|c| held.column(&c.name).is_none());
        wrong.extend(more.map(|c| format!("`{}` is not there", c.name)));
        if wrong.is_empty() {
            return Ok(());
        }
        let remedy = "bring the rows to the dataset's columns, or overwrite it to change them";
        Err(Error::invalid(
            format!("the rows for `{}`", self.name),
            format!("its columns are others: {}; {remedy}", wrong.join(", ")),
        ))
    }
}
