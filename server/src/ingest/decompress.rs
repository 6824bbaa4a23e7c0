//! Bodies in one of the encodings that clients use, undone under limits.
//!
//! A compressed body says nothing reliable about its length, so it is undone piece by piece: what has come out is held
//! against the limit, against what could honestly have come out of so many bytes, and against the node's budget, before
//! more is asked for. A bomb is refused having cost a few megabytes. zstd's window, which it allocates as a frame's
//! head tells it to, is bounded to what its specification asks receivers to support.

use std::io::{self, Read};

use axum::http::{HeaderMap, header};
use flate2::read::{DeflateDecoder, MultiGzDecoder, ZlibDecoder};
use protocol::remote_write::{self, Limits};

/// How a body is encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coding {
    /// Not at all.
    Identity,
    /// `gzip`
    Gzip,
    /// `deflate`: with zlib's frame, as the standard has it, or without, as some clients do.
    Deflate,
    /// `zstd`
    Zstd,
    /// `snappy`: a block, or the framed format, by its magic.
    Snappy,
}

impl Coding {
    /// The encoding of a name.
    pub fn from_name(name: &str) -> Option<Self> {
        Some(match name.trim().to_ascii_lowercase().as_str() {
            "" | "identity" | "none" => Self::Identity,
            "gzip" | "x-gzip" => Self::Gzip,
            "deflate" | "zlib" => Self::Deflate,
            "zstd" => Self::Zstd,
            "snappy" | "x-snappy-framed" => Self::Snappy,
            _ => return None,
        })
    }

    /// The encoding that `Content-Encoding` names; the name where it is not known.
    pub fn of_headers(headers: &HeaderMap) -> Result<Self, String> {
        let mut coding = Self::Identity;
        for value in headers.get_all(header::CONTENT_ENCODING) {
            let name = String::from_utf8_lossy(value.as_bytes());
            let found = Self::from_name(&name).ok_or_else(|| name.trim().to_owned())?;
            if coding != Self::Identity && found != Self::Identity {
                return Err(format!("{name} inside of another"));
            }
            if found != Self::Identity {
                coding = found;
            }
        }
        Ok(coding)
    }
}

/// Why a body stays as it is.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecompressError {
    /// More came out than allowed.
    #[error("the body is longer than {limit} bytes when decompressed")]
    TooLong {
        /// The limit.
        limit: usize,
    },
    /// More came out than any honest body yields.
    #[error("the body grows by more than {MAX_RATIO} times when decompressed")]
    TooDense,
    /// It is no such encoding.
    #[error("the body is not valid {coding:?}: {reason}")]
    Corrupt {
        /// The encoding.
        coding: Coding,
        /// What the decoder says.
        reason: String,
    },
    /// The node has no room for it now.
    #[error("too many writes are in work on this node")]
    Full,
}

/// How many times its length a body may grow, some megabytes apart.
const MAX_RATIO: usize = 200;
const FREE_BYTES: usize = 4 << 20;

/// So much is decompressed before the next look at the limits.
const STEP_BYTES: u64 = 256 << 10;

/// 8 MiB: what receivers of zstd should support, and what its encoders need up to level 19.
const ZSTD_WINDOW_LOG: u32 = 23;

const SNAPPY_FRAMED: &[u8] = b"\xff\x06\x00\x00sNaPpY";

/// Undoes an encoding. `admit` is asked for every length before it is held.
pub fn decompress(
    coding: Coding,
    body: &[u8],
    limit: usize,
    admit: impl FnMut(usize) -> bool,
) -> Result<Vec<u8>, DecompressError> {
    let corrupt = |error: io::Error| DecompressError::Corrupt { coding, reason: error.to_string() };
    match coding {
        Coding::Identity if body.len() > limit => Err(DecompressError::TooLong { limit }),
        Coding::Identity => Ok(body.to_vec()),
        Coding::Gzip => unpack(coding, MultiGzDecoder::new(body), body.len(), limit, admit),
        // zlib's head: method 8, and a check that makes both bytes a multiple of 31.
        Coding::Deflate if matches!(body, [a, b, ..] if a & 15 == 8 && (usize::from(*a) << 8 | usize::from(*b)) % 31 == 0) => {
            unpack(coding, ZlibDecoder::new(body), body.len(), limit, admit)
        }
        Coding::Deflate => unpack(coding, DeflateDecoder::new(body), body.len(), limit, admit),
        Coding::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(body).map_err(corrupt)?;
            decoder.window_log_max(ZSTD_WINDOW_LOG).map_err(corrupt)?;
            unpack(coding, decoder, body.len(), limit, admit)
        }
        Coding::Snappy if body.starts_with(SNAPPY_FRAMED) => {
            unpack(coding, snap::read::FrameDecoder::new(body), body.len(), limit, admit)
        }
        Coding::Snappy => snappy_block(body, limit, admit),
    }
}

fn snappy_block(
    body: &[u8],
    limit: usize,
    mut admit: impl FnMut(usize) -> bool,
) -> Result<Vec<u8>, DecompressError> {
    let limits = Limits { max_body_bytes: limit, ..Limits::default() };
    let refused = |error: remote_write::DecodeError| match error {
        remote_write::DecodeError::TooLong { .. } => DecompressError::TooLong { limit },
        other => DecompressError::Corrupt { coding: Coding::Snappy, reason: other.to_string() },
    };
    let len = remote_write::decompressed_len(body, &limits).map_err(refused)?;
    match admit(len) {
        true => remote_write::decompress(body, &limits).map_err(refused),
        false => Err(DecompressError::Full),
    }
}

fn unpack(
    coding: Coding,
    mut decoder: impl Read,
    compressed_len: usize,
    limit: usize,
    mut admit: impl FnMut(usize) -> bool,
) -> Result<Vec<u8>, DecompressError> {
    let honest = compressed_len.saturating_mul(MAX_RATIO).saturating_add(FREE_BYTES);
    let mut out = Vec::new();
    loop {
        if !admit(out.len() + STEP_BYTES as usize) {
            return Err(DecompressError::Full);
        }
        let read = decoder
            .by_ref()
            .take(STEP_BYTES)
            .read_to_end(&mut out)
            .map_err(|error| DecompressError::Corrupt { coding, reason: error.to_string() })?;
        if out.len() > limit {
            return Err(DecompressError::TooLong { limit });
        }
        if out.len() > honest {
            return Err(DecompressError::TooDense);
        }
        if (read as u64) < STEP_BYTES {
            return Ok(out);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    const CODINGS: [Coding; 4] = [Coding::Gzip, Coding::Deflate, Coding::Zstd, Coding::Snappy];

    fn compress(coding: Coding, body: &[u8]) -> Vec<u8> {
        let level = flate2::Compression::default();
        match coding {
            Coding::Identity => body.to_vec(),
            Coding::Gzip => {
                let mut encoder = flate2::write::GzEncoder::new(Vec::new(), level);
                encoder.write_all(body).unwrap();
                encoder.finish().unwrap()
            }
            Coding::Deflate => {
                let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), level);
                encoder.write_all(body).unwrap();
                encoder.finish().unwrap()
            }
            Coding::Zstd => zstd::encode_all(body, 3).unwrap(),
            Coding::Snappy => snap::raw::Encoder::new().compress_vec(body).unwrap(),
        }
    }

    fn text(len: usize) -> Vec<u8> {
        (0..len).map(|i| (i * i / 7) as u8).collect()
    }

    #[test]
    fn what_was_compressed_comes_back() {
        for len in [0, 1, 1000, 300_000, 1 << 20] {
            let body = text(len);
            for coding in CODINGS.into_iter().chain([Coding::Identity]) {
                let found = decompress(coding, &compress(coding, &body), len.max(1), |_| true);
                assert_eq!(found.as_ref(), Ok(&body), "{coding:?} {len}");
            }
        }
        let mut raw = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::fast());
        raw.write_all(b"no frame").unwrap();
        assert_eq!(decompress(Coding::Deflate, &raw.finish().unwrap(), 100, |_| true).unwrap(), b"no frame");
        let mut framed = snap::write::FrameEncoder::new(Vec::new());
        framed.write_all(b"framed").unwrap();
        assert_eq!(
            decompress(Coding::Snappy, &framed.into_inner().unwrap(), 100, |_| true).unwrap(),
            b"framed"
        );
        let twice = [compress(Coding::Gzip, b"a"), compress(Coding::Gzip, b"b")].concat();
        assert_eq!(decompress(Coding::Gzip, &twice, 100, |_| true).unwrap(), b"ab");
    }

    #[test]
    fn a_bomb_is_refused_before_it_has_grown() {
        let zeros = vec![0; 64 << 20];
        for coding in [Coding::Gzip, Coding::Deflate, Coding::Zstd] {
            let bomb = compress(coding, &zeros);
            let mut held = 0;
            let outcome = decompress(coding, &bomb, 256 << 20, |len| {
                held = len;
                true
            });
            assert_eq!(outcome, Err(DecompressError::TooDense), "{coding:?}");
            assert!(held <= bomb.len() * MAX_RATIO + FREE_BYTES + (1 << 20), "{coding:?} {held}");
            let outcome = decompress(coding, &bomb, 1 << 20, |_| true);
            assert_eq!(outcome, Err(DecompressError::TooLong { limit: 1 << 20 }), "{coding:?}");
        }
        // Snappy says its length first.
        let declared = compress(Coding::Snappy, &zeros);
        let outcome = decompress(Coding::Snappy, &declared, 1 << 20, |_| panic!("nothing is held"));
        assert_eq!(outcome, Err(DecompressError::TooLong { limit: 1 << 20 }));
        assert_eq!(
            decompress(Coding::Identity, &[0; 9], 8, |_| true),
            Err(DecompressError::TooLong { limit: 8 })
        );
    }

    #[test]
    fn a_window_beyond_the_limit_is_refused() {
        let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 3).unwrap();
        encoder.window_log(25).unwrap();
        encoder.write_all(&text(1 << 10)).unwrap();
        let body = encoder.finish().unwrap();
        let outcome = decompress(Coding::Zstd, &body, 1 << 20, |_| true);
        assert!(matches!(outcome, Err(DecompressError::Corrupt { .. })), "{outcome:?}");
    }

    #[test]
    fn damage_and_a_full_node_are_told_apart() {
        for coding in CODINGS {
            let mut body = compress(coding, &text(5000));
            assert_eq!(decompress(coding, &body, 5000, |_| false), Err(DecompressError::Full), "{coding:?}");
            body.truncate(body.len() / 2);
            let outcome = decompress(coding, &body, 5000, |_| true);
            assert!(matches!(outcome, Err(DecompressError::Corrupt { .. })), "{coding:?} {outcome:?}");
        }
    }

    #[test]
    fn names_of_encodings() {
        let of = |values: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(header::CONTENT_ENCODING, value.parse().unwrap());
            }
            Coding::of_headers(&headers)
        };
        assert_eq!(of(&[]), Ok(Coding::Identity));
        assert_eq!(of(&["GZIP"]), Ok(Coding::Gzip));
        assert_eq!(of(&["identity", "zstd"]), Ok(Coding::Zstd));
        assert_eq!(of(&["br"]), Err("br".to_owned()));
        assert!(of(&["gzip", "gzip"]).is_err());
    }
}
