//! An archive on its way into `pg_restore`: read once, followed as it passes, complete or refused.
//!
//! Its table of contents is known before anything is passed on, so that a restore can be planned without reading
//! twice. Invariant: success means that the archive's last byte was read and that it was the archive's last.

use std::{
    fs::File,
    io::{self, Read, Seek as _, Write},
    path::{Path, PathBuf},
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
    scanner: ArchiveScanner,
    /// What was read to know the table of contents, and has not been passed on.
    start: Vec<u8>,
}

impl<'a> Intake<'a> {
    /// Reads until the table of contents is known.
    pub(crate) fn open(archive: &'a mut dyn Read) -> Result<Self, IntakeError> {
        let mut intake = Self {
            archive,
            scanner: ArchiveScanner::new(),
            start: Vec::new(),
        };
        let mut buffer = vec![0; BUFFER_LEN_BYTES];
        while !intake.scanner.knows_contents() {
            let count = read_some(intake.archive, &mut buffer).map_err(IntakeError::Read)?;
            if count == 0 {
                intake.scanner.finish()?;
                return Err(ArchiveError::CutOff("in its table of contents").into());
            }
            intake.scanner.feed(&buffer[..count])?;
            intake.start.extend_from_slice(&buffer[..count]);
        }
        Ok(intake)
    }

    /// What has been learnt of the archive.
    pub(crate) fn scanner(&self) -> &ArchiveScanner {
        &self.scanner
    }

    /// Passes everything on to `sink`, which may stop taking it; the archive is followed to its end all the same.
    pub(crate) fn pass_on(mut self, mut sink: impl Write) -> Result<ArchiveSummary, IntakeError> {
        let mut open = sink.write_all(&self.start).is_ok();
        let mut buffer = vec![0; BUFFER_LEN_BYTES];
        loop {
            let count = read_some(self.archive, &mut buffer).map_err(IntakeError::Read)?;
            if count == 0 {
                drop(sink);
                return Ok(self.scanner.finish()?);
            }
            self.scanner.feed(&buffer[..count])?;
            open = open && sink.write_all(&buffer[..count]).is_ok();
        }
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
        loop {
            let count = read_some(self.archive, &mut buffer).map_err(IntakeError::Read)?;
            if count == 0 {
                break;
            }
            self.scanner.feed(&buffer[..count])?;
            file.write_all(&buffer[..count]).map_err(failed)?;
        }
        let summary = self.scanner.finish()?;
        file.rewind().map_err(failed)?;
        Ok((file, summary))
    }
}

fn read_some(archive: &mut dyn Read, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match archive.read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}
