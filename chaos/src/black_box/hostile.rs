//! Clients that mean harm: connections that never finish a request, bodies that grow when they are unpacked, garbage,
//! queries that would take all time and memory, ever new series.
//!
//! Each is noted with what it was answered. Fine is a refusal (4xx, 503) or a connection that the server ends; what is bad
//! data and gets a 2xx, a 500 or silence until the time-out is not. A query may be answered, if it is within the time that
//! queries have; new series are taken as long as there is memory. That nobody else notices is for the other clients to show.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::black_box::clients::Running;
use crate::black_box::history::{Line, Recorder};
use crate::client::{Series, encode_write, escape};
use crate::http::Connection;
use crate::scenario::{Harm, Hostile};

/// How long an answer to garbage may take.
const PATIENCE: Duration = Duration::from_secs(40);
/// From round to round of shots.
const ROUND: Duration = Duration::from_secs(2);
/// Series of a request of a flood.
const FLOOD: usize = 500;
/// Whose data a flood is.
const FLOOD_TENANT: &str = "flood";

/// Who is attacked, and where that is noted.
#[derive(Clone)]
pub struct Victim {
    /// Where everything is noted.
    pub recorder: Recorder,
    /// Its port for clients.
    pub http: SocketAddr,
    /// Its port for peers.
    pub peer: SocketAddr,
}

/// Starts the threads of an attack: slow connections and floods all the time, everything else again and again.
pub fn start(victim: &Victim, attack: &Hostile, running: &mut Running) -> anyhow::Result<()> {
    for harm in &attack.with {
        let (victim, connections) = (victim.clone(), attack.connections);
        match harm {
            Harm::SlowLoris => running.spawn("hostile", move |stop| victim.hold(connections, stop))?,
            Harm::Garbage => running.spawn("hostile", move |stop| {
                victim.shoot(stop, || garbage_shots(victim.http, victim.peer), is_refusal);
            })?,
            Harm::Queries => running.spawn("hostile", move |stop| {
                victim.shoot(stop, || query_shots(victim.http), is_answer);
            })?,
            Harm::Series => {
                for number in 0..connections {
                    let victim = victim.clone();
                    running.spawn("hostile", move |stop| victim.flood(number, stop))?;
                }
            }
        }
    }
    Ok(())
}

impl Victim {
    fn note(&self, what: &str, result: String, is_fine: bool) {
        self.recorder.note(&Line::Hostile { what: what.to_owned(), result, is_fine });
    }

    /// Holds connections open with requests that never end.
    fn hold(&self, connections: u32, stop: &AtomicBool) {
        let mut slow: Vec<TcpStream> = Vec::new();
        for _ in 0..connections {
            if let Ok(mut stream) = TcpStream::connect_timeout(&self.http, PATIENCE)
                && stream.write_all(b"POST /api/v1/write HTTP/1.1\r\nHost: x\r\nContent-Le").is_ok()
            {
                slow.push(stream);
            }
        }
        while !stop.load(Ordering::Relaxed) {
            // A byte now and then; a server that has had enough of it is right.
            slow.retain_mut(|stream| stream.write_all(b"n").is_ok());
            std::thread::sleep(ROUND / 4);
        }
    }

    /// Shoots round after round.
    fn shoot(
        &self,
        stop: &AtomicBool,
        shots: impl Fn() -> Vec<(&'static str, String)>,
        is_fine: impl Fn(&str) -> bool,
    ) {
        while !stop.load(Ordering::Relaxed) {
            for (what, result) in shots() {
                let is_fine = is_fine(&result);
                self.note(what, result, is_fine);
            }
            let mut left = ROUND;
            while !stop.load(Ordering::Relaxed) && !left.is_zero() {
                std::thread::sleep(ROUND / 8);
                left = left.saturating_sub(ROUND / 8);
            }
        }
    }

    /// Writes series that nobody has seen before, as fast as it can.
    fn flood(&self, client: u32, stop: &AtomicBool) {
        let mut connection = Connection::new(self.http, PATIENCE).of_tenant(Some(FLOOD_TENANT.to_owned()));
        let client = client.to_string();
        let (mut taken, mut refused) = (0, 0);
        for round in 0.. {
            if stop.load(Ordering::Relaxed) {
                break;
            }
            let at = vec![(crate::ledger::now_ms(), 1.0)];
            let series: Vec<Series> = (0..FLOOD)
                .map(|number| {
                    let labels = [("client", client.as_str()), ("id", &format!("{round}-{number}"))];
                    Series::new("flood", &labels, at.clone())
                })
                .collect();
            match status_of(connection.post_write(&encode_write(&series))) {
                result if result.starts_with('2') => taken += FLOOD,
                result if is_refusal(&result) => {
                    refused += FLOOD;
                    std::thread::sleep(Duration::from_millis(20));
                }
                result => {
                    self.note("new series", result, false);
                    break;
                }
            }
        }
        self.note("new series", format!("{taken} taken, {refused} refused"), true);
    }
}

fn is_refusal(result: &str) -> bool {
    result == "closed" || result == "503" || result.len() == 3 && result.starts_with('4')
}

fn is_answer(result: &str) -> bool {
    result == "200" || is_refusal(result)
}

fn status_of(answer: std::io::Result<crate::http::Answer>) -> String {
    match answer {
        Ok(answer) => answer.status.to_string(),
        Err(error) => ended(&error),
    }
}

/// Garbage of each kind, with what came of it.
fn garbage_shots(http: SocketAddr, peer: SocketAddr) -> Vec<(&'static str, String)> {
    let write = |body: &[u8]| status_of(Connection::new(http, PATIENCE).post_write(body));
    let zeros = vec![0; 64 << 20];
    let bomb = snap::raw::Encoder::new().compress_vec(&zeros).unwrap_or_default();
    let long = "x".repeat(1 << 20);
    let names: Vec<String> = (0..500).map(|number| format!("label_{number}")).collect();
    let many: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "x")).collect();
    let at = vec![(crate::ledger::now_ms(), 1.0)];
    let range = "/api/v1/query_range?query=vector(1)&start=0&end=1700000000&step=0.001";
    vec![
        ("a body that says it unpacks to 4 GiB", write(&[0xff, 0xff, 0xff, 0xff, 0x0f, 0, 0, 0])),
        ("a body that unpacks to 64 MiB of zeros", write(&bomb)),
        ("a body that is no snappy", write(b"neither snappy nor protobuf")),
        ("a label of 1 MiB", write(&encode_write(&[Series::new("hostile", &[("a", &long)], at.clone())]))),
        ("a series of 500 labels", write(&encode_write(&[Series::new("hostile", &many, at)]))),
        ("a range query of 1.7 * 10^12 steps", status_of(Connection::new(http, PATIENCE).get(range))),
        ("garbage to the HTTP port", garbage(http, &[0x16, 0x03, 0x01, 0xff, 0xff, 0x0d, 0x0a, 0x0d, 0x0a])),
        ("a header that does not end", garbage(http, &[b"GET / HTTP/1.1\r\nX: ", long.as_bytes()].concat())),
        ("garbage to the peers' port", garbage(peer, &[0xff; 64])),
    ]
}

/// Queries that no machine can answer, or none in time, with what came of them.
fn query_shots(http: SocketAddr) -> Vec<(&'static str, String)> {
    let ask = |path: &str, text: &str| {
        status_of(Connection::new(http, PATIENCE).get(&format!("{path}{}", escape(text))))
    };
    let promql = |text: &str| ask("/api/v1/query?query=", text);
    let sql = |text: &str| ask("/api/v1/sql?query=", text);
    let logs = |text: &str| ask("/api/v1/logs/query?start=0&end=9000000000000000000&query=", text);
    let nested = format!("{}1{}", "(".repeat(8000), ")".repeat(8000));
    let chain = vec!["1"; 8000].join("+");
    vec![
        ("a subquery of ten years in steps of a second", promql("max_over_time(chaos_numbered[10y:1s])")),
        ("ten subqueries inside of each other", promql(&subqueries(10))),
        (
            "all series against all",
            promql("chaos_numbered offset 1h * on() group_left chaos_numbered offset 1h"),
        ),
        ("8000 parentheses inside of each other", promql(&nested)),
        ("a sum of 8000 terms", promql(&chain)),
        ("a regular expression of a million states", promql("{__name__=~\"((a{1,100}){1,100}){1,100}\"}")),
        ("the same in a search of logs", logs("/((a{1,100}){1,100}){1,100}/")),
        ("a recursion without an end", sql(RECURSION)),
        ("spans joined with spans and spans", sql("SELECT count(*) FROM spans a, spans b, spans c, spans d")),
        (
            "everything sorted",
            sql("SELECT a.name FROM spans a, spans b ORDER BY a.duration_ns, b.name LIMIT 9"),
        ),
    ]
}

const RECURSION: &str =
    "WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t) SELECT max(n) FROM t";

fn subqueries(depth: usize) -> String {
    (0..depth).fold("chaos_numbered".to_owned(), |inner, _| format!("max_over_time({inner}[1h:1s])"))
}

fn ended(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut => "timeout".to_owned(),
        // The server may answer and close while the body is still being sent, which then fails.
        _ => "closed".to_owned(),
    }
}

/// Sends bytes; the status that comes back, or how the connection ended.
fn garbage(addr: SocketAddr, bytes: &[u8]) -> String {
    let talk = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect_timeout(&addr, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.write_all(bytes)?;
        let mut answer = [0; 12];
        match stream.read(&mut answer)? {
            12 if answer.starts_with(b"HTTP/1.1 ") => Ok(String::from_utf8_lossy(&answer[9..]).into_owned()),
            _ => Ok("closed".to_owned()),
        }
    };
    talk().unwrap_or_else(|error| ended(&error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bad_data_is_refused_and_queries_end() {
        for (result, refusal, answer) in [
            ("400", true, true),
            ("413", true, true),
            ("503", true, true),
            ("closed", true, true),
            ("200", false, true),
            ("500", false, false),
            ("timeout", false, false),
        ] {
            assert_eq!((is_refusal(result), is_answer(result)), (refusal, answer), "{result}");
        }
    }
}
