//! The file format, as far as both engines need it: the file itself, and the
//! tensors that it keeps in other files.

pub(super) mod external;
pub(super) mod file;
mod scan;

pub use scan::{ExternalFile, external_files};
