//! From who serves to the plan that says so.

use std::sync::Arc;

use crate::registry::manager::model::{Basis, Model};
use crate::registry::wanted::Resolved;
use crate::routing::{Arm, Canary, Judge, Plan, Salt, Shadow};
use crate::telemetry::recorder::Recorder;
use crate::telemetry::{Answerer, ArmRole, Metrics};
use crate::types::{ModelSettings, Role, Share, VersionId};

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

/// The counts for the split of a plan: the former plan's if it is the same split.
fn recorder(model: &mut Model, resolved: &Resolved, salt: Salt) -> Option<Arc<Recorder>> {
    let (champion, (canary, weight)) = (resolved.champion?, resolved.canary?);
    let split = Split { champion, canary, weight, salt };
    if let Some((former, recorder)) = &model.recorder
        && *former == split
    {
        return Some(Arc::clone(recorder));
    }
    // A promotion exchanges the two; what was measured by stays.
    let former = model.recorder.take().filter(|(former, _)| former.is_between(&split));
    let yardstick = former.map(|(_, recorder)| Arc::clone(recorder.yardstick()));
    let recorder = Arc::new(Recorder::new(weight, yardstick.unwrap_or_default()));
    model.recorder = Some((split, Arc::clone(&recorder)));
    Some(recorder)
}

/// What a recorder counts for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Split {
    champion: VersionId,
    canary: VersionId,
    weight: Share,
    salt: Salt,
}

impl Split {
    /// Whether both are between the same two versions, in the same rollout.
    fn is_between(&self, other: &Self) -> bool {
        let pair = |split: &Self| {
            let (a, b) = (split.champion, split.canary);
            (a.min(b), a.max(b))
        };
        self.salt == other.salt && pair(self) == pair(other)
    }
}

impl Builder {
    pub(super) fn plan(&self, model: &mut Model, basis: &Basis, salt: Salt) -> Plan {
        let settings = &*basis.settings;
        self.metrics.set_label_settings(&model.name, settings.labels.as_ref());
        // Of those without a role as well: none may hold on to what is not wanted any more.
        let tap = self.metrics.captures().tap(&model.name, settings);
        let loaded = model.entries.values().filter_map(|entry| entry.loaded.as_ref());
        loaded.for_each(|loaded| loaded.watch().capture_by(tap.clone()));
        let split = basis.resolved.canary.map(|(_, weight)| (salt.bytes(), weight));
        let champion = basis.resolved.champion;
        let champion = champion.and_then(|v| self.arm(model, settings, v, ArmRole::Champion));
        let champion = champion.map(|arm| self.kept(arm, settings, ArmRole::Champion, split));
        let canary = basis.resolved.canary.and_then(|(version, weight)| {
            let arm = self.arm(model, settings, version, ArmRole::Canary)?;
            let arm = self.kept(arm, settings, ArmRole::Canary, split);
            let recorder = recorder(model, &basis.resolved, salt)?;
            Some(Canary { arm, weight, holdback: basis.resolved.holdback, recorder })
        });
        let ready = basis.ready.iter();
        let ready =
            ready.filter_map(|v| Some((*v, self.arm(model, settings, *v, ArmRole::Pinned)?)));
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

    fn arm(
        &self,
        model: &Model,
        settings: &ModelSettings,
        version: VersionId,
        role: ArmRole,
    ) -> Option<Arm> {
        let loaded = model.entries.get(&version)?.loaded.as_ref()?;
        let stats = self.metrics.arm(&model.name, version, role);
        loaded.watch().settle(settings);
        self.metrics.watches().add(loaded.watch());
        Some(Arm { version: Arc::clone(loaded), stats, keeper: None })
    }

    /// The same, keeping its answers if the model's owner wants that.
    fn kept(
        &self,
        arm: Arm,
        settings: &ModelSettings,
        role: ArmRole,
        split: Option<([u8; 16], Share)>,
    ) -> Arm {
        let Some(labels) = settings.labels.clone() else { return arm };
        let version = &*arm.version;
        let answerer = Answerer {
            model: version.model().clone(),
            version: version.id(),
            digest: version.digest(),
            role,
            split,
            labels,
        };
        let keeper = self.metrics.keeper(answerer, version.signature(), settings);
        Arm { keeper: Some(Arc::new(keeper)), ..arm }
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
