//! Bytes to requests and answers to bytes: `/predict`, the Open Inference
//! Protocol (V2) over REST and gRPC, and TensorFlow Serving's REST API (V1).
//!
//! The life of a request: path → plan (loaded once) → envelope → routing key
//! → assignment → inputs straight into tensors → run → counts → reply → copies
//! for the shadows. What is large is read and written on threads of its own
//! (`offload`), between which and the data thread nothing else differs.
//!
//! Invariants: nothing here knows a socket; a request loads its plan exactly
//! once; bad input is an error that says where, and never a panic; one place
//! (`reply`) turns errors into replies; whatever fails after the assignment
//! (the client's leaving and our own panics too) is counted on the version,
//! whatever fails before it as rejected, and so is a body that is malformed;
//! copies wait until the reply is written.

mod body;
mod call;
mod compression;
mod feedback;
mod grpc;
mod ids;
mod json;
mod message;
mod oddness;
mod offload;
mod openapi;
mod predict;
mod reply;
mod route;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod v1;
mod v2;

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderValue, Method, Request};
use hyper::body::Body;

pub use body::RequestLimits;
pub use grpc::{Compress, Grpc, GrpcBody, GrpcSettings};
pub use offload::{Offload, OffloadSettings};
pub use openapi::document;
pub use reply::Written;

/// Single hops, for `benches/`.
#[doc(hidden)]
pub mod hops {
    pub use super::grpc::decode_message;
    pub use super::predict::{decode_rows, encode_rows};
    pub use super::v2::decode_infer;
}

use crate::error::{Error, ErrorCode, Result};
use crate::protocol::body::Pieces;
use crate::protocol::call::{Accepted, Answered, Counted, Failed};
use crate::protocol::compression::{BODY, Coding, Inflating};
use crate::protocol::ids::{Id, Ids};
use crate::protocol::offload::{COMPRESSED_LARGE_BYTES, Crowded, LARGE_BYTES};
use crate::protocol::predict::Target;
use crate::protocol::reply::{REQUEST_ID, Reply};
use crate::protocol::route::{Route, V1Verb, Verb, decoded, route};
use crate::routing::Router;
use crate::telemetry::Metrics;
use crate::types::{Asked, Feedback, Readiness, Repository, Wish};

/// Answers requests. One for the process; every connection shares it.
pub struct Service {
    router: Arc<Router>,
    metrics: Arc<Metrics>,
    readiness: Readiness,
    limits: RequestLimits,
    offload: Offload,
    repository: Option<Arc<dyn Repository>>,
    feedback: Option<Arc<dyn Feedback>>,
    ids: Ids,
}

/// A request whose body has arrived.
struct Arrived<'a> {
    parts: &'a Parts,
    body: Bytes,
    at: Instant,
    /// When its body is begun to be read.
    read: Instant,
}

/// The forms of inference.
enum Form {
    Predict(predict::PredictForm),
    Infer(v2::InferForm),
}

impl call::Form for Form {
    type Reply = Reply;

    fn encode(&self, answered: &Answered<'_>) -> Result<Reply> {
        match self {
            Self::Predict(form) => form.encode(answered),
            Self::Infer(form) => form.encode(answered),
        }
    }
}

/// Reads a request for the version that shall answer it.
fn accept(
    router: &Router,
    timeout: Duration,
    arrived: &Arrived<'_>,
    route: Route<'_>,
) -> Result<Accepted<Form>, Failed> {
    let rows = |target: Target<'_>| -> Result<_, Failed> {
        Ok(predict::accept(router, timeout, arrived, target)?.with(Form::Predict))
    };
    match route {
        Route::Predict { model } => rows(Target::short(model)),
        Route::V1 { model, which, verb: V1Verb::Predict } => rows(Target::v1(model, which)),
        Route::Model { model, version, verb: Verb::Infer } => {
            let accepted = v2::accept(router, timeout, arrived, model, version)?;
            Ok(accepted.with(Form::Infer))
        }
        _ => Err(Error::internal("this route has no inference").into()),
    }
}

impl Service {
    /// A service over a router.
    #[must_use]
    pub fn new(
        router: Arc<Router>,
        metrics: Arc<Metrics>,
        readiness: Readiness,
        limits: RequestLimits,
        offload: Offload,
    ) -> Self {
        openapi::prepare();
        let (repository, feedback, ids) = (None, None, Ids::new());
        Self { router, metrics, readiness, limits, offload, repository, feedback, ids }
    }

    /// The same, over a repository that clients may ask for its index, and for
    /// what is to be loaded and unloaded.
    #[must_use]
    pub fn with_repository(self, repository: Arc<dyn Repository>) -> Self {
        Self { repository: Some(repository), ..self }
    }

    /// The same, with somebody who takes labels.
    #[must_use]
    pub fn with_feedback(self, feedback: Arc<dyn Feedback>) -> Self {
        Self { feedback: Some(feedback), ..self }
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
        let id = self.ids.next();
        let request_id = id.unless(parts.headers.get(REQUEST_ID));
        let answered = {
            let work = pin!(self.dispatch(&parts, body, at, id, &request_id));
            guarded(work).await
        };
        let mut reply = match answered {
            Ok(reply) => reply,
            Err(failed) => self.refuse(failed, &request_id),
        };
        reply.headers_mut().insert(REQUEST_ID, request_id);
        if reply.body().len() < self.limits.compress_from || parts.method == Method::HEAD {
            return reply;
        }
        match compression::of_reply(&parts.headers) {
            Some(coding) => Box::pin(reply::compress(reply, coding, &self.offload)).await,
            None => reply,
        }
    }

    async fn dispatch<B>(
        &self,
        parts: &Parts,
        body: B,
        at: Instant,
        id: Id,
        request_id: &HeaderValue,
    ) -> Result<Reply, Failed>
    where
        B: Body<Data = Bytes>,
        B::Error: std::fmt::Display,
    {
        let path = decoded(parts.uri.path())?;
        match route(&parts.method, &path)? {
            route @ (Route::Predict { .. }
            | Route::Model { verb: Verb::Infer, .. }
            | Route::V1 { verb: V1Verb::Predict, .. }) => {
                let body = body::read(body, &self.limits).await?;
                let accepted = match compression::of_request(&parts.headers)? {
                    None if body.len() <= LARGE_BYTES => {
                        let (body, read) = (body.join(), Instant::now());
                        let arrived = Arrived { parts, body, at, read };
                        accept(&self.router, self.limits.timeout, &arrived, route)?
                    }
                    None => {
                        let bytes = body.len();
                        self.accept_elsewhere(parts, bytes, move || Ok(body.join()), at).await?
                    }
                    Some(coding) => {
                        Box::pin(self.accept_compressed(parts, coding, body, at, route)).await?
                    }
                };
                self.answer(accepted, id, request_id).await
            }
            Route::Model { model, version, verb: Verb::Metadata } => {
                let plan = self.router.plan(model)?;
                Ok(v2::metadata::model(&plan, version)?)
            }
            Route::Model { model, version, verb: Verb::Config } => {
                let plan = self.router.plan(model)?;
                Ok(v2::config::reply(&plan, version)?)
            }
            Route::Model { model, version, verb: Verb::Ready } => {
                let plan = self.router.plan(model)?;
                v2::metadata::model_ready(&plan, version).map_err(Failed::probe)
            }
            Route::Model { model, version, verb: Verb::Statistics } => {
                self.statistics(Some(model), version)
            }
            Route::Statistics => self.statistics(None, None),
            // Boxed: what is rare shall not make every request's future larger.
            Route::Index => Box::pin(self.index(parts, body)).await,
            Route::Feedback => Box::pin(self.feedback(parts, body)).await,
            Route::Wish { model, wish } => Box::pin(self.grant(parts, body, model, wish)).await,
            Route::ServerMetadata => Ok(v2::metadata::server()),
            Route::Live => Ok(v2::metadata::live()),
            Route::Ready => v2::metadata::ready(&self.readiness).map_err(Failed::probe),
            Route::V1 { model, which, verb: V1Verb::Status } => {
                Ok(v1::status::status(&*self.router.plan(model)?, which)?)
            }
            Route::V1 { model, which, verb: V1Verb::Metadata } => {
                Ok(v1::metadata::metadata(&*self.router.plan(model)?, which)?)
            }
            Route::V1Models | Route::V2Models => {
                Ok(v1::status::models(self.router.catalog().names()))
            }
            Route::Alive => Ok(v1::status::alive()),
            Route::Document => Ok(openapi::reply()),
        }
    }

    fn statistics(&self, model: Option<&str>, version: Option<&str>) -> Result<Reply, Failed> {
        let statistics = v2::stats::statistics(&self.router, &self.metrics, model, version)?;
        Ok(v2::stats::reply(statistics))
    }

    async fn index<B>(&self, parts: &Parts, body: B) -> Result<Reply, Failed>
    where
        B: Body<Data = Bytes>,
        B::Error: std::fmt::Display,
    {
        let ready_only = self.read_small(parts, body, v2::repository::ready_only).await?;
        let entries = self.repository()?.index();
        Ok(v2::repository::index(entries, ready_only))
    }

    /// Does what a client wishes for a model; a no is an answer, and no request
    /// was refused.
    async fn grant<B>(
        &self,
        parts: &Parts,
        body: B,
        model: &str,
        wish: Wish,
    ) -> Result<Reply, Failed>
    where
        B: Body<Data = Bytes>,
        B::Error: std::fmt::Display,
    {
        let version = self.read_small(parts, body, v2::repository::version).await?;
        let asked = Asked { wish, model, version, headers: &parts.headers };
        self.repository()?.grant(asked).await.map_err(Failed::probe)?;
        Ok(v2::repository::done())
    }

    /// Takes labels. What is wrong with them is no failure of a prediction.
    async fn feedback<B>(&self, parts: &Parts, body: B) -> Result<Reply, Failed>
    where
        B: Body<Data = Bytes>,
        B::Error: std::fmt::Display,
    {
        let labels = self.read_small(parts, body, feedback::labels).await;
        let labels = labels.map_err(Failed::probe)?;
        let none = || Error::new(ErrorCode::Unsupported, "nobody takes labels behind this API");
        let takes = self.feedback.as_deref().ok_or_else(none)?;
        let sent = labels.len();
        let receipt = takes.report(labels).await.map_err(Failed::probe)?;
        feedback::reply(&receipt, sent).map_err(Failed::probe)
    }

    fn repository(&self) -> Result<&dyn Repository> {
        let none = || Error::new(ErrorCode::Unsupported, "there is no repository behind this API");
        self.repository.as_deref().ok_or_else(none)
    }

    /// Reads a body that is small if it is right.
    async fn read_small<B, T: Send + 'static>(
        &self,
        parts: &Parts,
        body: B,
        read: fn(&[u8]) -> Result<T>,
    ) -> Result<T>
    where
        B: Body<Data = Bytes>,
        B::Error: std::fmt::Display,
    {
        let body = body::read(body, &self.limits).await?;
        let bytes = body.len();
        match compression::of_request(&parts.headers)? {
            None if body.len() <= LARGE_BYTES => read(&body.join()),
            None => self.offload.run(bytes, Crowded::Refuse, move || read(&body.join())).await?,
            Some(coding) => {
                let bytes_max = self.limits.body_bytes_max;
                let inflate = move || Inflating::new(BODY, coding, body.join(), bytes_max).read();
                self.offload.run(bytes, Crowded::Refuse, move || read(&inflate()?)).await?
            }
        }
    }

    /// Reads a compressed request: here what is small before and behind that.
    async fn accept_compressed(
        &self,
        parts: &Parts,
        coding: Coding,
        body: Pieces,
        at: Instant,
        route: Route<'_>,
    ) -> Result<Accepted<Form>, Failed> {
        let (bytes, bytes_max) = (body.len(), self.limits.body_bytes_max);
        if bytes > COMPRESSED_LARGE_BYTES {
            let inflate = move || Inflating::new(BODY, coding, body.join(), bytes_max).read();
            return self.accept_elsewhere(parts, bytes, inflate, at).await;
        }
        let read = Instant::now();
        let mut inflating = Inflating::new(BODY, coding, body.join(), bytes_max);
        if inflating.read_to(LARGE_BYTES)? {
            let arrived = Arrived { parts, body: inflating.into_bytes(), at, read };
            return accept(&self.router, self.limits.timeout, &arrived, route);
        }
        self.accept_elsewhere(parts, LARGE_BYTES, move || inflating.read(), at).await
    }

    /// Reads a large request, of which `bytes` bytes came, without holding up this
    /// thread.
    async fn accept_elsewhere(
        &self,
        parts: &Parts,
        bytes: usize,
        body: impl FnOnce() -> Result<Bytes> + Send + 'static,
        at: Instant,
    ) -> Result<Accepted<Form>, Failed> {
        let (router, timeout) = (Arc::clone(&self.router), self.limits.timeout);
        let parts = parts.clone();
        let accept = move || {
            let (read, body) = (Instant::now(), body()?);
            let arrived = Arrived { parts: &parts, body, at, read };
            let path = decoded(parts.uri.path())?;
            let route = route(&parts.method, &path)?;
            accept(&router, timeout, &arrived, route)
        };
        self.read_elsewhere(bytes, at, accept).await?
    }

    /// Reads `bytes` bytes that came at `at` without holding up this thread, within
    /// the time that a request may take.
    async fn read_elsewhere<T: Send + 'static>(
        &self,
        bytes: usize,
        at: Instant,
        read: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T> {
        let reading = pin!(self.offload.run(bytes, Crowded::Refuse, read));
        let Some(last) = call::deadline(at, None, self.limits.timeout) else {
            return reading.await;
        };
        call::within(reading, || last.into()).await.unwrap_or_else(|| {
            let message = "the request's timeout passed before its body was read";
            Err(Error::new(ErrorCode::DeadlineExceeded, message))
        })
    }

    /// Counts a failure where nobody has yet.
    fn count(&self, failed: &Failed) {
        if matches!(failed.counted, Counted::Rejected) {
            self.metrics.rejected(failed.error.code());
        }
    }

    /// Counts and answers a failure.
    fn refuse(&self, failed: Failed, request_id: &HeaderValue) -> Reply {
        let mut reply = reply::failure(&failed.error, request_id);
        self.count(&failed);
        if let Counted::OnVersion(assignment) = &failed.counted {
            reply::sign(reply.headers_mut(), assignment);
        }
        if let Some(methods) = failed.allow {
            reply::allow(&mut reply, methods);
        }
        reply
    }
}

/// Polls `work`; a panic in it becomes an error of this request alone. It stays
/// where it is: a future that is handed over is copied, and this one is large.
async fn guarded<T, E: From<Error>>(
    mut work: Pin<&mut impl Future<Output = Result<T, E>>>,
) -> Result<T, E> {
    std::future::poll_fn(|context| {
        // After a panic the future is not polled again, only dropped.
        let polled = catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(context)));
        polled.unwrap_or_else(|panic| std::task::Poll::Ready(Err(panicked(&*panic).into())))
    })
    .await
}

/// Does `work`; a panic in it becomes an error.
fn caught<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    // What it touched is dropped with it, so no broken state is seen.
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| Err(panicked(&*panic)))
}

/// The error for a panic of ours.
fn panicked(panic: &(dyn Any + Send)) -> Error {
    let text = panic.downcast_ref::<&str>().map(|s| (*s).to_owned());
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
    let error = Error::internal("the gateway failed on this request; its log says more");
    error.with_detail(text.unwrap_or_else(|| "a panic without a message".to_owned()))
}
