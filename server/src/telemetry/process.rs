//! Metrics of the process, under the names that every Prometheus client library gives them.
//!
//! The client library's own collector counts CPU time in whole seconds, which is useless for the share of a core that
//! an idle node takes; hence this one.

use std::sync::Mutex;
use std::sync::PoisonError;

use prometheus::{Counter, Gauge, IntGauge, Registry};

use super::metrics::registered;

/// Unit of times in `/proc/self/stat` on Linux, fixed in its user-space interface.
const TICKS_PER_SECOND: f64 = 100.0;
/// Pages as `/proc/self/stat` counts them, on every platform that we build for.
const PAGE_BYTES: u64 = 4096;

/// The metrics.
#[derive(Debug)]
pub struct ProcessMetrics {
    cpu_seconds: Counter,
    resident_bytes: IntGauge,
    virtual_bytes: IntGauge,
    open_fds: IntGauge,
    threads: IntGauge,
    last_cpu: Mutex<f64>,
}

/// What we read of `/proc/self/stat`.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Stat {
    cpu_seconds: f64,
    threads: u64,
    start_ticks: u64,
    virtual_bytes: u64,
    resident_bytes: u64,
}

impl ProcessMetrics {
    /// Registers them.
    pub fn new(registry: &Registry) -> Self {
        let start = registered(
            registry,
            Gauge::new("process_start_time_seconds", "Start of the process in seconds since 1970."),
        );
        if let (Some(stat), Some(boot)) = (stat(), boot_seconds()) {
            start.set(boot + stat.start_ticks as f64 / TICKS_PER_SECOND);
        }
        let gauge = |name: &str, help: &str| registered(registry, IntGauge::new(name, help));
        Self {
            cpu_seconds: registered(
                registry,
                Counter::new("process_cpu_seconds_total", "User and system CPU time in seconds."),
            ),
            resident_bytes: gauge("process_resident_memory_bytes", "Resident memory in bytes."),
            virtual_bytes: gauge("process_virtual_memory_bytes", "Virtual memory in bytes."),
            open_fds: gauge("process_open_fds", "Open file descriptors."),
            threads: gauge("process_threads", "Threads of the process."),
            last_cpu: Mutex::new(0.0),
        }
    }

    /// Reads them anew. On a system without `/proc` they stay 0.
    pub fn update(&self) {
        let Some(stat) = stat() else { return };
        {
            let mut last = self.last_cpu.lock().unwrap_or_else(PoisonError::into_inner);
            self.cpu_seconds.inc_by((stat.cpu_seconds - *last).max(0.0));
            *last = last.max(stat.cpu_seconds);
        }
        self.resident_bytes.set(stat.resident_bytes as i64);
        self.virtual_bytes.set(stat.virtual_bytes as i64);
        self.threads.set(stat.threads as i64);
        if let Ok(entries) = std::fs::read_dir("/proc/self/fd") {
            self.open_fds.set(entries.count() as i64);
        }
    }
}

fn stat() -> Option<Stat> {
    parse(&std::fs::read_to_string("/proc/self/stat").ok()?)
}

fn parse(text: &str) -> Option<Stat> {
    // The second field is the program's name in parentheses and may hold anything, also spaces and parentheses.
    let fields: Vec<&str> = text[text.rfind(')')? + 1..].split_ascii_whitespace().collect();
    // Numbered from 1 in the manual, and two of them are before the first that is left here.
    let field = |number: usize| -> Option<u64> { fields.get(number - 3)?.parse().ok() };
    Some(Stat {
        cpu_seconds: (field(14)? + field(15)?) as f64 / TICKS_PER_SECOND,
        threads: field(20)?,
        start_ticks: field(22)?,
        virtual_bytes: field(23)?,
        resident_bytes: field(24)? * PAGE_BYTES,
    })
}

fn boot_seconds() -> Option<f64> {
    let text = std::fs::read_to_string("/proc/stat").ok()?;
    text.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_is_no_obstacle() {
        let text = "7 (a) b (c) S 1 7 7 0 -1 4194304 1 0 0 0 250 50 0 0 20 0 9 0 1234 1000000 25 18446744073709551615";
        let expected = Stat {
            cpu_seconds: 3.0,
            threads: 9,
            start_ticks: 1234,
            virtual_bytes: 1_000_000,
            resident_bytes: 102_400,
        };
        assert_eq!(parse(text), Some(expected));
        assert_eq!(parse("7 (cut"), None);
    }
}
