//! Registers: dashboards that clients change by comparing, as two people do who save the same one.
//!
//! A register is a dashboard whose title is its value, a number that nobody writes twice. Its versions are given by the meta
//! group: a save names the version that it follows, and is refused where that is not the newest any more. Clients read a
//! register from any node's own copy, which may be older than the newest, then save what follows it at the next node, once:
//! what the answer does not say is unknown.

use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use rand::RngExt;
use serde_json::{Value, json};

use crate::black_box::clients::{ATTEMPT, Common, sleep};
use crate::black_box::history::{Line, Outcome, RegisterOp};
use crate::black_box::reader::result_of;
use crate::http::{Answer, Connection};
use crate::process::wait_for;
use crate::sim::random::{Stream, stream};

/// Clients that compare and save.
pub const CLIENTS: usize = 2;
/// Registers that they share.
const REGISTERS: usize = 2;

fn path(register: usize) -> String {
    format!("/api/v1/dashboards/chaos-register-{register}")
}

/// Version and value in the answer to a read; nothing of a register is version 0 of value 0.
fn read_of(answer: &Answer) -> Option<(u64, u64)> {
    if answer.status == 404 {
        return Some((0, 0));
    }
    let root: Value = serde_json::from_slice(&answer.body).ok()?;
    let data = Some(&root["data"]).filter(|_| answer.status == 200)?;
    Some((data["version"].as_u64()?, data["title"].as_str()?.parse().ok()?))
}

/// Reads and saves until it is told to stop; `interval` from save to save.
pub fn change_until(common: &Common, client: usize, interval: Duration, stop: &AtomicBool) {
    let mut random = stream(common.seed, Stream::Clients, 2 << 40 | client as u64);
    let mut connections: Vec<Connection> =
        (0..common.nodes.len()).map(|node| common.connect(node, ATTEMPT)).collect();
    let mut due = Instant::now();
    let mut turn = client;
    for number in 1_u64.. {
        if !sleep(due.saturating_duration_since(Instant::now()), stop) {
            return;
        }
        due = Instant::now().max(due + interval.mul_f64(random.random_range(0.8..1.2)));
        let register = random.random_range(0..REGISTERS);
        turn += 1;
        let node = turn % connections.len();
        let Some(newest) = read(common, client, register, node, &mut connections[node], false) else {
            continue;
        };
        let node = (turn + 1) % connections.len();
        let value = number * CLIENTS as u64 + client as u64;
        save(common, client, (register, newest, value), node, &mut connections[node]);
    }
}

/// Reads a register and notes that, as a read of the end if it is one. Its version, if it was answered.
fn read(
    common: &Common,
    client: usize,
    register: usize,
    node: usize,
    connection: &mut Connection,
    is_last: bool,
) -> Option<u64> {
    let t0 = common.recorder.now();
    connection.refresh();
    let answer = connection.get(&path(register));
    let (t1, result) = (common.recorder.now(), result_of(&answer));
    let found = answer.ok().as_ref().and_then(read_of);
    let (version, value) = found.unwrap_or_default();
    let outcome = if found.is_some() { Outcome::Ok } else { Outcome::Info };
    let op = RegisterOp {
        register,
        client,
        node,
        t0,
        t1,
        follows: None,
        version,
        value,
        outcome,
        result,
        is_last,
    };
    common.recorder.note(&Line::Register(op));
    found.map(|(version, _)| version)
}

fn save(
    common: &Common,
    client: usize,
    (register, follows, value): (usize, u64, u64),
    node: usize,
    connection: &mut Connection,
) {
    let body = json!({"expected": follows, "dashboard": {"title": value.to_string(), "panels": []}});
    let t0 = common.recorder.now();
    connection.refresh();
    let answer = connection.put_json(&path(register), body.to_string().as_bytes());
    let (t1, result) = (common.recorder.now(), result_of(&answer));
    let (outcome, version) = match &answer {
        Ok(answer) if answer.is_success() => {
            let root: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
            (Outcome::Ok, root["data"]["version"].as_u64().unwrap_or_default())
        }
        // Somebody else was first, or nobody heard it.
        Ok(answer) if answer.status == 409 => (Outcome::Fail, 0),
        Err(_) if result == "refused" => (Outcome::Fail, 0),
        _ => (Outcome::Info, 0),
    };
    let follows = Some(follows);
    let op = RegisterOp {
        register,
        client,
        node,
        t0,
        t1,
        follows,
        version,
        value,
        outcome,
        result,
        is_last: false,
    };
    common.recorder.note(&Line::Register(op));
}

/// Notes what each node shows of all registers in the end, once all show the same.
pub fn read_back(common: &Common) -> anyhow::Result<()> {
    for register in 0..REGISTERS {
        wait_for("all nodes show the same registers", || {
            let read = |node: usize| {
                let answer = common.connect(node, ATTEMPT).get(&path(register))?;
                read_of(&answer).with_context(|| format!("node {}: {}", node + 1, answer.text()))
            };
            let shown = (0..common.nodes.len()).map(read).collect::<anyhow::Result<Vec<_>>>()?;
            ensure!(shown.windows(2).all(|pair| pair[0] == pair[1]), "they show {shown:?}");
            Ok(())
        })?;
        for node in 0..common.nodes.len() {
            let shown = read(common, 0, register, node, &mut common.connect(node, ATTEMPT), true);
            shown.with_context(|| format!("node {} does not answer in the end", node + 1))?;
        }
    }
    Ok(())
}
