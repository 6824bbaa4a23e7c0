//! What happened, line by line: everything that the judgement of a run is made from.
//!
//! ```text
//! {"kind":"run","schema":1,"scenario":"<TOML>","seed":7,...}      first
//! {"kind":"write","signal":"metrics","client":2,"from":40,"to":42,"t0":5003211,"t1":5010822,"node":1,"outcome":"ok",...}
//! {"kind":"read","signal":"logs","client":1,"lo":100,"hi":300,"t0":...,"t1":...,"node":0,"found":[[100,300]],...}
//! {"kind":"fault","name":"kill","nodes":[1],"t0":...,"t1":...}
//! ```
//!
//! Times are microseconds since the start of the load on one monotone clock; nodes are indexes from 0. A client numbers what
//! it writes: number `n` of metrics is a sample of each of its series, at the n-th millisecond and of value `n`; of logs it
//! is a record that bears `n`. A write covers the numbers `from..to`, a read asks for `lo..hi`. Outcomes: `ok` is a 2xx,
//! `fail` is certain not to have been applied, `info` is unknown. Lines come in no particular order but for the first.
//!
//! A line that is of no known kind or form makes the whole history unreadable: nothing is judged by halves.

use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};

/// Version of the lines.
pub const SCHEMA: u32 = 1;

/// Microseconds since the start of the load.
pub type Micros = u64;

/// Numbers as half-open runs in ascending order, none touching the next.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Runs(pub Vec<(u64, u64)>);

impl Runs {
    /// Of numbers in any order; repeated ones count once.
    pub fn of(numbers: impl IntoIterator<Item = u64>) -> Self {
        Self::merge(numbers.into_iter().map(|n| (n, n.saturating_add(1))))
    }

    /// Of ranges in any order.
    pub fn merge(ranges: impl IntoIterator<Item = (u64, u64)>) -> Self {
        let mut sorted: Vec<(u64, u64)> = ranges.into_iter().filter(|(from, to)| from < to).collect();
        sorted.sort_unstable();
        let mut out: Vec<(u64, u64)> = Vec::new();
        for (from, to) in sorted {
            match out.last_mut() {
                Some(last) if from <= last.1 => last.1 = last.1.max(to),
                _ => out.push((from, to)),
            }
        }
        Self(out)
    }

    /// How many numbers.
    pub fn count(&self) -> u64 {
        self.0.iter().map(|(from, to)| to - from).sum()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Those inside of a range.
    pub fn within(&self, lo: u64, hi: u64) -> Self {
        Self::merge(self.0.iter().map(|&(from, to)| (from.max(lo), to.min(hi))))
    }

    /// Those that the other does not have.
    pub fn minus(&self, other: &Self) -> Self {
        let mut out = Vec::new();
        let mut others = other.0.iter().peekable();
        for &(mut from, to) in &self.0 {
            while from < to {
                while others.peek().is_some_and(|(_, end)| *end <= from) {
                    others.next();
                }
                match others.peek() {
                    Some(&&(start, end)) if start < to => {
                        if from < start {
                            out.push((from, start));
                        }
                        from = end;
                    }
                    _ => {
                        out.push((from, to));
                        from = to;
                    }
                }
            }
        }
        Self(out)
    }

    /// Those of either.
    pub fn union(&self, other: &Self) -> Self {
        Self::merge(self.0.iter().chain(&other.0).copied())
    }

    /// Sum of all numbers.
    pub fn sum(&self) -> u128 {
        let sum =
            |&(from, to): &(u64, u64)| (u128::from(from) + u128::from(to - 1)) * u128::from(to - from) / 2;
        self.0.iter().map(sum).sum()
    }
}

impl std::fmt::Display for Runs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        const MOST: usize = 5;
        for (at, (from, to)) in self.0.iter().take(MOST).enumerate() {
            let comma = if at == 0 { "" } else { ", " };
            match to - from {
                1 => write!(f, "{comma}{from}")?,
                _ => write!(f, "{comma}{from} to {}", to - 1)?,
            }
        }
        if self.0.len() > MOST { write!(f, " and {} more ranges", self.0.len() - MOST) } else { Ok(()) }
    }
}

/// What is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Signal {
    /// Samples, by remote write.
    Metrics,
    /// Records, by OTLP.
    Logs,
    /// Spans, by OTLP.
    Traces,
}

impl Signal {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Metrics, Self::Logs, Self::Traces];

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Metrics => "metrics",
            Self::Logs => "logs",
            Self::Traces => "traces",
        }
    }
}

/// What is known of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// Acknowledged, or answered.
    Ok,
    /// Certainly not applied.
    Fail,
    /// Unknown.
    Info,
}

/// How a client goes on after a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Class {
    /// The same bytes to the same node.
    Exporter,
    /// The same bytes to the next node.
    OtherNode,
    /// Gives up.
    Once,
    /// One of an overload: its failures say nothing of the service.
    Burst,
}

/// One time that a request was sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// To which node.
    pub node: usize,
    /// Begun.
    pub t0: Micros,
    /// Over.
    pub t1: Micros,
    /// `200`, `503`, `refused`, `timeout`, or another error's kind.
    pub result: String,
}

impl Attempt {
    /// Whether it was acknowledged.
    pub fn is_ok(&self) -> bool {
        self.result.len() == 3 && self.result.starts_with('2')
    }
}

/// A write.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WriteOp {
    /// Of what.
    pub signal: Signal,
    /// Who writes. Clients of different signals are different.
    pub client: usize,
    /// How it goes on after a failure.
    pub class: Class,
    /// First number.
    pub from: u64,
    /// Number behind the last.
    pub to: u64,
    /// Items in all: numbers times series.
    pub items: u64,
    /// Begun.
    pub t0: Micros,
    /// Over.
    pub t1: Micros,
    /// How it ended.
    pub outcome: Outcome,
    /// Each time that it was sent.
    pub attempts: Vec<Attempt>,
}

/// What a read found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Found {
    /// Numbers.
    pub numbers: Runs,
    /// Numbers that were there more than once.
    #[serde(default, skip_serializing_if = "Runs::is_empty")]
    pub twice: Runs,
    /// Numbers of which something else was read than was written, in words.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub wrong: Vec<String>,
}

/// A read of what one client wrote, of one of its series where it has several.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReadOp {
    /// Of what.
    pub signal: Signal,
    /// Whose.
    pub client: usize,
    /// Which series of the client.
    pub series: usize,
    /// First number asked for.
    pub lo: u64,
    /// Number behind the last.
    pub hi: u64,
    /// Begun.
    pub t0: Micros,
    /// Over.
    pub t1: Micros,
    /// Which node.
    pub node: usize,
    /// `ok` when it was answered.
    pub outcome: Outcome,
    /// Status or error.
    pub result: String,
    /// Whether the answer says that it is partial.
    #[serde(default)]
    pub is_partial: bool,
    /// What was found.
    pub found: Found,
}

/// A count over all series of a client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CountOp {
    /// Of what.
    pub signal: Signal,
    /// Whose.
    pub client: usize,
    /// Its series.
    pub series: u64,
    /// First number asked for.
    pub lo: u64,
    /// Number behind the last.
    pub hi: u64,
    /// Begun.
    pub t0: Micros,
    /// Over.
    pub t1: Micros,
    /// Which node.
    pub node: usize,
    /// `ok` when it was answered.
    pub outcome: Outcome,
    /// Status or error.
    pub result: String,
    /// Whether the answer says that it is partial.
    #[serde(default)]
    pub is_partial: bool,
    /// How many there are.
    pub count: u64,
}

/// A save or a read of a register.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RegisterOp {
    /// Which register.
    pub register: usize,
    /// Who.
    pub client: usize,
    /// At which node.
    pub node: usize,
    /// Begun.
    pub t0: Micros,
    /// Over.
    pub t1: Micros,
    /// The version that a save names as the newest; a read has none.
    pub follows: Option<u64>,
    /// The version that was written or read: 0 for none.
    pub version: u64,
    /// What was written or read.
    pub value: u64,
    /// How it ended.
    pub outcome: Outcome,
    /// Status or error.
    pub result: String,
    /// Whether it was read in the end, after healing.
    #[serde(default)]
    pub is_last: bool,
}

/// A fault, from its beginning until all that it struck is whole again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FaultOp {
    /// Its kind.
    pub name: String,
    /// What it was, in words.
    pub detail: String,
    /// Nodes that it struck.
    pub nodes: Vec<usize>,
    /// Begun.
    pub t0: Micros,
    /// Over.
    pub t1: Micros,
}

/// Everything that a node holds of a client's series, read from its own replicas after healing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FinalRead {
    /// Of what.
    pub signal: Signal,
    /// Whose.
    pub client: usize,
    /// Which series of the client.
    pub series: usize,
    /// Which node.
    pub node: usize,
    /// `linearizable` or `local`.
    pub consistency: String,
    /// What was found.
    pub found: Found,
}

/// A figure over everything, after healing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TotalRead {
    /// Of what.
    pub signal: Signal,
    /// Which node.
    pub node: usize,
    /// `count`, `sum` or `max`.
    pub what: String,
    /// The answer.
    pub value: f64,
}

/// A node as the system sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeSample {
    /// Which.
    pub node: usize,
    /// When.
    pub t: Micros,
    /// Whether there is a process.
    pub is_running: bool,
    /// Whether it says that it is ready.
    pub is_ready: bool,
    /// Resident memory.
    pub rss_bytes: u64,
    /// Open files and sockets.
    pub descriptors: u64,
}

/// A line of the history.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Line {
    /// The first line: what was run.
    Run {
        /// Version of the lines.
        schema: u32,
        /// The scenario's text.
        scenario: String,
        /// The seed.
        seed: u64,
        /// What goals of time are multiplied with.
        slack: f64,
        /// Nodes.
        nodes: usize,
        /// Version of the program.
        version: String,
        /// Wall clock at the start of the load, milliseconds since 1970.
        started_ms: i64,
        /// Machine and system.
        machine: String,
    },
    /// A write.
    Write(WriteOp),
    /// A read.
    Read(ReadOp),
    /// A count.
    Count(CountOp),
    /// A save or a read of a register.
    Register(RegisterOp),
    /// A fault.
    Fault(FaultOp),
    /// The moment when the last fault has ended and everything runs.
    Healed {
        /// When.
        t: Micros,
    },
    /// The end of the load.
    LoadEnd {
        /// When.
        t: Micros,
    },
    /// Who led the shards when that changed.
    Leaders {
        /// When.
        t: Micros,
        /// The leader's node of each shard, from the first on.
        of: Vec<Option<usize>>,
    },
    /// A node as the system sees it.
    Node(NodeSample),
    /// What a node holds after healing.
    Final(FinalRead),
    /// A figure after healing.
    Total(TotalRead),
    /// The replicas' digests, of each shard those of all nodes.
    Digests {
        /// How many shards.
        shards: u64,
        /// The difference, if there is one.
        different: Option<String>,
    },
    /// What a hostile client was answered.
    Hostile {
        /// What it sent.
        what: String,
        /// Status or how the connection ended.
        result: String,
        /// Whether that is what it deserves.
        is_fine: bool,
    },
    /// What a node printed of panics and errors.
    Printed {
        /// Which.
        node: usize,
        /// Lines of panics.
        panics: Vec<String>,
        /// Lines of errors.
        errors: Vec<String>,
    },
    /// How a node's process ended although nothing killed it, or did not end although it was asked to.
    Ended {
        /// Which.
        node: usize,
        /// When.
        t: Micros,
        /// How.
        how: String,
    },
    /// What `pharos verify` found in a node's directory after its stop.
    Verified {
        /// Which.
        node: usize,
        /// What it says is damaged.
        damage: Vec<String>,
    },
    /// Something that the harness could not do: the run can not be judged.
    Undecided {
        /// Why.
        reason: String,
    },
    /// The last line. A history without it was cut short.
    End {
        /// When.
        t: Micros,
    },
}

/// Writes lines as they come, and tells the time. Clones write to one file.
#[derive(Clone)]
pub struct Recorder {
    out: Arc<Mutex<BufWriter<File>>>,
    start: Instant,
}

impl Recorder {
    /// Begins a history. Its clock starts now.
    pub fn create(path: &Path) -> anyhow::Result<Self> {
        let file = File::create(path).with_context(|| path.display().to_string())?;
        Ok(Self { out: Arc::new(Mutex::new(BufWriter::new(file))), start: Instant::now() })
    }

    /// Microseconds since the start.
    pub fn now(&self) -> Micros {
        u64::try_from(self.start.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// The moment of the start.
    pub fn start(&self) -> Instant {
        self.start
    }

    /// Writes a line. A failure shows when the history is read: its end is missing.
    pub fn note(&self, line: &Line) {
        let Ok(mut text) = serde_json::to_vec(line) else { return };
        text.push(b'\n');
        let mut out = self.out.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = out.write_all(&text);
    }

    /// Writes out what is buffered.
    pub fn flush(&self) -> anyhow::Result<()> {
        Ok(self.out.lock().unwrap_or_else(PoisonError::into_inner).flush()?)
    }
}

/// Longest line that is read.
const MAX_LINE_BYTES: usize = 16 << 20;

/// A history, read whole.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// All lines.
    pub lines: Vec<Line>,
}

impl History {
    /// Reads a file.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let file = File::open(path).with_context(|| path.display().to_string())?;
        Self::parse(BufReader::new(file)).with_context(|| path.display().to_string())
    }

    /// Reads lines.
    pub fn parse(mut from: impl BufRead) -> anyhow::Result<Self> {
        let mut lines = Vec::new();
        let mut line = Vec::new();
        for number in 1.. {
            line.clear();
            let limit = MAX_LINE_BYTES as u64 + 1;
            if std::io::Read::take(&mut from, limit).read_until(b'\n', &mut line)? == 0 {
                break;
            }
            if line.len() > MAX_LINE_BYTES {
                bail!("line {number} is longer than {MAX_LINE_BYTES} bytes");
            }
            let parsed: Line = serde_json::from_slice(&line).with_context(|| format!("line {number}"))?;
            if let Line::Run { schema, .. } = &parsed
                && *schema != SCHEMA
            {
                bail!("a history of schema {schema}; this version reads {SCHEMA}");
            }
            lines.push(parsed);
        }
        match lines.first() {
            Some(Line::Run { .. }) => Ok(Self { lines }),
            _ => bail!("the first line does not say what was run"),
        }
    }

    /// All writes.
    pub fn writes(&self) -> impl Iterator<Item = &WriteOp> {
        self.lines.iter().filter_map(|line| if let Line::Write(op) = line { Some(op) } else { None })
    }

    /// All reads.
    pub fn reads(&self) -> impl Iterator<Item = &ReadOp> {
        self.lines.iter().filter_map(|line| if let Line::Read(op) = line { Some(op) } else { None })
    }

    /// All counts.
    pub fn counts(&self) -> impl Iterator<Item = &CountOp> {
        self.lines.iter().filter_map(|line| if let Line::Count(op) = line { Some(op) } else { None })
    }

    /// All faults, in the order of their times.
    pub fn faults(&self) -> Vec<&FaultOp> {
        let faults =
            self.lines.iter().filter_map(|line| if let Line::Fault(op) = line { Some(op) } else { None });
        let mut faults: Vec<&FaultOp> = faults.collect();
        faults.sort_by_key(|fault| fault.t0);
        faults
    }

    /// All that was read in the end.
    pub fn finals(&self) -> impl Iterator<Item = &FinalRead> {
        self.lines.iter().filter_map(|line| if let Line::Final(op) = line { Some(op) } else { None })
    }

    /// All figures of the end.
    pub fn totals(&self) -> impl Iterator<Item = &TotalRead> {
        self.lines.iter().filter_map(|line| if let Line::Total(op) = line { Some(op) } else { None })
    }

    /// All samples of nodes.
    pub fn nodes(&self) -> impl Iterator<Item = &NodeSample> {
        self.lines.iter().filter_map(|line| if let Line::Node(op) = line { Some(op) } else { None })
    }

    /// When everything was whole again.
    pub fn healed_at(&self) -> Option<Micros> {
        self.lines.iter().find_map(|line| if let Line::Healed { t } = line { Some(*t) } else { None })
    }

    /// When the load ended; the last time of a write where it did not say.
    pub fn load_end(&self) -> Micros {
        let end =
            self.lines.iter().find_map(|line| if let Line::LoadEnd { t } = line { Some(*t) } else { None });
        end.or_else(|| self.writes().map(|op| op.t1).max()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_sets() {
        let runs = Runs::of([5, 3, 4, 9, 3]);
        assert_eq!(runs.0, [(3, 6), (9, 10)]);
        assert_eq!((runs.count(), runs.sum()), (4, 21));
        assert_eq!(runs.within(4, 9).0, [(4, 6)]);
        assert_eq!(runs.minus(&Runs::of([4])).0, [(3, 4), (5, 6), (9, 10)]);
        assert_eq!(Runs::merge([(0, 100)]).minus(&runs).0, [(0, 3), (6, 9), (10, 100)]);
        assert_eq!(runs.minus(&Runs::merge([(0, 100)])).0, []);
        assert_eq!(runs.union(&Runs::of([6])).0, [(3, 7), (9, 10)]);
        assert_eq!(runs.to_string(), "3 to 5, 9");
    }

    #[test]
    fn what_is_no_history_is_refused_by_name() {
        let check = |text: &str, word: &str| {
            let error = format!("{:#}", History::parse(text.as_bytes()).expect_err(text));
            assert!(error.contains(word), "{error}");
        };
        check("", "the first line");
        check("{\"kind\":\"end\",\"t\":1}\n", "the first line");
        check("{\"kind\":\"dance\"}\n", "line 1");
        check("nonsense\n", "line 1");
        let run = "{\"kind\":\"run\",\"schema\":99,\"scenario\":\"\",\"seed\":1,\"slack\":1.0,\"nodes\":3,\"version\":\"\",\
                   \"started_ms\":0,\"machine\":\"\"}\n";
        check(run, "schema 99");
    }

    #[test]
    fn lines_survive_a_file() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("history.ndjson");
        let recorder = Recorder::create(&path).expect("a file");
        let found = Found { numbers: Runs::of([1, 2]), ..Found::default() };
        let lines = [
            Line::Run {
                schema: SCHEMA,
                scenario: "name = \"x\"".to_owned(),
                seed: 1,
                slack: 1.0,
                nodes: 3,
                version: "0".to_owned(),
                started_ms: 5,
                machine: "m".to_owned(),
            },
            Line::Final(FinalRead {
                signal: Signal::Logs,
                client: 0,
                series: 0,
                node: 2,
                consistency: "local".to_owned(),
                found,
            }),
            Line::End { t: 9 },
        ];
        lines.iter().for_each(|line| recorder.note(line));
        recorder.flush().expect("written");
        assert_eq!(History::read(&path).expect("a history").lines, lines);
    }
}
