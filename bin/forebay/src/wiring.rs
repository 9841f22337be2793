//! From a checked configuration to the parts that run: the only place that knows every crate and every engine. What is put
//! together of them, at the start and at a change of the configuration, is [`crate::assembly`]'s.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;

use std::time::Duration;

use admission::{Amount, Period, Scope};
use contract::{BoxFuture, Clock, Date, PipelineName, Secret, TenantId, UnixMillis};
use gateway::{BatchesSettings, Current, Jobs, JobsSettings};
use llm::{CascadeKind, GenerateKind, Models, PartCache};
use pipeline::durable::Durable;
use pipeline::nested::{Calls, with_pipelines};
use pipeline::outside::Outside;
use pipeline::runs::Deliver as _;
use pipeline::{PipelineSpec, Registry};
use postgres::Postgres;
use store::{Backend, CacheKey, CacheStore, CostBy, Reader};
use webhooks::{Sealing, Webhooks};

use crate::Error;
use crate::config::Config;
use crate::config::choice::PipelineChoiceConfig;
use crate::config::jobs::JobsConfig;
use crate::config::model::{AllowanceConfig, ModelConfig, PriorityConfig, TenantConfig};
use crate::config::pipeline::PipelineConfig;
use crate::stages::Reach;
use crate::{inventory, signing, stages};

/// Every kind of stage this binary has.
pub(crate) fn kinds(
    models: &Models,
    project: &Path,
    config: Option<&Config>,
    cache: Option<Arc<dyn PartCache>>,
    reach: Reach,
    calls: Calls,
) -> Registry {
    let mut registry = Registry::default();
    text::register(&mut registry);
    let prompts = config.zip(reach.choices.as_ref()).map(|(config, choices)| choices.prompts(config));
    let generate = GenerateKind::new(models.clone(), project.to_owned(), cache)
        .with_prompts(prompts.unwrap_or_default());
    stages::register(&mut registry, project, config, reach);
    registry.register(CascadeKind::new(generate.clone()));
    registry.register(generate);
    let specs = config.map(specs).unwrap_or_default();
    let versions = config.map(|config| versions(project, config, &specs)).unwrap_or_default();
    with_pipelines(&registry, &specs, &versions, calls)
}

fn specs(config: &Config) -> BTreeMap<PipelineName, PipelineSpec> {
    let of = |name: &str, p: &PipelineConfig| (name.into(), p.spec());
    let all = config.pipelines.iter().map(|(name, p)| of(name, p));
    // What answers to a choice is called as its first pipeline is.
    let first = |c: &PipelineChoiceConfig| config.pipelines.get(c.pipelines.first()?);
    all.chain(config.choices.iter().filter_map(|(name, c)| Some(of(name, first(c)?)))).collect()
}

/// The hash of what each pipeline is made of but its files: as it is written, and the models that it names.
fn versions(
    project: &Path,
    config: &Config,
    specs: &BTreeMap<PipelineName, PipelineSpec>,
) -> BTreeMap<PipelineName, String> {
    let of = |spec: &PipelineSpec| {
        let written = format!("{spec:?}");
        let named = |name: &str| written.contains(&format!("{name:?}"));
        let mut wanted: Vec<&String> = config.models.keys().filter(|name| named(name)).collect();
        // Who stands in for them too.
        for at in 0.. {
            let Some(model) = wanted.get(at).and_then(|name| config.models.get(*name)) else { break };
            let others = model.fallback.iter().map(|f| &f.model).chain(&model.choice);
            let next = others.filter_map(|name| config.models.get_key_value(name));
            for (name, _) in next {
                if !wanted.contains(&name) {
                    wanted.push(name);
                }
            }
        }
        let models: Vec<String> =
            wanted.iter().filter_map(|name| Some(identity(project, config.models.get(*name)?))).collect();
        blake3::hash(format!("{written} {models:?}").as_bytes()).to_hex().to_string()
    };
    let own: BTreeMap<PipelineName, String> =
        specs.iter().map(|(name, spec)| (name.clone(), of(spec))).collect();
    // Of a choice it is that of all that may answer.
    let several = |(name, c): (&String, &PipelineChoiceConfig)| {
        let all: Vec<&str> =
            c.pipelines.iter().filter_map(|p| own.get(p.as_str())).map(String::as_str).collect();
        (PipelineName::from(name.as_str()), blake3::hash(all.join(" ").as_bytes()).to_hex().to_string())
    };
    let choices: Vec<_> = config.choices.iter().map(several).collect();
    own.into_iter().chain(choices).collect()
}

/// The kinds for a check: they know no model, since nothing runs.
pub fn kinds_for_check(project: &Path) -> Registry {
    kinds(&Models::new(Arc::new(llm::Unlimited)), project, None, None, Reach::default(), Calls::default())
}

/// What stands behind a model's name: who answers, where and as what. A local file is known by its size and the time it was
/// last written, as they are now: a file that is replaced under a running server counts from the next time the configuration is
/// loaded.
pub(crate) fn identity(project: &Path, m: &ModelConfig) -> String {
    let file = m.local.as_ref().and_then(|f| std::fs::metadata(inventory::local_file(project, f)).ok());
    let written = file.as_ref().and_then(|f| f.modified().ok());
    let others: Vec<_> = m.endpoints.iter().map(|e| (&e.model, &e.base_url)).collect();
    let parts = (&m.openai, &m.anthropic, &m.local, &m.base_url, others, file.map(|f| f.len()), written);
    blake3::hash(format!("{parts:?}").as_bytes()).to_hex().to_string()
}

pub(crate) fn limits(config: &Config) -> admission::Settings {
    let tenants: HashMap<TenantId, admission::TenantSettings> =
        config.tenants.iter().map(|(n, t)| (n.as_str().into(), tenant(t))).collect();
    let models = config
        .models
        .iter()
        .map(|(n, m)| {
            let mut s = admission::ModelSettings::default();
            // A local worker answers as many at once as it has sequences; more wait here, where they wait fairly.
            let own = m.local.is_some().then(|| m.parallel.map_or(4, |p| p.0));
            if let Some(max) = m.max_concurrency.map(|c| c.0).or(own) {
                s.max_concurrency = u32::try_from(max).unwrap_or(u32::MAX).max(1);
            }
            s.adaptive = m.local.is_none();
            s.max_wait_ms = m.max_wait.map(|t| u64::try_from(t.0.as_millis()).unwrap_or(u64::MAX));
            let rates = AllowanceConfig {
                tokens_per_minute: m.limits.tokens_per_minute,
                requests_per_minute: m.limits.requests_per_minute,
                concurrent_streams: m.limits.concurrent_streams,
                ..AllowanceConfig::default()
            };
            s.limits = allowance(&rates);
            (n.as_str().into(), s)
        })
        .collect();
    let default_tenant = config.tenants.get(TenantId::DEFAULT).map(tenant).unwrap_or_default();
    // A lease outlives the longest request there can be: within this process a holder ends by its drop.
    let longest = config.pipelines.values().filter_map(|p| p.spec().budget.total).max().unwrap_or_default();
    let lease_seconds = longest.max(gateway::Settings::default().total).as_secs().saturating_add(60);
    admission::Settings {
        keys: config.keys.iter().map(|(id, a)| (id.as_str().into(), allowance(a))).collect(),
        tenants,
        default_tenant,
        each_user: allowance(&config.each_user),
        pipelines: config.pipelines.iter().map(|(n, p)| (n.as_str().into(), allowance(&p.limits))).collect(),
        models,
        lease_seconds,
        ..admission::Settings::default()
    }
}

fn allowance(a: &AllowanceConfig) -> admission::Limits {
    admission::Limits {
        requests_per_minute: a.requests_per_minute.map(|c| c.0),
        tokens_per_minute: a.tokens_per_minute.map(|c| c.0),
        concurrent_streams: a.concurrent_streams.map(|c| u32::try_from(c.0).unwrap_or(u32::MAX)),
        tokens_per_day: a.tokens_per_day.map(|c| c.0),
        tokens_per_month: a.tokens_per_month.map(|c| c.0),
        usd_per_day: a.usd_per_day.map(|u| u.0),
        usd_per_month: a.usd_per_month.map(|u| u.0),
        ..admission::Limits::default()
    }
}

fn tenant(t: &TenantConfig) -> admission::TenantSettings {
    admission::TenantSettings {
        weight: u32::try_from(t.weight.0).unwrap_or(u32::MAX).max(1),
        priority: match t.priority {
            PriorityConfig::Batch => admission::Priority::Batch,
            PriorityConfig::Normal => admission::Priority::Normal,
            PriorityConfig::High => admission::Priority::High,
        },
        limits: allowance(&t.budget),
    }
}

/// The database of a project that is not in its folder.
///
/// # Errors
/// Those of the folder and of the database.
pub(crate) async fn database(project: &Path, url: &Secret) -> Result<Arc<dyn Backend>, store::Error> {
    let journal = store::journal_name(project)?;
    Ok(Arc::new(Postgres::open(url, &journal).await?))
}

/// Budgets remember across a restart: the ledger's sums of the running day and month are what their counters begin with.
pub(crate) async fn spent(reader: &Reader, now: UnixMillis) -> Result<Vec<(Scope, Period, Amount)>, Error> {
    let mut all = Vec::new();
    for (period, from) in running(now) {
        let spent = reader.ledger.spent_by_scope(from, UnixMillis(i64::MAX)).await;
        for s in spent.map_err(unread)? {
            let scope = match s.scope {
                store::Scope::Tenant(t) => Scope::Tenant(t),
                store::Scope::Key(k) => Scope::Key(k),
                store::Scope::User(t, u) => Scope::User(t, u),
                store::Scope::Pipeline(p) => Scope::Pipeline(p),
            };
            all.push((scope, period, Amount { tokens: s.tokens, money: s.cost }));
        }
    }
    Ok(all)
}

/// The same of end users under a running server, where nobody has counted them so far: with what the database does not have
/// yet. Requests that have not ended are not in it.
pub(crate) async fn spent_by_users(
    reader: &Reader,
    now: UnixMillis,
) -> Result<Vec<(Scope, Period, Amount)>, Error> {
    let mut all = Vec::new();
    for (period, from) in running(now) {
        for row in reader.costs(CostBy::User, from, UnixMillis(i64::MAX)).await.map_err(unread)? {
            let (Some(user), Some(tenant)) = (row.name, row.tenant) else { continue };
            let tokens = row.input_tokens.saturating_add(row.output_tokens);
            all.push((Scope::User(tenant, user.as_str().into()), period, Amount { tokens, money: row.cost }));
        }
    }
    Ok(all)
}

/// The day and the month that `now` is in, from their beginnings on.
fn running(now: UnixMillis) -> [(Period, UnixMillis); 2] {
    const DAY: i64 = 86_400_000;
    let month = month_start(now.utc_day());
    [(Period::Day, UnixMillis(now.utc_day() * DAY)), (Period::Month, UnixMillis(month * DAY))]
}

fn unread(e: store::Error) -> Error {
    Error::new(
        format!("cannot read the ledger: {e}"),
        "check .forebay in the project, or the database of `storage.url`",
    )
}

/// The first day of the month of a day, both counted from the epoch.
fn month_start(day: i64) -> i64 {
    Date { day: 1, ..Date::of_day(day) }.day()
}

/// The part cache as generate stages see it.
pub(crate) struct Parts {
    pub(crate) cache: Arc<dyn CacheStore>,
    pub(crate) clock: Arc<dyn Clock>,
}

impl PartCache for Parts {
    fn get<'a>(&'a self, tenant: &'a TenantId, key: &'a [u8; 32]) -> BoxFuture<'a, Option<String>> {
        Box::pin(async move {
            let key = CacheKey::derive(tenant, [key]);
            self.cache.get(&key).await.ok().flatten().and_then(|bytes| String::from_utf8(bytes).ok())
        })
    }

    fn put<'a>(&'a self, tenant: &'a TenantId, key: &'a [u8; 32], text: &'a str) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            let key = CacheKey::derive(tenant, [key]);
            if let Err(e) = self.cache.put(&key, text.as_bytes(), self.clock.wall()).await {
                tracing::warn!(error = %e, "failed to keep a part result");
            }
        })
    }
}

/// How long one try to bring a webhook may take.
const WEBHOOK: Duration = Duration::from_secs(15);

/// What webhooks are signed with, the current secret first.
pub(crate) fn secrets(c: &JobsConfig) -> Vec<contract::Secret> {
    c.webhook.secret.iter().chain(&c.webhook.old_secret).cloned().collect()
}

/// Begins to work on the jobs of a server. Needs a runtime.
///
/// # Errors
/// A webhook's secret that is none, or an address that cannot be told.
pub fn jobs(
    project: &Path,
    config: &Config,
    current: &Current,
    durable: &Durable,
    clock: Arc<dyn Clock>,
) -> Result<Jobs, Error> {
    let c = &config.jobs;
    let deliver = deliver(c, sealing(project, c), clock)?;
    let settings = JobsSettings {
        groups: config
            .runs
            .concurrency
            .iter()
            .map(|(name, n)| (name.clone(), usize::try_from(n.0).unwrap_or(usize::MAX)))
            .collect(),
        parallel: usize::try_from(c.parallel.0).unwrap_or(usize::MAX).clamp(1, 10_000),
        attempts: u32::try_from(c.attempts.0).unwrap_or(u32::MAX).max(1),
        keep: c.keep.0,
        within: c.within.0,
        waiting: c.waiting.0,
        webhook: c.webhook.url.clone(),
        batches: BatchesSettings { lines: c.batches.lines.0.min(10_000_000), open: c.batches.open.0 },
    };
    Ok(Jobs::start(current, settings, deliver, Some(durable.clone())))
}

/// What stages of durable runs reach outside with.
///
/// # Errors
/// A webhook's address that cannot be told.
pub(crate) fn outside(
    config: &Config,
    runs: Arc<dyn store::RunStore>,
    clock: &Arc<dyn Clock>,
) -> Result<Outside, Error> {
    let caller = webhooks::Caller::new(config.jobs.webhook.allow_private, clock.clone());
    Ok(Outside {
        call: Some(Arc::new(caller)),
        webhooks: Some((deliver(&config.jobs, Sealing::default(), clock.clone())?, runs)),
    })
}

/// What the secrets of the registry's webhooks are kept with: what is configured, which servers on one database share, and the
/// folder's own.
fn sealing(project: &Path, c: &JobsConfig) -> Sealing {
    let (project, configured) = (project.to_owned(), secrets(c));
    Sealing::new(move || {
        let own = signing::sealing(&project, configured.is_empty())?;
        Ok(configured.iter().cloned().chain(own).collect())
    })
}

/// Who brings webhooks.
fn deliver(c: &JobsConfig, sealing: Sealing, clock: Arc<dyn Clock>) -> Result<Arc<Webhooks>, Error> {
    let settings = webhooks::Settings {
        secrets: secrets(c),
        own: c.webhook.url.clone(),
        allow_private: c.webhook.allow_private,
        timeout: WEBHOOK,
        sealing,
    };
    let help = "correct `jobs.webhook` in forebay.yaml";
    let deliver = Webhooks::new(&settings, clock).map_err(|e| Error::new(format!("failed to {e}"), help))?;
    if let Some(url) = &c.webhook.url {
        deliver
            .check(url)
            .map_err(|why| Error::new(format!("`jobs.webhook.url` cannot be told: {why}"), help))?;
    }
    Ok(Arc::new(deliver))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_upstream_or_another_file_behind_a_name_is_another_identity() {
        let folder = tempfile::tempdir().unwrap();
        let of = |m: &ModelConfig| identity(folder.path(), m);
        let a = ModelConfig { openai: Some("a".to_owned()), ..ModelConfig::default() };
        let b = ModelConfig { openai: Some("b".to_owned()), ..ModelConfig::default() };
        let elsewhere = ModelConfig { base_url: Some("http://x/v1".to_owned()), ..a.clone() };
        assert_eq!(of(&a), of(&a.clone()));
        assert!(of(&a) != of(&b) && of(&a) != of(&elsewhere));
        let local = ModelConfig { local: Some("m.gguf".to_owned()), ..ModelConfig::default() };
        std::fs::write(folder.path().join("m.gguf"), "one").unwrap();
        let before = of(&local);
        std::fs::write(folder.path().join("m.gguf"), "other").unwrap();
        assert_ne!(of(&local), before);
    }

    #[test]
    fn a_month_starts_on_its_first_day() {
        // 2026-11-21, 2024-02-29, 1970-01-01, 2000-03-01 in days since the epoch, and the first of each month.
        for (day, first) in [(20_778, 20_758), (19_782, 19_754), (0, 0), (11_017, 11_017)] {
            assert_eq!(month_start(day), first);
        }
    }
}
