//! What a version is like, in one pass over it; columns that look like keys are grouped once more to be sure.

use crate::dataset::unique::duplicates;
use crate::dataset::validate::partitions;
use crate::dataset::{At, Dataset, explained};
use crate::expect::{Config, Expectation, Given, Kind, Plan, Profile, Scope, Sketch, Suite, Unique, propose};
use crate::{Error, store};

impl Dataset {
    /// Describes a version and proposes expectations that it meets.
    ///
    /// # Errors
    /// [`Error::NoDataset`], [`Error::NoVersion`], [`Error::Storage`], [`Error::Memory`].
    pub async fn profile(&self, at: &At) -> Result<Profile, Error> {
        let version = self.resolve(at).await?;
        match Box::pin(self.described(version)).await {
            Err(error) => Err(explained(&[(self.clone(), version)], error).await),
            profile => profile,
        }
    }

    async fn described(&self, version: u64) -> Result<Profile, Error> {
        let table = self.at_version(version).await?;
        let schema = self.schema_of(&table)?;
        let session = self.warehouse.session();
        let frame = self.frame(&session, &table).await?;
        let columns: Vec<_> = schema.names().map(datafusion::prelude::ident).collect();
        let all = frame.clone().select(columns).map_err(|e| store::query("profile the rows", &e))?;
        let mut sketch = Sketch::new(&schema);
        let fresh = || Sketch::new(&schema);
        for part in
            partitions(all, &schema.to_arrow(), fresh, |sketch: &mut Sketch, batch| sketch.add(batch)).await?
        {
            sketch.merge(part);
        }
        let keys = sketch.keys(&schema);
        let check = |name: &String| Expectation {
            unique: Some(Unique { columns: vec![name.clone()] }),
            ..Expectation::default()
        };
        let suite = Suite::new(&Config { expectations: keys.iter().map(check).collect() })?;
        let plan = Plan::new(&session, suite, &schema, Given::default(), Scope::Change)?;
        let found = duplicates(&frame, &plan, &schema, Default::default()).await?;
        let single = plan.kinds().zip(found.values()).filter(|(_, duplicates)| duplicates.rows == 0);
        let unique: Vec<String> = single
            .filter_map(|(kind, _)| match kind {
                Kind::Unique(columns) => columns.first().cloned(),
                _ => None,
            })
            .collect();
        let now_ms = self.warehouse.inner.clock.wall().0;
        Ok(propose(&sketch, &schema, version, &unique, now_ms))
    }
}
