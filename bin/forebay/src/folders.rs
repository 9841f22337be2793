//! Watched folders: which of their files are whole, told to whoever starts pipelines.
//!
//! A file is whole when neither its size nor its time of change moved for a while. Events of the system only say when to look; a
//! folder is also looked at now and then, so that one whose events are lost, or that lies on another machine, is followed too. A
//! folder that cannot be read says nothing about its files.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use contract::{Clock, Tick, UnixMillis};
use pipeline::task;
use pipeline::triggers::{Driver, MOST_FILES, Seen, Took, Trigger, TriggerPlan};
use tokio::sync::mpsc;

use crate::reload::watch::Watch;

/// How often a folder is looked at when nothing says so, and how soon again while a file is not whole.
const LOOK: Duration = Duration::from_secs(5);
const SOON: Duration = Duration::from_millis(500);
/// What may be told of twice: files are told of when they changed, and all of them once in a while.
const AGAIN: Duration = Duration::from_secs(60);

/// A folder and a pattern for the names in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pattern {
    folder: PathBuf,
    name: Vec<char>,
}

impl Pattern {
    /// Reads `inbox/*.csv`.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub(crate) fn parse(text: &str) -> Result<Pattern, String> {
        let (folder, name) = text.rsplit_once('/').unwrap_or((".", text));
        let folder = if folder.is_empty() { "/" } else { folder };
        if name.is_empty() || name == ".." || name == "." {
            return Err(format!("`{text}` says no names of files"));
        }
        if folder.contains(['*', '?']) {
            return Err(format!("`{text}` has a pattern in the name of a folder"));
        }
        Ok(Pattern { folder: folder.into(), name: name.chars().collect() })
    }

    fn fits(&self, name: &str) -> bool {
        // Hidden files are left alone unless they are meant.
        let hidden = name.starts_with('.') && self.name.first() != Some(&'.');
        !hidden && wild(&self.name, &name.chars().collect::<Vec<_>>())
    }

    /// Its files, as the trigger names them, in order.
    fn files(&self, project: &Path) -> std::io::Result<Vec<(String, u64, UnixMillis)>> {
        let mut found = Vec::new();
        for entry in std::fs::read_dir(project.join(&self.folder))? {
            let entry = entry?;
            let Some(name) = entry.file_name().to_str().map(str::to_owned) else { continue };
            if !self.fits(&name) {
                continue;
            }
            // It may be gone by now.
            let Ok(about) = std::fs::metadata(entry.path()) else { continue };
            if about.is_file() {
                let path =
                    if self.folder == Path::new(".") { PathBuf::from(name) } else { self.folder.join(name) };
                found.push((path.to_string_lossy().into_owned(), about.len(), modified(&about)));
            }
        }
        found.sort();
        found.truncate(MOST_FILES);
        Ok(found)
    }
}

fn modified(about: &std::fs::Metadata) -> UnixMillis {
    let since = about.modified().ok().and_then(|t| t.duration_since(std::time::UNIX_EPOCH).ok());
    UnixMillis(since.and_then(|d| i64::try_from(d.as_millis()).ok()).unwrap_or(0))
}

/// Whether a name is as a pattern says. Linear in both for each `*`.
fn wild(pattern: &[char], name: &[char]) -> bool {
    let (mut p, mut n) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while let Some(c) = name.get(n) {
        match pattern.get(p) {
            Some('*') => {
                star = Some((p, n));
                p += 1;
            }
            Some(one) if *one == '?' || one == c => (p, n) = (p + 1, n + 1),
            _ => match star {
                Some((at, from)) => {
                    star = Some((at, from + 1));
                    (p, n) = (at + 1, from + 1);
                }
                None => return false,
            },
        }
    }
    pattern.iter().skip(p).all(|c| *c == '*')
}

/// Which files are whole.
#[derive(Debug, Default)]
struct Settling {
    since: BTreeMap<String, (u64, UnixMillis, Tick)>,
}

impl Settling {
    /// What is there now, each with whether it is whole.
    fn look(&mut self, now: Tick, found: Vec<(String, u64, UnixMillis)>, quiet: Duration) -> Vec<Seen> {
        let mut next = BTreeMap::new();
        let mut seen = Vec::with_capacity(found.len());
        for (path, size, modified) in found {
            let same = self.since.get(&path).filter(|(s, m, _)| (*s, *m) == (size, modified));
            let since = same.map_or(now, |(.., since)| *since);
            next.insert(path.clone(), (size, modified, since));
            seen.push(Seen { path, size, modified, whole: now.since(since) >= quiet });
        }
        self.since = next;
        seen
    }
}

/// A trigger's folder, followed.
struct Followed {
    files: String,
    pattern: Pattern,
    quiet: Duration,
    settling: Settling,
    told: Option<(Tick, Vec<Seen>)>,
}

/// Follows the folders of these plans until it is dropped.
pub(crate) async fn follow(driver: Driver, project: PathBuf, plans: Vec<TriggerPlan>, clock: Arc<dyn Clock>) {
    let mut all = BTreeMap::new();
    for trigger in plans.into_iter().flat_map(|p| p.triggers) {
        let Trigger::Folder { files, quiet } = trigger else { continue };
        let Ok(pattern) = Pattern::parse(&files) else { continue };
        let followed =
            Followed { files: files.clone(), pattern, quiet, settling: Settling::default(), told: None };
        // Of several that watch the same files, the one that waits longest says when they are whole.
        let longest = all.get(&files).is_none_or(|f: &Followed| f.quiet < quiet);
        if longest {
            all.insert(files, followed);
        }
    }
    if all.is_empty() {
        return;
    }
    let (tell, mut events) = mpsc::channel(1);
    let mut watch = Watch::start(tell).ok();
    loop {
        let mut whole = true;
        if let Some(watch) = &mut watch {
            let folders: BTreeSet<PathBuf> = all.values().map(|f| project.join(&f.pattern.folder)).collect();
            watch.follow(folders);
        }
        for followed in all.values_mut() {
            whole &= followed.look(&driver, &project, &*clock).await;
        }
        let pause = if whole { LOOK } else { SOON };
        tokio::select! {
            _ = events.recv(), if watch.is_some() => {}
            () = task::sleep(pause) => {}
        }
    }
}

impl Followed {
    /// Looks, and tells what changed; whether there is nothing to wait for.
    async fn look(&mut self, driver: &Driver, project: &Path, clock: &dyn Clock) -> bool {
        let (pattern, folder) = (self.pattern.clone(), project.to_owned());
        let read = task::reading("a watched folder", move || pattern.files(&folder)).await;
        let found = match read {
            Ok(Ok(found)) => found,
            Ok(Err(e)) => {
                tracing::debug!(files = self.files, error = %e, "a watched folder cannot be read");
                return true;
            }
            Err(_) => return true,
        };
        let now = clock.now();
        let seen = self.settling.look(now, found, self.quiet);
        let whole = seen.iter().all(|s| s.whole);
        let told = self.told.as_ref();
        if told.is_some_and(|(at, last)| *last == seen && now.since(*at) < AGAIN) {
            return whole;
        }
        match driver.files(&self.files, seen.clone()).await {
            Ok(came) if came.iter().any(|c| c.took == Took::Full) => self.told = None,
            Ok(_) => self.told = Some((now, seen)),
            Err(e) => {
                self.told = None;
                tracing::warn!(files = self.files, error = %e, "failed to tell of files");
            }
        }
        whole
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_pattern_names_files_of_one_folder() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(folder.path().join("inbox/more.csv")).unwrap();
        for name in ["b.csv", "a.csv", "a.csv.part", ".hidden.csv", "c.txt"] {
            std::fs::write(folder.path().join("inbox").join(name), name).unwrap();
        }
        let pattern = Pattern::parse("inbox/*.csv").unwrap();
        let found = pattern.files(folder.path()).unwrap();
        let names: Vec<_> = found.iter().map(|(path, size, _)| (path.as_str(), *size)).collect();
        assert_eq!(names, [("inbox/a.csv", 5), ("inbox/b.csv", 5)]);
        assert!(Pattern::parse("nowhere/*").unwrap().files(folder.path()).is_err());
        for wrong in ["in*/a.csv", "inbox/", "inbox/.."] {
            assert!(Pattern::parse(wrong).is_err(), "{wrong}");
        }
        assert_eq!(Pattern::parse("*.csv").unwrap().folder, Path::new("."));
    }

    #[test]
    fn a_file_is_whole_when_it_did_not_change_for_a_while() {
        let mut settling = Settling::default();
        let quiet = Duration::from_secs(2);
        let mut at = |second: u64, size: u64| {
            let found = vec![("a".to_owned(), size, UnixMillis(7))];
            let now = Tick(0).after(Duration::from_secs(second));
            settling.look(now, found, quiet).iter().map(|s| s.whole).collect::<Vec<_>>()
        };
        let seen: Vec<_> =
            [(0, 1), (1, 2), (2, 2), (3, 2), (4, 3), (7, 3)].map(|(second, size)| at(second, size)[0]).into();
        assert_eq!(seen, [false, false, false, true, false, true]);
    }

    /// Every way that each `*` could take.
    fn naive(pattern: &[char], name: &[char]) -> bool {
        match (pattern.split_first(), name.split_first()) {
            (None, None) => true,
            (Some(('*', rest)), None) => naive(rest, name),
            (Some(('*', rest)), Some((_, more))) => naive(rest, name) || naive(pattern, more),
            (Some((one, rest)), Some((c, more))) => (*one == '?' || one == c) && naive(rest, more),
            _ => false,
        }
    }

    proptest! {
        #[test]
        fn a_pattern_fits_as_trying_every_way_says(pattern in "[ab*?]{1,6}", name in "[ab]{0,8}") {
            let (pattern, name): (Vec<char>, Vec<char>) = (pattern.chars().collect(), name.chars().collect());
            prop_assert_eq!(wild(&pattern, &name), naive(&pattern, &name));
        }
    }
}
