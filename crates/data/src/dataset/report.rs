//! Reports that stay beside the dataset they are about, where every reader of Delta tables passes over them.

use bytes::Bytes;
use object_store::path::Path;
use object_store::{ObjectStoreExt, PutPayload};

use crate::dataset::Dataset;
use crate::expect::Report;
use crate::{Error, store};

/// The folder of reports in a table's.
const FOLDER: &str = "_forebay/reports";

impl Dataset {
    /// Keeps a report under the attempt it is about, as JSON and as a page beside it, and gives the place of the page in the
    /// warehouse. A later one of the attempt replaces it.
    ///
    /// # Errors
    /// [`Error::Invalid`] for an attempt that cannot be a file's name, [`Error::Storage`].
    pub async fn keep_report(&self, attempt: &str, report: &Report) -> Result<String, Error> {
        let text = serde_json::to_vec_pretty(report)
            .map_err(|e| self.defect("write a report about", &e.to_string()))?;
        let page = place(attempt, "html")?;
        for (path, bytes) in [(place(attempt, "json")?, text), (page.clone(), report.html().into_bytes())] {
            let done = self.store().put(&path, PutPayload::from(Bytes::from(bytes))).await;
            done.map_err(|e| store::failed("keep the report", &e))?;
        }
        Ok(format!("{}/{page}", self.name))
    }

    /// The report of an attempt, when it was kept.
    ///
    /// # Errors
    /// As [`Dataset::keep_report`]; [`Error::Table`] for a file that is damaged.
    pub async fn report(&self, attempt: &str) -> Result<Option<Report>, Error> {
        let read = match self.store().get(&place(attempt, "json")?).await {
            Ok(read) => read.bytes().await,
            Err(object_store::Error::NotFound { .. }) => return Ok(None),
            Err(error) => Err(error),
        };
        let bytes = read.map_err(|e| store::failed("read the report", &e))?;
        let report = serde_json::from_slice(&bytes);
        report.map(Some).map_err(|e| self.defect("read a report about", &e.to_string()))
    }
}

fn place(attempt: &str, ending: &str) -> Result<Path, Error> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.');
    if attempt.is_empty() || attempt.len() > 128 || !attempt.bytes().all(plain) {
        let why = "it is up to 128 letters, digits, `_`, `-` and `.`";
        return Err(Error::invalid(format!("the attempt `{attempt}`"), why));
    }
    Ok(Path::from(format!("{FOLDER}/{attempt}.{ending}")))
}
