//! The queries that are running: who asked what since when; how to stop one; what was slow; what is not let in again.
//!
//! ```text
//! begin ─► refused when quarantined ─► entry in the list, and a record in the file `queries.active`
//! end   ─► record wiped ─► slow ones into the log and into the list of slow queries
//! start of the process ─► records that are still there were running when it crashed: suspects
//! ```
//!
//! A query that was running at a crash and at the crash before is quarantined for [`Settings::quarantine`]: it is
//! refused with its reason, and its text is in the log. The same goes for the parts of queries that other nodes send
//! here, for a crash hits the node that does the work. Records are written without a sync: they have to survive the
//! process, not the machine. A clean stop leaves none.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use protocol::error::ErrorKind;
use protocol::ids::TenantId;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::time::format_rfc3339;
use crate::error::ApiError;
use crate::runtime::now_ms;

/// Slow queries that are remembered.
const SLOW_KEPT: usize = 128;

/// Bytes of a record; longer texts are cut in it, their digest is of the whole.
const RECORD_BYTES: usize = 2048;

const ACTIVE_FILE: &str = "queries.active";
const SUSPECTS_FILE: &str = "queries.suspects";

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// Whose data.
    pub tenant: TenantId,
    /// `query`, `query_range`, `labels`, ...
    pub what: &'static str,
    /// The expression, or the selectors of a list.
    pub text: String,
    /// Start, end and step in milliseconds, where there are any.
    pub times: Option<(i64, i64, i64)>,
}

impl Asked {
    /// An expression.
    pub fn query(tenant: &TenantId, what: &'static str, text: &str, times: (i64, i64, i64)) -> Self {
        Self { tenant: tenant.clone(), what, text: text.to_owned(), times: Some(times) }
    }

    /// A list.
    pub fn list(tenant: &TenantId, what: &'static str, text: String) -> Self {
        Self { tenant: tenant.clone(), what, text, times: None }
    }

    /// Equal for equal texts of a tenant, whatever the times: dashboards move them.
    fn digest(&self) -> String {
        let mut hasher = blake3::Hasher::new();
        hasher.update(self.tenant.as_str().as_bytes()).update(&[0]).update(self.text.as_bytes());
        hasher.finalize().to_hex()[..32].to_owned()
    }

    fn json(&self) -> Value {
        let mut out = json!({"tenant": self.tenant.as_str(), "type": self.what, "query": self.text});
        if let Some((start, end, step)) = self.times {
            out["start"] = json!(format_rfc3339(start));
            out["end"] = json!(format_rfc3339(end));
            out["stepSeconds"] = json!(step as f64 / 1000.0);
        }
        out
    }
}

/// What a running query tells of itself.
#[derive(Debug, Default)]
pub struct Notes {
    samples: AtomicU64,
    queued_micros: AtomicU64,
}

impl Notes {
    /// Counts samples that were read.
    pub fn count(&self, samples: u64) {
        self.samples.fetch_add(samples, Ordering::Relaxed);
    }

    /// Notes how long it waited for a place.
    pub fn waited(&self, time: Duration) {
        self.queued_micros.store(time.as_micros() as u64, Ordering::Relaxed);
    }

    /// Microseconds that it waited for a place.
    pub fn queued_micros(&self) -> u64 {
        self.queued_micros.load(Ordering::Relaxed)
    }

    pub(super) fn samples(&self) -> u64 {
        self.samples.load(Ordering::Relaxed)
    }
}

/// How the list behaves.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Queries that take at least so long are logged; zero logs none.
    pub slow_after: Duration,
    /// How long a query is kept out after it was running at two crashes; zero switches that off.
    pub quarantine: Duration,
}

struct Running {
    asked: Asked,
    since_ms: i64,
    since: Instant,
    kill: CancellationToken,
    notes: Arc<Notes>,
}

/// A query that runs, as its tenant may see it.
#[derive(Clone, Debug, PartialEq)]
pub struct RunningQuery {
    /// Its number.
    pub id: u64,
    /// Its kind, see [`Asked::what`].
    pub what: &'static str,
    /// Its text.
    pub text: String,
    /// When it began, in milliseconds since 1970.
    pub since_ms: i64,
    /// How long it runs.
    pub seconds: f64,
}

/// A query that was running when the process crashed.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Suspect {
    tenant: String,
    query: String,
    /// Crashes in a row.
    crashes: u32,
    /// Milliseconds since 1970; kept out until then.
    #[serde(default)]
    until_ms: i64,
}

#[derive(Serialize, Deserialize)]
struct Record {
    digest: String,
    tenant: String,
    query: String,
}

#[derive(Default)]
struct Inner {
    next_id: u64,
    running: BTreeMap<u64, Running>,
    slow: std::collections::VecDeque<Value>,
    suspects: BTreeMap<String, Suspect>,
    /// Records of the file that are in use.
    used: Vec<bool>,
}

/// The list.
pub struct ActiveQueries {
    settings: Settings,
    inner: Mutex<Inner>,
    file: Option<File>,
    dir: Option<PathBuf>,
}

impl std::fmt::Debug for ActiveQueries {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ActiveQueries").finish_non_exhaustive()
    }
}

impl ActiveQueries {
    /// A list that leaves no trace on disk.
    pub fn in_memory(settings: Settings) -> Arc<Self> {
        Arc::new(Self { settings, inner: Mutex::default(), file: None, dir: None })
    }

    /// The list of a node: reads what the last process left in the directory, and decides what is kept out.
    pub fn open(dir: &Path, settings: Settings) -> io::Result<Arc<Self>> {
        if settings.quarantine.is_zero() {
            return Ok(Self::in_memory(settings));
        }
        let path = dir.join(ACTIVE_FILE);
        let mut left = Vec::new();
        match File::open(&path) {
            Ok(mut file) => drop(file.read_to_end(&mut left)?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        let now = now_ms();
        // A file that can not be read keeps nobody out.
        let before: BTreeMap<String, Suspect> = std::fs::read(dir.join(SUSPECTS_FILE))
            .ok()
            .and_then(|bytes| serde_json::from_slice(&bytes).ok())
            .unwrap_or_default();
        let crashed = records(&left);
        let suspects = suspects_after(before, &crashed, now, settings.quarantine);
        for suspect in suspects.values().filter(|s| crashed.iter().any(|r| r.query == s.query)) {
            let (tenant, query, crashes) = (&suspect.tenant, &suspect.query, suspect.crashes);
            if suspect.until_ms > now {
                tracing::error!(
                    %tenant, %query, crashes,
                    "a query was running at two crashes in a row and is quarantined"
                );
            } else {
                tracing::warn!(%tenant, %query, crashes, "a query was running when the process crashed");
            }
        }
        save(dir, &suspects)?;
        let file = File::options().create(true).truncate(true).write(true).open(path)?;
        let inner = Mutex::new(Inner { suspects, ..Inner::default() });
        Ok(Arc::new(Self { settings, inner, file: Some(file), dir: Some(dir.to_owned()) }))
    }

    /// The process stops in an orderly way: what is cut off now is no suspect.
    pub fn close(&self) {
        if let Some(file) = &self.file {
            // What stays would only make suspects of innocents.
            let _ = file.set_len(0);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Refuses what is quarantined.
    fn admit(&self, inner: &Inner, digest: &str) -> Result<(), ApiError> {
        match inner.suspects.get(digest) {
            Some(suspect) if suspect.until_ms > now_ms() => Err(ApiError::new(
                ErrorKind::LimitExceeded,
                format!(
                    "the query is quarantined until {}: it was running at {} crashes of this node in a row; release it \
                     with POST /api/v1/admin/queries/release?query=... or set query.quarantine to 0s",
                    format_rfc3339(suspect.until_ms),
                    suspect.crashes
                ),
            )),
            _ => Ok(()),
        }
    }

    /// Notes a query; it is running until the guard is dropped.
    pub fn begin(self: &Arc<Self>, asked: Asked) -> Result<Active, ApiError> {
        let digest = asked.digest();
        let mut inner = self.lock();
        self.admit(&inner, &digest)?;
        let record = self.record(&mut inner, &asked, digest);
        inner.next_id += 1;
        let id = inner.next_id;
        let (kill, notes) = (CancellationToken::new(), Arc::new(Notes::default()));
        let running = Running {
            asked,
            since_ms: now_ms(),
            since: Instant::now(),
            kill: kill.clone(),
            notes: Arc::clone(&notes),
        };
        inner.running.insert(id, running);
        drop(inner);
        Ok(Active { list: Arc::clone(self), id, record, kill, notes, outcome: "abandoned by its client" })
    }

    /// Notes a part of a query that another node asks for, in the file alone.
    pub fn begin_part(self: &Arc<Self>, tenant: &str, text: &str) -> Result<Part, ApiError> {
        if self.file.is_none() {
            return Ok(Part { list: Arc::clone(self), record: None });
        }
        let Ok(tenant) = TenantId::new(tenant) else {
            return Ok(Part { list: Arc::clone(self), record: None });
        };
        let asked = Asked::list(&tenant, "part", text.to_owned());
        let digest = asked.digest();
        let mut inner = self.lock();
        self.admit(&inner, &digest)?;
        let record = self.record(&mut inner, &asked, digest);
        drop(inner);
        Ok(Part { list: Arc::clone(self), record })
    }

    fn record(&self, inner: &mut Inner, asked: &Asked, digest: String) -> Option<usize> {
        let file = self.file.as_ref()?;
        let at = match inner.used.iter().position(|used| !used) {
            Some(at) => at,
            None => {
                inner.used.push(false);
                inner.used.len() - 1
            }
        };
        inner.used[at] = true;
        let mut query = asked.text.clone();
        let room = RECORD_BYTES / 2;
        if query.len() > room {
            let cut = (0..=room).rev().find(|at| query.is_char_boundary(*at)).unwrap_or(0);
            query.truncate(cut);
        }
        let record = Record { digest, tenant: asked.tenant.as_str().to_owned(), query };
        let mut bytes = serde_json::to_vec(&record).unwrap_or_default();
        // Escapes may make a short text long: then the digest alone has to do.
        if bytes.len() > RECORD_BYTES {
            let bare = Record { query: "(long)".to_owned(), ..record };
            bytes = serde_json::to_vec(&bare).unwrap_or_default();
        }
        bytes.resize(RECORD_BYTES, b'\n');
        // A full disk must not fail queries: the record is a help, not a promise.
        let _ = file.write_all_at(&bytes, (at * RECORD_BYTES) as u64);
        Some(at)
    }

    fn wipe(&self, inner: &mut Inner, record: Option<usize>) {
        if let (Some(file), Some(at)) = (&self.file, record) {
            let _ = file.write_all_at(&[b'\n'; 1], (at * RECORD_BYTES) as u64);
            inner.used[at] = false;
        }
    }

    /// What is running, longest first, and what is kept out.
    pub fn json(&self) -> Value {
        let inner = self.lock();
        let now = now_ms();
        let running: Vec<Value> = inner
            .running
            .iter()
            .map(|(id, running)| {
                let mut row = running.asked.json();
                row["id"] = json!(id);
                row["since"] = json!(format_rfc3339(running.since_ms));
                row["seconds"] = json!(running.since.elapsed().as_secs_f64());
                row
            })
            .collect();
        let kept_out: Vec<Value> = inner
            .suspects
            .values()
            .filter(|suspect| suspect.until_ms > now)
            .map(|s| {
                json!({
                    "tenant": s.tenant,
                    "query": s.query,
                    "crashes": s.crashes,
                    "until": format_rfc3339(s.until_ms),
                })
            })
            .collect();
        json!({"active": running, "quarantined": kept_out})
    }

    /// What runs for a tenant, longest first.
    pub fn running_of(&self, tenant: &TenantId) -> Vec<RunningQuery> {
        let inner = self.lock();
        let of_tenant = inner.running.iter().filter(|(_, running)| running.asked.tenant == *tenant);
        of_tenant
            .map(|(id, running)| RunningQuery {
                id: *id,
                what: running.asked.what,
                text: running.asked.text.clone(),
                since_ms: running.since_ms,
                seconds: running.since.elapsed().as_secs_f64(),
            })
            .collect()
    }

    /// The slow queries of this process, newest first.
    pub fn slow(&self) -> Value {
        Value::Array(self.lock().slow.iter().rev().cloned().collect())
    }

    /// Stops a running query; false when there is none of this number.
    pub fn kill(&self, id: u64) -> bool {
        let inner = self.lock();
        let Some(running) = inner.running.get(&id) else { return false };
        tracing::warn!(id, tenant = running.asked.tenant.as_str(), query = %running.asked.text, "a query is killed");
        running.kill.cancel();
        true
    }

    /// Lets a quarantined query in again; false when it was not kept out.
    pub fn release(&self, tenant: &TenantId, text: &str) -> io::Result<bool> {
        let digest = Asked::list(tenant, "release", text.to_owned()).digest();
        let mut inner = self.lock();
        let found = inner.suspects.remove(&digest).is_some();
        if let (true, Some(dir)) = (found, &self.dir) {
            save(dir, &inner.suspects)?;
        }
        Ok(found)
    }

    fn end(&self, id: u64, record: Option<usize>, outcome: &'static str) {
        let mut inner = self.lock();
        self.wipe(&mut inner, record);
        let Some(ended) = inner.running.remove(&id) else { return };
        let took = ended.since.elapsed();
        if self.settings.slow_after.is_zero() || took < self.settings.slow_after {
            return;
        }
        let samples = ended.notes.samples();
        let mut row = ended.asked.json();
        row["since"] = json!(format_rfc3339(ended.since_ms));
        row["seconds"] = json!(took.as_secs_f64());
        row["samples"] = json!(samples);
        row["outcome"] = json!(outcome);
        if inner.slow.len() == SLOW_KEPT {
            inner.slow.pop_front();
        }
        inner.slow.push_back(row);
        drop(inner);
        let (start, end, step) = ended.asked.times.unwrap_or_default();
        tracing::warn!(
            tenant = ended.asked.tenant.as_str(),
            r#type = ended.asked.what,
            query = %ended.asked.text,
            start_ms = start, end_ms = end, step_ms = step,
            seconds = took.as_secs_f64(), samples, outcome,
            "slow query"
        );
    }
}

/// A running query.
pub struct Active {
    list: Arc<ActiveQueries>,
    id: u64,
    record: Option<usize>,
    /// Cancelled when the query is to be stopped.
    pub kill: CancellationToken,
    /// What it tells of itself.
    pub notes: Arc<Notes>,
    /// How it ended, for the log.
    pub outcome: &'static str,
}

impl Drop for Active {
    fn drop(&mut self) {
        self.list.end(self.id, self.record, self.outcome);
    }
}

/// A running part of a query.
pub struct Part {
    list: Arc<ActiveQueries>,
    record: Option<usize>,
}

impl Drop for Part {
    fn drop(&mut self) {
        let mut inner = self.list.lock();
        self.list.wipe(&mut inner, self.record);
    }
}

/// Writes the suspects; where there are none and never were, no file.
fn save(dir: &Path, suspects: &BTreeMap<String, Suspect>) -> io::Result<()> {
    let path = dir.join(SUSPECTS_FILE);
    if suspects.is_empty() && !path.exists() {
        return Ok(());
    }
    let aside = dir.join(format!("{SUSPECTS_FILE}.new"));
    std::fs::write(&aside, serde_json::to_vec_pretty(suspects).unwrap_or_default())?;
    std::fs::rename(aside, path)
}

/// The records of a file that was left behind. Torn and wiped ones are none.
fn records(bytes: &[u8]) -> Vec<Record> {
    bytes.chunks(RECORD_BYTES).filter_map(|record| serde_json::from_slice(record).ok()).collect()
}

/// Who is suspect after a start: everybody who was running at the crash, counted with the crashes before, and who is
/// still kept out from earlier.
fn suspects_after(
    before: BTreeMap<String, Suspect>,
    crashed: &[Record],
    now: i64,
    quarantine: Duration,
) -> BTreeMap<String, Suspect> {
    let mut out: BTreeMap<String, Suspect> =
        before.iter().filter(|(_, s)| s.until_ms > now).map(|(d, s)| (d.clone(), s.clone())).collect();
    for record in crashed {
        if out.get(&record.digest).is_some_and(|known| known.until_ms > now) {
            continue;
        }
        let crashes = before.get(&record.digest).map_or(0, |known| known.crashes) + 1;
        let until_ms = if crashes >= 2 { now.saturating_add(quarantine.as_millis() as i64) } else { 0 };
        let suspect =
            Suspect { tenant: record.tenant.clone(), query: record.query.clone(), crashes, until_ms };
        out.insert(record.digest.clone(), suspect);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETTINGS: Settings = Settings { slow_after: Duration::ZERO, quarantine: Duration::from_secs(3600) };

    fn asked(text: &str) -> Asked {
        Asked::query(&TenantId::default(), "query", text, (0, 0, 0))
    }

    #[test]
    fn two_crashes_in_a_row_keep_a_query_out() {
        let dir = tempfile::tempdir().unwrap();
        let open = || ActiveQueries::open(dir.path(), SETTINGS).unwrap();
        let long = format!("sum({})", "\"".repeat(5000));
        // A crash: the guards are never dropped.
        let first = open();
        for text in ["bad", "once", &long] {
            std::mem::forget(first.begin(asked(text)).unwrap_or_else(|e| panic!("{e}")));
        }
        drop(first.begin(asked("ended")));
        let second = open();
        assert!(second.begin(asked("bad")).is_ok(), "one crash may be anybody's fault");
        std::mem::forget(second.begin(asked("bad")));
        std::mem::forget(second.begin_part("default", &long));
        std::mem::forget(second.begin(asked("ended")));
        let third = open();
        for text in ["bad", &long] {
            let refused = third.begin(asked(text)).err().map(|e| e.to_string()).unwrap_or_default();
            assert!(refused.contains("quarantined"), "{refused}");
            assert!(third.begin_part("default", text).is_err());
        }
        assert!(third.begin(asked("once")).is_ok());
        assert!(third.begin(asked("ended")).is_ok());
        assert_eq!(third.json()["quarantined"].as_array().map(Vec::len), Some(2));
        let other = Asked { tenant: TenantId::new("other").unwrap(), ..asked("bad") };
        assert!(third.begin(other).is_ok(), "another tenant's query is another query");
        // It stays out over a clean restart, until it is released.
        third.close();
        let fourth = open();
        assert!(fourth.begin(asked("bad")).is_err());
        assert!(fourth.release(&TenantId::default(), "bad").unwrap());
        assert!(!fourth.release(&TenantId::default(), "bad").unwrap());
        assert!(fourth.begin(asked("bad")).is_ok());
        fourth.close();
        assert!(open().begin(asked("bad")).is_ok());
    }

    #[test]
    fn crashes_that_are_not_in_a_row_or_long_ago_count_anew() {
        let record = |digest: &str| Record {
            digest: digest.to_owned(),
            tenant: "default".to_owned(),
            query: digest.to_owned(),
        };
        let hour = Duration::from_secs(3600);
        let one = suspects_after(BTreeMap::new(), &[record("a")], 0, hour);
        let none = suspects_after(one.clone(), &[], 1, hour);
        assert!(none.is_empty());
        let again = suspects_after(none, &[record("a")], 2, hour);
        assert_eq!((again["a"].crashes, again["a"].until_ms), (1, 0));
        let two = suspects_after(one, &[record("a"), record("b")], 3, hour);
        assert_eq!((two["a"].crashes, two["a"].until_ms), (2, 3_600_003));
        assert_eq!(two["b"].until_ms, 0);
        assert!(suspects_after(two, &[], 4_000_000, hour).is_empty());
    }

    #[test]
    fn a_clean_stop_leaves_no_suspects() {
        let dir = tempfile::tempdir().unwrap();
        for _ in 0..3 {
            let list = ActiveQueries::open(dir.path(), SETTINGS).unwrap();
            std::mem::forget(list.begin(asked("cut off by the stop")).unwrap_or_else(|e| panic!("{e}")));
            list.close();
        }
        assert!(!dir.path().join(SUSPECTS_FILE).exists());
        let off = Settings { quarantine: Duration::ZERO, ..SETTINGS };
        let list = ActiveQueries::open(dir.path(), off).unwrap();
        assert!(list.begin_part("default", "x").is_ok());
    }

    #[test]
    fn slow_queries_are_remembered_and_running_ones_listed() {
        let settings = Settings { slow_after: Duration::from_nanos(1), quarantine: Duration::ZERO };
        let list = ActiveQueries::in_memory(settings);
        let mut active = list.begin(asked("up")).unwrap_or_else(|e| panic!("{e}"));
        let shown = list.json();
        assert_eq!(shown["active"][0]["query"], "up");
        let id = shown["active"][0]["id"].as_u64().unwrap();
        assert!(!list.kill(id + 1));
        assert!(list.kill(id) && active.kill.is_cancelled());
        active.notes.count(7);
        active.outcome = "killed";
        drop(active);
        assert_eq!(list.json()["active"], json!([]));
        let slow = list.slow();
        assert_eq!((&slow[0]["samples"], &slow[0]["outcome"]), (&json!(7), &json!("killed")));
        for _ in 0..SLOW_KEPT + 5 {
            drop(list.begin(asked("again")));
        }
        assert_eq!(list.slow().as_array().map(Vec::len), Some(SLOW_KEPT));
    }
}
