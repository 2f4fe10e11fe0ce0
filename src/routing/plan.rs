//! An immutable snapshot of who answers, and what it decides for a request.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crate::error::{Error, ErrorCode, Result};
use crate::routing::split::{Key, Purpose, Salt, point, within};
use crate::routing::{Answer, Judge, Worst};
use crate::serving::LoadedVersion;
use crate::telemetry::recorder::{self, Recorder};
use crate::telemetry::{ArmRole, ArmStats, Asked, Drawn, Groups, Keeper, Oddness, ShadowStats};
use crate::types::{ModelName, ModelSettings, PredictionId, Role, Share, VersionId};

/// A version that may answer, with the counts of its role.
#[derive(Clone)]
pub struct Arm {
    /// What runs.
    pub version: Arc<LoadedVersion>,
    /// Where its requests are counted.
    pub stats: Arc<ArmStats>,
    /// Keeps its answers for their labels, if its owner wants that.
    pub keeper: Option<Arc<Keeper>>,
}

/// The canary and its weight.
#[derive(Clone)]
pub struct Canary {
    /// The version.
    pub arm: Arm,
    /// Its share of the requests.
    pub weight: Share,
    /// It is the former champion, kept as a control: it answers those who
    /// would be the last to get a canary, so that nobody changes sides twice.
    pub holdback: bool,
    /// What its rollout is judged by.
    pub recorder: Arc<Recorder>,
}

/// A version that runs on copies of what the champion answered.
#[derive(Clone)]
pub struct Shadow {
    /// What runs.
    pub version: Arc<LoadedVersion>,
    /// The share of the champion's requests that are copied.
    pub sample: Share,
    /// Where its copies are counted.
    pub stats: Arc<ShadowStats>,
    /// The few worst disagreements.
    pub worst: Arc<Worst>,
    /// How its answers are compared with the champion's.
    pub judge: Arc<Judge>,
}

/// The most shadows a plan may have: each costs a copy per request.
pub const SHADOWS_MAX: usize = 16;

/// Who answers for one model. Published whole; never changed.
pub struct Plan {
    /// The model.
    pub model: ModelName,
    /// What its owner settled.
    pub settings: Arc<ModelSettings>,
    /// Counts publishes of this model, from 1.
    pub generation: u64,
    /// The secret of the split.
    pub salt: Salt,
    /// Numbers the requests without a key; shared by all plans of the model.
    pub counter: Arc<AtomicU64>,
    /// `None` while no version is ready.
    pub champion: Option<Arm>,
    /// Answers its share.
    pub canary: Option<Canary>,
    /// At most [`SHADOWS_MAX`].
    pub shadows: Vec<Shadow>,
    /// Every version that is ready, for pinned requests.
    pub ready: BTreeMap<VersionId, Arm>,
}

/// Why a version answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// The split said so.
    Split(ArmRole),
    /// The client asked for this version or role.
    Pinned(VersionId),
}

/// What the split decides for one request. It owns the plan, and so the
/// versions, until the request is done.
#[derive(Clone)]
pub struct Assignment {
    plan: Arc<Plan>,
    choice: Choice,
    /// Where the key that was given lies, while there is a canary.
    key: Option<u64>,
    /// Bit i is set when shadow i gets a copy.
    shadows: u32,
}

impl Plan {
    /// Decides for one request: a pinned `version` or a forced `role` if the
    /// client asked for one, else the split by `key`.
    pub fn assign(
        self: &Arc<Self>,
        version: Option<VersionId>,
        role: Option<Role>,
        key: Option<&[u8]>,
    ) -> Result<Assignment> {
        let (choice, shadows, key) = match (version, role) {
            (Some(version), _) => (Choice::Pinned(self.pinned(version)?), 0, None),
            (None, Some(role)) => (Choice::Pinned(self.forced(role)?), 0, None),
            (None, None) => self.split(key)?,
        };
        Ok(Assignment { plan: Arc::clone(self), choice, key, shadows })
    }

    fn pinned(&self, version: VersionId) -> Result<VersionId> {
        if self.ready.contains_key(&version) {
            return Ok(version);
        }
        let ready: Vec<_> = self.ready.keys().map(ToString::to_string).collect();
        Err(Error::new(
            ErrorCode::NotFound,
            format!("model {} has no ready version {version}; ready: {}", self.model, list(&ready)),
        ))
    }

    fn forced(&self, role: Role) -> Result<VersionId> {
        if !self.settings.allow_forced_role {
            return Err(Error::new(
                ErrorCode::PermissionDenied,
                format!(
                    "model {} does not let a request choose its role; set allow_forced_role in its model.toml",
                    self.model
                ),
            ));
        }
        let version = match role {
            Role::Champion => self.champion.as_ref().map(|arm| &arm.version),
            Role::Canary => self.canary.as_ref().map(|canary| &canary.arm.version),
            Role::Shadow => self.shadows.first().map(|shadow| &shadow.version),
        };
        version.map(|v| v.id()).ok_or_else(|| {
            Error::new(ErrorCode::NotFound, format!("model {} has no {role} now", self.model))
        })
    }

    fn split(&self, key: Option<&[u8]>) -> Result<(Choice, u32, Option<u64>)> {
        if self.champion.is_none() {
            return Err(Error::new(
                ErrorCode::Unavailable,
                format!("model {} has no champion that is ready", self.model),
            ));
        }
        let key = match key {
            Some(bytes) => Key::Given(bytes),
            None => Key::Counter(self.counter.fetch_add(1, Relaxed)),
        };
        let mut given = None;
        if let Some(canary) = &self.canary {
            let at = point(self.salt, Purpose::Canary, key);
            given = matches!(key, Key::Given(_)).then_some(at);
            if within(if canary.holdback { !at } else { at }, canary.weight) {
                canary.recorder.assigned(recorder::Arm::Canary, given);
                // A shadow is compared with the champion's answer; here there is none.
                return Ok((Choice::Split(ArmRole::Canary), 0, given));
            }
            canary.recorder.assigned(recorder::Arm::Champion, given);
        }
        let mut shadows = 0;
        for (i, shadow) in self.shadows.iter().enumerate().take(SHADOWS_MAX) {
            let purpose = Purpose::Shadow(shadow.version.id().get());
            if within(point(self.salt, purpose, key), shadow.sample) {
                shadows |= 1 << i;
            }
        }
        Ok((Choice::Split(ArmRole::Champion), shadows, given))
    }
}

/// A list for people.
fn list(items: &[String]) -> String {
    if items.is_empty() { "none".to_owned() } else { items.join(", ") }
}

impl Assignment {
    /// The plan that decided.
    #[must_use]
    pub const fn plan(&self) -> &Arc<Plan> {
        &self.plan
    }

    /// Why this version answers.
    #[must_use]
    pub const fn choice(&self) -> Choice {
        self.choice
    }

    /// The word for the reply: `champion`, `canary` or `pinned`.
    #[must_use]
    pub const fn role(&self) -> &'static str {
        match self.choice {
            Choice::Split(role) => role.as_str(),
            Choice::Pinned(_) => ArmRole::Pinned.as_str(),
        }
    }

    /// The version that answers, with its counts.
    #[must_use]
    pub fn arm(&self) -> &Arm {
        let arm = match self.choice {
            Choice::Split(ArmRole::Canary) => self.plan.canary.as_ref().map(|canary| &canary.arm),
            Choice::Split(_) => self.plan.champion.as_ref(),
            Choice::Pinned(version) => self.plan.ready.get(&version),
        };
        arm.expect("`assign` only chooses what the plan has, and a plan never changes")
    }

    /// The version that answers.
    #[must_use]
    pub fn version(&self) -> &Arc<LoadedVersion> {
        &self.arm().version
    }

    /// Where it counts for the judge, if it does.
    fn recorder(&self) -> Option<(&Recorder, recorder::Arm)> {
        let arm = match self.choice {
            Choice::Split(ArmRole::Champion) => recorder::Arm::Champion,
            Choice::Split(ArmRole::Canary) => recorder::Arm::Canary,
            Choice::Split(ArmRole::Pinned) | Choice::Pinned(_) => return None,
        };
        self.plan.canary.as_ref().map(|canary| (&*canary.recorder, arm))
    }

    /// Counts its answer for the judge and the monitor. Who asked for a version by
    /// its number or role may be trying it out: that is not its traffic. `id` is the
    /// answer's, as text and as it is; `groups` are those that its headers tell. How odd its
    /// rows are by the profile of the version that answered, for who asks for it; `None` if
    /// nothing tells.
    pub fn answered(
        &self,
        answer: &Answer,
        (text, id): (&str, PredictionId),
        groups: Groups,
        asks_oddness: bool,
    ) -> Option<Oddness> {
        let mut oddness = None;
        if matches!(self.choice, Choice::Split(_)) {
            let watch = self.version().watch();
            oddness = watch.answered(&answer.inputs, &answer.outputs, text, asks_oddness);
            if let Some(keeper) = &self.arm().keeper {
                let asked = Asked { id, key: self.key, groups };
                keeper.keep(asked, &answer.inputs, &answer.outputs);
            }
        } else if asks_oddness {
            oddness = self.version().watch().oddness(&answer.inputs);
        }
        if let Some((recorder, arm)) = self.recorder() {
            recorder.answered(arm, self.key, answer.queue + answer.inference, &answer.outputs);
        }
        oddness
    }

    /// Whether its answer, under this id, is to be offered to who stores a sample of such, as
    /// the owner of the model wants it. What a client asked a version for by its number or
    /// role is not its traffic.
    pub fn draw(&self, id: PredictionId) -> Option<Drawn> {
        let Choice::Split(role) = self.choice else { return None };
        self.version().watch().draw(role, id)
    }

    /// Tells the judge that the client left, who had waited for so long.
    pub fn left(&self, waited: Duration) {
        if let Some((recorder, arm)) = self.recorder() {
            recorder.left(arm, self.key, waited);
        }
    }

    /// Counts its failure for the judge.
    pub fn failed(&self, code: ErrorCode) {
        if let Some((recorder, arm)) = self.recorder() {
            recorder.failed(arm, self.key, code);
        }
    }

    /// The shadows that get a copy.
    pub fn shadows(&self) -> impl Iterator<Item = &Shadow> {
        let picked = self.shadows;
        let all = self.plan.shadows.iter().enumerate();
        all.filter(move |(i, _)| picked & (1 << i) != 0).map(|(_, shadow)| shadow)
    }

    /// Whether any shadow gets a copy.
    #[must_use]
    pub const fn has_shadows(&self) -> bool {
        self.shadows != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routing::testing::{adds, number, plan, shadow, version};
    use crate::telemetry::Metrics;

    fn share(percent: f64) -> Share {
        Share::from_percent(percent).unwrap()
    }

    #[test]
    fn a_key_always_meets_the_same_version() {
        let plan = plan(&Metrics::new(), ModelSettings::default(), Some(share(50.0)), vec![]);
        let mut canary = 0;
        for i in 0..1000_u32 {
            let key = i.to_le_bytes();
            let choose = || plan.assign(None, None, Some(&key)).unwrap().choice();
            assert_eq!(choose(), choose());
            canary += u32::from(choose() == Choice::Split(ArmRole::Canary));
        }
        assert!((400..600).contains(&canary), "{canary}");
    }

    #[test]
    fn a_control_answers_those_who_would_get_a_canary_last() {
        let metrics = Metrics::new();
        let ramp = plan(&metrics, ModelSettings::default(), Some(share(95.0)), vec![]);
        let watch = plan(&metrics, ModelSettings::default(), Some(share(5.0)), vec![]);
        let mut watch = Arc::into_inner(watch).unwrap();
        watch.canary.as_mut().unwrap().holdback = true;
        let watch = Arc::new(watch);
        for i in 0..1000_u32 {
            let choice = |plan: &Arc<Plan>| {
                plan.assign(None, None, Some(&i.to_le_bytes())).unwrap().choice()
            };
            // Who had the new version keeps it, as champion now.
            assert_ne!(choice(&ramp), choice(&watch), "{i}");
        }
    }

    #[test]
    fn what_the_split_assigned_counts_for_the_judge_and_nothing_else() {
        let plan = plan(&Metrics::new(), ModelSettings::default(), Some(share(50.0)), vec![]);
        let recorder = &plan.canary.as_ref().unwrap().recorder;
        for _ in 0..200 {
            let assignment = plan.assign(None, None, Some(b"one user")).unwrap();
            assignment.failed(ErrorCode::Internal);
        }
        let pinned = plan.assign(Some(number(2)), None, None).unwrap();
        pinned.failed(ErrorCode::Internal);
        let recorded = recorder.read();
        let error = recorder::Event::Error;
        let [events, all, assigned] = [
            recorded.champion.events(error) + recorded.canary.events(error),
            recorded.champion.all(error) + recorded.canary.all(error),
            recorded.champion.assigned + recorded.canary.assigned,
        ];
        assert_eq!((events, all, assigned), (1, 200, 1));
        for _ in 0..100 {
            drop(plan.assign(None, None, None).unwrap());
        }
        let recorded = recorder.read();
        assert_eq!(recorded.champion.assigned + recorded.canary.assigned, 101);
    }

    #[test]
    fn a_pinned_version_bypasses_split_and_shadows() {
        let metrics = Metrics::new();
        let shadows = vec![shadow(&metrics, &version(3, 1, adds(0.0)), Share::ALL)];
        let plan = plan(&metrics, ModelSettings::default(), Some(Share::ALL), shadows);
        let pinned = plan.assign(Some(number(1)), None, Some(b"k")).unwrap();
        assert_eq!((pinned.version().id(), pinned.role()), (number(1), "pinned"));
        assert!(!pinned.has_shadows());
        let error = plan.assign(Some(number(7)), None, None).err().unwrap();
        assert_eq!(error.message(), "model m has no ready version 7; ready: 1, 2");
    }

    #[test]
    fn a_role_is_forced_only_where_the_owner_allows_it() {
        let metrics = Metrics::new();
        let closed = plan(&metrics, ModelSettings::default(), Some(share(1.0)), vec![]);
        let error = closed.assign(None, Some(Role::Canary), None).err().unwrap();
        assert_eq!(error.code(), ErrorCode::PermissionDenied);
        let settings = ModelSettings { allow_forced_role: true, ..ModelSettings::default() };
        let open = plan(&metrics, settings, Some(share(1.0)), vec![]);
        let forced = open.assign(None, Some(Role::Canary), None).unwrap();
        assert_eq!((forced.version().id(), forced.role()), (number(2), "pinned"));
        assert!(open.assign(None, Some(Role::Shadow), None).is_err());
    }

    #[test]
    fn only_the_champions_requests_are_copied_at_the_sample_rate() {
        let metrics = Metrics::new();
        let shadows = vec![
            shadow(&metrics, &version(3, 1, adds(0.0)), Share::ALL),
            shadow(&metrics, &version(4, 1, adds(0.0)), share(25.0)),
        ];
        let plan = plan(&metrics, ModelSettings::default(), Some(share(50.0)), shadows);
        let (mut champion, mut copies) = (0, [0; 2]);
        for _ in 0..4000 {
            let assignment = plan.assign(None, None, None).unwrap();
            if assignment.choice() == Choice::Split(ArmRole::Canary) {
                assert!(!assignment.has_shadows());
                continue;
            }
            champion += 1;
            for shadow in assignment.shadows() {
                copies[usize::from(shadow.version.id() == number(4))] += 1;
            }
        }
        assert_eq!(copies[0], champion);
        assert!((champion / 5..champion * 3 / 10).contains(&copies[1]), "{copies:?} of {champion}");
    }
}
