//! The few worst disagreements of a shadow, kept for a look.

use std::sync::{Mutex, PoisonError};

use crate::routing::Agreement;
use crate::types::Tensor;

/// How many are kept per shadow.
const KEPT_MAX: usize = 8;
/// A request larger than this is not kept, in bytes of inputs and outputs.
const BYTES_MAX: usize = 64 * 1024;

/// One request on which champion and shadow disagree.
#[derive(Clone, Debug)]
pub struct Disagreement {
    /// The reply's prediction id.
    pub prediction_id: String,
    /// What was sent.
    pub inputs: Vec<Tensor>,
    /// The champion's answer.
    pub champion: Vec<Tensor>,
    /// The shadow's answer.
    pub shadow: Vec<Tensor>,
    /// How far apart they are.
    pub agreement: Agreement,
}

/// A bounded collection of the worst disagreements, by rows and then by the
/// largest difference. Locked by lane threads and the admin API, never by a
/// request.
#[derive(Default)]
pub struct Worst {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    kept: Vec<Disagreement>,
    /// Smallest and largest of the champion's numbers (regressors).
    range: Option<(f64, f64)>,
}

impl Worst {
    /// The kept disagreements, worst first.
    #[must_use]
    pub fn list(&self) -> Vec<Disagreement> {
        self.lock().kept.clone()
    }

    /// Takes a look at a comparison, and keeps it if it is among the worst.
    pub(super) fn consider(&self, found: Disagreement) {
        let size = |tensors: &[Tensor]| tensors.iter().map(Tensor::byte_len).sum::<usize>();
        let bytes = size(&found.inputs) + size(&found.champion) + size(&found.shadow);
        if found.agreement.disagreed == 0 || bytes > BYTES_MAX {
            return;
        }
        let mut state = self.lock();
        // The same input again would only push the others out.
        if state.kept.iter().any(|kept| kept.inputs == found.inputs) {
            return;
        }
        let at = state.kept.partition_point(|kept| badness(kept) >= badness(&found));
        if at < KEPT_MAX {
            state.kept.truncate(KEPT_MAX - 1);
            state.kept.insert(at, found);
        }
    }

    /// Widens the range by the champion's finite numbers; returns max − min.
    pub(super) fn widen(&self, champion: &Tensor) -> f64 {
        let numbers = (0..champion.data().len()).filter_map(|i| champion.data().as_f64(i));
        let mut state = self.lock();
        for x in numbers.filter(|x| x.is_finite()) {
            let (low, high) = state.range.unwrap_or((x, x));
            state.range = Some((low.min(x), high.max(x)));
        }
        state.range.map_or(0.0, |(low, high)| high - low)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Orders disagreements: share of rows, then the largest difference.
fn badness(d: &Disagreement) -> (f64, f64) {
    #[expect(clippy::cast_precision_loss, reason = "row counts")]
    let share = d.agreement.disagreed as f64 / d.agreement.rows.max(1) as f64;
    (share, d.agreement.max)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Data;

    fn found(max: f64) -> Disagreement {
        let agreement = Agreement { rows: 1, disagreed: 1, max, mean: max };
        let empty = Vec::new;
        let input = Tensor::new("x", vec![1], Data::Fp64(vec![max])).unwrap();
        Disagreement {
            prediction_id: String::new(),
            inputs: vec![input],
            champion: empty(),
            shadow: empty(),
            agreement,
        }
    }

    #[test]
    fn the_worst_stay_in_order() {
        let worst = Worst::default();
        for i in 0..20_u32 {
            worst.consider(found(f64::from((i * 7) % 20)));
        }
        let kept: Vec<f64> = worst.list().iter().map(|d| d.agreement.max).collect();
        assert_eq!(kept, [19.0, 18.0, 17.0, 16.0, 15.0, 14.0, 13.0, 12.0]);
    }

    #[test]
    fn an_input_is_kept_once() {
        let worst = Worst::default();
        worst.consider(found(1.0));
        worst.consider(found(2.0));
        worst.consider(found(1.0));
        assert_eq!(worst.list().len(), 2);
    }

    #[test]
    fn agreements_and_huge_requests_are_not_kept() {
        let worst = Worst::default();
        let mut agreed = found(0.0);
        agreed.agreement.disagreed = 0;
        worst.consider(agreed);
        let mut huge = found(1.0);
        let data = Data::zeros(crate::types::Datatype::Uint8, BYTES_MAX + 1);
        huge.inputs = vec![Tensor::new("x", vec![BYTES_MAX + 1], data).unwrap()];
        worst.consider(huge);
        assert!(worst.list().is_empty());
    }

    #[test]
    fn the_range_ignores_what_is_not_finite() {
        let worst = Worst::default();
        let data = Data::Fp32(vec![1.0, f32::NAN, 5.0, f32::INFINITY]);
        let range = worst.widen(&Tensor::new("y", vec![4], data).unwrap());
        assert!((range - 4.0).abs() < 1e-9);
    }
}
