//! What there is, and what clients had loaded and unloaded, in the protocols' words.

use crate::error::Result;
use crate::registry::{Change, Control, ModelView, Provenance, State, VersionView};
use crate::types::{IndexEntry, ModelName, ModelState, VersionId, Wish};

impl Control {
    /// Every version of every model, by model and version. A model without any
    /// stands there by its name. What retired for good does not.
    #[must_use]
    pub fn index(&self) -> Vec<IndexEntry> {
        self.models().iter().flat_map(|model| entries(model)).collect()
    }

    /// Does what a client wishes, and waits until it is done.
    ///
    /// # Errors
    /// `NotFound` for what has no folder; `Conflict` for what cannot be loaded, or
    /// must not be unloaded now; `Unavailable` where too many wait already.
    pub async fn grant(
        &self,
        wish: Wish,
        model: &ModelName,
        version: Option<VersionId>,
        by: Provenance,
    ) -> Result<()> {
        let change = match wish {
            Wish::Load => {
                self.look().await?;
                Change::Load { version }
            }
            Wish::Unload => Change::Unload { version },
        };
        self.change(model, change, by).await.map(drop)
    }
}

fn entries(model: &ModelView) -> Vec<IndexEntry> {
    let Ok(name) = model.name.parse::<ModelName>() else { return Vec::new() };
    let there = model.versions.iter().filter(|version| version.state != State::Retired);
    let entry = |version: &VersionView| IndexEntry {
        model: name.clone(),
        version: Some(version.version),
        state: state(version.state),
        reason: version.reason.clone().unwrap_or_default(),
    };
    let entries: Vec<_> = there.map(entry).collect();
    if !entries.is_empty() {
        return entries;
    }
    let (state, reason) = (ModelState::Unavailable, model.problems.join("; "));
    vec![IndexEntry { model: name, version: None, state, reason }]
}

const fn state(state: State) -> ModelState {
    match state {
        State::Ready => ModelState::Ready,
        State::Checking | State::Loading | State::WarmingUp => ModelState::Loading,
        State::Retiring => ModelState::Unloading,
        State::Discovered | State::Failed | State::Unloaded | State::Retired => {
            ModelState::Unavailable
        }
    }
}
