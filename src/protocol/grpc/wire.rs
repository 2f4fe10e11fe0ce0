//! Messages on the wire. Five bytes stand before each: whether it is compressed,
//! and its length.

use bytes::Bytes;

use crate::error::{Error, ErrorCode, Result};
use crate::protocol::body::Pieces;

/// Bytes before a message.
pub(super) const PREFIX_BYTES: usize = 5;

/// What stands before a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Prefix {
    compressed: bool,
    len: usize,
}

impl Prefix {
    fn read(bytes: [u8; PREFIX_BYTES], bytes_max: usize) -> Result<Self> {
        let [flag, length @ ..] = bytes;
        if flag > 1 {
            return Err(Error::invalid(format!(
                "the first byte before a message tells whether it is compressed: expected 0 or \
                 1, got {flag}"
            )));
        }
        let len = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
        if len > bytes_max {
            return Err(too_large(len, bytes_max));
        }
        Ok(Self { compressed: flag == 1, len })
    }
}

fn too_large(len: usize, bytes_max: usize) -> Error {
    let message = format!("the message has {len} bytes, over the limit of {bytes_max} bytes");
    Error::new(ErrorCode::TooLarge, message)
}

/// A message, in the pieces in which it came.
#[derive(Debug, Default)]
pub(super) struct Message {
    /// Whether its bytes are compressed.
    pub(super) compressed: bool,
    /// Its bytes.
    pub(super) pieces: Pieces,
}

/// The only message of a body.
pub(super) fn only(mut body: Bytes, bytes_max: usize) -> Result<(bool, Bytes)> {
    let Some(prefix) = body.first_chunk() else {
        return Err(broken(body.len(), PREFIX_BYTES, "before a message"));
    };
    let Prefix { compressed, len } = Prefix::read(*prefix, bytes_max)?;
    let message = body.split_off(PREFIX_BYTES);
    match message.len() {
        got if got < len => Err(broken(got, len, "of the message")),
        got if got > len => Err(Error::invalid(format!(
            "{} bytes follow the message; this method takes one message",
            got - len
        ))),
        _ => Ok((compressed, message)),
    }
}

fn broken(got: usize, expected: usize, what: &str) -> Error {
    Error::invalid(format!("the body ends after {got} of the {expected} bytes {what}"))
}

/// Takes a stream apart.
#[derive(Debug)]
pub(super) struct Deframer {
    bytes_max: usize,
    head: [u8; PREFIX_BYTES],
    /// Bytes of `head` that are there.
    filled: usize,
    pieces: Pieces,
    /// What came and is not looked at yet.
    rest: Bytes,
}

impl Deframer {
    /// For messages of at most `bytes_max`.
    pub(super) fn new(bytes_max: usize) -> Self {
        let (head, pieces, rest) = ([0; PREFIX_BYTES], Pieces::default(), Bytes::new());
        Self { bytes_max, head, filled: 0, pieces, rest }
    }

    /// Takes what came next; only once [`Self::whole`] has found nothing more.
    pub(super) fn push(&mut self, data: Bytes) {
        debug_assert!(self.rest.is_empty(), "nothing may be lost");
        self.rest = data;
    }

    /// The next message that is whole.
    pub(super) fn whole(&mut self) -> Result<Option<Message>> {
        let missing = PREFIX_BYTES - self.filled;
        let more = self.rest.split_to(missing.min(self.rest.len()));
        self.head[self.filled..][..more.len()].copy_from_slice(&more);
        self.filled += more.len();
        if self.filled < PREFIX_BYTES {
            return Ok(None);
        }
        let Prefix { compressed, len } = Prefix::read(self.head, self.bytes_max)?;
        let missing = len - self.pieces.len();
        let more = self.rest.split_to(missing.min(self.rest.len()));
        if !more.is_empty() {
            self.pieces.push(more);
        }
        if self.pieces.len() < len {
            return Ok(None);
        }
        self.filled = 0;
        Ok(Some(Message { compressed, pieces: std::mem::take(&mut self.pieces) }))
    }

    /// Whether a message has begun, and is not whole.
    pub(super) const fn is_within(&self) -> bool {
        self.filled > 0
    }

    /// The error for a stream that ends here, if it must not.
    pub(super) fn end(&self) -> Result<()> {
        match self.filled {
            0 => Ok(()),
            PREFIX_BYTES => {
                let Prefix { len, .. } = Prefix::read(self.head, self.bytes_max)?;
                Err(broken(self.pieces.len(), len, "of the message"))
            }
            got => Err(broken(got, PREFIX_BYTES, "before a message")),
        }
    }
}

/// Puts the prefix in its place, at the beginning of `frame`.
pub(super) fn set_prefix(frame: &mut [u8], compressed: bool) {
    let len = u32::try_from(frame.len() - PREFIX_BYTES).unwrap_or(u32::MAX);
    frame[0] = u8::from(compressed);
    frame[1..PREFIX_BYTES].copy_from_slice(&len.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame(flag: u8, bytes: &[u8]) -> Vec<u8> {
        let length = u32::try_from(bytes.len()).unwrap().to_be_bytes();
        [&[flag][..], &length, bytes].concat()
    }

    #[test]
    fn a_body_is_one_message() {
        let whole = frame(1, b"abc");
        let got = only(Bytes::from(whole.clone()), 3).unwrap();
        assert_eq!(got, (true, Bytes::from_static(b"abc")));
        let cases = [
            (whole[..3].to_vec(), "the body ends after 3 of the 5 bytes before a message"),
            (whole[..7].to_vec(), "the body ends after 2 of the 3 bytes of the message"),
            ([&whole[..], b"x"].concat(), "1 bytes follow the message"),
            (frame(7, b"abc"), "expected 0 or 1, got 7"),
            (frame(0, b"abcd"), "the message has 4 bytes, over the limit of 3 bytes"),
            (vec![0, 255, 255, 255, 255], "the message has 4294967295 bytes, over the limit"),
            (vec![], "the body ends after 0 of the 5 bytes"),
        ];
        for (body, expected) in cases {
            let error = only(Bytes::from(body), 3).unwrap_err();
            assert!(error.message().contains(expected), "{error}");
        }
    }

    #[test]
    fn a_stream_must_not_end_within_a_message() {
        let whole = frame(0, b"abc");
        for end in 0..=whole.len() {
            let mut deframer = Deframer::new(3);
            deframer.push(Bytes::copy_from_slice(&whole[..end]));
            let got = deframer.whole().unwrap();
            assert_eq!(got.is_some(), end == whole.len());
            let between = end == 0 || end == whole.len();
            assert_eq!(deframer.end().is_ok(), between, "{end}");
            assert_eq!(deframer.is_within(), !between);
        }
        let mut deframer = Deframer::new(3);
        deframer.push(Bytes::from(frame(0, b"abcd")));
        assert_eq!(deframer.whole().unwrap_err().code(), ErrorCode::TooLarge);
    }

    proptest! {
        /// However a stream is cut, its messages are the same.
        #[test]
        fn messages_do_not_depend_on_the_pieces(
            messages in proptest::collection::vec(
                (any::<bool>(), proptest::collection::vec(any::<u8>(), 0..40)), 0..8),
            cuts in proptest::collection::vec(1_usize..20, 1..9),
        ) {
            let stream: Vec<u8> =
                messages.iter().flat_map(|(flag, bytes)| frame(u8::from(*flag), bytes)).collect();
            let (mut deframer, mut got) = (Deframer::new(40), Vec::new());
            let (mut left, mut cuts) = (&stream[..], cuts.iter().cycle());
            while !left.is_empty() {
                let (piece, rest) = left.split_at((*cuts.next().unwrap()).min(left.len()));
                left = rest;
                deframer.push(Bytes::copy_from_slice(piece));
                while let Some(message) = deframer.whole().unwrap() {
                    got.push((message.compressed, message.pieces.join().to_vec()));
                }
            }
            prop_assert!(deframer.end().is_ok());
            prop_assert_eq!(got, messages);
        }
    }
}
