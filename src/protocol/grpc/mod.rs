//! The Open Inference Protocol over gRPC, and the standard health and reflection
//! services.
//!
//! A message becomes the request that a body over REST becomes, and from there on
//! goes the same way: plan, assignment, decoding, run, counts, shadows; an error is
//! the same error. tonic has the reflection. All other messages are taken off the wire
//! here, since they may be large: they are
//! decompressed, decoded and encoded on threads of their own then, and nothing is
//! reserved for what has only been announced.
//!
//! Invariants: nothing here knows a socket; a message that fails within a stream
//! does not end it; no stream holds up the end of the process; replies of a stream
//! come in the order of its requests.

mod answer;
mod body;
mod coding;
mod config;
mod contents;
mod encode;
mod foreign;
mod health;
mod infer;
mod info;
mod pb;
mod repository;
mod route;
mod status;
mod stream;
mod terms;
#[cfg(test)]
mod tests;
mod wire;

use std::pin::pin;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use hyper::body::Body;
use tokio::sync::watch;

pub use body::GrpcBody;
pub use coding::Compress;
pub use infer::decode_message;

use crate::error::{Error, ErrorCode};
use crate::protocol::call::{Accepted, Counted, Failed};
use crate::protocol::compression::Coding;
use crate::protocol::grpc::answer::{UnaryForm, Writing, head};
use crate::protocol::grpc::body::{BodyError, Stoppable};
use crate::protocol::grpc::coding::Unpacking;
use crate::protocol::grpc::foreign::{Foreign, Services};
use crate::protocol::grpc::infer::Around;
use crate::protocol::grpc::route::Call;
use crate::protocol::grpc::stream::Stream;
use crate::protocol::grpc::terms::Terms;
use crate::protocol::grpc::wire::PREFIX_BYTES;
use crate::protocol::ids::Id;
use crate::protocol::offload::LARGE_BYTES;
use crate::protocol::reply::{self, REQUEST_ID};
use crate::protocol::{RequestLimits, Service, body as request_body, guarded};

/// Settings of a [`Grpc`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GrpcSettings {
    /// The most bytes of a message, decompressed, in both directions.
    pub message_bytes_max: usize,
    /// Requests of one stream that may be at work at the same time.
    pub stream_requests_max: usize,
    /// When replies are compressed.
    pub compress: Compress,
}

impl Default for GrpcSettings {
    /// 16 MiB; 32 requests; replies are compressed where the requests are.
    fn default() -> Self {
        Self {
            message_bytes_max: 16 << 20,
            stream_requests_max: 32,
            compress: Compress::LikeRequest,
        }
    }
}

/// Answers calls. One for the process; every connection shares it.
pub struct Grpc {
    service: Arc<Service>,
    settings: GrpcSettings,
    /// Of a body that holds a message of inference.
    limits: RequestLimits,
    /// Of a body that holds any other.
    info_limits: RequestLimits,
    services: Services,
    /// Turns true when the process is about to end.
    draining: watch::Sender<bool>,
}

impl Grpc {
    /// gRPC beside the REST of `service`.
    #[must_use]
    pub fn new(service: Arc<Service>, settings: GrpcSettings) -> Self {
        let body = |message_bytes_max: usize| RequestLimits {
            body_bytes_max: message_bytes_max.saturating_add(PREFIX_BYTES),
            ..service.limits.clone()
        };
        let (limits, info_limits) = (body(settings.message_bytes_max), body(info::BYTES_MAX));
        let draining = watch::Sender::new(false);
        let services = Services::new();
        Self { service, settings, limits, info_limits, services, draining }
    }

    /// What it counts on.
    #[must_use]
    pub const fn service(&self) -> &Arc<Service> {
        &self.service
    }

    /// Ends the streams, each once what it has begun is answered.
    pub fn drain(&self) {
        self.draining.send_replace(true);
    }

    /// Answers one call; every failure, a panic too, is a reply.
    pub async fn handle<B>(self: &Arc<Self>, request: Request<B>) -> Response<GrpcBody>
    where
        B: Body<Data = Bytes, Error: Into<BodyError> + std::fmt::Display> + Send + Unpin + 'static,
    {
        let at = Instant::now();
        if let Some(status) = misplaced(request.method(), request.headers()) {
            let mut reply = Response::new(GrpcBody::none());
            *reply.status_mut() = status;
            return reply;
        }
        if let Some(service) = self.services.find(request.uri().path()) {
            return self.delegate(service, request).await;
        }
        let (parts, body) = request.into_parts();
        let id = self.service.ids.next();
        let request_id = id.unless(parts.headers.get(REQUEST_ID));
        let answered = {
            let work = pin!(self.dispatch(parts, body, at, id, &request_id));
            guarded(work).await
        };
        let mut reply = match answered {
            Ok(reply) => reply,
            Err(failed) => self.refuse(&failed, &request_id),
        };
        reply.headers_mut().insert(REQUEST_ID, request_id);
        reply
    }

    async fn dispatch<B>(
        self: &Arc<Self>,
        parts: Parts,
        body: B,
        at: Instant,
        id: Id,
        request_id: &HeaderValue,
    ) -> Result<Response<GrpcBody>, Failed>
    where
        B: Body<Data = Bytes, Error: std::fmt::Display> + Send + Unpin + 'static,
    {
        let call = route::route(parts.uri.path())?;
        let terms = Terms::read(&parts.headers, self.settings.compress)?;
        match call {
            Call::Infer => self.infer(parts, body, terms, (at, id, request_id)).await,
            Call::StreamInfer => {
                let asked = (parts.headers, request_id.clone());
                let stream = Stream::new(Arc::clone(self), asked, terms, body, at);
                Ok(head(terms.reply, GrpcBody::streamed(stream)))
            }
            // Boxed: what is rare shall not make every call's future larger.
            Call::Wish(wish) => Box::pin(self.wish(parts, body, terms, wish)).await,
            Call::Check => Box::pin(self.check(body, terms)).await,
            Call::Watch => Box::pin(self.watch(body, terms)).await,
            call => {
                let bytes = self.read_small(body, terms).await?;
                self.info(call, bytes, self.writing(terms))
            }
        }
    }

    /// Reads a message that is no inference.
    async fn read_small<B>(&self, body: B, terms: Terms) -> Result<Bytes, Error>
    where
        B: Body<Data = Bytes, Error: std::fmt::Display>,
    {
        let body = request_body::read(body, &terms.limits(&self.info_limits)).await?;
        let (coding, bytes) = self.only_message(body.join(), terms)?;
        coding::decompress(bytes, coding, info::BYTES_MAX)
    }

    async fn infer<B>(
        self: &Arc<Self>,
        parts: Parts,
        body: B,
        terms: Terms,
        (at, id, request_id): (Instant, Id, &HeaderValue),
    ) -> Result<Response<GrpcBody>, Failed>
    where
        B: Body<Data = Bytes, Error: std::fmt::Display>,
    {
        let body = request_body::read(body, &terms.limits(&self.limits)).await?;
        let bytes = body.len();
        let accepted = if bytes <= LARGE_BYTES {
            let (coding, message) = self.only_message(body.join(), terms)?;
            match Unpacking::begin(message, coding, self.settings.message_bytes_max)? {
                Unpacking::Done(message) => self.accept(&parts.headers, message, terms, at)?,
                Unpacking::Begun(rest) => {
                    let message = move |_: &Self| rest.read();
                    self.accept_elsewhere(parts, LARGE_BYTES, message, terms, at).await?
                }
            }
        } else {
            let message = move |grpc: &Self| {
                let (coding, message) = grpc.only_message(body.join(), terms)?;
                coding::decompress(message, coding, grpc.settings.message_bytes_max)
            };
            self.accept_elsewhere(parts, bytes, message, terms, at).await?
        };
        self.service.answer(accepted, id, request_id).await
    }

    /// Reads a large message, of which `bytes` bytes came, without holding up this
    /// thread.
    async fn accept_elsewhere(
        self: &Arc<Self>,
        parts: Parts,
        bytes: usize,
        message: impl FnOnce(&Self) -> Result<Bytes, Error> + Send + 'static,
        terms: Terms,
        at: Instant,
    ) -> Result<Accepted<UnaryForm>, Failed> {
        let grpc = Arc::clone(self);
        let accept = move || grpc.accept(&parts.headers, message(&grpc)?, terms, at);
        self.service.read_elsewhere(bytes, at, accept).await?
    }

    /// Reads a call's message for the version that shall answer it.
    fn accept(
        &self,
        headers: &HeaderMap,
        message: Bytes,
        terms: Terms,
        at: Instant,
    ) -> Result<Accepted<UnaryForm>, Failed> {
        let read = Instant::now();
        let message = infer::message(message)?;
        let (timeout, within) = (self.limits.timeout, terms.within);
        let around = Around { headers, at, read, timeout, within };
        let writing = self.writing(terms);
        infer::accept(&self.service.router, &message, around, |id, chosen| UnaryForm {
            id: id.map(str::to_owned),
            chosen,
            writing,
        })
    }

    /// The only message of a body, and how it is compressed.
    fn only_message(&self, body: Bytes, terms: Terms) -> Result<(Option<Coding>, Bytes), Error> {
        let (compressed, bytes) = wire::only(body, self.settings.message_bytes_max)?;
        Ok((terms.coding(compressed)?, bytes))
    }

    const fn writing(&self, terms: Terms) -> Writing {
        Writing { coding: terms.reply, bytes_max: self.settings.message_bytes_max }
    }

    /// Lets another service answer. It ends when the process does.
    async fn delegate<B>(&self, service: &Foreign, request: Request<B>) -> Response<GrpcBody>
    where
        B: Body<Data = Bytes, Error: Into<BodyError>> + Send + 'static,
    {
        let answer = service(request.map(tonic::body::Body::new));
        let answer = pin!(async move { Ok::<_, Error>(answer.await) });
        match guarded(answer).await {
            Ok(reply) => {
                let stopped = Box::pin(self.drained());
                reply.map(|body| {
                    GrpcBody::streamed(Stoppable::new(body, stopped, status::trailers(&ending())))
                })
            }
            Err(error) => failure(&error),
        }
    }

    /// Done when the process is about to end.
    fn drained(&self) -> impl Future<Output = ()> + Send + 'static {
        let mut draining = self.draining.subscribe();
        // An error means that the service is gone, which is as good.
        async move { drop(draining.wait_for(|draining| *draining).await) }
    }

    /// Counts and answers a failure.
    fn refuse(&self, failed: &Failed, request_id: &HeaderValue) -> Response<GrpcBody> {
        reply::log(&failed.error, request_id);
        self.service.count(failed);
        let mut reply = failure(&failed.error);
        if let Counted::OnVersion(assignment) = &failed.counted {
            reply::sign(reply.headers_mut(), assignment);
        }
        reply
    }
}

/// The reply to what failed: headers, and no body.
fn failure(error: &Error) -> Response<GrpcBody> {
    let mut reply = head(None, GrpcBody::none());
    status::insert(reply.headers_mut(), error);
    reply
}

/// The error that ends streams when the process ends.
fn ending() -> Error {
    Error::new(ErrorCode::Unavailable, "the server is about to end; connect again")
}

/// The status of what is not gRPC.
fn misplaced(method: &Method, headers: &HeaderMap) -> Option<StatusCode> {
    if method != Method::POST {
        return Some(StatusCode::METHOD_NOT_ALLOWED);
    }
    let content_type = headers.get(CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes);
    let rest = content_type.strip_prefix(b"application/grpc");
    let rest = rest.map(|rest| rest.strip_prefix(b"+proto").unwrap_or(rest));
    match rest {
        Some([] | [b';', ..]) => None,
        _ => Some(StatusCode::UNSUPPORTED_MEDIA_TYPE),
    }
}
