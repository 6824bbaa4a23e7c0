//! Keys of batches that were applied lately: a batch that comes again changes nothing.
//!
//! ```text
//! file   magic "PHWINDW" | version u8 (1) | count u32 LE | count x ( time i64 LE, key 16 bytes ) | crc32c u32
//! ```
//!
//! Invariant: what is admitted depends on the log alone. Keys leave by cluster time, which the log carries, and only as
//! newer ones come: the last [`KEEP_KEYS`] stay whatever the time, so that a clock which runs away opens no window for a
//! retry to be written twice.

use std::collections::VecDeque;

use hashbrown::HashSet;
use protocol::logs::batch::BatchKey;

use crate::error::FormatError;
use crate::mutant::{self, Mutant};

/// How long a key is remembered, in cluster time.
pub const WINDOW_MS: i64 = 10 * 60 * 1000;
/// Keys that are remembered however old they are.
pub const KEEP_KEYS: usize = 16_384;
/// Keys that are remembered at most.
pub const MAX_KEYS: usize = 262_144;

const MAGIC: &[u8; 7] = b"PHWINDW";
const VERSION: u8 = 1;
const ENTRY: usize = 24;

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct KeyWindow {
    /// Oldest first.
    order: VecDeque<(i64, BatchKey)>,
    keys: HashSet<BatchKey>,
}

/// What the window says of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// It is new, and remembered from now on.
    New,
    /// It was here.
    Known,
    /// It is new, and there is no room to remember it.
    Full,
}

impl KeyWindow {
    /// Asks about a batch at a cluster time; times do not go back.
    pub fn admit(&mut self, key: BatchKey, now_ms: i64) -> Admission {
        self.expire(now_ms);
        if self.keys.contains(&key) {
            return Admission::Known;
        }
        if self.order.len() >= MAX_KEYS {
            return Admission::Full;
        }
        self.keys.insert(key);
        self.order.push_back((now_ms, key));
        Admission::New
    }

    /// Forgets keys that are past their time, but for the newest.
    pub fn expire(&mut self, now_ms: i64) {
        let (keep, span_ms) =
            if mutant::is(Mutant::WindowTooShort) { (0, 0) } else { (KEEP_KEYS, WINDOW_MS) };
        while self.order.len() > keep
            && let Some((_, key)) =
                self.order.pop_front_if(|(time, _)| *time <= now_ms.saturating_sub(span_ms))
        {
            self.keys.remove(&key);
        }
    }

    /// Number of keys.
    pub fn len(&self) -> usize {
        self.order.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// Bytes of memory, roughly.
    pub fn memory_bytes(&self) -> usize {
        self.order.capacity() * ENTRY + self.keys.capacity() * 17
    }

    /// The keys and their times, for a file.
    pub fn entries(&self) -> Vec<(i64, BatchKey)> {
        self.order.iter().copied().collect()
    }

    /// The window of these entries, oldest first.
    pub fn of_entries(entries: Vec<(i64, BatchKey)>) -> Self {
        Self { keys: entries.iter().map(|(_, key)| *key).collect(), order: entries.into() }
    }
}

/// A file's bytes.
pub fn encode_window_file(entries: &[(i64, BatchKey)]) -> Vec<u8> {
    let mut out = Vec::with_capacity(16 + entries.len() * ENTRY);
    out.extend_from_slice(MAGIC);
    out.push(VERSION);
    out.extend_from_slice(&(entries.len() as u32).to_le_bytes());
    for (time, key) in entries {
        out.extend_from_slice(&time.to_le_bytes());
        out.extend_from_slice(&key.0);
    }
    out.extend_from_slice(&crc32c::crc32c(&out).to_le_bytes());
    out
}

/// Takes a file's bytes.
pub fn decode_window_file(bytes: &[u8]) -> Result<KeyWindow, FormatError> {
    let (body, checksum) = bytes.split_last_chunk::<4>().ok_or("shorter than its checksum")?;
    if body.len() < 12 || body[..7] != MAGIC[..] {
        return Err("not a file of batch keys".into());
    }
    if u32::from_le_bytes(*checksum) != crc32c::crc32c(body) {
        return Err("the checksum is wrong".into());
    }
    if body[7] != VERSION {
        let (what, version) = ("the file of batch keys", body[7]);
        return Err(FormatError::Version { what, version, known: VERSION });
    }
    let count = u32::from_le_bytes(body[8..12].try_into().expect("4 bytes")) as usize;
    let (entries, rest) = body[12..].as_chunks::<ENTRY>();
    if entries.len() != count || !rest.is_empty() {
        return Err("the number of keys is wrong".into());
    }
    let entry = |bytes: &[u8; ENTRY]| {
        let (time, key) = bytes.split_at(8);
        let time = i64::from_le_bytes(time.try_into().expect("8 bytes"));
        (time, BatchKey(key.try_into().expect("16 bytes")))
    };
    Ok(KeyWindow::of_entries(entries.iter().map(entry).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: u64) -> BatchKey {
        let mut key = [0; 16];
        key[..8].copy_from_slice(&number.to_le_bytes());
        BatchKey(key)
    }

    #[test]
    fn a_key_is_known_for_ten_minutes_and_until_enough_others_came() {
        let mut window = KeyWindow::default();
        assert_eq!(window.admit(key(1), 1000), Admission::New);
        assert_eq!(window.admit(key(1), 1000 + WINDOW_MS - 1), Admission::Known);
        for number in 0..KEEP_KEYS as u64 {
            assert_eq!(window.admit(key(1), 1000 + 9 * WINDOW_MS), Admission::Known, "few came after it");
            window.admit(key(100 + number), 1000 + 9 * WINDOW_MS);
        }
        assert_eq!(window.admit(key(1), 1000 + 9 * WINDOW_MS), Admission::New, "a repeat does not renew it");
        assert_eq!(window.len(), KEEP_KEYS + 1);
    }

    #[test]
    fn a_full_window_refuses_until_keys_leave() {
        let mut window = KeyWindow::default();
        for number in 0..MAX_KEYS as u64 {
            assert_eq!(window.admit(key(number), number as i64 / 1000), Admission::New);
        }
        assert_eq!(window.admit(key(u64::MAX), 300), Admission::Full);
        assert_eq!(window.admit(key(5), 300), Admission::Known, "what is known needs no room");
        assert_eq!(window.admit(key(u64::MAX), WINDOW_MS), Admission::New);
        assert_eq!(window.len(), MAX_KEYS - 999);
    }

    #[test]
    fn a_file_gives_the_window_again_and_damage_is_found() {
        let mut window = KeyWindow::default();
        for number in 0..50 {
            window.admit(key(number), number as i64);
        }
        let bytes = encode_window_file(&window.entries());
        let mut read = decode_window_file(&bytes).expect("own bytes");
        assert_eq!(read.entries(), window.entries());
        assert_eq!(read.admit(key(7), 60), Admission::Known);
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1;
            assert!(decode_window_file(&damaged).is_err(), "byte {at}");
            assert!(decode_window_file(&bytes[..at]).is_err());
        }
    }
}
