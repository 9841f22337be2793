//! Materialising: what the datasets hold of a view becomes what is asked online.
//!
//! A version is taken over up to a time, the present one unless told, and never behind that of the last time. What was there before and was
//! not taken away since is not read again: only the files that were added are, or all of them when rows were passed over whose
//! time has come since. Rows are brought together aside, written as a file, and then offered piece by piece: whoever asks meanwhile
//! waits for a piece at most.

use std::sync::Arc;

use contract::UnixMillis;
use pipeline::task;

use crate::dataset::Rows;
use crate::features::join::failed;
use crate::features::online::disk::{Taken, write_rows};
use crate::features::online::table::{Shape, Table};
use crate::features::online::{Online, ViewStore, crashed, micros};
use crate::features::rows::Resolved;
use crate::{At, Error, store};

/// Files of a view before they are put together.
const FILES: usize = 8;

/// What came of a materialisation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Materialized {
    /// The view.
    pub view: String,
    /// The versions of its datasets that are online now.
    pub versions: Vec<(String, u64)>,
    /// Rows that were read.
    pub read: u64,
    /// Entities that they are of.
    pub entities: u64,
    /// Whether all of it was read, and not only what was added.
    pub whole: bool,
}

/// What a look at some rows gave.
struct Brought {
    table: Table,
    due: Option<i64>,
    read: u64,
}

impl Online {
    /// Brings views up to the newest versions of their datasets; all of them when none is named. Rows that are known later than
    /// `until` are left for the next time; the present when it is not given or lies ahead.
    ///
    /// # Errors
    /// [`Error::NoView`]; of the first view that fails, as for reading. What was online stays then.
    pub async fn materialize(
        &self,
        views: &[String],
        until: Option<UnixMillis>,
    ) -> Result<Vec<Materialized>, Error> {
        let mut stores = Vec::new();
        for name in views {
            stores.push(Arc::clone(self.view(name)?));
        }
        if views.is_empty() {
            stores.extend(self.views.values().map(Arc::clone));
        }
        let mut done = Vec::with_capacity(stores.len());
        for store in stores {
            done.push(Box::pin(self.refresh(&store, until)).await?);
        }
        Ok(done)
    }

    async fn refresh(
        &self,
        store: &Arc<ViewStore>,
        until: Option<UnixMillis>,
    ) -> Result<Materialized, Error> {
        let _turn = store.turn.lock().await;
        let resolved = self.warehouse.resolve_view(&store.view, &At::Newest).await?;
        let shape = Shape::of(&store.view, resolved.columns.clone());
        let same = store.live.read().as_ref().is_some_and(|live| *live.shape == shape);
        if !same {
            let (store, shape) = (Arc::clone(store), shape.clone());
            task::blocking("features-shape", move || store.reshape(shape)).await.map_err(crashed)??;
        }
        let wall = self.warehouse.inner.clock.wall();
        let before = store.disk.lock().manifest.dataset.clone();
        let last = before.as_ref().map_or(i64::MIN, |taken| taken.at);
        let at = until.map_or(wall, |until| until.min(wall));
        let at = micros(at).max(last);
        let mut taken = Taken {
            versions: resolved.versions.clone(),
            at,
            wall: wall.0,
            due: None,
            files: before.as_ref().map(|taken| taken.files.clone()).unwrap_or_default(),
        };
        let added = match &before {
            None => None,
            Some(before) => self.added(store, before, &resolved).await?,
        };
        let whole = added.is_none();
        let due = before.as_ref().and_then(|taken| taken.due);
        let brought = match added {
            Some(files) if files.is_empty() && due.is_none_or(|due| due > at) => {
                taken.due = due;
                None
            }
            // Rows whose time has come may be in any file.
            Some(files) if due.is_none_or(|due| due > at) => {
                let session = self.warehouse.session();
                let (name, version) =
                    resolved.versions.first().ok_or_else(|| Error::Query("no dataset".to_owned()))?;
                let frame = self.warehouse.dataset(name)?.files_frame(&session, &files, *version).await?;
                let wanted: Vec<_> = resolved.columns.names().map(datafusion::prelude::ident).collect();
                let frame = frame.select(wanted).map_err(|e| store::query("read features", &e))?;
                let brought =
                    self.bring(Rows::run(frame, resolved.columns.clone()).await?, &shape, at).await?;
                taken.due = [due, brought.due].into_iter().flatten().min();
                Some(brought)
            }
            _ => {
                let frame = self.warehouse.view_frame(&store.view, &resolved, Ok).await?;
                let brought =
                    self.bring(Rows::run(frame, resolved.columns.clone()).await?, &shape, at).await?;
                taken.due = brought.due;
                Some(brought)
            }
        };
        let (read, entities) = brought.as_ref().map_or((0, 0), |b| (b.read, b.table.len() as u64));
        let (store, versions) = (Arc::clone(store), resolved.versions);
        let view = store.view.name().to_owned();
        let landing = task::blocking("features-land", move || store.land(&shape, taken, brought, whole));
        landing.await.map_err(crashed)??;
        Ok(Materialized { view, versions, read, entities, whole })
    }

    /// The files that were added since, if nothing else happened; nothing of a query, unless nothing happened at all.
    async fn added(
        &self,
        store: &ViewStore,
        before: &Taken,
        now: &Resolved,
    ) -> Result<Option<Vec<String>>, Error> {
        if before.versions == now.versions {
            return Ok(Some(Vec::new()));
        }
        match (&store.view.config().sql, before.versions.as_slice(), now.versions.as_slice()) {
            (None, [(ours, from)], [(theirs, to)]) if ours == theirs && from < to => {
                self.warehouse.dataset(theirs)?.added_since(*from, *to).await
            }
            _ => Ok(None),
        }
    }

    async fn bring(&self, mut rows: Rows, shape: &Shape, at: i64) -> Result<Brought, Error> {
        let mut brought = Brought { table: Table::new(shape), due: None, read: 0 };
        while let Some(batch) = rows.next_arrow().await? {
            let shape = shape.clone();
            let step = task::blocking("features-bring", move || {
                let (known, later) = shape.rows(&batch)?.known(at, &shape)?;
                drop(brought.table.offer(&known)?);
                brought.due = [brought.due, later].into_iter().flatten().min();
                brought.read += batch.num_rows() as u64;
                Ok(brought)
            });
            brought = step.await.map_err(crashed)?.map_err(failed)?;
        }
        Ok(brought)
    }
}

impl ViewStore {
    /// Keeps what was brought, and shows it. Blocks.
    fn land(
        &self,
        shape: &Shape,
        mut taken: Taken,
        brought: Option<Brought>,
        whole: bool,
    ) -> Result<(), Error> {
        let table = brought.map(|brought| brought.table).filter(|table| whole || table.len() > 0);
        if whole {
            taken.files.clear();
        }
        if let Some(table) = &table {
            let (name, path) = self.disk.lock().next_file();
            write_rows(&path, shape, (0..table.pieces()).map(|piece| table.piece(piece)))?;
            taken.files.push(name);
        }
        let many = taken.files.len() > FILES;
        self.commit(taken)?;
        match table {
            None => {}
            Some(table) if whole => {
                self.swap(table)?;
            }
            Some(table) => {
                for piece in 0..table.pieces() {
                    let rows = table.piece(piece).map_err(failed)?;
                    if let Some(live) = self.live.write().as_mut() {
                        live.bring(&rows).map_err(failed)?;
                    }
                }
            }
        }
        if many {
            self.put_together(shape)?;
        }
        Ok(())
    }

    /// Shows a table in the place of all rows of the datasets.
    fn swap(&self, table: Table) -> Result<(), Error> {
        let mut live = self.live.write();
        if let Some(live) = live.as_mut() {
            let mut both = 0;
            for piece in 0..live.pushed.pieces() {
                let rows = live.pushed.piece(piece).map_err(failed)?;
                let all: Vec<usize> = (0..rows.stamps.len()).collect();
                both += table.has(&rows, &all);
            }
            live.replace(table, both);
        }
        Ok(())
    }

    fn commit(&self, taken: Taken) -> Result<(), Error> {
        let mut disk = self.disk.lock();
        let mut manifest = disk.manifest.clone();
        if manifest.shape().is_none()
            && let Some(live) = self.live.read().as_ref()
        {
            manifest.set_shape(&live.shape);
        }
        manifest.dataset = Some(taken);
        disk.commit(manifest)?;
        self.tell(&disk);
        Ok(())
    }

    /// Writes the files of a view as one. Only materialising changes these rows, and this is its turn. Blocks.
    fn put_together(&self, shape: &Shape) -> Result<(), Error> {
        let (name, path) = self.disk.lock().next_file();
        let pieces = self.live.read().as_ref().map_or(0, |live| live.dataset.pieces());
        let piece = |at: usize| match self.live.read().as_ref() {
            Some(live) => live.dataset.piece(at),
            None => Err(arrow::error::ArrowError::ComputeError("the view is gone".to_owned())),
        };
        write_rows(&path, shape, (0..pieces).map(piece))?;
        let taken = self.disk.lock().manifest.dataset.clone();
        match taken {
            Some(taken) => self.commit(Taken { files: vec![name], ..taken }),
            None => Ok(()),
        }
    }
}
