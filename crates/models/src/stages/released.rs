//! A version of a registered model with its file and its record, as its artifacts have them.

use bytes::{Bytes, BytesMut};
use contract::TenantId;
use contract::lineage::{Thing, ThingKind};
use store::tracking::{ModelVersion, Refused};

use super::record::{RECORD, Recorded};
use super::{Tracked, mlmodel, track};
use crate::Error;
use crate::gate::seal::{DECISION, SealError, Sealed, Signer};
use crate::gate::{Decision, Verdict};

/// The folder of a version's decisions, beside its file.
const DECISIONS: &str = "decisions";
/// The tags of a version that say how it was decided.
const DECIDED_AS: &str = "forebay.decision";
const VERDICT: &str = "forebay.verdict";
/// Longer files are no models that are served here.
const LONGEST: u64 = 4 << 30;

/// A version and what it is.
#[derive(Debug, Clone)]
pub struct Released {
    /// The version.
    pub version: ModelVersion,
    /// Its file, ONNX.
    pub file: Bytes,
    /// Its record; nothing of a model that was made elsewhere.
    pub record: Option<Recorded>,
}

/// What an alias stands for, or the version of that number; nothing when the alias stands for none.
///
/// # Errors
/// There is no such model or version.
pub async fn find(
    tracked: &Tracked,
    tenant: &TenantId,
    name: &str,
    which: Result<&str, i64>,
) -> Result<Option<ModelVersion>, Error> {
    let of = tracked.tracking.of(tenant);
    let number = match which {
        Err(number) => number,
        Ok(alias) => {
            let model = of.registered(name).await?;
            let Some((_, number)) = model.aliases.iter().find(|(own, _)| own == alias) else {
                return Ok(None);
            };
            *number
        }
    };
    Ok(Some(of.version(name, number).await?))
}

/// A version as lineage names it.
pub(super) fn thing(name: &str, version: i64) -> Thing {
    let of = Thing::new(ThingKind::Model, name).at(version.to_string());
    Thing { number: u64::try_from(version).ok(), ..of }
}

/// The ONNX file of a version.
///
/// # Errors
/// Its artifacts are elsewhere, or there is no such file among them.
pub async fn file_of(tracked: &Tracked, tenant: &TenantId, version: &ModelVersion) -> Result<Bytes, Error> {
    let root = track::place(&version.location, "")?;
    let found = tracked.artifacts.list(tenant, &root).await?;
    let onnx = |name: &str| name.ends_with(".onnx");
    let own = found.iter().find(|a| a.name == mlmodel::FILE && a.bytes.is_some());
    let any = || found.iter().find(|a| onnx(&a.name) && a.bytes.is_some());
    let Some(file) = own.or_else(any) else {
        let (name, number) = (&version.name, version.version);
        let m = format!(
            "the version {number} of `{name}` has no ONNX file among its artifacts, and nothing else is served: log it by \
             `mlflow.onnx.log_model`, or put `model.onnx` beside its `MLmodel`"
        );
        return Err(Refused::invalid(m).into());
    };
    let bytes = read(tracked, tenant, &version.location, &file.name).await?;
    bytes.ok_or_else(|| Refused::missing("the model's file is gone").into())
}

/// A file beside a version's; nothing when there is none.
pub(super) async fn read(
    tracked: &Tracked,
    tenant: &TenantId,
    location: &str,
    path: &str,
) -> Result<Option<Bytes>, Error> {
    let place = track::place(location, path)?;
    let Some(mut reader) = tracked.artifacts.open(tenant, &place).await? else { return Ok(None) };
    if reader.bytes() > LONGEST {
        return Err(Refused::invalid(format!("`{path}` is longer than {LONGEST} bytes")).into());
    }
    let mut all = BytesMut::new();
    while let Some(piece) = reader.next().await? {
        all.extend_from_slice(&piece);
    }
    Ok(Some(all.freeze()))
}

/// Signs a decision and keeps it beside the version, which names it from then on; its name.
///
/// # Errors
/// It cannot be signed or written.
pub async fn keep_decision(
    tracked: &Tracked,
    tenant: &TenantId,
    version: &ModelVersion,
    decision: &Decision,
    signer: &(dyn Signer + Send + Sync),
    now: i64,
) -> Result<String, Error> {
    let unsigned = |e: SealError| Error::from(Refused::state(format!("failed to {e}")));
    let sealed = Sealed::seal(decision, DECISION, signer).map_err(unsigned)?;
    let name = sealed.name().map_err(unsigned)?;
    let bytes = serde_json::to_vec_pretty(&sealed).map_err(std::io::Error::from)?;
    track::put(tracked, tenant, &version.location, &place_of(&name), bytes).await?;
    let verdict = match decision.verdict {
        Verdict::Accepted => "accepted",
        Verdict::Refused => "refused",
        Verdict::WaitsForApproval => "waits_for_approval",
    };
    for (key, value) in [(DECIDED_AS, name.as_str()), (VERDICT, verdict)] {
        let of = tracked.tracking.of(tenant);
        of.tag_version(&version.name, version.version, (key, Some(value)), now).await?;
    }
    Ok(name)
}

/// The newest decision about a version as it was kept, with the name that the version has for it; nothing when none was made.
///
/// # Errors
/// Its artifacts cannot be read, or what is kept is none.
pub async fn decision_of(
    tracked: &Tracked,
    tenant: &TenantId,
    version: &ModelVersion,
) -> Result<Option<(String, Sealed)>, Error> {
    let Some((_, name)) = version.tags.iter().find(|(key, _)| key == DECIDED_AS) else { return Ok(None) };
    let bytes = read(tracked, tenant, &version.location, &place_of(name)).await?;
    let bytes = bytes.ok_or_else(|| Refused::missing(format!("the decision `{name}` is gone")))?;
    Ok(Some((name.clone(), serde_json::from_slice(&bytes).map_err(std::io::Error::from)?)))
}

fn place_of(name: &str) -> String {
    format!("{DECISIONS}/{}.json", name.trim_start_matches("b3:"))
}

impl Released {
    /// A version with what its artifacts say of it.
    ///
    /// # Errors
    /// As [`file_of`].
    pub async fn of(tracked: &Tracked, tenant: &TenantId, version: ModelVersion) -> Result<Released, Error> {
        let file = file_of(tracked, tenant, &version).await?;
        let record = Released::record_of(tracked, tenant, &version).await?;
        Ok(Released { version, file, record })
    }

    /// The record of a version; nothing of a model that was made elsewhere.
    ///
    /// # Errors
    /// Its artifacts cannot be read.
    pub async fn record_of(
        tracked: &Tracked,
        tenant: &TenantId,
        version: &ModelVersion,
    ) -> Result<Option<Recorded>, Error> {
        let bytes = read(tracked, tenant, &version.location, RECORD).await?;
        Ok(bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()))
    }

    /// A text beside a version's file, such as its card; nothing when there is none.
    ///
    /// # Errors
    /// Its artifacts cannot be read.
    pub async fn text_of(
        tracked: &Tracked,
        tenant: &TenantId,
        version: &ModelVersion,
        path: &str,
    ) -> Result<Option<String>, Error> {
        let bytes = read(tracked, tenant, &version.location, path).await?;
        Ok(bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
    }
}
