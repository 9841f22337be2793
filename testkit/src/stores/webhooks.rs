//! Who is told of what happens in the registry, on every database.

use contract::{RunId, TenantId, UnixMillis};
use serde_json::{Value as Json, json};
use store::tracking::{
    AliasMove, Event, MOST_WEBHOOKS, NewModelVersion, NewRegistryWebhook, PROMPT, RegistryWebhook,
    RolloutChange, TenantTracking, WebhookUpdate, Why,
};
use store::{Delivery, DeliveryState, Tried};

use super::Subject;

fn gold() -> TenantId {
    TenantId::from("gold")
}

fn why<T: std::fmt::Debug>(result: Result<T, store::Error>) -> Why {
    match result.unwrap_err() {
        store::Error::Refused(r) => r.why,
        other => panic!("{other}"),
    }
}

fn events(all: &[&str]) -> Vec<Event> {
    all.iter().map(|e| e.split_once('.').and_then(|(of, what)| Event::of(of, what)).unwrap()).collect()
}

fn hook(n: u8, all: &[&str]) -> NewRegistryWebhook {
    NewRegistryWebhook {
        id: [n; 16],
        name: format!("hook {n}"),
        url: format!("https://{n}.example/told"),
        events: events(all),
        description: String::new(),
        active: true,
        secret: None,
    }
}

async fn make(t: TenantTracking<'_>, n: u8, all: &[&str]) -> RegistryWebhook {
    t.create_webhook(&hook(n, all), i64::from(n)).await.unwrap()
}

fn version_of(name: &str) -> NewModelVersion {
    NewModelVersion {
        name: name.into(),
        source: "s3://x".into(),
        location: "s3://x".into(),
        ..NewModelVersion::default()
    }
}

/// What waits for a webhook.
async fn waiting(on: &Subject, n: u8) -> Vec<Delivery> {
    on.runs().deliveries(RunId::from_bytes([n; 16])).await.unwrap()
}

/// The same, by the events and what they say, in the order in which they came, which is that of their times.
async fn said(on: &Subject, n: u8) -> Vec<(String, Json)> {
    let one = |d: Delivery| {
        let body: Json = serde_json::from_slice(&d.body).unwrap();
        (
            format!("{}.{}", body["entity"].as_str().unwrap(), body["action"].as_str().unwrap()),
            body["data"].clone(),
        )
    };
    waiting(on, n).await.into_iter().map(one).collect()
}

const MODELS: &[&str] = &[
    "registered_model.created",
    "model_version.created",
    "model_version_tag.set",
    "model_version_tag.deleted",
    "model_version_alias.created",
    "model_version_alias.deleted",
];

pub async fn a_webhook_is_made_listed_in_pages_changed_and_removed(on: &Subject) {
    let all = on.tracking();
    let (gold, other) = (gold(), TenantId::from("other"));
    let t = all.of(&gold);
    let new = NewRegistryWebhook {
        secret: Some("sealed".into()),
        description: "about".into(),
        ..hook(1, &["prompt.created", "model_version_tag.set"])
    };
    let made = t.create_webhook(&new, 10).await.unwrap();
    assert_eq!(made.id, "01010101-0101-0101-0101-010101010101");
    assert_eq!(made.events, events(&["model_version_tag.set", "prompt.created"]), "by name");
    assert_eq!((made.active, made.secret.as_deref(), made.created_at), (true, Some("sealed"), 10));
    for n in 2..=4 {
        make(t, n, MODELS).await;
    }
    let names = |from, most| async move {
        let page = t.webhooks(from, most).await.unwrap();
        (page.items.into_iter().map(|w| w.name).collect::<Vec<_>>(), page.next)
    };
    assert_eq!(names(0, 3).await, (vec!["hook 1".into(), "hook 4".into(), "hook 3".into()], Some(3)));
    assert_eq!(names(3, 3).await, (vec!["hook 2".into()], None));
    assert!(all.of(&other).webhooks(0, 9).await.unwrap().items.is_empty());

    assert_eq!(t.update_webhook(&made.id, &WebhookUpdate::default(), 20).await.unwrap().updated_at, 20);
    let update = WebhookUpdate {
        name: Some("new".into()),
        url: Some("https://new.example/x".into()),
        events: Some(events(&["prompt.created"])),
        description: Some(String::new()),
        active: Some(false),
        secret: Some(None),
    };
    let changed = t.update_webhook(&made.id, &update, 21).await.unwrap();
    let wanted = RegistryWebhook {
        id: made.id.clone(),
        name: "new".into(),
        url: "https://new.example/x".into(),
        events: events(&["prompt.created"]),
        description: String::new(),
        active: false,
        secret: None,
        created_at: 10,
        updated_at: 21,
    };
    assert_eq!((&changed, t.webhook(&made.id).await.unwrap()), (&wanted, wanted.clone()));
    // Nobody finds, changes or removes another's.
    let theirs = all.of(&other);
    assert_eq!(why(theirs.webhook(&made.id).await), Why::Missing);
    assert_eq!(why(theirs.update_webhook(&made.id, &update, 22).await), Why::Missing);
    assert_eq!(why(theirs.delete_webhook(&made.id).await), Why::Missing);
    t.delete_webhook(&made.id).await.unwrap();
    assert_eq!(why(t.delete_webhook(&made.id).await), Why::Missing);
    assert_eq!(why(t.update_webhook(&made.id, &update, 23).await), Why::Missing);
    let most = u8::try_from(MOST_WEBHOOKS).unwrap();
    for n in 5..=most + 1 {
        make(t, n, MODELS).await;
    }
    assert_eq!(why(t.create_webhook(&hook(200, MODELS), 1).await), Why::Invalid, "there are enough");
    make(theirs, 201, MODELS).await;
}

pub async fn what_happened_is_told_and_what_was_refused_is_not(on: &Subject) {
    let all = on.tracking();
    let gold = gold();
    let t = all.of(&gold);
    make(t, 1, MODELS).await;
    let tags = [("a".to_owned(), "1".to_owned()), ("a".to_owned(), "2".to_owned())];
    t.register("m", Some("about"), &tags, 10).await.unwrap();
    assert_eq!(why(t.register("m", None, &[], 11).await), Why::Exists);
    let new = NewModelVersion { run: Some("r".into()), description: Some("v".into()), ..version_of("m") };
    t.create_version(&NewModelVersion { tags: tags.to_vec(), ..new }, 12).await.unwrap();
    assert_eq!(why(t.create_version(&version_of("none"), 13).await), Why::Missing);
    t.create_version(&version_of("m"), 14).await.unwrap();
    t.tag_version("m", 1, ("k", Some("v")), 15).await.unwrap();
    t.tag_version("m", 1, ("k", None), 16).await.unwrap();
    t.tag_version("m", 1, ("k", None), 17).await.unwrap();
    assert_eq!(why(t.tag_version("m", 9, ("k", Some("v")), 18).await), Why::Missing);
    // Of a model's own tags MLflow has no event.
    t.tag_registered("m", ("k", Some("v")), 19).await.unwrap();
    t.set_alias("m", "best", 1, (20, 20)).await.unwrap();
    t.set_alias("m", "best", 2, (21, 21)).await.unwrap();
    assert_eq!(why(t.set_alias("m", "best", 9, (22, 22)).await), Why::Missing);
    // That it had been another at a time past is no change of what it stands for.
    t.set_alias("m", "best", 1, (15, 23)).await.unwrap();
    assert!(!t.move_alias("m", "best", (Some(1), 1), 24).await.unwrap());
    assert!(t.move_alias("m", "best", (Some(2), 1), 25).await.unwrap());
    t.remove_alias("m", "best", 26).await.unwrap();
    t.remove_alias("m", "best", 27).await.unwrap();
    let alias = |name: &str, alias: &str, version: &str| {
        let said = json!({"name": name, "alias": alias, "version": version});
        ("model_version_alias.created".to_owned(), said)
    };
    let gone = |name: &str, alias: &str| {
        ("model_version_alias.deleted".to_owned(), json!({"name": name, "alias": alias}))
    };
    let event = |event: &str, data: Json| (event.to_owned(), data);
    let about = json!({"name": "m", "tags": {"a": "2"}, "description": "about"});
    let first = json!({
        "name": "m", "version": "1", "source": "s3://x", "run_id": "r", "tags": {"a": "2"}, "description": "v",
    });
    let second = json!({
        "name": "m", "version": "2", "source": "s3://x", "run_id": null, "tags": {}, "description": null,
    });
    assert_eq!(
        said(on, 1).await,
        [
            event("registered_model.created", about),
            event("model_version.created", first),
            event("model_version.created", second),
            event("model_version_tag.set", json!({"name": "m", "version": "1", "key": "k", "value": "v"})),
            event("model_version_tag.deleted", json!({"name": "m", "version": "1", "key": "k"})),
            alias("m", "best", "1"),
            alias("m", "best", "2"),
            alias("m", "best", "1"),
            gone("m", "best"),
        ]
    );
    let all_of_it = waiting(on, 1).await;
    assert!(all_of_it.iter().all(|d| d.tenant == gold && d.url == "https://1.example/told"));
    assert_eq!(all_of_it[0].state, DeliveryState::Waiting);
    let webhook = all_of_it[0].webhook.as_ref().unwrap();
    assert_eq!((webhook.id.as_str(), &webhook.secret), ("01010101-0101-0101-0101-010101010101", &None));
    let due = on.runs().deliveries_due(UnixMillis(99), 99).await.unwrap();
    assert_eq!(due.len(), all_of_it.len());
    assert_eq!(due[0].receiver, "https://1.example");

    // What is taken away with a version, a name or a model was taken away.
    for (n, alias) in [(30, "a"), (31, "b"), (32, "c")] {
        t.set_alias("m", alias, if n == 30 { 1 } else { 2 }, (n, n)).await.unwrap();
    }
    t.delete_version("m", 1, 40).await.unwrap();
    t.remove_alias("m", "b", 41).await.unwrap();
    t.rename_registered("m", "n", 42).await.unwrap();
    t.unregister("n", 43).await.unwrap();
    let later = said(on, 1).await.split_off(12);
    let mut renamed = later[2..4].to_vec();
    // Both are of one time.
    renamed.sort_by(|a, b| a.0.cmp(&b.0));
    assert_eq!(later[..2], [gone("m", "a"), gone("m", "b")]);
    assert_eq!(renamed, [alias("n", "c", "2"), gone("m", "c")]);
    assert_eq!(later[4..], [gone("n", "c")]);
}

pub async fn what_happens_to_a_prompt_is_told_as_that(on: &Subject) {
    let all = on.tracking();
    let gold = gold();
    let t = all.of(&gold);
    let prompts: Vec<String> = Event::ALL
        .iter()
        .filter(|e| e.entity.starts_with("prompt"))
        .map(|e| format!("{}.{}", e.entity, e.action))
        .collect();
    make(t, 1, &prompts.iter().map(String::as_str).collect::<Vec<_>>()).await;
    make(t, 2, MODELS).await;
    let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    t.register("p", Some(""), &[pair(PROMPT, "true"), pair("t", "u")], 10).await.unwrap();
    let tags = vec![pair(PROMPT, "True"), pair("mlflow.prompt.text", "Hello {{name}}!"), pair("x", "y")];
    t.create_version(&NewModelVersion { tags, ..version_of("p") }, 11).await.unwrap();
    t.tag_registered("p", ("k", Some("v")), 12).await.unwrap();
    t.tag_registered("p", ("k", None), 13).await.unwrap();
    t.tag_registered("p", ("k", None), 14).await.unwrap();
    t.tag_version("p", 1, ("k", Some("v")), 15).await.unwrap();
    t.tag_version("p", 1, ("k", None), 16).await.unwrap();
    t.set_alias("p", "live", 1, (17, 17)).await.unwrap();
    t.remove_alias("p", "live", 18).await.unwrap();
    let event = |event: &str, data: Json| (event.to_owned(), data);
    let version = json!({
        "name": "p", "version": "1", "template": "Hello {{name}}!", "tags": {"x": "y"}, "description": null,
    });
    assert_eq!(
        said(on, 1).await,
        [
            event("prompt.created", json!({"name": "p", "tags": {"t": "u"}, "description": ""})),
            event("prompt_version.created", version),
            event("prompt_tag.set", json!({"name": "p", "key": "k", "value": "v"})),
            event("prompt_tag.deleted", json!({"name": "p", "key": "k"})),
            event("prompt_version_tag.set", json!({"name": "p", "version": "1", "key": "k", "value": "v"})),
            event("prompt_version_tag.deleted", json!({"name": "p", "version": "1", "key": "k"})),
            event("prompt_alias.created", json!({"name": "p", "alias": "live", "version": "1"})),
            event("prompt_alias.deleted", json!({"name": "p", "alias": "live"})),
        ]
    );
    assert!(said(on, 2).await.is_empty(), "who listens to models alone");
}

pub async fn who_is_disabled_or_listens_to_something_else_or_is_another_tenants_is_not_told(on: &Subject) {
    let all = on.tracking();
    let (gold, other) = (gold(), TenantId::from("other"));
    let t = all.of(&gold);
    make(t, 1, MODELS).await;
    make(t, 2, &["model_version.created"]).await;
    t.create_webhook(&NewRegistryWebhook { active: false, ..hook(3, MODELS) }, 3).await.unwrap();
    make(all.of(&other), 4, MODELS).await;
    t.register("m", None, &[], 10).await.unwrap();
    let counts = || async {
        let mut counts = Vec::new();
        for n in 1..=4 {
            counts.push(waiting(on, n).await.len());
        }
        counts
    };
    assert_eq!(counts().await, [1, 0, 0, 0]);
    all.of(&other).register("m", None, &[], 11).await.unwrap();
    t.create_version(&version_of("m"), 12).await.unwrap();
    assert_eq!(counts().await, [2, 1, 0, 1]);
    let ids: Vec<String> =
        waiting(on, 1).await.into_iter().chain(waiting(on, 2).await).map(|d| d.id).collect();
    let distinct: std::collections::BTreeSet<&String> = ids.iter().collect();
    assert_eq!(distinct.len(), 3, "a message for each: {ids:?}");
    // Whoever is removed or disabled takes along what waits for it, and nobody else's.
    let id = |n: u8| store::tracking::webhook_id([n; 16]);
    t.delete_webhook(&id(2)).await.unwrap();
    let off = WebhookUpdate { active: Some(false), ..WebhookUpdate::default() };
    t.update_webhook(&id(1), &off, 20).await.unwrap();
    assert_eq!(counts().await, [0, 0, 0, 1]);
    let on_again = WebhookUpdate { active: Some(true), ..WebhookUpdate::default() };
    t.update_webhook(&id(3), &on_again, 21).await.unwrap();
    t.create_version(&version_of("m"), 22).await.unwrap();
    assert_eq!(counts().await, [0, 0, 1, 1]);
}

pub async fn what_waits_goes_to_a_webhooks_new_address_with_its_new_secret(on: &Subject) {
    let all = on.tracking();
    let gold = gold();
    let t = all.of(&gold);
    let made = make(t, 1, MODELS).await;
    t.register("m", None, &[], 10).await.unwrap();
    let id = waiting(on, 1).await[0].id.clone();
    let later = Tried {
        at: UnixMillis(20),
        state: DeliveryState::Waiting,
        next_at: Some(UnixMillis(9_000)),
        answer: Some(404),
        problem: Some("the receiver answered 404".into()),
    };
    assert!(on.runs().tried(&id, 0, &later).await.unwrap());
    assert!(on.runs().deliveries_due(UnixMillis(30), 9).await.unwrap().is_empty());
    let update = WebhookUpdate {
        url: Some("https://New.example:8443/x".into()),
        secret: Some(Some("sealed".into())),
        ..WebhookUpdate::default()
    };
    t.update_webhook(&made.id, &update, 30).await.unwrap();
    let due = on.runs().deliveries_due(UnixMillis(30), 9).await.unwrap();
    assert_eq!((due[0].id.as_str(), due[0].receiver.as_str()), (id.as_str(), "https://new.example:8443"));
    let lease = std::time::Duration::from_secs(60);
    let taken = on.runs().take_delivery(&id, UnixMillis(30), lease).await.unwrap().unwrap();
    assert_eq!((taken.url.as_str(), taken.tries), ("https://New.example:8443/x", 1));
    assert_eq!(taken.webhook.unwrap().secret.as_deref(), Some("sealed"));
}

pub async fn a_message_goes_when_it_was_delivered_or_given_up_and_a_receiver_that_is_gone_disables_its_webhook(
    on: &Subject,
) {
    let all = on.tracking();
    let gold = gold();
    let t = all.of(&gold);
    let made = make(t, 1, MODELS).await;
    let runs = on.runs();
    for (n, name) in (10..).zip(["a", "b", "c", "d"]) {
        t.register(name, None, &[], n).await.unwrap();
    }
    let tried = |state| Tried { at: UnixMillis(20), state, next_at: None, answer: None, problem: None };
    let ids: Vec<String> = waiting(on, 1).await.into_iter().map(|d| d.id).collect();
    assert!(runs.tried(&ids[0], 0, &tried(DeliveryState::Delivered)).await.unwrap());
    assert!(!runs.tried(&ids[0], 0, &tried(DeliveryState::Delivered)).await.unwrap());
    assert!(runs.tried(&ids[1], 0, &tried(DeliveryState::Failed)).await.unwrap());
    let left: Vec<String> = waiting(on, 1).await.into_iter().map(|d| d.id).collect();
    assert_eq!(left, ids[2..]);
    assert!(runs.delivery(&ids[0]).await.unwrap().is_none());
    assert!(runs.tried(&ids[2], 0, &tried(DeliveryState::Disabled)).await.unwrap());
    assert!(waiting(on, 1).await.is_empty(), "what waits has nobody to go to");
    assert!(!t.webhook(&made.id).await.unwrap().active, "whoever looks at it sees why nothing comes");
    t.register("e", None, &[], 30).await.unwrap();
    assert!(waiting(on, 1).await.is_empty());
    let again = WebhookUpdate { active: Some(true), ..WebhookUpdate::default() };
    t.update_webhook(&made.id, &again, 31).await.unwrap();
    t.register("f", None, &[], 32).await.unwrap();
    assert_eq!(waiting(on, 1).await.len(), 1);
}

pub async fn what_a_rollout_does_to_aliases_is_told_with_it_or_not_at_all(on: &Subject) {
    let all = on.tracking();
    let gold = gold();
    let t = all.of(&gold);
    t.register("m", None, &[], 1).await.unwrap();
    for at in 2..=3 {
        t.create_version(&version_of("m"), at).await.unwrap();
    }
    t.set_alias("m", "champion", 1, (4, 4)).await.unwrap();
    make(t, 1, MODELS).await;
    let step = |alias: &str, from, to| AliasMove { alias: alias.into(), from, to };
    let save = |revision, moves: Vec<AliasMove>, at| async move {
        let change = RolloutChange { revision, state: "{}", events: &[], moves: &moves };
        t.save_rollouts("m", change, at).await.unwrap()
    };
    assert!(save(0, vec![step("challenger", None, Some(2))], 10).await);
    // The second step is decided on what is not so: nothing of it happened.
    let moves = vec![step("champion", Some(1), Some(2)), step("challenger", Some(1), None)];
    assert!(!save(1, moves, 11).await);
    assert!(!save(9, vec![step("champion", Some(1), Some(2))], 12).await);
    assert!(save(1, vec![step("champion", Some(1), Some(2))], 13).await);
    assert!(save(2, vec![step("challenger", Some(2), None), step("champion", Some(2), Some(2))], 14).await);
    let alias = |alias: &str| {
        ("model_version_alias.created".to_owned(), json!({"name": "m", "alias": alias, "version": "2"}))
    };
    let gone = json!({"name": "m", "alias": "challenger"});
    let gone = ("model_version_alias.deleted".to_owned(), gone);
    assert_eq!(said(on, 1).await, [alias("challenger"), alias("champion"), gone]);
}

pub async fn whoever_brings_messages_is_woken_by_a_change_that_tells(on: &Subject) {
    let all = on.tracking();
    let gold = gold();
    let t = all.of(&gold);
    make(t, 1, MODELS).await;
    let runs = on.runs();
    let patience = std::time::Duration::from_secs(30);
    t.register("a", None, &[], 10).await.unwrap();
    // Whoever begins to listen looks first.
    tokio::time::timeout(patience, runs.woken()).await.unwrap().unwrap();
    t.register("b", None, &[], 11).await.unwrap();
    tokio::time::timeout(patience, runs.woken()).await.unwrap().unwrap();
}
