//! Compressed messages.

use std::io::{Read, Write as _};

use flate2::bufread::GzDecoder;
use flate2::write::{GzEncoder, ZlibEncoder};
use flate2::{Compression, Decompress, FlushDecompress, Status};
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::error::{Error, ErrorCode, Result};
use crate::protocol::message::short;

/// How messages are compressed.
pub(super) const ENCODING: HeaderName = HeaderName::from_static("grpc-encoding");
/// How they may be.
pub(super) const ACCEPT_ENCODING: HeaderName = HeaderName::from_static("grpc-accept-encoding");
/// What is understood here.
pub(super) const ACCEPTED: HeaderValue = HeaderValue::from_static("identity,deflate,gzip");

/// Messages below this are never compressed: what would be saved fits the packet
/// that is sent anyway.
pub(super) const COMPRESS_BYTES_MIN: usize = 1 << 10;

/// The least work: tensors hardly shrink by more.
const LEVEL: Compression = Compression::fast();

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

/// A compression.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Coding {
    Gzip,
    /// In zlib's format.
    Deflate,
}

impl Coding {
    const ALL: [Self; 2] = [Self::Gzip, Self::Deflate];

    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Deflate => "deflate",
        }
    }

    /// That of a request's compressed messages.
    pub(super) fn of_request(headers: &HeaderMap) -> Result<Option<Self>> {
        let Some(value) = headers.get(ENCODING) else { return Ok(None) };
        let name = value.to_str().unwrap_or_default();
        let found = Self::ALL.into_iter().find(|coding| coding.as_str() == name);
        if found.is_some() || name == "identity" {
            return Ok(found);
        }
        let message = format!("{ENCODING} {:?}: expected identity, deflate or gzip", short(name));
        Err(Error::new(ErrorCode::Unsupported, message))
    }

    /// That of the replies to a request whose own is `request`.
    pub(super) fn of_reply(
        headers: &HeaderMap,
        request: Option<Self>,
        compress: Compress,
    ) -> Option<Self> {
        let accepts = |coding: &Self| {
            let values = headers.get_all(ACCEPT_ENCODING).iter().filter_map(|v| v.to_str().ok());
            values.flat_map(|list| list.split(',')).any(|name| name.trim() == coding.as_str())
        };
        match compress {
            Compress::Never => None,
            Compress::LikeRequest => request.filter(accepts),
            Compress::Accepted => Self::ALL.into_iter().find(accepts),
        }
    }

    /// Decompresses a message to at most `bytes_max`.
    pub(super) fn decompress(self, bytes: &[u8], bytes_max: usize) -> Result<Vec<u8>> {
        let (read, left) = match self {
            Self::Gzip => {
                let mut decoder = GzDecoder::new(bytes);
                (read(&mut decoder, bytes.len(), bytes_max), decoder.into_inner().len())
            }
            Self::Deflate => inflate(bytes, bytes_max),
        };
        let message = read.map_err(|error| {
            Error::invalid(format!("the message is no whole {}: {error}", self.as_str()))
        })?;
        if message.len() > bytes_max {
            return Err(Error::new(
                ErrorCode::TooLarge,
                format!("the message, decompressed, is over the limit of {bytes_max} bytes"),
            ));
        }
        match left {
            0 => Ok(message),
            left => Err(Error::invalid(format!(
                "{left} bytes follow the compressed message ({})",
                self.as_str()
            ))),
        }
    }

    /// Appends `bytes`, compressed.
    pub(super) fn compress(self, bytes: &[u8], out: Vec<u8>) -> Vec<u8> {
        let written = match self {
            Self::Gzip => {
                let mut encoder = GzEncoder::new(out, LEVEL);
                encoder.write_all(bytes).and_then(|()| encoder.finish())
            }
            Self::Deflate => {
                let mut encoder = ZlibEncoder::new(out, LEVEL);
                encoder.write_all(bytes).and_then(|()| encoder.finish())
            }
        };
        written.expect("a vector takes everything")
    }
}

/// Room for what is decompressed: a bomb must not reserve what it claims to hold.
const GROWTH_USUAL: usize = 2;
/// The least room for more.
const ROOM_BYTES_MIN: usize = 4 << 10;

/// zlib's format, to at most one byte more than `bytes_max`; and how many bytes are
/// left behind it. flate2's reader would take the end of the bytes for its end.
fn inflate(bytes: &[u8], bytes_max: usize) -> (std::io::Result<Vec<u8>>, usize) {
    let mut decompress = Decompress::new(true);
    let mut message = Vec::new();
    loop {
        if message.len() == message.capacity() {
            let most = bytes_max.saturating_add(1) - message.len();
            message.reserve_exact(message.len().max(ROOM_BYTES_MIN).min(most));
        }
        let consumed = usize::try_from(decompress.total_in()).unwrap_or(bytes.len());
        let rest = &bytes[consumed..];
        match decompress.decompress_vec(rest, &mut message, FlushDecompress::None) {
            Err(error) => return (Err(error.into()), 0),
            Ok(_) if message.len() > bytes_max => return (Ok(message), 0),
            Ok(Status::StreamEnd) => {
                let consumed = usize::try_from(decompress.total_in()).unwrap_or(bytes.len());
                return (Ok(message), bytes.len() - consumed);
            }
            Ok(_) if message.len() < message.capacity() => {
                return (Err(std::io::ErrorKind::UnexpectedEof.into()), 0);
            }
            Ok(_) => {}
        }
    }
}

fn read(from: &mut impl Read, compressed: usize, bytes_max: usize) -> std::io::Result<Vec<u8>> {
    let room = compressed.saturating_mul(GROWTH_USUAL).min(bytes_max);
    let mut message = Vec::with_capacity(room);
    let limit = u64::try_from(bytes_max).unwrap_or(u64::MAX).saturating_add(1);
    from.by_ref().take(limit).read_to_end(&mut message)?;
    Ok(message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: HeaderName, value: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(name, HeaderValue::from_static(value))])
    }

    #[test]
    fn what_is_compressed_reads_back_within_the_limit() {
        let bytes: Vec<u8> = (0..10_000_u32).flat_map(|i| (i / 7).to_le_bytes()).collect();
        for coding in Coding::ALL {
            let compressed = coding.compress(&bytes, b"12345".to_vec());
            let (head, compressed) = compressed.split_at(5);
            assert_eq!(head, b"12345");
            assert!(compressed.len() < bytes.len() / 2);
            assert_eq!(coding.decompress(compressed, bytes.len()).unwrap(), bytes);
            let larger = coding.decompress(compressed, bytes.len() - 1).map_err(|e| e.code());
            assert!(larger == Err(ErrorCode::TooLarge));
            let cut = &compressed[..compressed.len() - 1];
            let error = coding.decompress(cut, bytes.len()).unwrap_err();
            assert!(error.message().contains("is no whole"), "{error}");
            let more = [compressed, b"x"].concat();
            let error = coding.decompress(&more, bytes.len()).unwrap_err();
            assert!(error.message().contains("1 bytes follow"), "{error}");
        }
        let crossed = Coding::Gzip.decompress(&Coding::Deflate.compress(b"x", vec![]), 9);
        assert_eq!(crossed.unwrap_err().code(), ErrorCode::InvalidArgument);
    }

    #[test]
    fn a_bomb_ends_at_the_limit() {
        let bomb = Coding::Gzip.compress(&vec![0; 64 << 20], vec![]);
        assert!(bomb.len() < 1 << 20);
        let error = Coding::Gzip.decompress(&bomb, 1 << 20).unwrap_err();
        assert_eq!(
            error.message(),
            "the message, decompressed, is over the limit of 1048576 bytes"
        );
    }

    #[test]
    fn what_is_unknown_is_said() {
        let of = |value| Coding::of_request(&headers(ENCODING, value));
        assert_eq!(of("gzip").unwrap(), Some(Coding::Gzip));
        assert_eq!(of("identity").unwrap(), None);
        assert_eq!(Coding::of_request(&HeaderMap::new()).unwrap(), None);
        let error = of("br").unwrap_err();
        assert_eq!(error.code(), ErrorCode::Unsupported);
        assert_eq!(error.message(), "grpc-encoding \"br\": expected identity, deflate or gzip");
    }

    #[test]
    fn a_reply_is_compressed_for_those_who_want_it() {
        let accepts = headers(ACCEPT_ENCODING, "identity, deflate");
        let of = |request, compress| Coding::of_reply(&accepts, request, compress);
        assert_eq!(of(None, Compress::LikeRequest), None);
        assert_eq!(of(Some(Coding::Gzip), Compress::LikeRequest), None);
        let deflate = Some(Coding::Deflate);
        assert_eq!(of(deflate, Compress::LikeRequest), deflate);
        assert_eq!(of(None, Compress::Accepted), deflate);
        assert_eq!(of(deflate, Compress::Never), None);
    }
}
