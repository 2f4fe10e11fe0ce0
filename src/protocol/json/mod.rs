//! JSON straight into typed buffers, and back.
//!
//! serde_json reads the envelope and checks the grammar of the whole body;
//! large values stay borrowed as raw text. [`Tokens`] then walks such text
//! once more and [`nested`] puts its numbers into the buffer of the right
//! type, so that no tree of values is built.
//!
//! Invariants: nothing here panics, whatever the bytes; nesting is bounded by
//! the rank that the model declares; an error names the line and column of
//! the whole body.

mod element;
mod nested;
mod object;
mod position;
mod tokens;
mod write;

pub(super) use element::Element;
pub(super) use nested::{Fault, Size, What, fill};
pub(super) use object::Object;
pub(super) use position::{At, parse, parse_part, utf8};
pub(super) use tokens::{Token, Tokens, unescape};
pub(super) use write::{Keys, Unwritable, Writer};
