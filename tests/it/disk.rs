//! A disk that is full, or can only be read: a real one, of a few megabytes, in a
//! mount namespace of its own. Where the kernel lets nobody have one, these tests say
//! so and do nothing.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::program::{BINARY, Program, serve_by};
use crate::store::{client, page, plan, refused, repository};

/// A shell that has mounted a disk at a folder, where nobody else sees it. It goes with
/// the shell.
struct Disk {
    shell: Child,
    folder: PathBuf,
}

impl Disk {
    /// `None` if that is not allowed here.
    fn mount(folder: &Path, size: &str) -> Option<Self> {
        let script = format!(
            "mount -t tmpfs -o size={size} tmpfs '{}' && echo mounted && read end",
            folder.display()
        );
        let mut shell = Command::new("unshare")
            .args(["-rm", "sh", "-c", &script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .ok()?;
        let mut said = String::new();
        BufReader::new(shell.stdout.take()?).read_line(&mut said).ok()?;
        if said.trim() == "mounted" {
            return Some(Self { shell, folder: folder.to_owned() });
        }
        println!("skipped: no mount namespace is to be had here");
        None
    }

    /// What to put before a command that shall see the disk.
    fn enter(&self) -> Vec<String> {
        let id = self.shell.id().to_string();
        let words = ["nsenter", "--preserve-credentials", "-U", "-m", "-t", &id];
        words.map(str::to_owned).into()
    }

    /// A folder of it, as this process sees it.
    fn seen(&self) -> PathBuf {
        let root = PathBuf::from(format!("/proc/{}/root", self.shell.id()));
        root.join(self.folder.strip_prefix("/").unwrap())
    }

    /// Leaves no room on it.
    fn fill(&self) {
        let mut file = fs::File::create(self.seen().join("filling")).unwrap();
        while file.write_all(&[7; 4096]).is_ok() {}
    }

    fn make_room(&self) {
        fs::remove_file(self.seen().join("filling")).unwrap();
    }

    fn only_read(&self) {
        let mut words = self.enter();
        let folder = self.folder.display().to_string();
        words.extend(["mount", "-o", "remount,ro", &folder].map(str::to_owned));
        assert!(Command::new(&words[0]).args(&words[1..]).status().unwrap().success());
    }

    fn start(&self, root: &Path) -> Program {
        let settings =
            [("FORESHADOW_REPOSITORY_SETTLE", "50ms"), ("FORESHADOW_REPOSITORY_RESCAN", "100ms")];
        let words = [self.enter(), vec![BINARY.to_owned()]].concat();
        let words: Vec<_> = words.iter().map(String::as_str).collect();
        let state = self.folder.join("state");
        let mut program = serve_by(&words, &root.join("models"), &state, &settings);
        program.line("Try:");
        program
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = self.shell.kill();
        let _ = self.shell.wait();
    }
}

/// A repository, and a disk for its state, if that is allowed here.
fn repository_and_disk(size: &str) -> Option<(tempfile::TempDir, Disk)> {
    let root = tempfile::tempdir().unwrap();
    repository(root.path());
    let folder = root.path().join("disk");
    fs::create_dir(&folder).unwrap();
    let disk = Disk::mount(&folder, size)?;
    Some((root, disk))
}

const FULL: &str = "nothing was changed: the store cannot be written: database or disk is full";

/// Waits until `/metrics` says that changes can be recorded again.
fn until_recorded(program: &Program) {
    let began = std::time::Instant::now();
    while !page(program, "/metrics").contains("\nforeshadow_store_up 1\n") {
        assert!(began.elapsed() < crate::gateway::HANG, "{}", page(program, "/metrics"));
    }
}

#[test]
fn a_full_disk_keeps_who_answers_over_a_kill_and_forgets_nothing_when_there_is_room() {
    let Some((root, disk)) = repository_and_disk("4m") else { return };
    let mut program = disk.start(root.path());
    client(&program, &["canary", "churn", "2", "--weight", "5%"]);
    disk.fill();
    // Each time anew: the first failure must not be the end of all writing.
    for weight in ["6%", "7%", "8%"] {
        let said = refused(&program, &["canary", "churn", "2", "--weight", weight]);
        assert!(said.contains(FULL), "{said}");
    }
    client(&program, &["canary", "churn", "2", "--weight", "1%"]);
    assert_eq!(plan(&program), "churn: champion 1, canary 2 at 1%");
    assert!(page(&program, "/metrics").contains("\nforeshadow_store_up 0\n"));
    program.signal("KILL");
    program.wait();

    // What was acknowledged and recorded; with copies that were made before.
    let program = disk.start(root.path());
    assert_eq!(plan(&program), "churn: champion 1, canary 2 at 5%");
    let said = refused(&program, &["promote", "churn", "2"]);
    assert!(said.contains(FULL), "{said}");
    client(&program, &["canary", "churn", "2", "--weight", "2%"]);

    disk.make_room();
    until_recorded(&program);
    // One after the other: the disk has room as soon as the first of them is.
    let began = std::time::Instant::now();
    let history = || client(&program, &["history", "churn"]);
    while !history().contains("canary 2 at 2%") {
        assert!(began.elapsed() < crate::gateway::HANG, "{}", history());
    }
    client(&program, &["promote", "churn", "2"]);
    assert_eq!(plan(&program), "churn: champion 2");
}

#[test]
fn a_full_disk_is_no_reason_not_to_start() {
    let Some((root, disk)) = repository_and_disk("4m") else { return };
    let mut program = disk.start(root.path());
    client(&program, &["promote", "churn", "2"]);
    // A clean end takes with it what the next start would find.
    program.signal("TERM");
    assert_eq!(program.wait().0, Some(0));
    disk.fill();
    let program = disk.start(root.path());
    assert_eq!(plan(&program), "churn: champion 2");
    let said = refused(&program, &["canary", "churn", "3", "--weight", "5%"]);
    assert!(said.contains("nothing was changed: the store cannot be written"), "{said}");
}

#[test]
fn a_version_that_finds_no_room_is_told_and_harms_nobody() {
    let Some((root, disk)) = repository_and_disk("4m") else { return };
    let models = root.path().join("models/churn");
    let other = root.path().join("other");
    fs::rename(models.join("3"), &other).unwrap();
    let mut bytes = fs::read(other.join("model.onnx")).unwrap();
    // Another content: field 3 of a model, `producer_version`, once more.
    bytes.extend([0x1a, 1, b'x']);
    fs::write(other.join("model.onnx"), bytes).unwrap();
    let program = disk.start(root.path());
    disk.fill();
    fs::rename(&other, models.join("3")).unwrap();
    let failed = loop {
        let shown = client(&program, &["models"]);
        if shown.contains("failed") {
            break shown;
        }
    };
    let said = failed.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(said.contains("No space left on device") && said.contains("tried again"), "{said}");
    assert_eq!(plan(&program), "churn: champion 1");
}

#[test]
fn a_disk_that_can_only_be_read_starts_with_who_answered() {
    let Some((root, disk)) = repository_and_disk("16m") else { return };
    let mut program = disk.start(root.path());
    client(&program, &["promote", "churn", "2"]);
    program.signal("TERM");
    program.wait();
    disk.only_read();
    let program = disk.start(root.path());
    assert_eq!(plan(&program), "churn: champion 2");
    let said = refused(&program, &["canary", "churn", "3", "--weight", "5%"]);
    assert!(said.contains("nothing was changed: the store cannot be written"), "{said}");
    assert!(page(&program, "/healthz").contains("changes cannot be recorded"));
    client(&program, &["rollback", "churn"]);
    assert_eq!(plan(&program), "churn: champion 1");
}
