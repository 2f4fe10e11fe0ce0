//! The configuration as a file.

use super::{Config, KEYS};

impl Config {
    /// All settings as TOML that can be loaded again, each with its meaning.
    /// What is not set stands there as a comment, and so does a token, which
    /// is not shown.
    #[must_use]
    pub fn to_toml(&self) -> String {
        let mut text = String::new();
        let mut section = "";
        for (key, value) in KEYS.iter().zip(self.values()) {
            if key.section != section {
                section = key.section;
                let blank = if text.is_empty() { "" } else { "\n" };
                text.push_str(&format!("{blank}[{section}]\n"));
            }
            text.push_str(&format!("# {}\n", key.help()));
            let line = match value {
                Some(value) => format!("{} = {value}\n", key.name),
                None => format!("# {} = {}\n", key.name, self.absent(&key.path())),
            };
            text.push_str(&line);
        }
        text
    }

    fn absent(&self, path: &str) -> &'static str {
        let shown = path != "admin.token" || self.admin.token.is_none();
        if shown { "(not set)" } else { "(set, not shown)" }
    }
}
