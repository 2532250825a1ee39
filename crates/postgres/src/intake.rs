//! An archive on its way into `pg_restore`: read once, followed as it passes, complete or refused.
//!
//! Its table of contents is known before anything is passed on, so that a restore can be planned without reading
//! twice. Invariant: success means that the archive's last byte was read and that it was the archive's last.

use std::{
    fs::File,
    io::{self, Read, Seek as _, Write},
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
};

use crate::archive::{ArchiveError, ArchiveScanner, ArchiveSummary};

const BUFFER_LEN_BYTES: usize = 64 << 10;

/// Why an archive did not come in.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IntakeError {
    /// It cannot be read.
    #[error("cannot read the archive")]
    Read(#[source] io::Error),
    /// It is none, or damaged, or incomplete.
    #[error("the archive cannot be restored")]
    Archive(#[from] ArchiveError),
    /// It cannot be put on disk for parallel jobs.
    #[error("cannot write the archive to a temporary file in {}", folder.display())]
    Spool {
        /// The folder.
        folder: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// An archive being read, followed as it passes.
pub(crate) struct Intake<'a> {
    archive: &'a mut dyn Read,
    stop: &'a AtomicBool,
    scanner: ArchiveScanner,
    /// What was read to know the table of contents, and has not been passed on.
    start: Vec<u8>,
}

impl<'a> Intake<'a> {
    /// Reads until the table of contents is known. Once `stop` is set, reading fails.
    pub(crate) fn open(
        archive: &'a mut dyn Read,
        stop: &'a AtomicBool,
    ) -> Result<Self, IntakeError> {
        let mut intake = Self {
            archive,
            stop,
            scanner: ArchiveScanner::new(),
            start: Vec::new(),
        };
        let mut buffer = vec![0; BUFFER_LEN_BYTES];
        while !intake.scanner.knows_contents() {
            match intake.next(&mut buffer)? {
                Some(bytes) => intake.start.extend_from_slice(bytes),
                None => {
                    intake.scanner.finish()?;
                    return Err(ArchiveError::CutOff("in its table of contents").into());
                }
            }
        }
        Ok(intake)
    }

    /// What has been learnt of the archive.
    pub(crate) fn scanner(&self) -> &ArchiveScanner {
        &self.scanner
    }

    /// What was read so far, for somebody who reads on by himself.
    pub(crate) fn into_start(self) -> Vec<u8> {
        self.start
    }

    /// Passes everything on to `sink`, until the end or until it takes no more.
    pub(crate) fn pass_on(mut self, mut sink: impl Write) -> Result<Passed<'a>, IntakeError> {
        let start = std::mem::take(&mut self.start);
        let mut refused = sink.write_all(&start).is_err();
        let mut buffer = vec![0; BUFFER_LEN_BYTES];
        while !refused {
            let Some(bytes) = self.next(&mut buffer)? else {
                return Ok(Passed::All(self.scanner.finish()?));
            };
            refused = sink.write_all(bytes).is_err();
        }
        Ok(Passed::Refused(self))
    }

    /// Reads what is left, for a receiver that had what it wanted before the end.
    pub(crate) fn follow_to_the_end(mut self) -> Result<ArchiveSummary, IntakeError> {
        let mut buffer = vec![0; BUFFER_LEN_BYTES];
        while self.next(&mut buffer)?.is_some() {}
        Ok(self.scanner.finish()?)
    }

    /// Writes everything to a file that has no name and that only we can read.
    pub(crate) fn spool(mut self, folder: &Path) -> Result<(File, ArchiveSummary), IntakeError> {
        let failed = |source| IntakeError::Spool {
            folder: folder.to_owned(),
            source,
        };
        let mut file = tempfile::tempfile_in(folder).map_err(failed)?;
        file.write_all(&self.start).map_err(failed)?;
        let mut buffer = vec![0; BUFFER_LEN_BYTES];
        while let Some(bytes) = self.next(&mut buffer)? {
            file.write_all(bytes).map_err(failed)?;
        }
        let summary = self.scanner.finish()?;
        file.rewind().map_err(failed)?;
        Ok((file, summary))
    }

    /// The next bytes, followed; nothing at the end.
    fn next<'b>(&mut self, buffer: &'b mut [u8]) -> Result<Option<&'b [u8]>, IntakeError> {
        let count = loop {
            if self.stop.load(Ordering::Relaxed) {
                return Err(IntakeError::Read(io::Error::other("it was asked to stop")));
            }
            match self.archive.read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => break result.map_err(IntakeError::Read)?,
            }
        };
        self.scanner.feed(&buffer[..count])?;
        Ok((count != 0).then_some(&buffer[..count]))
    }
}

/// What became of an archive that was passed on.
pub(crate) enum Passed<'a> {
    /// It was taken to its end, and was complete.
    All(ArchiveSummary),
    /// The receiver stopped taking it; whether that is right, the receiver knows.
    Refused(Intake<'a>),
}
