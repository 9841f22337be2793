//! What a stage that is run for each element gives: the list of its outputs, or a table with a row for each element that says what
//! became of it. The rows of a table go to a file as they come.

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::PathBuf;

use contract::{Code, Context, Error, Outcome, Value};
use serde_json::{Map, Value as Json, json};

use super::elements::Made;
use crate::live::together;
use crate::{Collect, Tables};

/// The columns of a collected table beside the fields of the element and the output.
pub(crate) const COLUMNS: [(&str, &str); 6] = [
    ("status", "text"),
    ("error", "text"),
    ("request_id", "text"),
    ("input_tokens", "int"),
    ("output_tokens", "int"),
    ("cost_usd", "float"),
];

/// Where outputs go.
pub(super) enum Out {
    List(Vec<Option<Result<Value, Error>>>),
    Table { rows: BufWriter<File>, path: PathBuf, of: usize, failed: usize, first: Option<Error> },
}

fn unwritten(e: std::io::Error) -> Error {
    Error::new(Code::StorageUnavailable, format!("the rows of a table cannot be written: {e}"))
}

impl Out {
    pub(super) fn new(collect: Option<&Collect>, cx: &Context, of: usize) -> Result<Out, Error> {
        if collect.is_none() {
            return Ok(Out::List(vec![None; of]));
        }
        let folder = cx.attempt.as_ref().map(|a| a.folder.clone()).unwrap_or_default();
        let path = folder.join("collected.jsonl");
        std::fs::create_dir_all(&folder).map_err(unwritten)?;
        let rows = BufWriter::new(File::create(&path).map_err(unwritten)?);
        Ok(Out::Table { rows, path, of, failed: 0, first: None })
    }

    pub(super) fn take(
        &mut self,
        collect: Option<&Collect>,
        (index, element): (usize, Option<&Value>),
        ended: Result<Made, (Error, Option<Made>)>,
    ) -> Result<(), Error> {
        match self {
            Out::List(results) => {
                if let Some(slot) = results.get_mut(index) {
                    *slot = Some(ended.map(|made| Value::from(made.value)).map_err(|(e, _)| e));
                }
            }
            Out::Table { rows, failed, first, .. } => {
                let Some(collect) = collect else { return Ok(()) };
                let row = row(collect, element, &ended);
                writeln!(rows, "{row}").map_err(unwritten)?;
                if let Err((e, _)) = ended {
                    *failed += 1;
                    first.get_or_insert(e);
                }
            }
        }
        Ok(())
    }

    /// The output of the whole.
    pub(super) async fn together(
        self,
        collect: Option<&Collect>,
        cx: &Context,
        tables: Option<&dyn Tables>,
    ) -> Result<Outcome<Value>, Error> {
        let (mut rows, path, of, failed, first) = match self {
            Out::List(results) => return Ok(together(results, None).0),
            Out::Table { rows, path, of, failed, first } => (rows, path, of, failed, first),
        };
        rows.flush().map_err(unwritten)?;
        drop(rows);
        if let Some(e) = first.clone().filter(|_| failed == of) {
            return Ok(Outcome::Failed(e));
        }
        let Some(tables) = tables else {
            return Err(Error::new(Code::Internal, "nobody is there who could write a table"));
        };
        let output = collect.iter().map(|c| (c.output.clone(), "text"));
        let fixed = COLUMNS.iter().map(|(name, ty)| ((*name).to_owned(), *ty));
        let types: Vec<(String, &'static str)> = output.chain(fixed).collect();
        let value = tables.table(cx, &path, &types).await?;
        Ok(match first {
            None => Outcome::Complete(value),
            Some(e) => {
                let message = format!("{failed} of {of} elements failed: {e}");
                Outcome::Partial(value, Error { message, code: Code::PartFailed, ..e })
            }
        })
    }
}

/// A row of the collected table.
fn row(collect: &Collect, element: Option<&Value>, ended: &Result<Made, (Error, Option<Made>)>) -> Json {
    let mut row = Map::new();
    for name in &collect.keep {
        let value = match element {
            Some(Value::Json(json)) => json.get(name).cloned().unwrap_or_default(),
            _ => Json::Null,
        };
        row.insert(name.clone(), value);
    }
    let (status, error, made) = match ended {
        Ok(made) => ("done", None, Some(made)),
        Err((e, Some(made))) => ("partial", Some(e), Some(made)),
        Err((e, None)) => ("failed", Some(e), None),
    };
    let output = made.map(|m| match Value::from(m.value.clone()).to_json() {
        Json::String(text) => text,
        json => json.to_string(),
    });
    row.insert(collect.output.clone(), json!(output));
    row.insert("status".into(), json!(status));
    row.insert("error".into(), json!(error.map(|e| format!("{}: {}", e.code, e.message))));
    row.insert("request_id".into(), json!(made.and_then(|m| m.request_id.as_ref())));
    row.insert("input_tokens".into(), json!(made.and_then(|m| m.input_tokens)));
    row.insert("output_tokens".into(), json!(made.and_then(|m| m.output_tokens)));
    #[expect(clippy::cast_precision_loss, reason = "dollars for people; the ledger has nanodollars")]
    let cost = made.and_then(|m| m.cost_nanousd).map(|n| n as f64 / 1e9);
    row.insert("cost_usd".into(), json!(cost));
    Json::Object(row)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::durable::Kept;

    #[test]
    fn a_row_says_what_became_of_its_element() {
        let collect = Collect { keep: vec!["path".into(), "gone".into()], output: "summary".into() };
        let element = Value::Json(Arc::new(json!({"path": "a.md", "text": "…"})));
        let made = Made {
            value: Kept::from(&Value::text("short")),
            request_id: Some("req_1".into()),
            input_tokens: Some(10),
            output_tokens: Some(2),
            cost_nanousd: Some(2_500_000),
            of: Vec::new(),
        };
        assert_eq!(
            row(&collect, Some(&element), &Ok(made.clone())),
            json!({
                "path": "a.md", "gone": null, "summary": "short", "status": "done", "error": null,
                "request_id": "req_1", "input_tokens": 10, "output_tokens": 2, "cost_usd": 0.0025,
            })
        );
        let e = Error::new(Code::UpstreamError, "broke");
        let partial = row(&collect, Some(&element), &Err((e.clone(), Some(made))));
        assert_eq!((&partial["status"], &partial["summary"]), (&json!("partial"), &json!("short")));
        let failed = row(&collect, None, &Err((e, None)));
        assert_eq!(
            (&failed["status"], &failed["error"]),
            (&json!("failed"), &json!("upstream_error: broke"))
        );
    }
}
