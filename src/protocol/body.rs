//! Reads a request's body, within its limits.

use std::pin::pin;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use hyper::body::Body;

use crate::error::{Error, ErrorCode, Result};
use crate::protocol::call::within;

/// Limits of one request.
#[derive(Clone, Debug, PartialEq)]
pub struct RequestLimits {
    /// The most bytes its body may have.
    pub body_bytes_max: usize,
    /// The time within which all of its body must arrive.
    pub body_timeout: Duration,
    /// The time for its answer, where it names none itself.
    pub timeout: Duration,
    /// Replies of at least so many bytes are compressed for clients that take it.
    pub compress_from: usize,
}

impl Default for RequestLimits {
    /// 16 MiB within 30 s, an answer within 30 s, compressed from 64 KiB on.
    fn default() -> Self {
        let timeout = Duration::from_secs(30);
        Self { body_bytes_max: 16 << 20, body_timeout: timeout, timeout, compress_from: 64 << 10 }
    }
}

/// Pieces from this size on are kept as they came, with the buffer that they
/// are a part of; smaller ones are gathered, lest each keeps a buffer alive.
const PIECE_BYTES_MIN: usize = 16 << 10;
/// Gathered pieces are as large as this, about.
const GATHERED_BYTES: usize = 64 << 10;
/// Bytes to read before other connections get their turn.
const TURN_BYTES: usize = 64 << 10;

/// A body as it came, in pieces: joining them is work that a large body's
/// reader does, not the thread that receives it.
#[derive(Debug, Default)]
pub(super) struct Pieces {
    first: Bytes,
    more: Vec<Bytes>,
    gathered: BytesMut,
    len: usize,
}

impl Pieces {
    /// Its length in bytes.
    pub(super) const fn len(&self) -> usize {
        self.len
    }

    /// Adds what came next.
    pub(super) fn push(&mut self, piece: Bytes) {
        let first = self.len == 0;
        self.len += piece.len();
        if first {
            // Most bodies are one piece, which is then not copied at all.
            self.first = piece;
        } else if piece.len() >= PIECE_BYTES_MIN {
            self.close();
            self.more.push(piece);
        } else {
            self.gathered.extend_from_slice(&piece);
            if self.gathered.len() >= GATHERED_BYTES {
                self.close();
            }
        }
    }

    /// Ends what is gathered.
    fn close(&mut self) {
        if !self.gathered.is_empty() {
            self.more.push(std::mem::take(&mut self.gathered).freeze());
        }
    }

    /// All of it, in one piece.
    pub(super) fn join(mut self) -> Bytes {
        self.close();
        if self.more.is_empty() {
            return self.first;
        }
        let mut all = BytesMut::with_capacity(self.len);
        for piece in std::iter::once(self.first).chain(self.more) {
            all.extend_from_slice(&piece);
        }
        all.freeze()
    }
}

/// Reads all of `body`. One that announces too much is refused unread.
pub(super) async fn read<B>(body: B, limits: &RequestLimits) -> Result<Pieces>
where
    B: Body<Data = Bytes>,
    B::Error: std::fmt::Display,
{
    let announced = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
    if announced > limits.body_bytes_max {
        return Err(too_large(limits.body_bytes_max));
    }
    // Most bodies came with their headers, and need no timer.
    let read = pin!(collect(body, limits.body_bytes_max));
    let done = within(read, || tokio::time::Instant::now() + limits.body_timeout).await;
    done.unwrap_or_else(|| {
        Err(Error::new(
            ErrorCode::RequestTimeout,
            format!(
                "the body did not arrive within {}",
                humantime::format_duration(limits.body_timeout)
            ),
        ))
    })
}

async fn collect<B>(body: B, bytes_max: usize) -> Result<Pieces>
where
    B: Body<Data = Bytes>,
    B::Error: std::fmt::Display,
{
    let mut body = pin!(body);
    let mut pieces = Pieces::default();
    let mut turn = 0;
    while !body.is_end_stream()
        && let Some(frame) = body.frame().await
    {
        let frame = frame.map_err(|error| {
            Error::invalid("the body broke off before its end").with_detail(error)
        })?;
        // Trailers say nothing that we need.
        let Ok(data) = frame.into_data() else { continue };
        if pieces.len().saturating_add(data.len()) > bytes_max {
            return Err(too_large(bytes_max));
        }
        turn += data.len();
        pieces.push(data);
        if turn >= TURN_BYTES {
            turn = 0;
            tokio::task::yield_now().await;
        }
    }
    Ok(pieces)
}

/// The error for a body over the limit.
pub(super) fn too_large(bytes_max: usize) -> Error {
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
        let all = read(pieces(), &limits(5)).await.unwrap();
        assert_eq!((all.len(), &all.join()[..]), (5, &b"abcde"[..]));
        let error = read(pieces(), &limits(4)).await.unwrap_err();
        assert_eq!(error.code(), ErrorCode::TooLarge);
        assert_eq!(error.message(), "the body is over the limit of 4 bytes");
    }

    #[tokio::test]
    async fn one_piece_is_not_copied() {
        let body = Bytes::from(vec![b'x'; 100]);
        let got = read(Full::new(body.clone()), &limits(100)).await.unwrap();
        assert_eq!(got.join().as_ptr(), body.as_ptr());
        let error = read(Full::new(body), &limits(99)).await.unwrap_err();
        assert_eq!(error.code(), ErrorCode::TooLarge);
    }

    #[test]
    fn small_pieces_are_gathered_and_large_ones_kept() {
        let mut pieces = Pieces::default();
        let mut expected = Vec::new();
        let sizes = [3, 5, PIECE_BYTES_MIN, 1, 0, 2 * PIECE_BYTES_MIN].into_iter();
        for (i, size) in sizes.chain(std::iter::repeat_n(1000, 200)).enumerate() {
            let piece = vec![u8::try_from(i % 251).unwrap(); size];
            expected.extend_from_slice(&piece);
            pieces.push(Bytes::from(piece));
        }
        assert_eq!(pieces.len(), expected.len());
        // One kept, one gathered, one kept; and 200 kB gathered.
        assert!(pieces.more.len() < 8, "{}", pieces.more.len());
        assert_eq!(pieces.join(), expected);
    }

    #[tokio::test]
    async fn a_body_that_does_not_end_times_out() {
        let error = read(Chunked([&b"ab"[..]].into(), false), &limits(10)).await.unwrap_err();
        assert_eq!(error.code(), ErrorCode::RequestTimeout);
        assert_eq!(error.message(), "the body did not arrive within 1ms");
    }
}
