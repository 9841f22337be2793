//! What no schema can say of the sections `warehouse` and `datasets`.

use std::collections::BTreeSet;

use serde_json::Value as Json;

use super::semantics::{Semantics, map};
use super::tree::join;
use crate::expectations;

/// Where rows can come from.
const SOURCES: [&str; 4] = ["files", "url", "sql", "documents"];

impl Semantics<'_> {
    /// Every dataset, and the warehouse. `unsound` are the pointers of problems known already.
    pub(super) fn datasets(&mut self, unsound: &BTreeSet<String>) {
        let json = self.json;
        if let Some(root) = json.get("warehouse").and_then(Json::as_str)
            && let Err(why) = crate::datasets::root(self.folder, Some(root))
        {
            let remedy = "write a folder, or `s3://BUCKET/PREFIX`";
            self.at_value("/warehouse", why, remedy.into());
        }
        for (name, dataset) in map(json, "/datasets") {
            let pointer = join("/datasets", name);
            if !unsound.contains(&pointer) && dataset.is_object() {
                self.dataset(&pointer, dataset, unsound);
            }
        }
    }

    fn dataset(&mut self, pointer: &str, dataset: &Json, unsound: &BTreeSet<String>) {
        let text = |field: &str| {
            let sound = !unsound.contains(&join(pointer, field));
            dataset.get(field).and_then(Json::as_str).filter(|t| sound && !t.contains("${"))
        };
        let given: Vec<&str> = SOURCES.into_iter().filter(|s| dataset.get(s).is_some()).collect();
        if let [first, second, ..] = given.as_slice() {
            let message = format!("its rows come from several places: `{}`", given.join("`, `"));
            let remedy = format!("keep `{first}` or `{second}`, and make the other a dataset of its own");
            self.at_key(&join(pointer, second), message, remedy);
        }
        for field in ["format", "encoding", "delimiter", "nulls"] {
            let rows = given.first().filter(|s| matches!(**s, "sql" | "documents"));
            if let (Some(from), true) = (rows, dataset.get(field).is_some()) {
                let message = format!("`{field}` means nothing for `{from}`");
                self.at_key(&join(pointer, field), message, "remove it: it is about files".into());
            }
        }
        if let Some(label) = text("encoding")
            && label.parse::<data::Encoding>().is_err()
        {
            let remedy = "take a label such as `utf-8`, `utf-16le`, `latin1`, `windows-1252` or `shift_jis`";
            self.at_value(
                &join(pointer, "encoding"),
                format!("there is no encoding `{label}`"),
                remedy.into(),
            );
        }
        if let Some(delimiter) = text("delimiter")
            && crate::datasets::delimiter(delimiter).is_none()
        {
            let remedy = "write one ASCII character, such as \";\", \"|\" or \"\\t\"";
            self.at_value(&join(pointer, "delimiter"), "this separates no fields".into(), remedy.into());
        }
        for (column, ty) in dataset.get("columns").and_then(Json::as_object).into_iter().flatten() {
            let own = join(&join(pointer, "columns"), column);
            if let Some(ty) = ty.as_str()
                && ty.parse::<data::ColumnType>().is_err()
            {
                let remedy = "it is one of bool, int, float, decimal(p, s), text, binary, date, timestamp, datetime and \
                              list<…>";
                self.at_value(&own, format!("there is no type `{ty}`"), remedy.into());
            }
        }
        let merges = text("mode") == Some("merge");
        if merges && dataset.get("key").and_then(Json::as_array).is_none_or(Vec::is_empty) {
            let remedy = "add `key: [COLUMN]`: the columns that tell rows apart";
            self.at_value(&join(pointer, "mode"), "a merge needs a `key`".into(), remedy.into());
        }
        let quarantines = text("bad_rows") == Some("quarantine");
        if dataset.get("max_bad_share").is_some() && !quarantines {
            let message = "`max_bad_share` means nothing where bad rows are refused";
            self.at_key(&join(pointer, "max_bad_share"), message.into(), "add `bad_rows: quarantine`".into());
        }
        if dataset.get("bad_rows").is_some() && dataset.get("expectations").is_none() {
            let remedy = "add `expectations: FILE`; `forebay data profile --suggest` writes a first one";
            let message = "no row is bad without expectations";
            self.at_key(&join(pointer, "bad_rows"), message.into(), remedy.into());
        }
        if let Some(file) = text("expectations") {
            self.expected(&join(pointer, "expectations"), file);
        }
        if let Some(folder) = text("documents")
            && !self.folder.join(folder).is_dir()
        {
            let remedy = "create it, or check the path: it is relative to this file";
            self.at_value(
                &join(pointer, "documents"),
                format!("there is no folder `{folder}`"),
                remedy.into(),
            );
        }
        self.remote(pointer, dataset);
    }

    /// Addresses of files and databases.
    fn remote(&mut self, pointer: &str, dataset: &Json) {
        let get = dataset.pointer("/url/get").and_then(Json::as_str).filter(|t| !t.contains("${"));
        if get.is_some_and(|t| !url::Url::parse(t).is_ok_and(|u| matches!(u.scheme(), "http" | "https"))) {
            let remedy = "write the whole address, such as `https://example.com/flights.csv`";
            let own = format!("{pointer}/url/get");
            self.at_value(&own, "this is not an http address".into(), remedy.into());
        }
        let database = dataset.pointer("/sql/database").and_then(Json::as_str).filter(|t| !t.contains("${"));
        if database.is_some_and(|d| crate::datasets::database(self.folder, d).is_none()) {
            let remedy = "write `sqlite:FILE` or `postgres://USER@HOST/DATABASE`";
            let own = format!("{pointer}/sql/database");
            self.at_value(&own, "this is not a database that can be asked".into(), remedy.into());
        }
    }

    /// A file of expectations: that it is there, and everything that is wrong in it with its place there.
    fn expected(&mut self, pointer: &str, file: &str) {
        match expectations::load(&self.folder.join(file)) {
            Ok(_) => {}
            Err(expectations::Wrong::Unread(e)) => {
                let remedy = "create it (`forebay data profile --suggest` writes a first one), or check the path: it is \
                              relative to this file";
                let message = match e.kind() {
                    std::io::ErrorKind::NotFound => format!("there is no file `{file}`"),
                    _ => format!("the file `{file}` cannot be read: {e}"),
                };
                self.at_value(pointer, message, remedy.into());
            }
            Err(expectations::Wrong::Problems { problems, .. }) => {
                for p in problems {
                    let message = format!("{file}:{}:{}: {}", p.line, p.column, p.message);
                    self.at_value(pointer, message, p.remedy);
                }
            }
        }
    }
}
