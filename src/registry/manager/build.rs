//! From who serves to the plan that says so.

use std::sync::Arc;

use crate::registry::manager::model::{Basis, Model};
use crate::registry::wanted::Resolved;
use crate::routing::{Arm, Canary, Judge, Plan, Salt, Shadow};
use crate::telemetry::{ArmRole, Metrics};
use crate::types::{Role, Share, VersionId};

/// The shares of a plan, for the metrics.
pub(super) fn shares(resolved: &Resolved) -> Vec<(VersionId, Role, Share)> {
    let weight = resolved.canary.map_or(Share::ZERO, |(_, weight)| weight);
    let rest = Share::ALL.basis_points() - weight.basis_points();
    let rest = Share::from_basis_points(rest).unwrap_or(Share::ZERO);
    let champion = resolved.champion.map(|version| (version, Role::Champion, rest));
    let canary = resolved.canary.map(|(version, weight)| (version, Role::Canary, weight));
    let shadows = resolved.shadows.iter().map(|(v, sample)| (*v, Role::Shadow, *sample));
    champion.into_iter().chain(canary).chain(shadows).collect()
}

/// Makes plans; handles of metrics are resolved here, once per publish.
pub(super) struct Builder {
    pub(super) metrics: Arc<Metrics>,
}

impl Builder {
    pub(super) fn plan(&self, model: &mut Model, basis: &Basis, salt: Salt) -> Plan {
        let champion = basis.resolved.champion.and_then(|v| self.arm(model, v, ArmRole::Champion));
        let canary = basis.resolved.canary.and_then(|(version, weight)| {
            Some(Canary { arm: self.arm(model, version, ArmRole::Canary)?, weight })
        });
        let ready = basis.ready.iter();
        let ready = ready.filter_map(|v| Some((*v, self.arm(model, *v, ArmRole::Pinned)?)));
        let ready = ready.collect();
        Plan {
            model: model.name.clone(),
            settings: Arc::clone(&basis.settings),
            generation: model.generation,
            salt,
            counter: Arc::clone(&model.counter),
            shadows: self.shadows(model, basis, champion.as_ref()),
            champion,
            canary,
            ready,
        }
    }

    fn arm(&self, model: &Model, version: VersionId, role: ArmRole) -> Option<Arm> {
        let loaded = model.entries.get(&version)?.loaded.as_ref()?;
        let stats = self.metrics.arm(&model.name, version, role);
        Some(Arm { version: Arc::clone(loaded), stats })
    }

    fn shadows(&self, model: &mut Model, basis: &Basis, champion: Option<&Arm>) -> Vec<Shadow> {
        let Some(champion) = champion else { return Vec::new() };
        let judge = Arc::new(Judge::new(champion.version.signature(), &basis.settings));
        let id = champion.version.id();
        let is_shadow = |version| basis.resolved.shadows.iter().any(|(v, _)| *v == version);
        model.worsts.retain(|(against, shadow), _| *against == id && is_shadow(*shadow));
        let shadow = |&(version, sample): &(VersionId, Share)| {
            let loaded = model.entries.get(&version)?.loaded.as_ref()?;
            Some(Shadow {
                version: Arc::clone(loaded),
                sample,
                stats: self.metrics.shadow(&model.name, version),
                worst: Arc::clone(model.worsts.entry((id, version)).or_default()),
                judge: Arc::clone(&judge),
            })
        };
        basis.resolved.shadows.iter().filter_map(shadow).collect()
    }
}
