//! The levels of each model that are watched for a change all at once: requests per second,
//! the share of them that fails, and what its champion answers. Pure: times are on a clock
//! that only goes forward.
//!
//! Bounded: of a model two levels and the groups of answers ([`scores::GROUPS_MAX`]), of a
//! level 132 blocks.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::AlertSettings;
use super::scores::{self, Answers, Group};
use super::traffic::Tally;
use crate::analysis::{
    BASELINE_BLOCKS, Changed, Counted, LevelRule, LevelState, LevelWatch, UsualRule,
};
use crate::types::{JUDGED_ROWS_MIN, ModelName, VersionId};

/// A false alarm of a model is expected no more often than once in so long.
const FALSE_ALARMS_APART: Duration = Duration::from_secs(90 * 24 * 60 * 60);
/// Its kinds of levels, each of which has a third of those.
const KINDS: f64 = 3.0;

/// Below one request in ten seconds nothing is said of traffic, nor of one request a
/// second more or less.
const TRAFFIC: UsualRule = UsualRule { count_min: 60, of_min: 0.0, floor: 1.0 };
/// Two failures more of a thousand requests are worth no word.
#[expect(clippy::cast_precision_loss, reason = "a few hundred")]
const ERRORS: UsualRule = UsualRule { count_min: 0, of_min: JUDGED_ROWS_MIN as f64, floor: 0.002 };
/// Nor are answers that are so for one row more of a hundred.
const SCORES: UsualRule = UsualRule { floor: 0.01, ..ERRORS };

/// How the levels of a model stand.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct ModelLevels {
    /// Of requests per second.
    pub(super) traffic: Option<LevelState>,
    /// Of failures per request.
    pub(super) errors: Option<LevelState>,
    /// Of a champion's answers.
    pub(super) scores: Option<ScoreLevels>,
}

/// Of a champion's answers, those that changed.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct ScoreLevels {
    pub(super) version: VersionId,
    /// By the groups' names.
    pub(super) changed: Vec<(String, Changed)>,
}

/// Watches the levels of all models.
pub(super) struct Levels {
    watched: [bool; 3],
    /// Of a look.
    tick: f64,
    /// Of a baseline.
    seconds: f64,
    /// Between two false alarms of one kind of level.
    looks_between: f64,
    looked: Option<Duration>,
    models: BTreeMap<ModelName, Own>,
}

/// Those of one model.
struct Own {
    traffic: LevelWatch,
    errors: LevelWatch,
    scores: Option<Scores>,
}

/// Those of one champion, as long as it counts by one profile.
struct Scores {
    last: Answers,
    groups: Vec<(Group, LevelWatch)>,
}

impl Levels {
    pub(super) fn new(settings: &AlertSettings) -> Self {
        let AlertSettings { traffic_level, error_level, score_level, .. } = *settings;
        let tick = settings.tick.max(Duration::from_millis(1)).as_secs_f64();
        #[expect(clippy::cast_precision_loss, reason = "a few")]
        // Each block has a look at least.
        let seconds_min = tick * BASELINE_BLOCKS as f64;
        Self {
            watched: [traffic_level, error_level, score_level]
                .map(|watched| watched && settings.enabled),
            tick,
            seconds: settings.usual.as_secs_f64().max(seconds_min),
            looks_between: FALSE_ALARMS_APART.as_secs_f64() / tick * KINDS,
            looked: None,
            models: BTreeMap::new(),
        }
    }

    /// Whether anybody wants to know what champions answer.
    pub(super) const fn watches_scores(&self) -> bool {
        self.watched[2]
    }

    /// Takes what came since the last look, of all models that are there, and what their
    /// champions have answered so far; how their levels stand at `now`.
    pub(super) fn take(
        &mut self,
        now: Duration,
        news: &BTreeMap<ModelName, Tally>,
        mut answers: BTreeMap<ModelName, Answers>,
    ) -> BTreeMap<ModelName, ModelLevels> {
        let looked = self.looked.replace(now);
        self.models.retain(|model, _| news.contains_key(model));
        // What came before the first look came in nobody knows which time.
        let Some(looked) = looked else { return BTreeMap::new() };
        let seconds = now.saturating_sub(looked).as_secs_f64();
        let mut found = BTreeMap::new();
        for (model, news) in news {
            let mut own = self.models.remove(model).unwrap_or_else(|| self.begin());
            let levels = self.look(&mut own, seconds, *news, answers.remove(model));
            found.insert(model.clone(), levels);
            self.models.insert(model.clone(), own);
        }
        found
    }

    fn look(
        &self,
        own: &mut Own,
        seconds: f64,
        news: Tally,
        answers: Option<Answers>,
    ) -> ModelLevels {
        let [traffic, errors, scores] = self.watched;
        let seen = Counted { count: news.requests, of: seconds };
        let traffic = traffic.then(|| own.traffic.add(seen, seconds));
        let errors = errors.then(|| own.errors.add(share(news.faults, news.requests), seconds));
        let answers = answers.filter(|_| scores);
        let scores = answers.map(|answers| self.look_at(&mut own.scores, seconds, answers));
        ModelLevels { traffic, errors, scores }
    }

    /// A new champion, or a new profile, begins anew: it may well answer otherwise, which is
    /// for a rollout to judge. So does another share of a canary: a routing key stays with its
    /// version, so that those that are left to the champion may be others.
    fn look_at(&self, own: &mut Option<Scores>, seconds: f64, answers: Answers) -> ScoreLevels {
        let known = own.take().filter(|own| {
            own.last.version == answers.version
                && own.last.split == answers.split
                && Arc::ptr_eq(&own.last.profile, &answers.profile)
                && scores::go_on(&own.last.counts, &answers.counts)
        });
        let version = answers.version;
        let Some(mut known) = known else {
            *own = Some(self.begin_scores(answers));
            return ScoreLevels { version, changed: Vec::new() };
        };
        let mut changed = Vec::new();
        for (group, watch) in &mut known.groups {
            let (before, now) = (group.rows(&known.last.counts), group.rows(&answers.counts));
            let seen = share(now.0.saturating_sub(before.0), now.1.saturating_sub(before.1));
            let state = watch.add(seen, seconds);
            changed.extend(state.changed().map(|changed| (group.name.clone(), *changed)));
        }
        known.last = answers;
        *own = Some(known);
        ScoreLevels { version, changed }
    }

    fn begin(&self) -> Own {
        let watch = |usual, falls| LevelWatch::new(self.rule(usual, falls, 1.0));
        Own { traffic: watch(TRAFFIC, true), errors: watch(ERRORS, false), scores: None }
    }

    fn begin_scores(&self, last: Answers) -> Scores {
        let groups = scores::groups(&last.profile);
        #[expect(clippy::cast_precision_loss, reason = "a few")]
        let rule = self.rule(SCORES, true, groups.len() as f64);
        let groups = groups.into_iter().map(|group| (group, LevelWatch::new(rule))).collect();
        Scores { last, groups }
    }

    /// One of so many levels that share the false alarms of their kind.
    const fn rule(&self, usual: UsualRule, falls: bool, levels: f64) -> LevelRule {
        let looks_between = self.looks_between * levels;
        let (baseline_seconds, look_seconds) = (self.seconds, self.tick);
        LevelRule { usual, falls, baseline_seconds, look_seconds, looks_between }
    }
}

#[expect(clippy::cast_precision_loss, reason = "a share")]
const fn share(part: u64, whole: u64) -> Counted {
    Counted { count: part, of: whole as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::Direction;
    use crate::monitor::alerts::rules::tests::settings;
    use crate::types::{Bins, Counts, Share};

    fn m() -> ModelName {
        ModelName::new("m").unwrap()
    }

    /// A gateway whose only model is looked at each second.
    struct World {
        levels: Levels,
        second: u64,
        answers: Answers,
    }

    impl World {
        fn new(settings: &AlertSettings) -> Self {
            let profile = scores::tests::profile(vec![Bins::Integers(vec![0, 1])]);
            let answers = Answers {
                version: VersionId::new(1).unwrap(),
                split: None,
                counts: vec![vec![0; Counts::APART + 2]],
                profile: Arc::new(profile),
            };
            Self { levels: Levels::new(settings), second: 0, answers }
        }

        /// A second of so many requests, failures among them, and answers that are 1.
        fn second(&mut self, requests: u64, faults: u64, ones: u64) -> ModelLevels {
            self.second += 1;
            let places = &mut self.answers.counts[0];
            places[Counts::APART] += requests - ones;
            places[Counts::APART + 1] += ones;
            let news = Tally { requests, faults, ..Tally::default() };
            let (news, answers) = ([(m(), news)].into(), [(m(), self.answers.clone())].into());
            let now = Duration::from_secs(self.second);
            self.levels.take(now, &news, answers).remove(&m()).unwrap_or_default()
        }

        fn steady(&mut self, seconds: u64) {
            for i in 0..seconds {
                let levels = self.second(100 + i % 3, 0, 20 + i % 2);
                assert_eq!(told(&levels), (None, None, vec![]), "{i}");
            }
        }
    }

    type Told = (Option<Direction>, Option<Direction>, Vec<(String, Direction)>);

    /// What has changed: traffic, failures, answers.
    fn told(levels: &ModelLevels) -> Told {
        let direction = |state: &Option<LevelState>| Some(state.as_ref()?.changed()?.direction);
        let scores = levels.scores.iter().flat_map(|scores| &scores.changed);
        let scores = scores.map(|(name, changed)| (name.clone(), changed.direction)).collect();
        (direction(&levels.traffic), direction(&levels.errors), scores)
    }

    /// What has changed after ten seconds like this.
    fn after_ten(requests: u64, faults: u64, ones: u64) -> Told {
        let mut world = World::new(&settings());
        world.steady(800);
        (0..9).for_each(|_| drop(world.second(requests, faults, ones)));
        told(&world.second(requests, faults, ones))
    }

    #[test]
    fn each_level_is_told_by_itself_and_within_seconds() {
        use Direction::{Fell, Rose};
        assert_eq!(after_ten(200, 0, 40), (Some(Rose), None, vec![]));
        assert_eq!(after_ten(0, 0, 0), (Some(Fell), None, vec![]));
        assert_eq!(after_ten(100, 5, 20), (None, Some(Rose), vec![]));
        let ones = vec![("y0 = 0".to_owned(), Fell), ("y0 = 1".to_owned(), Rose)];
        assert_eq!(after_ten(100, 0, 80), (None, None, ones));
    }

    #[test]
    fn a_new_champion_or_profile_may_answer_otherwise() {
        let changes: [fn(&mut Answers); 4] = [
            |answers| answers.version = VersionId::new(2).unwrap(),
            |answers| answers.profile = Arc::new((*answers.profile).clone()),
            |answers| answers.split = Some((VersionId::new(2).unwrap(), Share::ALL)),
            // It counts anew.
            |answers| answers.counts[0].fill(0),
        ];
        for change in changes {
            let mut world = World::new(&settings());
            world.steady(800);
            change(&mut world.answers);
            for _ in 0..100 {
                assert_eq!(told(&world.second(100, 0, 80)).2, []);
            }
        }
    }

    #[test]
    fn models_that_are_gone_and_levels_that_nobody_wants_are_not_followed() {
        let mut world = World::new(&settings());
        world.steady(10);
        world.levels.take(Duration::from_secs(11), &BTreeMap::new(), BTreeMap::new());
        assert!(world.levels.models.is_empty());
        let none = AlertSettings {
            traffic_level: false,
            error_level: false,
            score_level: false,
            ..settings()
        };
        for settings in [none.clone(), AlertSettings { enabled: false, ..settings() }] {
            assert_eq!(settings.looks_every(), None);
            let mut world = World::new(&settings);
            world.steady(2);
            assert_eq!(world.second(100, 0, 0), ModelLevels::default());
            assert!(!world.levels.watches_scores());
        }
        let one = AlertSettings { error_level: true, ..none };
        assert_eq!(one.looks_every(), Some(Duration::from_secs(1)));
    }
}
