//! How messages are compressed, as the headers of a call say.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::error::{Error, ErrorCode, Result};
use crate::protocol::compression::{Coding, Inflating, Subject};
use crate::protocol::message::short;
use crate::protocol::offload::{COMPRESSED_LARGE_BYTES, LARGE_BYTES};

/// How messages are compressed.
pub(super) const ENCODING: HeaderName = HeaderName::from_static("grpc-encoding");
/// How they may be.
pub(super) const ACCEPT_ENCODING: HeaderName = HeaderName::from_static("grpc-accept-encoding");
/// What is understood here.
pub(super) const ACCEPTED: HeaderValue = HeaderValue::from_static("identity,deflate,gzip");

/// Messages below this are never compressed: what would be saved fits the packet
/// that is sent anyway.
pub(super) const COMPRESS_BYTES_MIN: usize = 1 << 10;

/// A message of a call.
const MESSAGE: Subject = Subject { name: "message", header: "grpc-encoding" };

/// In the order of liking.
const ALL: [Coding; 2] = [Coding::Gzip, Coding::Deflate];

/// When replies are compressed, if they are not small.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compress {
    /// Never.
    Never,
    /// When the request names how its own messages are compressed.
    LikeRequest,
    /// Whenever the client can read it. Most clients say that they can, whether
    /// their users want it or not.
    Accepted,
}

/// That of a request's compressed messages.
pub(super) fn of_request(headers: &HeaderMap) -> Result<Option<Coding>> {
    let Some(value) = headers.get(ENCODING) else { return Ok(None) };
    let name = value.to_str().unwrap_or_default();
    let found = ALL.into_iter().find(|coding| coding.as_str() == name);
    if found.is_some() || name == "identity" {
        return Ok(found);
    }
    let message = format!("{ENCODING} {:?}: expected identity, deflate or gzip", short(name));
    Err(Error::new(ErrorCode::UnsupportedMediaType, message))
}

/// That of the replies to a request whose own is `request`.
pub(super) fn of_reply(
    headers: &HeaderMap,
    request: Option<Coding>,
    compress: Compress,
) -> Option<Coding> {
    let accepts = |coding: &Coding| {
        let values = headers.get_all(ACCEPT_ENCODING).iter().filter_map(|v| v.to_str().ok());
        values.flat_map(|list| list.split(',')).any(|name| name.trim() == coding.as_str())
    };
    match compress {
        Compress::Never => None,
        Compress::LikeRequest => request.filter(accepts),
        Compress::Accepted => ALL.into_iter().find(accepts),
    }
}

/// A message on its way back to what it was before it was compressed.
pub(super) enum Unpacking {
    /// It is there.
    Done(Bytes),
    /// The rest takes its time.
    Begun(Box<Inflating>),
}

impl Unpacking {
    /// Does what is done quickly: all of it for a message that is small, and was.
    pub(super) fn begin(message: Bytes, coding: Option<Coding>, bytes_max: usize) -> Result<Self> {
        let Some(coding) = coding else { return Ok(Self::Done(message)) };
        let small = message.len() <= COMPRESSED_LARGE_BYTES;
        let mut inflating = Inflating::new(MESSAGE, coding, message, bytes_max);
        if small && inflating.read_to(LARGE_BYTES)? {
            return Ok(Self::Done(inflating.into_bytes()));
        }
        Ok(Self::Begun(Box::new(inflating)))
    }
}

/// A message as it was before it was compressed so; at most `bytes_max`.
pub(super) fn decompress(
    message: Bytes,
    coding: Option<Coding>,
    bytes_max: usize,
) -> Result<Bytes> {
    match coding {
        Some(coding) => Inflating::new(MESSAGE, coding, message, bytes_max).read(),
        None => Ok(message),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: HeaderName, value: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(name, HeaderValue::from_static(value))])
    }

    #[test]
    fn errors_speak_of_messages() {
        let gzip = Some(Coding::Gzip);
        let error = |message: &'static [u8], bytes_max| {
            let bytes = Bytes::from_static(message);
            decompress(bytes, gzip, bytes_max).unwrap_err().message().to_owned()
        };
        assert_eq!(error(b"0123456789", 9), "the message is not gzip, as its grpc-encoding says");
        assert_eq!(error(b"", 9), "the gzip message breaks off before its end");
        let packed = Bytes::from(Coding::Gzip.compress(b"0123456789", vec![]));
        assert_eq!(decompress(packed.clone(), gzip, 10).unwrap(), "0123456789");
        assert_eq!(
            decompress(packed, gzip, 9).unwrap_err().message(),
            "the message, decompressed, is over the limit of 9 bytes"
        );
    }

    /// Else every small message of a client that compresses would wait behind the
    /// large ones of others.
    #[test]
    fn what_is_small_and_was_is_there_at_once() {
        let begin = |message: &[u8], coding: Option<Coding>| {
            let message = match coding {
                Some(coding) => coding.compress(message, Vec::new()),
                None => message.to_vec(),
            };
            match Unpacking::begin(message.into(), coding, 1 << 20).unwrap() {
                Unpacking::Done(message) => (true, message),
                Unpacking::Begun(rest) => (false, rest.read().unwrap()),
            }
        };
        let random: Vec<u8> =
            (0..20_000_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        for coding in ALL.map(Some) {
            let cases: [(&[u8], bool); 3] =
                [(b"a row", true), (&[0; LARGE_BYTES], true), (&[0; LARGE_BYTES + 1], false)];
            for (message, at_once) in cases {
                assert_eq!(begin(message, coding), (at_once, Bytes::copy_from_slice(message)));
            }
            let packed = ALL[0].compress(&random, vec![]).len();
            assert_eq!(begin(&random, coding).0, packed <= COMPRESSED_LARGE_BYTES);
        }
        assert!(begin(&random, None).0);
    }

    #[test]
    fn what_is_unknown_is_said() {
        let of = |value| of_request(&headers(ENCODING, value));
        assert_eq!(of("gzip").unwrap(), Some(Coding::Gzip));
        assert_eq!(of("identity").unwrap(), None);
        assert_eq!(of_request(&HeaderMap::new()).unwrap(), None);
        let error = of("br").unwrap_err();
        assert_eq!(error.code(), ErrorCode::UnsupportedMediaType);
        assert_eq!(error.message(), "grpc-encoding \"br\": expected identity, deflate or gzip");
    }

    #[test]
    fn a_reply_is_compressed_for_those_who_want_it() {
        let accepts = headers(ACCEPT_ENCODING, "identity, deflate");
        let of = |request, compress| of_reply(&accepts, request, compress);
        assert_eq!(of(None, Compress::LikeRequest), None);
        assert_eq!(of(Some(Coding::Gzip), Compress::LikeRequest), None);
        let deflate = Some(Coding::Deflate);
        assert_eq!(of(deflate, Compress::LikeRequest), deflate);
        assert_eq!(of(None, Compress::Accepted), deflate);
        assert_eq!(of(deflate, Compress::Never), None);
    }
}
