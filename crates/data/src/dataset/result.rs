//! The rows that a change results in, as far as they are known before it is made: what is said of a dataset as a whole (`unique`)
//! is said of them, and not of the new rows.
//!
//! They hold against one version of the dataset. Who decides by them commits on top of that version or not at all ([`On::Seen`]).

use datafusion::prelude::{DataFrame, SessionContext, ident};
use deltalake::DeltaTable;

use crate::dataset::merge::{known, without};
use crate::dataset::{Dataset, How};
use crate::expect::{Check, Suite};
use crate::{Error, Schema, store};

/// What rows are put on top of.
#[derive(Debug, Clone)]
pub(crate) enum On {
    /// Whatever is newest.
    Newest,
    /// That version, or nothing where there was none: when another came since, the change is refused as a conflict.
    Seen(Option<DeltaTable>),
}

/// Whether expectations can be met by new rows, and not by those there are afterwards.
pub(super) fn depends(suite: &Suite, how: &How) -> bool {
    *how != How::Overwrite && suite.expected.iter().any(|e| matches!(e.check, Check::Unique(_)))
}

impl Dataset {
    /// What becomes of the rows of `base` and new ones under `schema`.
    ///
    /// # Errors
    /// [`Error::Invalid`] when they have other columns than the rows they come to, or not those of the key.
    pub(super) async fn result(
        &self,
        session: &SessionContext,
        base: Option<&DeltaTable>,
        how: &How,
        (new, schema): (DataFrame, &Schema),
    ) -> Result<DataFrame, Error> {
        let Some(base) = base.filter(|_| *how != How::Overwrite) else { return Ok(new) };
        self.fits(&self.schema_of(base)?, schema)?;
        let failed = |e| store::query("look at the rows", &e);
        let held = self.frame(session, base).await?;
        let staying = match how {
            How::Merge { key } => {
                known(key, schema)?;
                without(held, new.clone(), schema, key).map_err(failed)?
            }
            How::Append | How::Overwrite => held,
        };
        let columns = || schema.names().map(ident).collect::<Vec<_>>();
        let new = new.select(columns()).map_err(failed)?;
        staying.select(columns()).and_then(|staying| staying.union(new)).map_err(failed)
    }
}
