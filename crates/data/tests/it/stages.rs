//! The stages of durable pipelines, each against a warehouse: what crosses a boundary, that an effect is had once, and that nothing
//! is half visible.

mod extended;
mod flights;
mod gates;
mod lineage;
mod once;
mod parts;
mod work;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use contract::lineage::Lineage;
use contract::{
    Attempt, BoxFuture, Budget, Context, Deadline, Error, Inputs, Kind, Meter, Outcome, RequestId, RunId,
    Stage, StageLog, UnixMillis, Value,
};
use data::features::{FeatureView, FeatureViewConfig};
use data::stages::{Configured, Fetched, Means, register};
use data::{How, Policy, Source, Warehouse};
use pipeline::{Problem, Registry, Site};
use serde_json::Value as Json;

use crate::support::{Bench, START};

/// What a project has, without any file of configuration.
pub(crate) struct Project {
    warehouse: Warehouse,
    pub(crate) folder: PathBuf,
    pub(crate) datasets: Mutex<BTreeMap<String, (Configured, Source)>>,
    views: Mutex<BTreeMap<String, FeatureView>>,
}

impl Means for Project {
    fn warehouse(&self) -> Result<Warehouse, Error> {
        Ok(self.warehouse.clone())
    }

    fn folder(&self) -> &Path {
        &self.folder
    }

    fn dataset(&self, name: &str) -> Option<Configured> {
        self.datasets.lock().unwrap().get(name).map(|(configured, _)| configured.clone())
    }

    fn view(&self, name: &str) -> Option<FeatureView> {
        self.views.lock().unwrap().get(name).cloned()
    }

    fn files(&self, patterns: &[String]) -> Result<Vec<PathBuf>, String> {
        let there = |p: &String| {
            let file = self.folder.join(p);
            if file.exists() { Ok(file) } else { Err(format!("there is no file {p}")) }
        };
        patterns.iter().map(there).collect()
    }

    fn documents<'a>(&'a self, folder: &'a str) -> BoxFuture<'a, Result<Fetched, Error>> {
        let source = Source::file(self.folder.join(folder).join("documents.jsonl"));
        Box::pin(async move { Ok(Fetched { source, notes: Vec::new(), held: None }) })
    }

    fn fetch<'a>(&'a self, dataset: &'a str) -> BoxFuture<'a, Result<Fetched, Error>> {
        let source = self.datasets.lock().unwrap()[dataset].1.clone();
        Box::pin(async move { Ok(Fetched { source, notes: Vec::new(), held: None }) })
    }
}

/// The lines of a stage's log, and what it said that it made of what.
#[derive(Default)]
pub(crate) struct Lines(Mutex<Vec<String>>, Mutex<Lineage>);

impl StageLog for Lines {
    fn line(&self, line: &str) {
        self.0.lock().unwrap().push(line.to_owned());
    }

    fn progress(&self, _done: u64, _of: Option<u64>) {}

    fn lineage(&self, lineage: Lineage) {
        self.1.lock().unwrap().add(lineage);
    }
}

/// A warehouse with a project around it, in which stages are run by hand.
pub(crate) struct Hand {
    pub(crate) bench: Bench,
    pub(crate) project: Arc<Project>,
    registry: Registry,
    pub(crate) log: Arc<Lines>,
}

pub(crate) fn configured(how: How) -> Configured {
    Configured { how, expectations: None, policy: Policy::Fail, has_source: true }
}

impl Hand {
    pub(crate) fn new() -> Hand {
        let bench = Bench::new();
        let project = Arc::new(Project {
            warehouse: bench.warehouse.clone(),
            folder: bench.folder.path().to_owned(),
            datasets: Mutex::default(),
            views: Mutex::default(),
        });
        let mut registry = Registry::default();
        register(&mut registry, project.clone());
        Hand { bench, project, registry, log: Arc::default() }
    }

    pub(crate) fn configure(&self, name: &str, configured: Configured, source: Source) {
        self.project.datasets.lock().unwrap().insert(name.to_owned(), (configured, source));
    }

    pub(crate) fn view(&self, name: &str, config: Json) {
        let config: FeatureViewConfig = serde_json::from_value(config).unwrap();
        self.project.views.lock().unwrap().insert(name.to_owned(), FeatureView::new(name, config).unwrap());
    }

    pub(crate) fn build(&self, kind: &str, config: &Json) -> Result<Arc<dyn Stage>, Vec<Problem>> {
        let name = "s".into();
        self.registry.get(kind).unwrap().build(config, &Site { name: &name, each: false })
    }

    pub(crate) fn cached(&self, kind: &str, config: &Json) -> bool {
        self.registry.get(kind).unwrap().cached(config)
    }

    pub(crate) fn made_of(&self, kind: &str, config: &Json) -> Vec<(String, String)> {
        self.registry.get(kind).unwrap().made_of(config)
    }

    pub(crate) fn problems(&self, kind: &str, config: &Json) -> Vec<Problem> {
        self.build(kind, config).map(|_| ()).unwrap_err()
    }

    /// What was said of lineage since it was asked for last.
    pub(crate) fn made(&self) -> Lineage {
        std::mem::take(&mut *self.log.1.lock().unwrap())
    }

    pub(crate) fn lines(&self) -> String {
        self.log.0.lock().unwrap().join("\n")
    }

    /// Runs a stage of that name as the attempt at an effect.
    pub(crate) async fn attempt(
        &self,
        (kind, config): (&str, Json),
        (stage, effect): (&str, &str),
        inputs: &[(&str, &Value)],
    ) -> Outcome<Value> {
        let built = match self.build(kind, &config) {
            Ok(built) => built,
            Err(problems) => panic!("{problems:?}"),
        };
        assert_eq!(built.signature().output, Kind::Table);
        let wanted: Vec<_> = built.signature().inputs.keys().cloned().collect();
        let given: Inputs = inputs.iter().map(|(n, v)| ((*n).to_owned(), (*v).clone())).collect();
        assert_eq!(wanted, given.keys().cloned().collect::<Vec<_>>());
        built.run(&self.context(stage, effect), given).await
    }

    /// What an attempt at an effect of a stage of that name works with.
    pub(crate) fn context(&self, stage: &str, effect: &str) -> Context {
        let attempt = Attempt {
            run: RunId::of(RequestId::from_parts(UnixMillis(START), 7)),
            pipeline: "p".into(),
            number: 1,
            effect: effect.into(),
            again: 0,
            folder: self.bench.folder.path().to_owned(),
            log: self.log.clone(),
        };
        let mut cx = context(&self.bench);
        (cx.stage, cx.attempt) = (Some(stage.into()), Some(Arc::new(attempt)));
        cx
    }

    /// The same, which has to go well.
    pub(crate) async fn run(
        &self,
        stage: (&str, Json),
        named: (&str, &str),
        inputs: &[(&str, &Value)],
    ) -> Value {
        match self.attempt(stage, named, inputs).await {
            Outcome::Complete(value) => value,
            other => panic!("{other:?}\n{}", self.lines()),
        }
    }

    /// The same, which has to fail.
    pub(crate) async fn fail(
        &self,
        stage: (&str, Json),
        named: (&str, &str),
        inputs: &[(&str, &Value)],
    ) -> Error {
        match self.attempt(stage, named, inputs).await {
            Outcome::Failed(error) => error,
            other => panic!("{other:?}"),
        }
    }

    /// How many versions a dataset has.
    pub(crate) async fn versions(&self, dataset: &str) -> usize {
        self.bench.dataset(dataset).log(None).await.unwrap().len()
    }

    /// The rows of a table that crossed a boundary, as sorted lines.
    pub(crate) async fn rows(&self, table: &Value) -> Vec<String> {
        let Value::Table(text) = table else { panic!("{table:?}") };
        let (dataset, name) = text.rsplit_once('@').unwrap();
        crate::support::sorted(&self.bench.dataset(dataset), &data::At::Name(name.into())).await
    }
}

pub(crate) fn context(bench: &Bench) -> Context {
    Context {
        request: RequestId::from_parts(UnixMillis(0), 7),
        tenant: "t".into(),
        user: None,
        stage: None,
        arrived: contract::Clock::now(&*bench.clock),
        deadline: Deadline::NEVER,
        budget: Budget::default(),
        clock: bench.clock.clone(),
        meter: Arc::new(Meter::default()),
        trace: None,
        retrying: false,
        mid_stream: contract::MidStream::Error,
        attempt: None,
        freshness: contract::Freshness::default(),
        sink: None,
    }
}
