//! `forebay models pull SOURCE`: a GGUF file into the project's `models` folder.
//!
//! Nothing half is ever found under the file's name: it is written beside it as `NAME.part`, checked (sum, GGUF head),
//! brought to the disk, and only then renamed. A download that was torn goes on where it stopped.

use std::fs::File;
use std::io::{BufReader, Read as _, Write as _};
use std::path::{Path, PathBuf};

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::super::storage::clean;
use super::super::{Global, block_on, print, print_json};
use super::download::{self, Download};
use super::size;
use crate::Error;
use crate::gguf::{self, Gguf};
use crate::inventory::MODELS;

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Sources:\n  hf:OWNER/REPO/FILE.gguf        a hub's file (@REVISION behind REPO; HF_ENDPOINT, HF_TOKEN)\n  \
    https://HOST/PATH/FILE.gguf    an address\n  PATH                           a file, or a folder with one .gguf file in it"
)]
pub(super) struct Args {
    /// Where it is.
    source: String,
    /// What it is to be called here: `local: NAME` names it in forebay.yaml. Unless given: as its file.
    #[arg(long)]
    name: Option<String>,
    /// The SHA-256 sum it must have, in hexadecimal.
    #[arg(long, value_name = "HEX", value_parser = sum)]
    sha256: Option<String>,
    /// Take the place of a file of that name.
    #[arg(long)]
    force: bool,
}

fn sum(text: &str) -> Result<String, String> {
    let text = text.trim().to_ascii_lowercase();
    let fine = text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit());
    if fine { Ok(text) } else { Err("a SHA-256 sum has 64 hexadecimal digits".into()) }
}

/// Where a model comes from.
#[derive(Debug, PartialEq)]
enum Source {
    File(PathBuf),
    Url(Download),
}

pub(super) fn run(global: &Global, args: &Args) -> Result<(), Error> {
    let source = source(&args.source, |name| std::env::var(name).ok().filter(|v| !v.is_empty()))?;
    let name = match &args.name {
        Some(name) => name.trim_end_matches(".gguf").to_owned(),
        None => name_of(&source)?,
    };
    let fine = |c: char| c.is_alphanumeric() || matches!(c, '.' | '-' | '_' | '+');
    if name.is_empty() || name.starts_with('.') || !name.chars().all(fine) {
        let help = "give --name letters, digits, `.`, `-` and `_`";
        return Err(Error::new(format!("`{}` is no name for a file", clean(&name)), help));
    }
    if !global.project.is_dir() {
        let message = format!("there is no folder {}", global.project.display());
        return Err(Error::new(message, "name the project's folder with --project"));
    }
    let folder = global.project.join(MODELS);
    std::fs::create_dir_all(&folder).map_err(|e| Error::file("create", &folder, &e))?;
    let target = folder.join(format!("{name}.gguf"));
    if target.exists() && !args.force {
        let (model, digest) = verified(&target, args.sha256.as_deref(), false)?;
        return told(global, &name, &target, &model, &digest, "is here already");
    }
    let part = target.with_extension("gguf.part");
    match &source {
        Source::File(file) => copy(file, &part)?,
        Source::Url(download) => block_on(download::fetch(download, &part))?,
    }
    let (model, digest) = verified(&part, args.sha256.as_deref(), true)?;
    let done = File::open(&part).and_then(|f| f.sync_all()).and_then(|()| std::fs::rename(&part, &target));
    done.map_err(|e| Error::file("write", &target, &e))?;
    let _ = std::fs::remove_file(download::notes(&part));
    told(global, &name, &target, &model, &digest, "is here")
}

/// What a source means. `env` looks up a variable.
fn source(text: &str, env: impl Fn(&str) -> Option<String>) -> Result<Source, Error> {
    let wrong = |why: &str, help: &str| Error::new(format!("`{}` is no source: {why}", clean(text)), help);
    if let Some(rest) = text.strip_prefix("hf:") {
        let parts: Vec<&str> = rest.splitn(3, '/').collect();
        let help = "write it as hf:OWNER/REPO/FILE.gguf";
        let [owner, repo, file] = parts.as_slice() else {
            return Err(wrong("it does not name a file", help));
        };
        let (repo, revision) = repo.split_once('@').unwrap_or((repo, "main"));
        let odd = |s: &str| s.is_empty() || s.split('/').any(|p| p.is_empty() || p == ".." || p == ".");
        if [*owner, repo, revision, file].iter().any(|s| odd(s)) {
            return Err(wrong("a part of it is empty", help));
        }
        let hub = env("HF_ENDPOINT").unwrap_or_else(|| "https://huggingface.co".to_owned());
        let url = format!("{}/{owner}/{repo}/resolve/{revision}/{file}", hub.trim_end_matches('/'));
        return Ok(Source::Url(Download::new(&url, env("HF_TOKEN"))?));
    }
    if text.starts_with("http://") || text.starts_with("https://") {
        return Ok(Source::Url(Download::new(text, None)?));
    }
    let path = PathBuf::from(text);
    if path.is_dir() {
        let inside = std::fs::read_dir(&path).map_err(|e| Error::file("read", &path, &e))?;
        let mut files: Vec<PathBuf> = inside
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|p| p.extension().is_some_and(|e| e.eq_ignore_ascii_case("gguf")))
            .collect();
        files.sort();
        let several = format!("it has {} .gguf files", files.len());
        return match (files.pop(), files.is_empty()) {
            (Some(file), true) => Ok(Source::File(file)),
            (None, _) => Err(wrong("the folder has no .gguf file", "name the file itself")),
            (Some(_), false) => Err(wrong(&several, "name the file itself")),
        };
    }
    if path.is_file() {
        return Ok(Source::File(path));
    }
    Err(wrong(
        "there is no such file or folder",
        "check the path, or write hf:OWNER/REPO/FILE.gguf or https://…",
    ))
}

/// The name of the file, without its ending.
fn name_of(source: &Source) -> Result<String, Error> {
    let file = match source {
        Source::File(path) => path.file_name().map(|n| n.to_string_lossy().into_owned()),
        Source::Url(download) => download.file_name(),
    };
    let file = file.filter(|f| !f.is_empty());
    let file =
        file.ok_or_else(|| Error::new("the source names no file", "give the model a name with --name"))?;
    Ok(file.strip_suffix(".gguf").unwrap_or(&file).to_owned())
}

fn copy(from: &Path, to: &Path) -> Result<(), Error> {
    let mut source = File::open(from).map_err(|e| Error::file("read", from, &e))?;
    let length = source.metadata().map_err(|e| Error::file("read", from, &e))?.len();
    let mut target = File::create(to).map_err(|e| Error::file("write", to, &e))?;
    let bar = bar(length, 0);
    let mut buffer = vec![0; 1 << 20];
    loop {
        let n = source.read(&mut buffer).map_err(|e| Error::file("read", from, &e))?;
        let Some(read) = buffer.get(..n).filter(|r| !r.is_empty()) else { break };
        if let Err(e) = target.write_all(read) {
            // A copy starts anew in any case: the room is of more use.
            let _ = std::fs::remove_file(to);
            return Err(Error::file("write", to, &e));
        }
        bar.inc(n as u64);
    }
    bar.finish_and_clear();
    Ok(())
}

/// A bar of bytes on standard error; hidden when that is no terminal.
pub(super) fn bar(length: u64, position: u64) -> ProgressBar {
    let bar = ProgressBar::new(length);
    let style = ProgressStyle::with_template("{bar:30} {bytes}/{total_bytes}  {bytes_per_sec}  {eta} left");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar.set_position(position);
    bar
}

/// What a file is, and its sum; refused when it is something else. `ours`: a bad file is removed.
fn verified(path: &Path, wanted: Option<&str>, ours: bool) -> Result<(Gguf, String), Error> {
    let discard = |message: String, help: &str| {
        if ours {
            let _ = (std::fs::remove_file(path), std::fs::remove_file(download::notes(path)));
        }
        Error::new(message, help)
    };
    let file = File::open(path).map_err(|e| Error::file("read", path, &e))?;
    let shown = path.display();
    let model = gguf::read(BufReader::with_capacity(1 << 20, file)).map_err(|why| {
        discard(format!("{shown} is no GGUF file: {why}"), "check the source: it must be a .gguf file")
    })?;
    let mut hash = Sha256::new();
    let mut file = File::open(path).map_err(|e| Error::file("read", path, &e))?;
    std::io::copy(&mut file, &mut hash).map_err(|e| Error::file("read", path, &e))?;
    let digest: String = hash.finalize().iter().map(|b| format!("{b:02x}")).collect();
    match wanted {
        Some(wanted) if wanted != digest => {
            let help = if ours {
                "check the sum and the source; the file was removed"
            } else {
                "give --force to get it again"
            };
            Err(discard(format!("the sum of {shown} is {digest}, not {wanted}"), help))
        }
        _ => Ok((model, digest)),
    }
}

fn told(global: &Global, name: &str, path: &Path, m: &Gguf, digest: &str, what: &str) -> Result<(), Error> {
    let bytes = std::fs::metadata(path).map_err(|e| Error::file("read", path, &e))?.len();
    let inside = path.strip_prefix(&global.project).unwrap_or(path).display().to_string();
    if global.json {
        return print_json(
            &json!({"name": name, "file": inside, "bytes": bytes, "sha256": digest, "model": m}),
        );
    }
    let mut parts = vec![size(bytes)];
    parts.extend(m.architecture.as_ref().map(|a| format!("architecture {}", clean(a))));
    parts.push(format!("{} parameters", thousands(m.parameters)));
    parts.extend(m.quantization.as_ref().map(|q| format!("quantisation {q}")));
    parts.extend(m.context_length.map(|n| format!("context {n} tokens")));
    let title = m.name.as_ref().map_or(String::new(), |n| format!(" ({})", clean(n)));
    print(&format!(
        "{inside}{title} {what}: {}\nsha256 {digest}\nname it in forebay.yaml by `local: {name}`",
        parts.join(", ")
    ));
    Ok(())
}

/// `494.0M`, `1.5B`.
fn thousands(n: u64) -> String {
    match n {
        0..1_000_000 => n.to_string(),
        1_000_000..1_000_000_000 => format!("{}.{}M", n / 1_000_000, n % 1_000_000 / 100_000),
        _ => format!("{}.{}B", n / 1_000_000_000, n % 1_000_000_000 / 100_000_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str, env: &[(&str, &str)]) -> Option<(String, bool)> {
        let env = |name: &str| env.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned());
        match source(text, env) {
            Ok(Source::Url(d)) => Some((d.url().to_owned(), d.has_token())),
            _ => None,
        }
    }

    #[test]
    fn a_hub_is_its_resolve_address_with_the_users_token() {
        assert_eq!(
            url("hf:Qwen/Qwen2.5-0.5B-Instruct-GGUF/qwen.gguf", &[]),
            Some((
                "https://huggingface.co/Qwen/Qwen2.5-0.5B-Instruct-GGUF/resolve/main/qwen.gguf".into(),
                false
            ))
        );
        let env = [("HF_ENDPOINT", "http://hub.example/"), ("HF_TOKEN", "hf_x")];
        assert_eq!(
            url("hf:o/r@v1/sub/m.gguf", &env),
            Some(("http://hub.example/o/r/resolve/v1/sub/m.gguf".into(), true))
        );
        assert_eq!(url("https://host.example/m.gguf", &env).map(|(_, token)| token), Some(false));
        for bad in ["hf:o/r", "hf://m.gguf", "hf:o/r/../x.gguf", "hf:o/r@/x.gguf", "no/such/file"] {
            assert!(source(bad, |_| None).is_err(), "{bad}");
        }
    }
}
