//! A real PostgreSQL server for tests, made in a folder of its own that goes with it: a socket in that folder, no TCP.
//!
//! Where PostgreSQL is not installed there is none, and that is said loudly. It refuses to run as root, so root runs it as
//! `postgres` or `nobody`. The server ends with its [`Server`], a panic included, and with the process, however that dies.

#![allow(
    clippy::panic,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "these are tests: they fail by panicking, and what is skipped is said"
)]

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(10);

/// A server. Dropped, it ends and its folder is removed.
#[derive(Debug)]
pub struct Server {
    bin: PathBuf,
    folder: PathBuf,
    keeper: Option<(SyncSender<()>, JoinHandle<()>)>,
}

/// The newest version that is installed.
fn installed() -> Option<PathBuf> {
    let debian = std::fs::read_dir("/usr/lib/postgresql").ok().into_iter().flatten().flatten();
    let mut found: Vec<(u32, PathBuf)> = debian
        .filter_map(|e| Some((e.file_name().to_str()?.parse().ok()?, e.path().join("bin"))))
        .filter(|(_, bin)| bin.join("initdb").exists())
        .collect();
    found.sort();
    let on_path = || {
        let path = std::env::var_os("PATH")?;
        std::env::split_paths(&path).find(|bin| bin.join("initdb").exists() && bin.join("postgres").exists())
    };
    found.pop().map(|(_, bin)| bin).or_else(on_path)
}

fn said(command: &mut Command) -> Option<String> {
    let out = command.stderr(Stdio::null()).output().ok()?;
    out.status.success().then(|| String::from_utf8_lossy(&out.stdout).trim().to_owned())
}

fn id(flag: &str, user: &str) -> Option<u32> {
    said(Command::new("id").args([flag, user]))?.parse().ok()
}

fn is_root() -> bool {
    said(Command::new("id").arg("-u")).as_deref() == Some("0")
}

/// A command of a server: never as root, and ended with the thread that began it where the system can do that.
fn command(bin: &Path, program: &str) -> Command {
    let program = bin.join(program);
    if said(Command::new("setpriv").arg("--version")).is_none() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "INT"]);
    if is_root() {
        let user = ["postgres", "nobody"].into_iter().find(|u| id("-u", u).is_some()).expect("a user");
        command.args(["--reuid", user, "--regid", &id("-g", user).unwrap().to_string(), "--clear-groups"]);
    }
    command.arg(program);
    command
}

/// Where servers are made: in memory, where there is room for many, so that they wait for no disk.
fn place() -> PathBuf {
    let shared = Path::new("/dev/shm");
    let free = said(Command::new("df").args(["-Pk", "/dev/shm"]));
    let free = free.and_then(|table| table.lines().last()?.split_whitespace().nth(3)?.parse::<u64>().ok());
    match free.is_some_and(|kib| kib > 2_000_000) {
        true => shared.to_owned(),
        false => std::env::temp_dir(),
    }
}

/// Removes what processes left that were killed.
fn sweep(place: &Path) {
    for left in std::fs::read_dir(place).into_iter().flatten().flatten() {
        let name = left.file_name();
        let owner =
            name.to_str().and_then(|n| n.strip_prefix("fbpg-")?.split('-').next()?.parse::<u32>().ok());
        if owner.is_some_and(|pid| {
            Path::new("/proc/self").exists() && !Path::new(&format!("/proc/{pid}")).exists()
        }) {
            let _ = std::fs::remove_dir_all(left.path());
        }
    }
}

fn folder() -> PathBuf {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let n = NEXT.fetch_add(1, Ordering::Relaxed);
    let place = place();
    sweep(&place);
    // A path of a socket is short.
    let folder = place.join(format!("fbpg-{}-{n}", std::process::id()));
    std::fs::create_dir(&folder).unwrap();
    #[cfg(unix)]
    if is_root() {
        let user = ["postgres", "nobody"].into_iter().find(|u| id("-u", u).is_some());
        let user = user.expect("a user that is not root");
        std::os::unix::fs::chown(&folder, id("-u", user), id("-g", user)).unwrap();
    }
    folder
}

/// Begins a server in the folder, and waits until it is told to stop or its owner is gone.
fn keep(bin: &Path, folder: &Path, ready: &SyncSender<bool>, stop: &Receiver<()>) {
    let mut server = command(bin, "postgres");
    server.arg("-D").arg(folder.join("data")).arg("-k").arg(folder).args(["-c", "listen_addresses="]);
    // What is lost with the machine is of no interest here.
    server.args(["-c", "fsync=off", "-c", "full_page_writes=off", "-c", "shared_buffers=32MB"]);
    let log = std::fs::OpenOptions::new().create(true).append(true).open(folder.join("log")).unwrap();
    server.current_dir(folder).stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
    let mut server = server.spawn().unwrap();
    let began = Instant::now();
    let answers = || {
        let ready = said(Command::new(bin.join("pg_isready")).arg("-q").arg("-h").arg(folder));
        ready.is_some()
    };
    while !answers() {
        if began.elapsed() > PATIENCE || server.try_wait().unwrap().is_some() {
            end(&mut server, "KILL");
            let _ = ready.send(false);
            return;
        }
        std::thread::sleep(LOOK);
    }
    let _ = ready.send(true);
    let _ = stop.recv();
    end(&mut server, "QUIT");
}

fn end(server: &mut Child, signal: &str) {
    let _ = Command::new("kill").args([&format!("-{signal}"), &server.id().to_string()]).status();
    let _ = server.wait();
}

impl Server {
    /// Makes and begins one; `None`, said loudly, where PostgreSQL is not installed.
    ///
    /// # Panics
    /// When it is installed and does not run.
    pub fn start() -> Option<Server> {
        let Some(bin) = installed() else {
            eprintln!("SKIPPED: PostgreSQL is not installed (Debian: apt-get install postgresql)");
            return None;
        };
        let mut server = Server { bin, folder: folder(), keeper: None };
        let made = command(&server.bin, "initdb")
            .arg("-D")
            .arg(server.folder.join("data"))
            .args(["-N", "-A", "trust", "-U", "forebay", "-E", "UTF8", "--locale=C"])
            .current_dir(&server.folder)
            .output()
            .unwrap();
        assert!(made.status.success(), "initdb: {}", String::from_utf8_lossy(&made.stderr));
        server.begin();
        Some(server)
    }

    fn begin(&mut self) {
        let ((go, stop), (tell, ready)) = (sync_channel(1), sync_channel(1));
        let (bin, folder) = (self.bin.clone(), self.folder.clone());
        // A thread of its own: a server is told to end when the thread that began it does.
        let keeper = std::thread::spawn(move || keep(&bin, &folder, &tell, &stop));
        self.keeper = Some((go, keeper));
        assert!(ready.recv().unwrap_or(false), "postgres: {}", self.log());
    }

    /// Ends the server as a crash of its machine would end connections, and begins it again.
    pub fn restart(&mut self) {
        self.stop();
        self.begin();
    }

    fn stop(&mut self) {
        if let Some((go, keeper)) = self.keeper.take() {
            drop(go);
            let _ = keeper.join();
        }
    }

    /// What it wrote.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    /// The address of a database.
    pub fn url(&self, database: &str) -> String {
        let mut socket = String::new();
        for b in self.folder.display().to_string().bytes() {
            match b.is_ascii_alphanumeric() || b"-._~".contains(&b) {
                true => socket.push(char::from(b)),
                false => _ = write!(socket, "%{b:02X}"),
            }
        }
        format!("postgres://forebay@localhost/{database}?host={socket}")
    }

    /// Makes a database. Its address.
    ///
    /// # Panics
    /// When the server refuses.
    pub fn database(&self, name: &str) -> String {
        self.sql("postgres", &format!("CREATE DATABASE {name}"));
        self.url(name)
    }

    /// Runs statements in a database; what they give, a line for each row.
    ///
    /// # Panics
    /// When the server refuses.
    pub fn sql(&self, database: &str, sql: &str) -> String {
        let out = Command::new(self.bin.join("psql"))
            .arg("-h")
            .arg(&self.folder)
            .args([
                "-U",
                "forebay",
                "-X",
                "-q",
                "-A",
                "-t",
                "-v",
                "ON_ERROR_STOP=1",
                "-d",
                database,
                "-c",
                sql,
            ])
            .current_dir(&self.folder)
            .output()
            .unwrap();
        assert!(out.status.success(), "{sql}: {}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8_lossy(&out.stdout).trim().to_owned()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}
