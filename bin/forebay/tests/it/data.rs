//! `forebay data`, as the built binary runs it: from files to versions and back, and what becomes of bad input.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

const FLIGHTS: &str =
    "year,month,carrier,tailnum,dep_delay\n2013,1,UA,N14228,2\n2013,1,AA,N619AA,-4\n2013,2,UA,NA,NA\n";

struct Project(tempfile::TempDir);

impl Project {
    fn new() -> Project {
        Project(tempfile::tempdir().unwrap())
    }

    fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, bytes).unwrap();
        path
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_forebay"));
        command
            .current_dir(self.0.path())
            .env_remove("FOREBAY_URL")
            .env("USER", "ada")
            .arg("data")
            .args(args);
        command
    }

    fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    fn text(&self, args: &[&str]) -> String {
        let output = self.run(args);
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    fn json(&self, args: &[&str]) -> Value {
        let text = self.text(&[args, &["--json"]].concat());
        serde_json::from_str(&text).unwrap_or_else(|e| panic!("{args:?}: {e}: {text}"))
    }

    /// What a command says that must fail, with a remedy.
    fn refused(&self, args: &[&str]) -> String {
        let output = self.run(args);
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{args:?}: {text}");
        assert!(text.contains("error: ") && text.contains("\n  help: "), "{text}");
        text
    }

    /// The newest version's number, rows and name, and that its rows can be read.
    fn state(&self, dataset: &str) -> (Value, Value, Value) {
        let shown = self.json(&["show", dataset]);
        let read = self.text(&["read", dataset, "--format", "csv"]);
        assert_eq!(read.lines().count() as u64, shown["rows"].as_u64().unwrap() + 1);
        (shown["version"].clone(), shown["rows"].clone(), shown["name"].clone())
    }
}

/// Files below a folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found.sort();
    found
}

#[test]
fn a_dataset_goes_through_its_life_by_commands() {
    let project = Project::new();
    assert!(project.text(&["list"]).contains("no datasets yet"));
    project.refused(&["show", "flights"]);
    assert!(!project.0.path().join(".forebay").exists(), "looking makes nothing");
    project.write("flights.csv", FLIGHTS);
    let said = project.text(&["add", "flights", "flights.csv", "--message", "the first"]);
    assert!(said.contains("flights@0: 3 rows added"), "{said}");
    let said = project.text(&["add", "flights", "flights.csv", "--overwrite"]);
    assert!(said.contains("no new version"), "{said}");

    project.write("more.csv", "year,month,carrier,tailnum,dep_delay\n2013,3,DL,N1,1\n");
    assert_eq!(project.json(&["add", "flights", "more.csv"])["version"], 1);
    project.write("late.csv", "year,month,carrier,tailnum,dep_delay\n2013,3,DL,N1,30\n2013,4,B6,N2,0\n");
    let merged = project.json(&["add", "flights", "late.csv", "--merge-by", "year,month,carrier"]);
    assert_eq!((&merged["version"], &merged["replaced"], &merged["rows"]), (&2.into(), &1.into(), &5.into()));

    let log = project.json(&["log", "flights"]);
    assert_eq!(log["versions"].as_array().unwrap().len(), 3);
    assert_eq!(
        (&log["versions"][2]["message"], &log["versions"][2]["who"]),
        (&"the first".into(), &"ada".into())
    );
    let shown = project.json(&["show", "flights@0"]);
    assert_eq!((&shown["columns"][3]["type"], &shown["columns"][4]["type"]), (&"text".into(), &"int".into()));
    assert!(project.text(&["show", "flights"]).contains("dep_delay"));

    project.text(&["tag", "flights@1", "good"]);
    assert_eq!(project.json(&["show", "flights@good"])["version"], 1);
    assert_eq!(project.json(&["tag", "flights"])["tags"][0]["tag"], "good");
    let diff = project.json(&["diff", "flights@1", "flights@2", "--by", "year,month,carrier"]);
    assert_eq!((&diff["added"], &diff["removed"], &diff["changed"]), (&1.into(), &0.into(), &1.into()));
    assert!(project.text(&["diff", "flights@0", "flights@1"]).contains("1 added, 0 removed"));

    let read = project.json(&["read", "flights@0", "--where", "month = 1", "--columns", "carrier,dep_delay"]);
    assert_eq!(
        read["rows"].to_string(),
        r#"[{"carrier":"UA","dep_delay":2},{"carrier":"AA","dep_delay":-4}]"#
    );
    let csv = project.text(&["read", "flights@0", "--columns", "tailnum", "--format", "csv"]);
    // `NA` is a text where the column is text.
    assert_eq!(csv, "tailnum\nN14228\nN619AA\nNA\n");
    let lines = project.text(&["read", "flights@0", "--limit", "1", "--format", "json"]);
    assert_eq!(lines.lines().count(), 1);
    assert!(project.text(&["read", "flights", "--limit", "2"]).contains("there are more"));
    project.text(&["read", "flights", "-o", "out.parquet"]);
    assert_eq!(
        project.json(&["add", "copy", "out.parquet"])["name"],
        project.json(&["show", "flights"])["name"]
    );
    let at = project.json(&["log", "flights"])["versions"][0]["at"].as_str().unwrap().to_owned();
    assert_eq!(project.json(&["show", &format!("flights@{}", at.replace("Z", ".999Z"))])["version"], 2);

    assert_eq!(project.json(&["list"])["datasets"].as_array().unwrap().len(), 2);
    assert!(project.text(&["gc", "flights", "--older-than", "0s", "--dry-run"]).contains("would go"));
    project.text(&["gc", "flights", "--older-than", "0s"]);
    assert_eq!(project.json(&["read", "flights@good"])["rows"].as_array().unwrap().len(), 4);
    let said = project.refused(&["show", "fligths"]);
    assert!(said.contains("flights"), "{said}");
    project.refused(&["show", "flights@9"]);
    project.refused(&["read", "flights", "--where", "mnth = 1"]);
    project.refused(&["read", "flights", "--columns", "nothing"]);
    assert_eq!(project.run(&["read"]).status.code(), Some(2));
}

#[test]
fn packed_files_patterns_and_corrected_types_make_the_same_dataset() {
    let project = Project::new();
    project.write("a-1.csv", "id,code\n1,7\n2,8\n");
    project.write("a-2.csv", "id,code\n3,9\n");
    project.text(&["add", "plain", "a-1.csv", "a-2.csv", "--column", "code=string"]);
    project.text(&["add", "pattern", "a-*.csv", "--column", "code=text"]);
    let both = "id,code\n1,7\n2,8\n3,9\n";
    project.write("all.csv.zst", zstd::encode_all(both.as_bytes(), 1).unwrap());
    project.text(&["add", "packed", "all.csv.zst", "--column", "code=text"]);
    let name = |dataset: &str| project.json(&["show", dataset])["name"].clone();
    assert_eq!((name("plain"), name("plain")), (name("pattern"), name("packed")));
    project.refused(&["add", "x", "b-*.csv"]);
}

const EXPECTED: &str =
    "expectations:\n  - not_null: {column: tailnum}\n  - range: {column: dep_delay, min: -60, max: 600}\n";

#[test]
fn a_gate_holds_bad_rows_back_and_lets_them_out_again() {
    let project = Project::new();
    let config = "datasets:\n  flights:\n    files: [in/*.csv]\n    nulls: [NA]\n    key: [year, month, carrier]\n    \
        expectations: expect.yaml\n    bad_rows: quarantine\n    max_bad_share: 0.5\n";
    project.write("forebay.yaml", config);
    project.write("expect.yaml", EXPECTED);
    project.write("in/1.csv", FLIGHTS);
    let added = project.json(&["add", "flights"]);
    assert_eq!((&added["rows"], &added["quarantined"]), (&2.into(), &1.into()));
    let held = project.json(&["quarantine", "list", "flights"]);
    assert_eq!(held["attempts"][0]["reasons"]["not_null of tailnum"], 1, "{held}");
    let shown = project.text(&["quarantine", "show", "flights"]);
    assert!(shown.contains("1.csv:4") && shown.contains("not_null of tailnum"), "{shown}");

    // Too many are bad: refused, and what there was stays.
    let before = project.state("flights");
    std::fs::remove_file(project.0.path().join("in/1.csv")).unwrap();
    project.write("in/2.csv", "year,month,carrier,tailnum,dep_delay\n2013,5,UA,NA,1\n2013,5,AA,N1,9999\n");
    let output = project.run(&["add", "flights"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stdout).contains("refused: `flights` is as it was"));
    assert_eq!(project.state("flights"), before);

    let first = held["attempts"][0]["attempt"].as_str().unwrap();
    let again = project.run(&["quarantine", "release", "flights", "--attempt", first]);
    assert_eq!(again.status.code(), Some(1), "it is still not as expected");
    let released = project.json(&["quarantine", "release", "flights", "--attempt", first, "--unchecked"]);
    assert_eq!((&released["held"], &released["rows"]), (&1.into(), &3.into()));
    let attempts = project.json(&["quarantine", "list", "flights"]);
    assert!(!attempts.to_string().contains(first), "{attempts}");

    let report = project.run(&["validate", "flights", "--json"]);
    assert_eq!(report.status.code(), Some(1));
    let report: Value = serde_json::from_slice(&report.stdout).unwrap();
    assert_eq!(report["passed"], false);
    assert!(project.text(&["validate", "flights@0"]).contains("is as expected"));
    project.text(&["profile", "flights@0", "--suggest", "proposed.yaml"]);
    project.text(&["validate", "flights@0", "--expect", "proposed.yaml"]);
    project.refused(&["profile", "flights", "--suggest", "proposed.yaml"]);
    assert!(project.text(&["profile", "flights"]).contains("dep_delay"));
}

#[test]
fn bad_input_is_refused_with_its_place_and_leaves_what_there_was() {
    let project = Project::new();
    project.write("flights.csv", FLIGHTS);
    project.text(&["add", "flights", "flights.csv"]);
    let before = project.state("flights");
    let head = "year,month,carrier,tailnum,dep_delay\n";
    let row = "2013,1,UA,N1,1\n".repeat(20_000);
    let parquet = {
        project.text(&["read", "flights", "-o", "whole.parquet"]);
        let whole = std::fs::read(project.0.path().join("whole.parquet")).unwrap();
        whole[..whole.len() / 2].to_vec()
    };
    let bad: &[(&str, Vec<u8>, &[&str])] = &[
        ("ragged.csv", format!("{head}{row}2013,1,UA\n").into(), &["line 20002", "3 fields"]),
        ("mixed.csv", format!("{head}{row}2013,1,UA,N1,soon\n").into(), &["line 20002", "dep_delay", "soon"]),
        ("twice.csv", "year,month,month,tailnum,dep_delay\n1,1,1,1,1\n".into(), &["month"]),
        ("missing.csv", "year,month,carrier,tailnum\n2013,1,UA,N1\n".into(), &["lacks", "dep_delay"]),
        ("extra.csv", "year,month,carrier,tailnum,dep_delay,x\n2013,1,UA,N1,1,1\n".into(), &["`x`"]),
        (
            "latin.csv",
            [head.as_bytes(), b"2013,1,\xe9\xe8,N1,1\n"].concat(),
            &["line 2", "0xe9", "--encoding"],
        ),
        (
            "quote.csv",
            format!("{head}2013,1,\"UA,N1,1\n{row}").into(),
            &["line 2: the quote that is opened here is not closed"],
        ),
        ("empty.csv", Vec::new(), &["empty"]),
        ("truncated.parquet", parquet, &["truncated"]),
        ("not.parquet", b"PAR1 no".to_vec(), &["Parquet"]),
        ("cut.jsonl", b"{\"year\":2013,\"month\":1,\"carrier\":\"UA\"".to_vec(), &["does not end"]),
        ("cut.csv.gz", b"\x1f\x8b\x08\0\0\0\0\0\0\x03".to_vec(), &["unpacked"]),
        ("no.zip", b"PK".to_vec(), &["archive"]),
        ("flights.xls", b"x".to_vec(), &["xls", "format"]),
    ];
    for (name, bytes, says) in bad {
        project.write(name, bytes);
        let there = files(&project.0.path().join(".forebay/data"));
        let said = project.refused(&["add", "flights", name]);
        for part in *says {
            assert!(said.contains(part), "{name}: {part}: {said}");
        }
        assert_eq!(files(&project.0.path().join(".forebay/data")), there, "{name} left something behind");
        // And none makes a dataset that was not there, but those that only differ from the one there is.
        if !matches!(*name, "mixed.csv" | "missing.csv" | "extra.csv") {
            project.refused(&["add", "new", name]);
        }
    }
    assert_eq!(project.state("flights"), before);
    project.refused(&["add", "flights", "nowhere.csv"]);
    project.refused(&["add", "flights"]);
    project.refused(&["add", "../flights", "flights.csv"]);
}

#[test]
fn appends_at_once_are_all_kept_and_one_of_two_overwrites_is_refused() {
    let project = Project::new();
    project.write("flights.csv", FLIGHTS);
    project.text(&["add", "flights", "flights.csv"]);
    let start =
        |args: &[&str]| project.command(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let writers: Vec<_> = (0..6).map(|_| start(&["add", "flights", "flights.csv"])).collect();
    for writer in writers {
        let output = writer.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    let (version, rows, _) = project.state("flights");
    assert_eq!((version, rows), (6.into(), 21.into()));
    let one = format!("year,month,carrier,tailnum,dep_delay\n{}", "2014,1,UA,N1,1\n".repeat(60_000));
    project.write("one.csv", &one);
    project.write("two.csv", one.replace("2014", "2015"));
    let both: Vec<_> =
        ["one.csv", "two.csv"].iter().map(|f| start(&["add", "flights", f, "--overwrite"])).collect();
    let ended: Vec<_> = both.into_iter().map(|w| w.wait_with_output().unwrap()).collect();
    let done = ended.iter().filter(|o| o.status.success()).count();
    assert!(done >= 1);
    for output in ended.iter().filter(|o| !o.status.success()) {
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains("another writer committed"), "{said}");
    }
    let (version, rows, _) = project.state("flights");
    assert_eq!((version, rows), ((6 + done as u64).into(), 60_000.into()));
}

/// A limit on the size of any file, as a disk that fills: what is written beyond it fails.
#[cfg(unix)]
#[test]
fn a_disk_that_fills_in_the_middle_leaves_the_previous_version() {
    let project = Project::new();
    project.write("flights.csv", FLIGHTS);
    project.text(&["add", "flights", "flights.csv"]);
    let before = project.state("flights");
    let there = files(&project.0.path().join(".forebay/data"));
    let mut rows = String::from("year,month,carrier,tailnum,dep_delay\n");
    for n in 0u64..200_000 {
        rows.push_str(&format!("2013,1,U{},N{},{}\n", n * 7919 % 1_000_003, n * 104_729 % 999_983, n));
    }
    project.write("large.csv", rows);
    let forebay = env!("CARGO_BIN_EXE_forebay");
    // 64 blocks of 512 bytes or of 1 KiB, by the shell. The signal that comes with it is ignored, so that writing fails.
    let script = format!("ulimit -f 64; trap '' XFSZ; exec '{forebay}' data add flights large.csv");
    let output = Command::new("sh").args(["-c", &script]).current_dir(project.0.path()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("File too large") && said.contains("the previous version is intact"), "{said}");
    assert!(!said.contains("panicked") && said.lines().count() == 2, "{said}");
    assert_eq!(project.state("flights"), before);
    assert_eq!(files(&project.0.path().join(".forebay/data")), there, "nothing is left behind");
    project.text(&["add", "flights", "large.csv"]);
}

#[test]
fn folders_of_documents_and_queries_are_datasets_too() {
    let project = Project::new();
    project.write("docs/a.md", "# One\n\nText of one.");
    project.write("docs/sub/b.txt", "Text of two.");
    project.write("docs/c.bin", [0, 1]);
    let added = project.run(&["add", "notes", "--documents", "docs"]);
    assert!(String::from_utf8_lossy(&added.stderr).contains("1 of 3 files gave no text"));
    let read =
        project.json(&["read", "notes", "--columns", "path,media_type", "--where", "text is not null"]);
    assert_eq!(read["rows"].as_array().unwrap().len(), 2);
    assert!(project.text(&["add", "notes", "--documents", "docs"]).contains("no new version"));

    // The project's own storage is a SQLite database like any other.
    let made = Command::new(env!("CARGO_BIN_EXE_forebay"))
        .args(["key", "create", "--name", "ci", "--tenant", "acme", "--project"])
        .arg(project.0.path())
        .output()
        .unwrap();
    assert!(made.status.success());
    let query = "SELECT name, tenant FROM keys";
    let args = ["add", "keys", "--database", "sqlite:.forebay/forebay.db", "--sql", query];
    let added = project.json(&args);
    assert_eq!(added["rows"], 1);
    let shown = project.json(&["show", "keys"]);
    assert_eq!(shown["origin"]["query"], query);
    let said = project.refused(&[
        "add",
        "keys",
        "--database",
        "sqlite:.forebay/forebay.db",
        "--sql",
        "DROP TABLE keys",
    ]);
    assert!(said.contains("readonly"), "{said}");
}

#[test]
fn an_address_is_fetched_where_that_is_allowed_and_its_version_is_known() {
    use std::io::{Read as _, Write as _};
    let server = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://u:secret@{}/x/flights.csv?token=secret", server.local_addr().unwrap());
    std::thread::spawn(move || {
        for socket in server.incoming() {
            let mut socket = socket.unwrap();
            let _ = socket.read(&mut [0; 4096]);
            let head = "HTTP/1.1 200 OK\r\netag: \"v1\"\r\nlast-modified: Sun, 22 Nov 2026 00:00:00 GMT\r\nconnection: close";
            let _ = write!(socket, "{head}\r\ncontent-length: {}\r\n\r\n{FLIGHTS}", FLIGHTS.len());
        }
    });
    let project = Project::new();
    let said = project.refused(&["add", "flights", &url]);
    assert!(said.contains("private network") && !said.contains("secret"), "{said}");
    project.text(&["add", "flights", &url, "--allow-private"]);
    let shown = project.json(&["show", "flights"]);
    assert_eq!((&shown["rows"], &shown["origin"]["etag"]), (&3.into(), &"\"v1\"".into()));
    assert!(!shown.to_string().contains("secret"), "{shown}");
    let config =
        format!("datasets: {{web: {{url: {{get: \"{url}\", allow_private: true, max_size: 20b}}}}}}\n");
    project.write("forebay.yaml", config);
    let said = project.refused(&["add", "web"]);
    assert!(said.contains("more than 20 bytes"), "{said}");
}

#[test]
fn a_damaged_dataset_is_listed_as_such_among_the_others() {
    let project = Project::new();
    project.write("flights.csv", FLIGHTS);
    project.text(&["add", "flights", "flights.csv"]);
    project.text(&["add", "zones", "flights.csv"]);
    project.write(".forebay/data/mended/_delta_log/00000000000000000000.json", "garbage\n");
    let output = project.command(&["list"]).env("RUST_BACKTRACE", "1").output().unwrap();
    let (listed, said) =
        (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert_eq!(output.status.code(), Some(1), "{said}");
    let lines: Vec<Vec<&str>> =
        listed.lines().map(|line| line.split_whitespace().take(2).collect()).collect();
    assert_eq!(lines[1..], [vec!["flights", "0"], vec!["mended", "damaged"], vec!["zones", "0"]], "{listed}");
    assert!(said.contains("cannot open `mended`") && !said.contains("0: "), "{said}");
    let output = project.run(&["list", "--json"]);
    assert_eq!(output.status.code(), Some(1));
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&json["datasets"][0]["rows"], &json["datasets"][2]["rows"]), (&3.into(), &3.into()));
    assert!(json["datasets"][1]["error"].as_str().unwrap().contains("mended"), "{json}");
}
