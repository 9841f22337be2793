//! Tables as they cross a boundary: `DATASET@NAME`, a dataset and the content name of one of its versions.

use std::sync::Arc;

use contract::{Code, Inputs, Value};

use super::error::failed;
use super::keep::STAGING;
use crate::{Added, At, Dataset, Warehouse};

/// A version that a stage is given.
#[derive(Debug, Clone)]
pub(super) struct Table {
    pub(super) dataset: Dataset,
    pub(super) version: u64,
    /// As it crossed the boundary.
    pub(super) text: Arc<str>,
}

impl Table {
    /// The version that a value names.
    pub(super) async fn find(warehouse: &Warehouse, text: &str) -> Result<Table, contract::Error> {
        let (name, version) = split(text).ok_or_else(|| {
            let message = format!("`{text}` names no table: that is a dataset and a version, `NAME@CONTENT`");
            contract::Error::new(Code::InvalidRequest, message)
        })?;
        let dataset = warehouse.dataset(name).map_err(failed)?;
        let version = dataset.resolve(&At::Name(version.to_owned())).await.map_err(failed)?;
        Ok(Table { dataset, version, text: text.into() })
    }

    /// The table of that input.
    pub(super) async fn given(
        warehouse: &Warehouse,
        inputs: &Inputs,
        name: &str,
    ) -> Result<Table, contract::Error> {
        Table::find(warehouse, contract::given_table(inputs, name)?).await
    }
}

/// The dataset and the content name; `None` for what is no table.
pub(super) fn split(text: &str) -> Option<(&str, &str)> {
    let (dataset, name) = text.rsplit_once('@')?;
    let hex = name.len() == 64 && name.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    (hex && !dataset.is_empty()).then_some((dataset, name))
}

/// What a version is called on its way to the next stage.
pub(super) fn value(dataset: &Dataset, added: &Added) -> Value {
    Value::Table(format!("{}@{}", dataset.name(), added.name).into())
}

/// The name of a stage's staging dataset. Names that differ give names that differ.
pub(super) fn staging(pipeline: &str, stage: &str) -> String {
    const MOST: usize = 128;
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-');
    let full = format!("{STAGING}{pipeline}.{stage}");
    if pipeline.bytes().chain(stage.bytes()).all(plain) && full.len() <= MOST {
        return full;
    }
    // What cannot stand in a name is replaced, and the name told apart by the digest of what it was.
    let digest = blake3::hash(format!("{pipeline}\n{stage}").as_bytes()).to_hex();
    let digest = digest.get(..16).unwrap_or_default();
    let safe = |b: u8| if plain(b) || b == b'.' { char::from(b) } else { '-' };
    let short: String = full.bytes().take(MOST - 1 - digest.len()).map(safe).collect();
    format!("{short}.{digest}")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_staging_dataset_has_a_name_that_is_one_and_its_alone(
            a in ("[a-z.\\- é]{1,90}", "[a-z.\\-\\[\\] ]{1,90}"), b in ("[a-z.\\- é]{1,90}", "[a-z.\\-\\[\\] ]{1,90}"),
        ) {
            let (one, other) = (staging(&a.0, &a.1), staging(&b.0, &b.1));
            for name in [&one, &other] {
                prop_assert!(name.len() <= 128 && name.starts_with(STAGING), "{}", name);
                prop_assert!(name.bytes().all(|c| c.is_ascii_alphanumeric() || b"_-.".contains(&c)), "{}", name);
            }
            prop_assert_eq!(a == b, one == other);
        }

        #[test]
        fn no_text_breaks_a_tables_name(text in "\\PC{0,80}") {
            let _ = split(&text);
        }
    }

    #[test]
    fn a_table_is_a_dataset_and_a_whole_content_name() {
        let name = "0123456789abcdef".repeat(4);
        assert_eq!(split(&format!("staging.a@b@{name}")), Some(("staging.a@b", name.as_str())));
        assert_eq!((split("a@12345678"), split(&name), split(&format!("@{name}"))), (None, None, None));
    }
}
