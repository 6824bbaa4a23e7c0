//! Answers to export requests: partial success, and the status of a failure, in the encoding of the request.
//!
//! ```text
//! Export*ServiceResponse  1 partial success {1 rejected count, 2 message}      google.rpc.Status  1 code  2 message
//! ```

use crate::varint::{read_prefixed, read_u64, write_prefixed, write_u64};

/// What of a request was not taken. Nothing to say is success.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PartialSuccess {
    /// Points, records or spans that were refused.
    pub rejected: u64,
    /// Why; with nothing refused, a warning.
    pub message: String,
}

/// Which signal answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// Metrics.
    Metrics,
    /// Logs.
    Logs,
    /// Traces.
    Traces,
}

impl Signal {
    const fn rejected_key(self) -> &'static str {
        match self {
            Self::Metrics => "rejectedDataPoints",
            Self::Logs => "rejectedLogRecords",
            Self::Traces => "rejectedSpans",
        }
    }
}

impl PartialSuccess {
    fn is_full(&self) -> bool {
        self.rejected == 0 && self.message.is_empty()
    }

    /// The response in protobuf.
    pub fn to_protobuf(&self) -> Vec<u8> {
        let mut out = Vec::new();
        if !self.is_full() {
            let mut inner = Vec::with_capacity(self.message.len() + 16);
            if self.rejected > 0 {
                inner.push(1 << 3);
                write_u64(&mut inner, self.rejected);
            }
            inner.push(2 << 3 | 2);
            write_prefixed(&mut inner, self.message.as_bytes());
            out.push(1 << 3 | 2);
            write_prefixed(&mut out, &inner);
        }
        out
    }

    /// A response in protobuf, as [`Self::to_protobuf`] writes it.
    pub fn from_protobuf(mut body: &[u8]) -> Option<Self> {
        let mut partial = Self::default();
        if body.is_empty() {
            return Some(partial);
        }
        let mut inner = match read_u64(&mut body)? {
            10 => read_prefixed(&mut body)?,
            _ => return None,
        };
        while !inner.is_empty() {
            match read_u64(&mut inner)? {
                8 => partial.rejected = read_u64(&mut inner)?,
                18 => partial.message = String::from_utf8(read_prefixed(&mut inner)?.to_vec()).ok()?,
                _ => return None,
            }
        }
        body.is_empty().then_some(partial)
    }

    /// The response in JSON.
    pub fn to_json(&self, signal: Signal) -> String {
        if self.is_full() {
            return "{}".to_owned();
        }
        // 64-bit numbers are text in protobuf's JSON.
        let rejected = self.rejected.to_string();
        serde_json::json!({"partialSuccess": {signal.rejected_key(): rejected, "errorMessage": self.message}})
            .to_string()
    }
}

/// A `google.rpc.Status` in protobuf.
pub fn status_to_protobuf(code: u32, message: &str) -> Vec<u8> {
    let mut out = vec![1 << 3];
    write_u64(&mut out, code.into());
    out.push(2 << 3 | 2);
    write_prefixed(&mut out, message.as_bytes());
    out
}

/// A `google.rpc.Status` in JSON.
pub fn status_to_json(code: u32, message: &str) -> String {
    serde_json::json!({"code": code, "message": message}).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn success_is_empty_and_refusals_are_told() {
        let full = PartialSuccess::default();
        assert_eq!((full.to_protobuf(), full.to_json(Signal::Logs)), (Vec::new(), "{}".to_owned()));
        let partial = PartialSuccess { rejected: 300, message: "no".to_owned() };
        assert_eq!(partial.to_protobuf(), [0x0a, 7, 0x08, 0xac, 2, 0x12, 2, b'n', b'o']);
        for response in [full, partial.clone()] {
            assert_eq!(PartialSuccess::from_protobuf(&response.to_protobuf()), Some(response));
        }
        for bad in [&b"\x0a"[..], b"\x0a\x02\x08", b"\x08\x01", b"\x0a\x00\x00"] {
            assert_eq!(PartialSuccess::from_protobuf(bad), None, "{bad:?}");
        }
        let json: serde_json::Value = serde_json::from_str(&partial.to_json(Signal::Metrics)).unwrap();
        assert_eq!(json["partialSuccess"]["errorMessage"], "no");
        assert_eq!(json["partialSuccess"]["rejectedDataPoints"], "300");
        assert_eq!(status_to_protobuf(3, "bad"), [8, 3, 0x12, 3, b'b', b'a', b'd']);
        let json: serde_json::Value = serde_json::from_str(&status_to_json(3, "bad")).unwrap();
        assert_eq!(json, serde_json::json!({"code": 3, "message": "bad"}));
    }
}
