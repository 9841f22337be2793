//! A command's processes: begun in a group of their own, watched, and ended with all their children, whatever happens to us.
//!
//! ```text
//! held ── limits are set ──▶ running ── it ends, or is ended ──▶ swept (its children) ──▶ waited for
//!   └──────────── dropped: all are killed on the spot ────────────┘
//! ```
//!
//! A shell holds the command until its limits are set, and becomes it then: nothing runs without them, and when we die before
//! that nothing runs at all. The group's number is its first process's, which is not waited for before the group was killed:
//! nobody else can have got it.

use std::ffi::OsString;
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use contract::{Code, Error};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, waitid};
use tokio::io::AsyncWriteExt as _;
use tokio::process::{Child, ChildStderr, ChildStdout, Command};
use tokio::signal::unix::{Signal as Signals, SignalKind, signal};

use super::members::Family;
use crate::task;

/// The command, held until it is told to go. When nobody tells it, it does not run.
const HELD: &str = "IFS= read -r go && exec \"$@\" </dev/null";
/// How long what was killed may take to be gone.
const GONE: Duration = Duration::from_secs(5);
const LOOK: Duration = Duration::from_millis(5);

/// What is begun.
#[derive(Debug)]
pub(super) struct Launch {
    /// The program and its arguments.
    pub(super) words: Vec<String>,
    /// Its whole environment.
    pub(super) env: Vec<(String, OsString)>,
    /// Where.
    pub(super) folder: PathBuf,
    /// See [`super::members::MARKER`].
    pub(super) mark: String,
    pub(super) nice: u8,
    /// What each process may allocate, in bytes.
    pub(super) memory: Option<u64>,
}

/// A command that was begun. Dropped, all its processes are killed before the drop returns.
#[derive(Debug)]
pub(super) struct Running {
    child: Child,
    family: Family,
    /// Some child of this process has ended.
    ends: Signals,
    over: bool,
}

impl Running {
    /// Begins it.
    ///
    /// # Errors
    /// [`Code::CommandFailed`] when there is no such program, [`Code::Internal`] when there can be no process.
    pub(super) async fn start(launch: &Launch) -> Result<(Running, ChildStdout, ChildStderr), Error> {
        let name = launch.words.first().map(String::as_str).unwrap_or_default();
        let path = launch.env.iter().find(|(n, _)| n == "PATH").map(|(_, value)| value.clone());
        let program = find(name, &path.unwrap_or_default(), &launch.folder).ok_or_else(|| {
            let m = format!("there is no program `{name}`: install it, or correct `command` or PATH");
            Error::new(Code::CommandFailed, m)
        })?;
        let mut command = Command::new("/bin/sh");
        command.args(["-c", HELD, "forebay"]).arg(program).args(launch.words.iter().skip(1));
        command.env_clear().envs(launch.env.iter().map(|(n, v)| (n, v))).current_dir(&launch.folder);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.process_group(0).kill_on_drop(true);
        let failed = |e: std::io::Error| {
            Error::new(Code::Internal, format!("the command cannot be started: {}", e.kind()))
        };
        let ends = signal(SignalKind::child()).map_err(failed)?;
        let mut child = command.spawn().map_err(failed)?;
        let id = child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
        let id = id.ok_or_else(|| failed(std::io::ErrorKind::NotFound.into()))?;
        let pipes = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let ends_of = [pipes.1.as_ref().map(AsFd::as_fd), pipes.2.as_ref().map(AsFd::as_fd)];
        let family = Family::new(id, launch.mark.clone(), ends_of.into_iter().flatten());
        let running = Running { child, family, ends, over: false };
        let (Some(mut go), Some(out), Some(err)) = pipes else {
            return Err(failed(std::io::ErrorKind::BrokenPipe.into()));
        };
        Self::limit(id, launch).map_err(|e| failed(e.into()))?;
        // When it has ended already, its end says why.
        let _ = go.write_all(b"\n").await;
        Ok((running, out, err))
    }

    fn limit(id: Pid, launch: &Launch) -> Result<(), Errno> {
        use rustix::process::{getpriority_process, setpriority_process};
        let own = getpriority_process(None).unwrap_or(0);
        setpriority_process(Some(id), own.max(i32::from(launch.nice)))?;
        #[cfg(target_os = "linux")]
        {
            use rustix::process::{Resource, Rlimit, getrlimit, prlimit};
            let none = Rlimit { current: Some(0), maximum: Some(0) };
            prlimit(Some(id), Resource::Core, none)?;
            if let Some(bytes) = launch.memory {
                // Nobody may give more than he has.
                let most = getrlimit(Resource::Data).maximum.map_or(bytes, |own| own.min(bytes));
                prlimit(Some(id), Resource::Data, Rlimit { current: Some(most), maximum: Some(most) })?;
            }
        }
        Ok(())
    }

    /// Waits until the command itself has ended; its children may live. It can be dropped and called again.
    pub(super) async fn ended(&mut self) {
        while !self.has_ended() && self.ends.recv().await.is_some() {}
    }

    /// Whether it has ended. It is not waited for by this.
    fn has_ended(&self) -> bool {
        let how = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        // An error says that it was waited for.
        waitid(WaitId::Pid(self.family.leader), how)
            .map_or_else(|e| e != Errno::INTR, |found| found.is_some())
    }

    /// Asks all its processes to end.
    pub(super) async fn ask_to_end(&self) {
        let family = self.family.clone();
        let _ = task::reading("ask to end", move || family.signal(Signal::TERM)).await;
    }

    /// What all its processes hold in memory, in bytes. 0 where nobody can say.
    pub(super) async fn resident(&self) -> u64 {
        let family = self.family.clone();
        task::reading("resident", move || family.resident()).await.unwrap_or(0)
    }

    /// Ends all that is left of it, and says how the command ended.
    pub(super) async fn sweep(&mut self) -> Option<ExitStatus> {
        let family = self.family.clone();
        let _ = task::reading("sweep", move || family.kill()).await;
        let status = self.child.wait().await.ok();
        self.over = true;
        // What was killed is gone a moment later; its files must not be touched by it any more.
        let gone = async {
            loop {
                let family = self.family.clone();
                match task::reading("gone", move || family.living().is_empty()).await {
                    Ok(false) => task::sleep(LOOK).await,
                    Ok(true) | Err(_) => return,
                }
            }
        };
        tokio::select! {
            () = gone => {}
            () = task::sleep(GONE) => tracing::warn!("processes of a stage's command do not end although they were killed"),
        }
        status
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.over {
            self.family.kill();
        }
    }
}

/// The program of a name, as a shell in that folder finds it.
fn find(name: &str, path: &OsString, folder: &Path) -> Option<PathBuf> {
    let runs = |p: &PathBuf| p.metadata().is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0);
    if name.contains('/') {
        return Some(folder.join(name)).filter(runs);
    }
    std::env::split_paths(path).map(|p| folder.join(p).join(name)).find(runs)
}
