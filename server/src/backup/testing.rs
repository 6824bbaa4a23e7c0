//! A store of objects in memory that fails from a given request on, and notes what it was asked to change.

use std::fmt;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    ObjectStoreExt, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result, UploadPart,
};

use super::objects::ObjectPlace;

/// The store. Clones share all of it.
#[derive(Clone, Debug)]
pub struct Objects {
    memory: Arc<InMemory>,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    /// Requests that are answered yet.
    left: AtomicU64,
    /// Whether it knows how to write on a condition.
    conditions: bool,
    /// Changes, in their order: `put NAME`, `part NAME`, `complete NAME`, `abort NAME`, `delete NAME`.
    changes: Mutex<Vec<String>>,
}

impl Objects {
    /// An empty store.
    pub fn new() -> Self {
        Self::over(InMemory::new(), u64::MAX, true)
    }

    fn over(memory: InMemory, requests: u64, conditions: bool) -> Self {
        let shared = Shared { left: AtomicU64::new(requests), conditions, changes: Mutex::default() };
        Self { memory: Arc::new(memory), shared: Arc::new(shared) }
    }

    /// A copy of what is in it that fails after so many requests.
    pub fn failing_after(&self, requests: u64) -> Self {
        Self::over(self.memory.fork(), requests, true)
    }

    /// The same content behind a store that does not write on conditions.
    pub fn without_conditions(&self) -> Self {
        let shared = Shared { left: AtomicU64::new(u64::MAX), conditions: false, changes: Mutex::default() };
        Self { memory: Arc::clone(&self.memory), shared: Arc::new(shared) }
    }

    /// The same content behind a store that answers again.
    pub fn mended(&self) -> Self {
        Self::over(self.memory.fork(), u64::MAX, true)
    }

    /// A backup's place in it, with parts of 64 bytes.
    pub fn place(&self) -> ObjectPlace {
        let (shown, endpoint) = ("s3://bucket/a/b".to_owned(), "http://store".to_owned());
        let place = ObjectPlace::new(Arc::new(self.clone()), Path::from("a/b"), shown, endpoint);
        place.expect("threads").with_part_bytes(64)
    }

    /// What was changed since the last question.
    pub fn changes(&self) -> Vec<String> {
        std::mem::take(&mut *self.shared.changes.lock().expect("no panic"))
    }

    /// Whether it failed a request.
    pub fn failed(&self) -> bool {
        self.shared.left.load(Ordering::SeqCst) == 0
    }

    /// Reads an object by its whole name.
    pub fn read(&self, name: &str) -> Option<Bytes> {
        let got = futures_util::FutureExt::now_or_never(async {
            self.memory.get(&Path::from(name)).await?.bytes().await
        });
        got.expect("memory does not wait").ok()
    }

    /// Writes an object by its whole name.
    pub fn write(&self, name: &str, bytes: &[u8]) {
        let path = Path::from(name);
        let put = self.memory.put(&path, bytes.to_vec().into());
        futures_util::FutureExt::now_or_never(put).expect("memory does not wait").expect("a put");
    }

    /// Removes an object by its whole name.
    pub fn delete(&self, name: &str) {
        let path = Path::from(name);
        let delete = self.memory.delete(&path);
        futures_util::FutureExt::now_or_never(delete).expect("memory does not wait").expect("a delete");
    }

    /// Names of all objects.
    pub fn names(&self) -> Vec<String> {
        let listed = self.memory.list(None).map(|meta| meta.expect("listed").location.to_string());
        futures_util::FutureExt::now_or_never(listed.collect()).expect("memory does not wait")
    }

    fn answer(&self) -> Result<()> {
        self.shared.answer()
    }

    fn note(&self, change: &str, path: &Path) {
        self.shared.note(change, path);
    }
}

impl Shared {
    fn answer(&self) -> Result<()> {
        let step = |left: u64| left.checked_sub(1);
        match self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, step) {
            Ok(_) => Ok(()),
            Err(_) => Err(Error::Generic { store: "test", source: "the line is cut".into() }),
        }
    }

    fn note(&self, change: &str, path: &Path) {
        self.changes.lock().expect("no panic").push(format!("{change} {path}"));
    }
}

impl fmt::Display for Objects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("test")
    }
}

#[async_trait]
impl ObjectStore for Objects {
    async fn put_opts(&self, path: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        self.answer()?;
        if !self.shared.conditions && options.mode != PutMode::Overwrite {
            let operation = "writing on a condition".to_owned();
            return Err(Error::NotImplemented { operation, implementer: "test".to_owned() });
        }
        let put = self.memory.put_opts(path, payload, options).await?;
        self.note("put", path);
        Ok(put)
    }

    async fn put_multipart_opts(
        &self,
        path: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.answer()?;
        let inner = self.memory.put_multipart_opts(path, options).await?;
        Ok(Box::new(Upload { inner, path: path.clone(), shared: Arc::clone(&self.shared) }))
    }

    async fn get_opts(&self, path: &Path, options: GetOptions) -> Result<GetResult> {
        self.answer()?;
        self.memory.get_opts(path, options).await
    }

    async fn get_ranges(&self, path: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.answer()?;
        self.memory.get_ranges(path, ranges).await
    }

    fn delete_stream(&self, paths: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let this = self.clone();
        let deleted = paths.then(move |path| {
            let this = this.clone();
            async move {
                let path = path?;
                this.answer()?;
                this.memory.delete(&path).await?;
                this.note("delete", &path);
                Ok(path)
            }
        });
        deleted.boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        match self.answer() {
            Ok(()) => self.memory.list(prefix),
            Err(error) => stream::iter([Err(error)]).boxed(),
        }
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.answer()?;
        self.memory.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.answer()?;
        self.memory.copy_opts(from, to, options).await
    }
}

#[derive(Debug)]
struct Upload {
    inner: Box<dyn MultipartUpload>,
    path: Path,
    shared: Arc<Shared>,
}

#[async_trait]
impl MultipartUpload for Upload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        if let Err(error) = self.shared.answer() {
            return Box::pin(async { Err(error) });
        }
        self.shared.note("part", &self.path);
        self.inner.put_part(data)
    }

    async fn complete(&mut self) -> Result<PutResult> {
        self.shared.answer()?;
        self.shared.note("complete", &self.path);
        self.inner.complete().await
    }

    async fn abort(&mut self) -> Result<()> {
        self.shared.answer()?;
        self.shared.note("abort", &self.path);
        self.inner.abort().await
    }
}
