//! How often groups are selected: by what was answered, without labels. Pure.

use std::collections::BTreeSet;

use super::{SELECTION, Taken, declared};
use crate::store::NewPrediction;
use crate::telemetry::{GroupSelection, SelectedRows, Selection, SelectionCounts};
use crate::types::{LabelSettings, RowAnswer, Share};

/// The class whose answers select: the second of two.
const POSITIVE: u16 = 1;
/// Routing keys that are remembered while the canary has one share, each once for each of its
/// groups; so those of its first stage leave room for those of its last. Of 17 shares, the most
/// that there are, some 20 MB.
pub(super) const KEYS_OF_SHARE_MAX: u64 = 50_000;

/// Counts the first row of each group in a request, on the side where it was answered and at
/// the share then. `take` remembers its routing key, if there is room for it.
pub(super) fn count(
    selection: &mut Selection,
    labels: &LabelSettings,
    (is_judged, share): (bool, Share),
    answer: &NewPrediction,
    mut take: impl FnMut(u16, Option<u64>, bool) -> Taken,
) {
    if selection.groups.is_empty() {
        let none = |(grouping, group)| GroupSelection { grouping, group, counts: Vec::new() };
        selection.groups = declared(labels).map(none).collect();
    }
    let (mut seen, mut is_lost) = (BTreeSet::new(), false);
    for (row, groups) in &answer.rows {
        // Who is answered no class of the model's is not selected.
        let is_selected = matches!(row, Some(RowAnswer::Class { class: POSITIVE, .. }));
        for (i, (grouping, group)) in labels.groupings.iter().zip(groups).enumerate() {
            if !seen.insert((i, *group)) {
                continue;
            }
            let name = grouping.group_name(*group);
            let is_own = |own: &GroupSelection| own.grouping == grouping.name && own.group == name;
            let Some(place) = selection.groups.iter().position(is_own) else { continue };
            let cell = u16::try_from(place).map_or(u16::MAX, |place| SELECTION + place);
            let room = selection.keyed_at(share) < KEYS_OF_SHARE_MAX;
            match take(cell, answer.key, room) {
                Taken::New => {
                    selection.keyed(share, answer.key.is_some());
                    let rows = rows_of(&mut selection.groups[place].counts, share, is_judged);
                    rows.rows += 1;
                    rows.selected += u64::from(is_selected);
                }
                Taken::Known => {}
                Taken::Lost => is_lost = true,
            }
        }
    }
    selection.lost += u64::from(is_lost);
}

/// Those of one side at a share.
fn rows_of(counts: &mut Vec<SelectionCounts>, share: Share, is_judged: bool) -> &mut SelectedRows {
    let known = counts.iter().position(|own| own.share == share);
    let at = known.unwrap_or_else(|| {
        let none = SelectedRows::default();
        counts.push(SelectionCounts { share, champion: none, canary: none });
        counts.len() - 1
    });
    if is_judged { &mut counts[at].canary } else { &mut counts[at].champion }
}
