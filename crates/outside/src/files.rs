//! Reading what a path names, where it may name anything: a FIFO that nobody writes into, a device, a file without end.
//!
//! Only regular files are opened, and never waited for. Everything in MSE that reads a file which somebody named, or
//! which lies where somebody could have put another, reads it so. What a shell hands over open (`<(command)`, a pipe into
//! `/dev/stdin`) is read to its end where a file is read whole.

use std::ffi::OsStr;
use std::fs::{self, File, FileType, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::Duration;

/// `O_NONBLOCK` of Linux (open(2)): opening a FIFO does not wait for its other end.
const NONBLOCK: i32 = 0o4000;

/// How long the other end of a pipe may say nothing.
const SILENCE: Duration = Duration::from_secs(60);

/// Opens a regular file for reading.
///
/// # Errors
/// What the system says; [`io::ErrorKind::InvalidInput`] for anything but a regular file, with words that name it.
pub fn open(path: &Path) -> io::Result<File> {
    open_with(path, 0)
}

/// The same with further flags of open(2), `O_NOFOLLOW` for instance.
///
/// # Errors
/// As [`open`].
pub fn open_with(path: &Path, flags: i32) -> io::Result<File> {
    // First without opening it: that alone can have effects on a device.
    check(fs::metadata(path)?.file_type())?;
    let file = OpenOptions::new().read(true).custom_flags(flags | NONBLOCK).open(path)?;
    // It may be another by now.
    check(file.metadata()?.file_type())?;
    Ok(file)
}

/// Reads a regular file whole, or what `/dev/stdin` or `/dev/fd/N` names: a pipe that this process was given open.
///
/// # Errors
/// As [`open`]; [`io::ErrorKind::FileTooLarge`] where it has more than `limit` bytes; [`io::ErrorKind::TimedOut`] where
/// nothing comes through a pipe for a minute.
pub fn read(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    if !is_descriptor(path) {
        return read_rest(open(path)?, limit);
    }
    let found = fs::metadata(path)?.file_type();
    if found.is_fifo() || found.is_socket() {
        return read_pipe(File::open(path)?, limit, SILENCE);
    }
    read_rest(open(path)?, limit)
}

fn is_descriptor(path: &Path) -> bool {
    let number = |name: &OsStr| name.to_str().is_some_and(|name| name.parse::<u32>().is_ok());
    let folders = ["/dev/fd", "/proc/self/fd"].map(Path::new);
    path == Path::new("/dev/stdin")
        || path.file_name().is_some_and(number)
            && path.parent().is_some_and(|parent| folders.contains(&parent))
}

/// Reads to the end, on a thread that is left alone with an end that says nothing.
fn read_pipe(mut pipe: File, limit: u64, silence: Duration) -> io::Result<Vec<u8>> {
    let (sender, pieces) = sync_channel(1);
    std::thread::Builder::new().spawn(move || {
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let piece = match pipe.read(&mut buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                read => read.map(|length| buffer.get(..length).unwrap_or_default().to_vec()),
            };
            let is_last = !piece.as_ref().is_ok_and(|piece| !piece.is_empty());
            if sender.send(piece).is_err() || is_last {
                return;
            }
        }
    })?;
    let mut content = Vec::new();
    loop {
        let piece = match pieces.recv_timeout(silence) {
            Ok(piece) => piece?,
            Err(RecvTimeoutError::Disconnected) => return Err(io::ErrorKind::BrokenPipe.into()),
            Err(RecvTimeoutError::Timeout) => {
                let reason = format!("nothing came through the pipe for {} s", silence.as_secs());
                return Err(io::Error::new(io::ErrorKind::TimedOut, reason));
            }
        };
        if piece.is_empty() {
            return Ok(content);
        }
        content.extend_from_slice(&piece);
        if content.len() as u64 > limit {
            return Err(too_large(limit));
        }
    }
}

/// Reads a regular file of UTF-8 text whole.
///
/// # Errors
/// As [`read`]; [`io::ErrorKind::InvalidData`] for other bytes.
pub fn read_text(path: &Path, limit: u64) -> io::Result<String> {
    let text = String::from_utf8(read(path, limit)?);
    text.map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "expected text in UTF-8, found other bytes"))
}

/// Reads what is left of an open file, `limit` bytes at most.
///
/// # Errors
/// As [`read`].
pub fn read_rest(mut file: impl Read, limit: u64) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    file.by_ref().take(limit.saturating_add(1)).read_to_end(&mut content)?;
    if content.len() as u64 > limit {
        return Err(too_large(limit));
    }
    Ok(content)
}

fn too_large(limit: u64) -> io::Error {
    io::Error::new(io::ErrorKind::FileTooLarge, format!("expected at most {limit} bytes, found more"))
}

/// Refuses everything but a regular file, in words that name what it is.
fn check(found: FileType) -> io::Result<()> {
    if found.is_file() {
        return Ok(());
    }
    let reason = format!("expected a regular file, found {}", name(found));
    Err(io::Error::new(io::ErrorKind::InvalidInput, reason))
}

/// What a file is, with its article.
pub fn name(found: FileType) -> &'static str {
    match () {
        () if found.is_file() => "a regular file",
        () if found.is_dir() => "a directory",
        () if found.is_fifo() => "a FIFO (a pipe)",
        () if found.is_socket() => "a socket",
        () if found.is_char_device() => "a character device",
        () if found.is_block_device() => "a block device",
        () if found.is_symlink() => "a symbolic link",
        () => "something else",
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::io::Write;
    use std::os::fd::{AsRawFd, OwnedFd};
    use std::os::unix::net::UnixListener;
    use std::process::Command;

    use super::*;

    #[test]
    fn only_regular_files_are_read_and_nothing_is_waited_for() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        fs::write(at("file"), b"1234").unwrap();
        std::os::unix::fs::symlink(at("file"), at("link")).unwrap();
        std::os::unix::fs::symlink(at("nothing"), at("dangling")).unwrap();
        assert!(Command::new("mkfifo").arg(at("fifo")).status().unwrap().success());
        let _socket = UnixListener::bind(at("socket")).unwrap();
        for name in ["file", "link"] {
            assert_eq!(read(&at(name), 4).unwrap(), b"1234");
        }
        assert_eq!(read(&at("file"), 3).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
        for name in ["nothing", "dangling"] {
            assert_eq!(read(&at(name), 4).unwrap_err().kind(), io::ErrorKind::NotFound);
        }
        for (path, word) in [
            (at("fifo"), "a FIFO"),
            (at("socket"), "a socket"),
            (directory.path().to_owned(), "a directory"),
            ("/dev/zero".into(), "a character device"),
        ] {
            let error = read(&path, 4).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{error}");
            assert!(error.to_string().contains(word), "{error}");
        }
        // What the shell hands over open.
        let own = File::open(at("file")).unwrap();
        assert_eq!(read(&Path::new("/dev/fd").join(own.as_raw_fd().to_string()), 4).unwrap(), b"1234");
        let (out, mut into) = io::pipe().unwrap();
        let path = Path::new("/proc/self/fd").join(out.as_raw_fd().to_string());
        into.write_all(b"12345").unwrap();
        let silent = File::from(OwnedFd::from(out.try_clone().unwrap()));
        let error = read_pipe(silent, 9, Duration::from_millis(50)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        drop(into);
        let (out, mut into) = io::pipe().unwrap();
        let path = path.with_file_name(out.as_raw_fd().to_string());
        into.write_all(b"12345").unwrap();
        drop(into);
        assert_eq!(read(&path, 5).unwrap(), b"12345");

        fs::write(at("file"), b"\xff").unwrap();
        assert_eq!(read_text(&at("file"), 4).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }
}
