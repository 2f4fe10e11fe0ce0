//! What clients of the inference listener may do to the repository.

use crate::admin::Access;
use crate::error::{Error, ErrorCode, Result};
use crate::registry::{Control, Provenance};
use crate::types::{Asked, Granting, IndexEntry, ModelName, Repository, Wish};

/// Who stands in the audit log for a client without a token of its own.
const ACTOR: &str = "client";

/// Control's side of the protocols' repository extension.
pub(super) struct Clients {
    pub(super) control: Control,
    pub(super) access: Access,
    /// Whether they may have models loaded and unloaded at all.
    pub(super) load_unload: bool,
}

impl Clients {
    async fn granted(&self, asked: Asked<'_>) -> Result<()> {
        if !self.load_unload {
            return Err(Error::new(
                ErrorCode::PermissionDenied,
                "models are not loaded and unloaded through this API here; set load_unload = \
                 \"on\" in [repository] (FORESHADOW_REPOSITORY_LOAD_UNLOAD=on)",
            ));
        }
        let name = self.access.check_client(asked.headers)?;
        let model: ModelName = asked.model.parse()?;
        let reason = match asked.wish {
            Wish::Load => "the repository API's load",
            Wish::Unload => "the repository API's unload",
        };
        let by = Provenance {
            actor: name.unwrap_or_else(|| ACTOR.to_owned()),
            reason: Some(reason.to_owned()),
        };
        self.control.grant(asked.wish, &model, asked.version, by).await
    }
}

impl Repository for Clients {
    fn index(&self) -> Vec<IndexEntry> {
        self.control.index()
    }

    fn grant<'a>(&'a self, asked: Asked<'a>) -> Granting<'a> {
        Box::pin(self.granted(asked))
    }
}
