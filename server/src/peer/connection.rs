//! What both ends of a connection do: write queued frames in one go, notice silence.

use std::io::IoSlice;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::time::Instant;

use super::frame::{Frame, FrameError, HEAD_BYTES};

/// Frames that are taken from a queue for one write.
pub(super) const MAX_BATCH: usize = 128;

/// Writes frames with as few system calls as the stream allows, and flushes. Returns the bytes written.
pub(super) async fn write_frames(
    stream: &mut (impl AsyncWrite + Unpin),
    frames: &[Frame],
) -> Result<usize, FrameError> {
    let heads: Vec<[u8; HEAD_BYTES]> = frames.iter().map(Frame::head).collect();
    let mut slices: Vec<IoSlice<'_>> = Vec::with_capacity(frames.len() * 2);
    for (head, frame) in heads.iter().zip(frames) {
        slices.push(IoSlice::new(head));
        if !frame.body.is_empty() {
            slices.push(IoSlice::new(&frame.body));
        }
    }
    let total = slices.iter().map(|slice| slice.len()).sum();
    let mut rest = &mut slices[..];
    while !rest.is_empty() {
        let written = stream.write_vectored(rest).await?;
        if written == 0 {
            return Err(FrameError::Closed);
        }
        IoSlice::advance_slices(&mut rest, written);
    }
    stream.flush().await?;
    Ok(total)
}

/// When something last arrived.
#[derive(Debug)]
pub(super) struct LastSeen(Mutex<Instant>);

impl LastSeen {
    pub fn now() -> Self {
        Self(Mutex::new(Instant::now()))
    }

    pub fn touch(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    fn get(&self) -> Instant {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns once nothing has arrived for `limit`, calling `tick` every `interval` meanwhile.
    pub async fn silence(&self, limit: Duration, interval: Duration, tick: impl Fn()) -> FrameError {
        loop {
            tokio::time::sleep(interval).await;
            if self.get().elapsed() > limit {
                return FrameError::Silent(limit);
            }
            tick();
        }
    }
}
