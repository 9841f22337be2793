//! What a run is given: files, standard input, parameters, as the body of a request.

use std::io::Read as _;
use std::path::Path;

use bytes::Bytes;
use contract::Media;
use serde_json::{Map, Value, json};
use text::extract::media_of_name;

use crate::Error;

/// One input.
#[derive(Debug, PartialEq)]
pub(super) struct Input {
    /// For people: the file's name.
    pub(super) name: String,
    /// Its content type.
    pub(super) media: &'static str,
    /// The body.
    pub(super) bytes: Bytes,
}

/// `name=value`: a JSON value, else text.
pub(in crate::cli) fn param(text: &str) -> Result<(String, Value), String> {
    let (name, value) = text.split_once('=').ok_or("write it as NAME=VALUE")?;
    if name.is_empty() {
        return Err("the name is empty: write it as NAME=VALUE".into());
    }
    let value = serde_json::from_str(value).unwrap_or_else(|_| Value::String(value.to_owned()));
    Ok((name.to_owned(), value))
}

/// Every input that was named. With parameters each one becomes JSON: the file's object, if any, and the parameters
/// over it.
pub(super) fn all(
    first: Option<&str>,
    more: &[String],
    params: &[(String, Value)],
) -> Result<Vec<Input>, Error> {
    let named: Vec<&str> = first.into_iter().chain(more.iter().map(String::as_str)).collect();
    if named.iter().filter(|n| **n == "-").count() > 1 {
        return Err(Error::new("standard input is named twice", "name it once"));
    }
    if named.is_empty() {
        if params.is_empty() {
            let help =
                "name a file, - for standard input, or --param NAME=VALUE for a pipeline that takes JSON";
            return Err(Error::new("there is no input", help));
        }
        return Ok(vec![with_params("parameters", Map::new(), params)]);
    }
    let mut inputs = Vec::new();
    for name in named {
        let bytes = read(name)?;
        if params.is_empty() {
            inputs.push(Input { name: name.to_owned(), media: media(name), bytes: bytes.into() });
            continue;
        }
        let object = serde_json::from_slice(&bytes).map_err(|e| {
            let message = format!("{name} is no JSON object, and parameters are fields of one: {e}");
            Error::new(message, "leave out --param for a document")
        })?;
        inputs.push(with_params(name, object, params));
    }
    Ok(inputs)
}

fn with_params(name: &str, mut object: Map<String, Value>, params: &[(String, Value)]) -> Input {
    object.extend(params.iter().cloned());
    let body = json!({"input": object}).to_string();
    Input { name: name.to_owned(), media: "application/json", bytes: body.into() }
}

fn read(name: &str) -> Result<Vec<u8>, Error> {
    if name != "-" {
        return std::fs::read(name).map_err(|e| Error::file("read", Path::new(name), &e));
    }
    let mut bytes = Vec::new();
    let read = std::io::stdin().lock().read_to_end(&mut bytes);
    read.map_err(|e| Error::new(format!("cannot read standard input: {e}"), "name a file instead"))?;
    Ok(bytes)
}

/// The content type by the ending of the name; without one that is known, the bytes tell.
fn media(name: &str) -> &'static str {
    match media_of_name(name) {
        Some(Media::Plain) => "text/plain",
        Some(Media::Markdown) => "text/markdown",
        Some(Media::Html) => "text/html",
        Some(Media::Pdf) => "application/pdf",
        None => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parameter_is_json_when_it_can_be_and_text_otherwise() {
        assert_eq!(param("n=3"), Ok(("n".into(), json!(3))));
        assert_eq!(param("city=São Paulo"), Ok(("city".into(), json!("São Paulo"))));
        assert_eq!(param("eq=a=b"), Ok(("eq".into(), json!("a=b"))));
        assert!(param("none").is_err() && param("=3").is_err());
    }

    #[test]
    fn parameters_lie_over_the_object_of_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("in.json");
        std::fs::write(&file, r#"{"a": 1, "b": 2}"#).unwrap();
        let name = file.to_str().unwrap();
        let made = all(Some(name), &[], &[("b".into(), json!(3))]).unwrap();
        let body: Value = serde_json::from_slice(&made[0].bytes).unwrap();
        assert_eq!((body, made[0].media), (json!({"input": {"a": 1, "b": 3}}), "application/json"));
        assert!(all(None, &[], &[]).unwrap_err().to_string().contains("no input"));
        assert_eq!(all(Some(name), &[], &[]).unwrap()[0].media, "application/octet-stream");
    }
}
