//! What a command is given, as files: one for each input, named after it, in a folder of their own.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use contract::{BoxFuture, Code, Error, Inputs, Value};
use indexmap::IndexMap;
use serde::Deserialize;
use serde_json::json;

use super::config::Format;
use crate::artifacts::{Artifact, Artifacts};
use crate::task;

/// How a table is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TableFormat {
    /// Apache Parquet.
    Parquet,
    /// CSV with a header.
    Csv,
    /// An Arrow IPC file.
    Arrow,
}

/// Writes tables as files. A pipeline knows none: the binary puts it together with the datasets.
pub trait Place: Send + Sync {
    /// Writes the version of a table that `table` names into `folder`, which is there and empty, and gives the file or, when it
    /// is many, the folder.
    fn place<'a>(
        &'a self,
        table: &'a str,
        folder: &'a Path,
        format: TableFormat,
    ) -> BoxFuture<'a, Result<PathBuf, Error>>;
}

/// Writes all inputs into `folder`, which is made. The path of each; what its contract left out has none.
pub(super) async fn write(
    inputs: Inputs,
    formats: &IndexMap<String, Format>,
    folder: &Path,
    place: Option<&Arc<dyn Place>>,
    artifacts: &Artifacts,
) -> Result<Vec<(String, PathBuf)>, Error> {
    let mut paths = Vec::new();
    for (name, value) in inputs {
        let format = formats.get(&name).copied().unwrap_or_default();
        let path = match (&value, format) {
            (Value::Table(table), _) => {
                let Some(as_table) = as_table(format) else {
                    let m =
                        format!("the input `{name}` is a table: its form is one of parquet, csv and arrow");
                    return Err(Error::new(Code::InvalidRequest, m));
                };
                let Some(place) = place else {
                    return Err(Error::new(Code::Internal, "nothing is there that could write a table"));
                };
                let into = folder.join(&name);
                aside({
                    let into = into.clone();
                    move || fs::create_dir_all(into).map_err(|e| disk(&e))
                })
                .await?;
                place.place(table, &into, as_table).await?
            }
            (_, Format::Parquet | Format::Csv | Format::Arrow) => {
                let m = format!("the input `{name}` is no table, and its form is one of a table");
                return Err(Error::new(Code::InvalidRequest, m));
            }
            (_, Format::Files) => {
                let (into, artifacts, name) = (folder.join(&name), artifacts.clone(), name.clone());
                aside(move || files(&name, &value, into, &artifacts)).await?
            }
            (_, Format::Auto | Format::Text | Format::Json | Format::Jsonl) => {
                let (folder, name) = (folder.to_owned(), name.clone());
                aside(move || plain(&name, &value, format, &folder)).await?
            }
        };
        paths.push((name, path));
    }
    Ok(paths)
}

async fn aside<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    task::reading("inputs", work)
        .await
        .unwrap_or_else(|crashed| Err(Error::new(Code::Internal, crashed.to_string())))
}

fn as_table(format: Format) -> Option<TableFormat> {
    match format {
        Format::Auto | Format::Parquet => Some(TableFormat::Parquet),
        Format::Csv => Some(TableFormat::Csv),
        Format::Arrow => Some(TableFormat::Arrow),
        Format::Text | Format::Json | Format::Jsonl | Format::Files => None,
    }
}

fn disk(e: &std::io::Error) -> Error {
    Error::new(Code::StorageUnavailable, format!("an input cannot be written: {}", e.kind()))
}

/// A value that is no table, in one file.
fn plain(name: &str, value: &Value, format: Format, folder: &Path) -> Result<PathBuf, Error> {
    let format = match (format, value) {
        (Format::Auto, Value::Text(_) | Value::Document(_)) => Format::Text,
        (Format::Auto, Value::List(_) | Value::Chunks(_)) => Format::Jsonl,
        (Format::Auto, _) => Format::Json,
        (chosen, _) => chosen,
    };
    let ending = match format {
        Format::Text => "txt",
        Format::Jsonl => "jsonl",
        _ => "json",
    };
    let path = folder.join(format!("{name}.{ending}"));
    let written = || {
        fs::create_dir_all(folder)?;
        let mut file = BufWriter::new(File::create_new(&path)?);
        match format {
            Format::Text => file.write_all(value.to_text().as_bytes())?,
            Format::Jsonl => elements(value, &mut file)?,
            _ => serde_json::to_writer(&mut file, &as_json(value))?,
        }
        file.flush()
    };
    written().map_err(|e: std::io::Error| disk(&e))?;
    Ok(path)
}

fn as_json(value: &Value) -> serde_json::Value {
    match value {
        Value::Chunks(chunks) => chunks.iter().map(chunk).collect(),
        Value::Messages(messages) => serde_json::to_value(&**messages).unwrap_or_default(),
        other => other.to_json(),
    }
}

fn chunk(c: &contract::Chunk) -> serde_json::Value {
    json!({"index": c.index, "text": &*c.text, "start": c.span.start, "end": c.span.end, "heading": &*c.heading,
           "tokens": c.tokens})
}

/// A line for each element.
fn elements(value: &Value, to: &mut impl Write) -> std::io::Result<()> {
    let mut line = |element: &serde_json::Value| {
        serde_json::to_writer(&mut *to, element)?;
        to.write_all(b"\n")
    };
    match value {
        Value::List(items) => {
            items.iter().try_for_each(|i| line(&i.as_ref().map_or(serde_json::Value::Null, Value::to_json)))
        }
        Value::Chunks(chunks) => chunks.iter().try_for_each(|c| line(&chunk(c))),
        Value::Json(json) => match &**json {
            serde_json::Value::Array(all) => all.iter().try_for_each(line),
            one => line(one),
        },
        other => line(&as_json(other)),
    }
}

/// What an `exec` stage gives, as far as it names files.
#[derive(Deserialize)]
struct Left {
    outputs: IndexMap<String, Vec<Artifact>>,
}

/// The files that another stage left, in `into`.
fn files(name: &str, value: &Value, into: PathBuf, artifacts: &Artifacts) -> Result<PathBuf, Error> {
    let wrong = || {
        let m =
            format!("the input `{name}` names no files: its form `files` is for what an `exec` stage gives");
        Error::new(Code::InvalidRequest, m)
    };
    let json = value.to_json();
    let left = Left::deserialize(&json).map_err(|_| wrong())?;
    fs::create_dir_all(&into).map_err(|e| disk(&e))?;
    for (output, all) in &left.outputs {
        for artifact in all {
            // It may have been written by somebody else.
            let own = |p: &str| Path::new(p).components().all(|c| matches!(c, Component::Normal(_)));
            if !own(output) || !own(&artifact.name) || artifact.name.is_empty() || output.is_empty() {
                return Err(wrong());
            }
            let to = into.join(output).join(&artifact.name);
            fs::create_dir_all(to.parent().unwrap_or(&into)).map_err(|e| disk(&e))?;
            artifacts.copy(&artifact.hash, &to)?;
        }
    }
    let text = json.to_string();
    fs::write(into.join("value.json"), text).map_err(|e| disk(&e))?;
    Ok(into)
}
