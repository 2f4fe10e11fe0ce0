//! The messages, made from `proto/`.
#![allow(dead_code, missing_docs, unreachable_pub, unused_qualifications, reason = "generated")]
#![allow(clippy::all, reason = "generated")]

include!(concat!(env!("OUT_DIR"), "/inference.rs"));

/// What they mean, for reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/inference.bin"));
