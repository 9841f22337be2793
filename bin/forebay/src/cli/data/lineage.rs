//! The fact of lineage that a command leaves: the files, or where the rows came from, and the version that they became.

use std::io::Write as _;

use contract::{Clock as _, SystemClock, TenantId};
use data::{Added, Dataset};
use pipeline::lineage::{Told, fact};

use super::who;
use crate::cli::Global;
use crate::cli::storage::{self, Need};

/// Keeps what a version was made of. The version is there already: what goes wrong here is a warning.
pub(super) async fn keep(global: &Global, dataset: &Dataset, added: &Added) {
    if let Err(why) = kept(global, dataset, added).await {
        let text = format!("warning: what `{}` was made of is not kept: {why}\n", dataset.name());
        let _ = std::io::stderr().write_all(text.as_bytes());
    }
}

async fn kept(global: &Global, dataset: &Dataset, added: &Added) -> Result<(), String> {
    let lineage = dataset.lineage(added).await.map_err(|e| format!("cannot {e}"))?;
    let told = Told {
        kind: "data add".into(),
        who: who(),
        git: pipeline::lineage::git(&global.project).await,
        forebay: env!("CARGO_PKG_VERSION").to_owned(),
        lineage,
        ..Told::default()
    };
    let parts = serde_json::to_string(&(dataset.name(), added.version, &told.lineage.inputs));
    let key = *blake3::hash(format!("data add {}", parts.map_err(|e| e.to_string())?).as_bytes()).as_bytes();
    let job = format!("data add {}", dataset.name());
    let fact = fact(key, &TenantId::of_the_project(), ("", &job), SystemClock::default().wall(), told);
    let reader = storage::open(global, Need::Keys).await.map_err(|e| e.to_string())?;
    let put = reader.lineage.put(&[fact]).await.map_err(|e| format!("cannot {e}"));
    reader.close().await;
    put.map(drop)
}
