//! `inference.GRPCInferenceService`, on the same port: what comes by HTTP/2 with its path.
//!
//! The messages are `predict`'s; framing, compression and deadlines of the transport are tonic's. A key is checked before a message
//! is read. Not served: shared memory, tracing, Triton's own configuration message and its log settings.

use std::sync::Arc;

use axum::body::Body;
use axum::response::Response;
use contract::{BoxFuture, Class, Code, Error};
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use hyper::body::Incoming;
use predict::protocol::grpc as codec;
use predict::protocol::grpc::messages as m;
use tonic::server::{Grpc, StreamingService, UnaryService};
use tonic::{Request, Status, Streaming};
use tonic_prost::ProstCodec;

use super::{is_ready, models, run, views};
use crate::admin;
use crate::app::App;
use crate::auth::{self, Caller};

/// The parameter of an answer that holds what `x-request-id` is over HTTP: messages of a stream have no headers.
const REQUEST_ID: &str = "request_id";
const SERVICE: &str = "/inference.GRPCInferenceService/";

/// Whether a path is this service's.
pub(crate) fn is_grpc(path: &str) -> bool {
    path.starts_with(SERVICE)
}

/// A documented error as a status. Who can do something about it decides, as with statuses of HTTP.
fn status(e: &Error) -> Status {
    let message = e.told().into_owned();
    match e.code {
        Code::NotFound => Status::not_found(message),
        Code::InvalidKey => Status::unauthenticated(message),
        Code::RateLimited | Code::Overloaded | Code::BudgetExhausted => Status::resource_exhausted(message),
        Code::DeadlineExceeded => Status::deadline_exceeded(message),
        Code::Cancelled => Status::cancelled(message),
        Code::Draining | Code::UpstreamUnreachable | Code::StorageUnavailable => Status::unavailable(message),
        _ => match e.class() {
            Class::Invalid => Status::invalid_argument(message),
            Class::Denied => Status::permission_denied(message),
            _ => Status::internal(message),
        },
    }
}

/// What a method gets beside its message.
#[derive(Clone)]
struct Call {
    app: App,
    caller: Caller,
    /// Whom the call's metadata say that it is about.
    entity: Option<Arc<str>>,
    /// What an operator is known by.
    operator: Result<(), Error>,
}

/// A method that takes one message and answers one.
type Method<R, A> = fn(Call, R) -> BoxFuture<'static, Result<A, Error>>;

struct Unary<R, A>(Call, Method<R, A>);

impl<R: Send + 'static, A: Send + 'static> UnaryService<R> for Unary<R, A> {
    type Response = A;
    type Future = BoxFuture<'static, Result<tonic::Response<A>, Status>>;

    fn call(&mut self, request: Request<R>) -> Self::Future {
        let answer = (self.1)(self.0.clone(), request.into_inner());
        Box::pin(async move { answer.await.map(tonic::Response::new).map_err(|e| status(&e)) })
    }
}

fn codec<A, R>(limit: usize) -> Grpc<ProstCodec<A, R>>
where
    A: prost::Message + Default + Send + 'static,
    R: prost::Message + Default + Send + 'static,
{
    Grpc::new(ProstCodec::default()).max_decoding_message_size(limit).max_encoding_message_size(usize::MAX)
}

/// An answer on its way.
type Answering = BoxFuture<'static, http::Response<tonic::body::Body>>;

fn unary<R, A>(call: Call, request: http::Request<Incoming>, method: Method<R, A>) -> Answering
where
    R: prost::Message + Default + Send + 'static,
    A: prost::Message + Default + Send + 'static,
{
    let limit = call.app.generation.settings.limits.body_bytes;
    Box::pin(async move { codec::<A, R>(limit).unary(Unary(call, method), request).await })
}

/// Answers a call of the service.
pub(crate) async fn call(app: App, request: http::Request<Incoming>) -> Response {
    let caller = match auth::caller(&app, request.headers()) {
        Ok(caller) => caller,
        Err(e) => return status(&e).into_http(),
    };
    let (parts, body) = request.into_parts();
    let operator = admin::operator(&app, &parts).map(drop);
    let entity = super::entity(&parts.headers).map(Into::into);
    let request = http::Request::from_parts(parts, body);
    dispatch(Call { app, caller, entity, operator }, request).await.map(Body::new)
}

fn dispatch(call: Call, request: http::Request<Incoming>) -> Answering {
    match request.uri().path().strip_prefix(SERVICE).unwrap_or_default() {
        "ModelInfer" => unary(call, request, |c, m| Box::pin(model_infer(c, m))),
        "ModelStreamInfer" => {
            let limit = call.app.generation.settings.limits.body_bytes;
            Box::pin(async move { codec(limit).streaming(Stream(call), request).await })
        }
        "ServerLive" => unary(call, request, |_, _: m::Empty| ready(m::Flag { is: true })),
        "ServerReady" => unary(call, request, |c, _: m::Empty| ready(m::Flag { is: is_ready(&c.app) })),
        "ModelReady" => unary(call, request, |c, m| ready(model_ready(&c, &m))),
        "ServerMetadata" => unary(call, request, |_, _: m::Empty| ready(server())),
        "ModelMetadata" => unary(call, request, |c, m| Box::pin(model_metadata(c, m))),
        "ModelStatistics" => unary(call, request, |c, m| Box::pin(async move { statistics(&c, &m) })),
        "RepositoryIndex" => unary(call, request, |c, m| ready(index(&c, &m))),
        "RepositoryModelLoad" => unary(call, request, |c, m| Box::pin(load(c, m))),
        "RepositoryModelUnload" => unary(call, request, |c, m| Box::pin(async move { unload(&c, &m) })),
        other => {
            let status = Status::unimplemented(format!("{other} is not served"));
            Box::pin(std::future::ready(status.into_http()))
        }
    }
}

fn ready<A: Send + 'static>(answer: A) -> BoxFuture<'static, Result<A, Error>> {
    Box::pin(std::future::ready(Ok(answer)))
}

async fn model_infer(call: Call, message: m::ModelInferRequest) -> Result<m::ModelInferResponse, Error> {
    let Call { app, caller, entity, .. } = &call;
    let id = app.request_id();
    let arrived = app.inner.clock.now();
    let (model, version) = (message.model_name.clone(), message.model_version.clone());
    let (request, raw) = codec::request(message)?;
    let asked = run::Asked {
        id,
        entity: request.entity.as_deref().or(entity.as_deref()),
        model: &model,
        version: Some(version.as_str()).filter(|v| !v.is_empty()),
        tenant: caller,
        arrived,
        timeout: request.timeout,
        wanted: &request.outputs,
    };
    let predicted = run::infer(app, asked, run::Given::Tensors(request.inputs)).await?;
    let mut answer = codec::answer(&predicted.answer(request.id.as_deref(), &[], true), raw)?;
    answer.parameters.insert(REQUEST_ID.to_owned(), m::InferParameter::of_text(id.to_string()));
    Ok(answer)
}

/// `ModelStreamInfer`: answers come in the order of requests, and an error is one of its request alone.
struct Stream(Call);

impl StreamingService<m::ModelInferRequest> for Stream {
    type Response = m::ModelStreamInferResponse;
    type ResponseStream = BoxStream<'static, Result<m::ModelStreamInferResponse, Status>>;
    type Future = BoxFuture<'static, Result<tonic::Response<Self::ResponseStream>, Status>>;

    fn call(&mut self, request: Request<Streaming<m::ModelInferRequest>>) -> Self::Future {
        let call = self.0.clone();
        let answers = request.into_inner().then(move |message| {
            let call = call.clone();
            async move {
                let message = message?;
                let id = message.id.clone();
                Ok(match model_infer(call, message).await {
                    Ok(answer) => m::ModelStreamInferResponse {
                        error_message: String::new(),
                        infer_response: Some(answer),
                    },
                    // Whose error it is, a client reads here.
                    Err(e) => m::ModelStreamInferResponse {
                        error_message: e.told().into_owned(),
                        infer_response: Some(m::ModelInferResponse { id, ..Default::default() }),
                    },
                })
            }
        });
        Box::pin(std::future::ready(Ok(tonic::Response::new(answers.boxed()))))
    }
}

fn named(version: &str) -> Option<&str> {
    Some(version).filter(|v| !v.is_empty())
}

fn model_ready(call: &Call, m: &m::ModelNamed) -> m::Flag {
    let found =
        models(&call.app).ok().and_then(|all| all.try_find(&m.name, named(&m.version)).ok().flatten());
    m::Flag { is: found.is_some() }
}

fn server() -> m::ServerMetadata {
    m::ServerMetadata {
        name: views::NAME.to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        extensions: views::EXTENSIONS.map(str::to_owned).to_vec(),
    }
}

async fn model_metadata(call: Call, asked: m::ModelNamed) -> Result<m::ModelMetadata, Error> {
    let models = models(&call.app)?;
    let version = models.find(&asked.name, named(&asked.version)).await?;
    let tensor = |f: &predict::Field| m::TensorMetadata {
        name: f.name.clone(),
        datatype: f.datatype.as_str().to_owned(),
        shape: f.shape.clone(),
    };
    let signature = version.batcher.signature();
    Ok(m::ModelMetadata {
        name: version.model.to_string(),
        versions: views::versions(models, &version.model),
        platform: models.platform().to_owned(),
        inputs: signature.inputs.iter().map(tensor).collect(),
        outputs: signature.outputs.iter().map(tensor).collect(),
    })
}

fn statistics(call: &Call, asked: &m::ModelNamed) -> Result<m::ModelStatisticsResponse, Error> {
    let model_stats = views::all_statistics(models(&call.app)?, named(&asked.name), named(&asked.version))?;
    Ok(m::ModelStatisticsResponse { model_stats })
}

fn index(call: &Call, asked: &m::RepositoryIndexRequest) -> m::RepositoryIndex {
    let models = call.app.predictions().map(|all| views::indexed(all, asked.ready)).unwrap_or_default();
    m::RepositoryIndex { models }
}

async fn load(call: Call, asked: m::RepositoryModel) -> Result<m::Empty, Error> {
    call.operator?;
    models(&call.app)?.reload(&asked.model_name, None).await?;
    Ok(m::Empty {})
}

fn unload(call: &Call, asked: &m::RepositoryModel) -> Result<m::Empty, Error> {
    call.operator.clone()?;
    models(&call.app)?.unload(&asked.model_name, None)?;
    Ok(m::Empty {})
}
