//! Which path goes where, and the one way from a parsed call to an answer.

use axum::Router;
use axum::extract::Path;
use axum::middleware;
use axum::routing::{get, post};
use contract::{Code, Error, Kind, ModelName, Role, Surface, Tick, Value};
use futures_util::StreamExt;
use llm::surface::Call;
use llm::{Asking, TokenCounter};

use crate::anthropic::Anthropic;
use crate::app::App;
use crate::auth::Caller;
use crate::came::Came;
use crate::completions::Completions;
use crate::deltas::{Deltas, FromPipeline};
use crate::errors::Failure;
use crate::heard::Heard;
use crate::openai::OpenAi;
use crate::request::{Ask, Request, Target};
use crate::responses::Responses;
use crate::{
    admin, anthropic, batches, chat, events, features, feedback, files, inference, intake, jobs, ladder,
    lineage, mlflow, models, native, openapi, ops, replay, runs, socket,
};

/// All routes.
pub fn router(app: App) -> Router {
    let mut router = Router::new()
        .route("/v1/chat/completions", post(chat::post::<OpenAi>))
        .route("/v1/completions", post(chat::post::<Completions>))
        .route("/v1/responses", post(chat::post::<Responses>))
        .route("/v1/files", post(files::upload).get(files::list))
        .route("/v1/files/{id}", get(files::retrieve).delete(files::delete))
        .route("/v1/files/{id}/content", get(files::content))
        .route("/v1/models", get(models::list))
        .route("/v1/models/{*id}", get(models::retrieve))
        .route("/v1/messages", post(chat::post::<Anthropic>))
        .route("/v1/messages/count_tokens", post(anthropic::count_tokens))
        .route("/v1/pipelines/{name}", post(native::post).get(socket::socket))
        .route("/v1/events", post(events::post))
        .route("/v1/feedback", post(feedback::post))
        .route("/v1/requests/{id}", get(ops::request))
        .route("/v1/requests/{id}/events", get(replay::events))
        .route("/healthz", get(ops::healthz))
        .route("/readyz", get(ops::readyz))
        .route("/metrics", get(ops::metrics))
        .route("/openapi.json", get(openapi::serve));
    router = router.merge(admin::routes()).merge(jobs::routes()).merge(jobs::admin_routes());
    router = router.merge(runs::routes()).merge(lineage::routes());
    router = router.merge(features::routes()).merge(inference::routes());
    router = router.merge(jobs::background::routes()).merge(batches::routes()).merge(batches::admin_routes());
    for (name, path) in app.generation.paths() {
        let name = name.as_str().to_owned();
        let handler = move |state, query, came: Came| native::post(Path(name.clone()), state, query, came);
        router = router.route(path, post(handler));
    }
    router
        .route_layer(middleware::from_fn_with_state(app.clone(), intake::whole))
        // Artifacts are of any size, and errors have a shape of their own: their bodies are taken in there.
        .merge(mlflow::routes())
        .fallback(models::unknown)
        .method_not_allowed_fallback(models::wrong_method)
        .with_state(app)
}

/// Who answers to that name: a pipeline or a model.
pub(crate) fn target(app: &App, name: &ModelName) -> Result<Target, Error> {
    if let Some((n, p)) = app.pipeline(name.as_str()) {
        return Ok(Target::Pipeline(n, Box::new(p)));
    }
    match app.model(name) {
        Some(_) => Ok(Target::Model(name.clone(), app.generation.models.dearest(name))),
        None => Err(Error::new(
            Code::NotFound,
            "there is no model or pipeline of that name: GET /v1/models lists them",
        )
        .param("model")),
    }
}

/// The estimated input of a call.
pub(crate) fn input_tokens(app: &App, call: &Call) -> u64 {
    match app.model(&call.model) {
        Some(m) => m.counter.request(&call.request),
        None => llm::tokens::Estimate.request(&call.request),
    }
}

/// Admits a call of an estimated input and starts its answer. Resolves at the commit point: with the first real output,
/// or with the error that becomes the status.
pub(crate) async fn call(
    app: &App,
    caller: Caller,
    call: Call,
    input_tokens: u64,
    surface: Surface,
    arrived: Tick,
) -> Result<(Request, Deltas), Box<Failure>> {
    let user = call.user.clone();
    let asked = call.model.clone();
    let (target, instead, run, chosen) = match target(app, &call.model)? {
        Target::Pipeline(name, p) => {
            let input = chat_input(&p.graph.input, &call, surface)?;
            let ((name, p), chosen) = app.choose((name, *p), &caller.tenant, call.user.as_ref())?;
            let of = ladder::Call {
                name: &name,
                caller: &caller,
                user: call.user.as_ref(),
                input: &input,
                stream: call.request.stream,
                takes_job: caller.takes_job == Some(true),
            };
            let (p, instead, start) = ladder::descend(app, &of, p)?.parts();
            (Target::Pipeline(name, Box::new(p)), instead, Some((start, input)), chosen)
        }
        model => (model, None, None, None),
    };
    let ask = Ask {
        surface,
        user,
        stream: call.request.stream,
        input_tokens,
        max_output_tokens: call.request.max_output_tokens,
        arrived,
        heard: app.hears(&[asked.as_str(), target.name()], |names, texts| match &run {
            Some((_, input)) => Heard::of_value(names, texts, input),
            None => Heard::of_messages(names, texts, &call.request.messages),
        }),
        target,
        instead,
        chosen,
    };
    let heard = ask.heard.clone();
    let price = match &ask.target {
        Target::Model(_, price) => *price,
        Target::Pipeline(_, p) => p.price,
    };
    let models = &app.generation.models;
    let alone = |now| models.mark_if_alone(&call.model, &call.request, call.user.as_ref(), input_tokens, now);
    let request = Request::admit(app, caller, ask, alone)?;
    let cut = || app.inner.drain.cut();
    let started = match run {
        None => {
            let unseen = !call.request.stream;
            let asking = Asking { input_tokens: Some(input_tokens), unseen, ..Asking::default() };
            let answer = models.call_as(&call.model, call.request, asking, &request.cx);
            cut()
                .or(answer)
                .await
                .map(|c| Deltas::Model(Box::new(c), cut(), (request.growth(price, input_tokens), heard)))
        }
        Some((start, input)) => {
            let live = start.live(input, request.cx.clone());
            commit(Deltas::Pipeline(Box::new(FromPipeline::new(live)), cut())).await
        }
    };
    match started {
        Ok(deltas) => Ok((request, deltas)),
        Err(e) => Err(request.refuse(e)),
    }
}

/// Waits for a run's first delta: an error before it can still be a status.
async fn commit(mut run: Deltas) -> Result<Deltas, Error> {
    let first = run.next().await;
    match first {
        Some(Err(e)) => Err(e),
        Some(Ok(first)) => {
            if let Deltas::Pipeline(p, _) = &mut run {
                p.unread(first);
            }
            Ok(run)
        }
        None => Err(Error::new(Code::Internal, "the pipeline ended without an answer; this is a defect")),
    }
}

/// A conversation as a pipeline's input: whole when it takes messages, else the last thing the user said.
fn chat_input(kind: &Kind, call: &Call, surface: Surface) -> Result<Value, Error> {
    match kind {
        Kind::Messages => Ok(Value::Messages(call.request.messages.clone().into())),
        Kind::Text | Kind::Document | Kind::Any => {
            let last = call.request.messages.iter().rev().find(|m| m.role == Role::User);
            let text = last.map(|m| m.content.to_text().into_owned()).unwrap_or_default();
            if text.trim().is_empty() {
                let m = "the last user message is the pipeline's input, and it has no text";
                let param = match surface {
                    Surface::Completions => "prompt",
                    Surface::Responses => "input",
                    _ => "messages",
                };
                return Err(Error::new(Code::InvalidRequest, m).param(param));
            }
            native::text_input(kind, text)
        }
        other => {
            let m = format!("this pipeline takes {other}: call it at /v1/pipelines/{{name}}");
            Err(Error::new(Code::InvalidRequest, m).param("model"))
        }
    }
}
