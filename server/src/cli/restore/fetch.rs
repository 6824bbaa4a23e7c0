//! Brings a backup from a bucket into a directory.
//!
//! Archives are read with the code that serves queries, which maps files: ranges over the network under it would fetch most
//! bytes more than once, since metrics, logs and spans are passes of their own, and would leave the check of all digests
//! before the first write to a pass more. So each object is fetched once, into the layout that it has in the bucket, and
//! the restore goes on as from a directory.

use std::path::PathBuf;

use protocol::ids::ShardId;
use storage::fs::Fs;
use storage::fs::real::RealFs;
use storage::manifest::{FileRef, Manifest};
use storage::verify::Findings;
use tempfile::TempDir;

use crate::backup::dir::DirPlace;
use crate::backup::objects::ObjectPlace;
use crate::backup::place::{Holding, Moved, Place, transfer};
use crate::backup::{self, BackupError, List, Listed};
use crate::cli::table::bytes;
use crate::cli::{CliError, complain};

/// Where a backup is fetched to. Nothing in it is ever removed by us but a directory that we made: what else lies there is
/// others', or of use to the next run.
pub(super) struct Scratch {
    pub place: DirPlace<RealFs>,
    // Goes when the place is closed.
    _temporary: Option<TempDir>,
}

impl Scratch {
    /// The given directory, made if it is not there; else a new one among the system's temporary files.
    pub fn open(given: Option<PathBuf>) -> Result<Self, BackupError> {
        if let Some(dir) = given {
            return Ok(Self { place: DirPlace::open(dir)?, _temporary: None });
        }
        let made = tempfile::Builder::new().prefix("pharos-restore-").tempdir();
        let made = made.map_err(BackupError::io(&std::env::temp_dir()))?;
        Ok(Self { place: DirPlace::open(made.path().to_owned())?, _temporary: Some(made) })
    }
}

/// Fetches what a list names and the directory lacks. What is damaged is noted, all of it, and left out.
pub(super) fn fetch<F: Fs>(
    from: &mut ObjectPlace,
    list: &List,
    to: &mut DirPlace<F>,
    found: &mut Findings,
) -> Result<(), CliError> {
    let files = documents(from, list, to, found)?;
    let mut lacking = Vec::new();
    for (shard, file) in &files {
        if to.holding(&backup::file_name(*shard, file), file)? != Holding::Whole {
            lacking.push((*shard, *file));
        }
    }
    let sum = |files: &[(ShardId, FileRef)]| files.iter().map(|(_, file)| file.len_bytes).sum::<u64>();
    let (all_bytes, needed_bytes, free_bytes) = (sum(&files), sum(&lacking), to.free_bytes()?);
    let dir = to.dir().display().to_string();
    complain(&format!(
        "{} of {} are to be fetched into {dir}, which has room for {}",
        bytes(needed_bytes),
        bytes(all_bytes),
        bytes(free_bytes)
    ));
    if needed_bytes > free_bytes {
        return Err(CliError::Failed(format!(
            "{dir} has no room for the backup: {} are needed, {} are free; give a larger disk with --scratch",
            bytes(needed_bytes),
            bytes(free_bytes)
        )));
    }
    let mut fetched_bytes = 0;
    for (shard, file) in &lacking {
        let reason = match transfer(from, to, *shard, file, &mut fetched_bytes)? {
            Moved::There | Moved::Sent | Moved::Replaced => continue,
            Moved::Gone => "the object is missing",
            Moved::Damaged => "the content is not what the name says",
        };
        found.add(from.shown(&backup::file_name(*shard, file)), None, reason);
    }
    // A backup that ran meanwhile removed what its list does not name.
    if !found.damage.is_empty() && from.list()?.as_ref() != Some(list) {
        return Err(CliError::Failed(format!(
            "{} was replaced by a newer backup while it was fetched; nothing was restored, run it again",
            from.shown("")
        )));
    }
    Ok(())
}

/// Fetches the state and the manifests; the files that these name.
fn documents<F: Fs>(
    from: &mut ObjectPlace,
    list: &List,
    to: &mut DirPlace<F>,
    found: &mut Findings,
) -> Result<Vec<(ShardId, FileRef)>, CliError> {
    let mut document = |name: &str, listed: &Listed| -> Result<Option<Vec<u8>>, CliError> {
        match from.read_listed(name, listed) {
            Ok(bytes) => {
                to.put(name, &bytes)?;
                Ok(Some(bytes))
            }
            Err(BackupError::Damaged { file, reason }) => {
                found.add(file, None, reason);
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    };
    document(&backup::state_name(&list.state), &list.state)?;
    let mut files = Vec::new();
    for (shard, listed) in &list.shards {
        let bytes = document(&backup::manifest_name(*shard, listed), listed)?;
        // One that can not be read is told by whoever reads it all.
        if let Some(manifest) = bytes.and_then(|bytes| Manifest::decode(&bytes).ok()) {
            files.extend(manifest.files().into_iter().map(|file| (*shard, file)));
        }
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use storage::fs::mem::MemFs;
    use storage::manifest::{FileKind, RegistryFile};

    use super::*;
    use crate::backup::testing::Objects;

    const SHARD: ShardId = ShardId(3);

    /// A backup of one shard: a file of 300 bytes and one of 20.
    fn stored() -> (Objects, List, Vec<FileRef>) {
        let objects = Objects::new();
        let mut place = objects.place();
        let (long, short) = (vec![7; 300], vec![8; 20]);
        let mut manifest = Manifest::empty(SHARD);
        let file = FileRef::of(&long, FileKind::Registry);
        manifest.registry.push(RegistryFile { file, first: 0, count: 1 });
        manifest.metadata = Some(FileRef::of(&short, FileKind::Metadata));
        let files = manifest.files();
        for file in &files {
            let bytes = if file.len_bytes == 300 { &long } else { &short };
            objects.write(&format!("a/b/{}", backup::file_name(SHARD, file)), bytes);
        }
        let document = manifest.encode();
        let mut list = List::new("c".to_owned(), 7, Listed::of(b"{}"));
        list.shards.insert(SHARD, Listed::of(&document));
        place.put(&backup::state_name(&list.state), b"{}").expect("a put");
        place.put(&backup::manifest_name(SHARD, &list.shards[&SHARD]), &document).expect("a put");
        place.publish(&list).expect("a put");
        (objects, list, files)
    }

    fn scratch() -> (MemFs, DirPlace<MemFs>) {
        let fs = MemFs::new(1);
        fs.create_dir_durable(Path::new("/scratch")).expect("a directory");
        (fs.clone(), DirPlace::on(fs, "/scratch".into()))
    }

    /// What is found damaged.
    fn fetched(objects: &Objects, list: &List, to: &mut DirPlace<MemFs>) -> Result<Vec<String>, CliError> {
        let mut found = Findings::default();
        let mut place = objects.place();
        place.list()?;
        fetch(&mut place, list, to, &mut found)?;
        Ok(found.damage.iter().map(crate::cli::verify::line).collect())
    }

    #[test]
    fn what_is_there_is_not_fetched_again() {
        let (objects, list, files) = stored();
        let (fs, mut to) = scratch();
        assert_eq!(fetched(&objects, &list, &mut to).expect("fetched"), Vec::<String>::new());
        let names = to.names().expect("names");
        assert_eq!(names.len(), 2 + files.len(), "{names:?}");
        assert!(to.list().expect("readable").is_none(), "a directory of files, no backup");
        // Neither asked for nor missed: the objects may be gone.
        for file in &files {
            objects.delete(&format!("a/b/{}", backup::file_name(SHARD, file)));
        }
        assert_eq!(fetched(&objects, &list, &mut to).expect("fetched"), Vec::<String>::new());
        // What is damaged in the directory is fetched anew, so now it is missed.
        fs.flip_bit(&Path::new("/scratch").join(backup::file_name(SHARD, &files[0])), 3, 1).expect("a byte");
        let damage = fetched(&objects, &list, &mut to).expect("fetched");
        let name = format!("s3://bucket/a/b/{}", backup::file_name(SHARD, &files[0]));
        assert_eq!(damage, [format!("{name}: the object is missing")]);
    }

    #[test]
    fn all_that_is_damaged_is_named() {
        let (objects, list, files) = stored();
        let mut expected = Vec::new();
        for file in &files {
            let name = backup::file_name(SHARD, file);
            let mut bytes = objects.read(&format!("a/b/{name}")).expect("there").to_vec();
            bytes[5] ^= 1;
            objects.write(&format!("a/b/{name}"), &bytes);
            expected.push(format!("s3://bucket/a/b/{name}: the content is not what the name says"));
        }
        let state = backup::state_name(&list.state);
        objects.write(&format!("a/b/{state}"), b"{ }");
        expected.insert(0, format!("s3://bucket/a/b/{state}: its digest is another"));
        let (_, mut to) = scratch();
        assert_eq!(fetched(&objects, &list, &mut to).expect("read"), expected);
        assert!(
            to.names().expect("names").keys().all(|name| name.contains("manifest-")),
            "nothing of it is kept"
        );
    }

    #[test]
    fn room_is_looked_for_first() {
        let (objects, list, _) = stored();
        let (fs, mut to) = scratch();
        fs.set_quota(Some(fs.used_bytes() + 400));
        let error = fetched(&objects, &list, &mut to).expect_err("320 bytes and documents are too much");
        assert!(error.to_string().contains("no room for the backup: 320 B are needed"), "{error}");
        assert!(to.names().expect("names").keys().all(|name| !name.contains("/files/")));
    }

    #[test]
    fn a_backup_that_is_replaced_meanwhile_is_not_called_damaged() {
        let (objects, list, files) = stored();
        let mut newer = list.clone();
        newer.begun_ms += 1;
        let mut place = objects.place();
        place.list().expect("readable");
        place.publish(&newer).expect("a put");
        objects.delete(&format!("a/b/{}", backup::file_name(SHARD, &files[0])));
        let (_, mut to) = scratch();
        let error = fetched(&objects, &list, &mut to).expect_err("a file is gone").to_string();
        assert!(error.contains("replaced by a newer backup"), "{error}");
    }
}
