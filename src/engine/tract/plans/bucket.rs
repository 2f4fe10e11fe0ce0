//! Batches of few sizes: rows are added up to the next power of two, and cut
//! off again from what comes out.
//!
//! Only for models whose rows were shown not to know of each other.

use super::proof;
use crate::engine::EngineError;
use crate::for_each_datatype;
use crate::types::{Signature, Tensor};

/// Batches with more rows run as they are: half of such a bucket is too much
/// to compute in vain.
const ROWS_MAX: usize = 1024;

/// Whether there is a bucket for so many rows.
pub(super) fn holds(rows: usize) -> bool {
    (1..=ROWS_MAX).contains(&rows)
}

/// The size that a batch of `rows` is brought to.
pub(super) fn size(rows: usize) -> usize {
    if holds(rows) { rows.next_power_of_two() } else { rows }
}

/// The inputs with copies of their last row, up to `rows`.
pub(super) fn pad(inputs: &[Tensor], rows: usize) -> Option<Vec<Tensor>> {
    inputs.iter().map(|input| resize(input, rows)).collect()
}

/// The first `rows` of the outputs.
pub(super) fn cut(outputs: &[Tensor], rows: usize) -> Option<Vec<Tensor>> {
    outputs.iter().map(|output| resize(output, rows)).collect()
}

/// `None` if there are no rows to copy.
fn resize(tensor: &Tensor, rows: usize) -> Option<Tensor> {
    let mut shape = tensor.shape().to_vec();
    let first = shape.first_mut()?;
    let known = std::mem::replace(first, rows);
    let mut data = tensor.data().clone();
    let width = data.len().checked_div(known)?;
    for_each_datatype!(&mut data, v => {
        v.truncate(rows * width);
        for _ in known..rows {
            v.extend_from_within((known - 1) * width..known * width);
        }
    });
    Tensor::new(tensor.name(), shape, data).ok()
}

/// Shows with numbers that rows do not know of each other: in batches with
/// other rows in them, and with rows added, each row gets the answer that it
/// got. `run` runs the batch as it is.
pub(super) fn rows_are_independent(
    signature: &Signature,
    shapes: impl Fn(usize) -> Vec<Vec<usize>>,
    run: impl Fn(&[Tensor]) -> Result<Vec<Tensor>, EngineError>,
) -> bool {
    [(3, 1), (3, 2), (5, 3)].into_iter().enumerate().all(|(i, (rows, part))| {
        let show = || {
            let inputs = proof::sample(signature, &shapes(rows), i as u64)?;
            let outputs = run(&inputs).ok()?;
            if outputs.iter().any(|output| output.shape().first() != Some(&rows)) {
                return None;
            }
            let padded = run(&pad(&inputs, size(rows))?).ok()?;
            let few = cut(&inputs, part)?;
            let alone = cut(&run(&pad(&few, size(part))?).ok()?, part)?;
            let same = proof::close(&cut(&padded, rows)?, &outputs)
                && proof::close(&alone, &cut(&outputs, part)?);
            same.then_some(())
        };
        show().is_some()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Data;

    #[test]
    fn buckets_are_powers_of_two() {
        let sizes = [0, 1, 2, 3, 5, 64, 65, 1000, 1025].map(size);
        assert_eq!(sizes, [0, 1, 2, 4, 8, 64, 128, 1024, 1025]);
    }

    #[test]
    fn rows_are_added_and_cut_off() {
        let data = Data::Fp32(vec![1.0, 2.0, 3.0, 4.0]);
        let two = Tensor::new("x", vec![2, 2], data).unwrap();
        let four = pad(std::slice::from_ref(&two), 4).unwrap();
        let expected = Data::Fp32(vec![1.0, 2.0, 3.0, 4.0, 3.0, 4.0, 3.0, 4.0]);
        assert_eq!((four[0].shape(), four[0].data()), (&[4, 2][..], &expected));
        assert_eq!(cut(&four, 2).unwrap(), [two]);
        let none = Tensor::new("x", vec![0, 2], Data::Fp32(vec![])).unwrap();
        assert_eq!(pad(&[none], 1), None);
    }
}
