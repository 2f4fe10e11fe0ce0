//! The χ² distribution.

use crate::analysis::gamma::ln_gamma;
use crate::analysis::terms::Level;

/// `P(X > x)` of χ² with so many degrees of freedom: the regularised upper incomplete gamma
/// function Q(dof/2, x/2). 1 up to 0, 0 at infinity; 1 for NaN and for no degree of
/// freedom, which show nothing.
///
/// Abramowitz & Stegun 6.5.29 (series) below the mean, 6.5.31 (continued fraction, by
/// Lentz's method) above. The relative error is below 1e-12 for up to a hundred degrees of
/// freedom, down to the smallest numbers.
#[must_use]
pub fn chi_squared_survival(x: f64, dof: u32) -> f64 {
    if dof == 0 || x.is_nan() || x <= 0.0 {
        return 1.0;
    }
    if x.is_infinite() {
        return 0.0;
    }
    let (a, x) = (0.5 * f64::from(dof), 0.5 * x);
    let scale = (a * x.ln() - x - ln_gamma(a)).exp();
    if x < a + 1.0 {
        let (mut term, mut sum, mut at) = (1.0 / a, 1.0 / a, a);
        while term > 1e-17 * sum {
            at += 1.0;
            term *= x / at;
            sum += term;
        }
        return (1.0 - scale * sum).clamp(0.0, 1.0);
    }
    (scale * upper_fraction(a, x)).min(1.0)
}

/// `1/(x+1−a − 1·(1−a)/(x+3−a − 2·(2−a)/(x+5−a − …)))` for x ≥ a + 1.
fn upper_fraction(a: f64, x: f64) -> f64 {
    let mut b = x + 1.0 - a;
    let (mut c, mut d) = (f64::MAX, 1.0 / b);
    let mut fraction = d;
    // It takes about as many steps as the root of a.
    for i in 1..100_000 {
        let i = f64::from(i);
        let numerator = i * (a - i);
        b += 2.0;
        d = 1.0 / (numerator * d + b);
        c = b + numerator / c;
        fraction *= c * d;
        if (c * d - 1.0).abs() < 1e-16 {
            break;
        }
    }
    fraction
}

/// The `x` at which [`chi_squared_survival`] is `alpha`; 0 for no degree of freedom.
///
/// Newton's method on the logarithm, within an interval that is halved where it leaves it.
#[must_use]
pub fn chi_squared_quantile(alpha: Level, dof: u32) -> f64 {
    if dof == 0 {
        return 0.0;
    }
    let (a, ln_alpha) = (0.5 * f64::from(dof), alpha.get().ln());
    let (mut low, mut high) = (0.0, f64::from(dof));
    while chi_squared_survival(high, dof) > alpha.get() {
        (low, high) = (high, 2.0 * high);
    }
    let mut x = f64::midpoint(low, high);
    for _ in 0..100 {
        let survival = chi_squared_survival(x, dof);
        if survival > alpha.get() {
            low = x
        } else {
            high = x
        }
        let density = 0.5 * ((a - 1.0) * (0.5 * x).ln() - 0.5 * x - ln_gamma(a)).exp();
        let newton = x + (survival.ln() - ln_alpha) * survival / density;
        let next = if newton > low && newton < high { newton } else { f64::midpoint(low, high) };
        if (next - x).abs() <= 1e-15 * x {
            return next;
        }
        x = next;
    }
    x
}

#[cfg(test)]
mod tests {
    use super::*;

    /// mpmath, 40 digits; `tests/drift/known.py`.
    #[test]
    fn survival_is_that_of_mpmath() {
        let cases = [
            (1e-09, 1, 0.999974768674784),
            (0.01, 1, 0.920344325445942),
            (0.5, 1, 0.4795001221869535),
            (1.0, 1, 0.3173105078629141),
            (0.9, 1, 0.3427817111479114),
            (3.0, 1, 0.0832645166635504),
            (2.5, 1, 0.11384629800665805),
            (10.0, 1, 0.0015654022580025497),
            (250.0, 1, 2.5968070393401858e-56),
            (1350.0, 1, 1.5405535053331527e-295),
            (1e-09, 2, 0.9999999995),
            (0.01, 2, 0.9950124791926823),
            (0.5, 2, 0.7788007830714049),
            (1.0, 2, 0.6065306597126334),
            (1.8, 2, 0.4065696597405991),
            (4.0, 2, 0.1353352832366127),
            (5.0, 2, 0.0820849986238988),
            (20.0, 2, 4.5399929762484854e-05),
            (250.0, 2, 5.166420632837861e-55),
            (1350.0, 2, 7.09945017032607e-294),
            (1e-09, 3, 0.9999999999999916),
            (0.01, 3, 0.9997348349413444),
            (0.5, 3, 0.9188914116546758),
            (1.0, 3, 0.8012519569012008),
            (2.7, 3, 0.44022729436023106),
            (5.0, 3, 0.17179714429673312),
            (7.5, 3, 0.057558451972636406),
            (30.0, 3, 1.3800570312932547e-06),
            (250.0, 3, 6.543750030967994e-54),
            (1350.0, 3, 2.082826065315891e-292),
            (1e-09, 9, 1.0),
            (0.01, 9, 0.9999999999991591),
            (0.5, 9, 0.9999695662588389),
            (1.0, 9, 0.9994375026978325),
            (8.1, 9, 0.5241009367303544),
            (11.0, 9, 0.2757089367722219),
            (22.5, 9, 0.007422449419943792),
            (90.0, 9, 1.6280704719656212e-15),
            (250.0, 9, 9.976151469298825e-49),
            (1350.0, 9, 4.902279429023805e-285),
            (1e-09, 10, 1.0),
            (0.01, 10, 0.999999999999974),
            (0.5, 10, 0.999993388289439),
            (1.0, 10, 0.9998278843700441),
            (9.0, 10, 0.5321035763747155),
            (12.0, 10, 0.2850565003166312),
            (25.0, 10, 0.005345505487134064),
            (100.0, 10, 5.4497019829205295e-17),
            (250.0, 10, 5.427833960969281e-48),
            (1350.0, 10, 6.177403513752267e-284),
            (1e-09, 19, 1.0),
            (0.01, 19, 1.0),
            (0.5, 19, 0.9999999999986573),
            (1.0, 19, 0.999999999224061),
            (17.1, 19, 0.5830930678361498),
            (21.0, 19, 0.3368009019275336),
            (47.5, 19, 0.00030281678742001805),
            (190.0, 19, 3.28313172370146e-30),
            (250.0, 19, 3.094773877409622e-42),
            (1350.0, 19, 6.748218200461054e-275),
            (1e-09, 68, 1.0),
            (0.01, 68, 1.0),
            (0.5, 68, 1.0),
            (1.0, 68, 1.0),
            (61.2, 68, 0.707485766671914),
            (70.0, 68, 0.4102456171704258),
            (170.0, 68, 1.0605988518468438e-10),
            (680.0, 68, 9.642381682395822e-102),
            (250.0, 68, 1.2706154433051544e-22),
            (1350.0, 68, 2.001232832442369e-237),
            (1e-09, 100, 1.0),
            (0.01, 100, 1.0),
            (0.5, 100, 1.0),
            (1.0, 100, 1.0),
            (90.0, 100, 0.7531979655998298),
            (102.0, 100, 0.42560514048314035),
            (250.0, 100, 7.766936403539178e-15),
            (1000.0, 100, 2.306076738035398e-148),
            (250.0, 100, 7.766936403539178e-15),
            (1350.0, 100, 5.441016475538081e-218),
        ];
        for (x, dof, expected) in cases {
            let got = chi_squared_survival(x, dof);
            assert!((got / expected - 1.0).abs() < 1e-12, "{x}, {dof}: {got}, expected {expected}");
        }
    }

    /// SciPy's `chi2.isf`; `tests/drift/known.py`.
    #[test]
    fn quantiles_are_those_of_scipy() {
        let cases = [
            (0.5, 1, 0.4549364231195724),
            (0.05, 1, 3.8414588206941285),
            (0.01, 1, 6.634896601021217),
            (1e-06, 1, 23.928126976934827),
            (1e-12, 1, 50.844127911818155),
            (0.5, 2, 1.386294361119891),
            (0.05, 2, 5.991464547107983),
            (0.01, 2, 9.210340371976182),
            (1e-06, 2, 27.631021115928547),
            (1e-12, 2, 55.262042231857095),
            (0.5, 9, 8.342832692252955),
            (0.05, 9, 16.91897760462045),
            (0.01, 9, 21.665994333461928),
            (1e-06, 9, 44.81093787068782),
            (1e-12, 9, 76.0059251419943),
            (0.5, 14, 13.33927414909954),
            (0.05, 14, 23.684791304840576),
            (0.01, 14, 29.141237740672796),
            (1e-06, 14, 54.63530553003881),
            (1e-12, 14, 87.76834579009258),
            (0.5, 68, 67.33450778747714),
            (0.05, 68, 88.25016442187413),
            (0.01, 68, 98.02840328331405),
            (1e-06, 68, 138.42735163101455),
            (1e-12, 68, 184.7127578314064),
        ];
        for (alpha, dof, expected) in cases {
            let got = chi_squared_quantile(Level::new(alpha).unwrap(), dof);
            assert!(
                (got / expected - 1.0).abs() < 1e-12,
                "{alpha}, {dof}: {got}, expected {expected}"
            );
        }
    }

    #[test]
    fn anything_has_a_survival() {
        for x in [f64::NAN, f64::NEG_INFINITY, -1.0, 0.0] {
            assert_eq!(chi_squared_survival(x, 3), 1.0, "{x}");
        }
        assert_eq!(
            (chi_squared_survival(f64::INFINITY, 3), chi_squared_survival(5.0, 0)),
            (0.0, 1.0)
        );
        assert_eq!(chi_squared_quantile(Level::WORSE, 0), 0.0);
        for dof in [1, 2, 3, 68, 1_000, 1_000_000, u32::MAX] {
            for x in [f64::MIN_POSITIVE, 1e-9, 1.0, f64::from(dof), 1e12, f64::MAX] {
                assert!((0.0..=1.0).contains(&chi_squared_survival(x, dof)), "{x}, {dof}");
            }
        }
    }

    #[test]
    fn a_quantile_is_where_its_level_is_left() {
        for dof in 1..200 {
            for alpha in [0.5, 0.3, 0.05, 0.001, 1e-9, 1e-12] {
                let at = chi_squared_quantile(Level::new(alpha).unwrap(), dof);
                let back = chi_squared_survival(at, dof);
                assert!((back / alpha - 1.0).abs() < 1e-11, "{alpha}, {dof}: {at}, {back}");
            }
        }
    }
}
