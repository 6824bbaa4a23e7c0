//! Where the bytes of a segment go while it is built: memory, or a file in large pieces.

use std::io;

use crate::fs::FsFile;
use crate::mutant::{self, Mutant};

/// Takes the bytes of a segment in order.
pub trait Sink {
    /// Appends bytes.
    fn write(&mut self, bytes: &[u8]) -> io::Result<()>;
}

impl Sink for Vec<u8> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.extend_from_slice(bytes);
        Ok(())
    }
}

/// A new file, written through a buffer. The file is neither flushed nor durable before [`FileSink::finish`].
pub struct FileSink<File> {
    file: File,
    written: u64,
    buffer: Vec<u8>,
}

const BUFFER_LEN: usize = 1 << 20;

impl<File: FsFile> FileSink<File> {
    /// Writes from the beginning of `file`, which should be new.
    pub fn new(file: File) -> Self {
        Self { file, written: 0, buffer: Vec::with_capacity(BUFFER_LEN) }
    }

    /// Writes what is buffered and makes the file's content durable. Its name is the caller's affair.
    pub fn finish(mut self) -> io::Result<File> {
        self.flush()?;
        if !mutant::is(Mutant::FilesNotSynced) {
            self.file.sync_data()?;
        }
        Ok(self.file)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.write_all_at(self.written, &self.buffer)?;
        self.written += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }
}

impl<File: FsFile> Sink for FileSink<File> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= BUFFER_LEN { self.flush() } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::{Fs, OpenMode, real::RealFs};

    #[test]
    fn pieces_of_any_size_arrive_in_order() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let path = dir.path().join("file");
        let mut sink = FileSink::new(RealFs.open(&path, OpenMode::CreateNew).expect("new file"));
        let mut expected = vec![];
        for len in [0, 1, 7, BUFFER_LEN - 9, 1, 3 * BUFFER_LEN, 5] {
            let piece: Vec<u8> = (0..len).map(|i| (i * 31 + len) as u8).collect();
            sink.write(&piece).expect("room on disk");
            expected.extend_from_slice(&piece);
        }
        sink.finish().expect("room on disk");
        let read = RealFs.read(&path, u64::MAX).expect("the file is there");
        assert!(read == expected);
    }
}
