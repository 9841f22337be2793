//! Which generation of the configuration new requests find.
//!
//! A connection looks here with each request, and the request goes on with what it found to its end, whatever is put in
//! place meanwhile: its routes, settings, models and pipelines are of one generation. Looking costs no lock.

use std::convert::Infallible;
use std::sync::{Arc, Weak};

use arc_swap::ArcSwap;
use axum::response::Response;
use http::Request;
use hyper::body::Incoming;
use hyper::service::Service;

use crate::app::App;
use crate::front::{Answering, Front};

/// The current generation. Clones see the same one.
#[derive(Clone)]
pub struct Current(Arc<ArcSwap<Front>>);

impl std::fmt::Debug for Current {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Current").field(&self.app()).finish()
    }
}

impl Current {
    /// Begins with this one.
    pub fn new(app: App) -> Self {
        Current(Arc::new(ArcSwap::from_pointee(Front::new(app))))
    }

    /// The generation that a request would find now.
    pub fn app(&self) -> App {
        self.0.load().app().clone()
    }

    /// The same, not kept by whoever looks there.
    pub fn downgrade(&self) -> Latest {
        Latest(Arc::downgrade(&self.0))
    }

    /// Puts another in place, from the next request on. The one before ends with the last request that began with it.
    pub fn replace(&self, app: App) {
        app.inner.metrics.name(&app.generation.settings);
        app.present();
        self.0.store(Arc::new(Front::new(app)));
    }
}

/// Where the current generation is, as long as anybody serves it.
#[derive(Clone, Default)]
pub struct Latest(Weak<ArcSwap<Front>>);

impl Latest {
    /// The generation that a request would find now.
    pub(crate) fn app(&self) -> Option<App> {
        self.0.upgrade().map(|served| served.load().app().clone())
    }
}

impl Service<Request<Incoming>> for Current {
    type Response = Response;
    type Error = Infallible;
    type Future = Answering;

    fn call(&self, request: Request<Incoming>) -> Answering {
        self.0.load().call(request)
    }
}
