//! The SQL of an archive that holds everything: `pg_restore` makes it, without a server.
//!
//! Invariant: a script with its last comment is the whole of a whole archive. It is written while the archive is read, so
//! what was written before an error is a part.

use std::{
    io::{self, Cursor, Read, Write},
    process::Stdio,
    sync::atomic::AtomicBool,
};

use crate::{
    child::{self, Input, ProgramError, Running},
    intake::{Intake, IntakeError, Passed},
    programs::{Programs, ProgramsError},
    resolve::Environment,
};

const BUFFER_LEN_BYTES: usize = 64 << 10;

/// Why there is no script, or no whole one.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PlainError {
    /// No `pg_restore` is there that is as new as the archive.
    #[error(
        "only pg_restore makes SQL of an archive, and none of version {} or newer was found",
        archive.map_or_else(|| "the archive's".to_owned(), |major| major.to_string())
    )]
    NoProgram {
        /// The major version of the `pg_dump` that wrote the archive.
        archive: Option<u32>,
        /// What was met where programs are.
        #[source]
        source: Box<ProgramsError>,
    },
    /// The archive cannot be read to its end, or is not whole.
    #[error(transparent)]
    Archive(#[from] IntakeError),
    /// `pg_restore` failed.
    #[error(transparent)]
    Program(#[from] ProgramError),
    /// The script could not be written.
    #[error("cannot write the script")]
    Write(#[source] io::Error),
}

/// Writes the archive's SQL to `out`.
///
/// # Errors
/// When no `pg_restore` fits, before the first byte; when the archive is not whole, `pg_restore` fails, `out` takes no
/// more or `stop` is set, after some, and then the last comment lacks or nothing may be believed.
pub fn write_plain(
    archive: &mut (dyn Read + Send),
    environment: Environment<'_>,
    stop: &AtomicBool,
    out: &mut dyn Write,
) -> Result<(), PlainError> {
    let intake = Intake::open(archive, stop)?;
    let major = intake
        .scanner()
        .head()
        .and_then(|head| head.program_major());
    let start = intake.into_start();
    let programs = Programs::find(major.unwrap_or(0), environment).map_err(|source| {
        PlainError::NoProgram {
            archive: major,
            source: Box::new(source),
        }
    })?;
    let mut command = child::command(&programs.program("pg_restore"), None);
    command
        .arg("--file=-")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    let mut running = Running::start(command)?;
    let child = running.child();
    let stdin = child.stdin.take().expect("standard input is a pipe");
    let mut stdout = child.stdout.take().expect("standard output is a pipe");
    let stdin = Input::new(stdin, stop).map_err(|source| running.contact(source))?;
    std::thread::scope(|scope| {
        let feeder = scope.spawn(move || {
            let mut archive = Cursor::new(start).chain(archive);
            match Intake::open(&mut archive, stop)?.pass_on(stdin)? {
                Passed::All(_) => Ok(()),
                Passed::Refused(intake) => intake.follow_to_the_end().map(drop),
            }
        });
        let copied = copy(&mut stdout, out);
        if copied.is_err() {
            running.kill();
        }
        drop(stdout);
        let fed: Result<(), IntakeError> = feeder.join().expect("no thread panics while it reads");
        match copied {
            Err(Fault::Write(error)) => return Err(PlainError::Write(error)),
            Err(Fault::Read(error)) => return Err(running.contact(error).into()),
            Ok(()) => {}
        }
        // A bad archive is the cause, and what `pg_restore` says of it the consequence.
        fed?;
        running.wait_unless(stop)?;
        Ok(())
    })
}

/// Which side of a copy failed.
enum Fault {
    Read(io::Error),
    Write(io::Error),
}

fn copy(from: &mut dyn Read, to: &mut dyn Write) -> Result<(), Fault> {
    let mut buffer = vec![0; BUFFER_LEN_BYTES];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return to.flush().map_err(Fault::Write),
            Ok(count) => to.write_all(&buffer[..count]).map_err(Fault::Write)?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(Fault::Read(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        dump::{Dump, DumpOptions},
        moment::{Moment, MomentOptions},
        testing,
    };

    const LAST: &str = "-- PostgreSQL database dump complete";

    fn archive() -> Vec<u8> {
        let cluster = testing::cluster();
        let settings = testing::database(
            &cluster,
            "CREATE TABLE t AS SELECT i, repeat('x', 200) x FROM generate_series(1, 5000) i",
        );
        let moment =
            Moment::hold(&settings, &MomentOptions::default(), testing::runtime()).unwrap();
        let programs = testing::programs(&cluster);
        let mut dump = Dump::start(&moment, &programs, &DumpOptions::default()).unwrap();
        let mut bytes = Vec::new();
        dump.read_to_end(&mut bytes).unwrap();
        dump.finish().unwrap();
        bytes
    }

    fn plain(mut archive: &[u8], environment: Environment<'_>) -> (Result<(), PlainError>, String) {
        let mut script = Vec::new();
        let stop = AtomicBool::new(false);
        let written = write_plain(&mut archive, environment, &stop, &mut script);
        (written, String::from_utf8(script).unwrap())
    }

    #[test]
    fn a_whole_archive_becomes_a_whole_script_and_half_of_one_an_error() {
        let archive = archive();
        let (written, script) = plain(&archive, &|_| None);
        written.unwrap();
        assert!(script.contains("COPY public.t (i, x) FROM stdin;\n1\txxx"));
        assert!(script.contains(LAST));
        for cut in [archive.len() - 1, archive.len() / 2, 100, 0] {
            let (written, script) = plain(&archive[..cut], &|_| None);
            let error = written.unwrap_err();
            assert!(matches!(error, PlainError::Archive(_)), "{cut}: {error}");
            assert!(!script.contains(LAST) || cut == archive.len() - 1);
        }
    }

    #[test]
    fn pg_restore_that_fails_or_lacks_is_an_error() {
        let archive = archive();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().as_os_str().to_owned();
        let environment = |name: &str| (name == "LIFEBOAT_PG_BIN").then(|| path.clone());
        testing::script(
            &folder.path().join("pg_dump"),
            "echo 'pg_dump (PostgreSQL) 9.6'",
        );
        let (written, script) = plain(&archive, &environment);
        let error = written.unwrap_err();
        assert!(matches!(error, PlainError::NoProgram { .. }), "{error}");
        assert_eq!(script, "");
        let real = testing::programs(&testing::cluster()).program("pg_restore");
        testing::script(
            &folder.path().join("pg_dump"),
            "echo 'pg_dump (PostgreSQL) 99.1'",
        );
        for (then, words) in [
            ("; exit 1", "pg_restore ended with exit code 1"),
            ("; echo 'pg_restore: error: no space' >&2", "no space"),
            (" | head -c 1000; kill -9 $$", "SIGKILL"),
        ] {
            let script = format!("{} \"$@\"{then}", real.display());
            testing::script(&folder.path().join("pg_restore"), &script);
            let error = testing::chain(&plain(&archive, &environment).0.unwrap_err());
            assert!(error.contains(words), "{then}: {error}");
        }
    }

    #[test]
    fn an_output_that_is_full_and_a_wish_to_stop_end_it() {
        let archive = archive();
        let mut room = [0; 100_000];
        let stop = AtomicBool::new(false);
        let error = write_plain(&mut &archive[..], &|_| None, &stop, &mut &mut room[..]);
        assert!(matches!(error, Err(PlainError::Write(_))), "{error:?}");
        let stop = AtomicBool::new(true);
        let error = write_plain(&mut &archive[..], &|_| None, &stop, &mut io::sink());
        assert!(matches!(error, Err(PlainError::Archive(_))), "{error:?}");
    }
}
