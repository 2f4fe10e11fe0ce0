//! Numbers by which two ways to compute the same are shown to agree.

use half::f16;

use crate::types::{Data, Datatype, Signature, Tensor, element_count};

/// Two plans of one graph may add in another order.
const TOLERANCE: f64 = 1e-4;
/// The largest input of a proof, in elements.
const ELEMENTS_MAX: usize = 1 << 22;

/// Inputs of these shapes, the same on every run: numbers from −1 to 1; zeros
/// and ones where they may be indices; empty strings.
pub(super) fn sample(
    signature: &Signature,
    shapes: &[Vec<usize>],
    seed: u64,
) -> Option<Vec<Tensor>> {
    let mut bits = Bits(seed);
    let tensor = |(spec, shape): (&crate::types::TensorSpec, &Vec<usize>)| {
        let len = element_count(shape).filter(|len| *len <= ELEMENTS_MAX)?;
        let data = elements(spec.datatype, len, &mut bits);
        Tensor::new(spec.name.clone(), shape.clone(), data).ok()
    };
    signature.inputs.iter().zip(shapes).map(tensor).collect()
}

#[expect(clippy::cast_possible_truncation, reason = "halves and singles")]
fn elements(datatype: Datatype, len: usize, bits: &mut Bits) -> Data {
    fn fill<T>(len: usize, element: impl FnMut() -> T) -> Vec<T> {
        std::iter::repeat_with(element).take(len).collect()
    }
    match datatype {
        Datatype::Bool => Data::Bool(fill(len, || bits.one() == 1)),
        Datatype::Uint8 => Data::Uint8(fill(len, || bits.one())),
        Datatype::Uint16 => Data::Uint16(fill(len, || bits.one().into())),
        Datatype::Uint32 => Data::Uint32(fill(len, || bits.one().into())),
        Datatype::Uint64 => Data::Uint64(fill(len, || bits.one().into())),
        Datatype::Int8 => Data::Int8(fill(len, || i8::from(bits.one() == 1))),
        Datatype::Int16 => Data::Int16(fill(len, || bits.one().into())),
        Datatype::Int32 => Data::Int32(fill(len, || bits.one().into())),
        Datatype::Int64 => Data::Int64(fill(len, || bits.one().into())),
        Datatype::Fp16 => Data::Fp16(fill(len, || f16::from_f64(bits.unit()))),
        Datatype::Fp32 => Data::Fp32(fill(len, || bits.unit() as f32)),
        Datatype::Fp64 => Data::Fp64(fill(len, || bits.unit())),
        Datatype::Bytes => Data::zeros(datatype, len),
    }
}

/// Whether these are the same tensors, numbers within the tolerance.
pub(super) fn close(a: &[Tensor], b: &[Tensor]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| close_tensors(a, b))
}

fn close_tensors(a: &Tensor, b: &Tensor) -> bool {
    if (a.name(), a.shape(), a.datatype()) != (b.name(), b.shape(), b.datatype()) {
        return false;
    }
    if !a.datatype().is_float() {
        return a.data() == b.data();
    }
    (0..a.data().len()).all(|i| match (a.data().as_f64(i), b.data().as_f64(i)) {
        (Some(a), Some(b)) => {
            // An infinity is near to nothing but itself.
            let near = b.is_finite() && (a - b).abs() <= TOLERANCE * b.abs().max(1.0);
            a == b || a.is_nan() && b.is_nan() || near
        }
        _ => false,
    })
}

/// Numbers that look random and are the same on every run.
struct Bits(u64);

impl Bits {
    fn next(&mut self) -> u64 {
        // splitmix64 (Steele, Lea & Flood 2014).
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Zero or one.
    fn one(&mut self) -> u8 {
        u8::from(self.next() >> 63 == 1)
    }

    /// From −1 to 1.
    #[expect(clippy::cast_precision_loss, reason = "53 bits fit")]
    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 52) as f64 - 1.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{Dim, TensorSpec};

    #[test]
    fn samples_are_reproducible_and_differ_by_seed() {
        for datatype in Datatype::ALL {
            let spec = TensorSpec::new("x", datatype, vec![Dim::Any]);
            let signature = Signature::new(vec![spec], vec![]);
            let make = |seed| sample(&signature, &[vec![64]], seed).unwrap();
            assert!(make(1) == make(1), "{datatype}");
            assert_eq!(make(1) == make(2), datatype == Datatype::Bytes, "{datatype}");
        }
    }

    #[test]
    fn closeness_is_relative() {
        let one = |x: f64| [Tensor::new("y", vec![1], Data::Fp64(vec![x])).unwrap()];
        for (a, b, expected) in [
            (1.0, 1.000_01, true),
            (1.0, 1.001, false),
            (1e6, 1e6 + 10.0, true),
            (f64::NAN, f64::NAN, true),
            (f64::NAN, 1.0, false),
            (f64::INFINITY, f64::INFINITY, true),
            (1.0, f64::INFINITY, false),
            (f64::NEG_INFINITY, f64::INFINITY, false),
        ] {
            assert_eq!(close(&one(a), &one(b)), expected, "{a} {b}");
        }
    }
}
