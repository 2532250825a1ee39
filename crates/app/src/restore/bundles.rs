//! Files that are made of their parts: each by one worker, from its first byte to its last.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};

use lifeboat_files::{FileSlot, NewFile};
use lifeboat_repository::Counter;

use super::plan::Rebuilt;
use super::{Work, Writing};
use crate::bundle::copy_content;
use crate::text::{sentence, shown_path};

/// Files that are made at once: each takes some 25 MB of memory.
const AT_ONCE: usize = 2;

impl<'a> Work<'a> {
    /// Makes all of them, until somebody stops it or nothing more fits.
    pub(super) fn rebuild(&self, bundles: &[Rebuilt], writing: &Writing<'a>) {
        let next = AtomicUsize::new(0);
        let work = || {
            while let Some(bundle) = bundles.get(next.fetch_add(1, Ordering::Relaxed)) {
                if self.stop.load(Ordering::Relaxed) || writing.full.load(Ordering::Relaxed) {
                    return;
                }
                if let Err(error) = self.one_bundle(bundle, writing) {
                    writing.failed(self.progress, &bundle.path, &error);
                }
            }
        };
        std::thread::scope(|scope| {
            for _ in 1..AT_ONCE.min(bundles.len()) {
                scope.spawn(work);
            }
            work();
        });
    }

    fn one_bundle(
        &self,
        bundle: &Rebuilt,
        writing: &Writing<'a>,
    ) -> Result<(), lifeboat_files::Error> {
        let folder = self.folder(bundle.folder, writing)?;
        let name = &bundle.path[bundle.name_at..];
        let slot = folder.create_file(name, &bundle.metadata, bundle.attributes.clone())?;
        let restored = match slot {
            FileSlot::Kept(restored) => {
                self.progress.count(Counter::Bytes, bundle.metadata.size);
                restored
            }
            FileSlot::New(file) => {
                let mut out = Made {
                    work: self,
                    file: &file,
                    offset: 0,
                    error: None,
                };
                if let Err(unread) = copy_content(self.reader, &bundle.content, &mut out) {
                    return match out.error {
                        Some(error) => Err(error),
                        None if self.stop.load(Ordering::Relaxed) => Ok(()),
                        None => {
                            let path = shown_path(&bundle.path);
                            let text = format!("{path}: {}", sentence(&unread));
                            writing.problem(self.progress, text);
                            Ok(())
                        }
                    };
                }
                file.finish()?
            }
        };
        self.progress.count(Counter::Files, 1);
        writing.restored(restored, bundle.metadata.size, bundle.group);
        Ok(())
    }
}

/// A file while it is made.
struct Made<'m, 'a> {
    work: &'m Work<'a>,
    file: &'m NewFile<'a>,
    offset: u64,
    error: Option<lifeboat_files::Error>,
}

impl io::Write for Made<'_, '_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.work.stop.load(Ordering::Relaxed) {
            return Err(io::Error::other("it was asked to stop"));
        }
        if let Err(error) = self.file.write_at(bytes, self.offset) {
            self.error = Some(error);
            return Err(io::Error::other("the file cannot be written"));
        }
        self.offset += bytes.len() as u64;
        self.work.progress.count(Counter::Bytes, bytes.len() as u64);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
