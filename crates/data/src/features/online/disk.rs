//! What the online store keeps of a view on disk, below one folder:
//!
//! - `manifest.json`: which of the other files count. It is replaced as a whole, so that each state is there or is not;
//! - `*.arrow`: rows, one an entity, as they were materialised or pushed;
//! - `journal/`: rows that were pushed since, a record for each push, each acknowledged by one `write(2)` that a `kill -9`
//!   cannot undo. A torn tail is cut.
//!
//! Rows are offered again when the store is opened; in which order does not matter (`table`), and neither does whether some
//! come twice. So a crash at any point leaves the state before or after, and perhaps files that nobody names, which the next
//! writer removes.

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ::store::journal::{self, Journal, Limits, Position, RealDisk, frame};
use arrow::ipc::reader::FileReader;
use arrow::ipc::writer::FileWriter;
use serde::{Deserialize, Serialize};

use crate::features::online::table::{Offers, Shape};
use crate::{Column, Error, Schema};

const MANIFEST: &str = "manifest.json";
/// Raised when older programs cannot read what is written.
const FORMAT: u32 = 1;

/// What counts.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Manifest {
    format: u32,
    /// Names and types of the columns, as in [`Shape`].
    columns: Vec<(String, String)>,
    keys: usize,
    has_ingest: bool,
    pub(super) dataset: Option<Taken>,
    /// Files of pushed rows.
    pub(super) pushed: Vec<String>,
    /// Where the journal goes on behind them: segment and offset.
    pub(super) journal: (u64, u64),
    /// The number of the next file.
    next: u64,
}

/// What was taken over from the datasets.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Taken {
    pub(super) versions: Vec<(String, u64)>,
    /// Up to which time, in microseconds.
    pub(super) at: i64,
    /// When, in milliseconds.
    pub(super) wall: i64,
    /// When the first of the rows that were not known yet will be, in microseconds.
    pub(super) due: Option<i64>,
    pub(super) files: Vec<String>,
}

impl Manifest {
    pub(super) fn shape(&self) -> Option<Shape> {
        let column =
            |(name, ty): &(String, String)| Some(Column { name: name.clone(), ty: ty.parse().ok()? });
        let columns: Vec<Column> = self.columns.iter().map(column).collect::<Option<_>>()?;
        let shape = Shape { columns: Schema { columns }, keys: self.keys, has_ingest: self.has_ingest };
        (!self.columns.is_empty()).then_some(shape)
    }

    pub(super) fn set_shape(&mut self, shape: &Shape) {
        self.columns = shape.columns.columns.iter().map(|c| (c.name.clone(), c.ty.to_string())).collect();
        (self.keys, self.has_ingest) = (shape.keys, shape.has_ingest);
    }

    fn names(&self) -> impl Iterator<Item = &String> {
        self.pushed.iter().chain(self.dataset.iter().flat_map(|taken| &taken.files))
    }
}

/// A push, as the journal has it.
#[derive(Serialize, Deserialize)]
struct Record {
    /// The columns of the rows as they are kept: names, for a view whose columns change.
    columns: Vec<String>,
    /// A list of values for each column.
    values: Vec<Vec<serde_json::Value>>,
    /// In microseconds, a pair for each row.
    stamps: Vec<(i64, i64)>,
}

/// Rows of a journal, their values still as JSON.
pub(super) struct Journaled {
    pub(super) columns: Vec<(String, Vec<serde_json::Value>)>,
    pub(super) stamps: Vec<(i64, i64)>,
}

/// The folder of a view.
pub(super) struct Disk {
    folder: PathBuf,
    pub(super) manifest: Manifest,
    journal: Option<Journal>,
    /// Bytes that were appended to the journal since it was last taken over.
    pub(super) grown: usize,
}

fn failed(doing: &'static str, path: &Path) -> impl Fn(std::io::Error) -> Error {
    move |e| Error::Storage { doing, why: format!("`{}`: {e}", path.display()) }
}

fn other(e: impl std::fmt::Display) -> std::io::Error {
    std::io::Error::other(e.to_string())
}

impl Disk {
    /// Reads what counts, and nothing else. Blocks.
    pub(super) fn read(folder: PathBuf) -> Result<Disk, Error> {
        let path = folder.join(MANIFEST);
        let manifest = match std::fs::read(&path) {
            Ok(bytes) => {
                let read: Manifest = serde_json::from_slice(&bytes)
                    .map_err(|e| failed("read the online features", &path)(other(e)))?;
                if read.format > FORMAT {
                    let why = "a newer forebay wrote it; upgrade this one";
                    return Err(failed("read the online features", &path)(other(why)));
                }
                read
            }
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Manifest::default(),
            Err(e) => return Err(failed("read the online features", &path)(e)),
        };
        Ok(Disk { folder, manifest, journal: None, grown: 0 })
    }

    /// Becomes the writer: files that nobody names go. Whoever calls holds the lock. Blocks.
    pub(super) fn write(&mut self) -> Result<(), Error> {
        std::fs::create_dir_all(&self.folder).map_err(failed("keep the online features", &self.folder))?;
        let entries =
            std::fs::read_dir(&self.folder).map_err(failed("keep the online features", &self.folder))?;
        for entry in entries.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let rows = name.ends_with(".arrow") || name.ends_with(".new");
            if rows && !self.manifest.names().any(|named| *named == name) {
                let _ = std::fs::remove_file(entry.path());
            }
        }
        let journal = Journal::open(
            &self.folder.join("journal"),
            self.manifest.journal.0,
            Arc::new(RealDisk),
            Limits::default(),
        );
        self.journal = Some(journal.map_err(|e| Error::Storage {
            doing: "open the journal of pushed features",
            why: e.to_string(),
        })?);
        Ok(())
    }

    /// A name for a new file of rows, and where it is.
    pub(super) fn next_file(&mut self) -> (String, PathBuf) {
        let name = format!("{:08}.arrow", self.manifest.next);
        self.manifest.next += 1;
        (name.clone(), self.folder.join(name))
    }

    /// Makes what is in memory count, and removes the files that no longer do. Blocks.
    pub(super) fn commit(&mut self, manifest: Manifest) -> Result<(), Error> {
        let path = self.folder.join(MANIFEST);
        let manifest = Manifest { format: FORMAT, next: self.manifest.next, ..manifest };
        let new = self.folder.join("manifest.new");
        let written = || -> std::io::Result<()> {
            let mut file = File::create(&new)?;
            file.write_all(&serde_json::to_vec_pretty(&manifest)?)?;
            file.sync_all()?;
            std::fs::rename(&new, &path)?;
            // The name too survives a power cut.
            File::open(&self.folder)?.sync_all()
        };
        written().map_err(failed("keep the online features", &path))?;
        let before = std::mem::replace(&mut self.manifest, manifest);
        for name in before.names().filter(|name| !self.manifest.names().any(|named| named == *name)) {
            let _ = std::fs::remove_file(self.folder.join(name));
        }
        if before.journal != self.manifest.journal
            && let Some(journal) = &self.journal
        {
            let (segment, offset) = self.manifest.journal;
            let _ = journal.delete_before(Position { segment, offset });
        }
        Ok(())
    }

    /// Acknowledges a push. Blocks for as long as a write into memory of the system does.
    pub(super) fn append(&mut self, shape: &Shape, rows: &Offers) -> Result<(), Error> {
        let unkept = |why: String| Error::Storage { doing: "keep the pushed features", why };
        let Some(journal) = &self.journal else { return Err(unkept("they are open for reading".to_owned())) };
        let names = shape.keys().chain(shape.columns.columns.iter().skip(shape.first_feature()));
        let arrays = rows.keys.iter().chain(&rows.features);
        let record = Record {
            columns: names.map(|column| column.name.clone()).collect(),
            values: arrays
                .map(|a| (0..rows.stamps.len()).map(|row| super::push::written(a, row)).collect())
                .collect(),
            stamps: rows.stamps.iter().map(|stamp| (stamp.event, stamp.ingest)).collect(),
        };
        let mut sealed = Vec::new();
        frame::begin(&mut sealed);
        serde_json::to_writer(&mut sealed, &record).map_err(|e| unkept(e.to_string()))?;
        if !frame::seal(&mut sealed) {
            return Err(Error::invalid("the rows", "they are over 16 MiB together; push them in parts"));
        }
        journal.append(&sealed).map_err(|e| unkept(e.to_string()))?;
        self.grown += sealed.len();
        Ok(())
    }

    /// Behind the last push.
    pub(super) fn end(&self) -> (u64, u64) {
        self.journal.as_ref().map_or(self.manifest.journal, |journal| {
            let end = journal.end();
            (end.segment, end.offset)
        })
    }

    /// What was pushed since the files were written. Blocks.
    pub(super) fn journaled(&self) -> Result<Vec<Journaled>, Error> {
        let (segment, offset) = self.manifest.journal;
        let folder = self.folder.join("journal");
        let read = journal::read_after(&folder, Position { segment, offset })
            .map_err(failed("read the journal of pushed features", &folder))?;
        if read.damaged > 0 {
            tracing::warn!(folder = %folder.display(), damaged = read.damaged, "pushed features are lost: the disk damaged them");
        }
        let records =
            read.payloads.iter().filter_map(|payload| serde_json::from_slice::<Record>(payload).ok());
        Ok(records
            .map(|record| Journaled {
                columns: record.columns.into_iter().zip(record.values).collect(),
                stamps: record.stamps,
            })
            .collect())
    }

    /// Reads files of rows; `None` when one of them is gone: another process wrote a new manifest. Blocks.
    pub(super) fn rows(
        &self,
        names: &[String],
        shape: &Shape,
        mut each: impl FnMut(Offers) -> Result<(), arrow::error::ArrowError>,
    ) -> Result<Option<()>, Error> {
        for name in names {
            let path = self.folder.join(name);
            let file = match File::open(&path) {
                Ok(file) => file,
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
                Err(e) => return Err(failed("read the online features", &path)(e)),
            };
            let read = || -> Result<(), arrow::error::ArrowError> {
                for batch in FileReader::try_new_buffered(file, None)? {
                    if let Some(rows) = Offers::kept(&batch?, shape.keys) {
                        each(rows)?;
                    }
                }
                Ok(())
            };
            read().map_err(|e| failed("read the online features", &path)(other(e)))?;
        }
        Ok(Some(()))
    }
}

/// Writes a file of rows, a piece at a time. Blocks.
pub(super) fn write_rows(
    path: &Path,
    shape: &Shape,
    pieces: impl Iterator<Item = Result<Offers, arrow::error::ArrowError>>,
) -> Result<(), Error> {
    let write = || -> std::io::Result<()> {
        let file = BufWriter::with_capacity(1 << 16, File::create(path)?);
        let mut writer = FileWriter::try_new(file, &shape.kept()).map_err(other)?;
        for piece in pieces {
            writer.write(&piece.and_then(|rows| rows.batch(shape)).map_err(other)?).map_err(other)?;
        }
        let file = writer.into_inner().map_err(other)?.into_inner().map_err(other)?;
        file.sync_all()
    };
    write().map_err(failed("keep the online features", path))
}
