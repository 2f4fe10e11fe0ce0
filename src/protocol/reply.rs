//! Replies; the one place that turns errors into them.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{ACCEPT_ENCODING, ALLOW, CONTENT_ENCODING, CONTENT_TYPE, RETRY_AFTER, VARY};
use http::{HeaderMap, HeaderName, HeaderValue, Response};
use hyper::body::{Body, Frame, SizeHint};
use serde::Serialize;

use crate::error::{Error, ErrorCode};
use crate::protocol::call::{ANOMALY, Signed};
use crate::protocol::compression::Coding;
use crate::protocol::ids::Id;
use crate::protocol::json::Writer;
use crate::protocol::offload::{Crowded, Offload};
use crate::routing::Assignment;

/// The client's id of a request, or ours.
pub(super) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// The id of an answer; labels and shadow comparisons refer to it.
const PREDICTION_ID: HeaderName = HeaderName::from_static("x-prediction-id");
/// The version that answered.
pub(super) const MODEL_VERSION: HeaderName = HeaderName::from_static("x-model-version");
/// Why that version answered: `champion`, `canary` or `pinned`.
pub(super) const MODEL_ROLE: HeaderName = HeaderName::from_static("x-model-role");
/// Length of the JSON part of a body with binary tensors, in bytes.
pub(super) const JSON_LENGTH: HeaderName =
    HeaderName::from_static("inference-header-content-length");

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const OCTETS: HeaderValue = HeaderValue::from_static("application/octet-stream");
/// A reply under way.
pub(super) type Reply = Response<Written>;

/// Bytes of a frame. A connection copies frames behind the headers, so that one
/// system call writes both: as many as this at a time.
const FRAME_BYTES: usize = 64 << 10;

/// The body of a reply: written, and sent in frames.
#[derive(Debug, Default)]
pub struct Written(Bytes);

impl Written {
    /// Bytes that are not sent yet.
    pub(super) const fn len(&self) -> usize {
        self.0.len()
    }
}

impl Body for Written {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.0.len() <= FRAME_BYTES {
            let last = std::mem::take(&mut self.0);
            return Poll::Ready((!last.is_empty()).then(|| Ok(Frame::data(last))));
        }
        Poll::Ready(Some(Ok(Frame::data(self.0.split_to(FRAME_BYTES)))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0.len() as u64)
    }
}

/// Headers that most replies have: one allocation will do.
const HEADERS_USUAL: usize = 6;

/// A successful reply of JSON.
pub(super) fn json(body: Vec<u8>) -> Reply {
    of(body, JSON)
}

/// The same, of what is kept.
pub(super) fn json_bytes(body: Bytes) -> Reply {
    of(body, JSON)
}

/// A successful reply of a value of ours as JSON.
pub(super) fn value(value: &impl Serialize) -> Reply {
    json(serde_json::to_vec(value).expect("strings and numbers always serialise"))
}

fn of(body: impl Into<Bytes>, content_type: HeaderValue) -> Reply {
    let mut reply = Response::new(Written(body.into()));
    *reply.headers_mut() = HeaderMap::with_capacity(HEADERS_USUAL);
    reply.headers_mut().insert(CONTENT_TYPE, content_type);
    reply
}

/// A successful reply of JSON and, behind it, raw tensors.
pub(super) fn mixed(body: Vec<u8>, json_length: usize) -> Reply {
    let mut reply = of(body, OCTETS);
    reply.headers_mut().insert(JSON_LENGTH, HeaderValue::from(json_length));
    reply
}

/// Compresses a reply on a thread of its own; it stays as it is where that does
/// not help, or where too much waits for those threads already.
pub(super) async fn compress(mut reply: Reply, coding: Coding, offload: &Offload) -> Reply {
    let plain = reply.body().0.clone();
    let bytes = plain.len();
    let packed =
        offload.run(bytes, Crowded::Refuse, move || coding.compress(&plain, Vec::new())).await;
    if let Ok(packed) = packed
        && packed.len() < reply.body().len()
    {
        reply.headers_mut().insert(CONTENT_ENCODING, coding.header());
        reply.headers_mut().insert(VARY, HeaderValue::from_name(ACCEPT_ENCODING));
        *reply.body_mut() = Written(Bytes::from(packed));
    }
    reply
}

/// Says who answered.
pub(super) fn sign(headers: &mut HeaderMap, assignment: &Assignment) {
    headers.insert(MODEL_VERSION, HeaderValue::from(assignment.version().id().get()));
    headers.insert(MODEL_ROLE, HeaderValue::from_static(assignment.role()));
}

impl<B> Signed for Response<B> {
    fn sign(&mut self, assignment: &Assignment, prediction_id: Id) {
        let headers = self.headers_mut();
        sign(headers, assignment);
        headers.insert(PREDICTION_ID, prediction_id.to_header());
    }

    fn tell(&mut self, oddness: HeaderValue) {
        self.headers_mut().insert(ANOMALY, oddness);
    }
}

/// The reply to what failed. Its body is `{"error":"…"}`; what only the log
/// may know goes there.
pub(super) fn failure(error: &Error, request_id: &HeaderValue) -> Reply {
    log(error, request_id);
    let mut text = Writer::new(error.message().len() + 16, false);
    text.raw("{\"error\":");
    text.string(error.message());
    text.raw("}");
    let mut reply = json(text.out);
    *reply.status_mut() = error.code().http_status();
    if let Some(seconds) = retry_seconds(error) {
        reply.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    reply
}

/// Whole seconds after which trying again may help, at least one; `None` where
/// it does not.
pub(super) fn retry_seconds(error: &Error) -> Option<u64> {
    if error.code() != ErrorCode::Unavailable {
        return None;
    }
    let wait = error.retry_after().unwrap_or_default();
    Some((wait.as_secs() + u64::from(wait.subsec_nanos() > 0)).max(1))
}

/// Names the methods that a path takes.
pub(super) fn allow(reply: &mut Reply, methods: &'static str) {
    reply.headers_mut().insert(ALLOW, HeaderValue::from_static(methods));
}

/// Our faults are errors in the log; the client's are only of interest when
/// somebody looks for them.
pub(super) fn log(error: &Error, request_id: &HeaderValue) {
    let code = error.code().as_str();
    let detail = error.detail().unwrap_or_default();
    if error.code() == ErrorCode::Internal {
        tracing::error!(code, %error, detail, ?request_id, "a request failed");
    } else {
        tracing::debug!(code, %error, detail, ?request_id, "a request was refused");
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http_body_util::BodyExt as _;

    use super::*;

    #[tokio::test]
    async fn a_body_comes_in_frames() {
        for size in [0, 1, FRAME_BYTES, FRAME_BYTES + 1, 3 * FRAME_BYTES] {
            let bytes: Vec<u8> = (0..size).map(|i| (i % 251) as u8).collect();
            let mut body = json(bytes.clone()).into_body();
            assert_eq!(body.size_hint().exact(), Some(size as u64));
            let mut got = Vec::new();
            while let Some(frame) = body.frame().await {
                let frame = frame.unwrap().into_data().unwrap();
                assert!(!frame.is_empty() && frame.len() <= FRAME_BYTES);
                got.extend_from_slice(&frame);
            }
            assert!(body.is_end_stream());
            assert_eq!(got, bytes);
        }
    }

    #[test]
    fn whoever_is_to_come_again_is_told_when() {
        let later = || Error::new(ErrorCode::Unavailable, "later");
        assert_eq!(retry_seconds(&later()), Some(1));
        for (millis, seconds) in [(0, 1), (900, 1), (2001, 3)] {
            let error = later().with_retry_after(Duration::from_millis(millis));
            assert_eq!(retry_seconds(&error), Some(seconds), "{millis}");
        }
        assert_eq!(retry_seconds(&Error::invalid("never")), None);
        let error =
            Error::new(ErrorCode::Unavailable, "later").with_retry_after(Duration::from_secs(7));
        let reply = failure(&error, &HeaderValue::from_static("1"));
        assert_eq!(reply.headers()[RETRY_AFTER], "7");
    }

    #[test]
    fn every_code_has_a_body_and_its_status() {
        for code in ErrorCode::ALL {
            let error = Error::new(code, "a \"quoted\" message").with_detail("secret");
            let reply = failure(&error, &HeaderValue::from_static("1"));
            assert_eq!(reply.status(), code.http_status());
            assert_eq!(reply.headers()[CONTENT_TYPE], "application/json");
            let retry = reply.headers().contains_key(RETRY_AFTER);
            assert_eq!(retry, code == ErrorCode::Unavailable);
            let body = format!("{:?}", reply.body());
            assert!(!body.contains("secret"), "{body}");
        }
    }
}
