//! How odd a request's rows are, in a reply's header: an item of a structured field
//! (RFC 9651), such as `usual;score=0.000;rows=1;odd=0` or `odd;score=3.301;row=0;why=above;input="age";rows=1;odd=1`.

use std::fmt::Write as _;

use http::HeaderValue;

use crate::telemetry::Oddness;

/// Writes it; `unknown` where nothing tells.
pub(super) fn oddness(oddness: Option<Oddness>) -> HeaderValue {
    let Some(Oddness { rows, odd, row, judged, input }) = oddness else {
        return HeaderValue::from_static("unknown");
    };
    let word = if odd > 0 { "odd" } else { "usual" };
    let (score, why) = (judged.score(), judged.why.as_str());
    let mut text = format!("{word};score={score:.3}");
    // Writing to a String cannot fail. Where each value is one of the usual, none is why.
    if judged.share < 1.0 {
        let _ = write!(text, ";row={row};why={why}");
        if let Some(input) = input {
            text.push_str(";input=");
            name(&input, &mut text);
        }
    }
    let _ = write!(text, ";rows={rows};odd={odd}");
    HeaderValue::try_from(text).unwrap_or_else(|_| HeaderValue::from_static("unknown"))
}

/// A name: a string, or a display string where it is not all of visible ASCII.
fn name(name: &str, text: &mut String) {
    if name.bytes().all(|b| b == b' ' || b.is_ascii_graphic()) {
        text.push('"');
        for c in name.chars() {
            if matches!(c, '"' | '\\') {
                text.push('\\');
            }
            text.push(c);
        }
        return text.push('"');
    }
    text.push_str("%\"");
    for byte in name.bytes() {
        match byte {
            b'%' | b'"' | ..b' ' | 0x7f.. => drop(write!(text, "%{byte:02x}")),
            plain => text.push(plain.into()),
        }
    }
    text.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{RowRarity, WhyOdd};

    fn told(share: f64, odd: u64, input: Option<&str>) -> String {
        let why = if input.is_some() { WhyOdd::Above } else { WhyOdd::MissingTogether };
        let judged = RowRarity { share, why, input: input.map(|_| 0) };
        let input = input.map(str::to_owned);
        let header = oddness(Some(Oddness { rows: 5, odd, row: 3, judged, input }));
        header.to_str().unwrap().to_owned()
    }

    #[test]
    fn a_header_tells_what_is_odd_and_how_much() {
        let cases = [
            (
                told(0.0005, 2, Some("age")),
                "odd;score=3.301;row=3;why=above;input=\"age\";rows=5;odd=2",
            ),
            (
                told(0.5, 0, Some("a\"b\\c")),
                "usual;score=0.301;row=3;why=above;input=\"a\\\"b\\\\c\";rows=5;odd=0",
            ),
            (
                told(0.0, 1, Some("für 5%\n")),
                "odd;score=12.000;row=3;why=above;input=%\"f%c3%bcr 5%25%0a\";rows=5;odd=1",
            ),
            (told(1.0, 0, Some("age")), "usual;score=0.000;rows=5;odd=0"),
            (told(0.1, 0, None), "usual;score=1.000;row=3;why=missing_together;rows=5;odd=0"),
        ];
        for (got, expected) in cases {
            assert_eq!(got, expected);
        }
        assert_eq!(oddness(None), "unknown");
    }
}
