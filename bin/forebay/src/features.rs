//! The project's features: the online store over its datasets, as the gateway serves it and commands use it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use contract::{BoxFuture, Clock, Code, Error as Refusal, RetryHint, TenantId};
use data::At;
use data::features::FeatureView;
use data::features::online::{Ask, Mode, Online, Status, To, Value};
use gateway::{
    FeatureColumn, FeatureRows, FeatureStatus, FeatureValue, Features, FeaturesMaterialized, FeaturesNamed,
    FeaturesPush, FeaturesState,
};
use pipeline::task::{self, Behind};

use crate::Error;
use crate::config::feature::FeaturesConfig;
use crate::config::{Config, Env};
use crate::datasets::{self, failed};

/// The sections of the configuration that work on features reads.
pub const SECTIONS: [&str; 3] = ["warehouse", "datasets", "features"];

/// Where what is online is kept.
pub fn folder(project: &Path) -> PathBuf {
    project.join(".forebay/features")
}

/// The views of a configuration.
///
/// # Errors
/// What a checked configuration does not have.
pub fn views(config: &FeaturesConfig) -> Result<Vec<FeatureView>, Error> {
    let view = |(name, view): (&String, &crate::config::feature::FeatureViewConfig)| {
        FeatureView::new(name, view.view()).map_err(failed)
    };
    config.views.iter().map(view).collect()
}

/// The features of a service, view and feature.
pub fn service(config: &FeaturesConfig, name: &str) -> Option<Vec<(String, String)>> {
    let mut all = Vec::new();
    for text in config.services.get(name)? {
        match text.split_once(':') {
            Some((view, feature)) => all.push((view.to_owned(), feature.to_owned())),
            None => {
                let features = config.views.get(text).into_iter().flat_map(|view| &view.features);
                all.extend(features.map(|feature| (text.clone(), feature.clone())));
            }
        }
    }
    Some(all)
}

/// Opens what is online of a project.
///
/// # Errors
/// When it cannot be read, or is to be written and another process does.
pub async fn open(
    project: &Path,
    config: &Config,
    env: &Env,
    clock: Arc<dyn Clock>,
    mode: Mode,
) -> Result<Online, Error> {
    let warehouse = datasets::open(project, config, env, clock)?;
    let views = views(&config.features)?;
    Online::open(&warehouse, &folder(project), views, mode).await.map_err(failed)
}

/// What a server serves.
pub struct Served {
    online: Arc<Online>,
    services: BTreeMap<String, Vec<(String, String)>>,
    /// Who may ask for a view; everybody for one that is not here.
    tenants: BTreeMap<String, BTreeSet<TenantId>>,
    /// Views by the name under which rows are pushed to them.
    sources: BTreeMap<String, String>,
}

impl Served {
    /// Serves the views and services of a configuration.
    pub fn new(online: Arc<Online>, config: &FeaturesConfig) -> Served {
        let tenants = config.views.iter().filter_map(|(name, view)| {
            let tenants = view.tenants.as_ref()?;
            Some((name.clone(), tenants.iter().map(|tenant| tenant.id()).collect()))
        });
        let sources =
            config.views.iter().filter_map(|(name, view)| Some((view.push_source.clone()?, name.clone())));
        let services = config.services.keys().filter_map(|name| Some((name.clone(), service(config, name)?)));
        Served {
            services: services.collect(),
            tenants: tenants.collect(),
            sources: sources.collect(),
            online,
        }
    }

    /// A view that is not the tenant's is not there.
    fn may(&self, tenant: &TenantId, view: &str) -> Result<(), Refusal> {
        let shown = self.tenants.get(view).is_none_or(|tenants| tenants.contains(tenant));
        if shown && self.online.views().any(|known| known.name() == view) {
            return Ok(());
        }
        Err(Refusal::new(Code::NotFound, format!("there is no feature view `{view}`")).param("features"))
    }
}

/// A failure in words for the caller; what it says of this machine goes to the log.
fn refusal(error: data::Error) -> Refusal {
    let code = error.code();
    match code {
        Code::InvalidRequest | Code::NotFound | Code::TooLarge => {
            Refusal::new(code, format!("failed to {error}"))
        }
        _ => {
            tracing::error!(%error, "failed to use the features");
            let m = "the features cannot be read or written now: ask again in a moment";
            Refusal::new(Code::StorageUnavailable, m).retry(RetryHint::After(Duration::from_secs(5)))
        }
    }
}

impl Features for Served {
    fn online(
        &self,
        tenant: &TenantId,
        named: &FeaturesNamed,
        entities: &FeatureRows,
    ) -> Result<Vec<FeatureColumn>, Refusal> {
        let features = match named {
            FeaturesNamed::Each(features) => features,
            FeaturesNamed::Service(name) => self.services.get(name).ok_or_else(|| {
                Refusal::new(Code::NotFound, format!("there is no feature service `{name}`"))
                    .param("feature_service")
            })?,
        };
        for (view, _) in features {
            self.may(tenant, view)?;
        }
        let columns = self.online.get(&Ask { features, entities }).map_err(refusal)?;
        let column =
            |((view, feature), column): (&(String, String), data::features::online::OnlineColumn)| {
                FeatureColumn {
                    view: view.clone(),
                    feature: feature.clone(),
                    values: column.values.into_iter().map(value).collect(),
                    statuses: column.statuses.into_iter().map(status).collect(),
                    events: column.events,
                }
            };
        Ok(features.iter().zip(columns).map(column).collect())
    }

    fn push<'a>(&'a self, tenant: &'a TenantId, push: FeaturesPush) -> BoxFuture<'a, Result<u64, Refusal>> {
        Box::pin(async move {
            let view = self.sources.get(&push.to).unwrap_or(&push.to);
            self.may(tenant, view)?;
            let to = match (push.online, push.offline) {
                (true, true) => To::Both,
                (false, true) => To::Offline,
                _ => To::Online,
            };
            Ok(Box::pin(self.online.push(view, push.rows, to)).await.map_err(refusal)?.rows)
        })
    }

    fn materialize<'a>(
        &'a self,
        views: &'a [String],
        until: Option<&'a str>,
    ) -> BoxFuture<'a, Result<Vec<FeaturesMaterialized>, Refusal>> {
        Box::pin(async move {
            let until = until.map(|text| match text.parse() {
                Ok(At::Time(time)) => Ok(time),
                _ => Err(Refusal::new(Code::InvalidRequest, format!("`{text}` is not a time in ISO 8601"))
                    .param("end_ts")),
            });
            let done = Box::pin(self.online.materialize(views, until.transpose()?)).await.map_err(refusal)?;
            let one = |m: data::features::online::Materialized| FeaturesMaterialized {
                view: m.view,
                versions: m.versions,
                rows: m.read,
                entities: m.entities,
            };
            Ok(done.into_iter().map(one).collect())
        })
    }

    fn states(&self) -> Vec<FeaturesState> {
        let state = |s: data::features::online::ViewState| FeaturesState {
            view: s.view,
            entities: s.entities,
            newest_event: s.newest_event,
            materialized: s.materialized,
        };
        self.online.states().into_iter().map(state).collect()
    }
}

fn value(value: Value) -> FeatureValue {
    match value {
        Value::Null => FeatureValue::Null,
        Value::Bool(x) => FeatureValue::Bool(x),
        Value::Int(x) => FeatureValue::Int(x),
        Value::Float(x) => FeatureValue::Float(x),
        Value::Text(text) => FeatureValue::Text(text),
        Value::Json(json) => FeatureValue::Json(json),
    }
}

fn status(status: Status) -> FeatureStatus {
    match status {
        Status::Present => FeatureStatus::Present,
        Status::NotFound => FeatureStatus::NotFound,
        Status::Null => FeatureStatus::NullValue,
        Status::OutsideMaxAge => FeatureStatus::OutsideMaxAge,
    }
}

/// Takes over what is new in the datasets, at once and then every so often, until it is dropped. A view that fails holds up no
/// other, and is told once until it does something else. It reads whole tables: behind those who wait for answers.
pub fn refresh(online: Arc<Online>, every: Duration, behind: &Behind) -> task::Task<()> {
    behind.spawn("features-refresh", async move {
        let mut failing: BTreeMap<String, String> = BTreeMap::new();
        loop {
            let names: Vec<String> = online.views().map(|view| view.name().to_owned()).collect();
            for name in names {
                let done = Box::pin(online.materialize(std::slice::from_ref(&name), None)).await;
                match done {
                    Ok(_) => _ = failing.remove(&name),
                    Err(error) => {
                        let said = error.to_string();
                        if failing.get(&name) != Some(&said) {
                            tracing::warn!(
                                view = name,
                                error = said,
                                "failed to materialise; what was online stays"
                            );
                            failing.insert(name, said);
                        }
                    }
                }
            }
            task::sleep(every).await;
        }
    })
}
