//! Syslog: messages of RFC 5424 and RFC 3164, alone in a datagram or framed in a stream.
//!
//! ```text
//! <34>1 2026-11-28T10:30:00.5Z host app 77 ID47 [origin@32473 ip="::1"] text        RFC 5424
//! <34>Nov 28 10:30:00 host app[77]: text                                            RFC 3164, as it is found
//!
//! stream: octets counted (`71 <34>1 ...`) or one message a line (RFC 6587), told apart by the first character
//! ```
//!
//! Nothing is lost for being malformed: what can not be read of a head is part of the text, and a message without a
//! priority has the one that RFC 3164 gives it. RFC 3164's times have neither year nor zone: the year is that of the
//! receiver, or the one before where that would be more than a day ahead, and the zone is UTC; most senders can be told
//! to send RFC 3339 times, which are understood in both forms.

use std::borrow::Cow;

use super::fields::{days_from_civil, rfc3339, text};
use crate::logs::{LogRecord, LogStream, LogValue, TimestampNs};

/// Longest message of a stream; what is longer is no syslog.
pub const MAX_MESSAGE_BYTES: usize = 1 << 20;

/// Facility and severity of a message that names none: user, notice.
const DEFAULT_PRIORITY: u8 = 13;

/// Names of the facilities.
const FACILITIES: [&str; 24] = [
    "kern",
    "user",
    "mail",
    "daemon",
    "auth",
    "syslog",
    "lpr",
    "news",
    "uucp",
    "cron",
    "authpriv",
    "ftp",
    "ntp",
    "security",
    "console",
    "solaris-cron",
    "local0",
    "local1",
    "local2",
    "local3",
    "local4",
    "local5",
    "local6",
    "local7",
];

/// Names of the severities, and OpenTelemetry's numbers for them.
const SEVERITIES: [(&str, u8); 8] = [
    ("emerg", 21),
    ("alert", 19),
    ("crit", 18),
    ("err", 17),
    ("warning", 13),
    ("notice", 10),
    ("info", 9),
    ("debug", 5),
];

/// A message: the stream that it belongs to, and its record.
#[derive(Clone, Debug, PartialEq)]
pub struct Message<'a> {
    /// Host and application.
    pub stream: LogStream<'a>,
    /// What it says.
    pub record: LogRecord<'a>,
}

/// Reads one message.
pub fn parse(message: &[u8], now_ns: TimestampNs) -> Message<'_> {
    let message = message.strip_suffix(b"\0").unwrap_or(message);
    let (priority, rest) = priority(message);
    let (severity_text, severity) = SEVERITIES[usize::from(priority & 7)];
    let mut parsed = rest.strip_prefix(b"1 ").and_then(rfc5424).unwrap_or_else(|| rfc3164(rest, now_ns));
    let facility = FACILITIES[usize::from(priority >> 3).min(FACILITIES.len() - 1)];
    parsed.record.attributes.insert(0, text("facility", facility));
    parsed.record.severity = severity;
    parsed.record.severity_text = Cow::Borrowed(severity_text);
    parsed.record.observed_ns = now_ns;
    parsed
}

/// The priority in front of a message, and the rest.
fn priority(message: &[u8]) -> (u8, &[u8]) {
    let parsed = message.strip_prefix(b"<").and_then(|rest| {
        let end = rest.iter().take(4).position(|byte| *byte == b'>')?;
        let digits =
            std::str::from_utf8(&rest[..end]).ok().filter(|text| text.bytes().all(|b| b.is_ascii_digit()))?;
        let priority = digits.parse::<u8>().ok().filter(|priority| *priority < 192)?;
        Some((priority, &rest[end + 1..]))
    });
    parsed.unwrap_or((DEFAULT_PRIORITY, message))
}

/// Text as it is, where it is any.
fn value(bytes: &[u8]) -> LogValue<'_> {
    match std::str::from_utf8(bytes) {
        Ok(text) => LogValue::String(Cow::Borrowed(text)),
        Err(_) => LogValue::Bytes(Cow::Borrowed(bytes)),
    }
}

fn word(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = bytes.iter().position(|byte| *byte == b' ').unwrap_or(bytes.len());
    (end > 0).then(|| (&bytes[..end], bytes.get(end + 1..).unwrap_or_default()))
}

fn stream<'a>(host: &'a [u8], app: &'a [u8]) -> LogStream<'a> {
    let mut resource = Vec::new();
    for (name, part) in [("host.name", host), ("service.name", app)] {
        if !part.is_empty() && part != b"-" {
            resource.push(text(name, String::from_utf8_lossy(part)));
        }
    }
    LogStream { resource, ..LogStream::default() }
}

/// Reads what stands behind the version; nothing where it is no such head.
fn rfc5424(rest: &[u8]) -> Option<Message<'_>> {
    let (time, rest) = word(rest)?;
    let (host, rest) = word(rest)?;
    let (app, rest) = word(rest)?;
    let (process, rest) = word(rest)?;
    let (id, rest) = word(rest)?;
    let mut record = LogRecord::default();
    if time != b"-" {
        record.time_ns = rfc3339(std::str::from_utf8(time).ok()?)?;
    }
    for (name, part) in [("process.pid", process), ("msgid", id)] {
        if part != b"-" {
            record.attributes.push((Cow::Borrowed(name), value(part)));
        }
    }
    let rest = match rest.first() {
        Some(b'-') => &rest[1..],
        Some(b'[') => structured_data(rest, &mut record)?,
        None => rest,
        Some(_) => return None,
    };
    let body = rest.strip_prefix(b" ").unwrap_or(rest);
    // A mark that some senders put before UTF-8.
    record.body = value(body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body));
    Some(Message { stream: stream(host, app), record })
}

/// Reads `[id name="value" ...]...`; each pair is an attribute `id.name`.
fn structured_data<'a>(mut rest: &'a [u8], record: &mut LogRecord<'a>) -> Option<&'a [u8]> {
    while let Some(after) = rest.strip_prefix(b"[") {
        let end = after.iter().position(|byte| b" ]".contains(byte))?;
        let id = std::str::from_utf8(&after[..end]).ok()?;
        rest = &after[end..];
        while let Some(after) = rest.strip_prefix(b" ") {
            let equals = after.iter().position(|byte| *byte == b'=')?;
            let name = std::str::from_utf8(&after[..equals]).ok()?;
            let mut quoted = after[equals + 1..].strip_prefix(b"\"")?;
            let mut content = Vec::new();
            loop {
                match quoted {
                    [b'\\', byte @ (b'"' | b'\\' | b']'), after @ ..] => {
                        content.push(*byte);
                        quoted = after;
                    }
                    [b'"', after @ ..] => {
                        rest = after;
                        break;
                    }
                    [byte, after @ ..] => {
                        content.push(*byte);
                        quoted = after;
                    }
                    [] => return None,
                }
            }
            let content = match String::from_utf8(content) {
                Ok(text) => LogValue::String(Cow::Owned(text)),
                Err(error) => LogValue::Bytes(Cow::Owned(error.into_bytes())),
            };
            record.attributes.push((Cow::Owned(format!("{id}.{name}")), content));
        }
        rest = rest.strip_prefix(b"]")?;
    }
    Some(rest)
}

const MONTHS: [&[u8]; 12] =
    [b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec"];

/// Reads what stands behind the priority, as far as it can be read.
fn rfc3164(rest: &[u8], now_ns: TimestampNs) -> Message<'_> {
    let mut record = LogRecord::default();
    let time = bsd_time(rest, now_ns).or_else(|| {
        let (time, after) = word(rest)?;
        Some((rfc3339(std::str::from_utf8(time).ok()?)?, after))
    });
    let Some((time_ns, after)) = time else {
        record.body = value(rest);
        return Message { stream: LogStream::default(), record };
    };
    record.time_ns = time_ns;
    // `host app[77]: text`, or without the host, or without either.
    let (host, after) = match word(after) {
        Some((host, rest)) if !host.ends_with(b":") && !host.contains(&b'[') => (host, rest),
        _ => (&[][..], after),
    };
    let tag = after.iter().position(|byte| !(byte.is_ascii_alphanumeric() || b"-_./".contains(byte)));
    let (app, process, body) = match tag {
        Some(end) if end > 0 => match &after[end..] {
            [b':', rest @ ..] => (&after[..end], &[][..], rest),
            [b'[', rest @ ..] => match rest.iter().position(|byte| *byte == b']') {
                Some(close) => (
                    &after[..end],
                    &rest[..close],
                    rest[close + 1..].strip_prefix(b":").unwrap_or(&rest[close + 1..]),
                ),
                None => (&[][..], &[][..], after),
            },
            _ => (&[][..], &[][..], after),
        },
        _ => (&[][..], &[][..], after),
    };
    if !process.is_empty() {
        record.attributes.push((Cow::Borrowed("process.pid"), value(process)));
    }
    record.body = value(body.strip_prefix(b" ").unwrap_or(body));
    Message { stream: stream(host, app), record }
}

/// Reads `Nov 28 10:30:00 ` or `Nov  8 ...`.
fn bsd_time(rest: &[u8], now_ns: TimestampNs) -> Option<(TimestampNs, &[u8])> {
    let month = MONTHS.iter().position(|month| rest.starts_with(month))? as i64 + 1;
    let digits = |range: std::ops::Range<usize>| -> Option<i64> {
        let text = std::str::from_utf8(rest.get(range)?).ok()?.trim_start();
        text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
    };
    let is = |at: usize, sign: u8| rest.get(at) == Some(&sign);
    if !(is(3, b' ') && is(6, b' ') && is(9, b':') && is(12, b':')) {
        return None;
    }
    let (day, hour, minute, second) = (digits(4..6)?, digits(7..9)?, digits(10..12)?, digits(13..15)?);
    if hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let in_day = hour * 3600 + minute * 60 + second;
    let now = now_ns.div_euclid(1_000_000_000);
    // A year has 365.2425 days; the guess is off by one at most, on the first or last day of a year.
    let guess = 1970 + now * 400 / (146_097 * 86_400);
    let after = match rest.get(15) {
        None => &[][..],
        Some(b' ') => &rest[16..],
        Some(_) => return None,
    };
    let latest = [guess + 1, guess, guess - 1].into_iter().find_map(|year| {
        let seconds = days_from_civil(year, month, day)? * 86_400 + in_day;
        (seconds <= now + 86_400).then_some(seconds)
    })?;
    Some((latest.checked_mul(1_000_000_000)?, after))
}

/// Cuts messages out of a stream: octet counting or lines.
#[derive(Debug, Default)]
pub struct Framer {
    buffer: Vec<u8>,
    /// Bytes at the front of the buffer among which no line ends: a long line that comes in small pieces is not looked
    /// through anew for each.
    searched: usize,
}

/// What a framer keeps allocated between messages.
const KEPT_BYTES: usize = 64 << 10;

/// A stream that can not be followed any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a message is longer than {MAX_MESSAGE_BYTES} bytes")]
pub struct TooLong;

impl Framer {
    /// Bytes of a message whose end has not come.
    pub fn pending_bytes(&self) -> usize {
        self.buffer.len()
    }

    /// Takes what has arrived and hands over the messages that are complete.
    pub fn push(&mut self, bytes: &[u8], mut message: impl FnMut(&[u8])) -> Result<(), TooLong> {
        self.buffer.extend_from_slice(bytes);
        let mut at = 0;
        loop {
            let rest = &self.buffer[at..];
            let counted = counted(rest)?;
            let (range, next) = match counted {
                Counted::Message(start, end) => (start..end, end),
                Counted::Incomplete => break,
                Counted::Not => {
                    let searched = std::mem::take(&mut self.searched);
                    match rest[searched..].iter().position(|byte| *byte == b'\n' || *byte == 0) {
                        Some(end) => (0..searched + end, searched + end + 1),
                        None if rest.len() > MAX_MESSAGE_BYTES => return Err(TooLong),
                        None => {
                            self.searched = rest.len();
                            break;
                        }
                    }
                }
            };
            let found = &rest[range];
            let found = found.strip_suffix(b"\n").unwrap_or(found);
            let found = found.strip_suffix(b"\r").unwrap_or(found);
            if !found.is_empty() {
                message(found);
            }
            at += next;
        }
        self.buffer.drain(..at);
        if self.buffer.capacity() > KEPT_BYTES.max(2 * self.buffer.len()) {
            self.buffer.shrink_to(KEPT_BYTES);
        }
        Ok(())
    }

    /// Hands over what was left when the stream ended.
    pub fn finish(self, mut message: impl FnMut(&[u8])) {
        if !self.buffer.is_empty() && matches!(counted(&self.buffer), Ok(Counted::Not)) {
            message(&self.buffer);
        }
    }
}

enum Counted {
    /// From here to there.
    Message(usize, usize),
    Incomplete,
    /// No octets are counted.
    Not,
}

fn counted(rest: &[u8]) -> Result<Counted, TooLong> {
    if !rest.first().is_some_and(|byte| (b'1'..=b'9').contains(byte)) {
        return Ok(if rest.is_empty() { Counted::Incomplete } else { Counted::Not });
    }
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    match rest.get(digits) {
        None if digits <= 7 => Ok(Counted::Incomplete),
        // A count is followed by a message; digits before anything else are text.
        Some(b' ') if digits <= 7 && rest.get(digits + 1).is_none_or(|byte| *byte == b'<') => {
            let len = rest[..digits].iter().fold(0, |len, digit| len * 10 + usize::from(digit - b'0'));
            if len > MAX_MESSAGE_BYTES {
                return Err(TooLong);
            }
            let (start, end) = (digits + 1, digits + 1 + len);
            Ok(if rest.len() < end { Counted::Incomplete } else { Counted::Message(start, end) })
        }
        _ => Ok(Counted::Not),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, prop_assert_eq, proptest};

    use super::*;
    use crate::logs::LogSink;
    use crate::shippers::testing::Lines;

    /// 2026-11-28T10:30:00Z
    const NOW: i64 = 1_795_861_800_000_000_000;

    #[track_caller]
    fn check(message: &str, stream: &str, record: &str) {
        let parsed = parse(message.as_bytes(), NOW);
        let mut sink = Lines::default();
        sink.stream(&parsed.stream);
        sink.record(&parsed.record);
        assert_eq!(
            sink.0,
            [format!("stream {stream}"), record.replace("NOW", &NOW.to_string())],
            "{message}"
        );
    }

    #[test]
    fn rfc_5424() {
        check(
            "<34>1 2026-11-28T10:30:00.5Z host.example su 77 ID47 - \u{feff}'su root' failed",
            "{host.name=\"host.example\" service.name=\"su\"}",
            "1795861800500000000/NOW crit(18) \"'su root' failed\" {facility=\"auth\" process.pid=\"77\" msgid=\"ID47\"}",
        );
        check(
            "<165>1 2026-11-28T10:30:00Z - evntslog - - [a@1 x=\"1\" y=\"q\\\"\\]\\\\\"][b] text [not data]",
            "{service.name=\"evntslog\"}",
            "1795861800000000000/NOW notice(10) \"text [not data]\" {facility=\"local4\" a@1.x=\"1\" a@1.y=\"q\\\"]\\\\\"}",
        );
        check("<14>1 - - - - - -", "{}", "0/NOW info(9) \"\" {facility=\"user\"}");
        check("<14>1 - - - - -", "{}", "0/NOW info(9) \"\" {facility=\"user\"}");
    }

    #[test]
    fn rfc_3164() {
        check(
            "<30>Nov 28 10:29:59 host cron[123]: (root) CMD",
            "{host.name=\"host\" service.name=\"cron\"}",
            "1795861799000000000/NOW info(9) \"(root) CMD\" {facility=\"daemon\" process.pid=\"123\"}",
        );
        check(
            "<13>Nov  8 00:00:00 host app: x",
            "{host.name=\"host\" service.name=\"app\"}",
            "1794096000000000000/NOW notice(10) \"x\" {facility=\"user\"}",
        );
        // Later in the year than today: last year's.
        check(
            "<13>Dec 31 23:59:59 host x y",
            "{host.name=\"host\"}",
            "1767225599000000000/NOW notice(10) \"x y\" {facility=\"user\"}",
        );
        check(
            "<13>2026-11-28T11:30:00+01:00 host app: x",
            "{host.name=\"host\" service.name=\"app\"}",
            "1795861800000000000/NOW notice(10) \"x\" {facility=\"user\"}",
        );
        check(
            "<13>Nov 28 10:30:00 app: x",
            "{service.name=\"app\"}",
            "1795861800000000000/NOW notice(10) \"x\" {facility=\"user\"}",
        );
    }

    #[test]
    fn what_is_malformed_is_text() {
        for message in [
            "hello",
            "<999>hello",
            "<1 hello",
            "",
            "1 2 3",
            "Foo 28 10:30:00 x",
            "<>x",
            "<14",
            "Nov 31 10:30:00x host",
        ] {
            let expected = format!("0/NOW notice(10) {message:?} {{facility=\"user\"}}");
            check(message, "{}", &expected);
        }
        check(
            "<14>1 yesterday host app - - - x",
            "{}",
            "0/NOW info(9) \"1 yesterday host app - - - x\" {facility=\"user\"}",
        );
        check("<14>1 - - - - - [a", "{}", "0/NOW info(9) \"1 - - - - - [a\" {facility=\"user\"}");
    }

    #[test]
    fn streams_are_cut_into_messages() {
        let cut = |pieces: &[&[u8]]| {
            let mut framer = Framer::default();
            let mut found = Vec::new();
            let mut take = |message: &[u8]| found.push(String::from_utf8_lossy(message).into_owned());
            for piece in pieces {
                framer.push(piece, &mut take).expect("short messages");
            }
            framer.finish(&mut take);
            found
        };
        assert_eq!(cut(&[b"<1>a\n<2>b\r\n\n<3>c"]), ["<1>a", "<2>b", "<3>c"]);
        assert_eq!(cut(&[b"5 <1>a\n6 <2>", b"b\nc4 <3", b">d"]), ["<1>a", "<2>b\nc", "<3>d"]);
        assert_eq!(cut(&[b"1", b"2 monkeys\n12 more\n"]), ["12 monkeys", "12 more"]);
        assert_eq!(cut(&[b"9 <1>cut"]), Vec::<String>::new());
        let mut framer = Framer::default();
        assert_eq!(framer.push(b"9999999 <", |_| ()), Err(TooLong));
        assert_eq!(Framer::default().push(&vec![b'x'; MAX_MESSAGE_BYTES + 2], |_| ()), Err(TooLong));
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_message(message in proptest::collection::vec(any::<u8>(), 0..80)) {
            parse(&message, NOW);
        }

        #[test]
        fn pieces_do_not_matter(
            messages in proptest::collection::vec("<[0-9]{1,3}>[a-z ]{0,9}", 0..5),
            counts: bool,
            cut in 1usize..7,
        ) {
            let mut body = Vec::new();
            for message in &messages {
                match counts {
                    true => body.extend_from_slice(format!("{} {message}", message.len()).as_bytes()),
                    false => body.extend_from_slice(format!("{message}\n").as_bytes()),
                }
            }
            let mut framer = Framer::default();
            let mut found = Vec::new();
            for piece in body.chunks(cut) {
                framer.push(piece, |message| found.push(String::from_utf8_lossy(message).into_owned())).expect("short");
            }
            prop_assert_eq!(found, messages);
        }
    }
}
