//! How this crate reaches a folder: one component at a time or all at once by the kernel, never through a link.
//!
//! Invariant: whatever is opened here lies beneath the folder that was handed in. A component that is a symbolic
//! link, or that somebody swaps for one meanwhile, is an error and is never followed. Paths may be longer than the
//! kernel's limit of 4,096 bytes; the descriptors in between are closed at once.

use crate::error::{Error, ErrorKind};
use crate::metadata::{Identity, stat_open};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{Mode, OFlags, ResolveFlags, openat, openat2};
use rustix::io::Errno;

/// What fits into one call, with room for the closing NUL.
const PATH_BYTES_MAX: usize = 4000;
/// The kernel asks for another try when the tree is being moved about; more tries than this are an attack.
const TRIES_MAX: usize = 64;

const FOLDER: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

/// Refuses what cannot be the name of one entry: empty, `.`, `..`, or holding `/` or NUL.
pub(crate) fn check_name(name: &[u8]) -> Result<(), Error> {
    let reason = match name {
        b"" => "it is empty",
        b"." | b".." => "it names a folder above or itself",
        _ if name.contains(&b'/') => "it contains a slash",
        _ if name.contains(&0) => "it contains a NUL byte",
        _ => return Ok(()),
    };
    Err(Error::because(
        ErrorKind::InvalidName,
        "use the name",
        name,
        reason,
    ))
}

/// Opens the folder `name` in `folder`; an error if it is a symbolic link or anything else.
pub(crate) fn open_child(folder: BorrowedFd<'_>, name: &[u8]) -> Result<OwnedFd, Errno> {
    openat(folder, name, FOLDER, Mode::empty())
}

/// Opens the folder above an open one, if it is the object that is known to be there: for the way back up a tree,
/// which by paths alone would take time that grows with the square of its depth.
pub(crate) fn open_above(folder: BorrowedFd<'_>, above: Identity) -> Option<OwnedFd> {
    // Somebody may have moved the folder, and `..` then leads elsewhere; only the right object is taken.
    let fd = openat(folder, c"..", FOLDER, Mode::empty()).ok()?;
    (stat_open(fd.as_fd()).ok()?.identity() == above).then_some(fd)
}

/// Holds the object `name` without opening it, so that it can be looked at and acted on whatever becomes of its name.
pub(crate) fn hold(folder: BorrowedFd<'_>, name: &[u8]) -> Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(folder, name, flags, Mode::empty())
}

/// Opens the folder at `path`, names separated by `/`, beneath `root`; an empty path is `root` itself.
///
/// The path must consist of names that [`check_name`] has passed.
pub(crate) fn open_path(root: BorrowedFd<'_>, path: &[u8]) -> Result<OwnedFd, Errno> {
    open_path_with(root, path, OFlags::empty())
}

/// As [`open_path`], with flags of the caller's for the folder itself.
pub(crate) fn open_path_with(
    root: BorrowedFd<'_>,
    path: &[u8],
    extra: OFlags,
) -> Result<OwnedFd, Errno> {
    if path.is_empty() {
        return openat(root, c".", FOLDER | extra, Mode::empty());
    }
    let mut open: Option<OwnedFd> = None;
    let mut rest = path;
    while !rest.is_empty() {
        let (piece, after) = split_piece(rest);
        let base = open.as_ref().map_or(root, AsFd::as_fd);
        let extra = if after.is_empty() {
            extra
        } else {
            OFlags::empty()
        };
        open = Some(open_piece(base, piece, extra)?);
        rest = after;
    }
    Ok(open.expect("a path that is not empty has a piece"))
}

/// Cuts as many whole components as fit into one call off the front.
fn split_piece(path: &[u8]) -> (&[u8], &[u8]) {
    if path.len() <= PATH_BYTES_MAX {
        return (path, b"");
    }
    // A component has at most 255 bytes, so there is a slash; a longer one fails in the kernel with its own error.
    match path[..PATH_BYTES_MAX]
        .iter()
        .rposition(|byte| *byte == b'/')
    {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (path, b""),
    }
}

fn open_piece(base: BorrowedFd<'_>, piece: &[u8], extra: OFlags) -> Result<OwnedFd, Errno> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    for _ in 0..TRIES_MAX {
        match openat2(base, piece, FOLDER | extra, Mode::empty(), resolve) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            // Kernels before 5.6 do not know the call; some sandboxes forbid it.
            Err(Errno::NOSYS | Errno::PERM) => return open_stepwise(base, piece, extra),
            done => return done,
        }
    }
    Err(Errno::AGAIN)
}

fn open_stepwise(base: BorrowedFd<'_>, piece: &[u8], extra: OFlags) -> Result<OwnedFd, Errno> {
    let mut open: Option<OwnedFd> = None;
    let mut names = piece.split(|byte| *byte == b'/').peekable();
    while let Some(name) = names.next() {
        // Here alone nobody but this loop keeps `..` from leaving the root.
        if matches!(name, b"" | b"." | b"..") {
            return Err(Errno::XDEV);
        }
        let from = open.as_ref().map_or(base, AsFd::as_fd);
        let extra = if names.peek().is_none() {
            extra
        } else {
            OFlags::empty()
        };
        open = Some(openat(from, name, FOLDER | extra, Mode::empty())?);
    }
    Ok(open.expect("splitting yields at least one component"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    type Opener = fn(BorrowedFd<'_>, &[u8], OFlags) -> Result<OwnedFd, Errno>;
    const BOTH: [Opener; 2] = [open_piece, open_stepwise];

    #[test]
    fn a_name_that_could_leave_the_folder_is_refused() {
        for bad in [&b""[..], b".", b"..", b"a/b", b"/", b"a\0b"] {
            let error = check_name(bad).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidName);
        }
        for good in [&b"..."[..], b"-rf", b" ", b"a\nb", b"\xff\xfe", b"\\", b"*"] {
            check_name(good).unwrap();
        }
    }

    #[test]
    fn no_component_may_be_a_link_and_none_may_leave_the_root() {
        let scratch = tempfile::tempdir().unwrap();
        fs::create_dir_all(scratch.path().join("root/a/b")).unwrap();
        fs::create_dir_all(scratch.path().join("outside/b")).unwrap();
        symlink("../outside", scratch.path().join("root/link")).unwrap();
        symlink("a", scratch.path().join("root/inner")).unwrap();
        let root = fs::File::open(scratch.path().join("root")).unwrap();
        for open in BOTH {
            let open = |base, path| open(base, path, OFlags::NOATIME);
            assert!(open(root.as_fd(), &b"a/b"[..]).is_ok());
            assert!(open(root.as_fd(), b"link/b").is_err());
            assert!(open(root.as_fd(), b"link").is_err());
            assert!(open(root.as_fd(), b"inner/b").is_err());
            assert!(open(root.as_fd(), b"a/../../outside").is_err());
            assert!(open(root.as_fd(), b"/").is_err());
        }
    }

    #[test]
    fn a_long_path_is_cut_between_components() {
        let path = [b"0123456789".as_slice(); 1000].join(&b'/');
        let mut rest = path.as_slice();
        let mut joined = Vec::new();
        while !rest.is_empty() {
            let (piece, after) = split_piece(rest);
            assert!(piece.len() <= PATH_BYTES_MAX);
            assert!(!piece.starts_with(b"/") && !piece.ends_with(b"/"));
            if !joined.is_empty() {
                joined.push(b'/');
            }
            joined.extend_from_slice(piece);
            rest = after;
        }
        assert_eq!(joined, path);
    }
}
