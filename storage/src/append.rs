//! A vector that grows at its end while readers hold views of it.
//!
//! Elements live in chunks of set-once slots behind `Arc`s and never move, so a view is two words and a length, and
//! neither side waits for the other. The writer publishes a length by handing out a view (through whatever lock or
//! channel carries it): a reader looks only at slots below the length of its view, which were set before.
//!
//! Invariant: slots below the length are set; slots at or above it are not looked at by anyone but the writer.

use std::sync::{Arc, OnceLock};

const CHUNK: usize = 1024;

type Chunk<T> = Arc<[OnceLock<T>]>;

/// The writer's side.
#[derive(Debug)]
pub struct AppendVec<T> {
    chunks: Arc<Vec<Chunk<T>>>,
    len: usize,
}

/// What a reader sees: the first elements, as many as there were when the view was taken.
#[derive(Debug)]
pub struct AppendView<T> {
    chunks: Arc<Vec<Chunk<T>>>,
    len: usize,
}

impl<T> Default for AppendVec<T> {
    fn default() -> Self {
        Self { chunks: Arc::new(Vec::new()), len: 0 }
    }
}

impl<T> Clone for AppendView<T> {
    fn clone(&self) -> Self {
        Self { chunks: Arc::clone(&self.chunks), len: self.len }
    }
}

impl<T> AppendVec<T> {
    /// Appends an element.
    pub fn push(&mut self, value: T) {
        let (chunk, slot) = (self.len / CHUNK, self.len % CHUNK);
        if chunk == self.chunks.len() {
            // Views share the list of chunks; the list is copied once per chunk, the chunks never.
            let mut chunks = Vec::with_capacity(chunk + 1);
            chunks.extend(self.chunks.iter().cloned());
            chunks.push((0..CHUNK).map(|_| OnceLock::new()).collect());
            self.chunks = Arc::new(chunks);
        }
        if self.chunks[chunk][slot].set(value).is_err() {
            unreachable!("slots at or above the length are never set");
        }
        self.len += 1;
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no element.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// An element.
    pub fn get(&self, index: usize) -> Option<&T> {
        get(&self.chunks, self.len, index)
    }

    /// A view of all elements so far.
    pub fn view(&self) -> AppendView<T> {
        AppendView { chunks: Arc::clone(&self.chunks), len: self.len }
    }

    /// Bytes that the slots take, without what the elements own.
    pub fn slot_bytes(&self) -> usize {
        self.chunks.len() * CHUNK * size_of::<OnceLock<T>>()
    }
}

impl<T> AppendView<T> {
    /// Number of elements.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no element.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// An element.
    pub fn get(&self, index: usize) -> Option<&T> {
        get(&self.chunks, self.len, index)
    }

    /// All elements in order.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.range(0, self.len)
    }

    /// The elements of a range, cut at the length.
    pub fn range(&self, start: usize, end: usize) -> impl Iterator<Item = &T> {
        (start..end.min(self.len)).filter_map(|i| self.get(i))
    }
}

fn get<T>(chunks: &[Chunk<T>], len: usize, index: usize) -> Option<&T> {
    if index >= len {
        return None;
    }
    chunks[index / CHUNK][index % CHUNK].get()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_view_keeps_its_length_while_the_vector_grows() {
        let mut all = AppendVec::default();
        assert!(all.view().is_empty());
        for i in 0..3 * CHUNK {
            let before = all.view();
            all.push(i);
            assert_eq!(before.len(), i);
            assert_eq!(before.get(i), None);
        }
        let view = all.view();
        assert!(view.iter().copied().eq(0..3 * CHUNK));
        assert_eq!(view.range(CHUNK - 1, CHUNK + 1).count(), 2);
        assert_eq!(all.get(CHUNK), Some(&CHUNK));
    }

    #[test]
    fn readers_on_other_threads_see_what_their_view_holds() {
        let mut all = AppendVec::default();
        std::thread::scope(|scope| {
            for i in 0..2 * CHUNK {
                all.push(i.to_string());
                if i % 300 == 0 {
                    let view = all.view();
                    scope.spawn(move || {
                        for (i, value) in view.iter().enumerate() {
                            assert_eq!(*value, i.to_string());
                        }
                    });
                }
            }
        });
    }
}
