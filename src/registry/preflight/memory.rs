//! How much memory is left: a child that makes the kernel run out of it would,
//! in a container that is killed as a whole, take the gateway along.

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
    #[cfg(target_os = "linux")]
    fn this_machine_can_tell() {
        assert!(left().is_some_and(|bytes| bytes > 0));
    }
}
