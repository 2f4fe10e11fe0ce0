//! Sets of keys, and how they are kept over a restart.
//!
//! A user counts once for each kind of event in a rollout. What was counted must
//! outlive the process, or each restart would count everybody again.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Bits of a set of keys: 2^20, 128 KiB.
const KEY_BITS: u64 = 1 << 20;
/// Words of a set.
const WORDS: usize = 1 << 14;
/// How a set is written: the words that are not 0, each with its place; or all of them.
const SPARSE: u8 = 1;
const DENSE: u8 = 2;
/// Bytes of a word with its place.
const PLACED: usize = 2 + 8;

/// Which keys were there already. Two keys may share a bit: then the second one
/// is taken for the first, on either arm alike.
#[derive(Default)]
pub(super) struct KeySet(OnceLock<Box<[AtomicU64]>>);

impl KeySet {
    fn words(&self) -> &[AtomicU64] {
        self.0.get_or_init(|| (0..WORDS).map(|_| AtomicU64::new(0)).collect())
    }

    /// Adds a key; whether it was not there before.
    pub(super) fn insert(&self, key: u64) -> bool {
        // The high bits decide the arm: these are independent of them.
        let bit = key % KEY_BITS;
        let word = usize::try_from(bit / 64).ok().and_then(|at| self.words().get(at));
        let mask = 1 << (bit % 64);
        // To read is cheaper than to write, and most keys come again.
        word.is_some_and(|word| {
            word.load(Relaxed) & mask == 0 && word.fetch_or(mask, Relaxed) & mask == 0
        })
    }

    /// The share of its bits that are set, 0 to 1: so likely is a new key taken
    /// for an old one.
    #[expect(clippy::cast_precision_loss, reason = "a figure for people")]
    pub(super) fn fill(&self) -> f64 {
        let Some(words) = self.0.get() else { return 0.0 };
        let set: u32 = words.iter().map(|word| word.load(Relaxed).count_ones()).sum();
        f64::from(set) / KEY_BITS as f64
    }

    /// How many keys were taken for others, by estimate: of n keys in m bits,
    /// m·(1 − e^(−n/m)) are set (Whang, Vander-Zanden & Taylor, "A linear-time
    /// probabilistic counting algorithm", ACM TODS 15(2), 1990).
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "an estimate, from 0 to some millions"
    )]
    pub(super) fn lost(&self) -> u64 {
        let (bits, fill) = (KEY_BITS as f64, self.fill());
        // Of a full set nobody knows; with one bit free it is this.
        let free = (1.0 - fill).max(1.0 / bits);
        (bits * (-free.ln() - fill)).max(0.0) as u64
    }

    /// Forgets all of them.
    pub(super) fn clear(&self) {
        let words = self.0.get().into_iter().flatten();
        words.for_each(|word| word.store(0, Relaxed));
    }

    /// Whether it has had any.
    pub(super) fn is_used(&self) -> bool {
        self.0.get().is_some()
    }

    /// Adds itself to `to`.
    pub(super) fn write(&self, to: &mut Vec<u8>) {
        let words = self.0.get().map_or(&[][..], |words| words);
        let set: Vec<(usize, u64)> = words
            .iter()
            .map(|word| word.load(Relaxed))
            .enumerate()
            .filter(|(_, word)| *word != 0)
            .collect();
        if set.len() * PLACED >= WORDS * 8 {
            to.push(DENSE);
            words.iter().for_each(|word| to.extend(word.load(Relaxed).to_le_bytes()));
            return;
        }
        to.push(SPARSE);
        let short = |n: usize| u16::try_from(n).unwrap_or(u16::MAX).to_le_bytes();
        to.extend(short(set.len()));
        for (at, word) in set {
            to.extend(short(at));
            to.extend(word.to_le_bytes());
        }
    }

    /// Adds what was written, and takes it off `from`; `None` for what is no set.
    pub(super) fn merge(&self, from: &mut &[u8]) -> Option<()> {
        match take::<1>(from)?[0] {
            DENSE => (0..WORDS).try_for_each(|at| self.add(at, u64::from_le_bytes(take(from)?))),
            SPARSE => {
                let count = u16::from_le_bytes(take(from)?);
                (0..count).try_for_each(|_| {
                    let at = usize::from(u16::from_le_bytes(take(from)?));
                    self.add(at, u64::from_le_bytes(take(from)?))
                })
            }
            _ => None,
        }
    }

    fn add(&self, at: usize, word: u64) -> Option<()> {
        self.words().get(at)?.fetch_or(word, Relaxed);
        Some(())
    }
}

fn take<const N: usize>(from: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, rest) = from.split_first_chunk()?;
    *from = rest;
    Some(*taken)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Spread keys, as a hash makes them.
    fn key(n: u64) -> u64 {
        n.wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }

    #[test]
    fn a_key_is_new_once() {
        let set = KeySet::default();
        assert!(!set.is_used());
        assert!(set.insert(key(1)) && !set.insert(key(1)) && set.insert(key(2)));
        assert!(set.is_used() && set.fill() > 0.0);
    }

    #[test]
    fn what_was_taken_for_another_is_estimated() {
        let set = KeySet::default();
        assert_eq!(set.lost(), 0);
        let mut expected = 0_u64;
        for n in 0..300_000 {
            // All 64 bits of the number matter, as in a hash.
            let key = key(n) ^ (key(n) >> 31).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            expected += u64::from(!set.insert(key));
        }
        let lost = set.lost();
        assert!(expected > 30_000 && lost.abs_diff(expected) < expected / 20, "{lost} {expected}");
    }

    #[test]
    fn few_and_many_are_read_back_as_they_were() {
        for count in [0, 1, 1_000, 400_000] {
            let set = KeySet::default();
            (0..count).for_each(|n| {
                set.insert(key(n));
            });
            let mut written = Vec::new();
            set.write(&mut written);
            written.push(9);
            assert!(written.len() <= 2 + WORDS * 8, "{count}: {} bytes", written.len());
            let again = KeySet::default();
            assert!(again.insert(key(u64::MAX)));
            let mut rest = &written[..];
            again.merge(&mut rest).unwrap();
            assert_eq!(rest, [9], "{count}");
            assert!((0..count).all(|n| !again.insert(key(n))), "{count}");
        }
    }

    #[test]
    fn what_is_no_set_is_refused() {
        let set = KeySet::default();
        for bad in [&[][..], &[7], &[SPARSE], &[SPARSE, 1, 0, 0], &[DENSE, 1, 2, 3]] {
            assert_eq!(set.merge(&mut { bad }), None, "{bad:?}");
        }
        // A place that there is not.
        let mut beyond = vec![SPARSE, 1, 0];
        beyond.extend(u16::MAX.to_le_bytes());
        beyond.extend(1_u64.to_le_bytes());
        assert_eq!(set.merge(&mut &beyond[..]), None);
    }
}
