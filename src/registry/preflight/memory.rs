//! How much memory there is and a process has: a child that makes the kernel
//! run out of it would, in a container that is killed as a whole, take the
//! gateway along.

use std::fs;
use std::path::Path;

/// Bytes that may still be used, by the machine's and the container's count;
/// `None` where neither can be told.
pub(super) fn left() -> Option<u64> {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let machine = available(&read("/proc/meminfo"));
    let container = folder(&read("/proc/self/cgroup")).and_then(|folder| {
        let read = |file: &str| fs::read_to_string(folder.join(file)).unwrap_or_default();
        container_left(&read("memory.max"), &read("memory.current"), &read("memory.stat"))
    });
    machine.into_iter().chain(container).min()
}

/// `MemAvailable` of `/proc/meminfo`, which is in KiB.
fn available(meminfo: &str) -> Option<u64> {
    value(meminfo, "MemAvailable:")?.checked_mul(1024)
}

/// The number after a word at the start of a line.
fn value(text: &str, word: &str) -> Option<u64> {
    let mut lines = text.lines().map(str::split_whitespace);
    lines.find_map(|mut words| (words.next() == Some(word)).then(|| words.next()?.parse().ok())?)
}

/// This process's folder in the unified hierarchy (version 2).
fn folder(cgroup: &str) -> Option<std::path::PathBuf> {
    let inner = cgroup.lines().find_map(|line| line.strip_prefix("0::/"))?;
    Some(Path::new("/sys/fs/cgroup").join(inner))
}

/// What a container has left; the page cache that nobody uses counts as free.
fn container_left(max: &str, current: &str, stat: &str) -> Option<u64> {
    let max: u64 = max.trim().parse().ok()?;
    let current: u64 = current.trim().parse().ok()?;
    let cache = value(stat, "inactive_file").unwrap_or(0);
    Some(max.saturating_sub(current.saturating_sub(cache)))
}

/// What this process has in memory.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Own {
    /// Bytes that are resident now.
    pub(super) resident: u64,
    /// The most that were resident so far.
    pub(super) peak: u64,
}

/// What this process has; `None` where it cannot be told.
pub(super) fn own() -> Option<Own> {
    own_of(&fs::read_to_string("/proc/self/status").ok()?)
}

fn own_of(status: &str) -> Option<Own> {
    let bytes = |word| value(status, word)?.checked_mul(1024);
    let (resident, peak) = (bytes("VmRSS:")?, bytes("VmHWM:")?);
    // The kernel counts a little late: the peak may lag behind.
    Some(Own { resident, peak: peak.max(resident) })
}

/// The resident size of another process; `None` where it cannot be told.
pub(super) fn resident_of(pid: u32) -> Option<u64> {
    let statm = fs::read_to_string(format!("/proc/{pid}/statm")).ok()?;
    let pages: u64 = statm.split_whitespace().nth(1)?.parse().ok()?;
    // SAFETY: takes an integer only.
    let page = u64::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).ok()?;
    Some(pages * page)
}

/// `3.1 GiB`, `12.0 MiB`.
#[expect(clippy::cast_precision_loss, reason = "for people")]
pub(super) fn in_words(bytes: u64) -> String {
    let (unit, name) = if bytes >= 1 << 30 { (1 << 30, "GiB") } else { (1 << 20, "MiB") };
    format!("{:.1} {name}", bytes as f64 / f64::from(unit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_texts_are_read() {
        let meminfo = "MemTotal:  100 kB\nMemAvailable:    24 kB\n";
        assert_eq!(available(meminfo), Some(24 * 1024));
        assert_eq!(available(""), None);
        assert_eq!(folder("1:name=x:/y\n0::/a/b\n").unwrap(), Path::new("/sys/fs/cgroup/a/b"));
        assert_eq!(folder("0::/\n").unwrap(), Path::new("/sys/fs/cgroup/"));
        assert_eq!(folder("4:memory:/a"), None);
        let stat = "anon 5\ninactive_file 30\n";
        assert_eq!(container_left("100\n", "80\n", stat), Some(50));
        assert_eq!(container_left("100\n", "180\n", ""), Some(0));
        assert_eq!(container_left("max\n", "80\n", stat), None);
    }

    #[test]
    fn sizes_have_a_fitting_unit() {
        assert_eq!(in_words(3 << 19), "1.5 MiB");
        assert_eq!(in_words(5 << 29), "2.5 GiB");
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn this_process_knows_what_it_has() {
        let block = std::hint::black_box(vec![1_u8; 64 << 20]);
        let with = own().unwrap();
        assert!(with.resident > 60 << 20 && with.peak >= with.resident, "{with:?}");
        drop(block);
        // The kernel's counts are off by some pages for each thread.
        assert!(own().unwrap().peak > with.peak - (16 << 20), "a peak stays");
        assert!(resident_of(std::process::id()).unwrap() > 0);
        assert_eq!(own_of("VmRSS: 2 kB\n"), None);
        let late = own_of("VmHWM: 1 kB\nVmRSS: 2 kB\n").unwrap();
        assert_eq!(late, Own { resident: 2048, peak: 2048 });
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn this_machine_can_tell() {
        assert!(left().is_some_and(|bytes| bytes > 0));
    }
}
