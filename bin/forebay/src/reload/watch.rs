//! Says that something happened in a folder: not what, since editors write in many ways (in place, by a rename, through links),
//! and who is told looks for himself.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

use notify::event::{AccessKind, AccessMode};
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::mpsc;

/// Folders that are looked at, not what is below them.
pub(crate) struct Watch {
    watcher: RecommendedWatcher,
    /// With the number of the file that each is: a folder of the same name may be another one later.
    folders: BTreeMap<PathBuf, u64>,
}

impl Watch {
    /// Tells of what happens. While something is told already, more is not.
    pub(crate) fn start(tell: mpsc::Sender<()>) -> notify::Result<Watch> {
        let told = move |event: notify::Result<notify::Event>| {
            // Reading is no change, and our own reading must not wake us. An error may hide a change.
            let read = |kind: EventKind| match kind {
                EventKind::Access(AccessKind::Close(AccessMode::Write)) => false,
                EventKind::Access(_) => true,
                _ => false,
            };
            if !event.is_ok_and(|e| read(e.kind)) {
                let _ = tell.try_send(());
            }
        };
        Ok(Watch { watcher: notify::recommended_watcher(told)?, folders: BTreeMap::new() })
    }

    /// Looks at these folders from now on. One that cannot be looked at is said, and tried again the next time. Whether there is
    /// one among them that was not looked at before.
    pub(crate) fn follow(&mut self, folders: BTreeSet<PathBuf>) -> bool {
        let gone: Vec<PathBuf> = self.folders.keys().filter(|f| !folders.contains(*f)).cloned().collect();
        for folder in gone {
            self.folders.remove(&folder);
            // It may not exist any more.
            let _ = self.watcher.unwatch(&folder);
        }
        let mut more = false;
        for folder in folders {
            let Ok(number) = std::fs::metadata(&folder).map(|m| m.ino()) else { continue };
            if self.folders.get(&folder) == Some(&number) {
                continue;
            }
            match self.watcher.watch(&folder, RecursiveMode::NonRecursive) {
                Ok(()) => {
                    self.folders.insert(folder, number);
                    more = true;
                }
                Err(e) => {
                    let folder = folder.display();
                    tracing::warn!(%folder, error = %e, "changes in this folder will not be noticed: send SIGHUP instead");
                }
            }
        }
        more
    }
}
