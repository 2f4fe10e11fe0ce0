//! The repository as the protocols see it: what there is, and what a client may
//! have loaded and unloaded. Control implements it; `app` hands it over.

use std::pin::Pin;

use http::HeaderMap;

use crate::error::Result;
use crate::types::{ModelName, VersionId};

/// Whether a version can answer, in the words of the protocol's extension.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ModelState {
    /// It answers.
    Ready,
    /// It does not, and the reason says why.
    Unavailable,
    /// It is on its way.
    Loading,
    /// It answers nobody any more; requests may still finish on it.
    Unloading,
}

impl ModelState {
    /// The word in a reply.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "READY",
            Self::Unavailable => "UNAVAILABLE",
            Self::Loading => "LOADING",
            Self::Unloading => "UNLOADING",
        }
    }
}

/// One line of the index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IndexEntry {
    /// The model.
    pub model: ModelName,
    /// The version; `None` where the model has none.
    pub version: Option<VersionId>,
    /// Whether it answers.
    pub state: ModelState,
    /// Why it does not, or what it waits for; often empty.
    pub reason: String,
}

/// What a client may ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// To look at the folder now, to load what is not loaded, and to try again
    /// what failed.
    Load,
    /// To answer with it no more, and to free its memory.
    Unload,
}

/// A client's wish.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// What it wants.
    pub wish: Wish,
    /// The model.
    pub model: &'a str,
    /// The version; all of them for `None`.
    pub version: Option<VersionId>,
    /// The headers (or the metadata) that came with it: they say who asks.
    pub headers: &'a HeaderMap,
}

/// A wish under way.
pub type Granting<'a> = Pin<Box<dyn Future<Output = Result<()>> + Send + 'a>>;

/// What the protocols reach of control.
pub trait Repository: Send + Sync {
    /// Every version of every model, by model and version.
    fn index(&self) -> Vec<IndexEntry>;

    /// Does what is asked for, and waits until it is done: of a load, until the
    /// versions are ready or have failed; of an unload, until nothing answers
    /// with them any more.
    ///
    /// # Errors
    /// `PermissionDenied` and `Unauthenticated` for who may not ask; `NotFound`
    /// for what has no folder; `Conflict` for what cannot be loaded, or must not
    /// be unloaded now, with the reason.
    fn grant<'a>(&'a self, asked: Asked<'a>) -> Granting<'a>;
}
