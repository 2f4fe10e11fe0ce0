//! Ids of predictions and requests.

use std::fmt::Write as _;
use std::hash::Hasher as _;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use http::HeaderValue;
use siphasher::sip128::{Hasher128 as _, SipHasher24};

/// The longest `X-Request-Id` that is kept, in bytes.
const REQUEST_ID_BYTES_MAX: usize = 128;

/// Makes ids that are unique over processes and cannot be guessed from one
/// another: a keyed hash of a counter, 128 bits wide. A client that has seen
/// some knows neither how many there are nor what its neighbours got, which
/// matters once labels are reported by them.
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
            let since = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
            key = since.as_nanos().to_le_bytes();
        }
        Self { key, next: AtomicU64::new(1) }
    }

    /// A new id: 32 hex digits.
    pub(super) fn next(&self) -> String {
        let mut hasher = SipHasher24::new_with_key(&self.key);
        hasher.write_u64(self.next.fetch_add(1, Relaxed));
        let hash = hasher.finish128().as_u128();
        let mut id = String::with_capacity(32);
        // Writing into a string cannot fail.
        let _ = write!(id, "{hash:032x}");
        id
    }

    /// The client's request id if it is sane, else a new one.
    pub(super) fn request_id(&self, given: Option<&HeaderValue>) -> HeaderValue {
        if let Some(given) = given.filter(|id| is_sane(id)) {
            return given.clone();
        }
        HeaderValue::try_from(self.next()).expect("hex digits are a valid header value")
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
        for id in &ids {
            assert_eq!(id.len(), 32);
            assert!(id.bytes().all(|b| b.is_ascii_hexdigit()), "{id}");
        }
        assert!(ids[0] != ids[1] && ids[0] != ids[2]);
    }

    #[test]
    fn one_id_does_not_tell_the_next() {
        let ids = Ids::new();
        let parsed: Vec<_> =
            (0..1000).map(|_| u128::from_str_radix(&ids.next(), 16).unwrap()).collect();
        let mut bits_that_change = 0;
        for pair in parsed.windows(2) {
            bits_that_change += (pair[0] ^ pair[1]).count_ones();
        }
        // Half of the 128, on average, within far more than 6 sigma of it.
        assert!((62..=66).contains(&(bits_that_change / 999)), "{bits_that_change}");
    }

    #[test]
    fn a_sane_request_id_is_kept() {
        let ids = Ids::new();
        let long = "x".repeat(REQUEST_ID_BYTES_MAX + 1);
        for (given, kept) in
            [("abc-1/2", true), (&long[1..], true), (&long, false), ("a b", false), ("", false)]
        {
            let value = HeaderValue::from_str(given).unwrap();
            assert_eq!(ids.request_id(Some(&value)) == value, kept, "{given:?}");
        }
        assert_eq!(ids.request_id(None).len(), 32);
        let foreign = HeaderValue::from_bytes(b"\xff").unwrap();
        assert_ne!(ids.request_id(Some(&foreign)), foreign);
    }
}
