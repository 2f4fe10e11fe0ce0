//! exp and its relatives over whole slices. The polynomials are those of the
//! Cephes library (S. L. Moshier) for single precision.

use super::{Work, multiply_add, vectorised};

/// e^(factor · x), in place.
pub(in super::super) fn exp(numbers: &mut [f32], factor: f32) {
    vectorised(Exp { numbers, factor });
}

/// tanh, in place.
pub(in super::super) fn tanh(numbers: &mut [f32]) {
    vectorised(Tanh(numbers));
}

/// 1 / (1 + e^−x), in place.
pub(in super::super) fn logistic(numbers: &mut [f32]) {
    vectorised(Logistic(numbers));
}

/// Σ a · b in double precision, for where many terms of both signs nearly
/// cancel.
pub(in super::super) fn dot(a: &[f32], b: &[f32]) -> f64 {
    vectorised(Dot(a, b))
}

struct Dot<'a>(&'a [f32], &'a [f32]);

impl Work for Dot<'_> {
    type Output = f64;

    #[inline(always)]
    fn run<const FUSED: bool>(self) -> f64 {
        const LANES: usize = 16;
        let (a, rest_a) = self.0.as_chunks::<LANES>();
        let (b, rest_b) = self.1.as_chunks::<LANES>();
        let mut sums = [0.0; LANES];
        for (a, b) in a.iter().zip(b) {
            for ((sum, &a), &b) in sums.iter_mut().zip(a).zip(b) {
                *sum += f64::from(a) * f64::from(b);
            }
        }
        let rest = rest_a.iter().zip(rest_b).map(|(&a, &b)| f64::from(a) * f64::from(b));
        sums.iter().sum::<f64>() + rest.sum::<f64>()
    }
}

struct Exp<'a> {
    numbers: &'a mut [f32],
    factor: f32,
}

impl Work for Exp<'_> {
    type Output = ();

    #[inline(always)]
    fn run<const FUSED: bool>(self) {
        for x in self.numbers {
            *x = exp_one::<FUSED>(*x * self.factor);
        }
    }
}

struct Tanh<'a>(&'a mut [f32]);

impl Work for Tanh<'_> {
    type Output = ();

    #[inline(always)]
    fn run<const FUSED: bool>(self) {
        for x in self.0 {
            *x = tanh_one::<FUSED>(*x);
        }
    }
}

struct Logistic<'a>(&'a mut [f32]);

impl Work for Logistic<'_> {
    type Output = ();

    #[inline(always)]
    fn run<const FUSED: bool>(self) {
        for x in self.0 {
            let positive = 1.0 / (1.0 + exp_one::<FUSED>(-x.abs()));
            *x = if *x < 0.0 { 1.0 - positive } else { positive };
        }
    }
}

/// e^x as 2^n · e^r with |r| ≤ ln 2 / 2.
#[inline(always)]
fn exp_one<const FUSED: bool>(x: f32) -> f32 {
    /// Added to a small number, it leaves the nearest whole number in the
    /// low bits.
    const ROUND: f32 = 12_582_912.0;
    // ln 2 in two parts, the first with few digits, so that n · ln 2 is exact.
    const LN_2_HIGH: f32 = 355.0 / 512.0;
    const LN_2_LOW: f32 = -2.121_944_4e-4;
    // Beyond these the result is 0 or infinite; NaN stays.
    let x = x.clamp(-105.0, 89.0);
    let rounded = multiply_add::<FUSED>(x, std::f32::consts::LOG2_E, ROUND);
    let n = rounded - ROUND;
    let r = multiply_add::<FUSED>(n, -LN_2_HIGH, x);
    let r = multiply_add::<FUSED>(n, -LN_2_LOW, r);
    let mut p = 1.987_569_1e-4;
    for coefficient in [1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_6e-1, 0.5] {
        p = multiply_add::<FUSED>(p, r, coefficient);
    }
    let e = multiply_add::<FUSED>(p, r * r, r) + 1.0;
    // 2^n in two factors: one alone may be out of range where the product
    // is not.
    let n = rounded.to_bits().wrapping_sub(ROUND.to_bits()).cast_signed();
    let half = n >> 1;
    e * power_of_two(half) * power_of_two(n.wrapping_sub(half))
}

/// 2^n for −126 ≤ n ≤ 127.
#[inline(always)]
fn power_of_two(n: i32) -> f32 {
    f32::from_bits(n.wrapping_add(127).cast_unsigned() << 23)
}

#[inline(always)]
fn tanh_one<const FUSED: bool>(x: f32) -> f32 {
    let z = x * x;
    let mut p = -5.704_988_7e-3;
    for coefficient in [2.063_909e-2, -5.373_971_6e-2, 1.333_144_2e-1, -3.333_328e-1] {
        p = multiply_add::<FUSED>(p, z, coefficient);
    }
    let small = multiply_add::<FUSED>(p * z, x, x);
    let large = 1.0 - 2.0 / (exp_one::<FUSED>(2.0 * x.abs()) + 1.0);
    if x.abs() < 0.625 { small } else { large.copysign(x) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// How many steps of single precision lie between.
    fn steps(got: f32, exact: f64) -> u32 {
        let wanted = exact as f32;
        if got == wanted || got.is_nan() && wanted.is_nan() {
            return 0;
        }
        got.to_bits().abs_diff(wanted.to_bits())
    }

    fn both(x: f32, fused: fn(f32) -> f32, plain: fn(f32) -> f32, exact: f64) -> u32 {
        steps(fused(x), exact).max(steps(plain(x), exact))
    }

    proptest! {
        #[test]
        fn functions_are_exact_to_two_steps(x in -110.0_f32..95.0) {
            let exact = f64::from(x).exp();
            prop_assert!(both(x, exp_one::<true>, exp_one::<false>, exact) <= 2, "exp {x}");
            let near = x / 20.0;
            let exact = f64::from(near).tanh();
            prop_assert!(both(near, tanh_one::<true>, tanh_one::<false>, exact) <= 2, "tanh {near}");
        }
    }

    #[test]
    fn the_ends_of_the_range_hold() {
        for x in [-0.0, f32::INFINITY, f32::NEG_INFINITY, f32::NAN, f32::MAX, f32::MIN, 88.722_84] {
            let mut got = [x];
            exp(&mut got, 1.0);
            assert!(steps(got[0], f64::from(x).exp()) <= 2, "exp {x}: {}", got[0]);
            got = [x];
            tanh(&mut got);
            assert!(steps(got[0], f64::from(x).tanh()) <= 2, "tanh {x}: {}", got[0]);
            got = [x];
            logistic(&mut got);
            assert!(steps(got[0], 1.0 / (1.0 + (-f64::from(x)).exp())) <= 2, "logistic {x}");
        }
        let mut far = [-1.0; 3];
        exp(&mut far, f32::INFINITY);
        assert_eq!(far, [0.0; 3]);
    }
}
