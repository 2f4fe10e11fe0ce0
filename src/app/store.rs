//! Opens the store, and decides what becomes of a start without one.
//!
//! A gateway whose store cannot be used does not start, unless it is told to
//! (`[repository] store_required = "off"`). The store alone knows what was acknowledged:
//! started without it, a model may be answered by another champion than yesterday, and
//! nobody would have decided that. So an operator decides it beforehand, where answers
//! are worth more than the right version, and sees it in the banner, `/healthz`, the
//! log, and `foreshadow_store_up`.
//!
//! Where the disk is full, or can only be read, and what is in the store can be read, the
//! start goes on in either case: everything that was acknowledged is known.
//!
//! Then: a store that can be read, and not written, says what is wanted, which is in
//! force. One that cannot be read is left as it is; each model starts as one that is
//! seen for the first time. In both cases what adds risk is refused with the reason.

use std::io::{ErrorKind, Write as _};
use std::path::Path;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::store::{Sqlite, Store, Unusable};

/// A store, and what is wrong with it.
pub(super) struct Opened {
    pub(super) store: Arc<dyn Store>,
    pub(super) problem: Option<String>,
}

/// Opens the store in the state folder.
///
/// # Errors
/// It cannot be used, and is required.
pub(super) async fn open(folder: &Path, required: bool) -> Result<Opened> {
    let error = match Sqlite::open(folder).await {
        Ok(store) => return Ok(Opened { store: Arc::new(store), problem: None }),
        Err(error) => error,
    };
    // Where only the disk is at fault, it is known who is champion.
    if required && !cannot_be_written(folder) {
        return Err(hinted(&error));
    }
    let why = error.message().to_owned();
    match Sqlite::open_as_it_is(folder).await {
        Ok(store) => {
            let problem = format!("{why} (it can be read: what it says is in force)");
            Ok(Opened { store: Arc::new(store), problem: Some(problem) })
        }
        Err(_) if required => Err(hinted(&error)),
        Err(_) => {
            let problem = format!("{why} (each model starts as its model.toml says)");
            let store = Arc::new(Unusable::new(why));
            Ok(Opened { store, problem: Some(problem) })
        }
    }
}

/// Whether a folder's disk takes nothing: it is full, or can only be read.
fn cannot_be_written(folder: &Path) -> bool {
    let write = || tempfile::tempfile_in(folder).and_then(|mut file| file.write_all(&[0; 1 << 16]));
    write().is_err_and(|error| {
        matches!(
            error.kind(),
            ErrorKind::ReadOnlyFilesystem | ErrorKind::StorageFull | ErrorKind::QuotaExceeded
        )
    })
}

fn hinted(error: &Error) -> Error {
    let message = format!(
        "{}. To answer meanwhile, although what was wanted may be lost on the way: [repository] \
         store_required = \"off\"",
        error.message()
    );
    let hinted = Error::new(error.code(), message);
    match error.detail() {
        Some(detail) => hinted.with_detail(detail),
        None => hinted,
    }
}
