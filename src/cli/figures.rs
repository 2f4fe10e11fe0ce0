//! Numbers as people read them.

/// What stands where there is no figure yet.
pub(super) const NONE: &str = "-";

/// Seconds with three digits and a fitting unit: `12.3 µs`.
pub(super) fn seconds(seconds: Option<f64>) -> String {
    let Some(s) = seconds else { return NONE.into() };
    let units = [(1.0, "s"), (1e-3, "ms"), (1e-6, "µs")];
    // A little below the unit already rounds up to it.
    let unit = units.into_iter().find(|(size, _)| s >= size * 0.9995);
    let (size, name) = unit.unwrap_or((1e-9, "ns"));
    format!("{} {name}", digits(s / size))
}

/// `part` of `whole` as a percentage: `4.1 %`.
#[expect(clippy::cast_precision_loss, reason = "a figure for people")]
pub(super) fn rate(part: u64, whole: u64) -> String {
    if whole == 0 {
        return NONE.into();
    }
    if part == 0 {
        return "0 %".into();
    }
    let percent = part as f64 / whole as f64 * 100.0;
    if percent < 0.01 { "<0.01 %".into() } else { format!("{} %", digits(percent)) }
}

/// A count with its rate: `12 (4.1 %)`.
pub(super) fn count_and_rate(part: u64, whole: u64) -> String {
    if part == 0 { "0".into() } else { format!("{part} ({})", rate(part, whole)) }
}

/// A difference: three digits, with an exponent when it is tiny.
pub(super) fn difference(x: Option<f64>) -> String {
    match x {
        None => NONE.into(),
        Some(0.0) => "0".into(),
        Some(x) if x < 1e-3 => format!("{x:.1e}"),
        Some(x) => digits(x),
    }
}

/// Three significant digits, without an exponent.
fn digits(x: f64) -> String {
    let decimals = match x {
        x if x >= 99.95 => 0,
        x if x >= 9.995 => 1,
        x if x >= 0.9995 => 2,
        _ => 3,
    };
    format!("{x:.decimals$}")
}

/// What was counted by reason, in a line: `queue_count 3, shutdown 1`.
pub(super) fn by_reason(counts: &std::collections::BTreeMap<String, u64>) -> String {
    let parts: Vec<_> = counts.iter().map(|(reason, count)| format!("{reason} {count}")).collect();
    if parts.is_empty() { "0".into() } else { parts.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_three_digits_and_a_unit() {
        for (s, text) in [
            (12.34e-6, "12.3 µs"),
            (0.000_123_4, "123 µs"),
            (0.001_5, "1.50 ms"),
            (0.999_9, "1.00 s"),
            (999.9e-6, "1.00 ms"),
            (2.0, "2.00 s"),
            (300e-9, "300 ns"),
            (0.0, "0.000 ns"),
        ] {
            assert_eq!(seconds(Some(s)), text, "{s}");
        }
        assert_eq!(seconds(None), "-");
    }

    #[test]
    fn rates_tell_little_from_nothing() {
        for (part, whole, text) in [
            (0, 0, "-"),
            (0, 10, "0 %"),
            (1, 100_000, "<0.01 %"),
            (41, 1000, "4.10 %"),
            (1, 1, "100 %"),
        ] {
            assert_eq!(rate(part, whole), text);
        }
        assert_eq!(count_and_rate(41, 1000), "41 (4.10 %)");
    }

    #[test]
    fn tiny_differences_have_an_exponent() {
        for (x, text) in [(0.0, "0"), (1.2e-7, "1.2e-7"), (0.25, "0.250"), (12.345, "12.3")] {
            assert_eq!(difference(Some(x)), text);
        }
    }
}
