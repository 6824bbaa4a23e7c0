//! A keep-alive HTTP/1.1 client over one raw TCP connection, cheap enough not to disturb what it measures.
//!
//! It speaks to our own servers only: answers carry a length or have no body. Anything else is an error, never a guess.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// Longest answer that is read.
const MAX_BODY_BYTES: usize = 1 << 30;

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// Seconds of `Retry-After`.
    pub retry_after: Option<u64>,
    /// The body.
    pub body: Vec<u8>,
}

impl Answer {
    /// Whether the status is 2xx.
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// A connection that is made when it is first needed, and anew after an error.
#[derive(Debug)]
pub struct Connection {
    addr: SocketAddr,
    timeout: Duration,
    tenant: Option<String>,
    stream: Option<TcpStream>,
    buffer: Vec<u8>,
}

impl Connection {
    /// A connection to a server; `timeout` bounds each read and write.
    pub fn new(addr: SocketAddr, timeout: Duration) -> Self {
        Self { addr, timeout, tenant: None, stream: None, buffer: Vec::new() }
    }

    /// The same for the data of a tenant.
    pub fn of_tenant(self, tenant: Option<String>) -> Self {
        Self { tenant, ..self }
    }

    /// The lines that every request begins with.
    fn head(&self, method: &str, path: &str) -> String {
        let tenant =
            self.tenant.as_ref().map_or_else(String::new, |name| format!("X-Scope-OrgID: {name}\r\n"));
        format!("{method} {path} HTTP/1.1\r\nHost: {}\r\n{tenant}", self.addr)
    }

    /// Drops a connection that the server has closed, as clients do before they use one again.
    pub fn refresh(&mut self) {
        let Some(stream) = &self.stream else { return };
        let peeked = stream.set_nonblocking(true).and_then(|()| stream.peek(&mut [0; 1]));
        // Silence is what an idle connection has to say.
        let is_idle = matches!(&peeked, Err(error) if error.kind() == io::ErrorKind::WouldBlock);
        if !is_idle || stream.set_nonblocking(false).is_err() {
            self.stream = None;
        }
    }

    /// Sends a GET.
    pub fn get(&mut self, path: &str) -> io::Result<Answer> {
        self.get_with(path, &[])
    }

    /// Sends a GET with headers.
    pub fn get_with(&mut self, path: &str, headers: &[(&str, &str)]) -> io::Result<Answer> {
        let lines: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        self.send(&format!("{}{lines}\r\n", self.head("GET", path)), &[])
    }

    /// Sends a POST without a body.
    pub fn post_empty(&mut self, path: &str) -> io::Result<Answer> {
        self.send(&format!("{}Content-Length: 0\r\n\r\n", self.head("POST", path)), &[])
    }

    /// Sends a PUT of JSON.
    pub fn put_json(&mut self, path: &str, body: &[u8]) -> io::Result<Answer> {
        let head = format!(
            "{}Content-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            self.head("PUT", path),
            body.len()
        );
        self.send(&head, body)
    }

    /// Sends a remote write 1.0 body.
    pub fn post_write(&mut self, body: &[u8]) -> io::Result<Answer> {
        let head = format!(
            "{}Content-Type: application/x-protobuf\r\nContent-Encoding: snappy\r\n\
             X-Prometheus-Remote-Write-Version: 0.1.0\r\nContent-Length: {}\r\n\r\n",
            self.head("POST", "/api/v1/write"),
            body.len()
        );
        self.send(&head, body)
    }

    /// Sends an OTLP export of logs.
    pub fn post_logs(&mut self, body: &[u8]) -> io::Result<Answer> {
        self.post_otlp("/v1/logs", body)
    }

    /// Sends an OTLP export of traces.
    pub fn post_traces(&mut self, body: &[u8]) -> io::Result<Answer> {
        self.post_otlp("/v1/traces", body)
    }

    /// Sends an OTLP export to a path, in protobuf.
    pub(crate) fn post_otlp(&mut self, path: &str, body: &[u8]) -> io::Result<Answer> {
        let head = format!(
            "{}Content-Type: application/x-protobuf\r\nContent-Length: {}\r\n\r\n",
            self.head("POST", path),
            body.len()
        );
        self.send(&head, body)
    }

    fn send(&mut self, head: &str, body: &[u8]) -> io::Result<Answer> {
        let sent = self.try_send(head, body);
        if sent.is_err() {
            self.stream = None;
        }
        sent
    }

    fn try_send(&mut self, head: &str, body: &[u8]) -> io::Result<Answer> {
        if self.stream.is_none() {
            let stream = TcpStream::connect_timeout(&self.addr, self.timeout)?;
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(self.timeout))?;
            stream.set_write_timeout(Some(self.timeout))?;
            self.stream = Some(stream);
        }
        let stream = self.stream.as_mut().ok_or(io::ErrorKind::NotConnected)?;
        // One write for small requests, so that head and body share a packet.
        if body.len() < 16 << 10 {
            stream.write_all(&[head.as_bytes(), body].concat())?;
        } else {
            stream.write_all(head.as_bytes())?;
            stream.write_all(body)?;
        }
        let answer = read_answer(stream, &mut self.buffer)?;
        let (answer, keep) = answer;
        if !keep {
            self.stream = None;
        }
        Ok(answer)
    }
}

fn broken(reason: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason.into())
}

fn read_answer(stream: &mut impl Read, buffer: &mut Vec<u8>) -> io::Result<(Answer, bool)> {
    buffer.clear();
    let mut chunk = [0; 16 << 10];
    let head_len = loop {
        if let Some(end) = buffer.windows(4).position(|w| w == b"\r\n\r\n") {
            break end + 4;
        }
        if buffer.len() > 64 << 10 {
            return Err(broken("the head of the answer does not end"));
        }
        match stream.read(&mut chunk)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            n => buffer.extend_from_slice(&chunk[..n]),
        }
    };
    let head = String::from_utf8_lossy(&buffer[..head_len]).into_owned();
    let mut lines = head.split("\r\n");
    let status_line = lines.next().unwrap_or_default();
    let status = status_line
        .strip_prefix("HTTP/1.1 ")
        .and_then(|rest| rest.get(..3))
        .and_then(|code| code.parse().ok())
        .ok_or_else(|| broken(format!("no status in {status_line:?}")))?;
    let (mut length, mut retry_after, mut keep, mut chunked) = (None, None, true, false);
    for line in lines {
        let Some((name, value)) = line.split_once(':') else { continue };
        let value = value.trim();
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.parse::<usize>().ok(),
            "retry-after" => retry_after = value.parse().ok(),
            "connection" => keep = !value.eq_ignore_ascii_case("close"),
            "transfer-encoding" => chunked = value.eq_ignore_ascii_case("chunked"),
            _ => {}
        }
    }
    let mut body = buffer.split_off(head_len);
    if chunked {
        body = read_chunked(stream, body)?;
    } else {
        let length = match (length, status) {
            (Some(length), _) => length,
            (None, 204 | 304) => 0,
            (None, _) => return Err(broken("the answer has a body of unknown length")),
        };
        if length > MAX_BODY_BYTES {
            return Err(broken(format!("an answer of {length} bytes")));
        }
        let have = body.len();
        if have > length {
            return Err(broken("more bytes than the answer's length says"));
        }
        body.resize(length, 0);
        stream.read_exact(&mut body[have..])?;
    }
    Ok((Answer { status, retry_after, body }, keep))
}

/// Reads a chunked body of which `raw` has already arrived.
fn read_chunked(stream: &mut impl Read, mut raw: Vec<u8>) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    let mut at = 0;
    let mut more = |raw: &mut Vec<u8>| -> io::Result<()> {
        let mut chunk = [0; 16 << 10];
        match stream.read(&mut chunk)? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            n => {
                raw.extend_from_slice(&chunk[..n]);
                Ok(())
            }
        }
    };
    loop {
        let line_end = loop {
            if let Some(end) = raw[at..].windows(2).position(|w| w == b"\r\n") {
                break at + end;
            }
            more(&mut raw)?;
        };
        let size = std::str::from_utf8(&raw[at..line_end])
            .ok()
            .and_then(|text| {
                usize::from_str_radix(text.split(';').next().unwrap_or_default().trim(), 16).ok()
            })
            .ok_or_else(|| broken("a chunk without a size"))?;
        if size > MAX_BODY_BYTES || body.len() + size > MAX_BODY_BYTES {
            return Err(broken("an answer that does not end"));
        }
        at = line_end + 2;
        while raw.len() < at + size + 2 {
            more(&mut raw)?;
        }
        body.extend_from_slice(&raw[at..at + size]);
        at += size + 2;
        if size == 0 {
            return Ok(body);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(raw: &str) -> io::Result<(Answer, bool)> {
        read_answer(&mut raw.as_bytes(), &mut Vec::new())
    }

    #[test]
    fn reads_answers_with_and_without_bodies() {
        let (answer, keep) = check("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi").expect("an answer");
        assert_eq!((answer.status, answer.text().as_str(), keep), (200, "hi", true));
        let (answer, _) = check("HTTP/1.1 204 No Content\r\n\r\n").expect("an answer");
        assert!(answer.is_success() && answer.body.is_empty());
        let (answer, keep) =
            check("HTTP/1.1 503 x\r\nretry-after: 3\r\nconnection: close\r\ncontent-length: 0\r\n\r\n")
                .expect("an answer");
        assert_eq!((answer.status, answer.retry_after, keep), (503, Some(3), false));
    }

    #[test]
    fn reads_chunks() {
        let raw = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n";
        assert_eq!(check(raw).expect("an answer").0.text(), "abcde");
    }

    #[test]
    fn refuses_what_it_can_not_trust() {
        for raw in [
            "",
            "HTTP/1.1 200 OK\r\n",
            "HTTP/1.1 2",
            "HTTP/1.1 200 OK\r\n\r\nunknown length",
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabc",
            "HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\nabc",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        ] {
            check(raw).expect_err(raw);
        }
    }
}
