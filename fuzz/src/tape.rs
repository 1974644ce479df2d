//! Tars whose checksums are right, whatever else is wrong with them, and container images around a mutated layer.

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};

const BLOCK: usize = 512;

/// Recomputes the checksum of every header, as far as headers can be found one after the other.
pub fn repair(archive: &mut [u8]) {
    let mut at = 0;
    while let Some(header) = archive.get_mut(at..at + BLOCK) {
        if header.iter().all(|&byte| byte == 0) {
            return;
        }
        header[148..156].fill(b' ');
        let sum: u32 = header.iter().map(|&byte| u32::from(byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        let digits = header[124..136].iter().take_while(|byte| byte.is_ascii_digit());
        let size =
            digits.fold(0u64, |size, digit| size.saturating_mul(8).saturating_add(u64::from(digit - b'0')));
        let content = usize::try_from(size).unwrap_or(usize::MAX).checked_next_multiple_of(BLOCK);
        let next = content.and_then(|content| content.checked_add(at + BLOCK));
        let Some(next) = next else { return };
        at = next;
    }
}

/// A tar of these members, in order of their names.
pub fn archive(members: &BTreeMap<String, Vec<u8>>) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, content) in members {
        let mut header = tar::Header::new_ustar();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        // Names are ours and short, and a vector takes everything: neither can fail.
        let _ = builder.append_data(&mut header, name, content.as_slice());
    }
    builder.into_inner().unwrap_or_default()
}

/// An OCI layout in a tar, of one uncompressed layer, with all digests right.
pub fn image(layer: &[u8]) -> Vec<u8> {
    let mut members = BTreeMap::new();
    let mut blob = |content: Vec<u8>, kind: &str| {
        let digest = hex::encode(Sha256::digest(&content));
        let media_type = format!("application/vnd.oci.image.{kind}");
        let descriptor = serde_json::json!({
            "mediaType": media_type, "digest": format!("sha256:{digest}"), "size": content.len(),
        });
        members.insert(format!("blobs/sha256/{digest}"), content);
        descriptor
    };
    let layer = blob(layer.to_vec(), "layer.v1.tar");
    let config = serde_json::json!({
        "architecture": "amd64", "os": "linux", "rootfs": { "type": "layers", "diff_ids": [layer["digest"]] },
    });
    let config = blob(config.to_string().into_bytes(), "config.v1+json");
    let manifest = serde_json::json!({ "schemaVersion": 2, "config": config, "layers": [layer] });
    let manifest = blob(manifest.to_string().into_bytes(), "manifest.v1+json");
    let index = serde_json::json!({ "schemaVersion": 2, "manifests": [manifest] });
    members.insert("index.json".into(), index.to_string().into_bytes());
    members.insert("oci-layout".into(), br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec());
    archive(&members)
}
