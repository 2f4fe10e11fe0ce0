//! The two kinds of numbers in which trees compare and add: FP64 for FP64
//! rows, FP32 for all others, as in onnxruntime.

use std::borrow::Cow;
use std::fmt::Debug;
use std::ops::{Add, AddAssign, Div, Neg, Sub};

use half::f16;
use tract_onnx::prelude::*;

use super::super::rows;

pub(super) trait Real:
    Datum
    + Copy
    + Debug
    + Default
    + PartialOrd
    + From<f32>
    + Into<f64>
    + Add<Output = Self>
    + AddAssign
    + Sub<Output = Self>
    + Neg<Output = Self>
    + Div<Output = Self>
{
    /// The nearest number.
    fn of(number: f64) -> Self;

    /// The next smaller number.
    fn below(self) -> Self;

    fn is_nan(self) -> bool;

    /// A number that holds `index` in its bits, and is only ever read by
    /// [`Real::index`].
    fn from_index(index: u32) -> Self;

    fn index(self) -> u32;

    /// A tensor's numbers.
    fn numbers(tensor: &Tensor) -> TractResult<Cow<'_, [Self]>>;
}

/// As the file's FP32 output has it.
#[expect(clippy::cast_possible_truncation, reason = "the nearest number is wanted")]
pub(super) fn to_f32(x: impl Real) -> f32 {
    let wide: f64 = x.into();
    wide as f32
}

impl Real for f32 {
    #[expect(clippy::cast_possible_truncation, reason = "the nearest number is wanted")]
    fn of(number: f64) -> Self {
        number as Self
    }

    fn below(self) -> Self {
        self.next_down()
    }

    fn is_nan(self) -> bool {
        self.is_nan()
    }

    fn from_index(index: u32) -> Self {
        Self::from_bits(index)
    }

    fn index(self) -> u32 {
        self.to_bits()
    }

    fn numbers(tensor: &Tensor) -> TractResult<Cow<'_, [Self]>> {
        if tensor.datum_type() != DatumType::F16 {
            return rows::floats(tensor);
        }
        let halves = tensor.try_as_plain_ram()?.as_slice::<f16>()?;
        Ok(halves.iter().map(|x| x.to_f32()).collect())
    }
}

impl Real for f64 {
    fn of(number: f64) -> Self {
        number
    }

    fn below(self) -> Self {
        self.next_down()
    }

    fn is_nan(self) -> bool {
        self.is_nan()
    }

    fn from_index(index: u32) -> Self {
        Self::from_bits(index.into())
    }

    #[expect(clippy::cast_possible_truncation, reason = "from_index put 32 bits in")]
    fn index(self) -> u32 {
        self.to_bits() as u32
    }

    fn numbers(tensor: &Tensor) -> TractResult<Cow<'_, [Self]>> {
        Ok(Cow::Borrowed(tensor.try_as_plain_ram()?.as_slice::<Self>()?))
    }
}
