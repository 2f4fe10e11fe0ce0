//! TensorFlow Serving's REST API (V1): what is asked about models. Its
//! `:predict` is a dialect of [`super::predict`].

pub(super) mod metadata;
pub(super) mod status;
#[cfg(test)]
mod tests;

/// The name of the only signature that a model has.
pub(super) const SIGNATURE: &str = "serving_default";
