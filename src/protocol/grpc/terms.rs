//! What a call's headers say of how it is to be carried out.

use std::time::Duration;

use http::{HeaderMap, HeaderName};

use crate::error::{Error, Result};
use crate::protocol::RequestLimits;
use crate::protocol::compression::Coding;
use crate::protocol::grpc::coding::{self, Compress};
use crate::protocol::message::short;

/// The time that the client waits.
const TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");
/// Digits of it.
const DIGITS_MAX: usize = 8;

/// How a call is to be carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Terms {
    /// How the client's messages are compressed, where they are.
    pub(super) request: Option<Coding>,
    /// How ours may be.
    pub(super) reply: Option<Coding>,
    /// The time that the client waits.
    pub(super) within: Option<Duration>,
}

impl Terms {
    pub(super) fn read(headers: &HeaderMap, compress: Compress) -> Result<Self> {
        let request = coding::of_request(headers)?;
        let reply = coding::of_reply(headers, request, compress);
        Ok(Self { request, reply, within: within(headers)? })
    }

    /// The limits of the call's body: a client that waits no longer needs no more of it.
    pub(super) fn limits(self, usual: &RequestLimits) -> RequestLimits {
        let within = self.within.unwrap_or(Duration::MAX);
        RequestLimits { body_timeout: usual.body_timeout.min(within), ..usual.clone() }
    }

    /// How a message is compressed that says whether it is.
    pub(super) fn coding(self, compressed: bool) -> Result<Option<Coding>> {
        match (compressed, self.request) {
            (true, None) => Err(Error::invalid(
                "the message is marked as compressed, but no grpc-encoding says how",
            )),
            (true, coding) => Ok(coding),
            (false, _) => Ok(None),
        }
    }
}

/// One to eight digits, and a unit.
fn within(headers: &HeaderMap) -> Result<Option<Duration>> {
    let Some(value) = headers.get(TIMEOUT) else { return Ok(None) };
    let text = value.to_str().unwrap_or_default();
    let wrong = || {
        let got = short(text);
        Error::invalid(format!(
            "{TIMEOUT}: expected up to 8 digits and one of H, M, S, m, u, n, got {got:?}"
        ))
    };
    let unit = text.bytes().next_back().ok_or_else(wrong)?;
    let digits = text.get(..text.len() - 1).ok_or_else(wrong)?;
    let plain = digits.len() <= DIGITS_MAX && digits.bytes().all(|byte| byte.is_ascii_digit());
    let number: u64 =
        Some(digits).filter(|_| plain).and_then(|d| d.parse().ok()).ok_or_else(wrong)?;
    let duration = match unit {
        b'H' => Duration::from_secs(number * 3600),
        b'M' => Duration::from_secs(number * 60),
        b'S' => Duration::from_secs(number),
        b'm' => Duration::from_millis(number),
        b'u' => Duration::from_micros(number),
        b'n' => Duration::from_nanos(number),
        _ => return Err(wrong()),
    };
    Ok(Some(duration))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn the_clients_time_is_read() {
        let of = |text: &'static str| {
            let value = HeaderValue::from_bytes(text.as_bytes()).unwrap();
            within(&HeaderMap::from_iter([(TIMEOUT, value)]))
        };
        assert_eq!(within(&HeaderMap::new()).unwrap(), None);
        for (text, millis) in
            [("0n", 0), ("5m", 5), ("99999999u", 99_999), ("2S", 2000), ("1M", 60_000)]
        {
            assert_eq!(of(text).unwrap().unwrap().as_millis(), millis, "{text}");
        }
        assert_eq!(of("99999999H").unwrap().unwrap().as_secs(), 99_999_999 * 3600);
        for text in ["", "S", "5", "5s", "-5S", "123456789S", "1.5S", "5ü", "ü"] {
            let message = of(text).unwrap_err().message().to_owned();
            assert!(message.starts_with("grpc-timeout: expected up to 8 digits"), "{message}");
        }
    }
}
