//! Limits, space and ports of the machine, as far as the node depends on them.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::time::Duration;

use rustix::process::{Resource, getrlimit};

use super::{Finding, fail, ok, warn};
use crate::output;
use crate::target::NodeFacts;

const DEFAULT_GATEWAY_PORT: u16 = 8080;
/// Each loaded function holds a file and 3 to 11 mappings.
const NOFILE_WANTED: u64 = 16_384;
const NOFILE_LEAST: u64 = 1_024;
const MAPPINGS_WANTED: u64 = 65_530;
const DISK_WANTED_BYTES: u64 = 2 << 30;
const DISK_LEAST_BYTES: u64 = 200 << 20;
const MEMORY_WANTED_BYTES: u64 = 512 << 20;

pub(super) fn check_limits() -> Vec<Finding> {
    let mut findings = vec![files_finding(getrlimit(Resource::Nofile).maximum)];
    if let Some(mappings) = read_number("/proc/sys/vm/max_map_count") {
        findings.push(if mappings < MAPPINGS_WANTED {
            warn(
                "memory mappings",
                format!(
                    "vm.max_map_count is {}; for many functions run sysctl vm.max_map_count=262144",
                    output::count(mappings)
                ),
            )
        } else {
            ok("memory mappings", format!("vm.max_map_count is {}", output::count(mappings)))
        });
    }
    if let Ok(swaps) = std::fs::read_to_string("/proc/swaps") {
        // The first line is a heading.
        findings.push(if swaps.lines().count() > 1 {
            warn("swap", "is on: instances are reset without page-map scans, which is slower; swapoff -a turns it off")
        } else {
            ok("swap", "is off, so instances can be reset by page-map scans")
        });
    }
    let kernel = rustix::system::uname().release().to_string_lossy().into_owned();
    findings.push(if kernel_version(&kernel).is_some_and(|version| version < (6, 7)) {
        warn(
            "kernel",
            format!("{kernel} has no page-map scans (6.7 has); instances are reset more slowly"),
        )
    } else {
        ok("kernel", kernel)
    });
    if let Some(bytes) = total_memory_bytes() {
        let size = output::size(bytes);
        findings.push(if bytes < MEMORY_WANTED_BYTES {
            warn("memory", format!("{size}; lower limits.memory_bytes and concurrency"))
        } else {
            ok("memory", size)
        });
    }
    findings.push(check_clock(crate::time::now_ms()));
    findings
}

/// `None` stands for no limit. The node raises its soft limit to the hard one.
fn files_finding(hard: Option<u64>) -> Finding {
    let Some(hard) = hard else { return ok("open files", "no limit") };
    let shown = output::count(hard);
    if hard < NOFILE_LEAST {
        fail(
            "open files",
            format!("at most {shown}; raise it with ulimit -Hn {NOFILE_WANTED} or LimitNOFILE="),
        )
    } else if hard < NOFILE_WANTED {
        warn(
            "open files",
            format!(
                "at most {shown}; for many functions or clients raise it to {NOFILE_WANTED} with LimitNOFILE= or in limits.conf"
            ),
        )
    } else {
        ok("open files", format!("at most {shown}"))
    }
}

fn check_clock(now_ms: i64) -> Finding {
    // This version was written later than that; a machine without a battery starts earlier.
    let released_ms = crate::time::parse_utc_ms("2026-01-01T00:00:00Z").unwrap_or(0);
    if now_ms < released_ms {
        fail("system clock", "is in the past; set it, or certificates and tokens fail")
    } else {
        ok("system clock", "plausible")
    }
}

pub(super) fn check_disk(data_dir: &Path) -> Vec<Finding> {
    // A folder that is not there yet will be on the disk of the nearest one that is.
    let folder = data_dir.ancestors().find(|folder| folder.exists()).unwrap_or(Path::new("."));
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let Ok(disk) = rustix::fs::statvfs(folder) else {
        return vec![warn("disk", format!("the space below {} can not be read", folder.display()))];
    };
    let free = disk.f_bavail.saturating_mul(disk.f_frsize);
    let mut findings = vec![disk_finding(free)];
    // Some file systems count no inodes and say zero.
    if disk.f_files > 0 && disk.f_favail < 10_000 {
        let left = output::count(disk.f_favail);
        findings.push(warn("inodes", format!("{left} left; each asset and component takes one")));
    }
    findings
}

fn disk_finding(free: u64) -> Finding {
    let shown = output::size(free);
    if free < DISK_LEAST_BYTES {
        fail("disk", format!("{shown} free; deploys and records are going to be refused"))
    } else if free < DISK_WANTED_BYTES {
        warn("disk", format!("{shown} free"))
    } else {
        ok("disk", format!("{shown} free"))
    }
}

/// Do the public listeners answer, or would they find their port?
pub(super) fn check_ports(facts: Option<&NodeFacts>) -> Vec<Finding> {
    let Some(facts) = facts else {
        let address = SocketAddr::from(([127, 0, 0, 1], DEFAULT_GATEWAY_PORT));
        return vec![match TcpListener::bind(address) {
            Ok(_) => ok("port", format!("{DEFAULT_GATEWAY_PORT} is free")),
            Err(error) => warn(
                "port",
                format!(
                    "{DEFAULT_GATEWAY_PORT}: {error}; squall up takes the next free one, or --listen"
                ),
            ),
        }];
    };
    let mut findings = Vec::new();
    for url in &facts.gateway_urls {
        let authority = url.split_once("://").map_or(url.as_str(), |(_, authority)| authority);
        let authority = authority.trim_end_matches('/');
        // Names are for browsers; an address can be tried from here.
        let Ok(address) = authority.parse::<SocketAddr>() else { continue };
        findings.push(match TcpStream::connect_timeout(&address, Duration::from_secs(2)) {
            Ok(_) => ok("port", format!("{address} takes connections")),
            Err(error) => fail("port", format!("{address}: {error}")),
        });
    }
    findings
}

fn read_number(file: &str) -> Option<u64> {
    std::fs::read_to_string(file).ok()?.trim().parse().ok()
}

/// What this process may use: the machine's memory, or its control group's limit.
fn total_memory_bytes() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let machine = line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024;
    let group = read_number("/sys/fs/cgroup/memory.max").unwrap_or(u64::MAX);
    Some(machine.min(group))
}

fn kernel_version(release: &str) -> Option<(u32, u32)> {
    let mut parts = release.split(|character: char| !character.is_ascii_digit());
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

/// Seconds since 1970 of a Date header (RFC 9110, section 5.6.7).
pub(super) fn parse_http_date_s(date: &str) -> Option<i64> {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let (_, rest) = date.split_once(", ")?;
    let parts: Vec<&str> = rest.split(' ').collect();
    let [day, month, year, clock, "GMT"] = parts.as_slice() else { return None };
    let month = MONTHS.iter().position(|name| name == month)? + 1;
    let utc = format!("{year}-{month:02}-{day}T{clock}Z");
    crate::time::parse_utc_ms(&utc).map(|ms| ms / 1000)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::doctor::State;

    #[test]
    fn thresholds_make_warnings_and_failures() {
        let files =
            [None, Some(1 << 20), Some(4096), Some(256)].map(|hard| files_finding(hard).state);
        assert_eq!(files, [State::Ok, State::Ok, State::Warn, State::Fail]);
        let disk = [10 << 30, 1 << 30, 1 << 20].map(|free| disk_finding(free).state);
        assert_eq!(disk, [State::Ok, State::Warn, State::Fail]);
        assert_eq!(check_clock(0).state, State::Fail);
        assert_eq!(check_disk(Path::new("/no/such/folder")).len(), 1);
    }

    #[test]
    fn dates_and_kernel_versions_are_read() {
        assert_eq!(parse_http_date_s("Mon, 23 Nov 2026 14:26:24 GMT"), Some(1_795_443_984));
        assert_eq!(parse_http_date_s("yesterday"), None);
        assert_eq!(kernel_version("6.7.0-rc1-amd64"), Some((6, 7)));
        assert_eq!(kernel_version("unknown"), None);
    }
}
