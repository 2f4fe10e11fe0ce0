//! How long to wait after a failure, and when to give up. Pure.

use std::time::Duration;

use super::Settings;

/// The longest pause, whatever the receiver asks for.
pub(super) const PAUSE_MAX: Duration = Duration::from_secs(300);

/// Attempts after which a receiver's "no" is believed.
const REFUSALS_MAX: u32 = 5;

/// Whether an entry is given up at once after so many failures (from 1), since the
/// receiver refuses it for what it is (`lasting`): no other entry shall wait for it.
pub(super) const fn is_final(failures: u32, lasting: bool) -> bool {
    lasting && failures >= REFUSALS_MAX
}

/// How long to wait after so many failures (from 1) over this time, and when
/// the receiver asked for `asked`; `None` to give it up.
pub(super) fn pause(
    settings: Settings,
    failures: u32,
    age: Duration,
    asked: Option<Duration>,
) -> Option<Duration> {
    if age >= settings.give_up {
        return None;
    }
    let doubled = 2_u32.saturating_pow(failures.saturating_sub(1));
    let own = settings.pause.saturating_mul(doubled);
    Some(own.max(asked.unwrap_or_default()).min(PAUSE_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_no_is_believed_after_some_tries() {
        assert!(!is_final(4, true) && is_final(5, true) && !is_final(4_000, false));
    }

    #[test]
    fn pauses_double_up_to_a_limit_and_end() {
        let second = Duration::from_secs;
        let settings = Settings { timeout: second(1), pause: second(1), give_up: second(3600) };
        let wait = |failures, age, asked| pause(settings, failures, second(age), asked);
        for (failures, expected) in [(1, 1), (2, 2), (5, 16), (9, 256), (10, 300), (4_000, 300)] {
            assert_eq!(wait(failures, 0, None), Some(second(expected)), "{failures}");
        }
        assert_eq!(wait(1, 0, Some(second(30))), Some(second(30)));
        assert_eq!(wait(6, 0, Some(second(30))), Some(second(32)));
        assert_eq!(wait(1, 0, Some(second(86_400))), Some(PAUSE_MAX));
        assert_eq!(wait(1, 3599, None), Some(second(1)));
        assert_eq!(wait(1, 3600, None), None);
    }
}
