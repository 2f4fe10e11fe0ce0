//! The rows that are sent.

use std::path::Path;

use bytes::Bytes;
use serde_json::{Value, json};

use crate::cli::failure::Failure;

/// The largest file of rows.
const BYTES_MAX: u64 = 64 << 20;

/// One request body for each row of a file `{"instances": […]}`.
pub(super) fn bodies(file: &Path) -> Result<Vec<Bytes>, Failure> {
    let shown = file.display();
    let size = std::fs::metadata(file).map(|found| found.len());
    if size.is_ok_and(|size| size > BYTES_MAX) {
        return Err(Failure::failed(format!("{shown}: larger than {BYTES_MAX} bytes")));
    }
    let text = std::fs::read(file).map_err(|error| {
        Failure::failed(format!("{shown} cannot be read ({error}); name the rows with --rows FILE"))
    })?;
    let sample: Value = serde_json::from_slice(&text)
        .map_err(|error| Failure::failed(format!("{shown}: {error}")))?;
    match sample.get("instances") {
        Some(Value::Array(rows)) if !rows.is_empty() => Ok(rows.iter().map(body).collect()),
        _ => Err(Failure::failed(format!("{shown}: expected {{\"instances\": [row, …]}}"))),
    }
}

fn body(row: &Value) -> Bytes {
    Bytes::from(json!({"instances": [row]}).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_row_becomes_a_request() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("sample.json");
        std::fs::write(&file, r#"{"instances": [[1, 2], {"a": 3}]}"#).unwrap();
        let bodies = bodies(&file).unwrap();
        assert_eq!(bodies, [r#"{"instances":[[1,2]]}"#, r#"{"instances":[{"a":3}]}"#]);
    }

    #[test]
    fn what_is_wrong_with_the_file_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("sample.json");
        assert!(bodies(&file).unwrap_err().to_string().contains("--rows FILE"));
        for (text, expected) in
            [("{", "line 1"), ("[]", "instances"), (r#"{"instances":[]}"#, "row")]
        {
            std::fs::write(&file, text).unwrap();
            let failure = bodies(&file).unwrap_err().to_string();
            assert!(failure.contains(expected), "{failure}");
        }
    }
}
