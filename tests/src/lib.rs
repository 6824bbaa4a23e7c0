//! Harness of the black-box tests: starts real nodes and real peers on loopback and judges what they answer.
//!
//! What lives here: [`cluster`] (node processes that are killed, wiped and restarted), [`client`] (remote write and
//! the query API as any client would speak them), [`oracle`] (uniquely numbered samples and what became of them),
//! [`peers`] (Prometheus and node_exporter from the distribution). What does not: anything that looks inside a node.
//!
//! A test waits for conditions with a generous guard ([`eventually`]); it never asserts how long something took.

#![forbid(unsafe_code)]

pub mod client;
pub mod cluster;
pub mod oracle;
pub mod peers;

use std::net::TcpListener;
use std::time::{Duration, Instant};

/// How long a condition may take before a test gives up. Far above what any healthy run needs.
pub const GUARD: Duration = Duration::from_secs(120);

/// Polls until `condition` yields a value; panics with its last refusal when the guard runs out.
pub fn eventually<T>(what: &str, mut condition: impl FnMut() -> anyhow::Result<T>) -> T {
    let deadline = Instant::now() + GUARD;
    loop {
        match condition() {
            Ok(value) => return value,
            Err(reason) if Instant::now() > deadline => panic!("gave up waiting: {what}: {reason:#}"),
            Err(_) => std::thread::sleep(Duration::from_millis(50)),
        }
    }
}

/// A loopback port that was free a moment ago.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("loopback has free ports");
    listener.local_addr().expect("a bound socket has an address").port()
}
