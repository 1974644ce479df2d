//! The context of a build as a tar: a directory without what its `.dockerignore` leaves out.
//!
//! Files keep their times and whether they are executable; owner and group are 0, as other clients send them, so that
//! an image does not depend on who built it.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tar::{Builder, EntryType, Header};

use super::dockerfile::{Dockerfile, LIMIT};
use super::ignore_file::{self, IgnoreFile};
use super::{CA_DIRECTORY, CA_IN_CONTEXT};
use crate::Error;

/// The Dockerfile's name in the context: the one that is sent, whatever the directory has under that name.
pub const DOCKERFILE: &str = ".mse-dockerfile";

/// Largest CA file, in bytes: a whole system's bundle is a quarter of it.
const CA_LIMIT: usize = 1024 * 1024;

/// What a build is made of.
#[derive(Debug, Clone)]
pub struct Context {
    /// The directory that `COPY` copies from.
    pub directory: PathBuf,
    /// The Dockerfile.
    pub dockerfile: Dockerfile,
    /// PEM certificates that the build trusts and no layer keeps.
    pub ca: Option<Vec<u8>>,
}

impl Context {
    /// Reads the Dockerfile and the CA, both bounded.
    ///
    /// # Errors
    /// [`Error::File`] for a file that cannot be read, [`Error::BuildContext`] for one that is not what it should be.
    pub fn open(directory: &Path, dockerfile: &Path, ca: Option<&Path>) -> Result<Context, Error> {
        let text = decoded(dockerfile, &read(dockerfile, LIMIT)?)?;
        let ca = match ca {
            Some(path) => {
                let pem = read(path, CA_LIMIT)?;
                let begins = b"-----BEGIN CERTIFICATE-----";
                if !pem.windows(begins.len()).any(|window| window == begins) {
                    return Err(wrong(path, "certificates in PEM", "none"));
                }
                Some(pem)
            }
            None => None,
        };
        Ok(Context { directory: directory.to_owned(), dockerfile: Dockerfile::parse(&text), ca })
    }

    /// Writes the tar.
    ///
    /// # Errors
    /// As [`Context::open`], and what `out` says.
    pub fn pack(&self, out: impl Write) -> Result<(), Error> {
        let mut tar = Builder::new(out);
        let text = match &self.ca {
            Some(_) => self.dockerfile.with_ca(),
            None => self.dockerfile.text().to_owned(),
        };
        let packing = || Error::file("pack", &self.directory);
        bytes(&mut tar, DOCKERFILE, text.as_bytes()).map_err(packing())?;
        if let Some(ca) = &self.ca {
            let apt = format!("Acquire::https::CAInfo \"/{CA_DIRECTORY}/ca.pem\";\n");
            bytes(&mut tar, &format!("{CA_IN_CONTEXT}/ca.pem"), ca).map_err(packing())?;
            bytes(&mut tar, &format!("{CA_IN_CONTEXT}/apt.conf"), apt.as_bytes()).map_err(packing())?;
        }
        let ignore = self.directory.join(ignore_file::FILE);
        let ignore = match read(&ignore, ignore_file::LIMIT) {
            // A pattern that is read wrongly would let a file travel that was to stay at home.
            Ok(bytes) => IgnoreFile::parse(&decoded(&ignore, &bytes)?)?,
            Err(Error::File { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
                IgnoreFile::default()
            }
            Err(error) => return Err(error),
        };
        self.directory_into(&mut tar, "", &ignore)?;
        tar.into_inner().and_then(|mut out| out.flush()).map_err(packing())
    }

    fn directory_into(
        &self,
        tar: &mut Builder<impl Write>,
        inside: &str,
        ignore: &IgnoreFile,
    ) -> Result<(), Error> {
        let directory = self.directory.join(inside);
        let list = |path: &Path| -> std::io::Result<Vec<fs::DirEntry>> { fs::read_dir(path)?.collect() };
        let mut entries = list(&directory).map_err(Error::file("list", &directory))?;
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            let path = entry.path();
            let name = entry.file_name().into_string();
            let name = name.map_err(|_| wrong(&path, "a name in UTF-8", "other bytes"))?;
            let name = if inside.is_empty() { name } else { format!("{inside}/{name}") };
            if name == CA_IN_CONTEXT || name == DOCKERFILE {
                return Err(wrong(&path, "a project without files of this name", "one"));
            }
            let metadata = entry.metadata().map_err(Error::file("look at", &path))?;
            let out = ignore.leaves_out(&name);
            if metadata.is_dir() {
                if !out {
                    let header = header(&metadata, EntryType::Directory);
                    append(tar, header, &format!("{name}/"), &[][..]).map_err(Error::file("pack", &path))?;
                }
                if !out || ignore.has_exceptions() {
                    self.directory_into(tar, &name, ignore)?;
                }
            } else if out {
                continue;
            } else if metadata.is_symlink() {
                let target = fs::read_link(&path).map_err(Error::file("read", &path))?;
                let mut header = header(&metadata, EntryType::Symlink);
                header.set_size(0);
                tar.append_link(&mut header, &name, &target).map_err(Error::file("pack", &path))?;
            } else if metadata.is_file() {
                let file = fs::File::open(&path).map_err(Error::file("read", &path))?;
                let mut header = header(&metadata, EntryType::Regular);
                header.set_size(metadata.len());
                // A file that grows meanwhile must not spoil what comes after it, nor one that shrinks.
                let mut content = Exactly { left: metadata.len(), inner: file };
                append(tar, header, &name, &mut content).map_err(Error::file("pack", &path))?;
            }
            // Sockets and devices are nothing to build from.
        }
        Ok(())
    }
}

/// The first `left` bytes, and an error where there are fewer.
struct Exactly<R> {
    left: u64,
    inner: R,
}

impl<R: std::io::Read> std::io::Read for Exactly<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let most = buffer.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let read = self.inner.read(&mut buffer[..most])?;
        if read == 0 && most > 0 {
            return Err(std::io::Error::other("it became shorter while it was read"));
        }
        self.left -= read as u64;
        Ok(read)
    }
}

fn header(metadata: &fs::Metadata, kind: EntryType) -> Header {
    let mut header = Header::new_gnu();
    header.set_uid(0);
    header.set_gid(0);
    header.set_entry_type(kind);
    let executable = kind == EntryType::Directory || metadata.permissions().mode() & 0o100 != 0;
    header.set_mode(if executable { 0o755 } else { 0o644 });
    let modified = metadata.modified().ok().and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok());
    header.set_mtime(modified.map_or(0, |time| time.as_secs()));
    header.set_size(0);
    header
}

fn bytes(tar: &mut Builder<impl Write>, name: &str, content: &[u8]) -> std::io::Result<()> {
    let mut header = Header::new_gnu();
    header.set_uid(0);
    header.set_gid(0);
    header.set_mode(0o644);
    // The same CA at another time is the same layer to the engine's cache.
    header.set_mtime(0);
    header.set_size(content.len() as u64);
    append(tar, header, name, content)
}

fn append(
    tar: &mut Builder<impl Write>,
    mut header: Header,
    name: &str,
    content: impl std::io::Read,
) -> std::io::Result<()> {
    tar.append_data(&mut header, name, content)
}

fn read(path: &Path, limit: usize) -> Result<Vec<u8>, Error> {
    outside::files::read(path, limit as u64).map_err(|error| match error.kind() {
        std::io::ErrorKind::FileTooLarge => wrong(path, &format!("at most {limit} bytes"), "more"),
        _ => Error::file("read", path)(error),
    })
}

/// Text in UTF-8, or in UTF-16 with a byte order mark, which is no part of the result.
fn decoded(path: &Path, bytes: &[u8]) -> Result<String, Error> {
    package::text::decode(bytes).map_err(|found| {
        let found = format!("{} in line {}", found.found, found.line);
        wrong(path, "text in UTF-8, or in UTF-16 with a byte order mark", &found)
    })
}

fn wrong(path: &Path, expected: &str, found: &str) -> Error {
    Error::BuildContext {
        what: path.display().to_string(),
        expected: expected.to_owned(),
        found: found.to_owned(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::io::Read;

    use super::*;

    fn packed(context: &Context) -> Vec<(String, String)> {
        let mut out = Vec::new();
        context.pack(&mut out).unwrap();
        let mut archive = tar::Archive::new(out.as_slice());
        let entries = archive.entries().unwrap();
        entries
            .map(|entry| {
                let mut entry = entry.unwrap();
                let mut content = String::new();
                entry.read_to_string(&mut content).unwrap();
                assert_eq!((entry.header().uid().unwrap(), entry.header().gid().unwrap()), (0, 0));
                (entry.path().unwrap().display().to_string(), content)
            })
            .collect()
    }

    fn project() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("Dockerfile", "FROM mse-base\n");
        write(".dockerignore", "secrets.json\nout\n!out/kept\n");
        write("secrets.json", "{}");
        write("src/app.py", "app = 1\n");
        write("out/kept", "kept");
        write("out/lost", "lost");
        write("ca.pem", "-----BEGIN CERTIFICATE-----\n");
        folder
    }

    #[test]
    fn what_is_ignored_stays_at_home() {
        let folder = project();
        let context = Context::open(folder.path(), &folder.path().join("Dockerfile"), None).unwrap();
        let names: Vec<String> = packed(&context).into_iter().map(|(name, _)| name).collect();
        assert_eq!(
            names,
            [DOCKERFILE, ".dockerignore", "Dockerfile", "ca.pem", "out/kept", "src/", "src/app.py"]
        );
    }

    #[test]
    fn any_editor_may_have_written_what_decides_about_files() {
        let folder = project();
        let dockerfile = folder.path().join("Dockerfile");
        let ignore = folder.path().join(".dockerignore");
        let utf16 = |text: &str| -> Vec<u8> { text.encode_utf16().flat_map(u16::to_le_bytes).collect() };
        let ignored = "secrets.json\r\nout\r\n";
        for bytes in
            [[b"\xef\xbb\xbf", ignored.as_bytes()].concat(), [b"\xff\xfe".to_vec(), utf16(ignored)].concat()]
        {
            fs::write(&ignore, &bytes).unwrap();
            fs::write(&dockerfile, b"\xef\xbb\xbfFROM mse-base\n").unwrap();
            let context = Context::open(folder.path(), &dockerfile, None).unwrap();
            assert_eq!(context.dockerfile.bases(&[]), ["mse-base"]);
            let mut out = Vec::new();
            context.pack(&mut out).unwrap();
            let mut archive = tar::Archive::new(out.as_slice());
            let names: Vec<String> = (archive.entries().unwrap())
                .map(|entry| entry.unwrap().path().unwrap().display().to_string())
                .collect();
            assert!(!names.iter().any(|name| name == "secrets.json" || name == "out/lost"), "{names:?}");
        }
        for bytes in [utf16(ignored), b"caf\xe9.json\n".to_vec()] {
            fs::write(&ignore, bytes).unwrap();
            let context = Context::open(folder.path(), &dockerfile, None).unwrap();
            assert!(matches!(context.pack(std::io::sink()), Err(Error::BuildContext { .. })));
        }
    }

    #[test]
    fn a_ca_travels_with_the_lines_that_use_it() {
        let folder = project();
        let ca = folder.path().join("ca.pem");
        let context = Context::open(folder.path(), &folder.path().join("Dockerfile"), Some(&ca)).unwrap();
        let files = packed(&context);
        let content = |name: &str| &files.iter().find(|(found, _)| found == name).unwrap().1;
        assert!(content(DOCKERFILE).contains("COPY .mse-build-ca/ /run/mse-build-ca/"));
        assert_eq!(content(".mse-build-ca/ca.pem"), "-----BEGIN CERTIFICATE-----\n");
        assert!(content(".mse-build-ca/apt.conf").contains("/run/mse-build-ca/ca.pem"));

        fs::create_dir(folder.path().join(".mse-build-ca")).unwrap();
        assert!(matches!(context.pack(std::io::sink()), Err(Error::BuildContext { .. })));
        fs::write(&ca, "no certificate").unwrap();
        let refused = Context::open(folder.path(), &folder.path().join("Dockerfile"), Some(&ca));
        assert!(matches!(refused, Err(Error::BuildContext { .. })));
    }
}
