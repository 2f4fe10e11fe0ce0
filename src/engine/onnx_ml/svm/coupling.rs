//! Probabilities of classes from those of pairs of classes.
//!
//! T.-F. Wu, C.-J. Lin and R. C. Weng, "Probability Estimates for Multi-class
//! Classification by Pairwise Coupling" (JMLR 5, 2004), their second method,
//! with LIBSVM's iteration: that is what trained the models, and what
//! onnxruntime runs.

/// LIBSVM's bounds.
const ITERATIONS_MAX: usize = 100;
const ERROR_MAX: f32 = 0.005;

/// Room for the iteration, reused from row to row.
#[derive(Debug)]
pub(super) struct Coupling {
    classes: usize,
    /// Q of the paper, classes by classes.
    q: Vec<f32>,
    /// Q · p.
    products: Vec<f32>,
}

impl Coupling {
    pub(super) fn new(classes: usize) -> Self {
        Self { classes, q: vec![0.0; classes * classes], products: vec![0.0; classes] }
    }

    /// Fills `p` from `pairs`: the probability of the first of two classes,
    /// for each pair in order (0 and 1, 0 and 2, …, 1 and 2, …).
    #[expect(clippy::cast_precision_loss, reason = "the number of classes is small")]
    pub(super) fn solve(&mut self, pairs: &[f32], p: &mut [f32]) {
        self.set_up(pairs);
        p.fill(1.0 / self.classes as f32);
        let error_max = ERROR_MAX / self.classes as f32;
        for _ in 0..ITERATIONS_MAX {
            let Self { classes, q, products } = self;
            for (product, row) in products.iter_mut().zip(q.chunks_exact(*classes)) {
                *product = row.iter().zip(&*p).map(|(q, p)| q * p).sum();
            }
            let whole: f32 = p.iter().zip(&*products).map(|(p, product)| p * product).sum();
            if products.iter().all(|product| (product - whole).abs() < error_max) {
                return;
            }
            self.step(whole, p);
        }
    }

    fn set_up(&mut self, pairs: &[f32]) {
        self.q.fill(0.0);
        let mut pairs = pairs.iter();
        for i in 0..self.classes {
            for j in i + 1..self.classes {
                let Some(&first) = pairs.next() else { return };
                let second = 1.0 - first;
                self.q[i * self.classes + i] += second * second;
                self.q[j * self.classes + j] += first * first;
                self.q[i * self.classes + j] = -second * first;
                self.q[j * self.classes + i] = -second * first;
            }
        }
    }

    /// Improves the classes one after another.
    fn step(&mut self, mut whole: f32, p: &mut [f32]) {
        for i in 0..self.classes {
            let row = &self.q[i * self.classes..][..self.classes];
            let change = (whole - self.products[i]) / row[i];
            p[i] += change;
            let grown = 1.0 + change;
            whole = (whole + change * (change * row[i] + 2.0 * self.products[i])) / grown / grown;
            for ((product, q), p) in self.products.iter_mut().zip(row).zip(&mut *p) {
                *product = (*product + change * q) / grown;
                *p /= grown;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Pairs that come from probabilities give these back.
        #[test]
        fn consistent_pairs_give_their_classes(
            weights in proptest::collection::vec(0.05_f32..1.0, 2..7),
        ) {
            let sum: f32 = weights.iter().sum();
            let mut pairs = Vec::new();
            for i in 0..weights.len() {
                for j in i + 1..weights.len() {
                    pairs.push(weights[i] / (weights[i] + weights[j]));
                }
            }
            let mut p = vec![0.0; weights.len()];
            Coupling::new(weights.len()).solve(&pairs, &mut p);
            for (p, weight) in p.iter().zip(&weights) {
                prop_assert!((p - weight / sum).abs() < 0.02, "{p} {}", weight / sum);
            }
        }
    }
}
