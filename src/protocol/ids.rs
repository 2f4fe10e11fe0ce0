//! Ids of predictions and requests.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use http::HeaderValue;

/// The longest `X-Request-Id` that is kept, in bytes.
const REQUEST_ID_BYTES_MAX: usize = 128;

/// Makes ids that are unique over processes: a random prefix and a counter.
pub(super) struct Ids {
    prefix: u64,
    next: AtomicU64,
}

impl Ids {
    /// A generator with a prefix of its own.
    pub(super) fn new() -> Self {
        let mut bytes = [0; 8];
        if let Err(error) = getrandom::fill(&mut bytes) {
            // Ids are no secrets: the clock is a good enough stand-in.
            tracing::warn!(%error, "no random bytes for the ids; using the clock");
            let since = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
            bytes.copy_from_slice(&since.as_nanos().to_le_bytes()[..8]);
        }
        Self { prefix: u64::from_le_bytes(bytes), next: AtomicU64::new(1) }
    }

    /// A new id: 32 hex digits.
    pub(super) fn next(&self) -> String {
        let mut id = String::with_capacity(32);
        // Writing into a string cannot fail.
        let _ = write!(id, "{:016x}{:016x}", self.prefix, self.next.fetch_add(1, Relaxed));
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
