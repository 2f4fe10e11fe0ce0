//! Which of the waiting requests run next, as one batch. Pure.
//!
//! - First come, first served: the batch of the oldest goes first, and takes what
//!   fits into it from anywhere in the queue. So nobody is overtaken for ever:
//!   each batch takes the one that was the oldest of its kind.
//! - A batch never has more rows than its limit, unless one request alone has.
//! - Whoever left, and whose deadline has passed, runs no more; nor does who
//!   could not be ready in time while others can.
//! - A batch grows only as far as the deadlines of those in it allow.
//! - Nobody waits, unless the model asks for a delay: then until the batch is
//!   full, the oldest has waited so long, or a deadline would be missed.

use std::time::{Duration, Instant};

use super::Limits;

/// A waiting request, as the policy sees it.
pub(in crate::serving) trait Waiting {
    /// Its rows.
    fn rows(&self) -> usize;
    /// Whether the two may run as one: an equivalence of those that may be
    /// batched; never of one that may not, not even with itself.
    fn joins(&self, other: &Self) -> bool;
    /// What its batch may be.
    fn limits(&self) -> Limits;
    /// When it came.
    fn queued(&self) -> Instant;
    /// When its answer is of no use any more.
    fn deadline(&self) -> Option<Instant>;
    /// Whether nobody waits for its answer.
    fn is_cancelled(&self) -> bool;
    /// The rows that a run of so many like its own computes; `None` where such a
    /// run is not to be.
    fn computed_rows(&self, rows: usize) -> Option<usize>;
    /// What a run that computes so many rows should take.
    fn run_time(&self, computed_rows: usize) -> Duration;
}

/// What to do with a queue. Places are of the queue as it was, in order.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::serving) struct Decision {
    /// Whose caller left.
    pub(in crate::serving) cancelled: Vec<usize>,
    /// Who cannot be answered in time.
    pub(in crate::serving) late: Vec<usize>,
    /// What then.
    pub(in crate::serving) next: Next,
}

/// What to do next.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::serving) enum Next {
    /// Run these as one batch.
    Run(Vec<usize>),
    /// Decide again then, or when somebody comes.
    WaitUntil(Instant),
    /// Nobody waits.
    Nothing,
}

/// Decides at `now`, for a queue in the order of arrival.
pub(in crate::serving) fn decide<W: Waiting>(queue: &[W], now: Instant) -> Decision {
    let (mut cancelled, mut late, mut alive) = (Vec::new(), Vec::new(), Vec::new());
    for (place, request) in queue.iter().enumerate() {
        if request.is_cancelled() {
            cancelled.push(place);
        } else if request.deadline().is_some_and(|deadline| deadline <= now) {
            late.push(place);
        } else {
            alive.push(place);
        }
    }
    let hopeless = |place: &usize| is_hopeless(&queue[*place], now);
    // If nobody is thought to be in time, the estimate may be wrong.
    if !alive.iter().all(hopeless) {
        let (lost, rest) = alive.into_iter().partition(hopeless);
        late.extend::<Vec<_>>(lost);
        late.sort_unstable();
        alive = rest;
    }
    Decision { cancelled, late, next: next(queue, alive, now) }
}

fn next<W: Waiting>(queue: &[W], mut alive: Vec<usize>, now: Instant) -> Next {
    let mut until: Option<Instant> = None;
    while let Some(&head) = alive.first() {
        let batch = gather(queue, &alive, now);
        let start = start(queue, &batch, now);
        if start <= now {
            return Next::Run(batch);
        }
        until = Some(until.map_or(start, |until| until.min(start)));
        // Those behind the limit of this batch wait for it, too.
        alive.retain(|&place| place != head && !queue[head].joins(&queue[place]));
    }
    until.map_or(Next::Nothing, Next::WaitUntil)
}

/// The batch of the first.
fn gather<W: Waiting>(queue: &[W], alive: &[usize], now: Instant) -> Vec<usize> {
    let first = &queue[alive[0]];
    let (mut batch, mut rows) = (vec![alive[0]], first.rows());
    let mut earliest = first.deadline().filter(|_| !is_hopeless(first, now));
    for &place in &alive[1..] {
        if rows >= first.limits().rows_max {
            break;
        }
        let other = &queue[place];
        let total = rows.saturating_add(other.rows());
        if total > first.limits().rows_max || !first.joins(other) {
            continue;
        }
        let Some(computed) = first.computed_rows(total) else { continue };
        let both = earliest.into_iter().chain(other.deadline()).min();
        if both.is_some_and(|deadline| now + first.run_time(computed) > deadline) {
            continue;
        }
        batch.push(place);
        (rows, earliest) = (total, both);
    }
    trim(queue, &mut batch);
    batch
}

/// Shortens a batch that would be padded, if two runs without are faster.
fn trim<W: Waiting>(queue: &[W], batch: &mut Vec<usize>) {
    let first = &queue[batch[0]];
    let time = |rows| first.computed_rows(rows).map(|computed| first.run_time(computed));
    let unpadded = |rows: usize| first.computed_rows(rows) == Some(rows);
    let total: usize = batch.iter().map(|place| queue[*place].rows()).sum();
    if batch.len() < 2 || unpadded(total) {
        return;
    }
    let mut rows = 0;
    let mut best = None;
    for (i, place) in batch[..batch.len() - 1].iter().enumerate() {
        rows += queue[*place].rows();
        if unpadded(rows) {
            best = Some((i + 1, rows));
        }
    }
    let Some((count, rows)) = best else { return };
    if let (Some(whole), Some(a), Some(b)) = (time(total), time(rows), time(total - rows))
        && a + b < whole
    {
        batch.truncate(count);
    }
}

/// When a batch should start: `now` at the earliest.
fn start<W: Waiting>(queue: &[W], batch: &[usize], now: Instant) -> Instant {
    let first = &queue[batch[0]];
    let Limits { rows_max, delay_max } = first.limits();
    let rows: usize = batch.iter().map(|place| queue[*place].rows()).sum();
    let can_grow = rows < rows_max && first.joins(first);
    let waited = first.queued() + delay_max;
    if delay_max.is_zero() || !can_grow || waited <= now {
        return now;
    }
    let time = first.computed_rows(rows).map_or(Duration::ZERO, |rows| first.run_time(rows));
    let deadlines = batch.iter().filter_map(|place| queue[*place].deadline());
    let latest = deadlines.min().map(|deadline| deadline.checked_sub(time).unwrap_or(now));
    latest.map_or(waited, |latest| latest.min(waited)).max(now)
}

/// Whether it would be late even if it ran now.
fn is_hopeless<W: Waiting>(request: &W, now: Instant) -> bool {
    request.deadline().is_some_and(|deadline| {
        let computed = request.computed_rows(request.rows()).unwrap_or(request.rows());
        now + request.run_time(computed) > deadline
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Kinds from 100 on may not be batched; those from 50 on compute powers of
    /// two. A run takes `fixed` and a millisecond per row.
    #[derive(Clone, Debug)]
    struct Fake {
        kind: u32,
        rows: usize,
        limits: Limits,
        queued: Instant,
        deadline: Option<Instant>,
        cancelled: bool,
        fixed: Duration,
    }

    impl Waiting for Fake {
        fn rows(&self) -> usize {
            self.rows
        }
        fn joins(&self, other: &Self) -> bool {
            self.kind == other.kind && self.kind < 100
        }
        fn limits(&self) -> Limits {
            self.limits
        }
        fn queued(&self) -> Instant {
            self.queued
        }
        fn deadline(&self) -> Option<Instant> {
            self.deadline
        }
        fn is_cancelled(&self) -> bool {
            self.cancelled
        }
        fn computed_rows(&self, rows: usize) -> Option<usize> {
            Some(if self.kind >= 50 { rows.next_power_of_two() } else { rows })
        }
        fn run_time(&self, computed_rows: usize) -> Duration {
            self.fixed + ms(computed_rows.try_into().unwrap())
        }
    }

    const fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    /// An hour in, so that there is a past.
    fn now() -> Instant {
        static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
        *START.get_or_init(|| Instant::now() + Duration::from_secs(3600))
    }

    /// Of this kind and rows; eight rows make a batch.
    fn of(kind: u32, rows: usize) -> Fake {
        let limits = Limits { rows_max: 8, delay_max: Duration::ZERO };
        let (queued, deadline, cancelled) = (now(), None, false);
        Fake { kind, rows, limits, queued, deadline, cancelled, fixed: Duration::ZERO }
    }

    impl Fake {
        fn due(self, in_ms: u64) -> Self {
            Self { deadline: Some(now() + ms(in_ms)), ..self }
        }
        fn delay(self, most_ms: u64, waited_ms: u64) -> Self {
            let limits = Limits { delay_max: ms(most_ms), ..self.limits };
            Self { limits, queued: now().checked_sub(ms(waited_ms)).unwrap(), ..self }
        }
    }

    fn run(places: &[usize]) -> Next {
        Next::Run(places.to_vec())
    }

    #[test]
    fn a_table_of_queues() {
        let gone = Fake { cancelled: true, ..of(1, 1) };
        let slow = |rows| Fake { fixed: ms(10), ..of(50, rows) };
        let cases: Vec<(&str, Vec<Fake>, Next)> = vec![
            ("nobody", vec![], Next::Nothing),
            ("one runs at once", vec![of(1, 1)], run(&[0])),
            ("all of a kind", vec![of(1, 1), of(1, 2), of(1, 1)], run(&[0, 1, 2])),
            ("kinds do not mix", vec![of(1, 1), of(2, 1), of(1, 1)], run(&[0, 2])),
            ("the oldest first", vec![of(2, 1), of(1, 1), of(1, 1)], run(&[0])),
            ("what may not be batched", vec![of(100, 1), of(100, 1)], run(&[0])),
            ("to the limit", vec![of(1, 4), of(1, 4), of(1, 1)], run(&[0, 1])),
            ("a smaller one fits still", vec![of(1, 5), of(1, 4), of(1, 3)], run(&[0, 2])),
            ("over the limit alone", vec![of(1, 9), of(1, 1)], run(&[0])),
            ("not behind the limit", vec![of(1, 1), of(1, 9)], run(&[0])),
            ("no rows", vec![of(1, 0), of(1, 8)], run(&[0, 1])),
            // Each row takes a millisecond.
            ("in time for the first", vec![of(1, 1).due(2), of(1, 1), of(1, 1)], run(&[0, 1])),
            ("in time for all", vec![of(1, 3), of(1, 1).due(2), of(1, 1)], run(&[0, 2])),
            // Padded to 8, 10 + 8 ms; without, 10 + 4 and 10 + 1.
            ("padded is faster", vec![slow(2), slow(2), slow(1)], run(&[0, 1, 2])),
            // 8 ms against 4 and 1.
            ("padded is slower", vec![of(50, 2), of(50, 2), of(50, 1)], run(&[0, 1])),
            ("nothing is unpadded", vec![of(50, 3), of(50, 2)], run(&[0, 1])),
            // Delays.
            ("waits", vec![of(1, 1).delay(5, 2)], Next::WaitUntil(now() + ms(3))),
            ("has waited", vec![of(1, 1).delay(5, 5)], run(&[0])),
            ("is full", vec![of(1, 7).delay(5, 1), of(1, 1).delay(5, 0)], run(&[0, 1])),
            ("is alone anyway", vec![of(100, 1).delay(5, 1)], run(&[0])),
            (
                "a deadline ends it",
                vec![of(1, 1).delay(50, 1).due(4)],
                Next::WaitUntil(now() + ms(3)),
            ),
            (
                "others go on meanwhile",
                vec![of(1, 1).delay(5, 1), of(2, 1), of(1, 1), of(2, 1)],
                run(&[1, 3]),
            ),
            (
                "the sooner of two",
                vec![of(1, 1).delay(5, 0), of(2, 1).delay(5, 2)],
                Next::WaitUntil(now() + ms(3)),
            ),
            ("who left is no company", vec![gone, of(1, 1)], run(&[1])),
        ];
        for (name, queue, expected) in cases {
            assert_eq!(decide(&queue, now()).next, expected, "{name}");
        }
    }

    #[test]
    fn who_left_or_is_late_leaves_the_queue() {
        let gone = || Fake { cancelled: true, ..of(1, 1) };
        let cases = [
            ("left", vec![gone(), of(1, 1), gone()], (vec![0, 2], vec![], run(&[1]))),
            ("late", vec![of(1, 1).due(0), of(1, 1)], (vec![], vec![0], run(&[1]))),
            ("both", vec![Fake { ..gone() }.due(0)], (vec![0], vec![], Next::Nothing)),
            // Three rows take three milliseconds.
            ("hopeless", vec![of(1, 3).due(2), of(1, 1)], (vec![], vec![0], run(&[1]))),
            ("all hopeless", vec![of(1, 3).due(2), of(2, 3).due(2)], (vec![], vec![], run(&[0]))),
            ("in time by a hair", vec![of(1, 3).due(3), of(2, 1)], (vec![], vec![], run(&[0]))),
        ];
        for (name, queue, (cancelled, late, next)) in cases {
            assert_eq!(decide(&queue, now()), Decision { cancelled, late, next }, "{name}");
        }
    }

    fn any_request() -> impl Strategy<Value = Fake> {
        let kind = prop_oneof![0..3_u32, 50..52_u32, 100..102_u32];
        let (rows, due) = (0..12_usize, proptest::option::of(0..40_u64));
        (kind, rows, due, any::<bool>(), 0..4_u64, 0..4_u64, 0..8_u64).prop_map(
            |(kind, rows, due, cancelled, delay, waited, fixed)| {
                let fake = of(kind, rows).delay(delay, waited);
                let fake = Fake { cancelled, fixed: ms(fixed), ..fake };
                due.map_or(fake.clone(), |due| fake.due(due))
            },
        )
    }

    proptest! {
        /// Whatever waits, it is run once, or dropped for a reason; and what is
        /// run together may be.
        #[test]
        fn each_request_ends_once(mut queue in proptest::collection::vec(any_request(), 0..24)) {
            let mut at = now();
            for _ in 0..200 {
                let before = queue.len();
                let oldest = queue.first().map(|request| request.kind);
                let Decision { cancelled, late, next } = decide(&queue, at);
                for &place in &cancelled {
                    prop_assert!(queue[place].cancelled);
                }
                for &place in &late {
                    let request = &queue[place];
                    let time = request.run_time(request.computed_rows(request.rows).unwrap());
                    prop_assert!(!request.cancelled && request.deadline.unwrap() < at + time
                        || request.deadline.unwrap() <= at);
                }
                let mut ended = [cancelled, late].concat();
                match next {
                    Next::Run(batch) => {
                        prop_assert!(batch.is_sorted() && !batch.is_empty());
                        let first = &queue[batch[0]];
                        let rows: usize = batch.iter().map(|place| queue[*place].rows).sum();
                        prop_assert!(batch.len() == 1 || rows <= first.limits.rows_max);
                        for &place in &batch {
                            let request = &queue[place];
                            prop_assert!(!request.cancelled);
                            prop_assert!(request.deadline.is_none_or(|deadline| deadline > at));
                            prop_assert!(place == batch[0] || first.joins(request));
                        }
                        // Who is of another kind and older is waiting for a delay.
                        if ended.is_empty() && batch[0] > 0 {
                            prop_assert!(oldest != Some(first.kind) || first.kind >= 100);
                            prop_assert!(!queue[0].limits.delay_max.is_zero());
                        }
                        ended.extend(batch);
                    }
                    Next::WaitUntil(until) => {
                        prop_assert!(until > at);
                        at = until;
                    }
                    Next::Nothing => prop_assert_eq!(ended.len(), queue.len()),
                }
                ended.sort_unstable();
                let count = ended.len();
                ended.dedup();
                prop_assert_eq!(count, ended.len(), "ended twice");
                for place in ended.into_iter().rev() {
                    queue.remove(place);
                }
                prop_assert_eq!(queue.len() + count, before);
            }
            prop_assert!(queue.is_empty(), "{} wait for ever", queue.len());
        }
    }
}
