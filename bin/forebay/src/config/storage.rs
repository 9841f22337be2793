//! The section `storage`, and where the storage is as commands see it that need no sound configuration.

use std::path::Path;

use contract::Secret;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer};

use super::{Env, FILE, env, spans};

/// Where keys, the ledger, jobs, batches, files and kept notes are.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct StorageConfig {
    /// A PostgreSQL database (`postgres://user:password@host:5432/database`, `?sslmode=verify-full` as libpq has it), which
    /// several servers may share: they work on the same jobs and write one ledger. Write `${NAME}` where the password is, not
    /// the password itself. Unless given: a file in `.forebay`, for one server.
    #[serde(deserialize_with = "secret")]
    #[schemars(with = "Option<String>")]
    pub url: Option<Secret>,
    /// Where the artifacts of tracked runs and models are: `s3://BUCKET/PREFIX`, with the credentials of the environment
    /// (`AWS_ACCESS_KEY_ID`, …), which several servers may share. Unless given: `.forebay/tracking`.
    pub artifacts: Option<String>,
}

fn secret<'de, D: Deserializer<'de>>(d: D) -> Result<Option<Secret>, D::Error> {
    Ok(Option::<String>::deserialize(d)?.map(Secret::new))
}

/// Where the project in `folder` keeps its storage, whatever else is wrong with its configuration; `None` is in the folder.
///
/// # Errors
/// Why that cannot be told: it says where, and that cannot be read. Never the address.
pub fn storage_url(folder: &Path, env: &Env) -> Result<Option<Secret>, String> {
    Ok(said(folder, env, "url")?.map(Secret::new))
}

/// The same of where it keeps artifacts of runs and models.
///
/// # Errors
/// As [`storage_url`].
pub fn artifacts_place(folder: &Path, env: &Env) -> Result<Option<String>, String> {
    said(folder, env, "artifacts")
}

/// What `storage` says under a name.
fn said(folder: &Path, env: &Env, name: &str) -> Result<Option<String>, String> {
    let Ok(text) = std::fs::read_to_string(folder.join(FILE)) else { return Ok(None) };
    let Some(mut root) = spans::parse(&text).root else {
        // A file that does not speak of it keeps nobody from a storage that is in the folder.
        return match text.contains("storage") {
            true => Err(format!("{FILE} cannot be read")),
            false => Ok(None),
        };
    };
    let mut problems = Vec::new();
    let _ = env::substitute(&mut root, env, &mut problems);
    let pointer = format!("/storage/{name}");
    if problems.iter().any(|p| p.path == pointer) {
        return Err(format!("a variable of `storage.{name}` in {FILE} is not set"));
    }
    match root.to_json().pointer(&pointer) {
        None | Some(serde_json::Value::Null) => Ok(None),
        Some(serde_json::Value::String(said)) => Ok(Some(said.clone())),
        Some(_) => Err(format!("`storage.{name}` in {FILE} is not an address")),
    }
}

/// What of an address is nobody's to see: a password before the host, or one among the parameters.
pub(super) fn password(address: &str) -> Option<&str> {
    let (_, rest) = address.split_once("://")?;
    let before_host = || rest.rsplit_once('@')?.0.split_once(':').map(|(_, password)| password);
    let parameter = || rest.split_once("password=").map(|(_, rest)| rest);
    let written_out = |p: &&str| p.len() > 3 && !(p.starts_with("${") && p.ends_with('}'));
    before_host().or_else(parameter).filter(written_out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_password_of_an_address_is_found_wherever_it_stands() {
        for (address, hidden) in [
            ("postgres://ann:s3@cret@h:5/d", Some("s3@cret")),
            ("mysql://ann:s3cret@h/d", Some("s3cret")),
            ("postgres://h/d?user=ann&password=s3cret&x=1", Some("s3cret&x=1")),
            ("postgres://ann@h:5432/d", None),
            ("https://a.example/x", None),
            ("postgres://ann:${PASSWORD}@h/d", None),
            ("s3cret", None),
        ] {
            assert_eq!(password(address), hidden, "{address}");
        }
    }

    #[test]
    fn where_the_storage_is_can_be_told_of_a_file_that_is_not_sound() {
        let folder = tempfile::tempdir().unwrap();
        let env: Env = [("PASSWORD", "s3cret")].into_iter().collect();
        let told = |text: &str| {
            std::fs::write(folder.path().join(FILE), text).unwrap();
            storage_url(folder.path(), &env).map(|url| url.map(|u| u.expose().to_owned()))
        };
        assert_eq!(storage_url(Path::new("/nowhere"), &env).map(|u| u.is_none()), Ok(true));
        assert_eq!(told("models: {}\n"), Ok(None));
        assert_eq!(told("models: [\n"), Ok(None), "it does not speak of storage");
        let url = "storage: {url: 'postgres://a:${PASSWORD}@h/d'}\nmodels: {m: {openai: 7}}\n";
        assert_eq!(told(url), Ok(Some("postgres://a:s3cret@h/d".to_owned())));
        for unreadable in [
            "storage: {url: 'postgres://a:s3cret@h/d'\n",
            "storage: {url: 'postgres://a:${NOBODY}@h/d'}",
            "storage: {url: [s3cret]}",
        ] {
            let why = told(unreadable).unwrap_err();
            assert!(!why.contains("s3cret"), "{why}");
        }
    }
}
