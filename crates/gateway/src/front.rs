//! What a connection asks: the calls of chat protocols straight, everything else by the router.
//!
//! A router finds a route by its path, wraps its handler in layers that are any service, and puts each into a box: for the
//! four paths that nearly all requests are for, that is more work than to compare them. Invariant: what goes straight
//! passes the same intake and comes to the same handler as the route of the same name.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context as Poller, Poll};

use axum::Router;
use axum::body::Body;
use axum::extract::{FromRequest as _, Request, State};
use axum::response::Response;
use contract::BoxFuture;
use http::Method;
use hyper::body::Incoming;
use hyper::service::Service;
use hyper_util::service::{TowerToHyperService, TowerToHyperServiceFuture};
use pin_project_lite::pin_project;

use crate::anthropic::Anthropic;
use crate::app::App;
use crate::came::Came;
use crate::chat::{self, Protocol};
use crate::completions::Completions;
use crate::inference;
use crate::intake::{self, Behind};
use crate::openai::OpenAi;
use crate::responses::Responses;
use crate::router::router;

/// All that a generation serves.
pub(crate) struct Front {
    app: App,
    routes: TowerToHyperService<Router>,
}

impl Front {
    pub(crate) fn new(app: App) -> Self {
        Front { routes: TowerToHyperService::new(router(app.clone())), app }
    }

    /// The generation.
    pub(crate) fn app(&self) -> &App {
        &self.app
    }

    fn straight<P: Protocol>(&self, request: http::Request<Incoming>) -> Answering {
        let (app, post) = (self.app.clone(), Post::<P>(self.app.clone(), std::marker::PhantomData));
        Answering::Straight { answer: Box::pin(intake::take_in(app, request.map(Body::new), post)) }
    }
}

/// A handler of chat calls, for whoever has taken their bodies in.
struct Post<P>(App, std::marker::PhantomData<fn() -> P>);

impl<P: Protocol> Behind for Post<P> {
    fn run(self, request: Request) -> BoxFuture<'static, Response> {
        Box::pin(async move {
            match Came::from_request(request, &self.0).await {
                Ok(came) => chat::post::<P>(State(self.0), came).await,
                Err(refusal) => refusal,
            }
        })
    }
}

impl Service<http::Request<Incoming>> for Front {
    type Response = Response;
    type Error = Infallible;
    type Future = Answering;

    fn call(&self, request: http::Request<Incoming>) -> Answering {
        if request.method() == Method::POST {
            match request.uri().path() {
                "/v1/chat/completions" => return self.straight::<OpenAi>(request),
                "/v1/messages" => return self.straight::<Anthropic>(request),
                "/v1/responses" => return self.straight::<Responses>(request),
                "/v1/completions" => return self.straight::<Completions>(request),
                path => {
                    if let Some(straight) = inference::Straight::of(&self.app, path) {
                        let answer = intake::take_in(self.app.clone(), request.map(Body::new), straight);
                        return Answering::Straight { answer: Box::pin(answer) };
                    }
                    if inference::is_grpc(path) {
                        let answer = inference::grpc_call(self.app.clone(), request);
                        return Answering::Straight { answer: Box::pin(answer) };
                    }
                }
            }
        }
        Answering::Routed { answer: self.routes.call(request) }
    }
}

pin_project! {
    /// An answer under way.
    #[project = Under]
    pub enum Answering {
        Straight { answer: BoxFuture<'static, Response> },
        Routed {
            #[pin]
            answer: TowerToHyperServiceFuture<Router, http::Request<Incoming>>,
        },
    }
}

impl Future for Answering {
    type Output = Result<Response, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Poller<'_>) -> Poll<Self::Output> {
        match self.project() {
            Under::Straight { answer } => answer.as_mut().poll(cx).map(Ok),
            Under::Routed { answer } => answer.poll(cx),
        }
    }
}
