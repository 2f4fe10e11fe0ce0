//! Bytes to requests and answers to bytes: `/predict` and the Open Inference
//! Protocol's REST form.
//!
//! The life of a request: path → plan (loaded once) → envelope → routing key
//! → assignment → inputs straight into tensors → run → counts → reply → copies
//! for the shadows.
//!
//! Invariants: nothing here knows a socket; a request loads its plan exactly
//! once; bad input is an error that says where, and never a panic; one place
//! (`reply`) turns errors into replies; whatever fails after the assignment
//! (the client's leaving and our own panics too) is counted on the version,
//! whatever fails before it as rejected; copies wait until the reply is written.

mod body;
mod call;
mod ids;
mod json;
mod message;
mod predict;
mod reply;
mod route;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod v2;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderValue, Request};
use hyper::body::Body;

pub use body::RequestLimits;

/// Single hops, for `benches/`.
#[doc(hidden)]
pub mod hops {
    pub use super::predict::{decode_rows, encode_rows};
}

use crate::error::{Error, Result};
use crate::protocol::call::{Counted, Failed};
use crate::protocol::ids::Ids;
use crate::protocol::reply::{REQUEST_ID, Reply};
use crate::protocol::route::{Route, Verb, route};
use crate::routing::Router;
use crate::telemetry::Metrics;
use crate::types::Readiness;

/// Answers requests. One for the process; every connection shares it.
pub struct Service {
    router: Arc<Router>,
    metrics: Arc<Metrics>,
    readiness: Readiness,
    limits: RequestLimits,
    ids: Ids,
}

/// A request whose body has arrived.
struct Arrived {
    parts: Parts,
    body: Bytes,
    at: Instant,
}

impl Service {
    /// A service over a router.
    #[must_use]
    pub fn new(
        router: Arc<Router>,
        metrics: Arc<Metrics>,
        readiness: Readiness,
        limits: RequestLimits,
    ) -> Self {
        Self { router, metrics, readiness, limits, ids: Ids::new() }
    }

    /// The metrics that it counts on.
    #[must_use]
    pub const fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// Answers one request; every failure, a panic too, is a reply.
    pub async fn handle<B>(&self, request: Request<B>) -> Reply
    where
        B: Body<Data = Bytes>,
        B::Error: std::fmt::Display,
    {
        let at = Instant::now();
        let (parts, body) = request.into_parts();
        let request_id = self.ids.request_id(parts.headers.get(REQUEST_ID));
        let mut reply = match guarded(self.dispatch(parts, body, at)).await {
            Ok(reply) => reply,
            Err(failed) => self.refuse(failed, &request_id),
        };
        reply.headers_mut().insert(REQUEST_ID, request_id);
        reply
    }

    async fn dispatch<B>(&self, parts: Parts, body: B, at: Instant) -> Result<Reply, Failed>
    where
        B: Body<Data = Bytes>,
        B::Error: std::fmt::Display,
    {
        // A clone shares the bytes; the parts move on with the body.
        let uri = parts.uri.clone();
        match route(&parts.method, uri.path())? {
            Route::Predict { model } => {
                let body = body::read(body, &self.limits).await?;
                self.predict(&Arrived { parts, body, at }, model).await
            }
            Route::Model { model, version, verb: Verb::Infer } => {
                let body = body::read(body, &self.limits).await?;
                self.infer(&Arrived { parts, body, at }, model, version).await
            }
            Route::Model { model, version, verb: Verb::Metadata } => {
                let plan = self.router.plan(model)?;
                Ok(v2::metadata::model(&plan, version)?)
            }
            Route::Model { model, version, verb: Verb::Ready } => {
                let plan = self.router.plan(model)?;
                v2::metadata::model_ready(&plan, version).map_err(Failed::probe)
            }
            Route::ServerMetadata => Ok(v2::metadata::server()),
            Route::Live => Ok(v2::metadata::live()),
            Route::Ready => v2::metadata::ready(&self.readiness).map_err(Failed::probe),
        }
    }

    /// Counts and answers a failure.
    fn refuse(&self, failed: Failed, request_id: &HeaderValue) -> Reply {
        let mut reply = reply::failure(&failed.error, request_id);
        match &failed.counted {
            Counted::Rejected => self.metrics.rejected(failed.error.code()),
            Counted::OnVersion(assignment) => reply::sign(&mut reply, assignment),
            Counted::Nowhere => {}
        }
        if let Some(methods) = failed.allow {
            reply::allow(&mut reply, methods);
        }
        reply
    }
}

/// Polls `work`; a panic in it becomes an error of this request alone.
async fn guarded<T, E: From<Error>>(work: impl Future<Output = Result<T, E>>) -> Result<T, E> {
    let mut work = pin!(work);
    std::future::poll_fn(|context| {
        // After a panic the future is not polled again, only dropped.
        let polled = catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(context)));
        polled.unwrap_or_else(|panic| {
            let text = panic.downcast_ref::<&str>().map(|s| (*s).to_owned());
            let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
            let error = Error::internal("the gateway failed on this request; its log says more");
            let detail = text.unwrap_or_else(|| "a panic without a message".to_owned());
            std::task::Poll::Ready(Err(error.with_detail(detail).into()))
        })
    })
    .await
}
