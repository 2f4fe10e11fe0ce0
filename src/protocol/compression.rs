//! Compressed bodies, messages and replies: gzip, and deflate as HTTP means it
//! (zlib's format).
//!
//! Invariants: nothing is decompressed further than its limit; what is behind its
//! end, or missing before it, is an error. Whoever calls decides on which thread.

use std::io::{ErrorKind, Read, Write as _};

use bytes::buf::Reader;
use bytes::{Buf as _, Bytes};
use flate2::Compression;
use flate2::bufread::{MultiGzDecoder, ZlibDecoder};
use flate2::write::{GzEncoder, ZlibEncoder};
use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING};
use http::{HeaderMap, HeaderValue};

use crate::error::{Error, ErrorCode, Result};

/// A way to compress.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Coding {
    Gzip,
    Deflate,
}

/// How a request's body is compressed; `None` for as it is.
///
/// # Errors
/// `UnsupportedMediaType` for any other way, and for several.
pub(super) fn of_request(headers: &HeaderMap) -> Result<Option<Coding>> {
    let Some(value) = headers.get(CONTENT_ENCODING) else { return Ok(None) };
    let one = headers.get_all(CONTENT_ENCODING).iter().nth(1).is_none();
    match value.to_str().unwrap_or_default().trim() {
        name if one && (name.eq_ignore_ascii_case("identity") || name.is_empty()) => Ok(None),
        name => Coding::named(name).filter(|_| one).map(Some).ok_or_else(|| {
            let message = format!("Content-Encoding {value:?}: expected gzip, deflate or identity");
            Error::new(ErrorCode::UnsupportedMediaType, message)
        }),
    }
}

/// How a client likes its reply compressed; `None` for as it is.
pub(super) fn of_reply(headers: &HeaderMap) -> Option<Coding> {
    let (mut gzip, mut deflate, mut identity, mut others) = (None, None, None, None);
    for value in headers.get_all(ACCEPT_ENCODING) {
        for entry in value.to_str().unwrap_or_default().split(',') {
            let (name, parameters) = entry.split_once(';').unwrap_or((entry, ""));
            let name = name.trim();
            let place = match Coding::named(name) {
                Some(Coding::Gzip) => &mut gzip,
                Some(Coding::Deflate) => &mut deflate,
                None if name.eq_ignore_ascii_case("identity") => &mut identity,
                None if name == "*" => &mut others,
                None => continue,
            };
            *place = Some(quality(parameters));
        }
    }
    let liked = |quality: Option<u16>| quality.or(others).unwrap_or(0);
    let (gzip, deflate) = (liked(gzip), liked(deflate));
    let best = gzip.max(deflate);
    // What it does not mention it takes, but likes no better than what it does.
    if best == 0 || identity.is_some_and(|identity| identity > best) {
        return None;
    }
    Some(if gzip == best { Coding::Gzip } else { Coding::Deflate })
}

/// The weight in thousandths; what is no weight counts as none, which means 1.
fn quality(parameters: &str) -> u16 {
    let weight = parameters.trim().strip_prefix(['q', 'Q']).map(str::trim_start);
    let weight = weight.and_then(|rest| rest.strip_prefix('=')).map(str::trim);
    let weight: f32 = weight.and_then(|text| text.parse().ok()).unwrap_or(1.0);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 1000")]
    let thousandths = (weight.clamp(0.0, 1.0) * 1000.0) as u16;
    thousandths
}

impl Coding {
    fn named(name: &str) -> Option<Self> {
        match name {
            name if name.eq_ignore_ascii_case("gzip") => Some(Self::Gzip),
            name if name.eq_ignore_ascii_case("x-gzip") => Some(Self::Gzip),
            name if name.eq_ignore_ascii_case("deflate") => Some(Self::Deflate),
            _ => None,
        }
    }

    /// Its word in a header.
    pub(super) const fn header(self) -> HeaderValue {
        HeaderValue::from_static(self.as_str())
    }

    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Deflate => "deflate",
        }
    }

    /// Appends `bytes` to `out`, compressed as quickly as it goes: tensors hardly
    /// shrink by more work.
    pub(super) fn compress(self, bytes: &[u8], out: Vec<u8>) -> Vec<u8> {
        let written = match self {
            Self::Gzip => {
                let mut encoder = GzEncoder::new(out, Compression::fast());
                encoder.write_all(bytes).and_then(|()| encoder.finish())
            }
            Self::Deflate => {
                let mut encoder = ZlibEncoder::new(out, Compression::fast());
                encoder.write_all(bytes).and_then(|()| encoder.finish())
            }
        };
        written.expect("a vector takes everything")
    }
}

/// What is compressed, and the header that says how; for errors.
#[derive(Clone, Copy, Debug)]
pub(super) struct Subject {
    pub(super) name: &'static str,
    pub(super) header: &'static str,
}

/// A body over HTTP.
pub(super) const BODY: Subject = Subject { name: "body", header: "Content-Encoding" };

enum Decoder {
    Gzip(MultiGzDecoder<Reader<Bytes>>),
    Deflate(ZlibDecoder<Reader<Bytes>>),
}

/// What is being decompressed, on one thread or on another.
pub(super) struct Inflating {
    subject: Subject,
    coding: Coding,
    decoder: Decoder,
    out: Vec<u8>,
    bytes_max: usize,
}

impl Inflating {
    /// Of `packed`, which may have `bytes_max` bytes when it is decompressed.
    pub(super) fn new(subject: Subject, coding: Coding, packed: Bytes, bytes_max: usize) -> Self {
        let decoder = match coding {
            Coding::Gzip => Decoder::Gzip(MultiGzDecoder::new(packed.reader())),
            Coding::Deflate => Decoder::Deflate(ZlibDecoder::new(packed.reader())),
        };
        Self { subject, coding, decoder, out: Vec::new(), bytes_max }
    }

    /// Goes on until its end, or until there are more than `bytes` bytes; whether
    /// the end was reached.
    ///
    /// # Errors
    /// `TooLarge` beyond the limit; `InvalidArgument` for what is not compressed
    /// so, breaks off, or goes on behind its end.
    pub(super) fn read_to(&mut self, bytes: usize) -> Result<bool> {
        let most = bytes.min(self.bytes_max);
        let room = most.saturating_add(1).saturating_sub(self.out.len());
        let limit = u64::try_from(room).unwrap_or(u64::MAX);
        let read = match &mut self.decoder {
            Decoder::Gzip(decoder) => decoder.take(limit).read_to_end(&mut self.out),
            Decoder::Deflate(decoder) => decoder.take(limit).read_to_end(&mut self.out),
        };
        let read = read.map_err(|error| self.wrong(&error))?;
        if read < room {
            return self.check_end().map(|()| true);
        }
        if self.out.len() > self.bytes_max {
            let (name, bytes_max) = (self.subject.name, self.bytes_max);
            let message =
                format!("the {name}, decompressed, is over the limit of {bytes_max} bytes");
            return Err(Error::new(ErrorCode::TooLarge, message));
        }
        Ok(false)
    }

    /// All of it.
    pub(super) fn read(mut self) -> Result<Bytes> {
        self.read_to(usize::MAX)?;
        Ok(self.into_bytes())
    }

    /// What there is so far.
    pub(super) fn into_bytes(self) -> Bytes {
        Bytes::from(self.out)
    }

    /// Several streams of gzip behind each other are one; of zlib they are not.
    fn check_end(&self) -> Result<()> {
        let left = match &self.decoder {
            Decoder::Gzip(_) => 0,
            Decoder::Deflate(decoder) => decoder.get_ref().get_ref().remaining(),
        };
        if left == 0 {
            return Ok(());
        }
        let (coding, name) = (self.coding.as_str(), self.subject.name);
        Err(Error::invalid(format!("{left} bytes are left behind the end of the {coding} {name}")))
    }

    fn wrong(&self, error: &std::io::Error) -> Error {
        let (coding, Subject { name, header }) = (self.coding.as_str(), self.subject);
        let format = match self.coding {
            Coding::Gzip => "",
            Coding::Deflate => " (in zlib's format, RFC 1950)",
        };
        let message = if error.kind() == ErrorKind::UnexpectedEof {
            format!("the {coding} {name} breaks off before its end")
        } else {
            format!("the {name} is not {coding}{format}, as its {header} says")
        };
        Error::invalid(message).with_detail(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOTH: [Coding; 2] = [Coding::Gzip, Coding::Deflate];

    fn headers(name: http::HeaderName, values: &[&str]) -> HeaderMap {
        values.iter().map(|v| (name.clone(), HeaderValue::from_str(v).unwrap())).collect()
    }

    fn inflate(coding: Coding, bytes: Vec<u8>, bytes_max: usize) -> Result<Bytes> {
        Inflating::new(BODY, coding, bytes.into(), bytes_max).read()
    }

    #[test]
    fn what_is_compressed_is_read_back_up_to_the_limit() {
        for coding in BOTH {
            for size in [0, 1, 1000, 300_000] {
                let bytes: Vec<u8> = (0..size).map(|i| (i % 251) as u8).collect();
                let packed = coding.compress(&bytes, vec![]);
                assert_eq!(inflate(coding, packed.clone(), size).unwrap(), bytes);
                let mut steps = Inflating::new(BODY, coding, packed.clone().into(), size);
                assert_eq!(steps.read_to(999).unwrap(), size < 1000);
                assert_eq!(steps.out.len(), size.min(1000));
                assert_eq!(steps.read().unwrap(), bytes);
                if size > 0 {
                    let error = inflate(coding, packed, size - 1).unwrap_err();
                    assert_eq!(error.code(), ErrorCode::TooLarge);
                    assert!(
                        error.message().starts_with("the body, decompressed, is over"),
                        "{error}"
                    );
                }
            }
        }
    }

    /// 64 MiB of zeros in 64 KiB: it ends at the limit, not behind it.
    #[test]
    fn a_bomb_ends_at_the_limit() {
        for coding in BOTH {
            let bomb = coding.compress(&vec![0; 64 << 20], vec![]);
            assert!(bomb.len() < 512 << 10);
            let mut inflating = Inflating::new(BODY, coding, bomb.into(), 1 << 20);
            assert_eq!(inflating.read_to(usize::MAX).unwrap_err().code(), ErrorCode::TooLarge);
            assert_eq!(inflating.out.len(), (1 << 20) + 1);
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        for coding in BOTH {
            let packed = coding.compress(&[7; 1000], vec![]);
            let message = |bytes: Vec<u8>| {
                let error = inflate(coding, bytes, 10_000).unwrap_err();
                assert_eq!(error.code(), ErrorCode::InvalidArgument);
                error.message().to_owned()
            };
            let short = [vec![], packed[..4].to_vec(), packed[..packed.len() - 1].to_vec()];
            for bytes in short {
                assert!(message(bytes).ends_with("body breaks off before its end"));
            }
            let mut damaged = packed.clone();
            let last = damaged.len() - 1;
            damaged[last] ^= 1;
            let is_not = format!("the body is not {}", coding.as_str());
            assert!(message(damaged).starts_with(&is_not));
            assert!(message(b"{\"instances\": [[1, 2]]}".to_vec()).starts_with(&is_not));
            // Whatever is said of it, it is refused.
            message([&packed[..], b"tail"].concat());
        }
        let two = Coding::Gzip.compress(b"b", Coding::Gzip.compress(b"a", vec![]));
        assert_eq!(inflate(Coding::Gzip, two, 10).unwrap(), "ab");
    }

    #[test]
    fn a_request_says_how_it_is_compressed() {
        let of = |values: &[&str]| of_request(&headers(CONTENT_ENCODING, values));
        for (values, expected) in [
            (&[][..], None),
            (&["identity"], None),
            (&["gzip"], Some(Coding::Gzip)),
            (&["X-GZIP"], Some(Coding::Gzip)),
            (&[" Deflate"], Some(Coding::Deflate)),
        ] {
            assert_eq!(of(values).unwrap(), expected, "{values:?}");
        }
        for values in [&["br"][..], &["gzip, gzip"], &["gzip", "deflate"], &["identity", "gzip"]] {
            let error = of(values).unwrap_err();
            assert_eq!(error.code(), ErrorCode::UnsupportedMediaType, "{values:?}");
            assert!(error.message().ends_with("expected gzip, deflate or identity"), "{error}");
        }
    }

    #[test]
    fn a_client_gets_what_it_likes_best() {
        let of = |values: &[&str]| of_reply(&headers(ACCEPT_ENCODING, values));
        for (values, expected) in [
            (&[][..], None),
            (&["br"], None),
            (&["gzip, deflate"], Some(Coding::Gzip)),
            (&["deflate, gzip;q=0.9"], Some(Coding::Deflate)),
            (&["gzip;q=0, deflate;q=0.1"], Some(Coding::Deflate)),
            (&["gzip;q=0"], None),
            (&["*"], Some(Coding::Gzip)),
            (&["*;q=0.5, gzip;q=0"], Some(Coding::Deflate)),
            (&["identity, gzip;q=0.5"], None),
            (&["identity;q=0.5, gzip; q = 0.6"], Some(Coding::Gzip)),
            (&["br", "GZIP"], Some(Coding::Gzip)),
            (&["gzip;q=nonsense"], Some(Coding::Gzip)),
            (&["gzip;q=NaN"], None),
        ] {
            assert_eq!(of(values), expected, "{values:?}");
        }
    }
}
