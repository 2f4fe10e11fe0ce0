//! `ModelStreamInfer`: many requests, and their answers in the same order.
//!
//! The stream is the body of its reply: it works while hyper asks it for more, and
//! whoever drops it, because the client left, ends what it has begun. Requests that
//! run on engine threads run side by side, up to a limit, beyond which nothing more
//! is read and the client has to wait.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use futures_util::Stream as _;
use futures_util::stream::FuturesOrdered;
use http::{HeaderMap, HeaderValue};
use hyper::body::{Body, Frame};
use tokio::time::{Sleep, sleep, sleep_until};

use crate::error::{Error, ErrorCode, Result};
use crate::protocol::call::{Accepted, Failed};
use crate::protocol::grpc::answer::{Framed, StreamForm, UnaryForm, Writing};
use crate::protocol::grpc::body::BodyError;
use crate::protocol::grpc::coding::{self, Unpacking};
use crate::protocol::grpc::infer::{self, Around};
use crate::protocol::grpc::pb::infer_parameter::ParameterChoice;
use crate::protocol::grpc::pb::{InferParameter, ModelInferResponse, ModelStreamInferResponse};
use crate::protocol::grpc::terms::Terms;
use crate::protocol::grpc::wire::{Deframer, Message};
use crate::protocol::grpc::{Grpc, ending, pb, status};
use crate::protocol::offload::LARGE_BYTES;
use crate::protocol::{guarded, reply};

/// An answer under way: the size of its request, and its frame.
type Working = Pin<Box<dyn Future<Output = (usize, Bytes)> + Send>>;

/// A stream under way.
pub(super) struct Stream<B> {
    shared: Arc<Shared>,
    /// `None` once nothing more is read.
    body: Option<B>,
    deframer: Deframer,
    working: FuturesOrdered<Working>,
    /// Bytes of the requests at work.
    bytes: usize,
    /// How it ends.
    outcome: Result<()>,
    over: bool,
    /// An answer has been given since another task had its turn.
    answered: bool,
    drained: Pin<Box<dyn Future<Output = ()> + Send>>,
    deadline: Option<Pin<Box<Sleep>>>,
    /// When a message that has begun must be whole.
    late: Option<Pin<Box<Sleep>>>,
}

/// What the requests of a stream have in common.
struct Shared {
    grpc: Arc<Grpc>,
    headers: HeaderMap,
    /// The reply's.
    request_id: HeaderValue,
    terms: Terms,
    deadline: Option<Instant>,
}

impl<B> Stream<B> {
    pub(super) fn new(
        grpc: Arc<Grpc>,
        (headers, request_id): (HeaderMap, HeaderValue),
        terms: Terms,
        body: B,
        at: Instant,
    ) -> Self {
        let deadline = terms.within.and_then(|within| at.checked_add(within));
        let drained = Box::pin(grpc.drained());
        let deframer = Deframer::new(grpc.settings.message_bytes_max);
        Self {
            shared: Arc::new(Shared { grpc, headers, request_id, terms, deadline }),
            body: Some(body),
            deframer,
            working: FuturesOrdered::new(),
            bytes: 0,
            outcome: Ok(()),
            over: false,
            answered: false,
            drained,
            deadline: deadline.map(|deadline| Box::pin(sleep_until(deadline.into()))),
            late: None,
        }
    }

    /// Whether it must answer before it reads on.
    fn is_full(&self) -> bool {
        let settings = &self.shared.grpc.settings;
        self.working.len() >= settings.stream_requests_max.max(1)
            || self.bytes >= settings.message_bytes_max
    }

    fn begin(&mut self, message: Message) {
        let (shared, len) = (Arc::clone(&self.shared), message.pieces.len());
        self.bytes += len;
        self.working.push_back(Box::pin(async move { (len, shared.answer(message).await) }));
    }

    /// Reads nothing more; what is at work is answered.
    fn end(&mut self, outcome: Result<()>) {
        self.body = None;
        if let Err(error) = &outcome {
            self.shared.refused(error);
        }
        self.outcome = outcome;
    }

    /// The last frame.
    fn trailers(&mut self) -> Frame<Bytes> {
        self.over = true;
        Frame::trailers(match &self.outcome {
            Ok(()) => status::ok(),
            Err(error) => status::trailers(error),
        })
    }

    fn is_past_its_deadline(&mut self, context: &mut Context<'_>) -> bool {
        let deadline = self.deadline.as_mut();
        deadline.is_some_and(|deadline| deadline.as_mut().poll(context).is_ready())
    }
}

impl<B> Stream<B>
where
    B: Body<Data = Bytes, Error: std::fmt::Display> + Unpin,
{
    /// Ready when a request has begun, or the reading is over.
    fn poll_begin(&mut self, context: &mut Context<'_>) -> Poll<()> {
        loop {
            if self.is_full() {
                return Poll::Pending;
            }
            let Some(body) = &mut self.body else { return Poll::Pending };
            match self.deframer.whole() {
                Ok(Some(message)) => {
                    self.late = None;
                    self.begin(message);
                    return Poll::Ready(());
                }
                Err(error) => {
                    self.end(Err(error));
                    return Poll::Ready(());
                }
                Ok(None) => {}
            }
            match Pin::new(body).poll_frame(context) {
                Poll::Ready(Some(Ok(frame))) => {
                    // Trailers say nothing that we need.
                    if let Ok(data) = frame.into_data() {
                        self.deframer.push(data);
                    }
                }
                Poll::Ready(Some(Err(error))) => {
                    let message = "the body broke off before its end";
                    let error = Error::invalid(message).with_detail(error);
                    self.end(Err(error));
                    return Poll::Ready(());
                }
                Poll::Ready(None) => {
                    let outcome = self.deframer.end();
                    self.end(outcome);
                    return Poll::Ready(());
                }
                Poll::Pending => return self.poll_waiting(context),
            }
        }
    }

    /// Ready when it makes no sense to wait for more.
    fn poll_waiting(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if self.drained.as_mut().poll(context).is_ready() {
            self.end(Err(ending()));
            return Poll::Ready(());
        }
        if !self.deframer.is_within() {
            return Poll::Pending;
        }
        let limit = self.shared.grpc.limits.body_timeout;
        let late = self.late.get_or_insert_with(|| Box::pin(sleep(limit)));
        if late.as_mut().poll(context).is_pending() {
            return Poll::Pending;
        }
        let limit = humantime::format_duration(limit);
        let message = format!("a message did not arrive whole within {limit}");
        self.end(Err(Error::new(ErrorCode::RequestTimeout, message)));
        Poll::Ready(())
    }
}

impl<B> Body for Stream<B>
where
    B: Body<Data = Bytes, Error: std::fmt::Display> + Unpin,
{
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        if this.over {
            return Poll::Ready(None);
        }
        // The connection's task writes the last answer before there is another.
        if std::mem::take(&mut this.answered) {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        if this.is_past_its_deadline(context) {
            this.working = FuturesOrdered::new();
            let message = "the time of the stream is over";
            this.end(Err(Error::new(ErrorCode::DeadlineExceeded, message)));
            return Poll::Ready(Some(Ok(this.trailers())));
        }
        loop {
            if let Poll::Ready(Some((len, frame))) = Pin::new(&mut this.working).poll_next(context)
            {
                this.bytes -= len;
                this.answered = true;
                return Poll::Ready(Some(Ok(Frame::data(frame))));
            }
            if this.body.is_none() && this.working.is_empty() {
                return Poll::Ready(Some(Ok(this.trailers())));
            }
            if this.poll_begin(context).is_pending() {
                return Poll::Pending;
            }
        }
    }
}

impl Shared {
    /// Answers one message; a failure, a panic too, is an answer.
    async fn answer(self: Arc<Self>, message: Message) -> Bytes {
        let mut id = String::new();
        let answered = {
            let work = pin!(self.infer(message, &mut id));
            guarded(work).await
        };
        match answered {
            Ok(Framed(frame)) => frame,
            Err(failed) => self.refuse(&failed, id),
        }
    }

    async fn infer(self: &Arc<Self>, message: Message, id: &mut String) -> Result<Framed, Failed> {
        let (at, service) = (Instant::now(), &self.grpc.service);
        let coding = self.terms.coding(message.compressed)?;
        let (bytes, bytes_max) = (message.pieces.len(), self.grpc.settings.message_bytes_max);
        let accepted = if bytes <= LARGE_BYTES {
            match Unpacking::begin(message.pieces.join(), coding, bytes_max)? {
                Unpacking::Done(message) => self.accept(message, at, id)?,
                Unpacking::Begun(rest) => {
                    self.accept_elsewhere(LARGE_BYTES, move || rest.read(), at, id).await?
                }
            }
        } else {
            let message = move || coding::decompress(message.pieces.join(), coding, bytes_max);
            self.accept_elsewhere(bytes, message, at, id).await?
        };
        service.answer(accepted, service.ids.next(), &self.request_id).await
    }

    /// Reads a large message, of which `bytes` bytes came, without holding up this
    /// thread.
    async fn accept_elsewhere(
        self: &Arc<Self>,
        bytes: usize,
        message: impl FnOnce() -> Result<Bytes, Error> + Send + 'static,
        at: Instant,
        id: &mut String,
    ) -> Result<Accepted<StreamForm>, Failed> {
        let shared = Arc::clone(self);
        let accept = move || {
            let mut id = String::new();
            let accepted = message().map_err(Failed::from);
            let accepted = accepted.and_then(|message| shared.accept(message, at, &mut id));
            (accepted, id)
        };
        let accepted;
        (accepted, *id) = self.grpc.service.read_elsewhere(bytes, at, accept).await?;
        accepted
    }

    /// Reads a message for the version that shall answer it; `id` becomes its own.
    fn accept(
        &self,
        message: Bytes,
        at: Instant,
        id: &mut String,
    ) -> Result<Accepted<StreamForm>, Failed> {
        let read = Instant::now();
        let message: pb::ModelInferRequest = infer::message(message)?;
        id.clone_from(&message.id);
        let within = self.deadline.map(|deadline| deadline.saturating_duration_since(at));
        let (headers, timeout) = (&self.headers, self.grpc.limits.timeout);
        let around = Around { headers, at, read, timeout, within };
        let writing = self.grpc.writing(self.terms);
        infer::accept(&self.grpc.service.router, &message, around, |id, chosen| {
            StreamForm(UnaryForm { id: id.map(str::to_owned), chosen, writing })
        })
    }

    /// Counts a failure, and makes it an answer.
    fn refuse(&self, failed: &Failed, id: String) -> Bytes {
        let error = &failed.error;
        reply::log(error, &HeaderValue::from_str(&id).unwrap_or(UNNAMED));
        self.grpc.service.count(failed);
        let code = ParameterChoice::StringParam(error.code().as_str().to_owned());
        let code = InferParameter { parameter_choice: Some(code) };
        let message = ModelStreamInferResponse {
            error_message: error.message().to_owned(),
            infer_response: Some(ModelInferResponse {
                id,
                parameters: [("error_code".to_owned(), code)].into(),
                ..ModelInferResponse::default()
            }),
        };
        // Small, and owed whatever the limit is.
        let writing = Writing { coding: None, bytes_max: usize::MAX };
        writing.frame(&message).map(|(frame, _)| frame).unwrap_or_default()
    }

    /// Counts a failure of the stream itself.
    fn refused(&self, error: &Error) {
        reply::log(error, &UNNAMED);
        self.grpc.service.metrics.rejected(error.code());
    }
}

/// The id, for the log, of a request that has none.
const UNNAMED: HeaderValue = HeaderValue::from_static("-");
