//! Who answered, as it is stored.

use serde::{Deserialize, Serialize};

use crate::telemetry::Answerer;
use crate::types::{Digest, LabelSettings, ModelName, PredictionId, Share, VersionId};

/// An answerer as it is stored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Who {
    pub(super) model: ModelName,
    pub(super) version: VersionId,
    pub(super) digest: Digest,
    pub(super) role: String,
    /// The split's salt, in hex, and the canary's share.
    pub(super) split: Option<(String, Share)>,
    pub(super) labels: LabelSettings,
}

impl Who {
    /// Whether its sums mean the same: the same content, classes and groups.
    pub(super) fn is_like(&self, other: &Self) -> bool {
        let groups = |who: &Self| (who.labels.classes.clone(), who.labels.groupings.clone());
        self.digest == other.digest && groups(self) == groups(other)
    }
}

impl From<&Answerer> for Who {
    fn from(answerer: &Answerer) -> Self {
        let hex = |salt: [u8; 16]| PredictionId(salt).to_string();
        Self {
            model: answerer.model.clone(),
            version: answerer.version,
            digest: answerer.digest,
            role: answerer.role.as_str().to_owned(),
            split: answerer.split.map(|(salt, share)| (hex(salt), share)),
            labels: (*answerer.labels).clone(),
        }
    }
}
