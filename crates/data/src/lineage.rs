//! What a version was made of, as it is told to whoever keeps lineage.
//!
//! A commit keeps what it was made of in the dataset's own log, so that an attempt that comes after one that died can still say so.
//! A version that another one is below (an append, a merge) is made of that one too. Invariant: what is told names versions by their
//! content, and by their numbers beside.

use std::path::{Path, PathBuf};

use contract::lineage::{ColumnMade, FromColumn, Lineage, Output, Thing, ThingKind, Via};

use crate::dataset::{Added, Dataset};
use crate::{Error, Schema, Source};

/// The longest that a commit keeps, in bytes of JSON; what is longer is kept without its columns.
const LONGEST: usize = 256 << 10;

/// A version of a dataset. One that nobody here gave a name is called by its number.
pub(crate) fn thing(dataset: &str, name: Option<&str>, version: u64) -> Thing {
    let state = name.map_or_else(|| format!("v{version}"), str::to_owned);
    Thing { number: Some(version), ..Thing::new(ThingKind::Dataset, dataset).at(state) }
}

/// As a commit keeps it.
pub(crate) fn kept(lineage: &Lineage) -> Option<serde_json::Value> {
    let written = serde_json::to_string(lineage).ok()?;
    if written.len() <= LONGEST {
        return serde_json::from_str(&written).ok();
    }
    let bare = |o: &Output| Output { columns: Vec::new(), rows: Vec::new(), ..o.clone() };
    let short = Lineage { outputs: lineage.outputs.iter().map(bare).collect(), ..lineage.clone() };
    serde_json::to_value(short).ok().filter(|v| v.to_string().len() <= LONGEST)
}

/// A column for each that is made of the one of the same name in each input.
fn as_they_are(columns: &mut [ColumnMade], inputs: std::ops::Range<usize>) {
    for column in columns {
        for input in inputs.clone() {
            let from = FromColumn { input, column: column.name.clone(), via: Via::Identity };
            if !column.from.contains(&from) {
                column.from.push(from);
            }
        }
    }
}

impl Dataset {
    /// A version as lineage names it.
    ///
    /// # Errors
    /// [`Error::Storage`].
    pub(crate) async fn pinned(&self, version: u64) -> Result<Thing, Error> {
        let name = self.name_of(version).await?;
        Ok(thing(self.name(), name.as_ref().map(crate::Name::as_str), version))
    }

    /// The columns of a version.
    ///
    /// # Errors
    /// [`Error::Storage`].
    pub(crate) async fn columns_of(&self, version: u64) -> Result<Schema, Error> {
        self.schema_of(&self.at_version(version).await?)
    }

    /// What a change made of what: what the change said of that, the version that it was put on, and the columns of the result.
    /// Where a change said nothing of columns, each is the column of that name in each of its inputs.
    ///
    /// # Errors
    /// [`Error::Storage`].
    pub async fn lineage(&self, added: &Added) -> Result<Lineage, Error> {
        let mut lineage = added.lineage.clone().unwrap_or_default();
        let said = lineage.outputs.pop();
        let mut columns: Vec<ColumnMade> = added
            .schema
            .columns
            .iter()
            .map(|c| {
                let known = said.iter().flat_map(|o| &o.columns).find(|known| known.name == c.name);
                let from = known.map(|known| known.from.clone()).unwrap_or_default();
                ColumnMade { name: c.name.clone(), ty: c.ty.to_string(), from }
            })
            .collect();
        if said.is_none() {
            as_they_are(&mut columns, 0..lineage.inputs.len());
        }
        if added.grown
            && let Some(before) = added.version.checked_sub(1)
        {
            let at = lineage.input(self.pinned(before).await?);
            as_they_are(&mut columns, at..at + 1);
        }
        let thing = thing(self.name(), Some(added.name.as_str()), added.version);
        let rows = said.map(|o| o.rows).unwrap_or_default();
        lineage.outputs = vec![Output { columns, rows, count: Some(added.read), ..Output::from(thing) }];
        Ok(lineage)
    }
}

impl Source {
    /// What it is, for lineage: each file with the hash of its content, or where the rows were fetched from. Reads every file once
    /// more, aside. Files below `project` are named from there.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub async fn lineage(&self, project: &Path) -> Result<Lineage, Error> {
        if let Some(origin) = &self.origin {
            let version = origin.etag.clone().or_else(|| origin.modified.clone());
            let (kind, name) = match origin.query.is_some() || origin.name.contains("://") {
                true => (ThingKind::Address, origin.name.clone()),
                false => (ThingKind::File, named(Path::new(&origin.name), project)),
            };
            let thing = Thing { version, ..Thing::new(kind, short(name)) };
            // Nobody knows what a foreign query made its columns of.
            let unknown = Output::from(Thing::new(ThingKind::Dataset, ""));
            let outputs = if origin.query.is_some() { vec![unknown] } else { Vec::new() };
            return Ok(Lineage { outputs, ..Lineage::of(vec![thing]) });
        }
        let source = self.clone();
        let project = project.to_owned();
        let hashing = pipeline::task::blocking("data-hash", move || {
            let mut lineage = Lineage::default();
            for file in source.files()? {
                let hash = hash(&file)?;
                lineage.input(Thing::new(ThingKind::File, short(named(&file, &project))).at(hash));
            }
            Ok(lineage)
        });
        hashing.await.map_err(|e| Error::Query(e.to_string()))?
    }
}

fn hash(file: &Path) -> Result<String, Error> {
    let read = || {
        let mut hasher = blake3::Hasher::new();
        std::io::copy(&mut std::fs::File::open(file)?, &mut hasher)?;
        Ok(hasher.finalize().to_hex().to_string())
    };
    read().map_err(|e: std::io::Error| Error::Storage {
        doing: "read",
        why: format!("`{}`: {e}", file.display()),
    })
}

/// A path as lineage has it: from the project on where it is below that.
fn named(file: &Path, project: &Path) -> String {
    let full = |p: &Path| p.canonicalize().unwrap_or_else(|_| PathBuf::from(p));
    let (file, project) = (full(file), full(project));
    let shown = file.strip_prefix(&project).unwrap_or(&file);
    shown.to_string_lossy().into_owned()
}

/// No longer than a name may be, and another for another.
fn short(name: String) -> String {
    const MOST: usize = 700;
    if name.len() <= MOST {
        return name;
    }
    let digest = blake3::hash(name.as_bytes()).to_hex();
    let mut end = MOST - 17;
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    let (begin, digest) = (name.get(..end).unwrap_or_default(), digest.get(..16).unwrap_or_default());
    format!("{begin}.{digest}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_told_from_the_project_on_and_a_long_one_stays_another() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("raw/a.csv");
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(&file, "a\n1\n").unwrap();
        assert_eq!(named(&file, folder.path()), "raw/a.csv");
        assert_eq!(named(&file, &folder.path().join("raw/../raw")), "a.csv");
        assert_eq!(named(Path::new("/nowhere/b.csv"), folder.path()), "/nowhere/b.csv");
        let (a, b) = (short("é".repeat(500) + "a"), short("é".repeat(500) + "b"));
        assert!(a != b && a.len() <= 700, "{a}");
    }

    #[test]
    fn what_is_too_long_for_a_commit_is_kept_without_its_columns() {
        let column = |n: usize| ColumnMade {
            name: format!("c{n}"),
            ty: String::new(),
            from: vec![FromColumn { input: 0, column: format!("c{n}"), via: Via::Identity }],
        };
        let of = |n: usize| Lineage {
            outputs: vec![Output { columns: (0..n).map(column).collect(), ..thing("u", None, 1).into() }],
            ..Lineage::of(vec![thing("t", None, 3)])
        };
        let read = |n| serde_json::from_value::<Lineage>(kept(&of(n)).unwrap()).unwrap();
        assert_eq!(read(3), of(3));
        assert!(read(100_000).outputs[0].columns.is_empty() && read(100_000).inputs == of(0).inputs);
    }
}
