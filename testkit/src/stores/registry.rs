//! What the registry must do on every database: logged models, registered models, versions and aliases.

use contract::TenantId;
use store::tracking::{
    AliasChange, Logged, Metric, ModelOrder, ModelSearch, NewLoggedModel, NewModelVersion, PROMPT, Pair,
    Search, TenantTracking, Why,
};

use super::Subject;
use super::tracking::begin;

fn gold() -> TenantId {
    TenantId::from("gold")
}

fn pair(key: &str, value: &str) -> Pair {
    (key.to_owned(), value.to_owned())
}

fn why<T: std::fmt::Debug>(result: Result<T, store::Error>) -> Why {
    match result.unwrap_err() {
        store::Error::Refused(r) => r.why,
        other => panic!("{other}"),
    }
}

async fn logged(t: TenantTracking<'_>, n: u32) -> String {
    let new = NewLoggedModel {
        id: format!("m-{n:032x}"),
        name: format!("model {n}"),
        kind: Some("sklearn".into()),
        source_run: Some(format!("{n:032x}")),
        params: vec![pair("depth", &n.to_string())],
        tags: vec![pair("k", "v")],
        ..NewLoggedModel::default()
    };
    t.create_logged_model(&new, i64::from(n)).await.unwrap().id
}

pub async fn a_logged_model_is_measured_tagged_finalized_and_deleted(on: &Subject) {
    let all = on.tracking();
    let (gold, other) = (gold(), TenantId::from("other"));
    let t = all.of(&gold);
    let run = begin(t, 0, 1).await.info.id;
    let id = logged(t, 1).await;
    let made = t.logged_model(&id, false).await.unwrap();
    assert_eq!((made.status, made.location), (1, format!("mlflow-artifacts:/0/models/{id}/artifacts")));
    let dataset = (Some("d".to_owned()), Some("x".to_owned()));
    let metric = Metric { model: Some(id.clone()), dataset, ..Metric::new("acc", 0.5, 3, 1) };
    let of_none = Metric { model: Some("m-none".into()), ..Metric::new("acc", 0.5, 4, 1) };
    for _ in 0..2 {
        let metrics = vec![metric.clone(), of_none.clone()];
        t.log(&run, Logged { metrics, ..Logged::default() }).await.unwrap();
    }
    assert_eq!(t.logged_model(&id, false).await.unwrap().metrics, [(metric, run.clone())]);
    assert_eq!(t.history(&run, "acc", 0, None).await.unwrap().items.len(), 2);
    t.tag_logged_model(&id, &[pair("k", "w"), pair("l", "1")]).await.unwrap();
    t.log_model_params(&id, &[pair("more", "2")]).await.unwrap();
    t.untag_logged_model(&id, "l").await.unwrap();
    assert_eq!(why(t.untag_logged_model(&id, "l").await), Why::Missing);
    let ready = t.finalize_logged_model(&id, 2, 9).await.unwrap();
    assert_eq!((ready.status, ready.updated_at, ready.tags), (2, 9, vec![pair("k", "w")]));
    assert_eq!(ready.params, [pair("depth", "1"), pair("more", "2")]);
    assert_eq!(why(all.of(&other).logged_model(&id, true).await), Why::Missing);
    t.delete_logged_model(&id, 10).await.unwrap();
    assert_eq!(why(t.logged_model(&id, false).await), Why::Missing);
    assert_eq!(t.logged_model(&id, true).await.unwrap().name, "model 1");
}

pub async fn logged_models_are_searched_by_what_was_measured(on: &Subject) {
    let all = on.tracking();
    let gold = gold();
    let t = all.of(&gold);
    let run = begin(t, 0, 9).await.info.id;
    for n in 1..=3 {
        let id = logged(t, n).await;
        let dataset = (Some(if n == 1 { "train" } else { "test" }.to_owned()), Some("x".to_owned()));
        let metric = Metric { model: Some(id), dataset, ..Metric::new("acc", f64::from(n) / 10.0, 1, 1) };
        t.log(&run, Logged { metrics: vec![metric], ..Logged::default() }).await.unwrap();
    }
    let found = |search: ModelSearch| async move {
        let page = t.search_logged_models(&search).await.unwrap();
        (page.items.into_iter().map(|m| m.name).collect::<Vec<_>>(), page.next)
    };
    let of = |filter: &str| ModelSearch {
        experiments: vec![0],
        filter: filter.into(),
        most: 10,
        ..ModelSearch::default()
    };
    assert_eq!(found(of("")).await.0, ["model 3", "model 2", "model 1"]);
    assert_eq!(found(of("metrics.acc > 0.15 AND params.depth != '3'")).await.0, ["model 2"]);
    assert_eq!(
        found(of("name LIKE 'model%' AND tags.k = 'v' AND creation_time <= 2")).await.0,
        ["model 2", "model 1"]
    );
    let on_train = ModelSearch { datasets: vec![("train".into(), None)], ..of("metrics.acc > 0") };
    assert_eq!(found(on_train).await.0, ["model 1"]);
    let order = ModelOrder { field: "metrics.acc".into(), ascending: true, dataset: (None, None) };
    let page = ModelSearch { order: vec![order], most: 2, ..of("") };
    assert_eq!(found(page.clone()).await, (vec!["model 1".into(), "model 2".into()], Some(2)));
    assert_eq!(found(ModelSearch { from: 2, ..page }).await, (vec!["model 3".into()], None));
}

fn version_of(name: &str, source: &str) -> NewModelVersion {
    NewModelVersion {
        name: name.into(),
        source: source.into(),
        location: source.into(),
        run: Some("r1".into()),
        tags: vec![pair("a", "1"), pair("a", "2")],
        ..NewModelVersion::default()
    }
}

pub async fn versions_are_numbered_moved_and_deleted_and_no_number_is_given_twice(on: &Subject) {
    let all = on.tracking();
    let gold = gold();
    let t = all.of(&gold);
    let made = t.register("m", Some("about"), &[pair("k", "1"), pair("k", "2")], 5).await.unwrap();
    assert_eq!((made.description.as_deref(), made.tags), (Some("about"), vec![pair("k", "2")]));
    assert_eq!(why(t.register("m", None, &[], 6).await), Why::Exists);
    assert_eq!(why(t.create_version(&version_of("none", "s"), 6).await), Why::Missing);
    for (n, at) in [(1, 10), (2, 11), (3, 12)] {
        let v = t.create_version(&version_of("m", "s3://x"), at).await.unwrap();
        assert_eq!(
            (v.version, v.stage.as_str(), v.status.as_str(), v.tags),
            (n, "None", "READY", vec![pair("a", "2")])
        );
    }
    t.stage_version("m", 1, ("Production", false), 20).await.unwrap();
    t.stage_version("m", 2, ("Production", true), 21).await.unwrap();
    assert_eq!(t.version("m", 1).await.unwrap().stage, "Archived");
    let known = t.registered("m").await.unwrap();
    let latest: Vec<(i64, &str)> = known.latest.iter().map(|v| (v.version, v.stage.as_str())).collect();
    assert_eq!((latest, known.updated_at), (vec![(1, "Archived"), (2, "Production"), (3, "None")], 21));
    t.describe_version("m", 3, Some("third"), 22).await.unwrap();
    t.tag_version("m", 3, ("b", Some("x")), 23).await.unwrap();
    t.tag_version("m", 3, ("a", None), 24).await.unwrap();
    t.tag_version("m", 3, ("a", None), 24).await.unwrap();
    let third = t.version("m", 3).await.unwrap();
    assert_eq!((third.description.as_deref(), third.tags), (Some("third"), vec![pair("b", "x")]));
    t.delete_version("m", 3, 30).await.unwrap();
    assert_eq!(why(t.version("m", 3).await), Why::Missing);
    assert_eq!(t.create_version(&version_of("m", "s3://y"), 31).await.unwrap().version, 4);
    let renamed = t.rename_registered("m", "n", 32).await.unwrap();
    assert_eq!((renamed.name.as_str(), t.version("n", 4).await.unwrap().name.as_str()), ("n", "n"));
    t.unregister("n", 33).await.unwrap();
    assert_eq!(why(t.registered("n").await), Why::Missing);
    t.register("n", None, &[], 34).await.unwrap();
    assert_eq!(t.create_version(&version_of("n", "s"), 35).await.unwrap().version, 1);
}

pub async fn versions_made_at_once_have_numbers_of_their_own(on: &Subject) {
    let all = on.tracking();
    let gold = gold();
    let t = all.of(&gold);
    t.register("m", None, &[], 1).await.unwrap();
    let new = version_of("m", "s");
    let made = futures_util::future::join_all((0..12).map(|n| t.create_version(&new, n))).await;
    let mut numbers: Vec<i64> = made.into_iter().map(|v| v.unwrap().version).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (1..=12).collect::<Vec<_>>());
    let same = futures_util::future::join_all((0..8).map(|_| t.create_experiment("e", None, &[], 1))).await;
    assert_eq!(same.into_iter().filter(Result::is_ok).count(), 1);
}

pub async fn registered_models_and_versions_are_searched(on: &Subject) {
    let all = on.tracking();
    let (gold, other) = (gold(), TenantId::from("other"));
    let t = all.of(&gold);
    for (n, name) in (1..).zip(["alpha", "Beta", "gamma"]) {
        t.register(name, None, &[pair("team", if n == 2 { "b" } else { "a" })], n).await.unwrap();
        t.create_version(&NewModelVersion { run: Some(format!("r{n}")), ..version_of(name, "s3://x") }, n)
            .await
            .unwrap();
    }
    t.register("prompt", None, &[pair(PROMPT, "true")], 9).await.unwrap();
    all.of(&other).register("theirs", None, &[], 9).await.unwrap();
    let of = |filter: &str, order: &[&str]| Search {
        filter: filter.into(),
        order: order.iter().map(|&o| o.into()).collect(),
        most: 10,
        ..Search::default()
    };
    let models = |search: Search| async move {
        let page = t.search_registered(&search).await.unwrap();
        page.items.into_iter().map(|m| m.name).collect::<Vec<_>>()
    };
    assert_eq!(models(of("", &["name"])).await, ["Beta", "alpha", "gamma"]);
    assert_eq!(models(of("", &["timestamp DESC"])).await, ["gamma", "Beta", "alpha"]);
    assert_eq!(models(of("name ILIKE 'b%'", &[])).await, ["Beta"]);
    assert_eq!(models(of("name IN ('alpha', 'gamma') AND tags.team = 'a'", &[])).await, ["alpha", "gamma"]);
    assert_eq!(models(of("tags.`mlflow.prompt.is_prompt` = 'true'", &[])).await, ["prompt"]);
    let versions = |search: Search| async move {
        let page = t.search_versions(&search).await.unwrap();
        page.items.into_iter().map(|v| v.name).collect::<Vec<_>>()
    };
    assert_eq!(versions(of("", &[])).await, ["gamma", "Beta", "alpha"]);
    assert_eq!(versions(of("run_id IN ('r1', 'r3')", &["name ASC"])).await, ["alpha", "gamma"]);
    assert_eq!(versions(of("name = 'Beta' AND version_number >= 1 AND tags.a = '2'", &[])).await, ["Beta"]);
}

pub async fn what_an_alias_stood_for_at_a_time_can_be_asked_as_it_was_known_then(on: &Subject) {
    let all = on.tracking();
    let gold = gold();
    let t = all.of(&gold);
    t.register("m", None, &[], 1).await.unwrap();
    for at in 1..=3 {
        t.create_version(&version_of("m", "s"), at).await.unwrap();
    }
    t.set_alias("m", "champion", 1, (10, 10)).await.unwrap();
    t.set_alias("m", "champion", 2, (20, 20)).await.unwrap();
    assert_eq!(why(t.set_alias("m", "champion", 9, (21, 21)).await), Why::Missing);
    let at = |valid, known| async move { t.alias_at("m", "champion", valid, known).await.unwrap() };
    assert_eq!(
        [at(9, 99).await, at(10, 99).await, at(19, 99).await, at(20, 99).await],
        [None, Some(1), Some(1), Some(2)]
    );
    // It comes out at 30 that it had been the third from 15 on.
    t.set_alias("m", "champion", 3, (15, 30)).await.unwrap();
    assert_eq!([at(16, 29).await, at(16, 30).await, at(25, 99).await], [Some(1), Some(3), Some(2)]);
    assert_eq!(
        t.registered("m").await.unwrap().aliases,
        [("champion".to_owned(), 2)],
        "a correction of the past"
    );
    t.set_alias("m", "champion", 3, (40, 40)).await.unwrap();
    let moved = |from, to| async move { t.move_alias("m", "other", (from, to), 40).await.unwrap() };
    assert_eq!([moved(Some(1), 2).await, moved(None, 2).await, moved(None, 3).await], [false, true, false]);
    assert!(moved(Some(2), 3).await, "whoever knows what it stands for moves it");
    assert_eq!(why(t.move_alias("m", "other", (Some(3), 9), 41).await), Why::Missing);
    assert_eq!(t.version("m", 3).await.unwrap().aliases, ["champion", "other"]);
    assert!(t.return_alias("m", "other", (Some(3), 2), 45).await.unwrap());
    let last = t.alias_history("m", 1).await.unwrap();
    assert_eq!((last[0].version, last[0].back), (Some(2), true), "a way back is told from a way forward");
    assert!(t.move_alias("m", "other", (Some(2), 3), 46).await.unwrap());
    t.remove_alias("m", "other", 50).await.unwrap();
    t.remove_alias("m", "other", 51).await.unwrap();
    t.delete_version("m", 3, 60).await.unwrap();
    assert_eq!(t.registered("m").await.unwrap().aliases, []);
    assert_eq!([at(59, 99).await, at(60, 99).await], [Some(3), None]);
    t.unregister("m", 70).await.unwrap();
    let log = t.alias_history("m", 100).await.unwrap();
    let line = |version, valid_at, known_at| AliasChange {
        alias: "champion".into(),
        version,
        valid_at,
        known_at,
        back: false,
    };
    let champion: Vec<AliasChange> = log.into_iter().filter(|c| c.alias == "champion").collect();
    assert_eq!(
        champion,
        [
            line(Some(1), 10, 10),
            line(Some(2), 20, 20),
            line(Some(3), 15, 30),
            line(Some(3), 40, 40),
            line(None, 60, 60)
        ]
    );
    assert_eq!(at(45, 99).await, Some(3), "it is known of a model that is gone");
    assert_eq!(all.of(&TenantId::from("other")).alias_at("m", "champion", 45, 99).await.unwrap(), None);
}
