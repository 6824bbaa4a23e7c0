//! The node's memory: its budget, and what the process holds that nobody charges to the ledger.
//!
//! The ledger counts what grows with the load. The rest (the log's buffers, connections, what the allocator keeps) is
//! measured: anonymous memory of the process less what is counted, looked at every [`LOOK`]. So the ledger says what the
//! kernel says, and pressure means that the process is large, whoever made it so. Mapped segments are not part of it:
//! their pages are the kernel's to take back.
//!
//! What a large query held counts as the rest of the process from when it is no longer charged until the next look, and
//! longer where the allocator keeps it. So before anybody is refused memory, the allocator is asked for what it keeps, and
//! the process is measured.

use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use prometheus::{IntGauge, IntGaugeVec, Opts};
use protocol::memory::{MemoryLedger, MemoryUse, Pressure};
use tokio_util::sync::CancellationToken;

use super::metrics::{Metrics, registered};
use crate::config::units::MemoryBudget;

/// How often the process is measured.
const LOOK: Duration = Duration::from_millis(250);
/// Looks between two requests to the allocator for what it keeps, and under pressure.
const LOOKS_PER_RELEASE: u32 = 40;
const LOOKS_UNDER_PRESSURE: u32 = 8;
/// Growth beyond what is charged, since the allocator was last asked, by which it is asked again: it keeps what a flush
/// has freed in places where the next memtables do not grow.
const KEPT: u64 = 64 << 20;
/// Looks between two requests for that reason: what it gives back has to be had again from the kernel, page by page.
const LOOKS_PER_GROWTH: u32 = 4;
/// Time from the end of one measurement for who would be refused memory to the next: many may be refused at once.
const PAUSE: Duration = Duration::from_millis(100);
/// Budget where the system does not say how much memory there is.
const FALLBACK: u64 = 2 << 30;

/// The ledger of a process with these settings.
pub fn ledger(budget: MemoryBudget) -> MemoryLedger {
    let bytes = match budget {
        MemoryBudget::Size(size) => size.0,
        MemoryBudget::Auto => available().map_or(FALLBACK, |bytes| bytes / 2),
    };
    MemoryLedger::new(bytes)
}

/// Memory that the process may use: the machine's, or its control group's where that is less.
fn available() -> Option<u64> {
    let read = |path: &str| std::fs::read_to_string(Path::new(path)).ok();
    let machine = read("/proc/meminfo").and_then(|text| kib_line(&text, "MemTotal:"));
    let group = read("/sys/fs/cgroup/memory.max").and_then(|text| text.trim().parse().ok());
    machine.into_iter().chain(group).min()
}

/// Anonymous memory of the process in bytes.
fn anonymous() -> Option<u64> {
    kib_line(&std::fs::read_to_string("/proc/self/status").ok()?, "RssAnon:")
}

/// The number of a line like `MemTotal:   123 kB`, in bytes.
fn kib_line(text: &str, name: &str) -> Option<u64> {
    let number = text.lines().find_map(|line| line.strip_prefix(name))?.trim().strip_suffix("kB")?;
    number.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// Keeps the ledger in step with the process, and its metrics with the ledger.
pub fn start(
    runtime: &tokio::runtime::Handle,
    memory: &MemoryLedger,
    metrics: &Metrics,
    caches: impl Fn() -> u64 + Send + 'static,
    stop: CancellationToken,
) {
    register(metrics, memory);
    let last = Mutex::new(None::<Instant>);
    memory.measure_with(move || {
        // Who comes while it is done waits, and goes by what was found.
        let mut last = last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.is_some_and(|last| last.elapsed() < PAUSE) {
            return None;
        }
        storage::release_free_memory();
        let anonymous = anonymous();
        *last = Some(Instant::now());
        anonymous
    });
    let mut cached = memory.charge(MemoryUse::Caches);
    let memory = memory.clone();
    runtime.spawn(async move {
        let measure = || {
            if let Some(anonymous) = anonymous() {
                memory.set_process(anonymous);
            }
            memory.used_for(MemoryUse::Other)
        };
        let (mut looks, mut least) = (0, measure());
        loop {
            cached.set(caches());
            let uncharged = measure();
            let is_pressed = memory.pressure() >= Pressure::Flush;
            let has_grown = uncharged >= least.saturating_add(KEPT);
            let due = match () {
                () if has_grown => LOOKS_PER_GROWTH,
                () if is_pressed => LOOKS_UNDER_PRESSURE,
                () => LOOKS_PER_RELEASE,
            };
            looks += 1;
            if looks >= due {
                looks = 0;
                // It walks the heap and takes its locks: not on a reactor's thread.
                let _ = tokio::task::spawn_blocking(storage::release_free_memory).await;
                least = measure();
            }
            tokio::select! {
                () = tokio::time::sleep(LOOK) => {}
                () = stop.cancelled() => return,
            }
        }
    });
}

fn register(metrics: &Metrics, memory: &MemoryLedger) {
    let registry = metrics.registry();
    let budget =
        registered(registry, IntGauge::new("pharos_memory_budget_bytes", "Memory that this node may use."));
    let used = registered(
        registry,
        IntGaugeVec::new(Opts::new("pharos_memory_used_bytes", "Memory in use, by what for."), &["use"]),
    );
    budget.set(i64::try_from(memory.budget()).unwrap_or(i64::MAX));
    let memory = memory.clone();
    metrics.add_source(move || {
        for what in MemoryUse::ALL {
            let bytes = i64::try_from(memory.used_for(what)).unwrap_or(i64::MAX);
            used.with_label_values(&[what.as_str()]).set(bytes);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::units::ByteSize;

    #[test]
    fn the_kernels_lines_are_read() {
        let text = "VmRSS:\t  9 kB\nRssAnon:\t    1234 kB\nRssFile:\t 5 kB\n";
        assert_eq!(kib_line(text, "RssAnon:"), Some(1234 << 10));
        assert_eq!(kib_line(text, "RssShmem:"), None);
        assert_eq!(kib_line("RssAnon: x kB", "RssAnon:"), None);
    }

    #[test]
    fn a_size_is_taken_and_auto_finds_one() {
        assert_eq!(ledger(MemoryBudget::Size(ByteSize::mib(300))).budget(), 300 << 20);
        assert!(ledger(MemoryBudget::Auto).budget() >= 64 << 20);
    }
}
