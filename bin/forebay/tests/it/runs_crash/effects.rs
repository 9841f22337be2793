//! What the runs do outside, and whether each was done once: lines of a file and calls under the key of their effect, rows that a
//! database takes once by that key, and rows of a dataset.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value as Json;

use super::LAYERS;

/// Puts one row under the key of its effect into a database, as a client does that may be asked twice.
const ROW: &str = r#"import os, sqlite3, pathlib
n = pathlib.Path(os.environ["FOREBAY_INPUT_GIVEN"], "n", "n.txt").read_text().strip()
db = sqlite3.connect(pathlib.Path(__file__).with_name("rows.db"), timeout=60, isolation_level=None)
db.execute("CREATE TABLE IF NOT EXISTS tried (key TEXT)")
db.execute("CREATE TABLE IF NOT EXISTS rows (key TEXT PRIMARY KEY, stage TEXT, n TEXT)")
db.execute("INSERT INTO tried VALUES (?)", [os.environ["FOREBAY_EFFECT"]])
db.execute("INSERT OR IGNORE INTO rows VALUES (?, ?, ?)", [os.environ["FOREBAY_EFFECT"], os.environ["FOREBAY_STAGE"], n])
"#;
const ROWS: &str = "import sqlite3, sys\nfor row in sqlite3.connect(sys.argv[1]).execute('SELECT stage, n FROM rows'): print(*row)";

/// How often each address was asked, by the keys that came with it.
type Calls = Arc<Mutex<BTreeMap<String, BTreeMap<String, u64>>>>;

pub struct Effects {
    folder: PathBuf,
    hook: SocketAddr,
    calls: Calls,
    came: Arc<AtomicU64>,
    /// The next version of the dataset that nobody has seen.
    version: AtomicU64,
}

impl Effects {
    pub fn new(folder: &Path) -> Effects {
        std::fs::write(folder.join("row.py"), ROW).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let hook = listener.local_addr().unwrap();
        let (calls, came) = (Calls::default(), Arc::new(AtomicU64::new(0)));
        let effects = Effects {
            folder: folder.to_owned(),
            hook,
            calls: calls.clone(),
            came: came.clone(),
            version: AtomicU64::new(0),
        };
        std::thread::spawn(move || {
            for socket in listener.incoming() {
                let (calls, came) = (calls.clone(), came.clone());
                // One that is cut by a kill is none.
                std::thread::spawn(move || take(&socket.unwrap(), &calls, &came).unwrap_or_default());
            }
        });
        effects
    }

    pub fn address(&self) -> SocketAddr {
        self.hook
    }

    pub fn lines(&self) -> PathBuf {
        self.folder.join("lines.txt")
    }

    pub fn row(&self) -> PathBuf {
        self.folder.join("row.py")
    }

    /// How many commits there are.
    pub fn commits(&self, lake: &Path) -> u64 {
        let mut version = self.version.load(Ordering::Relaxed);
        while lake.join(format!("out/_delta_log/{version:020}.json")).exists() {
            version += 1;
        }
        self.version.store(version, Ordering::Relaxed);
        version
    }

    /// A number that is another when something was done.
    pub fn had(&self, lake: &Path) -> u64 {
        let lines = std::fs::metadata(self.lines()).map_or(0, |m| m.len());
        lines + self.commits(lake) + self.came.load(Ordering::Relaxed)
    }

    /// That of each run all was done, and once.
    #[track_caller]
    pub fn check(&self, runs: impl Iterator<Item = u64>, project: &Path) {
        let runs: BTreeSet<u64> = runs.collect();
        let each = |sort: &str| -> BTreeSet<(String, String)> {
            let of = |n: &u64| (0..LAYERS).map(|l| (format!("{sort}{l}"), n.to_string())).collect::<Vec<_>>();
            runs.iter().flat_map(of).collect()
        };

        let mut keys: BTreeMap<(String, String), BTreeSet<String>> = BTreeMap::new();
        for line in std::fs::read_to_string(self.lines()).unwrap().lines() {
            let words: Vec<&str> = line.split(' ').collect();
            keys.entry((words[1].to_owned(), words[2].to_owned())).or_default().insert(words[0].to_owned());
        }
        assert_eq!(keys.keys().cloned().collect::<BTreeSet<_>>(), each("line"));
        assert!(
            keys.values().all(|k| k.len() == 1),
            "an effect has one key, however often it was tried: {keys:?}"
        );

        let rows =
            Command::new("python3").args(["-c", ROWS]).arg(self.folder.join("rows.db")).output().unwrap();
        assert!(rows.status.success(), "{}", String::from_utf8_lossy(&rows.stderr));
        let mut had: Vec<(String, String)> = String::from_utf8(rows.stdout)
            .unwrap()
            .lines()
            .map(|l| l.split_once(' ').map(|(s, n)| (s.to_owned(), n.to_owned())).unwrap())
            .collect();
        had.sort();
        assert_eq!(had, each("row").into_iter().collect::<Vec<_>>(), "each row once");

        let calls = self.calls.lock().unwrap();
        let wanted: BTreeSet<String> =
            each("call").into_iter().map(|(stage, n)| format!("/{n}/{stage}")).collect();
        assert_eq!(calls.keys().cloned().collect::<BTreeSet<_>>(), wanted);
        assert!(calls.values().all(|keys| keys.len() == 1), "a call has one key: {calls:?}");
        let different: BTreeSet<&String> = calls.values().flat_map(BTreeMap::keys).collect();
        assert_eq!(different.len(), calls.len(), "no two calls have one key");

        let mut committed: Vec<(u64, u64)> = Vec::new();
        for line in forebay(project, &["data", "read", "out", "--format", "json"])
            .lines()
            .filter(|l| l.contains("layer"))
        {
            let row: Json =
                serde_json::from_str(line.trim().trim_end_matches(',').trim_matches(['[', ']'])).unwrap();
            committed.push((row["n"].as_u64().unwrap(), row["layer"].as_u64().unwrap()));
        }
        committed.sort_unstable();
        let wanted: Vec<(u64, u64)> = runs.iter().flat_map(|n| (0..LAYERS).map(move |l| (*n, l))).collect();
        assert_eq!(committed, wanted, "each row was appended once");
        let log: Json =
            serde_json::from_str(&forebay(project, &["--json", "data", "log", "out", "--limit", "100000"]))
                .unwrap();
        let versions = log["versions"].as_array().unwrap().len();
        assert_eq!(versions, wanted.len(), "a version for each commit, and no other");
    }

    /// How often effects were tried that had been had.
    pub fn told(&self) -> String {
        let lines = std::fs::read_to_string(self.lines()).unwrap();
        let different: BTreeSet<&str> = lines.lines().collect();
        let repeated = lines.lines().count() - different.len();
        let calls: u64 = self.calls.lock().unwrap().values().flat_map(|k| k.values().map(|n| n - 1)).sum();
        format!("repeated under their key: {repeated} lines, {calls} calls")
    }
}

/// What a command says in a folder.
#[track_caller]
pub fn forebay(project: &Path, args: &[&str]) -> String {
    let out = crate::server::forebay(project).args(args).env_remove("FOREBAY_URL").output().unwrap();
    assert!(out.status.success(), "{args:?}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap()
}

/// Takes a call: it is done when its head was read, and said a moment later.
fn take(socket: &TcpStream, calls: &Calls, came: &AtomicU64) -> std::io::Result<()> {
    let mut reader = BufReader::new(socket.try_clone()?);
    let (mut path, mut key) = (String::new(), None);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let line = line.trim_end();
        if path.is_empty() {
            path = line.split(' ').nth(1).unwrap().to_owned();
        } else if let Some((name, value)) = line.split_once(": ") {
            if name.eq_ignore_ascii_case("idempotency-key") {
                key = Some(value.to_owned());
            }
        } else if line.is_empty() {
            break;
        }
    }
    let key = key.unwrap_or_else(|| panic!("{path} came without a key"));
    *calls.lock().unwrap().entry(path).or_default().entry(key).or_default() += 1;
    let n = came.fetch_add(1, Ordering::Relaxed);
    std::thread::park_timeout(Duration::from_millis(n * 7 % 30));
    let mut socket = socket;
    socket.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok")
}
