//! Metrics of this process, as Prometheus clients name them.

use std::fs;
use std::sync::LazyLock;

use squall_types::metrics::write_metric;

/// Fields of `/proc/self/stat` behind the command name, counted from 0
/// (proc_pid_stat(5) counts from 1 and the command is its second).
const UTIME: usize = 11;
const STIME: usize = 12;
const THREADS: usize = 17;
const START_TIME: usize = 19;
const VSIZE: usize = 20;
const RSS_PAGES: usize = 21;

static TICKS_PER_SECOND: LazyLock<f64> =
    LazyLock::new(|| rustix::param::clock_ticks_per_second() as f64);

/// Appends memory, CPU time, file descriptors, threads, mappings and start time of this
/// process in the Prometheus text format. What `/proc` does not tell is left out.
pub fn process_metrics(out: &mut String) {
    if let Some(stat) = Stat::read() {
        write_metric(
            out,
            "process_resident_memory_bytes",
            "gauge",
            "Resident memory.",
            stat.number(RSS_PAGES) * rustix::param::page_size() as u64,
        );
        write_metric(
            out,
            "process_virtual_memory_bytes",
            "gauge",
            "Address space in use.",
            stat.number(VSIZE),
        );
        write_metric(
            out,
            "process_cpu_seconds_total",
            "counter",
            "CPU time of user and system.",
            (stat.number(UTIME) + stat.number(STIME)) as f64 / *TICKS_PER_SECOND,
        );
        write_metric(out, "process_threads", "gauge", "Threads.", stat.number(THREADS));
        if let Some(boot_s) = boot_time_s() {
            write_metric(
                out,
                "process_start_time_seconds",
                "gauge",
                "Start of the process, in seconds since 1970.",
                boot_s as f64 + stat.number(START_TIME) as f64 / *TICKS_PER_SECOND,
            );
        }
    }
    if let Ok(entries) = fs::read_dir("/proc/self/fd") {
        // One of them is the folder that is being read.
        let open = entries.count().saturating_sub(1);
        write_metric(out, "process_open_fds", "gauge", "Open file descriptors.", open);
    }
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    write_metric(
        out,
        "process_max_fds",
        "gauge",
        "Limit of open file descriptors.",
        limit.unwrap_or(u64::MAX),
    );
    if let Ok(maps) = fs::read("/proc/self/maps") {
        let mappings = maps.iter().filter(|byte| **byte == b'\n').count();
        write_metric(
            out,
            "squall_process_mappings",
            "gauge",
            "Memory mappings; vm.max_map_count limits them.",
            mappings,
        );
    }
    if let Some(limit) = read_number("/proc/sys/vm/max_map_count") {
        write_metric(
            out,
            "squall_process_max_mappings",
            "gauge",
            "Limit of memory mappings (vm.max_map_count).",
            limit,
        );
    }
}

struct Stat(Vec<u64>);

impl Stat {
    fn read() -> Option<Self> {
        let text = fs::read_to_string("/proc/self/stat").ok()?;
        // The command may hold spaces and parentheses; the last one ends it.
        let fields = text.rsplit_once(')')?.1.split_ascii_whitespace();
        Some(Self(fields.map(|field| field.parse().unwrap_or(0)).collect()))
    }

    fn number(&self, field: usize) -> u64 {
        self.0.get(field).copied().unwrap_or(0)
    }
}

fn boot_time_s() -> Option<u64> {
    static BOOT_TIME_S: LazyLock<Option<u64>> = LazyLock::new(|| {
        let text = fs::read_to_string("/proc/stat").ok()?;
        text.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()
    });
    *BOOT_TIME_S
}

fn read_number(path: &str) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_process_describes_itself() {
        let mut out = String::new();
        super::process_metrics(&mut out);
        for name in [
            "process_resident_memory_bytes",
            "process_cpu_seconds_total",
            "process_open_fds",
            "process_threads",
            "process_start_time_seconds",
            "squall_process_mappings",
        ] {
            let value = out
                .lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))
                .unwrap_or_else(|| panic!("{name} is missing in\n{out}"));
            let value: f64 = value.parse().unwrap();
            assert!(value >= 0.0, "{name} {value}");
        }
        assert!(!out.contains("process_threads 0\n"));
    }
}
