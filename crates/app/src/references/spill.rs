//! Paths and the rows that name them, in a file without a name, for the time until the walk is done.

use std::{
    fs::File,
    io::{self, BufReader, BufWriter, Read, Seek, Write},
};

/// Written first, then read once.
pub(super) struct Spill {
    file: BufWriter<File>,
    records: u64,
}

impl Spill {
    pub(super) fn new(file: File) -> Self {
        Self {
            file: BufWriter::with_capacity(64 << 10, file),
            records: 0,
        }
    }

    /// Row `key` of the table of column number `column` names `path`.
    pub(super) fn put(&mut self, column: usize, key: &[u8], path: &[u8]) -> io::Result<()> {
        for part in [&(column as u32).to_le_bytes(), key, path] {
            let length = u32::try_from(part.len()).map_err(io::Error::other)?;
            self.file.write_all(&length.to_le_bytes())?;
            self.file.write_all(part)?;
        }
        self.records += 1;
        Ok(())
    }

    /// Gives back everything in the order in which it was put.
    pub(super) fn read(self, mut each: impl FnMut(usize, &[u8], &[u8])) -> io::Result<()> {
        let mut file = self
            .file
            .into_inner()
            .map_err(io::IntoInnerError::into_error)?;
        file.rewind()?;
        let mut file = BufReader::with_capacity(64 << 10, file);
        let mut parts = [const { Vec::new() }; 3];
        for _ in 0..self.records {
            for part in &mut parts {
                let mut length = [0; 4];
                file.read_exact(&mut length)?;
                part.resize(u32::from_le_bytes(length) as usize, 0);
                file.read_exact(part)?;
            }
            let column = parts[0]
                .first_chunk()
                .map_or(0, |bytes| u32::from_le_bytes(*bytes));
            each(column as usize, &parts[1], &parts[2]);
        }
        Ok(())
    }
}
