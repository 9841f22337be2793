//! The project's storage as commands see it: opened beside a running server, its failures with a remedy.

use models::stages::Tracked;
use store::Reader;

use super::Global;
use crate::config::{self, Env};
use crate::{Error, learning, wiring};

const TOLD: &str = "correct `storage` in forebay.yaml, or set the variable that it names";

/// What a command needs of the storage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Need {
    /// Records: there must be some storage already, none is created.
    Records,
    /// Keys: the storage is created when there is none.
    Keys,
}

/// Opens the storage of the project in the folder, wherever its configuration says that it is.
pub(super) async fn open(global: &Global, need: Need) -> Result<Reader, Error> {
    let folder = &global.project;
    if !folder.is_dir() {
        let message = format!("there is no folder {}", folder.display());
        return Err(Error::new(message, "name the project's folder with --project"));
    }
    let url = config::storage_url(folder, &Env::of_process(folder)).map_err(|why| Error::new(why, TOLD))?;
    if let Some(url) = url {
        let database = wiring::database(folder, &url).await.map_err(failed)?;
        return Reader::open_on(folder, database).map_err(failed);
    }
    if need == Need::Records && !folder.join(".forebay/forebay.db").exists() {
        let message = format!("nothing was recorded yet in {}", folder.display());
        return Err(Error::new(
            message,
            "name the folder of a project that has served requests with --project",
        ));
    }
    Reader::open(folder).await.map_err(failed)
}

/// Where runs and models of the project are noted, with their artifacts wherever its configuration says that they are.
pub(super) fn tracked(global: &Global, reader: &Reader) -> Result<Tracked, Error> {
    let env = Env::of_process(&global.project);
    let place = config::artifacts_place(&global.project, &env).map_err(|why| Error::new(why, TOLD))?;
    learning::tracked(&global.project, place.as_deref(), &env, reader.tracking.clone())
}

/// A failure of the storage: its message and, behind the last semicolon, its remedy.
pub(super) fn failed(error: store::Error) -> Error {
    let text = error.to_string();
    let remedy = match &error {
        store::Error::Database(_) | store::Error::Decode(_) | store::Error::Random(_) => None,
        _ => text.rsplit_once("; "),
    };
    let (message, help) = remedy
        .unwrap_or((&text, "check the disk and the files in .forebay, or the database of `storage.url`"));
    Error::new(format!("cannot {message}"), help)
}

/// Text that came from elsewhere, on one line and without control characters.
pub(super) fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}
