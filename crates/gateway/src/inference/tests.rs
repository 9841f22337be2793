use std::num::NonZeroUsize;
use std::sync::Arc;

use admission::Gate;
use contract::Clock;
use http::Request;
use http::header::CONTENT_TYPE;
use predict::observe::{Answered, Arm, Observer, Told};
use predict::served::{Instances, Source};
use predict::{
    Artifact, Backend, DYNAMIC, DataType, Field, LoadSettings, Metadata, Model, Signature, Tensor,
};
use serde_json::{Value as Json, json};
use store::Store;
use tower_service::Service as _;

use super::*;
use crate::app::Settings;

/// Gives twice what it is given, and the row's text.
struct Doubles(Signature, Metadata);

impl Model for Doubles {
    fn signature(&self) -> &Signature {
        &self.0
    }
    fn metadata(&self) -> &Metadata {
        &self.1
    }
    fn bytes(&self) -> u64 {
        100
    }
    fn run(&mut self, inputs: &[Tensor], outputs: &[usize]) -> Result<Vec<Tensor>, predict::Error> {
        let x = inputs[0].values::<f32>()?;
        if x.contains(&-1.0) {
            return Err(predict::Error::Run("minus one".to_owned()));
        }
        let rows = inputs[0].rows() as i64;
        let twice = Tensor::of(DataType::Fp32, vec![rows, 2], x.iter().map(|x| x * 2.0).collect::<Vec<_>>())?;
        let text = Tensor::of_strings(vec![rows], x.chunks(2).map(|r| format!("{r:?}")))?;
        let all = [twice, text];
        Ok(outputs.iter().map(|o| all[*o].clone()).collect())
    }
}

struct Fake;

impl Backend for Fake {
    fn platform(&self) -> &'static str {
        "fake"
    }
    fn load(&self, _: &Artifact, _: &LoadSettings) -> Result<Box<dyn Model>, predict::Error> {
        let field = |name: &str, datatype, shape: &[i64]| Field {
            name: name.to_owned(),
            datatype,
            shape: shape.to_vec(),
        };
        let signature = Signature {
            inputs: vec![field("x", DataType::Fp32, &[DYNAMIC, 2])],
            outputs: vec![
                field("twice", DataType::Fp32, &[DYNAMIC, 2]),
                field("text", DataType::Bytes, &[DYNAMIC]),
            ],
        };
        Ok(Box::new(Doubles(signature, Metadata::default())))
    }
}

struct World {
    app: App,
    _folder: tempfile::TempDir,
    _store: Store,
}

impl World {
    async fn new(auth_required: bool) -> World {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path(), store::Settings::default(), 1 << 20).await.unwrap();
        let clock: Arc<dyn Clock> = Arc::new(contract::SystemClock::default());
        let gate = Gate::new(admission::Settings::default(), clock.clone());
        let settings = Settings { auth_required, ..Settings::default() };
        let models = llm::Models::new(Arc::new(llm::Unlimited));
        let parts = crate::Parts::of_models(settings, models);
        let app = App::new(parts, clock.clone(), gate, &store, 7);
        let models = Models::new(Arc::new(Fake), 1 << 20, clock);
        let once = Instances::Exactly(NonZeroUsize::MIN);
        let source = |name: &str| Source { instances: once, ..Source::file(name) };
        models.load("m", "1", source("a")).await.unwrap();
        models.load("m", "2", source("b")).await.unwrap();
        app.serve_predictions(models);
        World { app, _folder: folder, _store: store }
    }

    async fn send(&self, request: Request<Body>) -> (StatusCode, http::HeaderMap, Bytes) {
        let response = crate::router(self.app.clone()).call(request).await.unwrap();
        let (parts, body) = response.into_parts();
        (parts.status, parts.headers, axum::body::to_bytes(body, 1 << 20).await.unwrap())
    }

    async fn get(&self, path: &str) -> (StatusCode, Json) {
        let (status, _, body) = self.send(Request::get(path).body(Body::empty()).unwrap()).await;
        (status, serde_json::from_slice(&body).unwrap())
    }

    async fn post(&self, path: &str, body: &Json) -> (StatusCode, Json) {
        let request = Request::post(path).body(Body::from(body.to_string())).unwrap();
        let (status, _, body) = self.send(request).await;
        (status, serde_json::from_slice(&body).unwrap())
    }
}

fn x(data: Json) -> Json {
    json!({"name": "x", "shape": [1, 2], "datatype": "FP32", "data": data})
}

#[tokio::test]
async fn a_request_is_answered_by_the_version_that_it_names_or_that_is_served() {
    let world = World::new(false).await;
    let body = json!({"id": "7", "inputs": [x(json!([1.5, 2]))]});
    for (path, version) in [("/v2/models/m/infer", "1"), ("/v2/models/m/versions/2/infer", "2")] {
        let (status, answer) = world.post(path, &body).await;
        assert_eq!(status, StatusCode::OK, "{answer}");
        let wanted = json!({
            "model_name": "m", "model_version": version, "id": "7",
            "outputs": [
                {"name": "twice", "datatype": "FP32", "shape": [1, 2], "data": [3.0, 4.0]},
                {"name": "text", "datatype": "BYTES", "shape": [1], "data": ["[1.5, 2.0]"]},
            ],
        });
        assert_eq!(answer, wanted);
    }
    let one = json!({"inputs": [x(json!([[1, 2]]))], "outputs": [{"name": "text"}]});
    let (_, answer) = world.post("/v2/models/m/infer", &one).await;
    assert_eq!(answer["outputs"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn binary_tensors_go_in_and_out() {
    let world = World::new(false).await;
    let input =
        json!({"name": "x", "shape": [1, 2], "datatype": "FP32", "parameters": {"binary_data_size": 8}});
    let outputs = json!([{"name": "text", "parameters": {"binary_data": false}}, {"name": "twice"}]);
    let head = json!({"inputs": [input], "outputs": outputs, "parameters": {"binary_data_output": true}})
        .to_string();
    let mut body = head.clone().into_bytes();
    body.extend([1.5f32.to_le_bytes(), 2f32.to_le_bytes()].concat());
    let request =
        Request::post("/v2/models/m/infer").header(HEADER_LENGTH, head.len()).body(body.into()).unwrap();
    let (status, headers, body) = world.send(request).await;
    assert_eq!(
        (status, &headers[CONTENT_TYPE]),
        (StatusCode::OK, &"application/octet-stream".parse().unwrap())
    );
    let length: usize = headers[HEADER_LENGTH].to_str().unwrap().parse().unwrap();
    let json: Json = serde_json::from_slice(&body[..length]).unwrap();
    assert_eq!(json["outputs"][0]["data"], json!(["[1.5, 2.0]"]));
    assert_eq!(json["outputs"][1]["parameters"]["binary_data_size"], 8);
    assert_eq!(body[length..], [3f32.to_le_bytes(), 4f32.to_le_bytes()].concat());
    assert_eq!(headers[VERSION], "1");
    assert!(headers.contains_key("x-request-id"));
}

#[tokio::test]
async fn what_is_wrong_is_said_in_the_protocols_words() {
    let world = World::new(false).await;
    let good = json!({"inputs": [x(json!([1, 2]))]});
    for (path, body, status, said) in [
        ("/v2/models/n/infer", &good, 404, "there is no model `n`"),
        ("/v2/models/m/versions/9/infer", &good, 404, "no version `9`"),
        ("/v2/models/m/infer", &json!({}), 400, "missing field `inputs`"),
        ("/v2/models/m/infer", &json!({"inputs": [x(json!([1]))]}), 400, "input `x`: 4 bytes"),
        ("/v2/models/m/infer", &json!({"inputs": []}), 400, "the input `x` is missing"),
        ("/v2/models/m/infer", &json!({"inputs": [x(json!([-1, 0]))]}), 502, "minus one"),
        ("/invocations", &json!({}), 400, "send exactly one of"),
    ] {
        let (found, answer) = world.post(path, body).await;
        assert_eq!(found.as_u16(), status, "{answer}");
        assert!(answer["error"].as_str().unwrap().contains(said), "{answer}");
    }
    let closed = World::new(true).await;
    let (status, answer) = closed.post("/v2/models/m/infer", &good).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
    assert!(answer["error"].as_str().unwrap().contains("no API key"), "{answer}");
}

#[tokio::test]
async fn what_there_is_is_shown() {
    let world = World::new(false).await;
    assert_eq!(world.get("/v2/health/live").await.0, StatusCode::OK);
    assert_eq!(world.get("/v2/health/ready").await.0, StatusCode::OK);
    assert_eq!(world.get("/v2").await.1["name"], "forebay");
    let (_, model) = world.get("/v2/models/m").await;
    assert_eq!((&model["versions"], &model["platform"]), (&json!(["1", "2"]), &json!("fake")));
    assert_eq!(model["inputs"], json!([{"name": "x", "datatype": "FP32", "shape": [-1, 2]}]));
    assert_eq!(world.get("/v2/models/m/versions/2/ready").await.0, StatusCode::OK);
    assert_eq!(world.get("/v2/models/n/ready").await.0, StatusCode::NOT_FOUND);
    assert_eq!(world.get("/v2/models/m/config").await.1["input"][0]["data_type"], "TYPE_FP32");
    for _ in 0..3 {
        world.post("/v2/models/m/infer", &json!({"inputs": [x(json!([1, 2]))]})).await;
    }
    let (_, stats) = world.get("/v2/models/m/stats").await;
    let served = &stats["model_stats"][0];
    assert_eq!((&served["version"], &served["inference_count"]), (&json!("1"), &json!(3)));
    assert_eq!(served["inference_stats"]["success"]["count"], 3);
    assert_eq!(world.get("/v2/models/stats").await.1["model_stats"].as_array().unwrap().len(), 2);
    let (_, index) = world.post("/v2/repository/index", &json!({})).await;
    assert_eq!(index[1], json!({"name": "m", "version": "2", "state": "READY", "reason": ""}));
    let text = world.send(Request::get("/metrics").body(Body::empty()).unwrap()).await.2;
    let text = String::from_utf8(text.to_vec()).unwrap();
    for line in [
        r#"prediction_requests_total{model="m",version="1",outcome="answered"} 3"#,
        r#"prediction_rows_total{model="m",version="1"} 3"#,
        r#"prediction_duration_seconds_count{model="m",result="answered"} 3"#,
        r#"prediction_model_memory_bytes{model="m",version="2"} 100"#,
    ] {
        assert!(text.contains(line), "{line} in {text}");
    }
}

#[tokio::test]
async fn loading_is_the_operators() {
    let world = World::new(false).await;
    // Nobody's machine is known here: it is not this one.
    let (status, answer) = world.post("/v2/repository/models/m/unload", &json!({})).await;
    assert_eq!(status, StatusCode::FORBIDDEN, "{answer}");
    assert_eq!(world.get("/v2/models/m/ready").await.0, StatusCode::OK);
    world.app.predictions().unwrap().unload("m", None).unwrap();
    assert_eq!(world.get("/v2/models/m/ready").await.0, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(
        world.post("/v2/models/m/infer", &json!({"inputs": [x(json!([1, 2]))]})).await.0.as_u16(),
        503
    );
}

#[tokio::test]
async fn tables_are_scored_as_mlflow_does() {
    let world = World::new(false).await;
    let frame = json!({"dataframe_split": {"columns": ["a", "b"], "data": [[1, 2], [3, 4]]}});
    let (status, answer) = world.post("/invocations", &frame).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    let rows =
        json!([{"twice": [2.0, 4.0], "text": "[1.0, 2.0]"}, {"twice": [6.0, 8.0], "text": "[3.0, 4.0]"}]);
    assert_eq!(answer, json!({"predictions": rows}));
    let (_, answer) = world.post("/invocations?model=m&version=2", &json!({"inputs": [[1, 2]]})).await;
    assert_eq!(answer["predictions"]["twice"], json!([[2.0, 4.0]]));
    let csv = Request::post("/invocations")
        .header(CONTENT_TYPE, "text/csv; charset=utf-8")
        .body("a,b\n1,2\n".into());
    assert_eq!(world.send(csv.unwrap()).await.0, StatusCode::OK);
}

#[tokio::test]
async fn a_server_without_models_says_so_and_is_ready() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path(), store::Settings::default(), 1 << 20).await.unwrap();
    let clock: Arc<dyn Clock> = Arc::new(contract::SystemClock::default());
    let gate = Gate::new(admission::Settings::default(), clock.clone());
    let settings = Settings { auth_required: false, ..Settings::default() };
    let models = llm::Models::new(Arc::new(llm::Unlimited));
    let parts = crate::Parts::of_models(settings, models);
    let world = World { app: App::new(parts, clock, gate, &store, 7), _folder: folder, _store: store };
    assert_eq!(world.get("/v2/health/ready").await.0, StatusCode::OK);
    let (status, answer) = world.get("/v2/models/m").await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    assert!(answer["error"].as_str().unwrap().contains("no predictive models"), "{answer}");
}

/// Keeps what it sees.
#[derive(Default)]
struct Seen {
    answers: parking_lot::Mutex<Vec<Arc<Answered>>>,
    told: parking_lot::Mutex<Vec<Told>>,
}

impl Observer for Seen {
    fn answered(&self, answered: &Arc<Answered>) {
        self.answers.lock().push(answered.clone());
    }
    fn told<'a>(&'a self, told: &'a [Told]) -> BoxFuture<'a, Result<(), Error>> {
        self.told.lock().extend_from_slice(told);
        Box::pin(std::future::ready(Ok(())))
    }
}

#[tokio::test]
async fn whoever_looks_sees_what_was_asked_and_answered_under_the_id_that_the_caller_got() {
    let (world, seen) = (World::new(false).await, Arc::new(Seen::default()));
    world.app.observers().watch(vec![seen.clone()]);
    let asked = |path: &str, entity: Option<&str>, data: Json| {
        let parameters = entity.map_or(json!({}), |e| json!({"entity": e}));
        let body = json!({"parameters": parameters, "inputs": [x(data)]});
        Request::post(path).header("forebay-entity", "ann").body(Body::from(body.to_string())).unwrap()
    };
    let mut ids = Vec::new();
    for request in [
        asked("/v2/models/m/infer", Some("bob"), json!([1, 2])),
        asked("/v2/models/m/versions/2/infer", None, json!([3, 4])),
        asked("/v2/models/m/infer", None, json!([-1, 0])),
        Request::post("/invocations").body(json!({"inputs": [[5, 6]]}).to_string().into()).unwrap(),
        // What no model was asked nobody sees.
        asked("/v2/models/none/infer", None, json!([1, 2])),
    ] {
        let (_, headers, _) = world.send(request).await;
        ids.push(headers["x-request-id"].to_str().unwrap().to_owned());
    }
    while seen.answers.lock().len() < 4 {
        tokio::task::yield_now().await;
    }
    let answers = seen.answers.lock().clone();
    assert_eq!(answers.iter().map(|a| &*a.id).collect::<Vec<_>>(), ids[..4]);
    let facts = |a: &Arc<Answered>| (a.entity().to_owned(), a.version.to_string(), a.arm, a.error);
    assert_eq!(facts(&answers[0]), ("bob".into(), "1".into(), Arm::Champion, None));
    assert_eq!(facts(&answers[1]), ("ann".into(), "2".into(), Arm::Named, None));
    assert_eq!(facts(&answers[2]), ("ann".into(), "1".into(), Arm::Champion, Some(Code::UpstreamError)));
    assert_eq!(facts(&answers[3]), (ids[3].clone(), "1".into(), Arm::Champion, None));
    assert_eq!(&*answers[0].inputs[0].tensor.values::<f32>().unwrap(), [1.0, 2.0]);
    assert_eq!((&*answers[0].outputs[0].name, answers[0].rows()), ("twice", 1));
    assert_eq!(&*answers[0].outputs[0].tensor.values::<f32>().unwrap(), [2.0, 4.0]);
    assert!(answers[2].outputs.is_empty());
    let told = json!([{"id": ids[0], "label": 1}, {"id": ids[3], "key": "judge", "score": 0.5}]);
    let (status, answer) = world.post("/v1/feedback", &told).await;
    assert_eq!((status, answer), (StatusCode::ACCEPTED, json!({"taken": 2})));
    assert_eq!(seen.told.lock().iter().map(|t| t.id.to_string()).collect::<Vec<_>>(), [&*ids[0], &*ids[3]]);
    let (status, answer) = world.post("/v1/feedback", &json!([{"id": ids[0]}])).await;
    assert_eq!((status, &answer["error"]["param"]), (StatusCode::BAD_REQUEST, &json!("/0")));
    assert_eq!(seen.told.lock().len(), 2);
}
