//! JSON for property tests, whole and damaged.

use proptest::prelude::*;
use serde_json::Value;

/// Any JSON value, not too large.
pub(in crate::protocol) fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".*".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::btree_map(".{0,4}", inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

/// Bytes that matter to the grammar.
const MARKS: &[u8] = b"[]{},:\"\\-+.0e1n \n";

/// Puts one byte in, takes one out, or puts one in another's place.
pub(in crate::protocol) fn damage(text: &str, at: usize, mark: usize, how: u8) -> String {
    let mut bytes = text.as_bytes().to_vec();
    let (at, mark) = (at % (bytes.len() + 1), MARKS[mark % MARKS.len()]);
    match how % 3 {
        0 => bytes.insert(at, mark),
        1 if at < bytes.len() => drop(bytes.remove(at)),
        _ if at < bytes.len() => bytes[at] = mark,
        _ => {}
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// JSON with one byte wrong; some of it is JSON all the same.
pub(in crate::protocol) fn damaged() -> impl Strategy<Value = String> {
    (any_json(), any::<usize>(), any::<usize>(), any::<u8>())
        .prop_map(|(json, at, mark, how)| damage(&json.to_string(), at, mark, how))
}
