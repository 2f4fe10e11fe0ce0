//! Answers as messages.

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Response};
use prost::Message;

use crate::error::{Error, ErrorCode, Result};
use crate::protocol::call::{Answered, Form, Signed};
use crate::protocol::compression::Coding;
use crate::protocol::grpc::body::GrpcBody;
use crate::protocol::grpc::coding::{COMPRESS_BYTES_MIN, ENCODING};
use crate::protocol::grpc::encode::Encoding;
use crate::protocol::grpc::wire::{PREFIX_BYTES, set_prefix};
use crate::protocol::ids::Id;
use crate::protocol::offload::LARGE_BYTES;
use crate::protocol::v2::Chosen;
use crate::routing::Assignment;

pub(super) const GRPC: HeaderValue = HeaderValue::from_static("application/grpc");

/// Headers that most replies have: one allocation will do.
const HEADERS_USUAL: usize = 6;

/// How messages are written.
#[derive(Clone, Copy)]
pub(super) struct Writing {
    /// How they may be compressed.
    pub(super) coding: Option<Coding>,
    /// The most bytes that one may have.
    pub(super) bytes_max: usize,
}

impl Writing {
    /// Whether writing so many bytes takes so long that it is done elsewhere.
    fn is_large(self, bytes: usize) -> bool {
        bytes > LARGE_BYTES || self.coding.is_some() && bytes >= COMPRESS_BYTES_MIN
    }

    /// A message with its prefix; and whether it is compressed.
    pub(super) fn frame(self, message: &impl Message) -> Result<(Bytes, bool)> {
        self.write(message.encoded_len(), |frame| {
            message.encode(frame).expect("a vector takes everything");
        })
    }

    /// The same for a message of `len` bytes that `write` appends.
    fn write(self, len: usize, write: impl FnOnce(&mut Vec<u8>)) -> Result<(Bytes, bool)> {
        if len > self.bytes_max {
            let bytes_max = self.bytes_max;
            let message = format!("the reply has {len} bytes, over the limit of {bytes_max} bytes");
            return Err(Error::new(ErrorCode::TooLarge, message));
        }
        let mut frame = Vec::with_capacity(PREFIX_BYTES + len);
        frame.extend([0; PREFIX_BYTES]);
        write(&mut frame);
        if let Some(coding) = self.coding.filter(|_| len >= COMPRESS_BYTES_MIN) {
            let mut compressed = coding.compress(&frame[PREFIX_BYTES..], vec![0; PREFIX_BYTES]);
            if compressed.len() < frame.len() {
                set_prefix(&mut compressed, true);
                return Ok((compressed.into(), true));
            }
        }
        set_prefix(&mut frame, false);
        Ok((frame.into(), false))
    }

    /// A reply of one message.
    pub(super) fn reply(self, message: &impl Message) -> Result<Response<GrpcBody>> {
        self.frame(message).map(|frame| self.unary(frame))
    }

    fn unary(self, (frame, compressed): (Bytes, bool)) -> Response<GrpcBody> {
        head(self.coding.filter(|_| compressed), GrpcBody::message(frame))
    }
}

/// A reply whose messages may be compressed.
pub(super) fn head(coding: Option<Coding>, body: GrpcBody) -> Response<GrpcBody> {
    let mut reply = Response::new(body);
    let headers = reply.headers_mut();
    *headers = HeaderMap::with_capacity(HEADERS_USUAL);
    headers.insert(CONTENT_TYPE, GRPC);
    if let Some(coding) = coding {
        headers.insert(ENCODING, coding.header());
    }
    reply
}

/// The answer to the only message of a call.
pub(super) struct UnaryForm {
    pub(super) id: Option<String>,
    pub(super) chosen: Vec<Chosen>,
    pub(super) writing: Writing,
}

impl Form for UnaryForm {
    type Reply = Response<GrpcBody>;

    fn encode(&self, answered: &Answered<'_>) -> Result<Self::Reply> {
        let encoding = Encoding::new(answered, self.id.as_deref(), &self.chosen)?;
        let frame = self.writing.write(encoding.len(), |frame| encoding.append(frame));
        frame.map(|frame| self.writing.unary(frame))
    }

    fn is_large(&self, output_bytes: usize) -> bool {
        self.writing.is_large(output_bytes)
    }
}

/// The answer to one message of a stream.
pub(super) struct StreamForm(pub(super) UnaryForm);

/// A message of a stream, with its prefix. What a unary reply has in headers
/// stands in the message's parameters.
pub(super) struct Framed(pub(super) Bytes);

impl Signed for Framed {
    fn sign(&mut self, _: &Assignment, _: Id) {}

    fn tell(&mut self, _: HeaderValue) {}
}

impl Form for StreamForm {
    type Reply = Framed;

    fn encode(&self, answered: &Answered<'_>) -> Result<Framed> {
        let UnaryForm { id, chosen, writing } = &self.0;
        let encoding = Encoding::new(answered, id.as_deref(), chosen)?;
        let frame = writing.write(encoding.len_within(), |frame| encoding.append_within(frame));
        frame.map(|(frame, _)| Framed(frame))
    }

    fn is_large(&self, output_bytes: usize) -> bool {
        self.0.is_large(output_bytes)
    }
}
