//! At which state of its code a project is: what git says of its folder.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use contract::{Clock, Tick};
use serde::{Deserialize, Serialize};
use tokio::process::Command;

use crate::task;

/// How long git is asked at most.
const GIT: Duration = Duration::from_secs(10);
/// How long an answer counts.
const KEEP: Duration = Duration::from_secs(2);

/// Which commit a folder is at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Git {
    /// The commit.
    pub commit: String,
    /// Whether a file that git knows differs from it; nothing when git did not say.
    pub dirty: Option<bool>,
    /// Where the repository comes from, without who goes there and how.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repository: Option<String>,
}

/// Which commit a folder is at, and whether a file that git knows differs from it; nothing without a repository or without git.
pub async fn git(folder: &Path) -> Option<Git> {
    // Whoever is in no repository need not ask.
    let full = std::path::absolute(folder).ok()?;
    if !full.ancestors().any(|above| above.join(".git").exists()) {
        return None;
    }
    let commit = asked(folder, &["rev-parse", "--verify", "HEAD"]).await?;
    let changed = asked(folder, &["status", "--porcelain", "--untracked-files=no", "--", "."]).await;
    let from = asked(folder, &["config", "--get", "remote.origin.url"]).await;
    Some(Git {
        commit: commit.trim().to_owned(),
        dirty: changed.map(|text| !text.trim().is_empty()),
        repository: from.and_then(|text| shown(text.trim())),
    })
}

/// The address of a repository without names and passwords; none for a path of this machine.
pub(crate) fn shown(address: &str) -> Option<String> {
    let (scheme, rest) = match address.split_once("://") {
        Some((scheme, rest)) if scheme != "file" => (scheme.to_owned(), rest.to_owned()),
        Some(_) => return None,
        // `git@host:path`, as ssh has it.
        None => {
            let (host, path) = address.split_once(':')?;
            if host.contains('/') || host.len() < 2 {
                return None;
            }
            ("ssh".to_owned(), format!("{host}/{}", path.trim_start_matches('/')))
        }
    };
    let (host, path) = rest.split_once('/').unwrap_or((&rest, ""));
    let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
    let path = path.split(['?', '#']).next().unwrap_or_default();
    (!host.is_empty()).then(|| format!("{scheme}://{host}/{path}"))
}

async fn asked(folder: &Path, what: &[&str]) -> Option<String> {
    let mut command = Command::new("git");
    // What a repository says is to be run is not run for a question.
    command.args(["--no-optional-locks", "-c", "core.fsmonitor=false", "-C"]).arg(folder).args(what);
    for own in ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"] {
        command.env_remove(own);
    }
    command.stdin(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
    let output = tokio::select! {
        output = command.output() => output.ok()?,
        () = task::sleep(GIT) => return None,
    };
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The state of a folder as it is now, or was a moment ago: many stages that begin at once ask once.
pub(crate) struct Code {
    folder: PathBuf,
    clock: Arc<dyn Clock>,
    known: tokio::sync::Mutex<Option<(Tick, Option<Arc<Git>>)>>,
}

impl Code {
    pub(crate) fn of(folder: PathBuf, clock: Arc<dyn Clock>) -> Code {
        Code { folder, clock, known: tokio::sync::Mutex::default() }
    }

    pub(crate) async fn now(&self) -> Option<Arc<Git>> {
        let mut known = self.known.lock().await;
        if let Some((at, git)) = &*known
            && self.clock.now().since(*at) < KEEP
        {
            return git.clone();
        }
        let git = git(&self.folder).await.map(Arc::new);
        *known = Some((self.clock.now(), git.clone()));
        git
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_told_without_who_goes_there() {
        for (address, told) in [
            ("https://ann:s3cret@git.example/team/p.git", Some("https://git.example/team/p.git")),
            ("https://s3cret@git.example/p?token=s3cret", Some("https://git.example/p")),
            ("git@git.example:team/p.git", Some("ssh://git.example/team/p.git")),
            ("/srv/git/p.git", None),
            ("../p", None),
            ("C:/p", None),
            ("file:///srv/p", None),
            ("", None),
        ] {
            assert_eq!(shown(address).as_deref(), told, "{address}");
        }
    }
}
