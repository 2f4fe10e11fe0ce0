//! The monitor, as the settings want it.

use crate::config::Config;
use crate::monitor::Settings;

/// Where profiles are kept, in the state folder.
const FOLDER: &str = "profiles";

/// Its settings.
pub(super) fn settings(config: &Config) -> Settings {
    let monitor = &config.monitor;
    Settings {
        tick: monitor.tick,
        window: monitor.window,
        window_rows: u64::try_from(monitor.window_rows).unwrap_or(u64::MAX),
        learn_rows: monitor.learn_rows,
        folder: config.repository.state.join(FOLDER),
    }
}
