//! What stores answered requests, as the settings want it.

use crate::capture::Settings;
use crate::config::Config;

/// Where they are stored, in the state folder.
const FOLDER: &str = "captures";
/// The key of hashes, there as well: who is handed captures is not handed it with them.
const KEY: &str = ".capture-hash.key";

/// Its settings.
pub(super) fn settings(config: &Config) -> Settings {
    let capture = &config.capture;
    Settings {
        file_rows: capture.file_rows,
        file_bytes: capture.file_bytes.get(),
        file_age: capture.file_age,
        keep_for: capture.keep_for,
        keep_bytes: capture.keep_bytes.get(),
        queue_count_max: capture.queue_max,
        queue_bytes_max: capture.queue_bytes_max.as_usize(),
        folder: config.repository.state.join(FOLDER),
        key: config.repository.state.join(KEY),
    }
}
