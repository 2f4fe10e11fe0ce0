//! Compares public surfaces with the committed ones under `tests/golden/`.

use std::path::Path;

/// Fails when `actual` differs from the golden file; with `UPDATE_GOLDEN=1`
/// in the environment it writes the file instead.
pub(crate) fn check(name: &str, actual: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some_and(|value| value == "1") {
        let folder = path.parent().unwrap();
        std::fs::create_dir_all(folder).unwrap();
        std::fs::write(&path, actual).unwrap();
        return;
    }
    let expected = std::fs::read_to_string(&path)
        .unwrap_or_else(|error| panic!("{}: {error}; UPDATE_GOLDEN=1 writes it", path.display()));
    let differs = expected.lines().zip(actual.lines()).position(|(a, b)| a != b);
    let line = differs.unwrap_or_else(|| expected.lines().count().min(actual.lines().count()));
    let at = |text: &str| text.lines().nth(line).unwrap_or("(end)").to_owned();
    assert!(
        expected == actual,
        "{name} changed at line {}:\n  was {}\n  is  {}\nIf that is meant, UPDATE_GOLDEN=1 rewrites it.",
        line + 1,
        at(&expected),
        at(actual)
    );
}
