//! A backup below a prefix of a store of objects.
//!
//! The store's client is asynchronous and the commands are not: the place has a runtime of one thread, which also sends
//! parts while the next one is read.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt, stream};
use object_store::path::Path;
use object_store::{Error, MultipartUpload, ObjectStore, ObjectStoreExt, PutMode, UpdateVersion};
use protocol::ids::ShardId;
use storage::manifest::FileRef;
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinHandle;

use super::offence::{Offence, knows_no_conditions};
use super::place::{Arriving, Holding, Pieces, Place};
use super::{BackupError, LIST_FILE, List, Listed, MAX_LIST_BYTES, digest, file_name, is_ours};

/// What is read at once, and what a large object is put together from: at least the 5 MiB that S3 wants of a part, and all
/// parts are equal, as some stores demand.
pub const PART_BYTES: usize = 8 << 20;
/// Parts on their way while the next is filled: memory is bounded by three parts and a piece.
const PARTS_ON_THEIR_WAY: usize = 2;
/// Objects that one request removes, as many as S3 takes.
const REMOVED_AT_ONCE: usize = 1000;
/// How long a store is given to forget the parts of an object that will not be.
const ABORT_TIMEOUT: Duration = Duration::from_secs(10);

/// A prefix of a store.
#[derive(Debug)]
pub struct ObjectPlace {
    store: Arc<dyn ObjectStore>,
    prefix: Path,
    shown: String,
    endpoint: String,
    part_bytes: usize,
    runtime: Runtime,
    /// What is there, by name, with lengths: asked once, then kept up.
    there: Option<BTreeMap<String, u64>>,
    /// The version of the list that was read, or written since.
    found: Option<UpdateVersion>,
}

impl ObjectPlace {
    /// A prefix of a store, with the names that messages have for the place and for the server.
    pub fn new(
        store: Arc<dyn ObjectStore>,
        prefix: Path,
        shown: String,
        endpoint: String,
    ) -> Result<Self, BackupError> {
        let runtime =
            Builder::new_multi_thread().worker_threads(1).thread_name("backup-store").enable_all().build();
        let runtime = runtime.map_err(BackupError::io(std::path::Path::new(&shown)))?;
        Ok(Self { store, prefix, shown, endpoint, part_bytes: PART_BYTES, runtime, there: None, found: None })
    }

    /// With parts of another size.
    #[cfg(test)]
    pub fn with_part_bytes(self, part_bytes: usize) -> Self {
        Self { part_bytes, ..self }
    }

    fn path(&self, name: &str) -> Path {
        let whole = if self.prefix.is_root() { name.to_owned() } else { format!("{}/{name}", self.prefix) };
        Path::parse(whole).expect("names are those of the layout, or were listed")
    }

    fn failed(&self, name: &str, error: &Error) -> BackupError {
        BackupError::Store { name: self.shown(name), offence: Offence::of(error, &self.endpoint) }
    }

    fn wait<T>(&self, name: &str, future: impl Future<Output = Result<T, Error>>) -> Result<T, BackupError> {
        self.runtime.block_on(future).map_err(|error| self.failed(name, &error))
    }

    /// The list's bytes and version.
    fn read_list(&self) -> Result<Option<(Vec<u8>, UpdateVersion)>, BackupError> {
        let got = match self.runtime.block_on(self.store.get(&self.path(LIST_FILE))) {
            Ok(got) => got,
            Err(Error::NotFound { .. }) => {
                // Some stores say so of an object in a bucket that is not there.
                let mut objects = self.store.list(Some(&self.prefix));
                self.wait("", async move { objects.next().await.transpose() })?;
                return Ok(None);
            }
            Err(error) => return Err(self.failed(LIST_FILE, &error)),
        };
        if got.meta.size > MAX_LIST_BYTES {
            let reason = format!("{} bytes, allowed are {MAX_LIST_BYTES}", got.meta.size);
            return Err(BackupError::Damaged { file: self.shown(LIST_FILE), reason });
        }
        let version = UpdateVersion { e_tag: got.meta.e_tag.clone(), version: got.meta.version.clone() };
        let bytes = self.wait(LIST_FILE, got.bytes())?;
        Ok(Some((bytes.to_vec(), version)))
    }

    /// What is there, asked for if it is not known.
    fn there(&mut self) -> Result<&mut BTreeMap<String, u64>, BackupError> {
        if self.there.is_none() {
            self.there = Some(self.look()?);
        }
        Ok(self.there.get_or_insert_default())
    }

    fn look(&self) -> Result<BTreeMap<String, u64>, BackupError> {
        let objects = self.store.list(Some(&self.prefix)).map_ok(|meta| (meta.location, meta.size));
        let objects: Vec<(Path, u64)> = self.wait("", objects.try_collect())?;
        let ours = objects.into_iter().filter_map(|(path, size)| {
            let name = path.as_ref().strip_prefix(self.prefix.as_ref())?.trim_start_matches('/');
            is_ours(name).then(|| (name.to_owned(), size))
        });
        Ok(ours.collect())
    }

    fn write(&self, name: &str, bytes: Vec<u8>, mode: PutMode) -> Result<UpdateVersion, Error> {
        let path = self.path(name);
        let put = self.store.put_opts(&path, bytes.into(), mode.into());
        self.runtime.block_on(put).map(UpdateVersion::from)
    }

    /// Whether the list is still the one that was read or written.
    fn unchanged(&self) -> Result<bool, BackupError> {
        let now = self.read_list()?.map(|(_, version)| version.e_tag);
        Ok(now == self.found.as_ref().map(|version| version.e_tag.clone()))
    }

    fn overtaken(&self) -> BackupError {
        BackupError::Overtaken { place: self.shown.clone() }
    }

    /// Reads a short document and checks its digest.
    pub fn read_listed(&self, name: &str, listed: &Listed) -> Result<Vec<u8>, BackupError> {
        let got = match self.runtime.block_on(self.store.get(&self.path(name))) {
            Err(Error::NotFound { .. }) => {
                let reason = "the object is missing".to_owned();
                return Err(BackupError::Damaged { file: self.shown(name), reason });
            }
            got => got.map_err(|error| self.failed(name, &error))?,
        };
        // A list may be any file's; it does not decide how much memory is taken.
        if got.meta.size != listed.bytes {
            return Err(BackupError::another_digest(self.shown(name)));
        }
        let bytes = self.wait(name, got.bytes())?;
        if digest(&bytes) != listed.digest {
            return Err(BackupError::another_digest(self.shown(name)));
        }
        Ok(bytes.to_vec())
    }
}

impl Place for ObjectPlace {
    fn shown(&self, name: &str) -> String {
        if name.is_empty() { self.shown.clone() } else { format!("{}/{name}", self.shown) }
    }

    fn list(&mut self) -> Result<Option<List>, BackupError> {
        let Some((bytes, version)) = self.read_list()? else {
            self.found = None;
            return Ok(None);
        };
        self.found = Some(version);
        List::decode(&bytes, self.shown(LIST_FILE)).map(Some)
    }

    fn holding(&mut self, name: &str, file: &FileRef) -> Result<Holding, BackupError> {
        Ok(match self.there()?.get(name) {
            None => Holding::Absent,
            Some(len) if *len == file.len_bytes => Holding::Whole,
            Some(_) => Holding::Damaged,
        })
    }

    fn put(&mut self, name: &str, bytes: &[u8]) -> Result<(), BackupError> {
        let len = bytes.len() as u64;
        if self.there()?.get(name) != Some(&len) {
            self.write(name, bytes.to_vec(), PutMode::Overwrite)
                .map_err(|error| self.failed(name, &error))?;
            self.there()?.insert(name.to_owned(), len);
        }
        Ok(())
    }

    fn receive<'a>(&'a mut self, name: &str, file: &FileRef) -> Result<Box<dyn Arriving + 'a>, BackupError> {
        Ok(Box::new(Rising {
            name: name.to_owned(),
            file: *file,
            arrived: 0,
            hasher: blake3::Hasher::new(),
            part: Vec::with_capacity(
                self.part_bytes.min(usize::try_from(file.len_bytes).unwrap_or(usize::MAX)),
            ),
            upload: None,
            on_their_way: VecDeque::new(),
            place: self,
        }))
    }

    fn names(&mut self) -> Result<BTreeMap<String, u64>, BackupError> {
        let there = self.look()?;
        self.there = Some(there.clone());
        Ok(there)
    }

    fn publish(&mut self, list: &List) -> Result<(), BackupError> {
        let bytes = list.encode();
        let mode = match &self.found {
            None => Some(PutMode::Create),
            // Without a tag of what was read there is nothing to compare.
            Some(found) => found.e_tag.is_some().then(|| PutMode::Update(found.clone())),
        };
        if let Some(mode) = mode {
            match self.write(LIST_FILE, bytes.clone(), mode) {
                Ok(version) => {
                    self.found = Some(version);
                    return Ok(());
                }
                Err(Error::AlreadyExists { .. } | Error::Precondition { .. } | Error::NotModified { .. }) => {
                    // The first answer may have been lost, and the second attempt found what the first had written.
                    let now = self.read_list()?.filter(|(now, _)| *now == bytes);
                    let (_, version) = now.ok_or_else(|| self.overtaken())?;
                    self.found = Some(version);
                    return Ok(());
                }
                Err(error) if knows_no_conditions(&error) => {}
                Err(error) => return Err(self.failed(LIST_FILE, &error)),
            }
        }
        // The next best thing: a run that writes its list between these two requests is not seen.
        if !self.unchanged()? {
            return Err(self.overtaken());
        }
        let written = self.write(LIST_FILE, bytes, PutMode::Overwrite);
        self.found = Some(written.map_err(|error| self.failed(LIST_FILE, &error))?);
        Ok(())
    }

    /// Stops where the list is not the one any more that this run read or wrote: another may name what was to go.
    fn remove(&mut self, names: Vec<String>) -> Result<(), BackupError> {
        for names in names.chunks(REMOVED_AT_ONCE) {
            if !self.unchanged()? {
                break;
            }
            let paths: Vec<Result<Path, Error>> = names.iter().map(|name| Ok(self.path(name))).collect();
            let removed = self.store.delete_stream(stream::iter(paths).boxed());
            self.wait("", removed.try_for_each(|_| async { Ok(()) }))?;
            if let Some(there) = &mut self.there {
                for name in names {
                    there.remove(name);
                }
            }
        }
        Ok(())
    }
}

/// What is missing is no error of the place.
impl Pieces for ObjectPlace {
    type Error = BackupError;

    fn piece(&mut self, shard: ShardId, file: &FileRef, offset: u64) -> Result<Option<Vec<u8>>, BackupError> {
        let name = file_name(shard, file);
        // In pieces, each a request: one for all of a file would have to end within the time of a request.
        let end = file.len_bytes.min(offset + self.part_bytes as u64);
        match self.runtime.block_on(self.store.get_range(&self.path(&name), offset..end)) {
            Ok(bytes) => Ok(Some(bytes.to_vec())),
            Err(Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(self.failed(&name, &error)),
        }
    }
}

/// An object on its way up. A short one is put at once when it is whole; of a longer one the parts go while more arrives.
struct Rising<'a> {
    place: &'a mut ObjectPlace,
    name: String,
    file: FileRef,
    arrived: u64,
    hasher: blake3::Hasher,
    /// The part that is being filled.
    part: Vec<u8>,
    upload: Option<Box<dyn MultipartUpload>>,
    on_their_way: VecDeque<JoinHandle<Result<(), Error>>>,
}

impl Rising<'_> {
    fn send_part(&mut self) -> Result<(), BackupError> {
        if self.upload.is_none() {
            let path = self.place.path(&self.name);
            let begun = self.place.store.put_multipart(&path);
            self.upload = Some(self.place.wait(&self.name, begun)?);
        }
        self.wait_for_parts(PARTS_ON_THEIR_WAY - 1)?;
        let part = std::mem::replace(&mut self.part, Vec::with_capacity(self.place.part_bytes));
        if let Some(upload) = &mut self.upload {
            self.on_their_way.push_back(self.place.runtime.spawn(upload.put_part(part.into())));
        }
        Ok(())
    }

    fn wait_for_parts(&mut self, but: usize) -> Result<(), BackupError> {
        while self.on_their_way.len() > but
            && let Some(part) = self.on_their_way.pop_front()
        {
            self.place.wait(&self.name, async { part.await? })?;
        }
        Ok(())
    }
}

impl Arriving for Rising<'_> {
    fn arrived(&self) -> u64 {
        self.arrived
    }

    fn append(&mut self, mut piece: &[u8]) -> Result<(), BackupError> {
        self.hasher.update(piece);
        self.arrived += piece.len() as u64;
        while !piece.is_empty() {
            let (now, later) = piece.split_at(piece.len().min(self.place.part_bytes - self.part.len()));
            self.part.extend_from_slice(now);
            piece = later;
            // The last part waits for the digest; an object of one part needs no upload of parts.
            let more = !piece.is_empty() || self.arrived < self.file.len_bytes;
            if more && self.part.len() == self.place.part_bytes {
                self.send_part()?;
            }
        }
        Ok(())
    }

    fn finish(mut self: Box<Self>) -> Result<bool, BackupError> {
        if *self.hasher.finalize().as_bytes() != self.file.hash {
            return Ok(false);
        }
        if self.upload.is_some() {
            self.send_part()?;
            self.wait_for_parts(0)?;
        }
        match self.upload.take() {
            Some(mut upload) => {
                if let Err(error) = self.place.wait(&self.name, upload.complete()) {
                    self.upload = Some(upload);
                    return Err(error);
                }
            }
            None => {
                let part = std::mem::take(&mut self.part);
                let written = self.place.write(&self.name, part, PutMode::Overwrite);
                written.map_err(|error| self.place.failed(&self.name, &error))?;
            }
        }
        self.place.there()?.insert(self.name.clone(), self.file.len_bytes);
        Ok(true)
    }
}

impl Drop for Rising<'_> {
    /// Parts of an object that will not be are paid for until somebody aborts its upload. If that fails, too, the bucket's
    /// rule for such leftovers does it.
    fn drop(&mut self) {
        let Some(mut upload) = self.upload.take() else { return };
        for part in self.on_their_way.drain(..) {
            part.abort();
        }
        let _ =
            self.place.runtime.block_on(async { tokio::time::timeout(ABORT_TIMEOUT, upload.abort()).await });
    }
}
