//! Addresses of models and of artifacts: `models:/NAME/VERSION`, `models:/NAME@ALIAS`, `models:/m-…`, `runs:/RUN/PATH`,
//! `mlflow-artifacts:/PATH`.

use store::tracking::Refused;

/// What `models:/…` names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ModelUri {
    /// A version of a registered model.
    Version(String, i64),
    /// What an alias of a registered model stands for.
    Alias(String, String),
    /// The newest version, or the newest in a stage.
    Latest(String, Option<String>),
    /// A logged model.
    Logged(String),
}

/// Reads `models:/…`.
///
/// # Errors
/// Of one that is none, as MLflow says it.
pub fn model(uri: &str) -> Result<ModelUri, Refused> {
    let wrong = || {
        Refused::invalid(format!(
            "Not a proper models:/ URI: {uri}. Models URIs must be of the form 'models:/model_name/suffix' or \
             'models:/model_name@alias' where suffix is a model version, stage, or the string 'latest' and where alias \
             is a registered model alias. Only one of suffix or alias can be defined at a time."
        ))
    };
    let path =
        uri.strip_prefix("models:/").filter(|p| !p.is_empty() && !p.starts_with('/')).ok_or_else(wrong)?;
    let parts: Vec<&str> = path.split('/').collect();
    match parts.as_slice() {
        [id] if is_model_id(id) => Ok(ModelUri::Logged((*id).to_owned())),
        [aliased] => match aliased.rsplit_once('@') {
            Some((name, alias)) if !name.is_empty() && !alias.is_empty() => {
                Ok(ModelUri::Alias(name.to_owned(), alias.to_owned()))
            }
            _ => Err(wrong()),
        },
        [name, suffix] if !name.is_empty() && !suffix.is_empty() => {
            let name = (*name).to_owned();
            match suffix.parse::<i64>() {
                Ok(version) => Ok(ModelUri::Version(name, version)),
                Err(_) if suffix.eq_ignore_ascii_case("latest") => Ok(ModelUri::Latest(name, None)),
                Err(_) => Ok(ModelUri::Latest(name, Some((*suffix).to_owned()))),
            }
        }
        _ => Err(wrong()),
    }
}

/// Whether it could be the id of a logged model.
pub fn is_model_id(id: &str) -> bool {
    id.strip_prefix("m-").is_some_and(|hex| hex.len() == 32 && hex.chars().all(|c| c.is_ascii_alphanumeric()))
}

/// The run and the path that `runs:/…` names.
///
/// # Errors
/// Of one that is none, as MLflow says it.
pub fn run(uri: &str) -> Result<(String, String), Refused> {
    let path = uri.strip_prefix("runs:/").map(|p| p.trim_start_matches('/'));
    match path.and_then(|p| p.split_once('/')) {
        Some((run, path)) if !run.is_empty() && !path.is_empty() => Ok((run.to_owned(), path.to_owned())),
        _ => Err(Refused::invalid(format!(
            "Not a proper runs:/ URI: {uri}. Runs URIs must be of the form 'runs:/<run_id>/run-relative/path/to/artifact'"
        ))),
    }
}

/// The path of an artifact that this server keeps: of `mlflow-artifacts:/PATH`, with a host or without.
pub fn artifact(uri: &str) -> Option<&str> {
    let rest = uri.strip_prefix("mlflow-artifacts:")?;
    let path = match rest.strip_prefix("//") {
        Some(behind) => behind.split_once('/').map_or("", |(_, path)| path),
        None => rest,
    };
    Some(path.trim_start_matches('/'))
}

/// The scheme of an address, in small letters.
pub fn scheme(uri: &str) -> Option<String> {
    let (scheme, _) = uri.split_once(':')?;
    let mut chars = scheme.chars();
    let first = chars.next()?.is_ascii_alphabetic();
    let rest = chars.all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'));
    (first && rest).then(|| scheme.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn each_form_is_read() {
        let name = || "a b".to_owned();
        assert_eq!(model("models:/a b/3"), Ok(ModelUri::Version(name(), 3)));
        assert_eq!(model("models:/a b@best"), Ok(ModelUri::Alias(name(), "best".to_owned())));
        assert_eq!(model("models:/a b/latest"), Ok(ModelUri::Latest(name(), None)));
        assert_eq!(model("models:/a b/Staging"), Ok(ModelUri::Latest(name(), Some("Staging".to_owned()))));
        let id = format!("m-{}", "0af3".repeat(8));
        assert_eq!(model(&format!("models:/{id}")), Ok(ModelUri::Logged(id)));
        assert_eq!(run("runs:/r1/model/x"), Ok(("r1".to_owned(), "model/x".to_owned())));
        assert_eq!(artifact("mlflow-artifacts:/0/r/artifacts"), Some("0/r/artifacts"));
        assert_eq!(artifact("mlflow-artifacts://host:5/0/r"), Some("0/r"));
        assert_eq!(artifact("s3://b/x"), None);
        for bad in ["models:/", "models:/a/b/c", "models://a/1", "models:/a", "models:/@x", "x"] {
            assert!(model(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "(models:/|runs:/|mlflow-artifacts:)?\\PC{0,20}") {
            let _ = (model(&text), run(&text), artifact(&text), scheme(&text));
        }
    }
}
