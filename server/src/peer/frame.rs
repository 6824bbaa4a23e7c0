//! Frames between nodes.
//!
//! ```text
//! greeting, once each way:   "PHAROSPR" | lowest version u16 | highest version u16 | 0 u32
//! frame:                     length u32 | crc32c u32 | id u64 | kind u8 | body
//! ```
//!
//! Version 2 adds the kind that gives a call up: its id is the request's, and the peer may drop the work. On a connection
//! of version 1 it is not sent.
//!
//! All numbers are little endian. `length` counts the body. The checksum covers id, kind and body: TCP's own is too
//! weak to keep a flipped bit out of a Raft log, and without TLS nothing else would notice. The answer to a greeting
//! names the one version that both speak in both fields, or 0 when there is none. A frame that breaks a rule ends the
//! connection; nothing is allocated by a length that was not checked.

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt};

/// First bytes of a connection.
pub(super) const MAGIC: [u8; 8] = *b"PHAROSPR";
/// The newest protocol version.
pub(super) const VERSION: u16 = 2;
/// The oldest protocol version that this node still speaks.
pub(super) const OLDEST_VERSION: u16 = 1;
/// The first version that knows [`Kind::GiveUp`].
pub(super) const GIVE_UP_VERSION: u16 = 2;
/// Length of a greeting.
pub(super) const GREETING_BYTES: usize = 16;
/// Length of a frame's head.
pub(super) const HEAD_BYTES: usize = 17;
/// Longest body: `cluster` keeps below 8 MiB, the rest is room for what wraps it.
pub(super) const MAX_BODY_BYTES: usize = 9 << 20;
/// Shorter bodies are copied out of the read buffer, so that a small entry kept for long does not pin all of it.
const COPY_BELOW_BYTES: usize = 16 << 10;

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Request,
    Response,
    Ping,
    Pong,
    /// The request was not carried out: too much is in work, or the node does not serve yet. The body says which.
    Refused,
    /// Nobody waits for the answer to the request of this id any more.
    GiveUp,
}

impl Kind {
    const fn code(self) -> u8 {
        match self {
            Self::Request => 1,
            Self::Response => 2,
            Self::Ping => 3,
            Self::Pong => 4,
            Self::Refused => 5,
            Self::GiveUp => 6,
        }
    }

    const fn from_code(code: u8) -> Option<Self> {
        Some(match code {
            1 => Self::Request,
            2 => Self::Response,
            3 => Self::Ping,
            4 => Self::Pong,
            5 => Self::Refused,
            6 => Self::GiveUp,
            _ => return None,
        })
    }
}

/// A frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Frame {
    pub kind: Kind,
    pub id: u64,
    pub body: Bytes,
}

/// Why a connection is not understood any more.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The transport failed.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// The peer closed the connection.
    #[error("the peer closed the connection")]
    Closed,
    /// The first bytes are not ours.
    #[error("the other side does not speak the peer protocol")]
    Magic,
    /// No common version.
    #[error(
        "the other side speaks versions {low} to {high} of the peer protocol, this node speaks {OLDEST_VERSION} to \
         {VERSION}"
    )]
    Version { low: u16, high: u16 },
    /// The length is beyond the limit.
    #[error("a frame of {bytes} bytes is announced, allowed are {MAX_BODY_BYTES}")]
    TooLong { bytes: usize },
    /// The checksum is wrong.
    #[error("a frame's checksum is wrong")]
    Checksum,
    /// No such kind here.
    #[error("a frame of unexpected kind {code}")]
    Kind { code: u8 },
    /// Nothing arrived for too long.
    #[error("nothing arrived for {0:?}")]
    Silent(std::time::Duration),
    /// This side is shutting down.
    #[error("this node is stopping")]
    Stopping,
}

impl Frame {
    /// The frame's head.
    pub fn head(&self) -> [u8; HEAD_BYTES] {
        let mut head = [0; HEAD_BYTES];
        head[0..4].copy_from_slice(&(self.body.len() as u32).to_le_bytes());
        head[8..16].copy_from_slice(&self.id.to_le_bytes());
        head[16] = self.kind.code();
        let crc = crc32c::crc32c_append(crc32c::crc32c(&head[8..]), &self.body);
        head[4..8].copy_from_slice(&crc.to_le_bytes());
        head
    }
}

/// The newest version that both this node and one that speaks `low` to `high` speak.
pub(super) fn common_version(low: u16, high: u16) -> Option<u16> {
    let common = high.min(VERSION);
    (common >= low.max(OLDEST_VERSION)).then_some(common)
}

/// Greeting of a side that speaks `low` to `high`.
pub(super) fn greeting(low: u16, high: u16) -> [u8; GREETING_BYTES] {
    let mut bytes = [0; GREETING_BYTES];
    bytes[..8].copy_from_slice(&MAGIC);
    bytes[8..10].copy_from_slice(&low.to_le_bytes());
    bytes[10..12].copy_from_slice(&high.to_le_bytes());
    bytes
}

/// Reads a greeting: lowest and highest version.
pub(super) async fn read_greeting(stream: &mut (impl AsyncRead + Unpin)) -> Result<(u16, u16), FrameError> {
    let mut bytes = [0; GREETING_BYTES];
    stream.read_exact(&mut bytes).await?;
    if bytes[..8] != MAGIC {
        return Err(FrameError::Magic);
    }
    Ok((u16::from_le_bytes([bytes[8], bytes[9]]), u16::from_le_bytes([bytes[10], bytes[11]])))
}

/// Cuts frames out of a stream.
#[derive(Default)]
pub(super) struct FrameReader {
    buffer: BytesMut,
}

impl FrameReader {
    /// The next frame. `on_bytes` is called with the length of each piece that arrives: a long frame on a slow line
    /// is a sign of life before it is whole. Dropping the future loses nothing.
    pub async fn next(
        &mut self,
        stream: &mut (impl AsyncRead + Unpin),
        mut on_bytes: impl FnMut(usize),
    ) -> Result<Frame, FrameError> {
        loop {
            let missing = match self.take()? {
                Ok(frame) => return Ok(frame),
                Err(missing) => missing,
            };
            // By steps: the announced length is no reason to allocate before bytes come.
            self.buffer.reserve(missing.clamp(16 << 10, 1 << 20));
            let read = stream.read_buf(&mut self.buffer).await?;
            if read == 0 {
                return Err(FrameError::Closed);
            }
            on_bytes(read);
        }
    }

    /// A frame from the buffer, or the number of bytes that are missing at least.
    fn take(&mut self) -> Result<Result<Frame, usize>, FrameError> {
        let Some((head, _)) = self.buffer.split_first_chunk::<HEAD_BYTES>() else {
            return Ok(Err(HEAD_BYTES - self.buffer.len()));
        };
        let number =
            |from: usize| u32::from_le_bytes([head[from], head[from + 1], head[from + 2], head[from + 3]]);
        let (len, crc) = (number(0) as usize, number(4));
        let id = u64::from(number(8)) | u64::from(number(12)) << 32;
        let kind = Kind::from_code(head[16]).ok_or(FrameError::Kind { code: head[16] })?;
        if len > MAX_BODY_BYTES {
            return Err(FrameError::TooLong { bytes: len });
        }
        let whole = HEAD_BYTES + len;
        if self.buffer.len() < whole {
            return Ok(Err(whole - self.buffer.len()));
        }
        if crc32c::crc32c(&self.buffer[8..whole]) != crc {
            return Err(FrameError::Checksum);
        }
        let body = if len < COPY_BELOW_BYTES {
            let body = Bytes::copy_from_slice(&self.buffer[HEAD_BYTES..whole]);
            self.buffer.advance(whole);
            body
        } else {
            let mut frame = self.buffer.split_to(whole).freeze();
            frame.advance(HEAD_BYTES);
            frame
        };
        Ok(Ok(Frame { kind, id, body }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encode(frame: &Frame) -> Vec<u8> {
        [&frame.head()[..], &frame.body].concat()
    }

    /// Hands out bytes in pieces of one size.
    async fn read_all(bytes: &[u8], piece: usize) -> Result<Vec<Frame>, FrameError> {
        let (mut tx, mut rx) = tokio::io::duplex(piece);
        let bytes = bytes.to_vec();
        let writer = tokio::spawn(async move {
            let _ = tokio::io::AsyncWriteExt::write_all(&mut tx, &bytes).await;
        });
        let mut reader = FrameReader::default();
        let mut frames = Vec::new();
        let end = loop {
            match reader.next(&mut rx, |_| ()).await {
                Ok(frame) => frames.push(frame),
                Err(error) => break error,
            }
        };
        drop(rx);
        writer.await.unwrap();
        if matches!(end, FrameError::Closed) { Ok(frames) } else { Err(end) }
    }

    fn samples() -> Vec<Frame> {
        [
            (Kind::Request, 0),
            (Kind::Ping, 0),
            (Kind::Response, 3),
            (Kind::Refused, 70_000),
            (Kind::Pong, 1),
            (Kind::GiveUp, 0),
        ]
        .into_iter()
        .enumerate()
        .map(|(n, (kind, len))| Frame { kind, id: u64::MAX - n as u64, body: vec![n as u8; len].into() })
        .collect()
    }

    #[tokio::test]
    async fn frames_survive_any_cut() {
        let bytes: Vec<u8> = samples().iter().flat_map(encode).collect();
        for piece in [1, 16, 17, 18, 4096, 1 << 20] {
            assert_eq!(read_all(&bytes, piece).await.unwrap(), samples(), "pieces of {piece}");
        }
    }

    #[tokio::test]
    async fn every_flipped_bit_is_seen() {
        let whole = encode(&Frame { kind: Kind::Request, id: 77, body: Bytes::from_static(b"payload") });
        for bit in 0..whole.len() * 8 {
            let mut bytes = whole.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            // A flipped length leaves the reader waiting for more, or short: then the frame never comes out.
            if let Ok(frames) = read_all(&bytes, 4096).await {
                assert!(frames.is_empty(), "bit {bit}: {frames:?}");
            }
        }
    }

    #[tokio::test]
    async fn a_length_that_lies_allocates_nothing() {
        let mut bytes = encode(&Frame { kind: Kind::Request, id: 1, body: Bytes::new() });
        bytes[0..4].copy_from_slice(&u32::MAX.to_le_bytes());
        assert!(matches!(read_all(&bytes, 64).await, Err(FrameError::TooLong { .. })));
        bytes[0..4].copy_from_slice(&(MAX_BODY_BYTES as u32).to_le_bytes());
        let mut reader = FrameReader::default();
        let mut stream = &bytes[..];
        assert!(matches!(reader.next(&mut stream, |_| ()).await, Err(FrameError::Closed)));
        assert!(reader.buffer.capacity() <= 4 << 20, "{}", reader.buffer.capacity());
    }

    #[test]
    fn the_newest_common_version_is_spoken() {
        assert_eq!(common_version(1, 1), Some(1));
        assert_eq!(common_version(1, 2), Some(2));
        assert_eq!(common_version(2, 7), Some(2));
        assert_eq!(common_version(3, 7), None);
        assert_eq!(common_version(0, 0), None);
    }

    #[tokio::test]
    async fn greetings() {
        assert_eq!(read_greeting(&mut &greeting(1, 3)[..]).await.unwrap(), (1, 3));
        assert!(matches!(read_greeting(&mut &b"GET / HTTP/1.1\r\n"[..]).await, Err(FrameError::Magic)));
    }
}
