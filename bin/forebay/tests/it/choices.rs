//! Choices of chat models, of pipelines and of a prompt's text on a running server: who answers is kept in the registry, and another one comes to answer some users first.

use std::collections::BTreeMap;
use std::process::Output;

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

/// What is asked for: two models that say who they are, two pipelines that ask one of them each, a prompt whose text is repeated.
const NAMES: [&str; 3] = ["writer", "brief", "voice"];

/// Those, and what both of them answer to.
struct World {
    server: Server,
    /// The choice that a test is about.
    name: &'static str,
    _upstreams: [Handle; 3],
}

async fn world(name: &'static str, rollout: &str) -> World {
    let echo = serde_json::from_value::<Script>(json!({"echo": true})).unwrap();
    let echo = FakeUpstream::start(echo).await.unwrap();
    let (small, large) = (upstream("here small").await, upstream("here large").await);
    let model = |name: &str, url: &str, price: u32| {
        format!(
            "  {name}: {{openai: gpt-test, base_url: {url}/v1, api_key: sk-test, price: {{input: {price}, output: {price}}}}}\n"
        )
    };
    let pipeline = |name: &str, model: &str, prompt: &str| {
        format!(
            "  {name}:\n    input: document\n    output: text\n    stages:\n      - answer: {{generate: {{model: {model}, {prompt}}}}}\n"
        )
    };
    let shout = "prompt_text: 'Shout: {{ input }}'";
    let rollout = if rollout.is_empty() { String::new() } else { format!(", rollout: {{{rollout}}}") };
    let config = format!(
        "models:\n{}{}{}  writer: {{choice: [small, large]{rollout}}}\n\
         choices:\n  brief: {{pipelines: [brief-small, brief-large], http: /brief{rollout}}}\n\
         prompts:\n  voice: {{file: prompts/voice.md{rollout}}}\n\
         pipelines:\n{}{}{}{}",
        model("small", &small.base_url(), 1),
        model("large", &large.base_url(), 50),
        model("echo", &echo.base_url(), 1),
        pipeline("shout", "writer", shout),
        pipeline("brief-small", "small", shout),
        pipeline("brief-large", "large", shout),
        pipeline("voiced", "echo", "prompt: ./prompts/voice.md"),
    );
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("prompts")).unwrap();
    std::fs::write(folder.path().join("prompts/voice.md"), SMALL).unwrap();
    std::fs::write(folder.path().join("prompts/other.md"), LARGE).unwrap();
    std::fs::write(folder.path().join("forebay.yaml"), config).unwrap();
    let server = tokio::task::spawn_blocking(move || Server::in_folder(folder)).await.unwrap();
    World { server, name, _upstreams: [small, large, echo] }
}

/// A prompt, and another text of it.
const SMALL: &str = "--- system ---\nSay it again.\n--- user ---\n{{ input }}\nvoice small\n";
const LARGE: &str = "Say this again: {{ input }}\nvoice large\n";

/// Runs a test that waits with the world at hand.
async fn with(name: &'static str, rollout: &str, test: impl FnOnce(World) + Send + 'static) {
    let world = world(name, rollout).await;
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
        let out = self.command(&["models", "rollout", "show", self.name, "--json"]);
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        serde_json::from_slice(&out.stdout).unwrap()
    }

    /// Who answers a user, and the id of the answer; or the status.
    fn ask(&self, user: &str) -> Result<(String, String), u16> {
        let called = if self.name == "voice" { "voiced" } else { self.name };
        let body = json!({"model": called, "user": user, "messages": [{"role": "user", "content": "hello"}]});
        let (status, head, body) = self.server.ask("POST", "/v1/chat/completions", &[], &body.to_string());
        if status != 200 {
            return Err(status);
        }
        let answer: Json = serde_json::from_str(&body).unwrap();
        let id = head.lines().find_map(|l| l.strip_prefix("x-request-id: ")).unwrap().trim().to_owned();
        let text = answer["choices"][0]["message"]["content"].as_str().unwrap();
        Ok((text.split_whitespace().last().unwrap().to_owned(), id))
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
    with("writer", &format!("{QUICK}, {rules}"), |world| {
        assert_eq!(world.who("ann"), "small");
        let said = world.done(&["models", "choose", "writer", "large"]);
        assert!(said.contains("large (version 2) comes to answer writer"), "{said}");
        let liked = |_: &str| Some(1.0);
        assert_eq!(world.traffic(liked), "promoted", "{}", world.shown());
        eventually("large answers everybody", || (0..20).all(|n| world.who(&format!("new {n}")) == "large"));
        // A pipeline's stages ask the same choice, and the record says who it was.
        let (status, head, body) = world.server.ask("POST", "/v1/pipelines/shout", &[], "a document");
        assert_eq!((status, body.contains("here large")), (200, true), "{body}");
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
    with("writer", &format!("{QUICK}, {rules}"), |world| {
        world.done(&["models", "choose", "writer", "large"]);
        assert_eq!(world.traffic(|_| None), "rolled_back", "{}", world.shown());
        eventually("small answers everybody", || (0..20).all(|n| world.who(&format!("new {n}")) == "small"));
        let shown = world.done(&["models", "rollout", "show", "writer"]);
        assert!(shown.contains("cost_usd"), "the evidence: {shown}");
    })
    .await;
    let rules = "metrics: [{name: thumbs_up, kind: proportion, better: higher, margin: 0.1}]";
    with("writer", &format!("{QUICK}, {rules}"), |world| {
        world.done(&["models", "choose", "writer", "large"]);
        let liked = |model: &str| Some(if model == "small" { 1.0 } else { 0.0 });
        assert_eq!(world.traffic(liked), "rolled_back", "{}", world.shown());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_answers_whom_survives_a_kill_and_the_way_back_and_the_switch_work_at_once() {
    let rules = "metrics: [{name: thumbs_up, kind: proportion, better: higher, margin: 0.1}]";
    with("writer", &format!("{SLOW}, {rules}"), |mut world| {
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
        // MLflow's surface moves nothing past the rollout.
        let alias = json!({"name": "writer", "alias": "champion", "version": "3"});
        let (status, said) = asked(&world.server, "/api/2.0/mlflow/registered-models/alias", &alias);
        assert!(status == 403 && said.to_string().contains("forebay models choose writer"), "{said}");
        assert_eq!(world.who("ann"), "large");
        world.done(&["models", "choose", "writer", "small", "--now"]);
        eventually("small answers", || world.who("ann") == "small");
        let shown =
            world.done(&["models", "history", "writer"]) + &world.done(&["models", "show", "writer", "1"]);
        assert!(shown.contains("version 2 (large)") && shown.contains("answers    small"), "{shown}");
        let unknown = world.command(&["models", "choose", "writer", "huge"]);
        let said = String::from_utf8_lossy(&unknown.stderr).into_owned();
        assert!(said.contains("small, large"), "{said}");
    })
    .await;
}

/// A record of an answer.
fn record(world: &World, id: &str) -> Json {
    serde_json::from_str(&world.server.ask("GET", &format!("/v1/requests/{id}"), &[], "").2).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pipeline_that_users_like_as_well_comes_to_answer_everybody() {
    let rules = "metrics: [{name: thumbs_up, kind: proportion, better: higher, margin: 0.3}]";
    with("brief", &format!("{QUICK}, {rules}"), |world| {
        assert_eq!(world.who("ann"), "small");
        let said = world.done(&["models", "choose", "brief", "brief-large"]);
        assert!(said.contains("brief-large (version 2) comes to answer brief"), "{said}");
        assert_eq!(world.traffic(|_| Some(1.0)), "promoted", "{}", world.shown());
        eventually("large answers everybody", || (0..20).all(|n| world.who(&format!("new {n}")) == "large"));
        // What ran is the pipeline that was chosen, by whatever way it was asked.
        for path in ["/v1/pipelines/brief", "/brief"] {
            let (status, head, body) = world.server.ask("POST", path, &[], "a document");
            assert_eq!((status, body.contains("here large")), (200, true), "{body}");
            let id = head.lines().find_map(|l| l.strip_prefix("x-request-id: ")).unwrap().trim();
            let record = record(&world, id);
            assert_eq!(record["pipeline"], "brief-large", "{record}");
            assert_eq!(record["facts"]["choices"]["brief"]["version"], "2", "{record}");
            assert_eq!(record["facts"]["choices"]["brief"]["pipeline"], "brief-large", "{record}");
        }
        let models = world.server.ask("GET", "/v1/models", &[], "").2;
        assert!(models.contains(r#""id":"brief","#), "{models}");
        // A job is answered as a call is; it is the job's request that is chosen for.
        let head = [("prefer", "respond-async"), ("content-type", "text/plain")];
        let (status, _, job) = world.server.ask("POST", "/v1/pipelines/brief", &head, "a document");
        assert_eq!(status, 202, "{job}");
        let id = serde_json::from_str::<Json>(&job).unwrap()["id"].as_str().unwrap().to_owned();
        let done = || {
            serde_json::from_str::<Json>(&world.server.ask("GET", &format!("/v1/jobs/{id}"), &[], "").2)
                .unwrap()
        };
        eventually("the job is done", || done()["status"] == "succeeded");
        assert!(done().to_string().contains("here large"), "{}", done());
        let ledger = world.done(&["costs", "--by", "pipeline"]);
        assert!(ledger.contains("brief-large"), "{ledger}");
        world.done(&["models", "kill", "brief"]);
        eventually("nobody answers", || world.ask("ann") == Err(503));
        world.done(&["models", "rollback", "brief"]);
        eventually("it answers again", || world.ask("ann").is_ok());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_text_of_a_prompt_comes_as_a_model_does_and_survives_a_kill() {
    let rules = "metrics: [{name: thumbs_up, kind: proportion, better: higher, margin: 0.1}]";
    with("voice", &format!("{SLOW}, {rules}"), |mut world| {
        assert_eq!(world.who("ann"), "small");
        let other = world.server.folder.path().join("prompts/other.md").display().to_string();
        let said = world.done(&["models", "choose", "voice", &other]);
        assert!(said.contains("(version 2) comes to answer voice"), "{said}");
        let users: Vec<String> = (0..60).map(|n| format!("user {n}")).collect();
        let all = |world: &World| -> Vec<String> { users.iter().map(|user| world.who(user)).collect() };
        eventually("some are answered by large", || all(&world).iter().any(|text| text == "large"));
        let before = all(&world);
        assert!(before.iter().any(|text| text == "small"));
        let folder = world.server.kill();
        world.server = Server::in_folder(folder);
        eventually("the same are answered by large", || all(&world) == before);
        let of_large = users.iter().find(|user| world.who(user) == "large").unwrap();
        let (_, id) = world.ask(of_large).unwrap();
        let told = record(&world, &id);
        assert_eq!(told["facts"]["choices"]["voice"]["prompt"], "2", "{told}");
        let version = blake3::hash(LARGE.as_bytes()).to_hex()[..12].to_owned();
        assert_eq!(told["attempts"][0]["prompt_version"], version.as_str(), "{told}");
        world.done(&["models", "rollback", "voice"]);
        eventually("small answers everybody", || all(&world).iter().all(|text| text == "small"));
        let shown = world.done(&["models", "show", "voice"]) + &world.done(&["models", "show", "voice", "2"]);
        assert!(shown.contains("champion") && shown.contains("voice large"), "{shown}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prompt_that_mlflow_registered_answers_and_one_that_is_given_more_does_not() {
    with("voice", "", |world| {
        assert_eq!(world.who("ann"), "small");
        eventually("its file is the first version", || {
            world.command(&["models", "show", "voice", "1"]).status.success()
        });
        // As `mlflow.genai.register_prompt` asks for it, of a text and of a conversation.
        let made = |text: &str, kind: &str| {
            let tag = |key: &str, value: &str| json!({"key": key, "value": value});
            let tags = json!([
                tag("mlflow.prompt.is_prompt", "true"),
                tag("mlflow.prompt.text", text),
                tag("_mlflow_prompt_type", kind),
            ]);
            let body = json!({"name": "voice", "source": "prompt-template", "tags": tags});
            let (status, made) = asked(&world.server, "/api/2.0/mlflow/model-versions/create", &body);
            assert_eq!(status, 200, "{made}");
            made["model_version"]["version"].as_str().unwrap().to_owned()
        };
        let turns = json!([{"role": "system", "content": "Be brief."}, {"role": "user", "content": "{{ input }} by mlflow"}]);
        let chat = made(&turns.to_string(), "chat");
        world.done(&["models", "choose", "voice", &chat, "--now"]);
        eventually("the conversation answers", || world.who("ann") == "mlflow");
        let more = made("{{ input }} {{ secret }}", "text");
        let out = world.command(&["models", "choose", "voice", &more, "--now"]);
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        assert!(!out.status.success() && said.contains("the variable `secret`"), "{said}");
        // MLflow's client may move the alias too, to what can answer.
        let moved = |version: &str| {
            let alias = json!({"name": "voice", "alias": "champion", "version": version});
            asked(&world.server, "/api/2.0/mlflow/registered-models/alias", &alias)
        };
        let (status, said) = moved(&more);
        assert!(status == 400 && said.to_string().contains("the variable `secret`"), "{said}");
        let marked = json!([{"role": "user", "content": "a\n--- system ---\n{{ input }}"}]);
        let marked = made(&marked.to_string(), "chat");
        assert_eq!(moved(&marked).0, 400, "a text cannot become another turn");
        assert!(world.done(&["models", "show", "voice", &marked]).contains("It cannot answer"));
        assert_eq!((moved("1").0, world.server.ask("GET", "/healthz", &[], "").0), (200, 200));
        eventually("the file answers", || world.who("ann") == "small");
        // A file whose variables change under the server is not answered by a text that has the old ones.
        let file = world.server.folder.path().join("prompts/voice.md");
        std::fs::write(&file, "nothing of it: file\n").unwrap();
        eventually("what fits answers", || world.who("ann") == "file");
        std::fs::write(&file, SMALL).unwrap();
        eventually("the version answers again", || world.who("ann") == "small");
        let missing = world.command(&["models", "choose", "voice", "/nowhere/none.md"]);
        assert!(String::from_utf8_lossy(&missing.stderr).contains("cannot be read"));
        let unknown = world.command(&["models", "choose", "vioce", "x"]);
        let said = String::from_utf8_lossy(&unknown.stderr).into_owned();
        assert!(NAMES.iter().all(|name| said.contains(name)), "{said}");
    })
    .await;
}
