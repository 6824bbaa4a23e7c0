//! Clients that mean harm: connections that never finish a request, bodies that grow when they are unpacked, garbage.
//!
//! Each is noted with what it was answered. Fine is a refusal (4xx, 503) or a connection that the server ends; a 2xx, a
//! 500 or silence until the time-out is not. That nobody else notices is for the other clients to show.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::black_box::history::{Line, Recorder};
use crate::client::{Series, encode_write};
use crate::http::Connection;

/// How long an answer to garbage may take.
const PATIENCE: Duration = Duration::from_secs(40);

/// Attacks until it is told to stop: slow connections all the time, everything else again and again.
pub fn attack(recorder: &Recorder, http: SocketAddr, peer: SocketAddr, connections: u32, stop: &AtomicBool) {
    let mut slow: Vec<TcpStream> = Vec::new();
    for _ in 0..connections {
        if let Ok(mut stream) = TcpStream::connect_timeout(&http, PATIENCE)
            && stream.write_all(b"POST /api/v1/write HTTP/1.1\r\nHost: x\r\nContent-Le").is_ok()
        {
            slow.push(stream);
        }
    }
    let mut round = 0;
    while !stop.load(Ordering::Relaxed) {
        // A byte now and then; a server that has had enough of it is right.
        slow.retain_mut(|stream| stream.write_all(b"n").is_ok());
        if round % 4 == 0 {
            for (what, result) in shots(http, peer) {
                let is_fine = is_fine(&result);
                recorder.note(&Line::Hostile { what: what.to_owned(), result, is_fine });
            }
        }
        round += 1;
        std::thread::sleep(Duration::from_millis(500));
    }
}

fn is_fine(result: &str) -> bool {
    result == "closed" || result == "503" || result.len() == 3 && result.starts_with('4')
}

/// One of each kind, with what came of it.
fn shots(http: SocketAddr, peer: SocketAddr) -> Vec<(&'static str, String)> {
    let write = |body: &[u8]| match Connection::new(http, PATIENCE).post_write(body) {
        Ok(answer) => answer.status.to_string(),
        Err(error) => ended(&error),
    };
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
        ("a range query of 1.7 * 10^12 steps", {
            match Connection::new(http, PATIENCE).get(range) {
                Ok(answer) => answer.status.to_string(),
                Err(error) => ended(&error),
            }
        }),
        ("garbage to the HTTP port", garbage(http, &[0x16, 0x03, 0x01, 0xff, 0xff, 0x0d, 0x0a, 0x0d, 0x0a])),
        ("a header that does not end", garbage(http, &[b"GET / HTTP/1.1\r\nX: ", long.as_bytes()].concat())),
        ("garbage to the peers' port", garbage(peer, &[0xff; 64])),
    ]
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
    fn only_refusals_are_fine() {
        for (result, expected) in [
            ("400", true),
            ("413", true),
            ("503", true),
            ("closed", true),
            ("200", false),
            ("500", false),
            ("timeout", false),
        ] {
            assert_eq!(is_fine(result), expected, "{result}");
        }
    }
}
