//! What becomes of rollouts when the process starts, before anything is loaded.

use std::collections::BTreeMap;

use crate::error::Result;
use crate::registry::Unrecorded;
use crate::rollout::{Phase, Rollout};
use crate::store::{NewEntry, RolloutQuery, RolloutStep, Store, Wanted};

/// What a start goes on with.
#[derive(Default)]
pub struct Recovered {
    /// The rollouts that had not ended.
    pub open: Vec<Rollout>,
    /// What is in force although the store could not take it.
    pub unrecorded: Vec<Unrecorded>,
}

/// The rollouts that had not ended. One whose process ended uncleanly
/// `unclean_max` times within its stage is paused, and its version taken out of its
/// role: it may be what ends the process. Where exits cannot be counted, because the
/// store cannot be written, the first one is one too many.
///
/// # Errors
/// The store cannot be read.
pub async fn recover(store: &dyn Store, unclean_max: u32) -> Result<Recovered> {
    let mut recovered = Recovered::default();
    let rows = store.rollouts(&RolloutQuery::Open).await?;
    let newest: BTreeMap<_, _> = rows.iter().map(|row| (row.model.clone(), row.id)).collect();
    for row in rows {
        let mut rollout = match Rollout::read(&row) {
            Ok(rollout) => rollout,
            Err(error) => {
                tracing::error!(rollout = row.id, %error, "it stays as it is, and is not judged");
                continue;
            }
        };
        if newest.get(&row.model).is_some_and(|newest| *newest > row.id) {
            // One that was begun and told as refused, since the store did not answer.
            rollout.phase = Phase::Overtaken;
            "it was never under way".clone_into(&mut rollout.why);
            if let Err(error) = store.save_rollout(&rollout.row()).await {
                tracing::error!(rollout = rollout.id, %error, "it stays open");
            }
            continue;
        }
        let clean = std::mem::replace(&mut rollout.clean, false);
        if !clean {
            rollout.unclean += 1;
            rollout.gaps += 1;
            let saved = rollout.saved.clone();
            rollout.note("foreshadow", format!("unclean exit; counts since {saved} are missing"));
        }
        let counted = store.save_rollout(&rollout.row()).await;
        if let Err(error) = &counted {
            // Answers are worth more than the record of an exit.
            tracing::error!(rollout = rollout.id, %error, detail = error.detail(),
                "what the start found of a rollout cannot be kept");
        }
        let too_many = rollout.unclean >= unclean_max.max(1) || counted.is_err();
        let wanted = store.wanted(&rollout.model).await.unwrap_or_else(|error| {
            // That model is not loaded at all.
            tracing::error!(rollout = rollout.id, %error, "what is wanted cannot be read");
            None
        });
        let unsafe_now = |wanted: &Wanted| !clean && too_many && has_role(&rollout, wanted);
        if let Some(wanted) = wanted.filter(unsafe_now) {
            recovered
                .unrecorded
                .extend(take_out(store, &mut rollout, &wanted, counted.is_ok()).await);
        }
        recovered.open.push(rollout);
    }
    Ok(recovered)
}

/// Whether the version still answers, or runs on copies; one whose rollout a person
/// paused does.
fn has_role(rollout: &Rollout, wanted: &Wanted) -> bool {
    wanted.without(rollout.version, rollout.base) != *wanted
}

/// Pauses a rollout without its version; what the store could not take of it.
async fn take_out(
    store: &dyn Store,
    rollout: &mut Rollout,
    wanted: &Wanted,
    counted: bool,
) -> Option<Unrecorded> {
    let why = format!(
        "{} unclean exits in stage {}{}: the version may be what ends the process; resume it if it \
         is not",
        rollout.unclean,
        rollout.present(),
        if counted { "" } else { ", and the store cannot count more" }
    );
    (rollout.phase, rollout.why) = (Phase::Paused, why.clone());
    rollout.note("foreshadow", format!("paused ({why})"));
    tracing::error!(model = %rollout.model, version = %rollout.version, %why, "rollout paused");
    let next = wanted.without(rollout.version, rollout.base);
    let evidence = serde_json::to_string(&rollout.evidence).ok();
    let entry = NewEntry {
        actor: "foreshadow".to_owned(),
        action: format!("rollout {}: version {} taken out", rollout.id, rollout.version),
        reason: Some(why),
        from: wanted.to_string(),
        to: next.to_string(),
        rollout: Some(RolloutStep { row: rollout.row(), evidence }),
    };
    let model = rollout.model.clone();
    let Err(error) = store.record(&model, entry.clone(), &next).await else { return None };
    tracing::error!(%model, %error, "it is taken out, and recorded later");
    Some(Unrecorded { model, entry, wanted: next })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rollout::record::testing::rollout;
    use crate::store::{Memory, Unloaded};
    use crate::types::{Share, VersionId};

    fn id(n: u64) -> VersionId {
        VersionId::new(n).unwrap()
    }

    fn wanted() -> Wanted {
        Wanted {
            champion: Some(id(1)),
            previous: vec![],
            canary: Some((id(3), Share::from_percent(5.0).unwrap())),
            holdback: false,
            shadows: vec![],
            salt: [0; 16],
            unloaded: Unloaded::default(),
            pinned: [].into(),
            newest: None,
        }
    }

    async fn kept(store: &Memory, rollout: &mut Rollout) {
        let entry = NewEntry {
            actor: "eve".into(),
            action: "stage".into(),
            reason: None,
            from: String::new(),
            to: String::new(),
            rollout: Some(RolloutStep { row: rollout.row(), evidence: None }),
        };
        store.record(&rollout.model.clone(), entry, &wanted()).await.unwrap();
    }

    #[tokio::test]
    async fn a_clean_end_costs_nothing_and_an_unclean_one_is_told() {
        let store = Memory::default();
        let mut before = rollout();
        before.clean = true;
        kept(&store, &mut before).await;
        let after = recover(&store, 3).await.unwrap().open.remove(0);
        assert_eq!((after.unclean, after.gaps, after.phase.clone()), (0, 0, Phase::Running));
        // Nobody has told it to end since.
        let after = recover(&store, 3).await.unwrap().open.remove(0);
        assert_eq!((after.unclean, after.gaps, after.phase), (1, 1, Phase::Running));
        assert!(after.log[0].text.starts_with("unclean exit; counts since 20"));
    }

    #[tokio::test]
    async fn after_several_in_a_stage_its_version_is_taken_out() {
        let store = Memory::default();
        let mut before = rollout();
        before.enter(2);
        kept(&store, &mut before).await;
        for _ in 0..2 {
            assert_eq!(recover(&store, 3).await.unwrap().open[0].phase, Phase::Running);
        }
        let after = recover(&store, 3).await.unwrap().open.remove(0);
        assert_eq!(after.phase, Phase::Paused);
        assert!(after.why.starts_with("3 unclean exits in stage canary 5%"), "{}", after.why);
        let model = after.model.clone();
        assert_eq!(store.wanted(&model).await.unwrap().unwrap().canary, None);
        let newest = store.history(Some(&model), 1).await.unwrap().remove(0);
        assert_eq!(newest.action, "rollout 7: version 3 taken out");
        assert_eq!((&*newest.from, &*newest.to), ("champion 1, canary 3 at 5%", "champion 1"));
        // A pause outlives more of them.
        assert_eq!(recover(&store, 3).await.unwrap().open[0].phase, Phase::Paused);
    }

    #[tokio::test]
    async fn where_exits_cannot_be_counted_one_is_too_many() {
        let folder = tempfile::tempdir().unwrap();
        let store = crate::store::Sqlite::open(folder.path()).await.unwrap();
        let mut before = rollout();
        before.enter(2);
        let entry = NewEntry {
            actor: "eve".into(),
            action: "stage".into(),
            reason: None,
            from: String::new(),
            to: String::new(),
            rollout: Some(RolloutStep { row: before.row(), evidence: None }),
        };
        store.record(&before.model, entry, &wanted()).await.unwrap();
        drop(store);
        let store = crate::store::Sqlite::open_as_it_is(folder.path()).await.unwrap();
        let Recovered { open, unrecorded } = recover(&store, 3).await.unwrap();
        assert_eq!(open[0].phase, Phase::Paused);
        assert!(open[0].why.contains("and the store cannot count more"), "{}", open[0].why);
        let Unrecorded { model, entry, wanted } = &unrecorded[0];
        assert_eq!((model, wanted.canary), (&before.model, None));
        assert_eq!(entry.action, "rollout 7: version 3 taken out");
    }

    #[tokio::test]
    async fn a_pause_by_hand_protects_no_version_that_ends_the_process() {
        let store = Memory::default();
        let mut before = rollout();
        before.enter(2);
        before.phase = Phase::Paused;
        kept(&store, &mut before).await;
        for _ in 0..3 {
            recover(&store, 3).await.unwrap();
        }
        assert_eq!(store.wanted(&before.model).await.unwrap().unwrap().canary, None);
    }

    #[test]
    fn a_watched_champion_gives_way_to_the_one_before() {
        let promoted = Wanted {
            champion: Some(id(3)),
            previous: vec![id(1)],
            canary: Some((id(1), Share::from_percent(5.0).unwrap())),
            holdback: true,
            ..wanted()
        };
        let safe = promoted.without(id(3), id(1));
        assert_eq!((safe.champion, safe.canary, safe.previous), (Some(id(1)), None, vec![]));
    }
}
