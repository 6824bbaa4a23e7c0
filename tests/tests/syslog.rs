//! rsyslog, as Debian ships it, forwards to one node in the three ways that it has; the others answer what it was given,
//! also after the node was killed, and what it kept meanwhile comes when the node is back.

use std::os::unix::net::UnixDatagram;

use anyhow::{Context, ensure};
use chaos::client::{Client, escape};
use chaos::ledger::now_ms;
use serde_json::Value;
use tests::{Cluster, eventually, peers};

const PROGRAMS: [&str; 3] = ["lines", "counted", "datagrams"];

/// What a program logs as its number `n`.
fn text(program: &str, n: usize) -> String {
    format!("{program} {n} größe=\"{}\" took {}.5 ms [not data] 100% 'x'", n * 7, n % 13)
}

/// What of a row `text` and the configuration decide.
fn check_row(program: &str, row: &Value, since_ms: i64) -> anyhow::Result<String> {
    let is = |place: &str, name: &str, expected: &str| {
        ensure!(row[place][name] == expected, "{name} is not {expected} in {row}");
        Ok(())
    };
    is("resource", "service.name", program)?;
    is("resource", "host.name", "edge-1")?;
    is("attributes", "facility", "local3")?;
    is("attributes", "process.pid", "77")?;
    ensure!(row["level"] == "warn", "{row}");
    let ns =
        row["timeUnixNano"].as_str().and_then(|ns| ns.parse::<i64>().ok()).context("a row has a time")?;
    ensure!((since_ms - 1000..=now_ms()).contains(&(ns / 1_000_000)), "{row}");
    Ok(row["body"].as_str().context("a row has a body")?.to_owned())
}

/// Fails unless the node answers exactly so many messages of the program.
fn check(client: &Client, program: &str, count: usize, since_ms: i64) -> anyhow::Result<()> {
    let query = escape(&format!("service.name:{program}"));
    let found = client.api(&format!("/api/v1/logs/query?limit=10000&query={query}"))?;
    let rows = found["rows"].as_array().context("rows")?;
    let mut bodies =
        rows.iter().map(|row| check_row(program, row, since_ms)).collect::<Result<Vec<_>, _>>()?;
    bodies.sort();
    // rsyslog takes the space behind `lines[77]:` for a part of the message, and its RFC 5424 template puts one of its own
    // in front.
    let space = if program == "counted" { " " } else { "" };
    let mut expected: Vec<String> = (0..count).map(|n| format!("{space}{}", text(program, n))).collect();
    expected.sort();
    ensure!(bodies == expected, "{} of {count} messages of {program}: {:?}", bodies.len(), bodies.last());
    Ok(())
}

#[test]
fn rsyslog_forwards_lines_counted_octets_and_datagrams() {
    if !peers::installed(&["rsyslogd"]) {
        return;
    }
    let mut cluster = Cluster::start(3, 4);
    let dir = tempfile::tempdir().expect("a temporary directory");
    let port = cluster.nodes[0].syslog;
    let forward = |program: &str, how: &str| {
        format!(
            "if $programname == \"{program}\" then action(type=\"omfwd\" target=\"127.0.0.1\" port=\"{port}\" {how} \
             action.resumeRetryCount=\"-1\" action.resumeInterval=\"1\")\n"
        )
    };
    let rules = [
        forward("lines", "protocol=\"tcp\""),
        forward(
            "counted",
            "protocol=\"tcp\" TCP_Framing=\"octet-counted\" template=\"RSYSLOG_SyslogProtocol23Format\"",
        ),
        forward("datagrams", "protocol=\"udp\""),
    ];
    let since = now_ms();
    let _rsyslog = peers::rsyslog(dir.path(), &rules.concat());
    let socket = UnixDatagram::unbound().expect("a socket");
    eventually("rsyslog listens", || Ok(socket.connect(dir.path().join("log.sock"))?));
    let log = |programs: &[&str], numbers: std::ops::Range<usize>| {
        for n in numbers {
            for program in programs {
                // local3.warning
                let message = format!("<156>Nov 28 10:30:00 {program}[77]: {}", text(program, n));
                socket.send(message.as_bytes()).expect("rsyslog takes what it is sent");
            }
        }
    };
    log(&PROGRAMS, 0..200);
    let clients: Vec<Client> = cluster.nodes.iter().map(|node| node.client()).collect();
    for program in PROGRAMS {
        eventually("another node has all", || check(&clients[1], program, 200, since));
    }
    cluster.kill(0);
    for program in PROGRAMS {
        eventually("the others have all without the node", || check(&clients[2], program, 200, since));
    }
    // Over TCP it knows that nobody listens, and waits.
    log(&PROGRAMS[..2], 200..300);
    cluster.restart(0);
    for program in &PROGRAMS[..2] {
        eventually("what it kept arrives", || check(&clients[1], program, 300, since));
    }
    for program in PROGRAMS {
        let count = if program == "datagrams" { 200 } else { 300 };
        check(&clients[0], program, count, since).expect("the node is back with all of it");
    }
    cluster.assert_equal_digests();
}
