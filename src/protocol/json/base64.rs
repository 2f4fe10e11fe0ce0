//! Bytes that are no text, as TensorFlow Serving has them in JSON:
//! `{"b64": "aGk="}`.

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

/// The only key of the object.
pub(in crate::protocol) const KEY: &str = "b64";

/// The standard alphabet; padding is written, and read where it is there.
const ENGINE: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// What an object that is no bytes is told.
pub(super) fn expected() -> String {
    "expected a string or {\"b64\": \"…\"} (BYTES), got another object".to_owned()
}

/// The bytes of an encoded text. Line ends and blanks in it mean nothing: some
/// encoders break lines.
pub(super) fn decode(text: &str) -> Result<Vec<u8>, String> {
    let decoded = if text.contains(|c: char| c.is_ascii_whitespace()) {
        let dense: String = text.split_ascii_whitespace().collect();
        ENGINE.decode(dense)
    } else {
        ENGINE.decode(text)
    };
    decoded.map_err(|error| format!("\"b64\": {error}"))
}

/// Appends the text of `bytes`.
pub(super) fn encode(bytes: &[u8], out: &mut Vec<u8>) {
    let start = out.len();
    // Four characters for three bytes; for no bytes that fit into memory does
    // this overflow.
    out.resize(start + bytes.len().div_ceil(3) * 4, 0);
    let written = ENGINE.encode_slice(bytes, &mut out[start..]).expect("there is room for it");
    out.truncate(start + written);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn padding_and_line_ends_do_not_matter() {
        for text in ["aGk=", "aGk", "aG\nk=\n", " aGk = "] {
            assert_eq!(decode(text).as_deref(), Ok(&b"hi"[..]), "{text:?}");
        }
        assert_eq!(decode("").as_deref(), Ok(&b""[..]));
        for text in ["aGk-", "a", "a=Gk", "é"] {
            assert!(decode(text).unwrap_err().starts_with("\"b64\": Invalid"), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn bytes_come_back(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            let mut out = b"in front".to_vec();
            encode(&bytes, &mut out);
            let text = std::str::from_utf8(&out["in front".len()..]).unwrap();
            prop_assert_eq!(text.len() % 4, 0);
            prop_assert_eq!(decode(text), Ok(bytes));
        }
    }
}
