//! From the code archive to the application's files, without the clear text ever touching a disk.
//!
//! The archive is measured, so the host cannot change it; the code key comes from the owner and may be wrong. An
//! encrypted archive is decrypted by one thread and unpacked by another, with a few messages between them: the first
//! message that does not authenticate ends both.

use std::io::{self, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use secrets::code::CodeKey;

use crate::places::open_regular;
use crate::{Refusal, journal};

/// How many pieces of clear text wait between the two threads, and their size in bytes.
const PIECES: usize = 4;
const PIECE: usize = 64 * 1024;

/// Unpacks `archive` into `directory`.
pub(crate) fn unpack(archive: &Path, key: Option<&CodeKey>, directory: &Path) -> Result<(), Refusal> {
    let file = open_regular(archive).map_err(|error| {
        journal::note(&format!("cannot read the code archive {}: {error}", archive.display()));
        Refusal::Internal
    })?;
    let file = BufReader::with_capacity(PIECE, file);
    match key {
        None => package::code_archive::unpack(file, directory).map_err(unusable),
        Some(key) => decrypt_and_unpack(file, key, directory),
    }
}

fn decrypt_and_unpack(file: impl Read + Send, key: &CodeKey, directory: &Path) -> Result<(), Refusal> {
    let (sender, receiver) = sync_channel(PIECES);
    let (decrypted, unpacked) =
        std::thread::scope(|scope| {
            let decrypter = scope.spawn(move || secrets::code::decrypt(key, file, PieceWriter(sender)));
            let mut input = PieceReader { receiver, piece: Vec::new(), read: 0 };
            let mut unpacked = package::code_archive::unpack(&mut input, directory);
            if unpacked.is_ok() {
                // The stream is whole only once its last message was seen.
                unpacked = io::copy(&mut input, &mut io::sink())
                    .map(drop)
                    .map_err(|source| package::Error::Io { action: "read", path: "app.tar".into(), source });
            }
            drop(input);
            (decrypter.join(), unpacked)
        });
    match decrypted {
        // The decrypter could not write because the unpacker had stopped: the unpacker knows why.
        Ok(Err(secrets::Error::Io { .. })) if unpacked.is_err() => unpacked.map_err(unusable),
        Ok(Err(_)) => Err(Refusal::CodeKeyWrong),
        Ok(Ok(())) => unpacked.map_err(unusable),
        Err(_) => Err(Refusal::Internal),
    }
}

fn unusable(error: package::Error) -> Refusal {
    match error {
        package::Error::Io { .. } => {
            journal::note(&format!("cannot unpack the code: {error}"));
            Refusal::Internal
        }
        error => Refusal::Code(error.to_string()),
    }
}

/// Looks for the module of `module:variable` as the interpreter would: a file, a package, or an extension.
pub(crate) fn check_module(directory: &Path, application: &str) -> Result<(), Refusal> {
    let module = application.split(':').next().unwrap_or_default();
    let path: PathBuf = directory.join(module.replace('.', "/"));
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let parent = path.parent().unwrap_or(directory);
    let found = path.join("__init__.py").is_file()
        || std::fs::read_dir(parent).into_iter().flatten().flatten().any(|entry| {
            let entry = entry.file_name();
            entry.to_str().and_then(|entry| entry.strip_prefix(name.as_str())).is_some_and(|ending| {
                ending == ".py" || ending == ".pyc" || (ending.starts_with('.') && ending.ends_with(".so"))
            })
        });
    match found {
        true => Ok(()),
        false => Err(Refusal::Code(format!(
            "expected the module `{module}`, which `{application}` names, among the code or the packages of the image; \
             found it in neither"
        ))),
    }
}

struct PieceWriter(SyncSender<Vec<u8>>);

impl Write for PieceWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.0.send(bytes.to_vec()) {
            Ok(()) => Ok(bytes.len()),
            Err(_) => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct PieceReader {
    receiver: Receiver<Vec<u8>>,
    piece: Vec<u8>,
    read: usize,
}

impl Read for PieceReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.read == self.piece.len() {
            match self.receiver.recv() {
                Ok(piece) => (self.piece, self.read) = (piece, 0),
                Err(_) => return Ok(0),
            }
        }
        let count = buffer.len().min(self.piece.len() - self.read);
        buffer[..count].copy_from_slice(&self.piece[self.read..self.read + count]);
        self.read += count;
        Ok(count)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_module_may_be_a_file_a_package_or_an_extension() {
        let directory = tempfile::tempdir().unwrap();
        for file in
            ["app.py", "web/main.py", "pack/__init__.py", "fast.cpython-311-x86_64-linux-gnu.so", "old.pyc"]
        {
            let path = directory.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        }
        for good in ["app:app", "web.main:app", "pack:create.it", "fast:app", "old:app"] {
            assert_eq!(check_module(directory.path(), good), Ok(()), "{good}");
        }
        assert_eq!(check_module(directory.path(), "app:create_app()"), Ok(()));
        for bad in ["ap:app", "web:app", "app2:app", "web.app:app", "pack.x:app"] {
            assert!(matches!(check_module(directory.path(), bad), Err(Refusal::Code(_))), "{bad}");
        }
    }
}
