//! A choice of chat models on a running server: who answers is kept in the registry, and another one comes to answer some users first.

use std::collections::BTreeMap;
use std::process::Output;
use std::time::Duration;

use contract::{Clock as _, SystemClock};
use serde_json::{Value as Json, json};
use testkit::{FakeUpstream, Handle, Script};

use crate::models::asked;
use crate::server::{Server, eventually, forebay};

/// Steps that are left as soon as enough is known, and steps that nobody leaves while a test looks.
const QUICK: &str = "canary: [50, 100], step: {at_least: 1s, at_most: 5m, samples: 30}, bake: 1s";
const SLOW: &str = "canary: [50, 100], step: {at_least: 1h, at_most: 2h, samples: 30}";

async fn upstream(text: &str) -> Handle {
    FakeUpstream::start(serde_json::from_value::<Script>(json!({"text": text})).unwrap()).await.unwrap()
}

/// Two models that say who they are, and what both of them answer to.
struct World {
    server: Server,
    _small: Handle,
    _large: Handle,
}

async fn world(rollout: &str) -> World {
    let (small, large) = (upstream("small here").await, upstream("large here").await);
    let model = |name: &str, url: &str, price: u32| {
        format!(
            "  {name}: {{openai: gpt-test, base_url: {url}/v1, api_key: sk-test, price: {{input: {price}, output: {price}}}}}\n"
        )
    };
    let config = format!(
        "models:\n{}{}  writer:\n    choice: [small, large]\n    rollout: {{{rollout}}}\n\
         pipelines:\n  shout:\n    input: document\n    output: text\n    stages:\n      \
         - answer: {{generate: {{model: writer, prompt_text: 'Shout: {{{{ input }}}}'}}}}\n",
        model("small", &small.base_url(), 1),
        model("large", &large.base_url(), 50),
    );
    let server = tokio::task::spawn_blocking(move || Server::with(&config)).await.unwrap();
    World { server, _small: small, _large: large }
}

/// Runs a test that waits with the world at hand.
async fn with(rollout: &str, test: impl FnOnce(World) + Send + 'static) {
    let world = world(rollout).await;
    tokio::task::spawn_blocking(move || test(world)).await.unwrap();
}

impl World {
    fn command(&self, args: &[&str]) -> Output {
        forebay(self.server.folder.path()).env("USER", "ada").args(args).output().unwrap()
    }

    #[track_caller]
    fn done(&self, args: &[&str]) -> String {
        let out = self.command(args);
        let text = String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr);
        assert!(out.status.success(), "{args:?}: {text}");
        text
    }

    fn shown(&self) -> Json {
        let out = self.command(&["models", "rollout", "show", "writer", "--json"]);
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        serde_json::from_slice(&out.stdout).unwrap()
    }

    /// Which model answers a user, and the id of the answer; or the status.
    fn ask(&self, user: &str) -> Result<(String, String), u16> {
        let body =
            json!({"model": "writer", "user": user, "messages": [{"role": "user", "content": "hello"}]});
        let (status, head, body) = self.server.ask("POST", "/v1/chat/completions", &[], &body.to_string());
        if status != 200 {
            return Err(status);
        }
        let answer: Json = serde_json::from_str(&body).unwrap();
        let id = head.lines().find_map(|l| l.strip_prefix("x-request-id: ")).unwrap().trim().to_owned();
        let text = answer["choices"][0]["message"]["content"].as_str().unwrap();
        Ok((text.split(' ').next().unwrap().to_owned(), id))
    }

    fn who(&self, user: &str) -> String {
        self.ask(user).unwrap().0
    }

    /// Asks as many users, and tells of each answer whether it was liked, until the rollout ends. How it ended.
    fn traffic(&self, liked: impl Fn(&str) -> Option<f64>) -> String {
        let mut seen: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for n in 0..20_000_u32 {
            // A few come again and again; each of the others once.
            let user = if n.is_multiple_of(4) { format!("again {}", n / 4 % 20) } else { n.to_string() };
            let (model, id) = self.ask(&user).unwrap_or_else(|status| panic!("a request failed: {status}"));
            if let Some(score) = liked(&model) {
                let told = json!({"id": id, "key": "thumbs_up", "score": score});
                assert_eq!(asked(&self.server, "/v1/feedback", &told).0, 202);
            }
            let own = seen.entry(user).or_default();
            if own.last() != Some(&model) {
                own.push(model);
            }
            if n % 50 == 49 {
                let shown = self.shown();
                let last =
                    shown["events"].as_array().unwrap().last().unwrap()["what"].as_str().unwrap().to_owned();
                if ["promoted", "rolled_back", "invalid"].contains(&&*last) {
                    // To the other model, and back where that was taken back.
                    let most = if last == "promoted" { 2 } else { 3 };
                    let moved = |own: &&Vec<String>| own.len() > most;
                    assert_eq!(seen.values().find(moved), None, "somebody was sent to and fro");
                    return last;
                }
            }
        }
        panic!("it never ended: {}", self.shown());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_that_users_like_as_well_comes_to_answer_everybody() {
    let rules = "metrics: [{name: thumbs_up, kind: proportion, better: higher, margin: 0.3}]";
    with(&format!("{QUICK}, {rules}"), |world| {
        assert_eq!(world.who("ann"), "small");
        let said = world.done(&["models", "choose", "writer", "large"]);
        assert!(said.contains("large (version 2) comes to answer writer"), "{said}");
        let liked = |_: &str| Some(1.0);
        assert_eq!(world.traffic(liked), "promoted", "{}", world.shown());
        eventually("large answers everybody", || (0..20).all(|n| world.who(&format!("new {n}")) == "large"));
        // A pipeline's stages ask the same choice, and the record says who it was.
        let (status, head, body) = world.server.ask("POST", "/v1/pipelines/shout", &[], "a document");
        assert_eq!((status, body.contains("large here")), (200, true), "{body}");
        let id = head.lines().find_map(|l| l.strip_prefix("x-request-id: ")).unwrap().trim();
        let record = world.server.ask("GET", &format!("/v1/requests/{id}"), &[], "").2;
        let record: Json = serde_json::from_str(&record).unwrap();
        assert_eq!(record["facts"]["choices"]["writer"]["model"], "large", "{record}");
        assert_eq!(record["facts"]["choices"]["writer"]["version"], "2", "{record}");
        let history = world.done(&["models", "history", "writer"]);
        assert!(history.contains("champion"), "{history}");
        assert!(world.done(&["models", "choose", "writer", "large"]).contains("already"));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_that_costs_too_much_or_is_not_liked_is_taken_back() {
    let rules = "metrics: [{name: cost_usd, better: lower, margin: 0.00001}]";
    with(&format!("{QUICK}, {rules}"), |world| {
        world.done(&["models", "choose", "writer", "large"]);
        assert_eq!(world.traffic(|_| None), "rolled_back", "{}", world.shown());
        eventually("small answers everybody", || (0..20).all(|n| world.who(&format!("new {n}")) == "small"));
        let shown = world.done(&["models", "rollout", "show", "writer"]);
        assert!(shown.contains("cost_usd"), "the evidence: {shown}");
    })
    .await;
    let rules = "metrics: [{name: thumbs_up, kind: proportion, better: higher, margin: 0.1}]";
    with(&format!("{QUICK}, {rules}"), |world| {
        world.done(&["models", "choose", "writer", "large"]);
        let liked = |model: &str| Some(if model == "small" { 1.0 } else { 0.0 });
        assert_eq!(world.traffic(liked), "rolled_back", "{}", world.shown());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_answers_whom_survives_a_kill_and_the_way_back_and_the_switch_work_at_once() {
    let rules = "metrics: [{name: thumbs_up, kind: proportion, better: higher, margin: 0.1}]";
    with(&format!("{SLOW}, {rules}"), |mut world| {
        world.done(&["models", "choose", "writer", "large"]);
        let users: Vec<String> = (0..60).map(|n| format!("user {n}")).collect();
        let all = |world: &World| -> Vec<String> { users.iter().map(|user| world.who(user)).collect() };
        eventually("some are answered by large", || all(&world).iter().any(|model| model == "large"));
        let before = all(&world);
        assert!(before.iter().any(|model| model == "small"));
        let folder = world.server.kill();
        world.server = Server::in_folder(folder);
        eventually("the same are answered by large", || all(&world) == before);
        let refused = world.command(&["models", "choose", "writer", "small", "--now"]);
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(!refused.status.success() && said.contains("rollout abort"), "{said}");
        world.done(&["models", "rollback", "writer"]);
        eventually("small answers everybody", || all(&world).iter().all(|model| model == "small"));
        world.done(&["models", "choose", "writer", "large", "--now"]);
        eventually("large answers everybody", || all(&world).iter().all(|model| model == "large"));
        world.done(&["models", "kill", "writer"]);
        eventually("nobody answers", || world.ask("ann") == Err(503));
        world.done(&["models", "rollback", "writer"]);
        eventually("it answers again", || world.ask("ann").is_ok());
        // A version that is no choice's stands in nobody's way, and the way back from it does not wait.
        let version = json!({"name": "writer", "source": "s3://bucket/key"});
        let (status, made) = asked(&world.server, "/api/2.0/mlflow/model-versions/create", &version);
        assert_eq!((status, &made["model_version"]["version"]), (200, &json!("3")), "{made}");
        world.done(&["models", "choose", "writer", "large", "--now"]);
        let alias = json!({"name": "writer", "alias": "champion", "version": "3"});
        assert_eq!(asked(&world.server, "/api/2.0/mlflow/registered-models/alias", &alias).0, 200);
        // Long enough for it to be looked at; who answered goes on.
        std::thread::park_timeout(Duration::from_secs(1));
        assert_eq!(world.who("ann"), "large");
        world.done(&["models", "choose", "writer", "small", "--now"]);
        let clock = SystemClock::default();
        let began = clock.now();
        eventually("small answers", || world.who("ann") == "small");
        assert!(clock.now().since(began) < Duration::from_secs(5), "it was waited for what failed before");
        let shown =
            world.done(&["models", "history", "writer"]) + &world.done(&["models", "show", "writer", "1"]);
        assert!(shown.contains("version 2 (large)") && shown.contains("model      small"), "{shown}");
        let unknown = world.command(&["models", "choose", "writer", "huge"]);
        let said = String::from_utf8_lossy(&unknown.stderr).into_owned();
        assert!(said.contains("small, large"), "{said}");
    })
    .await;
}
