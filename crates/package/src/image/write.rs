//! The one layout that the native builder makes: an OCI image layout with a single, unpacked layer.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use serde_json::json;
use sha2::{Digest, Sha256};

use crate::region::Region;
use crate::tape::TapeWriter;

/// One file of the layer that is to be written.
pub(crate) enum Content<'a> {
    /// A file of this machine; whether it is executable is taken from there.
    Path(PathBuf),
    /// These bytes, not executable.
    Bytes(&'a [u8]),
}

/// Writes an image of `files` (by path) for `architecture` (`amd64`, `arm64`). The same files give the
/// same bytes.
pub(crate) fn write_layout(
    files: &BTreeMap<String, Content>,
    architecture: &str,
    writer: impl Write,
) -> io::Result<()> {
    // The layer's name is its digest, so it has to be made before it can be put into the archive.
    let mut layer = TapeWriter::new(io::BufWriter::new(tempfile::tempfile()?));
    for (path, content) in files {
        match content {
            Content::Bytes(bytes) => layer.file(path, false, bytes.len() as u64, *bytes)?,
            Content::Path(source) => {
                let file = File::open(source)?;
                let metadata = file.metadata()?;
                layer.file(path, metadata.permissions().mode() & 0o100 != 0, metadata.len(), file)?;
            }
        }
    }
    let layer = layer.finish()?.into_inner().map_err(|e| e.into_error())?;
    let layer = Region::whole(layer)?;
    let diff_id = hex::encode(layer.sha256()?);

    // Keys in alphabetical order, which is how they come out whichever way serde_json keeps them.
    let config = json!({
        "architecture": architecture,
        "os": "linux",
        "rootfs": { "diff_ids": [format!("sha256:{diff_id}")], "type": "layers" },
    })
    .to_string();
    let manifest = json!({
        "config": descriptor("application/vnd.oci.image.config.v1+json", &digest(&config), config.len() as u64),
        "layers": [descriptor("application/vnd.oci.image.layer.v1.tar", &diff_id, layer.len())],
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "schemaVersion": 2,
    })
    .to_string();
    let index = json!({
        "manifests": [
            descriptor("application/vnd.oci.image.manifest.v1+json", &digest(&manifest), manifest.len() as u64)
        ],
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "schemaVersion": 2,
    })
    .to_string();

    let text = |text: String| (text.len() as u64, Box::new(io::Cursor::new(text)) as Box<dyn Read>);
    let mut members: BTreeMap<String, (u64, Box<dyn Read>)> = BTreeMap::from([
        ("oci-layout".to_string(), text(json!({ "imageLayoutVersion": "1.0.0" }).to_string())),
        (format!("blobs/sha256/{}", digest(&config)), text(config)),
        (format!("blobs/sha256/{}", digest(&manifest)), text(manifest)),
        ("index.json".to_string(), text(index)),
    ]);
    members.insert(format!("blobs/sha256/{diff_id}"), (layer.len(), Box::new(layer.reader())));

    let mut archive = TapeWriter::new(writer);
    for (path, (size, content)) in members {
        archive.file(&path, false, size, content)?;
    }
    archive.finish()?;
    Ok(())
}

fn descriptor(media_type: &str, digest: &str, size: u64) -> serde_json::Value {
    json!({ "digest": format!("sha256:{digest}"), "mediaType": media_type, "size": size })
}

fn digest(text: &str) -> String {
    hex::encode(Sha256::digest(text))
}
