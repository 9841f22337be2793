//! What stays of staging datasets: the versions that runs still name.

use std::collections::BTreeSet;

use crate::stages::error::failed;
use crate::stages::table::split;
use crate::{Collected, Error, Gc, Warehouse};

/// What the names of staging datasets begin with.
pub const STAGING: &str = "staging.";

/// Gives back what staging datasets hold that nobody needs any more: versions that are neither newest nor tagged nor among `kept`
/// (tables as they crossed a boundary), and that left the newest longer ago than `gc` says. That has to be longer than any
/// attempt takes, because what a running stage has made is not kept by anybody yet.
///
/// # Errors
/// The storage's.
pub async fn collect(
    warehouse: &Warehouse,
    kept: &[String],
    gc: &Gc,
) -> Result<Vec<(String, Collected)>, contract::Error> {
    collected(warehouse, kept, gc).await.map_err(failed)
}

async fn collected(
    warehouse: &Warehouse,
    kept: &[String],
    gc: &Gc,
) -> Result<Vec<(String, Collected)>, Error> {
    let mut all = Vec::new();
    for name in warehouse.datasets().await? {
        if !name.starts_with(STAGING) {
            continue;
        }
        let dataset = warehouse.dataset(&name)?;
        let own = kept.iter().filter_map(|table| split(table)).filter(|(own, _)| *own == name);
        let names: BTreeSet<String> = own.map(|(_, version)| version.to_owned()).collect();
        let names: Vec<String> = names.into_iter().collect();
        // What is not found was removed before: there is nothing to keep.
        let versions = dataset.named(&dataset.existing().await?, &names).await?;
        let collected = dataset.gc_but(gc, versions.into_iter().flatten().collect()).await?;
        all.push((name, collected));
    }
    Ok(all)
}
