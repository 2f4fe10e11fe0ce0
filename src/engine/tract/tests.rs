//! The engine against onnxruntime's answers, and against broken files.

mod answers;
mod broken;
pub(in crate::engine) mod graphs;
mod ml;
mod plans;
mod shapes;

#[test]
fn the_version_that_is_told_is_the_one_that_is_built_in() {
    use crate::engine::Engine as _;
    let lock = include_str!("../../../Cargo.lock");
    let package = lock.split("[[package]]").find(|p| p.contains("\nname = \"tract-onnx\"\n"));
    let expected = format!("\nversion = \"{}\"\n", super::Tract::new().version());
    assert!(package.unwrap().contains(&expected), "{expected:?} is not in {package:?}");
}
