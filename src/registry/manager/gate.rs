//! Who may become ready or get a role beside the present champion.

use crate::error::{Error, ErrorCode, Result};
use crate::registry::gate::{self, Champion};
use crate::registry::manager::Manager;
use crate::registry::manager::model::{Entry, Model};
use crate::registry::settings::Gate;
use crate::registry::{Change, State, wanted};
use crate::types::{ModelName, Signature, VersionId};

impl Model {
    /// Whether a version that was loaded may become ready; the error says why
    /// not.
    pub(super) fn admit(
        &self,
        version: VersionId,
        signature: &Signature,
        row_seconds: Option<f64>,
    ) -> std::result::Result<(), String> {
        let gate = self.gate_for(version);
        gate::signature(gate, self.champion(), signature)?;
        gate::cost(gate, row_seconds)
    }

    /// What a version must fulfil to become ready.
    pub(super) fn gate_for(&self, version: VersionId) -> Gate {
        let again = self.entries.get(&version).is_some_and(|entry| entry.kept.is_some());
        if again || self.is_established(version) {
            return Gate { allow_signature_change: true, cost_max: None };
        }
        self.gate()
    }

    /// Whether a change may give its version a role: the champion may be
    /// another one than when the version became ready. What reduces risk is
    /// never refused, and so a rollback is always possible.
    pub(super) fn admit_to_role(&self, change: &Change) -> Result<()> {
        let (Change::SetCanary { version, .. }
        | Change::SetShadow { version, .. }
        | Change::Promote { version }) = *change
        else {
            return Ok(());
        };
        if self.wanted.as_ref().is_some_and(|wanted| wanted::reduces_risk(wanted, change)) {
            return Ok(());
        }
        let loaded = self.entries.get(&version).and_then(|entry| entry.loaded.as_ref());
        let Some(loaded) = loaded else { return Ok(()) };
        gate::signature(self.gate(), self.champion(), loaded.signature())
            .map_err(|why| Error::new(ErrorCode::Conflict, format!("version {version}: {why}")))
    }

    /// It was champion, or is to be: it must come back after a restart, and be
    /// there for a rollback, whatever was promoted since.
    fn is_established(&self, version: VersionId) -> bool {
        self.wanted.as_ref().is_some_and(|wanted| {
            wanted.champion == Some(version) || wanted.previous.contains(&version)
        })
    }

    fn gate(&self) -> Gate {
        self.file.as_ref().map(|file| file.gate).unwrap_or_default()
    }

    /// Who serves.
    fn champion(&self) -> Option<Champion<'_>> {
        let version = self.basis.resolved.champion?;
        let loaded = self.entries.get(&version)?.loaded.as_ref()?;
        Some(Champion { version, signature: loaded.signature() })
    }

    /// Versions that the gate refused and would let pass now, or that failed as
    /// they were declared and are declared otherwise now.
    fn readmitted(&self) -> Vec<VersionId> {
        let declared = self.file.as_ref().and_then(|file| file.declared());
        let passes = |(version, entry): &(&VersionId, &Entry)| {
            let free = entry.state == State::Failed && entry.present && !entry.busy;
            let tried = entry.intake.as_ref().filter(|_| free);
            if tried.is_some_and(|intake| intake.declared.as_ref() != declared) {
                return true;
            }
            let row_seconds = entry.report.as_ref().and_then(|report| report.row_seconds());
            let refused = entry.refused.as_ref().filter(|_| free);
            refused.is_some_and(|refused| self.admit(**version, refused, row_seconds).is_ok())
        };
        self.entries.iter().filter(passes).map(|(version, _)| *version).collect()
    }
}

impl Manager {
    /// Tries those again that may pass now: the settings or the champion are
    /// others. They begin a new life; whether there are any.
    pub(super) fn readmit(&mut self, name: &ModelName) -> bool {
        let Some(model) = self.models.get_mut(name) else { return false };
        let versions = model.readmitted();
        for version in &versions {
            tracing::info!(model = %name, %version, "what refused it is no more; tried again");
            self.begin_anew(name, *version);
        }
        !versions.is_empty()
    }
}
