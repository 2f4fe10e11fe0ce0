//! Finds the positions of keys: what encoders and mappers share.

use std::collections::HashMap;
use std::hash::Hash;

use foldhash::fast::FixedState;
use tract_onnx::prelude::*;
use tract_onnx::tract_hir::internal::*;

type Map<K> = HashMap<K, u32, FixedState>;

/// Which of two equal keys counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Duplicates {
    First,
    Last,
}

/// A set of keys, each with its position in the list that they came from.
#[derive(Debug)]
pub(super) enum Lookup {
    Strings(Map<String>),
    /// Whole numbers that lie close together, from the first on.
    Range(i64, Vec<Option<u32>>),
    Ints(Map<i64>),
    /// By the bits of their double precision, −0 as 0.
    Floats(Map<u64>),
}

/// A range may have this many places for each key.
const PLACES_PER_KEY_MAX: usize = 8;

impl Lookup {
    pub(super) fn strings<'a>(
        keys: impl IntoIterator<Item = &'a str>,
        duplicates: Duplicates,
    ) -> Self {
        Self::Strings(map(keys.into_iter().map(str::to_owned), duplicates))
    }

    pub(super) fn ints(keys: &[i64], duplicates: Duplicates) -> Self {
        let map = map(keys.iter().copied(), duplicates);
        let (Some(&first), Some(&last)) = (keys.iter().min(), keys.iter().max()) else {
            return Self::Ints(map);
        };
        let span = usize::try_from(last.abs_diff(first)).ok();
        match span.filter(|&span| span < keys.len().saturating_mul(PLACES_PER_KEY_MAX)) {
            Some(span) => {
                let places = (0..=span).map(|i| map.get(&(first + i as i64)).copied());
                Self::Range(first, places.collect())
            }
            None => Self::Ints(map),
        }
    }

    /// With `nan` all NaNs are one key; else none is found.
    pub(super) fn floats(keys: &[f64], duplicates: Duplicates, nan: bool) -> Self {
        let mut map = map(keys.iter().map(|&key| bits(key)), duplicates);
        if !nan {
            map.remove(&bits(f64::NAN));
        }
        Self::Floats(map)
    }

    /// Whether the keys are strings.
    pub(super) fn is_text(&self) -> bool {
        matches!(self, Self::Strings(_))
    }

    pub(super) fn string(&self, key: &str) -> Option<usize> {
        match self {
            Self::Strings(map) => map.get(key).map(|&at| at as usize),
            _ => None,
        }
    }

    pub(super) fn int(&self, key: i64) -> Option<usize> {
        let found = match self {
            Self::Range(first, places) => {
                let place =
                    key.checked_sub(*first).and_then(|place| usize::try_from(place).ok())?;
                *places.get(place)?
            }
            Self::Ints(map) => map.get(&key).copied(),
            _ => None,
        };
        found.map(|at| at as usize)
    }

    pub(super) fn float(&self, key: f64) -> Option<usize> {
        match self {
            Self::Floats(map) => map.get(&bits(key)).map(|&at| at as usize),
            _ => None,
        }
    }

    /// Calls `each` with the position of every element of a tensor whose
    /// datatype is that of the keys.
    pub(super) fn positions(
        &self,
        input: &Tensor,
        mut each: impl FnMut(Option<usize>),
    ) -> TractResult<()> {
        let view = input.try_as_plain_ram()?;
        macro_rules! find {
            ($type:ty, $find:expr) => {
                view.as_slice::<$type>()?.iter().map($find).for_each(&mut each)
            };
        }
        match input.datum_type() {
            DatumType::String => find!(String, |key| self.string(key)),
            DatumType::Bool => find!(bool, |&key| self.int(key.into())),
            DatumType::I8 => find!(i8, |&key| self.int(key.into())),
            DatumType::I16 => find!(i16, |&key| self.int(key.into())),
            DatumType::I32 => find!(i32, |&key| self.int(key.into())),
            DatumType::I64 => find!(i64, |&key| self.int(key)),
            DatumType::U8 => find!(u8, |&key| self.int(key.into())),
            DatumType::U16 => find!(u16, |&key| self.int(key.into())),
            DatumType::U32 => find!(u32, |&key| self.int(key.into())),
            DatumType::F32 => find!(f32, |&key| self.float(key.into())),
            DatumType::F64 => find!(f64, |&key| self.float(key)),
            other => bail!("keys of {other:?} are not supported"),
        }
        Ok(())
    }
}

#[expect(clippy::cast_possible_truncation, reason = "a protobuf cannot hold 2³² keys")]
fn map<K: Hash + Eq>(keys: impl Iterator<Item = K>, duplicates: Duplicates) -> Map<K> {
    let mut map = Map::default();
    for (i, key) in keys.enumerate() {
        match duplicates {
            Duplicates::First => drop(map.entry(key).or_insert(i as u32)),
            Duplicates::Last => drop(map.insert(key, i as u32)),
        }
    }
    map
}

fn bits(x: f64) -> u64 {
    match x {
        0.0 => 0,
        x if x.is_nan() => f64::NAN.to_bits(),
        x => x.to_bits(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn close_and_distant_whole_numbers_are_found() {
        let far = [i64::MIN, 7, i64::MAX, 7];
        let close = [5, 3, 4, 5];
        for duplicates in [Duplicates::First, Duplicates::Last] {
            let last = duplicates == Duplicates::Last;
            let lookup = Lookup::ints(&far, duplicates);
            assert!(matches!(lookup, Lookup::Ints(_)));
            assert_eq!(lookup.int(7), Some(if last { 3 } else { 1 }));
            assert_eq!((lookup.int(i64::MIN), lookup.int(0)), (Some(0), None));
            let lookup = Lookup::ints(&close, duplicates);
            assert!(matches!(lookup, Lookup::Range(..)));
            assert_eq!(lookup.int(5), Some(if last { 3 } else { 0 }));
            let missing = [2, 6, i64::MIN, i64::MAX].map(|key| lookup.int(key));
            assert_eq!(missing, [None; 4]);
        }
    }

    #[test]
    fn numbers_are_compared_as_numbers() {
        let lookup = Lookup::floats(&[0.0, f64::NAN, 1.5], Duplicates::First, true);
        assert_eq!(lookup.float(-0.0), Some(0));
        assert_eq!(lookup.float(-f64::NAN), Some(1));
        assert_eq!(lookup.float(1.5_f32.into()), Some(2));
        let lookup = Lookup::floats(&[f64::NAN], Duplicates::First, false);
        assert_eq!(lookup.float(f64::NAN), None);
    }
}
