//! Broken and hostile files are refused with a reason, and never panic.
