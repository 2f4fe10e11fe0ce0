//! Bodies of replies: messages, and then how it went.

use std::error::Error as StdError;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::HeaderMap;
use hyper::body::{Body, Frame};

use crate::protocol::grpc::status;

/// What may go wrong while a body is sent; a body of ours has no such thing.
pub(super) type BodyError = Box<dyn StdError + Send + Sync>;

/// A body that says itself how it went.
pub(super) type Streamed = Pin<Box<dyn Body<Data = Bytes, Error = BodyError> + Send>>;

/// The body of a reply over gRPC.
pub struct GrpcBody(Kind);

enum Kind {
    /// Nothing more: the headers, or the trailers, have said all.
    Done,
    /// One message, and then that all is well.
    Message(Bytes),
    /// All is well.
    Well,
    Streamed(Streamed),
}

impl GrpcBody {
    /// No message: the headers say how it went.
    pub(super) const fn none() -> Self {
        Self(Kind::Done)
    }

    /// One message, with its prefix; all went well.
    pub(super) const fn message(frame: Bytes) -> Self {
        Self(Kind::Message(frame))
    }

    /// Many messages.
    pub(super) fn streamed(
        body: impl Body<Data = Bytes, Error = BodyError> + Send + 'static,
    ) -> Self {
        Self(Kind::Streamed(Box::pin(body)))
    }
}

impl Body for GrpcBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Kind::Streamed(body) = &mut self.0 {
            return body.as_mut().poll_frame(context);
        }
        let (frame, next) = match std::mem::replace(&mut self.0, Kind::Done) {
            Kind::Message(frame) => (Some(Frame::data(frame)), Kind::Well),
            Kind::Well => (Some(Frame::trailers(status::ok())), Kind::Done),
            Kind::Done | Kind::Streamed(_) => (None, Kind::Done),
        };
        self.0 = next;
        Poll::Ready(frame.map(Ok))
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Kind::Done => true,
            Kind::Message(_) | Kind::Well => false,
            // An error of theirs is headers alone. An empty frame of data behind
            // them would make it a reply without a status.
            Kind::Streamed(body) => body.is_end_stream(),
        }
    }
}

/// A body that ends early, once `stopped` is done and it has nothing to send.
pub(super) struct Stoppable<B, S> {
    body: B,
    stopped: S,
    trailers: HeaderMap,
    over: bool,
}

impl<B, S> Stoppable<B, S> {
    /// `trailers` are sent when it ends early.
    pub(super) const fn new(body: B, stopped: S, trailers: HeaderMap) -> Self {
        Self { body, stopped, trailers, over: false }
    }
}

impl<B, S> Body for Stoppable<B, S>
where
    B: Body<Data = Bytes, Error: Into<BodyError>> + Unpin,
    S: Future<Output = ()> + Unpin,
{
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if self.over {
            return Poll::Ready(None);
        }
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(context) {
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        if Pin::new(&mut self.stopped).poll(context).is_pending() {
            return Poll::Pending;
        }
        self.over = true;
        Poll::Ready(Some(Ok(Frame::trailers(std::mem::take(&mut self.trailers)))))
    }

    fn is_end_stream(&self) -> bool {
        self.over || self.body.is_end_stream()
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::{BodyExt as _, Empty};
    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn a_message_is_followed_by_its_status() {
        let mut body = GrpcBody::message(Bytes::from_static(b"abc"));
        assert!(!body.is_end_stream());
        assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "abc");
        assert!(!body.is_end_stream());
        let trailers = body.frame().await.unwrap().unwrap().into_trailers().unwrap();
        assert_eq!(trailers["grpc-status"], "0");
        assert!(body.is_end_stream() && body.frame().await.is_none());
        assert!(GrpcBody::none().is_end_stream());
        let nothing = Empty::<Bytes>::new().map_err(|never| match never {});
        assert!(GrpcBody::streamed(nothing).is_end_stream());
    }

    #[tokio::test]
    async fn a_body_that_waits_can_be_stopped() {
        struct Waits;
        impl Body for Waits {
            type Data = Bytes;
            type Error = BodyError;
            fn poll_frame(
                self: Pin<&mut Self>,
                _: &mut Context<'_>,
            ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
                Poll::Pending
            }
        }
        let (stop, stopped) = oneshot::channel::<()>();
        let stopped = Box::pin(async { drop(stopped.await) });
        let mut body = Stoppable::new(Waits, stopped, status::ok());
        stop.send(()).unwrap();
        assert!(body.frame().await.unwrap().unwrap().is_trailers());
        assert!(body.is_end_stream() && body.frame().await.is_none());
        // Who has nothing more to say is not asked.
        let never = Box::pin(std::future::pending());
        let mut body = Stoppable::new(Empty::<Bytes>::new(), never, status::ok());
        assert!(body.frame().await.is_none());
    }
}
