//! Where the bytes of a segment go while it is built: memory, or a file in large pieces.

use std::io;

use crate::fs::FsFile;

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
        self.file.sync_data()?;
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
