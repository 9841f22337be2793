//! `forebay predict NAME`: asks a predictive model of the project, or of a running server, and shows what it says of each row.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use contract::TenantId;
use gateway::segment;
use http::Request;
use http::header::CONTENT_TYPE;
use models::stages::{file_of, find};
use predict::protocol::scoring::{csv, json as scored, predictions};
use predict::{Artifact, Backend as _, LoadSettings};
use serde_json::{Value, json};

use super::client::whole;
use super::remote::{Refused, Remote};
use super::storage::{self, Need, clean};
use super::{Global, block_on, print, print_json, project};
use crate::Error;

/// The largest answer that is taken.
const LIMIT: usize = 256 << 20;

/// `predict`'s arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A model of the configuration, or the name of a registered one, whose champion answers.
    model: String,
    /// A row, as a JSON object of columns; several may be given.
    #[arg(long = "row", value_name = "JSON", required_unless_present = "file", conflicts_with = "file")]
    rows: Vec<String>,
    /// Rows: a CSV file with a head, or JSON as `/invocations` takes it (an array of objects, too).
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
}

pub(super) fn run(global: &Global, args: &Args) -> Result<(), Error> {
    let body = body(args)?;
    let answer = block_on(async {
        match Remote::of(global)? {
            Some(remote) => asked(&remote, &args.model, body).await,
            None => answered(global, &args.model, &body).await,
        }
    })?;
    let wrong = |e: serde_json::Error| Error::new(format!("the answer cannot be read: {e}"), "report this");
    let answer: Value = serde_json::from_slice(&answer).map_err(wrong)?;
    if global.json {
        return print_json(&answer);
    }
    match answer.get("predictions") {
        Some(Value::Array(rows)) => rows.iter().for_each(|row| print(&row.to_string())),
        _ => print(&answer.to_string()),
    }
    Ok(())
}

/// Rows, and of which content type.
struct Body {
    media: &'static str,
    bytes: Bytes,
}

fn records(rows: Vec<Value>) -> Body {
    Body { media: "application/json", bytes: json!({"dataframe_records": rows}).to_string().into() }
}

fn body(args: &Args) -> Result<Body, Error> {
    let help = "write a row as {\"COLUMN\": VALUE, …}";
    let Some(file) = &args.file else {
        let row = |text: &String| {
            let row: Value =
                serde_json::from_str(text).map_err(|e| Error::new(format!("a row is no JSON: {e}"), help))?;
            if row.is_object() { Ok(row) } else { Err(Error::new("a row is no JSON object", help)) }
        };
        return Ok(records(args.rows.iter().map(row).collect::<Result<_, _>>()?));
    };
    let bytes = std::fs::read(file).map_err(|e| Error::file("read", file, &e))?;
    if file.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("csv")) {
        return Ok(Body { media: "text/csv", bytes: bytes.into() });
    }
    match serde_json::from_slice(&bytes) {
        Ok(Value::Array(rows)) => Ok(records(rows)),
        Ok(_) => Ok(Body { media: "application/json", bytes: bytes.into() }),
        Err(e) => Err(Error::new(
            format!("{} is no JSON: {e}", file.display()),
            "name a file that ends in .csv, or holds JSON",
        )),
    }
}

async fn asked(remote: &Remote, model: &str, body: Body) -> Result<Bytes, Error> {
    let request =
        Request::post(format!("/invocations?model={}", segment(model))).header(CONTENT_TYPE, body.media);
    let request = request
        .body(body.bytes)
        .map_err(|e| Error::new(format!("cannot ask the server: {e}"), "check the model's name"))?;
    let (head, answer) = remote.send(request).await?.into_parts();
    let bytes = whole(answer, LIMIT).await?;
    if head.status.is_success() { Ok(bytes) } else { Err(Refused::read(head.status, &bytes).into_error()) }
}

/// The model's answer, here.
async fn answered(global: &Global, name: &str, body: &Body) -> Result<Bytes, Error> {
    let artifact = artifact(global, name).await?;
    let said = |e: predict::Error| {
        Error::new(clean(&e.to_string()), "check the rows against `forebay models show`, or the model's file")
    };
    let mut model = onnx::Onnx::default().load(&artifact, &LoadSettings::default()).map_err(said)?;
    let rows = match body.media {
        "text/csv" => csv(&body.bytes),
        _ => scored(&body.bytes),
    };
    let rows = rows.map_err(said)?;
    let inputs = rows.bind(model.signature(), model.metadata()).map_err(said)?;
    let names: Vec<String> = model.signature().outputs.iter().map(|f| f.name.clone()).collect();
    let all: Vec<usize> = (0..names.len()).collect();
    let outputs = model.run(&inputs, &all).map_err(said)?;
    let named: Vec<(&str, predict::Tensor)> = names.iter().map(String::as_str).zip(outputs).collect();
    predictions(&named, rows.by_row()).map_err(said)
}

/// The file of a model of the configuration, or of a registered one.
async fn artifact(global: &Global, name: &str) -> Result<Artifact, Error> {
    let config = project::checked_but_for_models(global)?;
    let (registered, alias) = match config.models.get(name) {
        Some(m) => match (&m.onnx, &m.registry) {
            (Some(file), _) => return Ok(Artifact::File(global.project.join(Path::new(file)))),
            (None, Some(registered)) => (registered.clone(), m.alias().to_owned()),
            (None, None) => {
                let message = format!("`{}` is a language model", clean(name));
                return Err(Error::new(
                    message,
                    "`forebay run` asks a pipeline, and an OpenAI client this model",
                ));
            }
        },
        None => (name.to_owned(), "champion".to_owned()),
    };
    let reader = storage::open(global, Need::Records).await?;
    let tracked = storage::tracked(global, &reader)?;
    let tenant = TenantId::of_the_project();
    let found = async {
        match find(&tracked, &tenant, &registered, Ok(alias.as_str())).await? {
            Some(version) => Ok(Some(file_of(&tracked, &tenant, &version).await?)),
            None => Ok(None),
        }
    };
    let found: Result<_, models::Error> = found.await;
    reader.close().await;
    let help = "`forebay models list` shows what there is";
    match found {
        Ok(Some(bytes)) => Ok(Artifact::Content(bytes)),
        Ok(None) => {
            Err(Error::new(format!("nothing answers as the {alias} of `{}`", clean(&registered)), help))
        }
        Err(e) => Err(Error::new(clean(&e.to_string()), help)),
    }
}
