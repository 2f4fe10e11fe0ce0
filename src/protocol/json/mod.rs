//! JSON straight into typed buffers, and back.
//!
//! A body is read once: [`Object::skim`] finds the values of its envelope, and
//! looks through what is large in it only for its end; [`Reader`] then checks
//! the grammar of such a value while it puts its numbers into the buffer of the
//! right type. No tree of values is built. Whenever that fails, serde_json
//! reads the body from its beginning: its word counts for what is wrong with
//! the grammar, and where, before anything else is said.
//!
//! Invariants: nothing here panics, whatever the bytes; nesting is bounded by
//! the rank that the model declares; an error names the line and column of
//! the whole body; what is answered was read, and so checked, to its end.

mod base64;
mod element;
mod half;
mod nested;
mod number;
mod object;
mod position;
mod reader;
#[cfg(test)]
pub(super) mod testing;
mod tokens;
mod write;

pub(super) use base64::KEY as B64;
pub(super) use element::Element;
pub(super) use nested::{Fault, Size, What, fill};
pub(super) use object::{KEYS_MAX, Object};
pub(super) use position::{At, parse, parse_part, utf8};
pub(super) use reader::{Malformed, Reader};
pub(super) use tokens::{Token, Tokens, unescape};
pub(super) use write::{Keys, NoText, Unwritable, Writer};
