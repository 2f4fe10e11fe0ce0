//! From layers of raw values to a [`Config`] that needs no further checks.

use std::net::SocketAddr;

use super::kinds::{Kind, Positive};
use super::raw::{self, Layers, Source, Value};
use super::{Admin, Config, KEYS, Problems, Sources, Switch, Token, env, read_webhooks};
use crate::types::JUDGED_ROWS_MIN;

/// Takes values out of the layers and gathers what is wrong with them.
pub(super) struct Reader<'a> {
    layers: &'a Layers,
    problems: Vec<String>,
}

pub(super) fn load(sources: &Sources) -> Result<Config, Problems> {
    let (mut layers, mut problems) = (Layers::default(), Vec::new());
    env::read_common(&sources.environment, &mut layers);
    let file =
        sources.file.clone().or_else(|| env::config_file(&sources.environment).map(Into::into));
    if let Some(file) = &file {
        raw::read_file(file, &mut layers, &mut problems);
    }
    env::read(&sources.environment, &mut layers, &mut problems);
    for flag in &sources.flags {
        let value = Value::Plain(flag.value.clone());
        layers.set(flag.key.to_owned(), value, Source::Flag(flag.flag));
    }
    let mut reader = Reader { layers: &layers, problems };
    let config = Config::read(&mut reader);
    let config = config.map(|config| reader.check(config));
    match config {
        Some(config) if reader.problems.is_empty() => Ok(config),
        _ => Err(Problems(reader.problems)),
    }
}

impl Reader<'_> {
    /// One setting, from its highest layer; `None` if it is wrong.
    pub(super) fn read<T: Kind>(&mut self, section: &str, name: &str) -> Option<T> {
        let key = KEYS.iter().find(|key| key.section == section && key.name == name);
        let key = key.expect("the table that declares the fields declares the keys");
        let default = || (Value::Plain(key.default.to_owned()), Source::Default);
        let (value, source) = self.layers.get(&key.path()).cloned().unwrap_or_else(default);
        let parsed = T::parse(&value).and_then(|parsed| {
            let refused = key.positive == Positive::Yes && parsed.is_zero();
            if refused { Err("more than zero".to_owned()) } else { Ok(parsed) }
        });
        parsed
            .map_err(|expected| {
                let path = key.path();
                let got = if T::SECRET { String::new() } else { format!(", got {value}") };
                self.problems.push(format!("{source}: {path}: expected {expected}{got}"));
            })
            .ok()
    }

    /// What concerns more than one setting.
    fn check(&mut self, mut config: Config) -> Config {
        self.check_listeners(&config);
        self.check_tls(&config);
        self.check_monitor(&config);
        self.check_capture(&config);
        if let Some(Err(problem)) = config.webhooks.file.as_deref().map(read_webhooks) {
            let at = self.source("webhooks.file");
            self.problems.push(format!("{at}: webhooks.file: {problem}"));
        }
        config.admin.token = self.token(&config.admin);
        let no_token = config.admin.token.is_none() && config.admin.token_file.is_none();
        let open = no_token && config.admin.open == Switch::On;
        if open && !config.admin.listen.ip().is_loopback() {
            let at = self.source("admin.listen");
            self.problems.push(format!(
                "{at}: admin.listen: {} can be reached from other machines, so a token is \
                 required: set FORESHADOW_ADMIN_TOKEN or admin.token_file, or admin.open = \"off\" and \
                 make one with `foreshadow token create --state`, or listen on 127.0.0.1",
                config.admin.listen
            ));
        }
        if open && config.repository.load_unload == Switch::On {
            self.check_open(&config);
        }
        config
    }

    /// Who reaches an inference listener could unload every model.
    fn check_open(&mut self, config: &Config) {
        let listeners = [Some(config.server.listen), config.grpc.listen.address()];
        let open = listeners.into_iter().flatten().find(|address| !address.ip().is_loopback());
        if let Some(address) = open {
            let at = self.source("repository.load_unload");
            self.problems.push(format!(
                "{at}: repository.load_unload: {address} can be reached from other machines, so a \
                 token is required: set FORESHADOW_ADMIN_TOKEN or admin.token_file"
            ));
        }
    }

    /// What is never judged is a mistake.
    fn check_monitor(&mut self, config: &Config) {
        let (window, learn) = (config.monitor.window_rows, config.monitor.learn_rows);
        let few = |rows: usize| u64::try_from(rows).is_ok_and(|rows| rows < JUDGED_ROWS_MIN);
        let settings = [
            ("monitor.window_rows", window, few(window), ""),
            ("monitor.learn_rows", learn, learn > 0 && few(learn), ", or 0 to learn none"),
        ];
        for (name, rows, wrong, or) in settings {
            if wrong {
                let at = self.source(name);
                self.problems.push(format!(
                    "{at}: {name}: expected {JUDGED_ROWS_MIN} rows or more, as fewer cannot be \
                     judged{or}; got {rows}"
                ));
            }
        }
    }

    /// A file would go as soon as it is whole.
    fn check_capture(&mut self, config: &Config) {
        let (keep, file) = (config.capture.keep_bytes, config.capture.file_bytes);
        if keep < file {
            let [at, from] = ["keep", "file"].map(|of| self.source(&format!("capture.{of}_bytes")));
            self.problems.push(format!(
                "{at}: capture.keep_bytes: expected capture.file_bytes ({file}, {from}) or more, \
                 as else no finished file is kept; got {keep}"
            ));
        }
    }

    fn check_listeners(&mut self, config: &Config) {
        let listeners = [
            ("server.listen", Some(config.server.listen)),
            ("grpc.listen", config.grpc.listen.address()),
            ("admin.listen", Some(config.admin.listen)),
        ];
        for (i, (name, own)) in listeners.iter().enumerate() {
            for (other, address) in &listeners[..i] {
                if let (Some(a), Some(b)) = (*address, *own)
                    && clash(a, b)
                {
                    let (at, from) = (self.source(name), self.source(other));
                    self.problems.push(format!(
                        "{at}: {name}: expected another port than {other} ({a}, {from}), got {b}"
                    ));
                }
            }
        }
    }

    fn check_tls(&mut self, config: &Config) {
        let (given, missing) = match (&config.server.tls_certificate, &config.server.tls_key) {
            (Some(_), None) => ("server.tls_certificate", "server.tls_key"),
            (None, Some(_)) => ("server.tls_key", "server.tls_certificate"),
            _ => return,
        };
        let at = self.source(given);
        self.problems.push(format!("{at}: {given}: expected {missing} as well, got this alone"));
    }

    /// The token, from its setting or its file.
    fn token(&mut self, admin: &Admin) -> Option<Token> {
        match (&admin.token, &admin.token_file) {
            (Some(_), Some(_)) => {
                let (one, other) = (self.source("admin.token"), self.source("admin.token_file"));
                self.problems.push(format!(
                    "{one}: admin.token: expected either this or admin.token_file ({other}), got both"
                ));
                None
            }
            (token, None) => token.clone(),
            (None, Some(file)) => {
                let token = Token::read(file);
                let at = self.source("admin.token_file");
                token.map_err(|e| self.problems.push(format!("{at}: admin.token_file: {e}"))).ok()
            }
        }
    }

    fn source(&self, path: &str) -> Source {
        self.layers.get(path).map_or(Source::Default, |(_, source)| source.clone())
    }
}

/// Whether two listeners cannot both have their port.
fn clash(a: SocketAddr, b: SocketAddr) -> bool {
    let any = a.ip().is_unspecified() || b.ip().is_unspecified();
    a.port() != 0 && a.port() == b.port() && (any || a.ip() == b.ip())
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;
    use std::time::Duration;

    use super::super::{FlagValue, LogFormat};
    use super::*;
    use crate::golden;

    /// Settings from a file's text, variables and flags.
    fn load_from(
        file: &str,
        variables: &[(&str, &str)],
        flags: &[(&'static str, &'static str, &str)],
    ) -> Result<Config, Problems> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f.toml");
        std::fs::write(&path, file).unwrap();
        let pair = |(name, value): &(&str, &str)| (OsString::from(name), OsString::from(value));
        let flag = |(key, flag, value): &(&'static str, &'static str, &str)| FlagValue {
            key,
            flag,
            value: (*value).to_owned(),
        };
        let result = Config::load(&Sources {
            file: Some(path),
            environment: variables.iter().map(pair).collect(),
            flags: flags.iter().map(flag).collect(),
        });
        let here = format!("{}/", folder.path().display());
        result.map_err(|problems| {
            Problems(problems.0.iter().map(|line| line.replace(&here, "")).collect())
        })
    }

    fn problem(file: &str, variables: &[(&str, &str)]) -> String {
        let problems = load_from(file, variables, &[]).unwrap_err();
        assert_eq!(problems.lines().len(), 1, "{problems}");
        problems.lines()[0].clone()
    }

    #[test]
    fn the_defaults_pass_and_read_back() {
        let config = Config::load(&Sources::default()).unwrap();
        let text = config.to_toml();
        golden::check("config.toml", &text);
        assert_eq!(load_from(&text, &[], &[]).unwrap(), config);
    }

    #[test]
    fn flag_goes_before_environment_before_file_before_default() {
        let file = "[server]\ngrace = \"1s\"\nlisten = \"127.0.0.1:1\"\nheaders_max = 7\n";
        let variables =
            [("FORESHADOW_SERVER_LISTEN", "127.0.0.1:2"), ("FORESHADOW_SERVER_GRACE", "2s")];
        let flags = [("server.listen", "--listen", "127.0.0.1:3")];
        let server = load_from(file, &variables, &flags).unwrap().server;
        assert_eq!(server.listen.port(), 3);
        assert_eq!(server.grace, Duration::from_secs(2));
        assert_eq!(server.headers_max, 7);
        assert_eq!(server.body_max.get(), 64 << 20);
    }

    #[test]
    fn the_library_may_come_from_the_variable_that_others_use() {
        let library = |file: &str, variables: &[(&str, &str)]| {
            load_from(file, variables, &[]).unwrap().engine.onnxruntime_library
        };
        let common = ("ORT_DYLIB_PATH", "/a.so");
        assert_eq!(library("", &[]), None);
        assert_eq!(library("", &[common]), Some("/a.so".into()));
        let ours = "[engine]\nonnxruntime_library = \"/b.so\"\n";
        assert_eq!(library(ours, &[common]), Some("/b.so".into()));
        let variable = ("FORESHADOW_ENGINE_ONNXRUNTIME_LIBRARY", "/c.so");
        assert_eq!(library(ours, &[common, variable]), Some("/c.so".into()));
    }

    #[test]
    fn every_setting_can_come_from_the_environment() {
        let mut variables: Vec<_> =
            KEYS.iter().map(|key| (key.variable(), key.default.to_owned())).collect();
        variables.push(("FORESHADOW_LOG_FORMAT".into(), "json".into()));
        variables.push(("FORESHADOW_ADMIN_ALLOWED_HOSTS".into(), "a.example, B".into()));
        let variables: Vec<_> =
            variables.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let config = load_from("", &variables, &[]).unwrap();
        assert_eq!(config.log.format, LogFormat::Json);
        assert_eq!(config.admin.allowed_hosts.names(), ["a.example", "b"]);
    }

    #[test]
    fn all_problems_come_at_once_each_with_its_place() {
        let file = "[server]\ngrace = 30\nlisen = 1\n\n[shadows]\nx = 1\n[execution]\nqueue_rows_max = 0\n";
        let variables = [("FORESHADOW_LOG_LEVEL", "loud"), ("FORESHADOW_SERVER_LISEN", "x")];
        let flags = [("server.listen", "--listen", "nowhere")];
        let problems = load_from(file, &variables, &flags).unwrap_err().to_string();
        for expected in [
            "7 problems",
            "f.toml:3: unknown key \"lisen\" in [server]; keys: listen, grace",
            "f.toml:5: unknown section [shadows]; sections: server, grpc, admin",
            "f.toml:2: server.grace: expected a duration",
            "got the integer 30",
            "f.toml:8: execution.queue_rows_max: expected more than zero, got the integer 0",
            "FORESHADOW_LOG_LEVEL: log.level: expected one of error, warn, info, debug, trace, got \"loud\"",
            "FORESHADOW_SERVER_LISEN: unknown variable; known: FORESHADOW_SERVER_LISTEN",
            "--listen: server.listen: expected an IP address and a port",
        ] {
            assert!(problems.contains(expected), "{expected:?} is not in {problems}");
        }
    }

    #[test]
    fn what_is_no_toml_is_told_with_its_line() {
        let line = problem("[log]\nlevel = \"info\n", &[]);
        assert!(line.starts_with("f.toml:2: "), "{line}");
    }

    #[test]
    fn what_could_never_be_judged_is_refused() {
        for (key, rows, wrong) in [
            ("window_rows", 199, true),
            ("window_rows", 200, false),
            ("learn_rows", 1, true),
            ("learn_rows", 199, true),
            ("learn_rows", 200, false),
            ("learn_rows", 0, false),
        ] {
            let file = format!("[monitor]\n{key} = {rows}\n");
            if wrong {
                let line = problem(&file, &[]);
                let expected = format!("f.toml:2: monitor.{key}: expected 200 rows or more");
                assert!(line.starts_with(&expected) && line.ends_with(&rows.to_string()), "{line}");
            } else {
                assert!(load_from(&file, &[], &[]).is_ok(), "{key} = {rows}");
            }
        }
    }

    #[test]
    fn captures_have_room_for_a_file() {
        let line = problem("[capture]\nkeep_bytes = \"1MiB\"\nfile_bytes = \"2MiB\"\n", &[]);
        let expected = "f.toml:2: capture.keep_bytes: expected capture.file_bytes (2MiB, f.toml:3) \
                        or more, as else no finished file is kept; got 1MiB";
        assert_eq!(line, expected);
        let same = "[capture]\nkeep_bytes = \"1MiB\"\nfile_bytes = \"1MiB\"\n";
        assert!(load_from(same, &[], &[]).is_ok());
    }

    #[test]
    fn a_port_is_taken_once() {
        for (a, b, clashes) in [
            ("127.0.0.1:9000", "127.0.0.1:9000", true),
            ("0.0.0.0:9000", "127.0.0.1:9000", true),
            ("127.0.0.1:0", "127.0.0.1:0", false),
            ("127.0.0.1:9000", "127.0.0.1:9001", false),
            ("127.0.0.2:9000", "127.0.0.1:9000", false),
        ] {
            for other in ["admin", "grpc"] {
                let file = format!("[server]\nlisten = {a:?}\n[{other}]\nlisten = {b:?}\n");
                let result = load_from(&file, &[], &[]);
                assert_eq!(result.is_err(), clashes, "{a} {other} {b}");
            }
        }
    }

    #[test]
    fn an_admin_address_beyond_loopback_needs_a_token() {
        let file = "[admin]\nlisten = \"0.0.0.0:8002\"\n";
        let line = problem(file, &[]);
        assert!(line.starts_with("f.toml:2: admin.listen: 0.0.0.0:8002 can be reached"), "{line}");
        let config = load_from(file, &[("FORESHADOW_ADMIN_TOKEN", "0123456789abcdef")], &[]);
        assert_eq!(config.unwrap().admin.token.unwrap().reveal(), "0123456789abcdef");
    }

    #[test]
    fn who_may_unload_from_another_machine_needs_a_token() {
        let file = "[repository]\nload_unload = \"on\"\n[server]\nlisten = \"0.0.0.0:8000\"\n";
        let line = problem(file, &[]);
        assert!(line.starts_with("f.toml:2: repository.load_unload: 0.0.0.0:8000 can"), "{line}");
        let token = [("FORESHADOW_ADMIN_TOKEN", "0123456789abcdef")];
        assert!(load_from(file, &token, &[]).is_ok());
        assert!(load_from("[repository]\nload_unload = \"on\"\n", &[], &[]).is_ok());
    }

    #[test]
    fn a_certificate_needs_its_key() {
        let line = problem("[server]\ntls_key = \"k\"\n", &[]);
        let expected = "f.toml:2: server.tls_key: expected server.tls_certificate as well";
        assert!(line.starts_with(expected), "{line}");
        let both = "[server]\ntls_key = \"k\"\ntls_certificate = \"c\"\n";
        assert_eq!(load_from(both, &[], &[]).unwrap().server.tls_key, Some("k".into()));
    }

    #[test]
    fn a_token_is_never_shown() {
        let line = problem("", &[("FORESHADOW_ADMIN_TOKEN", "short")]);
        assert!(line.contains("at least 16") && !line.contains("short\""), "{line}");
        let config = load_from("", &[("FORESHADOW_ADMIN_TOKEN", "0123456789abcdef")], &[]).unwrap();
        for shown in [config.to_toml(), format!("{config:?}")] {
            assert!(!shown.contains("0123456789abcdef"), "{shown}");
        }
        assert!(config.to_toml().contains("# token = (set, not shown)"));
    }

    #[test]
    fn a_token_file_is_read_and_excludes_a_token() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        std::fs::write(&path, "0123456789abcdef\n").unwrap();
        let path = path.to_str().unwrap();
        let config = load_from("", &[("FORESHADOW_ADMIN_TOKEN_FILE", path)], &[]).unwrap();
        assert_eq!(config.admin.token.unwrap().reveal(), "0123456789abcdef");
        let both =
            [("FORESHADOW_ADMIN_TOKEN_FILE", path), ("FORESHADOW_ADMIN_TOKEN", "0123456789abcdeg")];
        assert!(problem("", &both).contains("either this or admin.token_file"));
        let missing = [("FORESHADOW_ADMIN_TOKEN_FILE", "/nonexistent/token")];
        assert!(problem("", &missing).contains("/nonexistent/token cannot be read"));
    }
}
