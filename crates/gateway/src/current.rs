//! Which generation of the configuration new requests find.
//!
//! A connection looks here with each request, and the request goes on with what it found to its end, whatever is put in
//! place meanwhile: its routes, settings, models and pipelines are of one generation. Looking costs no lock.

use std::sync::{Arc, Weak};

use arc_swap::ArcSwap;
use axum::Router;
use http::Request;
use hyper::body::Incoming;
use hyper::service::Service;
use hyper_util::service::TowerToHyperService;

use crate::app::App;
use crate::router::router;

type Routes = TowerToHyperService<Router>;

/// The current generation. Clones see the same one.
#[derive(Clone)]
pub struct Current(Arc<ArcSwap<Served>>);

struct Served {
    app: App,
    routes: Routes,
}

impl Served {
    fn new(app: App) -> Served {
        Served { routes: TowerToHyperService::new(router(app.clone())), app }
    }
}

impl std::fmt::Debug for Current {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Current").field(&self.app()).finish()
    }
}

impl Current {
    /// Begins with this one.
    pub fn new(app: App) -> Self {
        Current(Arc::new(ArcSwap::from_pointee(Served::new(app))))
    }

    /// The generation that a request would find now.
    pub fn app(&self) -> App {
        self.0.load().app.clone()
    }

    /// The same, not kept by whoever looks there.
    pub(crate) fn downgrade(&self) -> Latest {
        Latest(Arc::downgrade(&self.0))
    }

    /// Puts another in place, from the next request on. The one before ends with the last request that began with it.
    pub fn replace(&self, app: App) {
        app.inner.metrics.name(&app.generation.settings);
        app.present();
        self.0.store(Arc::new(Served::new(app)));
    }
}

/// Where the current generation is, as long as anybody serves it.
#[derive(Clone, Default)]
pub(crate) struct Latest(Weak<ArcSwap<Served>>);

impl Latest {
    /// The generation that a request would find now.
    pub(crate) fn app(&self) -> Option<App> {
        self.0.upgrade().map(|served| served.load().app.clone())
    }
}

impl Service<Request<Incoming>> for Current {
    type Response = <Routes as Service<Request<Incoming>>>::Response;
    type Error = <Routes as Service<Request<Incoming>>>::Error;
    type Future = <Routes as Service<Request<Incoming>>>::Future;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        self.0.load().routes.call(request)
    }
}
