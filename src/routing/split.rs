//! The split: which requests the canary answers, which ones a shadow sees.
//! Pure.
//!
//! `hash(salt, key) < share`: raising a share only ever adds keys, and
//! nobody flips back and forth while the salt stays. The hash is SipHash-2-4,
//! a keyed pseudo-random function: clients cannot choose keys that gather on
//! one side without knowing the salt, and two models' splits (two salts) are
//! independent. Without a key the hash of a counter takes its place: the judge
//! assumes random assignment, and a regular pattern would resonate with
//! regular clients.

use std::fmt;
use std::hash::Hasher as _;

use serde::{Deserialize, Serialize};
use siphasher::sip::SipHasher24;

use crate::error::{Error, Result};
use crate::types::Share;

/// The secret of one split, drawn anew for each canary.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Salt([u8; 16]);

impl Salt {
    /// A salt with these bytes.
    #[must_use]
    pub const fn new(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// Its bytes, to be stored.
    #[must_use]
    pub const fn bytes(self) -> [u8; 16] {
        self.0
    }

    /// A random salt from the operating system.
    pub fn random() -> Result<Self> {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes)
            .map_err(|e| Error::internal("no random numbers from the system").with_detail(e))?;
        Ok(Self(bytes))
    }
}

impl fmt::Debug for Salt {
    /// Not shown: who knows it can choose a side.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Salt(…)")
    }
}

/// Separates the hashes of the canary's split from those of each shadow's
/// sample, which must not depend on each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Canary or champion.
    Canary,
    /// Whether the shadow with this version number gets a copy.
    Shadow(u64),
    /// Whether it runs that copy, or the champion once more.
    Again(u64),
}

/// What decides for one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key<'a> {
    /// The routing key that came with it.
    Given(&'a [u8]),
    /// The number of a request without a key.
    Counter(u64),
}

/// A point of the circle `0..2^64` for a key.
#[must_use]
pub fn point(salt: Salt, purpose: Purpose, key: Key<'_>) -> u64 {
    let mut hasher = SipHasher24::new_with_key(&salt.0);
    match purpose {
        Purpose::Canary => hasher.write_u8(0),
        Purpose::Shadow(version) => {
            hasher.write_u8(1);
            hasher.write_u64(version);
        }
        Purpose::Again(version) => {
            hasher.write_u8(2);
            hasher.write_u64(version);
        }
    }
    match key {
        Key::Given(bytes) => {
            hasher.write_u8(0);
            hasher.write(bytes);
        }
        Key::Counter(n) => {
            hasher.write_u8(1);
            hasher.write_u64(n);
        }
    }
    hasher.finish()
}

/// Whether a point lies within a share of the circle. Monotone in the share.
#[must_use]
pub const fn within(point: u64, share: Share) -> bool {
    // Exact: point / 2^64 < basis points / 10,000, in integers.
    let scaled = (point as u128) * 10_000;
    scaled < (share.basis_points() as u128) << 64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn salt(n: u8) -> Salt {
        Salt::new(std::array::from_fn(|i| {
            n.wrapping_mul(31).wrapping_add(u8::try_from(i).unwrap())
        }))
    }

    fn share(percent: f64) -> Share {
        Share::from_percent(percent).unwrap()
    }

    /// Whether a proportion of `n` draws is within 4σ of `w`.
    #[expect(clippy::cast_precision_loss)]
    fn near(hits: u64, n: u64, w: f64) -> bool {
        let n = n as f64;
        (hits as f64 / n - w).abs() <= 4.0 * (w * (1.0 - w) / n).sqrt()
    }

    #[test]
    fn the_ends_are_exact() {
        for point in [0, 1, u64::MAX / 2, u64::MAX] {
            assert!(!within(point, Share::ZERO));
            assert!(within(point, Share::ALL));
        }
        assert!(within(0, share(0.01)));
    }

    #[test]
    fn shares_are_met_and_monotone_for_a_million_keys_and_20_salts() {
        const KEYS: u64 = 1_000_000;
        let shares = [1.0, 5.0, 25.0, 50.0].map(share);
        for s in 0..20 {
            let mut hits = [0_u64; 4];
            for i in 0..KEYS {
                let key = i.to_le_bytes();
                let point = point(salt(s), Purpose::Canary, Key::Given(&key));
                let inside = shares.map(|w| within(point, w));
                assert!(inside.is_sorted(), "key {i} leaves the canary as the weight rises");
                for (n, inside) in hits.iter_mut().zip(inside) {
                    *n += u64::from(inside);
                }
            }
            for (hits, w) in hits.into_iter().zip(shares) {
                assert!(near(hits, KEYS, w.fraction()), "salt {s}, {w}: {hits}");
            }
        }
    }

    #[test]
    fn a_counter_is_split_as_well_and_without_a_pattern() {
        const N: u64 = 200_000;
        let quarter = share(25.0);
        let inside = |i| within(point(salt(3), Purpose::Canary, Key::Counter(i)), quarter);
        assert!(near((0..N).filter(|&i| inside(i)).count() as u64, N, 0.25));
        // A client that calls every fourth time must not always meet the canary.
        for phase in 0..4 {
            let hits = (0..N / 4).filter(|&i| inside(4 * i + phase)).count() as u64;
            assert!(near(hits, N / 4, 0.25), "phase {phase}: {hits}");
        }
    }

    #[test]
    fn two_salts_and_two_purposes_are_independent() {
        const N: u64 = 400_000;
        let (a, b) = (share(50.0), share(5.0));
        let pairs: [[(Salt, Purpose); 2]; 3] = [
            [(salt(1), Purpose::Canary), (salt(2), Purpose::Canary)],
            [(salt(1), Purpose::Canary), (salt(1), Purpose::Shadow(2))],
            [(salt(1), Purpose::Shadow(2)), (salt(1), Purpose::Shadow(3))],
        ];
        for [x, y] in pairs {
            let both = (0..N).filter(|i| {
                let key = i.to_le_bytes();
                let hit = |(s, p), w| within(point(s, p, Key::Given(&key)), w);
                hit(x, a) && hit(y, b)
            });
            assert!(near(both.count() as u64, N, 0.5 * 0.05), "{x:?} {y:?}");
        }
    }

    #[test]
    fn the_hash_is_pinned() {
        // A change here would move users between canary and champion on upgrade.
        let got = point(Salt::new(*b"0123456789abcdef"), Purpose::Canary, Key::Given(b"user-1"));
        assert_eq!(got, 3_544_742_184_901_458_424);
    }
}
