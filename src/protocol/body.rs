//! Reads a request's body, within its limits.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use hyper::body::Body;

use crate::error::{Error, ErrorCode, Result};

/// Limits of one request.
#[derive(Clone, Debug, PartialEq)]
pub struct RequestLimits {
    /// The most bytes its body may have.
    pub body_bytes_max: usize,
    /// The time within which all of its body must arrive.
    pub body_timeout: Duration,
    /// The time for its answer, where it names none itself.
    pub timeout: Duration,
}

impl Default for RequestLimits {
    /// 16 MiB within 30 s, an answer within 30 s.
    fn default() -> Self {
        let timeout = Duration::from_secs(30);
        Self { body_bytes_max: 16 << 20, body_timeout: timeout, timeout }
    }
}

/// Room that is made at once for a body of announced length; more grows with
/// what really arrives.
const RESERVE_BYTES_MAX: usize = 1 << 20;

/// Reads all of `body`. One that announces too much is refused unread.
pub(super) async fn read<B>(body: B, limits: &RequestLimits) -> Result<Bytes>
where
    B: Body<Data = Bytes>,
    B::Error: std::fmt::Display,
{
    let announced = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
    if announced > limits.body_bytes_max {
        return Err(too_large(limits.body_bytes_max));
    }
    let read = collect(body, announced, limits.body_bytes_max);
    tokio::time::timeout(limits.body_timeout, read).await.unwrap_or_else(|_| {
        Err(Error::new(
            ErrorCode::RequestTimeout,
            format!(
                "the body did not arrive within {}",
                humantime::format_duration(limits.body_timeout)
            ),
        ))
    })
}

async fn collect<B>(body: B, announced: usize, bytes_max: usize) -> Result<Bytes>
where
    B: Body<Data = Bytes>,
    B::Error: std::fmt::Display,
{
    let mut body = std::pin::pin!(body);
    let mut first = Bytes::new();
    let mut rest: Option<BytesMut> = None;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| {
            Error::invalid("the body broke off before its end").with_detail(error)
        })?;
        // Trailers say nothing that we need.
        let Ok(data) = frame.into_data() else { continue };
        let so_far = rest.as_ref().map_or(first.len(), BytesMut::len);
        if so_far.saturating_add(data.len()) > bytes_max {
            return Err(too_large(bytes_max));
        }
        // Most bodies are one piece, which is then not copied at all.
        if so_far == 0 {
            first = data;
            continue;
        }
        let all = rest.get_or_insert_with(|| {
            let mut all = BytesMut::with_capacity(announced.min(RESERVE_BYTES_MAX));
            all.extend_from_slice(&std::mem::take(&mut first));
            all
        });
        all.extend_from_slice(&data);
    }
    Ok(rest.map_or(first, BytesMut::freeze))
}

fn too_large(bytes_max: usize) -> Error {
    Error::new(ErrorCode::TooLarge, format!("the body is over the limit of {bytes_max} bytes"))
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::convert::Infallible;
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use http_body_util::Full;
    use hyper::body::{Frame, SizeHint};

    use super::*;

    /// Sends pieces without saying how many; then ends, or never does.
    struct Chunked(VecDeque<&'static [u8]>, bool);

    impl Body for Chunked {
        type Data = Bytes;
        type Error = Infallible;
        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            match self.0.pop_front() {
                Some(piece) => Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(piece))))),
                None if self.1 => Poll::Ready(None),
                None => Poll::Pending,
            }
        }
        fn size_hint(&self) -> SizeHint {
            SizeHint::default()
        }
    }

    fn limits(bytes_max: usize) -> RequestLimits {
        RequestLimits {
            body_bytes_max: bytes_max,
            body_timeout: Duration::from_millis(1),
            ..RequestLimits::default()
        }
    }

    #[tokio::test]
    async fn pieces_are_joined_up_to_the_limit() {
        let pieces = || Chunked([&b"ab"[..], b"", b"cd", b"e"].into(), true);
        assert_eq!(read(pieces(), &limits(5)).await.unwrap(), "abcde");
        let error = read(pieces(), &limits(4)).await.unwrap_err();
        assert_eq!(error.code(), ErrorCode::TooLarge);
        assert_eq!(error.message(), "the body is over the limit of 4 bytes");
    }

    #[tokio::test]
    async fn one_piece_is_not_copied() {
        let body = Bytes::from(vec![b'x'; 100]);
        let got = read(Full::new(body.clone()), &limits(100)).await.unwrap();
        assert_eq!(got.as_ptr(), body.as_ptr());
        let error = read(Full::new(body), &limits(99)).await.unwrap_err();
        assert_eq!(error.code(), ErrorCode::TooLarge);
    }

    #[tokio::test]
    async fn a_body_that_does_not_end_times_out() {
        let error = read(Chunked([&b"ab"[..]].into(), false), &limits(10)).await.unwrap_err();
        assert_eq!(error.code(), ErrorCode::RequestTimeout);
        assert_eq!(error.message(), "the body did not arrive within 1ms");
    }
}
