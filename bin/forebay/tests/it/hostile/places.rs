//! Folders, files, ports and disks that are not as they should be: what to do is said, and the exit code is not zero.

use std::path::Path;
use std::process::{Command, Output};

use super::*;

const GOOD: &str = "models:\n  m: {openai: gpt, base_url: 'http://127.0.0.1:1/v1', api_key: k, price: {input: 1, output: 1}}\n";

fn folder(config: &[u8]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("forebay.yaml"), config).unwrap();
    folder
}

/// Runs a command that must end by itself.
fn run(folder: &Path, args: &[&str]) -> Output {
    Command::new("timeout")
        .arg("60")
        .arg(env!("CARGO_BIN_EXE_forebay"))
        .arg("--project")
        .arg(folder)
        .args(args)
        .output()
        .unwrap()
}

/// What a failing command said, on both outputs.
fn failed(output: &Output, case: &str) -> String {
    let said = [&output.stdout[..], &output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    assert_eq!(output.status.code(), Some(1), "{case}: {said}");
    assert!(!said.contains("panicked"), "{case}: {said}");
    said
}

#[test]
fn a_config_that_cannot_be_read_says_where_and_what_to_do() {
    let bomb: String = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned()
        + &(1..20)
            .map(|i| format!("a{i}: &a{i} [{}]\n", vec![format!("*a{}", i - 1); 10].join(", ")))
            .collect::<String>();
    let large = format!("# {}\n{GOOD}", "x".repeat(50_000_000));
    let wide = format!(
        "{GOOD}tenants:\n{}",
        (0..1_500_000).map(|n| format!("  t{n}: {{weight: 2}}\n")).collect::<String>()
    );
    for (case, config, word) in [
        ("not UTF-8", b"models: \xff\xfe\n".to_vec(), "UTF-8"),
        ("UTF-16", GOOD.encode_utf16().flat_map(u16::to_le_bytes).collect(), "forebay.yaml"),
        ("an alias bomb", bomb.into_bytes(), "values"),
        ("an anchor in itself", b"a: &a {b: *a}\n".to_vec(), "forebay.yaml:1"),
        ("an anchor in itself, by a merge", b"a: &a {<<: *a}\n".to_vec(), "forebay.yaml:1"),
        ("a duplicate key", format!("{GOOD}models: {{}}\n").into_bytes(), "models"),
        ("tabs", b"models:\n\tm: {openai: gpt}\n".to_vec(), "tab"),
        ("50 MB", large.into_bytes(), "large"),
        ("1.5 million tenants", wide.into_bytes(), "large"),
        ("nothing but depth", "[".repeat(100_000).into_bytes(), "forebay.yaml"),
    ] {
        let folder = folder(&config);
        for command in [&["check"][..], &["up", "--listen", "127.0.0.1:0"]] {
            let begin = now();
            let said = failed(&run(folder.path(), command), case);
            assert!(said.contains(word), "{case}: {}", said.get(..2_000).unwrap_or(&said));
            assert!(said.len() < 20_000, "{case}: {} bytes of message", said.len());
            assert!(begin.elapsed() < Duration::from_secs(20), "{case} took {:?}", begin.elapsed());
        }
    }
}

#[test]
fn a_missing_config_model_file_or_a_busy_port_is_named_with_help() {
    let empty = tempfile::tempdir().unwrap();
    for command in [&["check"][..], &["up"]] {
        let said = failed(&run(empty.path(), command), "no file");
        assert!(said.contains("forebay.yaml") && said.contains("help: "), "{said}");
    }
    let local = folder(b"models:\n  m: {local: models/none.gguf}\n");
    for command in [&["check"][..], &["up", "--listen", "127.0.0.1:0"]] {
        let said = failed(&run(local.path(), command), "no model file");
        assert!(said.contains("none.gguf"), "{said}");
    }
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let good = folder(GOOD.as_bytes());
    let said = failed(&run(good.path(), &["up", "--listen", &address]), "a port in use");
    assert!(said.contains(&address) && said.contains("help: ") && said.contains("--listen"), "{said}");
    let said =
        failed(&run(good.path(), &["up", "--listen", "203.0.113.7:80"]), "an address of another machine");
    assert!(said.contains("203.0.113.7") && said.contains("help: "), "{said}");
}

#[test]
fn a_folder_that_cannot_be_written_is_named_with_help() {
    // A file where the state's folder belongs: nobody can write there, root included.
    let blocked = folder(GOOD.as_bytes());
    std::fs::write(blocked.path().join(".forebay"), b"a file").unwrap();
    let said = failed(&run(blocked.path(), &["up", "--listen", "127.0.0.1:0"]), "a file in the way");
    assert!(said.contains(".forebay") && said.contains("help: "), "{said}");

    let readonly = folder(GOOD.as_bytes());
    let path = readonly.path().to_owned();
    let mode = |m: &str| Command::new("chmod").arg(m).arg(&path).status().unwrap();
    mode("a-w");
    if std::fs::write(path.join("probe"), b"x").is_ok() {
        eprintln!("SKIPPED: this user writes where nobody may (root): a read-only folder is not tested");
    } else {
        let said = failed(&run(&path, &["up", "--listen", "127.0.0.1:0"]), "a read-only folder");
        assert!(said.contains(".forebay") && said.contains("help: "), "{said}");
    }
    mode("u+w");
}

#[test]
fn a_full_disk_is_named_with_help() {
    let folder = folder(GOOD.as_bytes());
    let state = folder.path().join(".forebay");
    std::fs::create_dir(&state).unwrap();
    let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=64k", "tmpfs"]).arg(&state).output();
    if !mounted.is_ok_and(|o| o.status.success()) {
        eprintln!("SKIPPED: no right to mount a small disk: a full disk is not tested");
        return;
    }
    let _ = std::fs::write(state.join("filler"), vec![0; 65_536]);
    let output = run(folder.path(), &["up", "--listen", "127.0.0.1:0"]);
    assert!(Command::new("umount").arg("-l").arg(&state).status().unwrap().success());
    let said = failed(&output, "a full disk");
    assert!(said.contains("help: ") && (said.contains("space") || said.contains("full")), "{said}");
}
