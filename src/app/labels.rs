//! Labels, as the settings want them.

use crate::config::Config;
use crate::monitor::quality::QualitySettings;

/// How answers and labels are kept.
pub(super) fn settings(config: &Config) -> QualitySettings {
    let labels = &config.labels;
    QualitySettings {
        folder: config.repository.state.clone(),
        join_within: labels.join_within,
        bytes_max: labels.keep_max.get(),
        // Figures of answers that labels still come for are not forgotten before.
        keep_figures: labels.keep_figures.max(labels.join_within),
        waiting_max: labels.waiting_max,
        waiting_for: labels.waiting_for,
    }
}
