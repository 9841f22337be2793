//! New rows, and with them a new version.

use contract::lineage::Lineage;
use deltalake::DeltaTable;
use deltalake::kernel::Add;

use crate::dataset::commit::{Refused, Replace};
use crate::dataset::facts::Facts;
use crate::dataset::stage::{Staged, remove};
use crate::dataset::{Dataset, number};
use crate::fingerprint::{Fingerprint, Key, Name};
use crate::source::{Origin, Source};
use crate::{Error, Schema};

/// How new rows go together with those there are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum How {
    /// Below them.
    #[default]
    Append,
    /// In their place.
    Overwrite,
    /// A row takes the place of the one with the same key, or comes below when there is none.
    Merge {
        /// The columns of the key. In the new rows it is unique and never null.
        key: Vec<String>,
    },
}

impl How {
    fn as_str(&self) -> &'static str {
        match self {
            How::Append => "append",
            How::Overwrite => "overwrite",
            How::Merge { .. } => "merge",
        }
    }
}

/// A change somebody makes, and what is to be remembered of it.
#[derive(Debug, Clone, Default)]
pub struct Change {
    /// How.
    pub how: How,
    /// Who makes it.
    pub who: Option<String>,
    /// Why.
    pub message: Option<String>,
    /// What makes it, when it must not be made twice although it may be tried again.
    pub effect: Option<Effect>,
    /// What it is made of: its inputs, and of one output, whatever that is called, the columns, when anything is known of them.
    pub lineage: Option<Lineage>,
}

/// The key of an effect: a change under it is made once. It is written into the commit, and whoever comes with it again is given
/// the version that is there, however old it is. What is made so is made of its own input alone, so an overwrite under a key takes the place of
/// whatever is there, also of what another writer committed meanwhile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Effect {
    /// The key, equal for all attempts at one effect and for nothing else.
    pub key: String,
}

/// What came of a change.
#[derive(Debug, Clone)]
pub struct Added {
    /// The version that holds the result.
    pub version: u64,
    /// Its content name.
    pub name: Name,
    /// Rows in it.
    pub rows: u64,
    /// Rows of the source.
    pub read: u64,
    /// Of a merge: rows that took another's place.
    pub replaced: u64,
    /// Whether the version is new. It is not when the result is what the dataset already held.
    pub new: bool,
    /// The columns.
    pub schema: Schema,
    /// What the change that made it said that it is made of.
    pub(crate) lineage: Option<Lineage>,
    /// Whether it was put on the version before, whose rows are in it.
    pub(crate) grown: bool,
}

/// How often an append starts over because somebody else was faster.
const ATTEMPTS: usize = 32;

impl Dataset {
    /// Adds the rows of a source, all or none of them: until the commit, readers see the previous version, and after an
    /// error too.
    ///
    /// An append by two writers at once yields both, in some order. An overwrite or a merge that meets another writer is
    /// refused, because it was made against rows that are not the newest any more.
    ///
    /// # Errors
    /// [`Error::Source`] with the place for what is wrong with the source, [`Error::Conflict`], [`Error::Storage`],
    /// [`Error::NoDataset`] for a merge into nothing.
    pub async fn add(&self, source: &Source, change: &Change) -> Result<Added, Error> {
        let base = self.current().await?;
        let schema = self.schema_for(base.as_ref(), source, &change.how).await?;
        let table = match &base {
            Some(table) => table.clone(),
            None => self.table()?,
        };
        let staged = self.stage(&table, source, &schema).await?;
        let read = staged.fingerprint.rows;
        let (origin, source) = (source.origin.clone(), source.describe());
        let pending =
            Pending { change, source, origin, schema, read, checked: None, held: None, pinned: false };
        Box::pin(self.settle(base, table, staged, &pending)).await
    }

    /// Makes staged rows a version; when that does not come about, takes their files back.
    pub(super) async fn settle(
        &self,
        base: Option<DeltaTable>,
        table: DeltaTable,
        staged: Staged,
        pending: &Pending<'_>,
    ) -> Result<Added, Error> {
        let files = staged.files.clone();
        let result = match (&pending.change.how, base) {
            (How::Merge { key }, Some(base)) => self.merge(base, staged, pending, key).await,
            (How::Merge { key }, None) => match self.check_key(&staged, pending, key).await {
                Ok(()) => self.land(table, staged, pending).await,
                Err(error) => Err(error),
            },
            (How::Append | How::Overwrite, _) => self.land(table, staged, pending).await,
        };
        if !matches!(&result, Ok(added) if added.new) {
            remove(&*self.store(), &files).await;
        }
        result
    }

    /// The columns the source is read as: those of the dataset, unless they are replaced.
    pub(super) async fn schema_for(
        &self,
        base: Option<&DeltaTable>,
        source: &Source,
        how: &How,
    ) -> Result<Schema, Error> {
        if let (Some(base), How::Append | How::Merge { .. }) = (base, how) {
            let schema = self.schema_of(base)?;
            for (name, declared) in &source.types {
                if let Some(column) = schema.column(name)
                    && column.ty != *declared
                {
                    let why = format!("the dataset has {} there; overwrite it to change a type", column.ty);
                    return Err(Error::invalid(format!("the declared type `{name}: {declared}`"), why));
                }
            }
            return Ok(schema);
        }
        let source = source.clone();
        let inferring = pipeline::task::blocking("data-infer", move || source.infer());
        match inferring.await {
            Ok(schema) => schema,
            Err(crashed) => Err(self.defect("infer the columns for", &crashed.to_string())),
        }
    }

    /// Commits an append or an overwrite.
    pub(super) async fn land(
        &self,
        mut table: DeltaTable,
        staged: Staged,
        pending: &Pending<'_>,
    ) -> Result<Added, Error> {
        let replace = match pending.change.how {
            How::Overwrite => Replace::Everything,
            How::Append | How::Merge { .. } => Replace::Nothing,
        };
        let turn = self.warehouse.inner.turns.wait(&self.name).await;
        // What was to be added to the version before is added to the newest; whatever was looked at is looked at no further.
        let adds = pending.change.how == How::Append && !pending.pinned && table.version().is_some();
        if turn.waited && adds {
            table = self.newer(&table, pending).await?;
        }
        for _ in 0..ATTEMPTS {
            let exists = table.version().is_some();
            if let Some(done) = self.made(&table, pending.change.effect.as_ref()).await? {
                return Ok(done);
            }
            if exists
                && let Some(held) = &pending.held
                && let Some(done) = self.held(&table, held).await?
            {
                return Ok(done);
            }
            let before = match replace {
                Replace::Nothing if exists => self.fingerprint(&table).await?,
                _ => Fingerprint::default(),
            };
            let after = before.plus(staged.fingerprint);
            if exists && let Some(same) = self.unchanged(&table, &after, &staged, replace, pending).await? {
                return Ok(same);
            }
            let facts = self.facts_of(&after, pending);
            let done = if exists {
                self.commit(&table, &staged, replace, &pending.schema, &facts).await
            } else {
                self.create(&table, &staged, &pending.schema, &facts).await
            };
            match done {
                Ok(version) => return Ok(pending.added(version, &after, 0, true)),
                Err(Refused::Failed(error)) => return Err(error),
                Err(Refused::Taken) => table = self.newer(&table, pending).await?,
            }
        }
        let theirs = number(&table);
        Err(Error::Conflict { dataset: self.name.to_string(), base: theirs, theirs })
    }

    /// The newest version, if what was to be committed to another one may be committed to it.
    async fn newer(&self, table: &DeltaTable, pending: &Pending<'_>) -> Result<DeltaTable, Error> {
        let newest = self.existing().await?;
        let (base, theirs) = (number(table), number(&newest));
        // Rows can be added to other rows; they cannot take the place of rows that nobody has looked at.
        let stands = match pending.change.how {
            How::Overwrite => pending.change.effect.is_some(),
            How::Append => self.schema_of(&newest)? == pending.schema,
            // It was to be the first version, and there are rows to be merged with now.
            How::Merge { .. } => false,
        };
        if pending.pinned || !stands {
            return Err(Error::Conflict { dataset: self.name.to_string(), base, theirs });
        }
        Ok(newest)
    }

    /// The version there is, when the change would only make it again.
    async fn unchanged(
        &self,
        table: &DeltaTable,
        after: &Fingerprint,
        staged: &Staged,
        replace: Replace,
        pending: &Pending<'_>,
    ) -> Result<Option<Added>, Error> {
        let same = |held: &Fingerprint| {
            held == after && self.schema_of(table).is_ok_and(|s| same_columns(&s, &pending.schema))
        };
        let nothing = replace == Replace::Nothing && staged.fingerprint.rows == 0;
        if !nothing {
            if replace == Replace::Nothing || !same(&self.fingerprint(table).await?) {
                return Ok(None);
            }
            if !self.same_rows(table, &staged.files, &pending.schema).await? {
                return Ok(None);
            }
        }
        Ok(Some(pending.added(number(table), after, 0, false)))
    }

    pub(super) fn facts_of(&self, after: &Fingerprint, pending: &Pending<'_>) -> Facts {
        let how = pending.change.how.as_str();
        let mut facts =
            Facts::new(after, &pending.schema, how, pending.read, self.warehouse.inner.clock.wall().0);
        facts.source = Some(pending.source.clone()).filter(|s| !s.is_empty());
        facts.origin.clone_from(&pending.origin);
        facts.who.clone_from(&pending.change.who);
        facts.message.clone_from(&pending.change.message);
        facts.checked.clone_from(&pending.checked);
        facts.held.clone_from(&pending.held);
        facts.effect = pending.change.effect.as_ref().map(|effect| effect.key.clone());
        facts.lineage = pending.change.lineage.as_ref().and_then(crate::lineage::kept);
        facts
    }

    pub(super) fn defect(&self, doing: &'static str, why: &str) -> Error {
        Error::Table { doing, dataset: self.name.to_string(), why: why.to_owned() }
    }

    /// Whether files hold the rows of a version. A name is no proof (see `fingerprint`): the rows themselves are compared,
    /// under a key that nobody knew.
    pub(super) async fn same_rows(
        &self,
        table: &DeltaTable,
        files: &[Add],
        schema: &Schema,
    ) -> Result<bool, Error> {
        let Some(key) = Key::random() else { return Ok(false) };
        Ok(self.add_up(table, key).await? == self.add_up_files(files, schema, key).await?)
    }

    async fn add_up_files(&self, files: &[Add], schema: &Schema, key: Key) -> Result<Fingerprint, Error> {
        let session = self.warehouse.session();
        let frame = self.staged_frame(&session, files, schema).await?;
        let mut rows = super::Rows::run(frame, schema.clone()).await?;
        let mut adder = crate::fingerprint::Adder::new(key);
        while let Some(batch) = rows.next_arrow().await? {
            adder.add(&batch);
        }
        Ok(adder.total())
    }
}

/// The same columns, whatever their order.
fn same_columns(a: &Schema, b: &Schema) -> bool {
    crate::fingerprint::schema_hash(a) == crate::fingerprint::schema_hash(b)
}

/// A change whose rows are staged.
pub(super) struct Pending<'a> {
    pub(super) change: &'a Change,
    pub(super) source: String,
    pub(super) origin: Option<Origin>,
    pub(super) schema: Schema,
    /// Rows of the source.
    pub(super) read: u64,
    /// The attempt at a gate that let it through.
    pub(super) checked: Option<String>,
    /// Of entries of a quarantine: the name of what they say.
    pub(super) held: Option<String>,
    /// Whether it holds only against the version that was current when it was looked at.
    pub(super) pinned: bool,
}

impl Pending<'_> {
    pub(super) fn added(&self, version: u64, after: &Fingerprint, replaced: u64, new: bool) -> Added {
        let (name, schema) = (after.name(&self.schema), self.schema.clone());
        let grown = new && self.change.how != How::Overwrite;
        let lineage = self.change.lineage.clone();
        Added { version, name, rows: after.rows, read: self.read, replaced, new, schema, lineage, grown }
    }
}
