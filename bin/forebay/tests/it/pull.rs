//! `forebay models pull`: from a folder, an address and a hub, with everything that may go wrong on the way.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::process::Output;
use std::sync::{Arc, Mutex};

use serde_json::{Value as Json, json};

use crate::run::command;

/// A GGUF file of an architecture, with one tensor of a million weights and `padding` bytes for them.
pub fn gguf(padding: usize) -> Vec<u8> {
    let text = |s: &str| [&(s.len() as u64).to_le_bytes()[..], s.as_bytes()].concat();
    let mut out = b"GGUF".to_vec();
    out.extend(3_u32.to_le_bytes());
    out.extend([1_u64.to_le_bytes(), 3_u64.to_le_bytes()].concat());
    out.extend([text("general.architecture"), 8_u32.to_le_bytes().to_vec(), text("llama")].concat());
    out.extend([text("general.file_type"), [4_u32.to_le_bytes(), 2_u32.to_le_bytes()].concat()].concat());
    out.extend(
        [text("llama.context_length"), [4_u32.to_le_bytes(), 4096_u32.to_le_bytes()].concat()].concat(),
    );
    out.extend(
        [
            text("w"),
            [2_u32.to_le_bytes()].concat(),
            [1000_u64.to_le_bytes(), 1000_u64.to_le_bytes()].concat(),
        ]
        .concat(),
    );
    out.extend([2_u32.to_le_bytes().to_vec(), 0_u64.to_le_bytes().to_vec()].concat());
    out.extend((0..padding).map(|n| (n % 251) as u8));
    out
}

fn sum(bytes: &[u8]) -> String {
    use sha2::Digest as _;
    sha2::Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect()
}

/// A file server. The first answer breaks off after `cut` bytes of the body; heads of requests are kept.
struct Files {
    address: SocketAddr,
    heads: Arc<Mutex<Vec<String>>>,
}

impl Files {
    fn start(body: Vec<u8>, cut: Option<usize>, redirect: Option<String>) -> Files {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let heads: Arc<Mutex<Vec<String>>> = Arc::default();
        let seen = heads.clone();
        std::thread::spawn(move || {
            let mut cut = cut;
            for socket in listener.incoming() {
                let Ok(mut socket) = socket else { continue };
                let mut head = Vec::new();
                let mut byte = [0];
                while !head.ends_with(b"\r\n\r\n") && socket.read(&mut byte).is_ok_and(|n| n == 1) {
                    head.push(byte[0]);
                }
                let head = String::from_utf8_lossy(&head).to_lowercase();
                seen.lock().unwrap().push(head.clone());
                if let Some(to) = &redirect {
                    let _ = write!(
                        socket,
                        "HTTP/1.1 302 Found\r\nlocation: {to}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
                    );
                    continue;
                }
                let from = head
                    .lines()
                    .find_map(|l| l.strip_prefix("range: bytes=")?.strip_suffix('-')?.parse().ok());
                let from: usize = from.unwrap_or(0);
                let rest = &body[from..];
                let (status, range) = match from {
                    0 => ("200 OK", String::new()),
                    _ => (
                        "206 Partial Content",
                        format!("content-range: bytes {from}-{}/{}\r\n", body.len() - 1, body.len()),
                    ),
                };
                let _ = write!(
                    socket,
                    "HTTP/1.1 {status}\r\netag: \"v1\"\r\n{range}content-length: {}\r\nconnection: close\r\n\r\n",
                    rest.len()
                );
                let end = cut.take().unwrap_or(rest.len());
                let _ = socket.write_all(&rest[..end]);
            }
        });
        Files { address, heads }
    }

    fn url(&self) -> String {
        format!("http://{}/tiny.gguf", self.address)
    }
}

fn told(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn names(folder: &tempfile::TempDir) -> Vec<String> {
    let inside = std::fs::read_dir(folder.path().join("models")).unwrap();
    let mut names: Vec<String> = inside.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_torn_download_goes_on_where_it_stopped() {
    let (folder, body) = (tempfile::tempdir().unwrap(), gguf(3_000_000));
    let files = Files::start(body.clone(), Some(1_000_000), None);
    let pull = command(folder.path(), &["--json", "models", "pull", &files.url(), "--sha256", &sum(&body)])
        .output()
        .unwrap();
    assert_eq!(pull.status.code(), Some(0), "{}", told(&pull));
    let told: Json = serde_json::from_slice(&pull.stdout).unwrap();
    assert_eq!((&told["bytes"], &told["sha256"]), (&json!(body.len()), &json!(sum(&body))));
    let model = json!({"architecture": "llama", "name": null, "parameters": 1_000_000, "quantization": "Q4_0", "context_length": 4096});
    assert_eq!((&told["model"], &told["file"]), (&model, &json!("models/tiny.gguf")));
    assert_eq!(std::fs::read(folder.path().join("models/tiny.gguf")).unwrap(), body);
    assert_eq!(names(&folder), ["tiny.gguf"], "nothing else is left");
    let heads = files.heads.lock().unwrap();
    assert_eq!(heads.len(), 2);
    assert!(heads[1].contains("range: bytes=") && heads[1].contains("if-range: \"v1\""), "{}", heads[1]);
}

#[test]
fn a_wrong_sum_and_a_file_that_is_no_model_leave_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let good = Files::start(gguf(1_000), None, None);
    let page = Files::start(b"<!DOCTYPE html><title>Sign in</title>".to_vec(), None, None);
    let zeros = "0".repeat(64);
    for (url, more, why) in [
        (good.url(), &["--sha256", zeros.as_str()][..], "the sum of"),
        (page.url(), &[], "is no GGUF file: it does not begin with GGUF"),
    ] {
        let pull = command(folder.path(), &["models", "pull", &url]).args(more).output().unwrap();
        assert_eq!(pull.status.code(), Some(1));
        assert!(told(&pull).contains(why) && told(&pull).contains("help: "), "{}", told(&pull));
        assert!(names(&folder).is_empty(), "{:?}", names(&folder));
    }
    let wrong = command(folder.path(), &["models", "pull", &good.url(), "--sha256", "abc"]).output().unwrap();
    assert_eq!(wrong.status.code(), Some(2));
}

#[test]
fn a_hubs_token_goes_to_the_hub_alone() {
    let folder = tempfile::tempdir().unwrap();
    let storage = Files::start(gguf(100), None, None);
    let hub = Files::start(Vec::new(), None, Some(storage.url()));
    let pull = command(folder.path(), &["models", "pull", "hf:owner/repo/tiny.gguf", "--name", "mine"])
        .env("HF_ENDPOINT", format!("http://{}", hub.address))
        .env("HF_TOKEN", "hf_secret")
        .output()
        .unwrap();
    assert_eq!(pull.status.code(), Some(0), "{}", told(&pull));
    let (asked, got) = (hub.heads.lock().unwrap(), storage.heads.lock().unwrap());
    assert!(asked[0].starts_with("get /owner/repo/resolve/main/tiny.gguf "), "{}", asked[0]);
    assert!(asked[0].contains("authorization: bearer hf_secret") && !got[0].contains("hf_secret"));
    assert_eq!(names(&folder), ["mine.gguf"]);
}

#[test]
fn a_folder_gives_its_only_model_and_a_pulled_model_is_known_by_its_name() {
    let (folder, from) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    std::fs::write(from.path().join("tiny.gguf"), gguf(10)).unwrap();
    let source = from.path().to_str().unwrap();
    for _ in 0..2 {
        let pull = command(folder.path(), &["models", "pull", source]).output().unwrap();
        assert_eq!(pull.status.code(), Some(0), "the second finds it there: {}", told(&pull));
        let text = String::from_utf8_lossy(&pull.stdout).into_owned();
        assert!(
            text.contains("architecture llama, 1.0M parameters, quantisation Q4_0, context 4096 tokens"),
            "{text}"
        );
    }
    std::fs::write(folder.path().join("forebay.yaml"), "models:\n  a: {local: tiny}\n  b: {local: other}\n")
        .unwrap();
    let list = command(folder.path(), &["--json", "models", "list"]).output().unwrap();
    let list: Json = serde_json::from_slice(&list.stdout).unwrap_or_else(|e| panic!("{e}: {}", told(&list)));
    let state = |n: usize| (list["models"][n]["name"].clone(), list["models"][n]["state"].clone());
    assert_eq!((state(0), state(1)), ((json!("a"), json!("stopped")), (json!("b"), json!("missing"))));
    assert_eq!(list["models"][0]["bytes"], gguf(10).len());
    std::fs::write(from.path().join("second.gguf"), gguf(10)).unwrap();
    let two = command(folder.path(), &["models", "pull", source]).output().unwrap();
    assert!(two.status.code() == Some(1) && told(&two).contains("it has 2 .gguf files"), "{}", told(&two));
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_said_and_leaves_no_model() {
    let (folder, from) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let file = from.path().join("tiny.gguf");
    std::fs::write(&file, gguf(10)).unwrap();
    std::fs::create_dir(folder.path().join("models")).unwrap();
    let files = Files::start(gguf(10), None, None);
    for source in [file.to_str().unwrap().to_owned(), files.url()] {
        // The device that is always full stands where the file is written.
        let part = folder.path().join("models/tiny.gguf.part");
        let _ = std::fs::remove_file(&part);
        std::os::unix::fs::symlink("/dev/full", &part).unwrap();
        let pull = command(folder.path(), &["models", "pull", &source]).output().unwrap();
        assert_eq!(pull.status.code(), Some(1));
        assert!(told(&pull).contains("help: make room on the disk"), "{}", told(&pull));
        assert!(!folder.path().join("models/tiny.gguf").exists());
    }
}
