//! What is kept of a view: opened, pushed into, taken over into files, brought under other columns.
//!
//! **Invariant.** Nobody who asks waits for a disk: what is shown is locked for as long as memory is changed or a piece of it
//! copied, and never while anything is written. Whoever changes what is kept holds `disk`, so that nothing is pushed meanwhile and the
//! columns stay what they are; rows whose time comes are taken in by whoever asks.

use std::path::PathBuf;
use std::sync::Arc;

use contract::Clock;
use parking_lot::{Mutex, RwLock};

use crate::dataset::On;
use crate::features::join::failed;
use crate::features::online::disk::{Disk, write_rows};
use crate::features::online::table::{Offers, Shape};
use crate::features::online::{Columns, Live, Mode, PENDING, ViewStore, micros, push};
use crate::features::view::{FeatureView, Kind};
use crate::{At, Change, Error, Rows, Warehouse};

/// A journal that has grown to this many bytes is taken over into a file.
const GROWN: usize = 16 << 20;
/// How often a reader begins anew because the writer replaced what it reads.
const LOOKS: usize = 5;

impl ViewStore {
    /// Blocks.
    pub(super) fn open(
        view: FeatureView,
        clock: Arc<dyn Clock>,
        folder: PathBuf,
        shape: Option<Shape>,
        mode: Mode,
    ) -> Result<ViewStore, Error> {
        let now = micros(clock.wall());
        let mut looks = 0;
        let (mut disk, live) = loop {
            let disk = Disk::read(folder.clone())?;
            let known = disk.manifest.shape().filter(|kept| names(&view).eq(kept.columns.names()));
            let shape = shape.clone().or(known);
            let live = match shape {
                None => Some(None),
                Some(shape) => load(&disk, shape, now)?.map(Some),
            };
            match live {
                Some(live) => break (disk, live),
                None if looks < LOOKS => looks += 1,
                None => {
                    return Err(Error::Storage {
                        doing: "read the online features",
                        why: format!("files of `{}` are missing", folder.display()),
                    });
                }
            }
        };
        if mode == Mode::Write {
            disk.write()?;
        }
        let store = ViewStore {
            view,
            clock,
            live: RwLock::new(live),
            taken: RwLock::new(disk.manifest.dataset.clone()),
            disk: Mutex::new(disk),
            turn: tokio::sync::Mutex::new(()),
        };
        if mode == Mode::Write {
            store.settle()?;
        }
        Ok(store)
    }

    /// After opening: what was read under other columns is written under these, and a long journal taken over.
    fn settle(&self) -> Result<(), Error> {
        let mut disk = self.disk.lock();
        let shape = self.live.read().as_ref().map(|live| Arc::clone(&live.shape));
        let other = shape.is_some_and(|shape| disk.manifest.shape().is_some_and(|kept| kept != *shape));
        if other {
            disk.manifest.dataset = None;
            self.take_over(&mut disk)?;
        }
        Ok(())
    }

    /// Finds out the columns, if nobody knows them yet.
    pub(super) async fn learn(&self, warehouse: &Warehouse) -> Result<(), Error> {
        if self.live.read().is_some() {
            return Ok(());
        }
        let resolved = match warehouse.resolve_view(&self.view, &At::Newest).await {
            Ok(resolved) => resolved,
            Err(Error::NoDataset { .. }) => return Err(self.unknown()),
            Err(error) => return Err(error),
        };
        self.reshape(Shape::of(&self.view, resolved.columns))
    }

    /// Goes on under these columns: nothing is materialised under them yet, and what was pushed is brought to them. Blocks.
    pub(super) fn reshape(&self, shape: Shape) -> Result<(), Error> {
        self.check(&shape)?;
        let mut disk = self.disk.lock();
        if self.live.read().as_ref().is_some_and(|live| *live.shape == shape) {
            return Ok(());
        }
        let new = load(&disk, shape, micros(self.clock.wall()))?.ok_or_else(|| Error::Storage {
            doing: "read the online features",
            why: "files of theirs are missing".to_owned(),
        })?;
        disk.manifest.dataset = None;
        let waiting: Vec<Offers> = new.pending.values().flatten().cloned().collect();
        let pieces = (0..new.pushed.pieces()).map(|piece| new.pushed.piece(piece));
        self.write_down(&mut disk, &new.shape, pieces.chain(waiting.into_iter().map(Ok)))?;
        *self.live.write() = Some(new);
        Ok(())
    }

    /// The times of the view have to be comparable with now.
    fn check(&self, shape: &Shape) -> Result<(), Error> {
        let what = ["the event time beside now", "the ingest time beside now"];
        let times = shape.columns.columns.iter().skip(shape.keys).take(1 + usize::from(shape.has_ingest));
        for (time, what) in times.zip(what) {
            Kind::of(time)?.comparable(Kind::Instant, &self.view, what)?;
        }
        Ok(())
    }

    pub(super) fn offers(&self, rows: &Columns, now: i64) -> Result<Offers, Error> {
        let shape = match self.live.read().as_ref() {
            Some(live) => Arc::clone(&live.shape),
            None => return Err(self.unknown()),
        };
        self.check(&shape)?;
        push::offers(&self.view, &shape, rows, now)
    }

    /// Keeps pushed rows and shows them. Blocks.
    pub(super) fn take(&self, rows: Offers, now: i64) -> Result<(), Error> {
        let mut disk = self.disk.lock();
        let shape = self.room(&rows, now)?;
        if disk.manifest.shape().is_none() {
            let mut manifest = disk.manifest.clone();
            manifest.set_shape(&shape);
            disk.commit(manifest)?;
        }
        disk.append(&shape, &rows)?;
        match self.live.write().as_mut() {
            Some(live) => live.take(rows, now).map_err(failed)?,
            None => return Err(self.unknown()),
        }
        if disk.grown >= GROWN { self.take_over(&mut disk) } else { Ok(()) }
    }

    /// Whether there is room for the rows whose time has not come, and the columns they are kept under.
    fn room(&self, rows: &Offers, now: i64) -> Result<Arc<Shape>, Error> {
        let mut guard = self.live.write();
        let Some(live) = guard.as_mut() else { return Err(self.unknown()) };
        let later = rows.stamps.iter().filter(|stamp| stamp.known() > now).count();
        live.promote(now).map_err(failed)?;
        if live.waiting + later > PENDING {
            let why = format!("more than {PENDING} rows would wait for a time that has not come");
            return Err(Error::invalid(format!("the rows for the feature view `{}`", self.view.name()), why));
        }
        Ok(Arc::clone(&live.shape))
    }

    /// Writes what was pushed as a file, and lets the journal begin anew behind it. Blocks.
    fn take_over(&self, disk: &mut Disk) -> Result<(), Error> {
        let seen = self.live.read().as_ref().map(|live| {
            let waiting: Vec<Offers> = live.pending.values().flatten().cloned().collect();
            (Arc::clone(&live.shape), live.pushed.pieces(), waiting)
        });
        let Some((shape, pieces, waiting)) = seen else { return Ok(()) };
        // Who waits is written too: whatever is promoted while the pieces are copied is there at least once.
        let piece = |at: usize| match self.live.read().as_ref() {
            Some(live) => live.pushed.piece(at),
            None => Err(arrow::error::ArrowError::ComputeError("the view is gone".to_owned())),
        };
        self.write_down(disk, &shape, (0..pieces).map(piece).chain(waiting.into_iter().map(Ok)))
    }

    fn write_down(
        &self,
        disk: &mut Disk,
        shape: &Shape,
        rows: impl Iterator<Item = Result<Offers, arrow::error::ArrowError>>,
    ) -> Result<(), Error> {
        let mut manifest = disk.manifest.clone();
        manifest.set_shape(shape);
        manifest.journal = disk.end();
        manifest.pushed.clear();
        let mut rows = rows.peekable();
        if rows.peek().is_some() {
            let (name, path) = disk.next_file();
            write_rows(&path, shape, rows)?;
            manifest.pushed.push(name);
        }
        disk.commit(manifest)?;
        disk.grown = 0;
        self.tell(disk);
        Ok(())
    }

    /// What was taken over from the datasets, for whoever asks how the view is doing.
    pub(super) fn tell(&self, disk: &Disk) {
        self.taken.write().clone_from(&disk.manifest.dataset);
    }
}

/// The columns that a configuration names, in the order of a shape.
fn names(view: &FeatureView) -> impl Iterator<Item = &str> {
    let config = view.config();
    let times = std::iter::once(&config.event_time).chain(&config.ingest_time);
    config.keys.iter().chain(times).chain(&config.features).map(String::as_str)
}

/// What is kept, under these columns. `None` when files went meanwhile. Blocks.
fn load(disk: &Disk, shape: Shape, now: i64) -> Result<Option<Live>, Error> {
    let mut live = Live::new(shape);
    let (manifest, shape) = (&disk.manifest, Arc::clone(&live.shape));
    let kept = manifest.shape();
    if let Some(kept) = &kept {
        let mut lost = 0;
        let pushed = disk.rows(&manifest.pushed, kept, |rows| {
            let count = rows.stamps.len();
            match push::converted(rows, kept, &shape) {
                Some(rows) => {
                    lost += count - rows.stamps.len();
                    live.take(rows, now)
                }
                None => {
                    lost += count;
                    Ok(())
                }
            }
        })?;
        if pushed.is_none() {
            return Ok(None);
        }
        if lost > 0 {
            tracing::warn!(lost, "pushed features had keys that the view does not have any more");
        }
        if *kept == *shape
            && let Some(taken) = &manifest.dataset
            && disk.rows(&taken.files, kept, |rows| live.bring(&rows))?.is_none()
        {
            return Ok(None);
        }
    }
    for record in disk.journaled()? {
        if let Some(rows) = push::replayed(&shape, record) {
            live.take(rows, now).map_err(failed)?;
        }
    }
    Ok(Some(live))
}

impl super::Online {
    /// Appends pushed rows to the view's dataset, and says which version has them.
    pub(super) async fn push_offline(
        &self,
        view: &FeatureView,
        mut rows: Columns,
        now: i64,
    ) -> Result<u64, Error> {
        let config = view.config();
        if config.sql.is_some() {
            let why = "its rows come from a query, which nothing can be added to; push online alone";
            return Err(Error::invalid(format!("the push to the datasets of `{}`", view.name()), why));
        }
        let dataset = self.warehouse.dataset(&config.dataset)?;
        let schema = dataset.schema_of(&dataset.existing().await?)?;
        let count = push::rows(&rows)?;
        let stamp = |micros: i64| {
            chrono::DateTime::from_timestamp_micros(micros).map_or(serde_json::Value::Null, |at| {
                at.to_rfc3339_opts(chrono::SecondsFormat::Micros, true).into()
            })
        };
        // What Feast calls the times goes where the dataset has them.
        for (name, theirs) in std::iter::once((&config.event_time, "event_timestamp"))
            .chain(config.ingest_time.iter().map(|name| (name, "created")))
        {
            if push::named(&rows, name).is_none()
                && let Some((alias, _)) = rows.iter_mut().find(|(alias, _)| alias == theirs)
            {
                alias.clone_from(name);
            }
        }
        if let Some(ingest) = &config.ingest_time {
            match rows.iter_mut().find(|(name, _)| name == ingest) {
                Some((_, values)) => {
                    values.iter_mut().filter(|value| value.is_null()).for_each(|value| *value = stamp(now));
                }
                None => rows.push((ingest.clone(), vec![stamp(now); count])),
            }
        }
        let mut columns = Vec::with_capacity(schema.columns.len());
        for column in &schema.columns {
            columns.push(match push::named(&rows, &column.name) {
                Some(values) => push::array(column, values)?,
                None => arrow::array::new_null_array(&column.ty.to_arrow(), count),
            });
        }
        let batch = arrow::array::RecordBatch::try_new(schema.to_arrow(), columns).map_err(failed)?;
        let rows = Rows::made(schema, std::iter::once(Ok(batch)));
        let change = Change { message: Some("pushed features".to_owned()), ..Change::default() };
        let put = dataset.put(rows, &change, String::new(), (On::Newest, &|_| {}));
        Ok(Box::pin(put).await?.version)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use contract::{ManualClock, UnixMillis};
    use serde_json::json;

    use crate::features::online::{Ask, Columns, Mode, Online, To};
    use crate::features::{FeatureView, FeatureViewConfig};
    use crate::{Change, Settings, Source, Warehouse};

    /// Where the store would write its first manifest a pipe stands that nobody reads: opening it takes as long as we like.
    #[tokio::test(flavor = "multi_thread")]
    async fn nobody_who_asks_waits_for_what_a_push_writes() {
        let folder = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::starting_at(UnixMillis(1_000_000)));
        let root = folder.path().join("warehouse");
        let warehouse = Warehouse::open(root.to_str().unwrap(), clock, Settings::default()).unwrap();
        let file = folder.path().join("x.csv");
        std::fs::write(&file, "k,at,x\n1,1970-01-01T00:00:01Z,5\n").unwrap();
        warehouse.dataset("x").unwrap().add(&Source::file(&file), &Change::default()).await.unwrap();
        let config: FeatureViewConfig = serde_json::from_value(
            json!({"dataset": "x", "keys": ["k"], "event_time": "at", "features": ["x"]}),
        )
        .unwrap();
        let views = vec![FeatureView::new("v", config).unwrap()];
        let kept = folder.path().join("kept");
        let online = Online::open(&warehouse, &kept, views, Mode::Write).await.unwrap();
        let online = Arc::new(online);
        let pipe = kept.join("v").join("manifest.new");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        let rows: Columns = vec![
            ("k".into(), vec![json!(1)]),
            ("at".into(), vec![json!("1970-01-01T00:00:02Z")]),
            ("x".into(), vec![json!(7)]),
        ];
        let pushing = pipeline::task::spawn("push", {
            let online = Arc::clone(&online);
            async move { online.push("v", rows, To::Online).await }
        });
        let store = Arc::clone(online.view("v").unwrap());
        while store.disk.try_lock().is_some() {
            tokio::task::yield_now().await;
        }
        let features = [("v".to_owned(), "x".to_owned())];
        let entities: Columns = vec![("k".into(), vec![json!(1)])];
        for _ in 0..1000 {
            online.get(&Ask { features: &features, entities: &entities }).unwrap();
            assert_eq!(online.states()[0].materialized, None);
            tokio::task::yield_now().await;
        }
        assert!(store.disk.try_lock().is_none(), "it still writes");
        drop(std::fs::File::open(&pipe).unwrap());
        assert!(pushing.await.unwrap().is_err(), "a pipe keeps nothing");
    }
}
