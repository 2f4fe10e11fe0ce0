//! Inputs that a model might really get: drawn at random, the same on every
//! run, from the golden cases' rows where there are any.

use half::f16;

use crate::serving::LoadedVersion;
use crate::types::{Data, Dim, Signature, Tensor, TensorSpec, element_count};

/// Elements of one input.
pub(super) const ELEMENTS_MAX: usize = 1 << 22;

/// How bold the values are. What a model takes is not known, and it may
/// refuse some: an index beyond its table, an unknown word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Boldness {
    /// Numbers of several magnitudes, small integers, a few words.
    Varied,
    /// Zeros and ones, and what lies between.
    Small,
    /// Zeros, which warm-up has shown to run.
    Zeros,
}

impl Boldness {
    /// The boldest first.
    pub(super) const ALL: [Self; 3] = [Self::Varied, Self::Small, Self::Zeros];

    /// The size of dimensions that may vary, the first one apart, where
    /// `taken` is one that the model takes.
    fn dim(self, taken: usize) -> usize {
        match self {
            Self::Varied => taken.max(4),
            Self::Small | Self::Zeros => taken,
        }
    }
}

/// Words for string inputs, those first that many models know.
const WORDS: [&str; 8] = ["a", "b", "yes", "no", "0", "1", "", "other"];

/// What inputs are drawn for.
pub(super) struct Source<'a> {
    pub(super) signature: &'a Signature,
    /// A size that the model takes for what varies beside the rows.
    pub(super) other_dims: usize,
    /// Inputs that fit the signature.
    pub(super) samples: &'a [Vec<Tensor>],
}

impl<'a> Source<'a> {
    pub(super) fn of(version: &'a LoadedVersion, samples: &'a [Vec<Tensor>]) -> Self {
        Self { signature: version.signature(), other_dims: version.other_dims(), samples }
    }
}

/// `rows` rows for every input.
pub(super) fn draw(
    source: &Source<'_>,
    rows: usize,
    boldness: Boldness,
) -> Result<Vec<Tensor>, String> {
    let mut numbers = Numbers(20_261_124);
    let dim = boldness.dim(source.other_dims);
    let one = |(i, spec): (usize, &TensorSpec)| {
        let known: Vec<_> = source.samples.iter().filter_map(|tensors| tensors.get(i)).collect();
        let shape = shape(spec, known.first().copied(), rows, dim);
        tensor(spec, &known, shape, boldness, &mut numbers)
    };
    source.signature.inputs.iter().enumerate().map(one).collect()
}

fn tensor(
    spec: &TensorSpec,
    samples: &[&Tensor],
    shape: Vec<usize>,
    boldness: Boldness,
    numbers: &mut Numbers,
) -> Result<Tensor, String> {
    let len = element_count(&shape).filter(|len| *len <= ELEMENTS_MAX).ok_or_else(|| {
        format!("input {:?} would have more than {ELEMENTS_MAX} elements", spec.name)
    })?;
    let width = shape.iter().skip(1).product::<usize>().max(1);
    let fits = |sample: &&&Tensor| sample.shape().get(1..) == shape.get(1..);
    let samples: Vec<_> = samples.iter().filter(fits).copied().collect();
    let mut data = Data::with_capacity(spec.datatype, len);
    for i in 0..len {
        let known = known(&samples, i % width, width, numbers);
        // Now and then something that no sample has.
        let known = known.filter(|_| boldness != Boldness::Varied || numbers.below(8) > 0);
        match known {
            Some((a, b)) if boldness != Boldness::Zeros => between(&mut data, a, b, numbers),
            _ => fresh(&mut data, boldness, numbers),
        }
    }
    Tensor::new(&spec.name, shape, data).map_err(|error| error.message().to_owned())
}

/// Sizes of the dimensions: those of the sample where they may vary.
fn shape(spec: &TensorSpec, sample: Option<&Tensor>, rows: usize, other: usize) -> Vec<usize> {
    let sampled = |axis: usize| sample.and_then(|sample| sample.shape().get(axis)).copied();
    let size = |(axis, dim): (usize, &Dim)| match dim {
        Dim::Fixed(size) => *size,
        Dim::Symbol(_) | Dim::Any if axis == 0 => rows,
        Dim::Symbol(_) | Dim::Any => sampled(axis).unwrap_or(other),
    };
    spec.shape.iter().enumerate().map(size).collect()
}

/// An element of a sample and its place in it.
type Known<'a> = (&'a Data, usize);

/// Two elements that stand in this column of some sample's rows.
fn known<'a>(
    samples: &[&'a Tensor],
    column: usize,
    width: usize,
    numbers: &mut Numbers,
) -> Option<(Known<'a>, Known<'a>)> {
    let mut pick = || {
        let sample = samples.get(numbers.below(samples.len()))?;
        let rows = sample.data().len() / width;
        (rows > 0).then(|| (sample.data(), numbers.below(rows) * width + column))
    };
    Some((pick()?, pick()?))
}

/// Appends one of two known elements; for floats that differ, now and then
/// what lies between them.
fn between(data: &mut Data, a: Known<'_>, b: Known<'_>, numbers: &mut Numbers) {
    let inner = numbers.below(2) == 0;
    let part = numbers.unit();
    let mid = |a: f64, b: f64| if inner { a + (b - a) * part } else { a };
    match (data, a, b) {
        (Data::Fp16(to), (Data::Fp16(a), i), (Data::Fp16(b), j)) => {
            to.push(f16::from_f64(mid(a[i].to_f64(), b[j].to_f64())));
        }
        #[expect(clippy::cast_possible_truncation, reason = "FP32 is what the model takes")]
        (Data::Fp32(to), (Data::Fp32(a), i), (Data::Fp32(b), j)) => {
            to.push(mid(a[i].into(), b[j].into()) as f32);
        }
        (Data::Fp64(to), (Data::Fp64(a), i), (Data::Fp64(b), j)) => to.push(mid(a[i], b[j])),
        (to, (from, i), _) => copy(to, from, i),
    }
}

/// Appends element `i` of a buffer of the same datatype.
fn copy(to: &mut Data, from: &Data, i: usize) {
    match (to, from) {
        (Data::Bool(to), Data::Bool(from)) => to.push(from[i]),
        (Data::Uint8(to), Data::Uint8(from)) => to.push(from[i]),
        (Data::Uint16(to), Data::Uint16(from)) => to.push(from[i]),
        (Data::Uint32(to), Data::Uint32(from)) => to.push(from[i]),
        (Data::Uint64(to), Data::Uint64(from)) => to.push(from[i]),
        (Data::Int8(to), Data::Int8(from)) => to.push(from[i]),
        (Data::Int16(to), Data::Int16(from)) => to.push(from[i]),
        (Data::Int32(to), Data::Int32(from)) => to.push(from[i]),
        (Data::Int64(to), Data::Int64(from)) => to.push(from[i]),
        (Data::Bytes(to), Data::Bytes(from)) => to.push(from[i].clone()),
        // Samples were checked against the signature: floats are handled above.
        (to, _) => fresh(to, Boldness::Zeros, &mut Numbers(0)),
    }
}

/// Appends a value that no sample has.
fn fresh(data: &mut Data, boldness: Boldness, numbers: &mut Numbers) {
    let (integer_end, word_end) = match boldness {
        Boldness::Varied => (10, WORDS.len()),
        Boldness::Small => (2, 2),
        Boldness::Zeros => (1, 0),
    };
    let float = float(boldness, numbers);
    let integer = u8::try_from(numbers.below(integer_end)).unwrap_or(0);
    match data {
        Data::Bool(v) => v.push(integer % 2 == 1),
        Data::Uint8(v) => v.push(integer),
        Data::Uint16(v) => v.push(integer.into()),
        Data::Uint32(v) => v.push(integer.into()),
        Data::Uint64(v) => v.push(integer.into()),
        Data::Int8(v) => v.push(i8::try_from(integer).unwrap_or(0)),
        Data::Int16(v) => v.push(integer.into()),
        Data::Int32(v) => v.push(integer.into()),
        Data::Int64(v) => v.push(integer.into()),
        Data::Fp16(v) => v.push(f16::from_f64(float)),
        #[expect(clippy::cast_possible_truncation, reason = "FP32 is what the model takes")]
        Data::Fp32(v) => v.push(float as f32),
        Data::Fp64(v) => v.push(float),
        Data::Bytes(v) => {
            let word = if word_end == 0 { "" } else { WORDS[numbers.below(word_end)] };
            v.push(word.as_bytes().to_vec());
        }
    }
}

/// A number: around zero, between 0 and 1, a small integer, or a larger one.
fn float(boldness: Boldness, numbers: &mut Numbers) -> f64 {
    let unit = numbers.unit();
    match (boldness, numbers.below(10)) {
        (Boldness::Zeros, _) => 0.0,
        (Boldness::Small, _) | (Boldness::Varied, 0..=3) => unit,
        (Boldness::Varied, 4..=6) => unit * 6.0 - 3.0,
        (Boldness::Varied, 7..=8) => (unit * 10.0).floor(),
        (Boldness::Varied, _) => unit * 100.0,
    }
}

/// splitmix64 (Steele, Lea & Flood 2014): the same numbers on every run.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Below `end`; 0 for an empty range.
    fn below(&mut self, end: usize) -> usize {
        let number = self.next() % u64::try_from(end.max(1)).unwrap_or(1);
        usize::try_from(number).unwrap_or(0)
    }

    /// From 0 to 1, without 1.
    #[expect(clippy::cast_precision_loss, reason = "53 bits fit")]
    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Datatype;

    fn signature() -> Signature {
        let spec = |datatype: Datatype| {
            let shape = vec![Dim::Symbol("N".into()), Dim::Fixed(3), Dim::Any];
            TensorSpec::new(datatype.as_str(), datatype, shape)
        };
        Signature::new(Datatype::ALL.map(spec).to_vec(), vec![])
    }

    fn draw(
        signature: &Signature,
        samples: &[Vec<Tensor>],
        rows: usize,
        boldness: Boldness,
    ) -> Result<Vec<Tensor>, String> {
        super::draw(&Source { signature, other_dims: 8, samples }, rows, boldness)
    }

    #[test]
    fn every_datatype_is_drawn_the_same_on_every_run() {
        for boldness in Boldness::ALL {
            let first = draw(&signature(), &[], 16, boldness).unwrap();
            assert!(signature().check(&first).is_ok());
            assert_eq!(first, draw(&signature(), &[], 16, boldness).unwrap());
            for tensor in first {
                let zeros = Data::zeros(tensor.datatype(), tensor.data().len());
                assert_eq!(*tensor.data() == zeros, boldness == Boldness::Zeros, "{tensor:?}");
            }
        }
    }

    #[test]
    fn values_come_from_the_samples_columns() {
        let spec =
            |name: &str, datatype| TensorSpec::new(name, datatype, vec![Dim::Any, Dim::Fixed(2)]);
        let signature =
            Signature::new(vec![spec("i", Datatype::Int64), spec("f", Datatype::Fp32)], vec![]);
        let sample = vec![
            Tensor::new("i", vec![2, 2], Data::Int64(vec![100, 200, 101, 201])).unwrap(),
            Tensor::new("f", vec![2, 2], Data::Fp32(vec![10.0, -20.0, 11.0, -21.0])).unwrap(),
        ];
        // Without the boldness to leave the samples.
        let drawn = draw(&signature, &[sample], 100, Boldness::Small).unwrap();
        let (Data::Int64(i), Data::Fp32(f)) = (drawn[0].data(), drawn[1].data()) else {
            panic!("{drawn:?}")
        };
        assert!(
            i.chunks(2).all(|row| [100, 101].contains(&row[0]) && [200, 201].contains(&row[1]))
        );
        let fits =
            |row: &[f32]| (10.0..=11.0).contains(&row[0]) && (-21.0..=-20.0).contains(&row[1]);
        assert!(f.chunks(2).all(fits));
        assert!(f.iter().any(|x| x.fract() != 0.0), "something in between");
    }

    #[test]
    fn what_is_too_large_is_refused() {
        let wide = TensorSpec::new("x", Datatype::Fp32, vec![Dim::Any, Dim::Fixed(ELEMENTS_MAX)]);
        let signature = Signature::new(vec![wide], vec![]);
        assert!(draw(&signature, &[], 1, Boldness::Zeros).is_ok());
        assert!(draw(&signature, &[], 2, Boldness::Zeros).unwrap_err().contains("\"x\""));
    }
}
