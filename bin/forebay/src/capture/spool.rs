//! Rows on their way to a dataset, in files that outlive a server: `DATASET~NUMBER.part` is being written, `.jsonl` is to become a
//! version, `.refused` cannot. The first line of a file is the types of its columns, each further one a row.
//!
//! A row that a killed server had half written is cut off when the file is opened again.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use contract::{Clock, UnixMillis};
use serde_json::{Map, Value as Json};

/// Where rows go, and when they become a version.
pub(super) struct Spool {
    pub(super) dataset: String,
    pub(super) every: Duration,
    pub(super) rows: u64,
}

struct Open {
    file: File,
    path: PathBuf,
    since: UnixMillis,
    /// Bytes of whole rows.
    length: u64,
    rows: u64,
    every: Duration,
    most: u64,
}

/// The files of a server that are being written.
pub(super) struct Spools {
    folder: PathBuf,
    clock: Arc<dyn Clock>,
    open: BTreeMap<String, Open>,
    next: u64,
}

impl Spools {
    /// Those of a folder. What a server left that died is to become versions.
    pub(super) fn new(folder: PathBuf, clock: Arc<dyn Clock>) -> Spools {
        for left in listed(&folder, "part") {
            if let Err(error) =
                whole(&left).and_then(|()| std::fs::rename(&left, left.with_extension("jsonl")))
            {
                tracing::warn!(%error, file = %left.display(), "rows that a server left cannot be read");
            }
        }
        Spools { folder, clock, open: BTreeMap::new(), next: 0 }
    }

    /// Others beside these, of other datasets: who writes to them waits for nobody who writes to these.
    pub(super) fn beside(&self) -> Spools {
        Spools { folder: self.folder.clone(), clock: self.clock.clone(), open: BTreeMap::new(), next: 0 }
    }

    /// Adds rows, whose types are asked for when a file begins with them. They are on disk when it returns, if that is asked for; else
    /// another process may read them.
    pub(super) fn append(
        &mut self,
        spool: &Spool,
        types: impl FnOnce() -> BTreeMap<String, &'static str>,
        rows: &[Map<String, Json>],
        on_disk: bool,
    ) -> io::Result<()> {
        if !self.open.contains_key(&spool.dataset) {
            let open = self.begin(spool, &types())?;
            self.open.insert(spool.dataset.clone(), open);
        }
        let Some(open) = self.open.get_mut(&spool.dataset) else { return Ok(()) };
        let mut text = Vec::new();
        for row in rows {
            serde_json::to_writer(&mut text, row)?;
            text.push(b'\n');
        }
        if let Err(e) = open.file.write_all(&text) {
            // Half a row on a full disk is none, and what comes later begins a line.
            let _ = open.file.set_len(open.length);
            return Err(e);
        }
        open.length += text.len() as u64;
        if on_disk {
            open.file.sync_data()?;
        }
        open.rows += rows.len() as u64;
        Ok(())
    }

    fn begin(&mut self, spool: &Spool, types: &BTreeMap<String, &'static str>) -> io::Result<Open> {
        std::fs::create_dir_all(&self.folder)?;
        let since = self.clock.wall();
        self.next += 1;
        // Of one process at a time: the folder is its own. The time makes it another name than those before it.
        let name = format!("{}~{:013}-{:06}.part", spool.dataset, since.0.max(0), self.next);
        let path = self.folder.join(name);
        let mut file = OpenOptions::new().create_new(true).append(true).open(&path)?;
        let mut head = serde_json::to_vec(types)?;
        head.push(b'\n');
        file.write_all(&head)?;
        let length = head.len() as u64;
        Ok(Open { file, path, since, length, rows: 0, every: spool.every, most: spool.rows })
    }

    /// Closes what is old or long enough to become a version. What is only old stays open while another file of its dataset still
    /// waits: versions that take long are fewer and larger ones.
    pub(super) fn rotate(&mut self) {
        let now = self.clock.wall();
        let old = |open: &Open| {
            let age = u128::try_from(now.0.saturating_sub(open.since.0)).unwrap_or(0);
            age >= open.every.as_millis()
        };
        let waits = |dataset: &String| {
            let files = ready(&self.folder);
            files.iter().filter_map(|file| Spooled::of(file)).any(|spooled| spooled.dataset == *dataset)
        };
        let ripe =
            |(dataset, open): &(&String, &Open)| open.rows >= open.most || (old(open) && !waits(dataset));
        let ripe: Vec<String> = self.open.iter().filter(ripe).map(|(dataset, _)| dataset.clone()).collect();
        for dataset in ripe {
            let Some(open) = self.open.remove(&dataset) else { continue };
            if let Err(error) = std::fs::rename(&open.path, open.path.with_extension("jsonl")) {
                tracing::warn!(%error, file = %open.path.display(), "rows cannot become a version before the next start");
            }
        }
    }
}

/// The files of an ending, in the order of their names.
fn listed(folder: &Path, ending: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut files: Vec<PathBuf> =
        entries.map(|e| e.path()).filter(|p| p.extension().is_some_and(|e| e == ending)).collect();
    files.sort();
    files
}

/// The files that are to become versions.
pub(super) fn ready(folder: &Path) -> Vec<PathBuf> {
    listed(folder, "jsonl")
}

/// Since when rows of a dataset wait that are no version yet; nothing when none do.
pub(super) fn waiting(folder: &Path, dataset: &str) -> Option<UnixMillis> {
    let files = ["part", "jsonl"].into_iter().flat_map(|ending| listed(folder, ending));
    let spooled = files.filter_map(|file| Spooled::of(&file)).filter(|spooled| spooled.dataset == dataset);
    spooled.filter_map(|spooled| spooled.since()).min()
}

/// Cuts a row off that is not whole.
fn whole(path: &Path) -> io::Result<()> {
    let mut reader = BufReader::new(File::open(path)?);
    let (mut line, mut length) = (Vec::new(), 0_u64);
    while reader.read_until(b'\n', &mut line)? > 0 {
        if line.last() == Some(&b'\n') {
            length += line.len() as u64;
        }
        line.clear();
    }
    OpenOptions::new().write(true).open(path)?.set_len(length)
}

/// A file that is to become a version.
pub(super) struct Spooled {
    path: PathBuf,
    pub(super) dataset: String,
    pub(super) name: String,
}

impl Spooled {
    pub(super) fn of(path: &Path) -> Option<Spooled> {
        let name = path.file_stem()?.to_str()?.to_owned();
        let (dataset, _) = name.rsplit_once('~')?;
        Some(Spooled { path: path.to_owned(), dataset: dataset.to_owned(), name: name.clone() })
    }

    /// When it was begun.
    fn since(&self) -> Option<UnixMillis> {
        let (_, rest) = self.name.rsplit_once('~')?;
        Some(UnixMillis(rest.split_once('-')?.0.parse().ok()?))
    }

    /// The types of its columns.
    pub(super) fn types(&self) -> io::Result<BTreeMap<String, String>> {
        let mut head = String::new();
        BufReader::new(File::open(&self.path)?).read_line(&mut head)?;
        Ok(serde_json::from_str(&head)?)
    }

    /// The same rows with exactly these columns, in a file beside it.
    pub(super) fn fit(&self, columns: &[String]) -> io::Result<PathBuf> {
        let fitted = self.fitted();
        let mut out = BufWriter::new(File::create(&fitted)?);
        for line in BufReader::new(File::open(&self.path)?).lines().skip(1) {
            let mut row: Map<String, Json> = serde_json::from_str(&line?)?;
            let fit: Map<String, Json> =
                columns.iter().map(|name| (name.clone(), row.remove(name).unwrap_or_default())).collect();
            serde_json::to_writer(&mut out, &fit)?;
            out.write_all(b"\n")?;
        }
        out.flush()?;
        Ok(fitted)
    }

    fn fitted(&self) -> PathBuf {
        self.path.with_extension("fitted")
    }

    pub(super) fn remove(&self) -> io::Result<()> {
        let _ = std::fs::remove_file(self.fitted());
        std::fs::remove_file(&self.path)
    }

    pub(super) fn refuse(&self) -> io::Result<()> {
        let _ = std::fs::remove_file(self.fitted());
        std::fs::rename(&self.path, self.path.with_extension("refused"))
    }
}

#[cfg(test)]
mod tests {
    use contract::ManualClock;
    use serde_json::json;

    use super::*;

    fn row(n: u64) -> Map<String, Json> {
        json!({"id": format!("r{n}"), "x": n}).as_object().cloned().unwrap_or_default()
    }

    #[test]
    fn a_row_that_is_half_written_is_cut_off_and_the_others_become_a_version() {
        let folder = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::starting_at(UnixMillis(5)));
        let types = BTreeMap::from([("id".to_owned(), "text"), ("x".to_owned(), "int")]);
        let spool = Spool { dataset: "captured_m".into(), every: Duration::from_secs(60), rows: 100 };
        let mut spools = Spools::new(folder.path().to_owned(), clock.clone());
        spools.append(&spool, || types.clone(), &[row(1), row(2)], true).unwrap();
        let part = listed(folder.path(), "part").remove(0);
        OpenOptions::new().append(true).open(&part).unwrap().write_all(b"{\"id\":\"r3").unwrap();
        spools.rotate();
        assert!(ready(folder.path()).is_empty(), "it is neither old nor long");
        assert_eq!(waiting(folder.path(), "captured_m"), Some(UnixMillis(5)));
        assert_eq!(waiting(folder.path(), "captured"), None);
        drop(spools);

        let mut spools = Spools::new(folder.path().to_owned(), clock.clone());
        let left = ready(folder.path());
        let spooled = Spooled::of(&left[0]).unwrap();
        assert_eq!((left.len(), spooled.dataset.as_str()), (1, "captured_m"));
        assert_eq!(spooled.types().unwrap()["x"], "int");
        let fitted = std::fs::read_to_string(spooled.fit(&["id".into(), "y".into()]).unwrap()).unwrap();
        assert_eq!(fitted, "{\"id\":\"r1\",\"y\":null}\n{\"id\":\"r2\",\"y\":null}\n");
        spooled.remove().unwrap();
        spools.append(&spool, || types.clone(), &[row(4)], false).unwrap();
        clock.advance(Duration::from_secs(60));
        spools.rotate();
        assert_eq!(ready(folder.path()).len(), 1);
    }

    #[test]
    fn while_a_file_waits_to_become_a_version_the_next_one_grows_up_to_its_bound() {
        let folder = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::starting_at(UnixMillis(5)));
        let types = BTreeMap::from([("id".to_owned(), "text"), ("x".to_owned(), "int")]);
        let of = |dataset: &str| Spool { dataset: dataset.into(), every: Duration::from_secs(1), rows: 5 };
        let mut spools = Spools::new(folder.path().to_owned(), clock.clone());
        let passed = |spools: &mut Spools, dataset: &str, n: u64| {
            spools.append(&of(dataset), || types.clone(), &[row(n)], false).unwrap();
            clock.advance(Duration::from_secs(1));
            spools.rotate();
            ready(folder.path()).len()
        };
        assert_eq!(passed(&mut spools, "captured_m", 1), 1);
        assert_eq!((2..6).map(|n| passed(&mut spools, "captured_m", n)).max(), Some(1), "it grows");
        assert_eq!(passed(&mut spools, "feedback", 1), 2, "another dataset does not wait for it");
        assert_eq!(passed(&mut spools, "captured_m", 6), 3, "it is as long as it may be");
        assert_eq!(passed(&mut spools, "captured_m", 7), 3);
        ready(folder.path()).iter().for_each(|file| std::fs::remove_file(file).unwrap());
        spools.rotate();
        assert_eq!(ready(folder.path()).len(), 1, "its turn has come");
    }
}
