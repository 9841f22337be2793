//! What kept values only name, and do not hold: contents of files, versions of tables. Whoever keeps those is told what is still
//! named, and gives the rest back.

use std::collections::BTreeSet;

use contract::{BoxFuture, Error, UnixMillis};
use serde_json::Value as Json;

use super::elements::Made;
use super::kept::Kept;
use crate::artifacts::Artifacts;
use crate::task;

/// All that values name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Named {
    /// Contents of files, by their blake3 in 64 hexadecimal digits.
    pub files: BTreeSet<String>,
    /// Tables as they cross boundaries: `DATASET@NAME`.
    pub tables: BTreeSet<String>,
}

impl Named {
    /// Adds what a value names. Bytes that are no value name nothing.
    pub fn add(&mut self, bytes: &[u8]) {
        if let Ok(kept) = serde_json::from_slice(bytes) {
            self.add_kept(kept);
        } else if let Ok(element) = serde_json::from_slice::<Made>(bytes) {
            self.add_kept(element.value);
        }
    }

    fn add_kept(&mut self, kept: Kept) {
        match kept {
            Kept::Table(table) => {
                self.tables.insert(table);
            }
            Kept::Json(json) => self.add_json(&json),
            Kept::List(items) => items.into_iter().flatten().for_each(|item| self.add_kept(item)),
            _ => {}
        }
    }

    /// Files are in JSON, as [`crate::artifacts::Artifact`]s; whatever looks like one is kept.
    fn add_json(&mut self, json: &Json) {
        match json {
            Json::Array(items) => items.iter().for_each(|item| self.add_json(item)),
            Json::Object(map) => {
                if let Some(hash) = map.get("hash").and_then(Json::as_str) {
                    self.files.insert(hash.to_owned());
                }
                map.values().for_each(|value| self.add_json(value));
            }
            _ => {}
        }
    }
}

/// Whoever keeps what values name.
pub trait Keeper: Send + Sync {
    /// Gives back what is not named, and was made before that time: what a stage under way has just made is not named yet.
    ///
    /// # Errors
    /// The storage's; what was not reached goes another time.
    fn collect<'a>(&'a self, named: &'a Named, before: UnixMillis) -> BoxFuture<'a, Result<(), Error>>;

    /// Whether all of that is still there, as far as that is seen without reading it.
    fn holds<'a>(&'a self, named: &'a Named) -> BoxFuture<'a, bool> {
        let _ = named;
        Box::pin(async { true })
    }
}

impl Keeper for Artifacts {
    fn collect<'a>(&'a self, named: &'a Named, before: UnixMillis) -> BoxFuture<'a, Result<(), Error>> {
        Box::pin(async move {
            let (artifacts, live) = (self.clone(), named.files.iter().cloned().collect());
            let collected = task::reading("artifacts", move || artifacts.gc(&live, before)).await;
            let collected = collected.map_err(|e| Error::new(contract::Code::Internal, e.to_string()))??;
            if collected.files > 0 {
                tracing::info!(
                    files = collected.files,
                    bytes = collected.bytes,
                    "removed files of runs that are not kept"
                );
            }
            Ok(())
        })
    }

    fn holds<'a>(&'a self, named: &'a Named) -> BoxFuture<'a, bool> {
        Box::pin(async move {
            if named.files.is_empty() {
                return true;
            }
            let (artifacts, files) = (self.clone(), named.files.clone());
            let looked = move || files.iter().all(|hash| artifacts.is_there(hash));
            task::reading("artifacts", looked).await.unwrap_or(false)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use contract::Value;
    use serde_json::json;
    use std::sync::Arc;

    #[test]
    fn tables_and_files_are_found_wherever_they_stand() {
        let files =
            json!({"outputs": [{"name": "m.onnx", "hash": "ab", "bytes": 1}], "x": {"y": [{"hash": "cd"}]}});
        let list = [Some(Value::Table("d@1".into())), None, Some(Value::Json(Arc::new(files)))];
        let value = Value::List([Some(Value::List(list.into())), Some(Value::text("e@2"))].into());
        let mut named = Named::default();
        named.add(&Kept::bytes(&value).unwrap());
        named.add(b"nothing that anybody kept");
        let element = Kept::from(&Value::Table("f@3".into()));
        named.add(&serde_json::to_vec(&json!({ "value": element })).unwrap());
        assert_eq!(named.files, ["ab", "cd"].map(str::to_owned).into());
        assert_eq!(named.tables, ["d@1", "f@3"].map(str::to_owned).into());
    }
}
