//! Which blobs make up an image: the OCI image layout, and the archives of `docker save`.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use crate::region::Region;
use crate::tape::{self, Kind, TapeReader, clean_path, printable};
use crate::{Error, Result, unique};

/// The archive's name in messages.
const ARCHIVE: &str = "image.tar";

/// Largest JSON document of an image, in bytes.
const JSON_LIMIT: u64 = 4 * 1024 * 1024;

/// Most members of the archive, and most layers of the image (engines allow 127).
const MEMBERS_LIMIT: usize = 10_000;
const LAYERS_LIMIT: usize = 512;

/// Most images in an index, other platforms and attestations included.
const MANIFESTS_LIMIT: usize = 1000;

/// Largest `config` object in an image's configuration, in bytes: it is kept.
const SETTINGS_LIMIT: usize = 1024 * 1024;

/// One layer as it lies in the archive.
#[derive(Debug, Clone)]
pub(super) struct Blob {
    pub(super) region: Region,
    /// SHA-256 of the blob, where the layout states one.
    pub(super) digest: Option<[u8; 32]>,
    /// SHA-256 of the blob unpacked: its diff id.
    pub(super) diff_id: [u8; 32],
    /// Its length unpacked, in bytes; known once the layer was read.
    pub(super) unpacked: u64,
}

/// What of an image's configuration is kept. It shapes nothing that is measured: what runs is Gramine's manifest to say.
#[derive(Debug, Clone, Default)]
pub(super) struct Settings {
    /// `amd64`, `arm64`, ...; empty where the image does not say.
    pub(super) architecture: String,
    /// The `config` object, as the image has it; empty where it has none.
    config: Box<str>,
}

impl Settings {
    /// The `config` object. Its tree takes far more memory than its text, and is seldom asked for.
    pub(super) fn config(&self) -> Map<String, Value> {
        serde_json::from_str(&self.config).unwrap_or_default()
    }
}

/// Reads the layout in `archive`: the layers, lowest first, and what the image's configuration says.
pub(super) fn read(archive: &Region) -> Result<(Vec<Blob>, Settings)> {
    let head = archive.part(0, 512).bytes().map_err(|e| wrong(ARCHIVE, "readable bytes", e))?;
    if let Some(found) = tape::foreign(&head) {
        return Err(wrong(
            ARCHIVE,
            "a tar that is not packed, from `docker save` or of an OCI layout",
            found,
        ));
    }
    let members = members(archive)?;
    let (config, layers) = if members.contains_key("index.json") {
        from_oci(&members)?
    } else if members.contains_key("manifest.json") {
        from_docker(&members)?
    } else {
        return Err(wrong(ARCHIVE, "an OCI layout (index.json) or `docker save` (manifest.json)", "neither"));
    };
    if layers.len() != config.rootfs.diff_ids.len() || layers.len() > LAYERS_LIMIT {
        let found = format!("{} layers and {} diff ids", layers.len(), config.rootfs.diff_ids.len());
        return Err(wrong("config", "one diff id for each layer, and at most 512 of them", found));
    }
    let raw = config.config.as_deref().map_or("{}", RawValue::get);
    if raw.len() > SETTINGS_LIMIT {
        let what = "`config` in the configuration of the image".into();
        return Err(Error::Limit { what, limit: format!("{SETTINGS_LIMIT} bytes") });
    }
    if !raw.starts_with('{') {
        return Err(wrong("config", "an object as `config`", "something else"));
    }
    let settings = Settings { architecture: config.architecture.unwrap_or_default(), config: raw.into() };
    let blobs = (layers.into_iter().zip(config.rootfs.diff_ids))
        .map(|((region, digest), diff_id)| {
            Ok(Blob { region, digest, diff_id: sha256(&diff_id)?, unpacked: 0 })
        })
        .collect::<Result<_>>()?;
    Ok((blobs, settings))
}

type Members = BTreeMap<String, Region>;
type Layers = Vec<(Region, Option<[u8; 32]>)>;

/// Lists the regular files of the archive, and under their names the links to them: `docker save`
/// used to write a layer that occurs twice as a link.
fn members(archive: &Region) -> Result<Members> {
    let mut tape = TapeReader::new(ARCHIVE, archive.reader());
    let mut members = Members::new();
    let mut links = Vec::new();
    while let Some(entry) = tape.next_entry()? {
        let refuse = |expected, found: String| {
            Err(Error::Entry { archive: ARCHIVE.into(), entry: entry.path.clone(), expected, found })
        };
        match entry.kind {
            Kind::Directory => {}
            Kind::File => {
                let content = archive.part(entry.offset, entry.size);
                if members.insert(entry.path.clone(), content).is_some() {
                    return refuse("each member once", "it again".into());
                }
            }
            Kind::Symlink => links.push((entry.path, entry.link)),
            other => return refuse("files and directories", other.describe()),
        }
        if members.len() + links.len() > MEMBERS_LIMIT {
            return Err(Error::Limit {
                what: "members of image.tar".into(),
                limit: MEMBERS_LIMIT.to_string(),
            });
        }
    }
    for (path, link) in links {
        let target = resolve_link(&path, &link).and_then(|target| members.get(&target).cloned());
        let Some(target) = target else {
            return Err(wrong(&path, "a link to a member of the archive", printable(&link)));
        };
        if members.insert(path.clone(), target).is_some() {
            return Err(wrong(&path, "each member once", "it again"));
        }
    }
    Ok(members)
}

/// `../<id>/layer.tar`, seen from `<other id>/layer.tar`.
fn resolve_link(path: &str, link: &[u8]) -> Option<String> {
    let link = std::str::from_utf8(link).ok()?;
    match link.strip_prefix("../") {
        Some(rest) if path.matches('/').count() == 1 => clean_path(rest.as_bytes()).ok(),
        _ => None,
    }
}

/// What an OCI index or manifest says about a blob.
#[derive(Deserialize)]
struct Descriptor {
    #[serde(rename = "mediaType", default)]
    media_type: String,
    digest: String,
    size: u64,
    platform: Option<Platform>,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Platform {
    os: String,
    architecture: Option<String>,
}

#[derive(Deserialize)]
struct OciIndex {
    manifests: Vec<Descriptor>,
}

#[derive(Deserialize)]
struct OciManifest {
    config: Descriptor,
    layers: Vec<Descriptor>,
}

/// The configuration, of which only the diff ids matter here.
#[derive(Deserialize)]
struct Config {
    rootfs: RootFs,
    architecture: Option<String>,
    config: Option<Box<RawValue>>,
}

#[derive(Deserialize)]
struct RootFs {
    diff_ids: Vec<String>,
}

fn from_oci(members: &Members) -> Result<(Config, Layers)> {
    let mut index: OciIndex = json("index.json", &small("index.json", &members["index.json"])?)?;
    // An index may point to one more index: an engine's, of all platforms, with only one of them here.
    for _ in 0..2 {
        let descriptor = the_image(members, index)?;
        let (_, bytes) = blob_bytes(members, &descriptor)?;
        if is_index(&descriptor, &bytes) {
            index = json(&descriptor.digest, &bytes)?;
            continue;
        }
        let manifest: OciManifest = json(&descriptor.digest, &bytes)?;
        let (_, config) = blob_bytes(members, &manifest.config)?;
        let layers = manifest.layers.iter().map(|layer| {
            let (region, digest) = blob(members, layer)?;
            Ok((region.clone(), Some(digest)))
        });
        return Ok((json("config", &config)?, layers.collect::<Result<_>>()?));
    }
    Err(wrong("index.json", "an image manifest at most two steps away", "another index"))
}

fn is_index(descriptor: &Descriptor, bytes: &[u8]) -> bool {
    match descriptor.media_type.as_str() {
        "application/vnd.oci.image.index.v1+json"
        | "application/vnd.docker.distribution.manifest.list.v2+json" => true,
        "" => serde_json::from_slice::<OciIndex>(bytes).is_ok(),
        _ => false,
    }
}

/// The one image among the manifests of an index: not an attestation about it, and present. An image of several names
/// is there once for each, and one of several platforms is taken for the only one that enclaves have.
fn the_image(members: &Members, index: OciIndex) -> Result<Descriptor> {
    if index.manifests.len() > MANIFESTS_LIMIT {
        let what = "images in index.json".into();
        return Err(Error::Limit { what, limit: MANIFESTS_LIMIT.to_string() });
    }
    let mut images: Vec<_> = (index.manifests.into_iter())
        .filter(|d| d.platform.as_ref().is_none_or(|p| p.os != "unknown"))
        .filter(|d| !d.annotations.contains_key("vnd.docker.reference.type"))
        .filter(|d| members.contains_key(&blob_name(&d.digest)))
        .collect();
    images.sort_by(|a, b| a.digest.cmp(&b.digest));
    images.dedup_by(|a, b| a.digest == b.digest && a.media_type == b.media_type && a.size == b.size);
    let for_enclaves = |d: &Descriptor| {
        d.platform.as_ref().is_some_and(|p| p.os == "linux" && p.architecture.as_deref() == Some("amd64"))
    };
    if images.len() > 1 && images.iter().any(for_enclaves) {
        images.retain(for_enclaves);
    }
    match (images.pop(), images.len()) {
        (Some(image), 0) => Ok(image),
        (None, _) => Err(wrong("index.json", "one image", "none")),
        (Some(_), more) => Err(wrong("index.json", "one image", format!("{}", more + 1))),
    }
}

fn blob_name(digest: &str) -> String {
    format!("blobs/{}", digest.replacen(':', "/", 1))
}

fn blob<'a>(members: &'a Members, descriptor: &Descriptor) -> Result<(&'a Region, [u8; 32])> {
    let digest = sha256(&descriptor.digest)?;
    let region = (members.get(&blob_name(&descriptor.digest)))
        .ok_or_else(|| wrong(&descriptor.digest, "the blob in the archive", "none"))?;
    if region.len() != descriptor.size {
        let expected = format!("{} bytes", descriptor.size);
        return Err(wrong(&descriptor.digest, expected, region.len()));
    }
    Ok((region, digest))
}

/// A small blob, its digest checked.
fn blob_bytes<'a>(members: &'a Members, descriptor: &Descriptor) -> Result<(&'a Region, Vec<u8>)> {
    let (region, digest) = blob(members, descriptor)?;
    let bytes = small(&descriptor.digest, region)?;
    require_digest(&descriptor.digest, &bytes, &digest)?;
    Ok((region, bytes))
}

/// One image in the `manifest.json` of `docker save`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DockerImage {
    config: String,
    layers: Vec<String>,
}

fn from_docker(members: &Members) -> Result<(Config, Layers)> {
    let bytes = small("manifest.json", &members["manifest.json"])?;
    let images: Vec<DockerImage> = json("manifest.json", &bytes)?;
    let [image] = images.as_slice() else {
        return Err(wrong("manifest.json", "one image", images.len()));
    };
    let find = |name: &str| {
        members
            .get(name)
            .ok_or_else(|| wrong(&printable(name.as_bytes()), "the member in the archive", "none"))
    };
    let bytes = small(&image.config, find(&image.config)?)?;
    // The name is the digest: `<hex>.json`, or `blobs/sha256/<hex>`.
    let name = image.config.rsplit('/').next().unwrap_or_default();
    let digest = sha256(&format!("sha256:{}", name.strip_suffix(".json").unwrap_or(name)))?;
    require_digest(&image.config, &bytes, &digest)?;
    let layers = image.layers.iter().map(|name| Ok((find(name)?.clone(), None)));
    Ok((json("config", &bytes)?, layers.collect::<Result<_>>()?))
}

fn small(part: &str, region: &Region) -> Result<Vec<u8>> {
    if region.len() > JSON_LIMIT {
        let limit = format!("{JSON_LIMIT} bytes");
        return Err(Error::Limit { what: format!("{} in image.tar", printable(part.as_bytes())), limit });
    }
    region.bytes().map_err(|e| wrong(part, "readable bytes", e))
}

fn json<T: DeserializeOwned>(part: &str, bytes: &[u8]) -> Result<T> {
    unique::keys(bytes)
        .and_then(|()| serde_json::from_slice(bytes))
        .map_err(|e| wrong(part, "the JSON of an image", e))
}

/// Reads `sha256:<64 hexadecimal digits>`; no other algorithm is in use.
fn sha256(text: &str) -> Result<[u8; 32]> {
    let mut digest = [0; 32];
    let digits = text.strip_prefix("sha256:").filter(|d| !d.bytes().any(|b| b.is_ascii_uppercase()));
    match digits.map(|digits| hex::decode_to_slice(digits, &mut digest)) {
        Some(Ok(())) => Ok(digest),
        _ => {
            Err(wrong("a digest", "sha256: and 64 lower-case hexadecimal digits", printable(text.as_bytes())))
        }
    }
}

fn require_digest(part: &str, bytes: &[u8], expected: &[u8; 32]) -> Result<()> {
    let found: [u8; 32] = Sha256::digest(bytes).into();
    if found != *expected {
        return Err(wrong_digest(part, expected, &found));
    }
    Ok(())
}

pub(super) fn wrong_digest(part: &str, expected: &[u8; 32], found: &[u8; 32]) -> Error {
    wrong(part, format!("SHA-256 {}", hex::encode(expected)), hex::encode(found))
}

pub(super) fn wrong(part: &str, expected: impl Into<String>, found: impl ToString) -> Error {
    let part = printable(part.as_bytes());
    Error::Image { part, expected: expected.into(), found: found.to_string() }
}
