//! A model made again of what its record says, and held against the one that is kept.

use contract::{Clock, TenantId};
use store::tracking::{ModelVersion, Refused};

use super::error::trained;
use super::train::{description, fit};
use super::{Means, Recorded, Released, Tracked, error};
use crate::onnx::About;
use crate::reproduce::{Agreement, Difference, Made, agree};
use crate::train::Watch;

/// What came of making it again.
#[derive(Debug, Clone, PartialEq)]
pub struct Rebuilt {
    /// The record of the model that is kept.
    pub record: Recorded,
    /// What it would be made of here and now, where that is something else: another program, another machine.
    pub differences: Vec<Difference>,
    /// Whether what came out is the same.
    pub agreement: Agreement,
    /// The BLAKE3 of what came out.
    pub sum: String,
}

/// Makes a version again: the same version of its data, the same configuration and seed. Without a `tolerance` only equal bytes are
/// the same; with one, figures on the held-back rows may differ by so much.
///
/// # Errors
/// The model was not made here, its data is gone, or the training fails.
pub async fn rebuild(
    means: &dyn Means,
    clock: &dyn Clock,
    (tracked, tenant, version): (&Tracked, &TenantId, &ModelVersion),
    tolerance: Option<f64>,
    watch: &dyn Watch,
) -> Result<Rebuilt, contract::Error> {
    let record = Released::record_of(tracked, tenant, version).await.map_err(error::kept)?;
    let refused = |why: &str| {
        let m = format!("version {} of `{}` {why}", version.version, version.name);
        error::kept(Refused::state(m).into())
    };
    let none =
        "has no record of a stage `train` among its artifacts: it was not made by one, or they are gone";
    let record = record.ok_or_else(|| refused(none))?;
    if record.config.adopted.is_some() {
        return Err(refused(
            "was made by a command of its pipeline, and not by a stage `train`: run that pipeline again",
        ));
    }
    let differences = record.made_of.diff(&description(&record.config, &record.table)?);
    let frame = means.frame(&record.table).await?;
    let about = About { model_id: record.id.clone(), data_version: record.table.clone(), ..About::default() };
    let fitted = fit(means, clock, (frame, record.config.clone()), about, watch).await;
    let fitted = fitted.map_err(|e| trained(&e))?;
    let sum = blake3::hash(&fitted.onnx).to_hex().to_string();
    let kept = Made { artifact: record.sum.clone(), metrics: record.report.holdout.clone() };
    let made = Made { artifact: sum.clone(), metrics: fitted.report.holdout };
    Ok(Rebuilt { agreement: agree(&kept, &made, tolerance), differences, record, sum })
}
