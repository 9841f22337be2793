//! Versions whose files are gone: what is said of them, and which versions can be read.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use deltalake::DeltaTable;
use deltalake::logstore::LogStore;
use futures_util::TryStreamExt;
use object_store::path::Path;
use serde_json::Value;

use crate::dataset::facts::entry;
use crate::dataset::{Dataset, number};
use crate::{Error, store};

const DOING: &str = "look for the files of";
/// Entries of the log that are looked at for versions that can be read.
const LOOKS: u64 = 1000;
/// Stretches of versions that are told.
const SHOWN: usize = 10;

/// An error of reading versions, told better where files of one are gone.
pub(crate) async fn explained(of: &[(Dataset, u64)], error: Error) -> Error {
    if matches!(error, Error::Storage { .. } | Error::Query(_)) {
        for (dataset, version) in of {
            if let Ok(Some(gone)) = Box::pin(dataset.gone(*version)).await {
                return gone;
            }
        }
    }
    error
}

impl Dataset {
    /// The error of reading a version whose files are gone; `None` when they are there.
    async fn gone(&self, version: u64) -> Result<Option<Error>, Error> {
        let there = self.there().await?;
        let files = self.locations(&self.at_version(version).await?).await?;
        let missing = files.iter().filter(|file| !there.contains(*file)).count();
        if missing == 0 {
            return Ok(None);
        }
        let newest = self.existing().await?;
        let why = match self.collected_since(&newest, version).await? {
            true => "`forebay data gc` removed files that only it and other old versions needed".to_owned(),
            false => format!("{missing} of its {} files are not there", files.len()),
        };
        let can = ranges(&self.readable(&newest, &there).await?);
        let hint = match can.as_str() {
            "" => "none of the newest versions can be read".to_owned(),
            can => format!("these versions can be read: {can}"),
        };
        Ok(Some(Error::Gone { dataset: self.name.to_string(), version, why, hint }))
    }

    /// The files in the dataset's folder, relative to it.
    async fn there(&self) -> Result<BTreeSet<Path>, Error> {
        let files = self.store();
        let all = files.list(None).map_ok(|file| file.location).try_collect().await;
        all.map_err(|e| store::failed("list the files of the dataset", &e))
    }

    /// The files of a version, relative to the dataset's folder.
    async fn locations(&self, table: &DeltaTable) -> Result<Vec<Path>, Error> {
        let failed = |e| store::table(DOING, &self.name, &e);
        let state = table.snapshot().map_err(failed)?;
        let log = table.log_store();
        let files = state.snapshot().file_views(&*log, None);
        files.map_ok(|file| file.object_store_path()).try_collect().await.map_err(failed)
    }

    /// Whether garbage was collected behind a version.
    async fn collected_since(&self, newest: &DeltaTable, version: u64) -> Result<bool, Error> {
        let log = newest.log_store();
        for later in (version + 1..=number(newest)).take(usize::try_from(LOOKS).unwrap_or(usize::MAX)) {
            let said = entry(&*log, &self.name, later).await?.and_then(|entry| entry.operation);
            if said.is_some_and(|operation| operation.starts_with("VACUUM")) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The versions all of whose files are there, the newest first: the log is walked back from the newest version, and what each
    /// entry did to the files is undone.
    async fn readable(&self, newest: &DeltaTable, there: &BTreeSet<Path>) -> Result<Vec<u64>, Error> {
        let log = newest.log_store();
        let mut files: BTreeMap<Path, bool> = BTreeMap::new();
        for file in self.locations(newest).await? {
            let is_there = there.contains(&file);
            files.insert(file, is_there);
        }
        let (newest, mut found) = (number(newest), Vec::new());
        for version in (newest.saturating_sub(LOOKS)..=newest).rev() {
            if files.values().all(|there| *there) {
                found.push(version);
            }
            let Some((added, removed)) = self.moved(&*log, version).await? else { break };
            files.retain(|file, _| !added.contains(file));
            for file in removed {
                let is_there = there.contains(&file);
                files.insert(file, is_there);
            }
        }
        Ok(found)
    }

    /// The files that an entry of the log adds and removes; `None` when it is not kept.
    async fn moved(
        &self,
        log: &dyn LogStore,
        version: u64,
    ) -> Result<Option<(BTreeSet<Path>, Vec<Path>)>, Error> {
        let bytes = log.read_commit_entry(version).await.map_err(|e| store::table(DOING, &self.name, &e))?;
        let Some(bytes) = bytes else { return Ok(None) };
        let (mut added, mut removed) = (BTreeSet::new(), Vec::new());
        for line in bytes.split(|b| *b == b'\n').filter(|line| !line.is_empty()) {
            let Ok(action) = serde_json::from_slice::<Value>(line) else { continue };
            let path = |kind: &str| {
                let path = action.get(kind)?.get("path")?.as_str()?;
                Path::from_url_path(path).ok()
            };
            added.extend(path("add"));
            removed.extend(path("remove"));
        }
        Ok(Some((added, removed)))
    }
}

/// `7, 4-5, 0` of versions that come the newest first.
fn ranges(versions: &[u64]) -> String {
    let mut stretches: Vec<(u64, u64)> = Vec::new();
    for version in versions {
        match stretches.last_mut() {
            Some((first, _)) if *first == version + 1 => *first = *version,
            _ => stretches.push((*version, *version)),
        }
    }
    let mut said = String::new();
    for (at, (first, last)) in stretches.iter().take(SHOWN).enumerate() {
        let comma = if at == 0 { "" } else { ", " };
        let _ = match first == last {
            true => write!(said, "{comma}{last}"),
            false => write!(said, "{comma}{first}-{last}"),
        };
    }
    if stretches.len() > SHOWN {
        said.push_str(", …");
    }
    said
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_told_in_stretches() {
        assert_eq!(ranges(&[7, 5, 4, 0]), "7, 4-5, 0");
        assert_eq!(ranges(&[]), "");
        let odd: Vec<u64> = (0..30).rev().map(|n| n * 2).collect();
        assert!(ranges(&odd).ends_with("40, …"), "{}", ranges(&odd));
    }
}
