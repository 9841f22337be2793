//! What kills may leave behind, and what is left of it when the servers run again: nothing.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::aside;
use super::effects::forebay;
use crate::chance::patiently;
use crate::server::Server;

/// Everything below a folder that is a file.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        match entry.file_type().unwrap().is_dir() {
            true => all.extend(files(&entry.path())),
            false => all.push(entry.path()),
        }
    }
    all
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    std::fs::read_dir(folder).into_iter().flatten().map(|e| e.unwrap().path()).collect()
}

/// Processes that bear the mark of this project.
fn processes(project: &Path) -> Vec<PathBuf> {
    let mark = format!("FOREBAY_PROJECT={}\0", project.display()).into_bytes();
    let bears = |process: &PathBuf| {
        std::fs::read(process.join("environ")).is_ok_and(|e| e.windows(mark.len()).any(|w| w == mark))
    };
    entries(Path::new("/proc")).into_iter().filter(bears).collect()
}

/// What of a server's own is left in its folder and among the processes, but for what it holds itself.
fn of_server(server: &Server) -> Vec<PathBuf> {
    let project = server.folder.path();
    let runs = entries(&project.join(".forebay/runs"));
    let mut left: Vec<PathBuf> =
        runs.iter().flat_map(|run| entries(run)).filter(|path| path.is_dir()).collect();
    left.extend(entries(&aside(project)));
    left.extend(processes(project));
    let own = format!("{}-", server.pid());
    let is_own = |path: &PathBuf| {
        path.file_name().unwrap().to_str().unwrap().starts_with(&own) && files(path).is_empty()
    };
    left.extend(entries(&project.join(".forebay/tmp")).into_iter().filter(|path| !is_own(path)));
    left
}

/// Nothing is left: no folder of an attempt, no temporary file, no process, no file that was half put. Of what a dead writer had
/// staged for a dataset `forebay data gc` leaves nothing.
pub fn check(servers: &[Server], lake: &Path, artifacts: &Path) {
    for server in servers.iter() {
        let mut found = Vec::new();
        patiently("nothing of an attempt is left", || {
            found = of_server(server);
            if !found.is_empty() {
                eprintln!("left: {found:?}");
            }
            found.is_empty()
        });
    }
    assert_eq!(entries(&artifacts.join("tmp")), Vec::<PathBuf>::new(), "no file is half put");
    let project = servers[0].folder.path();
    for dataset in entries(lake).iter().map(|d| d.file_name().unwrap().to_str().unwrap().to_owned()) {
        let log = lake.join(&dataset).join("_delta_log");
        let named: String = files(&log)
            .iter()
            .filter(|f| f.extension().is_some_and(|e| e == "json"))
            .map(|f| std::fs::read_to_string(f).unwrap())
            .collect();
        forebay(project, &["data", "gc", &dataset, "--older-than", "0s"]);
        let staged: BTreeSet<PathBuf> =
            files(&lake.join(&dataset)).into_iter().filter(|f| !f.starts_with(&log)).collect();
        for file in staged.iter().filter(|f| !f.components().any(|c| c.as_os_str() == "_forebay")) {
            let name = file.file_name().unwrap().to_str().unwrap();
            assert!(named.contains(name), "no version of {dataset} names {}", file.display());
        }
    }
}

/// How often an attempt found its commit made by one that died before it could say so.
pub fn found_again(project: &Path) -> usize {
    let logs = files(&project.join(".forebay/runs"));
    let text = logs.iter().filter_map(|log| std::fs::read_to_string(log).ok());
    text.map(|t| t.matches("was made by an attempt before").count()).sum()
}
