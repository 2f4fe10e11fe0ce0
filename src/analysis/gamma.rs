//! The logarithm of the gamma function.

/// B_2k / (2k·(2k−1)) of the Bernoulli numbers, from k = 1 on.
const SERIES: [f64; 7] = [
    1.0 / 12.0,
    -1.0 / 360.0,
    1.0 / 1_260.0,
    -1.0 / 1_680.0,
    1.0 / 1_188.0,
    -691.0 / 360_360.0,
    1.0 / 156.0,
];

/// `ln Γ(x)` for x > 0: Stirling's series (Abramowitz & Stegun 6.1.41) from 16
/// on, and the recurrence `Γ(x+1) = x·Γ(x)` (6.1.15) below.
///
/// The first term that is left out is below 1e-16 at 16. The relative error is
/// below 1e-14, and near the zeros at 1 and 2, where that means nothing, the
/// absolute one is.
pub(super) fn ln_gamma(x: f64) -> f64 {
    let (mut shifted, mut product) = (x, 1.0);
    while shifted < 16.0 {
        product *= shifted;
        shifted += 1.0;
    }
    let inverse = 1.0 / shifted;
    let square = inverse * inverse;
    let series = SERIES.iter().rev().fold(0.0, |sum, term| sum * square + term) * inverse;
    let half_ln_tau = 0.5 * std::f64::consts::TAU.ln();
    (shifted - 0.5) * shifted.ln() - shifted + half_ln_tau + series - product.ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_values() {
        let half = 0.5 * std::f64::consts::PI.ln();
        let ten_factorial = 3_628_800_f64.ln();
        let cases = [
            (0.5, half),
            (1.5, half - 2.0_f64.ln()),
            (3.0, 2.0_f64.ln()),
            (5.0, 24.0_f64.ln()),
            (11.0, ten_factorial),
            // mpmath, 20 digits.
            (0.001, 6.907178885383853),
            (0.1, 2.252712651734206),
            (2.5, 0.2846828704729192),
            (7.25, 7.0521854507385395),
            (15.9, 27.625493215168692),
            (16.0, 27.89927138384089),
            (100.0, 359.1342053695754),
            (1234.5, 7550.550901077895),
            (1000000.0, 12815504.569147611),
            (1000000000000.0, 26631021115915.652),
        ];
        for (x, expected) in cases {
            let got = ln_gamma(x);
            assert!((got / expected - 1.0).abs() < 1e-12, "{x}: {got}, expected {expected}");
        }
        for zero in [1.0, 2.0] {
            assert!(ln_gamma(zero).abs() < 1e-14, "{zero}: {}", ln_gamma(zero));
        }
    }

    #[test]
    fn the_recurrence_holds_everywhere() {
        for i in 1..4_000 {
            let x = f64::from(i) * 0.013;
            let (got, expected) = (ln_gamma(x + 1.0), ln_gamma(x) + x.ln());
            assert!((got - expected).abs() < 1e-13 * expected.abs().max(1.0), "{x}");
        }
    }
}
