//! One attempt of an `exec` stage, from its inputs to its value.

use std::collections::HashSet;
use std::ffi::OsString;
use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::process::ExitStatus;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use contract::{Attempt, Code, Context, Error, Inputs, RetryHint, Value};
use indexmap::IndexMap;
use parking_lot::Mutex;
use serde_json::{Value as Json, json};
use tokio::process::{ChildStderr, ChildStdout};

use super::config::{ExecConfig, Folder, variable};
use super::lines::{Last, Secrets, drain};
use super::outputs::{self, Collected, Limits, Pattern};
use super::process::{Launch, Running};
use super::{ExecParts, RESULT, inputs, members, record};
use crate::task;

/// `EX_TEMPFAIL` of sysexits.h.
const TRY_AGAIN: i32 = 75;
/// How often its memory is looked at.
const LOOK: Duration = Duration::from_millis(200);
/// How long its pipes are read behind its end.
const DRAIN: Duration = Duration::from_secs(5);
/// A longer `result.json` is none.
const RESULT_LONGEST: u64 = 4 << 20;
/// Attempts of this process never share a marker, also those that run at once for each element of a list.
static NEXT: AtomicU64 = AtomicU64::new(0);

/// The folders of an attempt.
#[derive(Debug, Clone)]
struct Folders {
    own: PathBuf,
    inputs: PathBuf,
    outputs: PathBuf,
    aside: PathBuf,
}

/// Why a command ended.
#[derive(Debug)]
enum End {
    OfItself,
    TimedOut,
    /// By what it held, in bytes.
    TooMuch(u64),
}

/// Runs it.
pub(super) async fn run(
    parts: &ExecParts,
    config: &ExecConfig,
    patterns: &IndexMap<String, Pattern>,
    cx: &Context,
    given: Inputs,
) -> Result<Value, Error> {
    let Some(attempt) = &cx.attempt else {
        let m = "a stage of the kind `exec` runs in a durable run only: start this pipeline by `forebay run`";
        return Err(Error::new(Code::InvalidRequest, m));
    };
    let folders = made(&attempt.folder, &attempt.effect).await?;
    let place = parts.place.as_ref();
    let paths = inputs::write(given, &config.inputs, &folders.inputs, place, &parts.artifacts).await?;
    let environment = record::record(config);
    let stage = cx.stage.as_ref().map(|s| s.as_str()).unwrap_or_default();
    let noted = match &parts.notes {
        Some(notes) => notes.open(&cx.tenant, attempt, stage).await,
        None => None,
    };
    let notes = noted.as_ref().map(|n| n.env()).unwrap_or_default();
    let env = environment_of((parts, config, &notes), stage, attempt, &folders, &paths);
    let said = env.iter().filter_map(|(n, v)| Some((n.as_str(), v.to_str()?)));
    let secret = |name: &str| {
        let noted = notes.iter().any(|(n, _, secret)| n == name && *secret);
        noted || config.env.contains_key(name) || config.pass_env.iter().any(|p| p == name)
    };
    let secrets = Secrets::among(said.filter(|(n, _)| secret(n)));
    let launch = Launch {
        words: config.command.words(),
        mark: mark_of(&env),
        env,
        folder: match config.folder {
            Folder::Project => parts.project.clone(),
            Folder::Own => folders.outputs.clone(),
        },
        nice: config.nice,
        memory: config.memory.map(|m| m.0),
    };
    attempt.log.line(&format!("$ {}", secrets.hide(&launch.words.join(" "))));
    let (mut running, out, err) = Running::start(&launch).await?;
    let last = Mutex::new(Last::default());
    let (end, status) = watched(config, &mut running, read(out, err, attempt, &secrets, &last)).await;
    drop(running);
    let verdict = verdict(config, end, status, &last.lock());
    let collected = match verdict {
        Ok(()) => collect(parts, config, patterns, cx, &folders).await,
        Err(e) => Err(e),
    };
    if let Some(noted) = noted {
        noted.ended(collected.is_ok()).await;
    }
    let collected = collected?;
    // Many elements of a list share what an attempt may fill.
    let own = folders.own;
    let _ = task::reading("folders", move || fs::remove_dir_all(own)).await;
    finish(attempt, collected, environment)
}

/// Reads both streams to their end.
async fn read(out: ChildStdout, err: ChildStderr, attempt: &Attempt, secrets: &Secrets, last: &Mutex<Last>) {
    let out = drain(out, |line| attempt.log.line(&secrets.hide(line)));
    let err = drain(err, |line| {
        let line = secrets.hide(line);
        last.lock().push(&line);
        attempt.log.line(&line);
    });
    tokio::join!(out, err);
}

/// Waits for its end while it is read, makes it end when it takes too long or too much, and ends all that is left of it.
async fn watched(
    config: &ExecConfig,
    running: &mut Running,
    read: impl Future<Output = ()>,
) -> (End, Option<ExitStatus>) {
    let mut read = pin!(read);
    let mut all_read = false;
    let ended = {
        let mut ended = pin!(async {
            let end = tokio::select! {
                end = too_much(config, running) => end,
                () = task::sleep(config.timeout.0) => End::TimedOut,
            };
            if !matches!(end, End::OfItself) {
                running.ask_to_end().await;
                tokio::select! {
                    () = running.ended() => {}
                    () = task::sleep(config.grace.0) => {}
                }
            }
            (end, running.sweep().await)
        });
        loop {
            tokio::select! {
                ended = &mut ended => break ended,
                () = &mut read, if !all_read => all_read = true,
            }
        }
    };
    // Who took the pipe along and could not be found does not hold us up.
    if !all_read {
        tokio::select! {
            () = &mut read => {}
            () = task::sleep(DRAIN) => {}
        }
    }
    ended
}

/// Waits until it ends or holds too much.
async fn too_much(config: &ExecConfig, running: &mut Running) -> End {
    loop {
        tokio::select! {
            () = running.ended() => return End::OfItself,
            () = task::sleep(LOOK), if config.memory.is_some() => {}
        }
        let held = running.resident().await;
        if config.memory.is_some_and(|m| held > m.0) {
            return End::TooMuch(held);
        }
    }
}

/// The folders, empty.
async fn made(folder: &Path, effect: &str) -> Result<Folders, Error> {
    let name = blake3::hash(effect.as_bytes()).to_hex();
    let of = folder.join(name.get(..16).unwrap_or("own"));
    let work = move || {
        let of = std::path::absolute(of)?;
        let (inputs, outputs, aside) = (of.join("in"), of.join("out"), of.join("tmp"));
        // What a try before this one left of an element is none of its outputs.
        match fs::remove_dir_all(&of) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        let all = Folders { own: of, inputs, outputs, aside };
        for f in [&all.inputs, &all.outputs, &all.aside] {
            fs::create_dir_all(f)?;
        }
        Ok(all)
    };
    let made = task::reading("folders", work).await.map_err(|e| Error::new(Code::Internal, e.to_string()))?;
    made.map_err(|e: std::io::Error| {
        Error::new(Code::StorageUnavailable, format!("the attempt's folder cannot be made: {}", e.kind()))
    })
}

/// All variables of the command. Later ones replace earlier ones.
fn environment_of(
    (parts, config, notes): (&ExecParts, &ExecConfig, &[(String, String, bool)]),
    stage: &str,
    attempt: &Attempt,
    folders: &Folders,
    inputs: &[(String, PathBuf)],
) -> Vec<(String, OsString)> {
    let mut all: IndexMap<String, OsString> = IndexMap::new();
    for name in ["PATH", "LANG", "HOME"].into_iter().chain(config.pass_env.iter().map(String::as_str)) {
        if let Some(value) = std::env::var_os(name) {
            all.insert(name.to_owned(), value);
        }
    }
    all.insert("TMPDIR".into(), folders.aside.clone().into());
    all.extend(notes.iter().map(|(n, v, _)| (n.clone(), v.into())));
    all.extend(config.env.iter().map(|(n, v)| (n.clone(), v.0.clone().into())));
    all.extend(inputs.iter().map(|(n, path)| (variable(n), path.into())));
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let mark =
        members::mark(&parts.marker(), &format!("{}/{stage}/{}/{number}", attempt.run, attempt.number));
    for (name, value) in [
        ("OUTPUT", folders.outputs.clone().into_os_string()),
        ("PROJECT", parts.project.clone().into()),
        ("RUN", attempt.run.to_string().into()),
        ("PIPELINE", attempt.pipeline.as_str().into()),
        ("STAGE", stage.into()),
        ("ATTEMPT", attempt.number.to_string().into()),
        ("EFFECT", attempt.effect.as_str().into()),
        ("ATTEMPT_ID", mark.into()),
    ] {
        all.insert(format!("FOREBAY_{name}"), value);
    }
    all.into_iter().collect()
}

fn mark_of(env: &[(String, OsString)]) -> String {
    let mark = env.iter().find(|(n, _)| n == members::MARKER);
    mark.map(|(_, v)| v.to_string_lossy().into_owned()).unwrap_or_default()
}

/// What an end means. The message says what is known of it, the detail all that was said last.
fn verdict(config: &ExecConfig, end: End, status: Option<ExitStatus>, last: &Last) -> Result<(), Error> {
    use std::os::unix::process::ExitStatusExt as _;
    let failed = |how: &str| {
        let said = last.few();
        let m = if said.is_empty() { how.to_owned() } else { format!("{how}: {said}") };
        Error::new(Code::CommandFailed, m)
    };
    let e = match end {
        End::TimedOut => {
            let m = format!("the command did not end within its {} (`timeout`)", config.timeout);
            Error::new(Code::DeadlineExceeded, m)
        }
        End::TooMuch(held) => {
            let allowed = config.memory.map_or(0, |m| m.0);
            let m = format!("the command held {held} bytes of memory, and `memory` is {allowed}");
            Error::new(Code::TooLarge, m)
        }
        End::OfItself => match (status.and_then(|s| s.code()), status.and_then(|s| s.signal())) {
            (Some(0), _) => return Ok(()),
            (Some(TRY_AGAIN), _) => {
                let how = "the command asked for another try (exit code 75)";
                failed(how).retry(RetryHint::After(Duration::ZERO))
            }
            (Some(code), _) => failed(&format!("the command ended with exit code {code}")),
            (None, Some(signal)) => {
                failed(&format!("the command was ended by signal {signal}, which Forebay did not send"))
            }
            (None, None) => failed("nobody knows how the command ended"),
        },
    };
    Err(e.detail(last.text()))
}

async fn collect(
    parts: &ExecParts,
    config: &ExecConfig,
    patterns: &IndexMap<String, Pattern>,
    cx: &Context,
    folders: &Folders,
) -> Result<(Collected, Json), Error> {
    let limits = Limits { files: config.files_at_most, bytes: config.output_at_most.0 };
    let (to, patterns, now) = (parts.artifacts.clone(), patterns.clone(), cx.clock.wall());
    let folder = folders.outputs.clone();
    let work = move || {
        let result = result(&folder)?;
        let collected = outputs::collect(&folder, &patterns, limits, &to, now)?;
        Ok((collected, result))
    };
    let collected = task::reading("outputs", work).await;
    collected.unwrap_or_else(|e| Err(Error::new(Code::Internal, e.to_string())))
}

/// What it wrote as its result; null when it wrote none.
fn result(folder: &Path) -> Result<Json, Error> {
    if fs::symlink_metadata(folder.join(RESULT)).is_err() {
        return Ok(Json::Null);
    }
    let wrong = |why: String| Error::new(Code::CommandFailed, format!("`{RESULT}` cannot be taken: {why}"));
    let mut text = Vec::new();
    let file = outputs::open(folder, RESULT)?;
    file.take(RESULT_LONGEST + 1).read_to_end(&mut text).map_err(|e| wrong(e.kind().to_string()))?;
    if text.len() as u64 > RESULT_LONGEST {
        return Err(wrong(format!("it is longer than {RESULT_LONGEST} bytes: leave it as an output")));
    }
    // What it quotes is the command's own: the place is enough.
    serde_json::from_slice(&text)
        .map_err(|e| wrong(format!("it is no JSON (line {}, column {})", e.line(), e.column())))
}

fn finish(
    attempt: &Arc<Attempt>,
    (collected, result): (Collected, Json),
    environment: Json,
) -> Result<Value, Error> {
    let all: Vec<_> = collected.outputs.values().flatten().collect();
    let different: HashSet<&str> = all.iter().map(|a| a.hash.as_str()).collect();
    let bytes: u64 = all.iter().map(|a| a.bytes).sum();
    let also = match collected.others {
        0 => String::new(),
        n => format!("; {n} more are no outputs of the stage and are not kept"),
    };
    let (files, contents) = (all.len(), different.len());
    attempt.log.line(&format!("kept {files} files, {contents} different, {bytes} bytes{also}"));
    let outputs = serde_json::to_value(&collected.outputs)
        .map_err(|e| Error::new(Code::Internal, format!("the outputs cannot be said: {e}")))?;
    let value = json!({"exit": 0, "outputs": outputs, "result": result, "environment": environment});
    Ok(Value::Json(value.into()))
}
