//! The last layer of an image: what the enclave needs and a container engine could not make.
//!
//! ```text
//! opt/mse/hosts        who `localhost` is: the engine's own /etc/hosts is the host's to change
//! opt/mse/python.tar   the Python packages in one measured archive, where there are too many files to measure each
//! ```
//!
//! Gramine's start takes time for each trusted file, more than linearly. So a large tree of packages travels as one
//! archive, made here from the image's own content when the package is made: sorted, owner 0, fixed times, modes 0644
//! and 0755, so that the same content gives the same bytes whichever engine saved it. The node unpacks it below
//! [`PACKAGES`](super::PACKAGES) before it loads anything; the files that it came from are measured no longer.

use std::fs::File;
use std::io::{self, BufWriter, Seek, Write};
use std::path::Path;

use super::{ARCHIVE, HOSTS, PACKAGES, measured};
use crate::config::ImageConfig;
use crate::image::Image;
use crate::region::Region;
use crate::tape::TapeWriter;
use crate::{Error, Result};

/// How many files in trees of packages are measured one by one; more are put into an archive.
pub const FILES_LIMIT: usize = 2_000;

const HOSTS_FILE: &[u8] = b"127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n";

/// Puts the last layer on an image that an engine built.
pub(crate) fn with_last_layer(image: Image, config: &ImageConfig) -> Result<Image> {
    for path in [ARCHIVE, HOSTS, PACKAGES.trim_start_matches('/')] {
        if image.tree().node(path).is_some() {
            return Err(Error::Image {
                part: path.into(),
                expected: "nothing there: it is made when the image is packaged".into(),
                found: "something".into(),
            });
        }
    }
    let archive = archive(&image, config)?;
    let failed = |e| Error::io("write", Path::new("the last layer of the image"))(e);
    let mut layer = tempfile::tempfile().map_err(failed)?;
    let write = || -> io::Result<()> {
        let mut tape = TapeWriter::new(BufWriter::with_capacity(1 << 17, &mut layer));
        tape.file(HOSTS, false, HOSTS_FILE.len() as u64, HOSTS_FILE)?;
        if let Some(mut archive) = archive {
            archive.rewind()?;
            tape.file(ARCHIVE, false, archive.metadata()?.len(), archive)?;
        }
        tape.finish().map(drop)
    };
    write().map_err(failed)?;
    image.with_layer(layer)
}

/// The archive of the image's packages, if there are too many files for the list.
fn archive(image: &Image, config: &ImageConfig) -> Result<Option<File>> {
    let files = measured::packages(image.tree(), config)?;
    if files.len() <= FILES_LIMIT {
        return Ok(None);
    }
    let failed = |e| Error::io("write", Path::new("the archive of the Python packages"))(e);
    let mut spool = tempfile::tempfile().map_err(failed)?;
    let places = image.copy_files(files.values().copied(), BufWriter::with_capacity(1 << 17, &mut spool))?;
    let spool = Region::whole(spool).map_err(failed)?;
    let mut archive = tempfile::tempfile().map_err(failed)?;
    let mut tape = TapeWriter::new(BufWriter::with_capacity(1 << 17, &mut archive));
    for (path, file) in &files {
        let content = spool.part(places[&file.place()], file.size);
        tape.file(path, file.mode & 0o100 != 0, file.size, content.reader()).map_err(failed)?;
    }
    tape.finish().and_then(|mut writer| writer.flush()).map_err(failed)?;
    Ok(Some(archive))
}
