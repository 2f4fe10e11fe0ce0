//! What a run takes of the server's process: CPU time and resident memory, as
//! the kernel counts them.

use std::fs;
use std::net::SocketAddr;
use std::time::Duration;

use serde::Serialize;

use crate::error::Error;

/// The kernel's unit of CPU time in `/proc`: fixed at 100 a second.
const TICK: Duration = Duration::from_millis(10);
/// `LISTEN`, as `/proc/net/tcp` writes it.
const LISTENING: &str = "0A";

/// One look at a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Look {
    cpu: Duration,
    resident_bytes: u64,
}

/// What happened between two looks.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Usage {
    /// User and system time over all requests of the run, warm-up included.
    pub cpu_us_per_request: f64,
    /// User and system time, seconds.
    pub cpu_s: f64,
    /// Resident memory before, bytes.
    pub resident_bytes_before: u64,
    /// Resident memory after, bytes.
    pub resident_bytes_after: u64,
}

impl Usage {
    pub(crate) fn between(before: Look, after: Look, requests: u64) -> Self {
        let cpu_s = after.cpu.saturating_sub(before.cpu).as_secs_f64();
        Self {
            cpu_us_per_request: crate::report::per(cpu_s * 1e6, requests as f64),
            cpu_s,
            resident_bytes_before: before.resident_bytes,
            resident_bytes_after: after.resident_bytes,
        }
    }
}

/// Looks at a process.
///
/// # Errors
/// If there is none, or it may not be looked at.
pub fn look(pid: u32) -> Result<Look, Error> {
    let read = |name: &str| {
        let path = format!("/proc/{pid}/{name}");
        fs::read_to_string(&path).map_err(|error| Error::new(format!("{path}: {error}")))
    };
    let odd = || Error::new(format!("/proc/{pid} is not as expected"));
    let cpu = cpu_in(&read("stat")?).ok_or_else(odd)?;
    let resident_bytes = resident_in(&read("status")?).ok_or_else(odd)?;
    Ok(Look { cpu, resident_bytes })
}

fn cpu_in(stat: &str) -> Option<Duration> {
    // The name, in brackets, may hold anything.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = |at: usize| fields.get(at)?.parse::<u32>().ok();
    Some(TICK * (ticks(11)? + ticks(12)?))
}

fn resident_in(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? << 10)
}

/// The process of this machine that listens at the address, as far as this
/// user may see it.
#[must_use]
pub fn listener(address: SocketAddr) -> Option<u32> {
    if !address.ip().is_loopback() {
        return None;
    }
    let inodes: Vec<String> = ["/proc/net/tcp", "/proc/net/tcp6"]
        .iter()
        .filter_map(|path| fs::read_to_string(path).ok())
        .filter_map(|table| inode_in(&table, address.port()))
        .map(|inode| format!("socket:[{inode}]"))
        .collect();
    let processes = fs::read_dir("/proc").ok()?;
    let pids = processes.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    pids.into_iter().find(|pid: &u32| {
        let files = fs::read_dir(format!("/proc/{pid}/fd"));
        files
            .into_iter()
            .flatten()
            .filter_map(|file| fs::read_link(file.ok()?.path()).ok())
            .any(|link| inodes.iter().any(|inode| link.as_os_str().to_str() == Some(inode)))
    })
}

fn inode_in(table: &str, port: u16) -> Option<String> {
    let port = format!(":{port:04X}");
    table.lines().find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let listens = fields.get(1)?.ends_with(&port) && *fields.get(3)? == LISTENING;
        listens.then(|| fields.get(9).map(ToString::to_string)).flatten()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_is_read_past_an_odd_name() {
        let stat = "7 (a) b (c)) S 1 7 7 0 -1 0 0 0 0 0 150 50 0 0 20 0 1 0 0 0 0";
        assert_eq!(cpu_in(stat), Some(Duration::from_secs(2)));
        assert_eq!(cpu_in("7 (a"), None);
    }

    #[test]
    fn whoever_listens_is_found_and_has_memory() {
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let pid = listener(socket.local_addr().unwrap());
        assert_eq!(pid, Some(std::process::id()));
        assert!(look(std::process::id()).unwrap().resident_bytes > 0);
        assert_eq!(listener("192.0.2.1:80".parse().unwrap()), None);
    }
}
