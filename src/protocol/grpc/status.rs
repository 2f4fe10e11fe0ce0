//! Errors as gRPC has them: a code and a message, in the headers of a reply without
//! a body or behind its last message.

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::error::{Error, ErrorCode};
use crate::protocol::grpc::coding::{ACCEPT_ENCODING, ACCEPTED};
use crate::protocol::reply::retry_seconds;

/// The outcome.
const STATUS: HeaderName = HeaderName::from_static("grpc-status");
/// What went wrong.
const MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
/// After which time a client that retries by itself may do so, in milliseconds.
const PUSHBACK: HeaderName = HeaderName::from_static("grpc-retry-pushback-ms");

/// Bytes of a message: what stands in headers is limited by the clients.
const MESSAGE_BYTES_MAX: usize = 1 << 10;

/// Says that all is well.
pub(super) fn ok() -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(1);
    headers.insert(STATUS, HeaderValue::from_static("0"));
    headers
}

/// Says what failed.
pub(super) fn insert(headers: &mut HeaderMap, error: &Error) {
    headers.insert(STATUS, HeaderValue::from(error.code().grpc_code() as i32));
    headers.insert(MESSAGE, escaped(error.message()));
    if let Some(seconds) = retry_seconds(error) {
        headers.insert(PUSHBACK, HeaderValue::from(seconds.saturating_mul(1000)));
    }
    if error.code() == ErrorCode::UnsupportedMediaType {
        // Of use to whoever compressed in another way.
        headers.insert(ACCEPT_ENCODING, ACCEPTED);
    }
}

/// Says behind the last message what failed.
pub(super) fn trailers(error: &Error) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(2);
    insert(&mut headers, error);
    headers
}

/// A message as a header has it: bytes that are not printable ASCII as `%` and two
/// digits. A long one is cut.
fn escaped(text: &str) -> HeaderValue {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    let text = &text[..text.floor_char_boundary(MESSAGE_BYTES_MAX)];
    let mut out = Vec::with_capacity(text.len() + 16);
    for byte in text.bytes() {
        match byte {
            b' '..=b'~' if byte != b'%' => out.push(byte),
            _ => out.extend([b'%', HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]),
        }
    }
    HeaderValue::from_bytes(&out).expect("printable ASCII is a valid header value")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_message_is_escaped_and_cut() {
        assert_eq!(escaped("input \"x\": 5 %\n"), "input \"x\": 5 %25%0A");
        assert_eq!(escaped("ü"), "%C3%BC");
        let long = format!("x{}", "ü".repeat(MESSAGE_BYTES_MAX));
        assert_eq!(escaped(&long).len(), 1 + 6 * ((MESSAGE_BYTES_MAX - 1) / 2));
    }

    #[test]
    fn every_code_has_its_status() {
        for code in ErrorCode::ALL {
            let error = Error::new(code, "why").with_detail("secret");
            let headers = trailers(&error);
            assert_eq!(headers[STATUS], (code.grpc_code() as i32).to_string());
            assert_ne!(headers[STATUS], "0");
            assert_eq!(headers[MESSAGE], "why");
            assert_eq!(headers.contains_key(PUSHBACK), code == ErrorCode::Unavailable);
        }
        let later = Error::new(ErrorCode::Unavailable, "later");
        let headers = trailers(&later.with_retry_after(Duration::from_millis(1500)));
        assert_eq!(headers[PUSHBACK], "2000");
    }
}
