//! Ids of predictions and requests.

use std::hash::Hasher as _;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::SystemTime;

use http::HeaderValue;
use siphasher::sip128::{Hasher128 as _, SipHasher24};

use crate::types::PredictionId;

/// The longest `X-Request-Id` that is kept, in bytes.
const REQUEST_ID_BYTES_MAX: usize = 128;

/// Makes ids that are unique over processes and cannot be guessed from one
/// another: the second, in 32 bits, and a keyed hash of a counter, in 96. A client
/// that has seen some knows neither how many there are nor what its neighbours
/// got, which matters once labels are reported by them.
///
/// Ids of one time lie beside each other, so that an index of kept ones grows at
/// its end: with all bits as good as drawn each insertion met a page of its own.
pub(super) struct Ids {
    key: [u8; 16],
    next: AtomicU64,
}

impl Ids {
    /// A generator with a key of its own.
    pub(super) fn new() -> Self {
        let mut key = [0; 16];
        if let Err(error) = getrandom::fill(&mut key) {
            // Unique all the same, only not secret.
            tracing::warn!(%error, "no random bytes for the ids; using the clock");
            let since = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
            key = since.as_nanos().to_le_bytes();
        }
        Self { key, next: AtomicU64::new(1) }
    }

    /// A new id.
    pub(super) fn next(&self) -> Id {
        let mut hasher = SipHasher24::new_with_key(&self.key);
        hasher.write_u64(self.next.fetch_add(1, Relaxed));
        let mut bytes = hasher.finish128().as_u128().to_be_bytes();
        let since = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
        // What wraps in 2106 is the order, which only an index profits from.
        let [_, _, _, _, second @ ..] = since.as_secs().to_be_bytes();
        bytes[..4].copy_from_slice(&second);
        let mut digits = [0; 32];
        for (pair, byte) in digits.as_chunks_mut().0.iter_mut().zip(bytes) {
            *pair = [HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]];
        }
        Id { digits, value: PredictionId(bytes) }
    }
}

const HEX: &[u8; 16] = b"0123456789abcdef";

/// An id: 32 hex digits, and what they say, so that nobody has to read them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Id {
    digits: [u8; 32],
    value: PredictionId,
}

impl Id {
    /// As text.
    pub(super) fn as_str(&self) -> &str {
        std::str::from_utf8(&self.digits).expect("hex digits are text")
    }

    /// As it is.
    pub(super) const fn value(&self) -> PredictionId {
        self.value
    }

    /// As a header.
    pub(super) fn to_header(self) -> HeaderValue {
        HeaderValue::from_bytes(&self.digits).expect("hex digits are a valid header value")
    }

    /// The client's request id if it is sane, else this one.
    pub(super) fn unless(self, given: Option<&HeaderValue>) -> HeaderValue {
        given.filter(|id| is_sane(id)).cloned().unwrap_or_else(|| self.to_header())
    }
}

/// Short and visible, so that it can be logged and sent back.
fn is_sane(id: &HeaderValue) -> bool {
    let bytes = id.as_bytes();
    let short = !bytes.is_empty() && bytes.len() <= REQUEST_ID_BYTES_MAX;
    short && bytes.iter().all(u8::is_ascii_graphic)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_differ_and_have_32_hex_digits() {
        let (one, two) = (Ids::new(), Ids::new());
        let ids = [one.next(), one.next(), two.next()];
        for id in ids {
            assert_eq!(id.as_str().parse::<PredictionId>().unwrap(), id.value());
        }
        for id in ids.map(Id::to_header) {
            assert_eq!(id.len(), 32);
            assert!(id.as_bytes().iter().all(u8::is_ascii_hexdigit), "{id:?}");
        }
        assert!(ids[0] != ids[1] && ids[0] != ids[2]);
    }

    #[test]
    fn one_id_does_not_tell_the_next() {
        let ids = Ids::new();
        let hash = || u128::from_str_radix(&ids.next().as_str()[8..], 16).unwrap();
        let parsed: Vec<_> = (0..1000).map(|_| hash()).collect();
        let mut bits_that_change = 0;
        for pair in parsed.windows(2) {
            bits_that_change += (pair[0] ^ pair[1]).count_ones();
        }
        // Half of the 96, on average, within far more than 6 sigma of it.
        assert!((46..=50).contains(&(bits_that_change / 999)), "{bits_that_change}");
    }

    #[test]
    fn ids_of_one_time_lie_beside_each_other() {
        let now = || SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs();
        let (before, id, after) = (now(), Ids::new().next(), now());
        let second = u64::from_str_radix(&id.as_str()[..8], 16).unwrap();
        assert!((before..=after).contains(&second), "{before} {second} {after}");
    }

    #[test]
    fn a_sane_request_id_is_kept() {
        let own = Ids::new().next();
        let long = "x".repeat(REQUEST_ID_BYTES_MAX + 1);
        for (given, kept) in
            [("abc-1/2", true), (&long[1..], true), (&long, false), ("a b", false), ("", false)]
        {
            let value = HeaderValue::from_str(given).unwrap();
            assert_eq!(own.unless(Some(&value)) == value, kept, "{given:?}");
        }
        assert_eq!(own.unless(None), own.as_str());
        let foreign = HeaderValue::from_bytes(b"\xff").unwrap();
        assert_eq!(own.unless(Some(&foreign)), own.as_str());
    }
}
