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
    let made_here = record.filter(|record| record.config.adopted.is_none());
    let record = made_here.ok_or_else(|| {
        let m = format!(
            "version {} of `{}` was not made by a stage `train`: nothing says how to make it again",
            version.version, version.name
        );
        error::kept(Refused::state(m).into())
    })?;
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
