#![allow(clippy::unwrap_used)]

use std::io::Write;

use serde_json::{Value, json};

use super::*;
use crate::tape::tests::{entry, tape};

fn file(path: &str, content: &str) -> Vec<u8> {
    entry(path.as_bytes(), b'0', 0o644, content.as_bytes(), b"")
}

fn dir(path: &str) -> Vec<u8> {
    entry(path.as_bytes(), b'5', 0o755, b"", b"")
}

fn symlink(path: &str, target: &str) -> Vec<u8> {
    entry(path.as_bytes(), b'2', 0o777, b"", target.as_bytes())
}

fn hard_link(path: &str, target: &str) -> Vec<u8> {
    entry(path.as_bytes(), b'1', 0o644, b"", target.as_bytes())
}

fn hex_digest(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

fn plain(bytes: &[u8]) -> Vec<u8> {
    bytes.to_vec()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    pack_gzip(bytes, flate2::Compression::fast())
}

fn gzip_best(bytes: &[u8]) -> Vec<u8> {
    pack_gzip(bytes, flate2::Compression::best())
}

fn pack_gzip(bytes: &[u8], level: flate2::Compression) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), level);
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 1).unwrap()
}

/// The documents and blobs of an image, to be spoilt by a test before they are packed.
struct Parts {
    members: BTreeMap<String, Vec<u8>>,
}

impl Parts {
    /// An OCI layout of these layers (tars), each packed by `pack`.
    fn oci(layers: &[Vec<u8>], pack: fn(&[u8]) -> Vec<u8>) -> Self {
        let mut parts = Parts { members: BTreeMap::new() };
        let diff_ids: Vec<_> = layers.iter().map(|l| format!("sha256:{}", hex_digest(l))).collect();
        let config = parts.blob(json!({ "rootfs": { "type": "layers", "diff_ids": diff_ids } }).to_string());
        let layers: Vec<_> = layers.iter().map(|layer| parts.blob(pack(layer))).collect();
        let manifest = parts.blob(json!({ "config": config, "layers": layers }).to_string());
        parts.json("index.json", json!({ "manifests": [manifest] }));
        parts.json("oci-layout", json!({ "imageLayoutVersion": "1.0.0" }));
        parts
    }

    /// What `docker save` wrote before version 25.
    fn docker(layers: &[Vec<u8>]) -> Self {
        let mut parts = Parts { members: BTreeMap::new() };
        let diff_ids: Vec<_> = layers.iter().map(|l| format!("sha256:{}", hex_digest(l))).collect();
        let config = json!({ "rootfs": { "type": "layers", "diff_ids": diff_ids } }).to_string();
        let config_name = format!("{}.json", hex_digest(config.as_bytes()));
        parts.members.insert(config_name.clone(), config.into_bytes());
        let mut names = Vec::new();
        for (index, layer) in layers.iter().enumerate() {
            let name = format!("{index:064}/layer.tar");
            parts.members.insert(name.clone(), layer.clone());
            names.push(name);
        }
        let image = json!({ "Config": config_name, "RepoTags": ["debian:bookworm"], "Layers": names });
        parts.json("manifest.json", json!([image]));
        parts
    }

    fn blob(&mut self, bytes: impl Into<Vec<u8>>) -> Value {
        let bytes = bytes.into();
        let digest = hex_digest(&bytes);
        let size = bytes.len();
        self.members.insert(format!("blobs/sha256/{digest}"), bytes);
        json!({ "digest": format!("sha256:{digest}"), "size": size })
    }

    fn json(&mut self, name: &str, value: Value) {
        self.members.insert(name.into(), value.to_string().into_bytes());
    }

    fn pack(&self) -> Vec<u8> {
        let mut writer = crate::tape::TapeWriter::new(Vec::new());
        for (name, content) in &self.members {
            writer.file(name, false, content.len() as u64, &content[..]).unwrap();
        }
        writer.finish().unwrap()
    }

    fn read(&self) -> Result<Image> {
        read_bytes(&self.pack())
    }
}

fn read_bytes(bytes: &[u8]) -> Result<Image> {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    Image::read(&Region::whole(file).unwrap())
}

/// Paths of an image with their contents (`/` for directories, `-> target` for links).
fn listing(image: &Image) -> Vec<String> {
    (image.tree().nodes())
        .map(|(path, node)| match node {
            Node::Directory => format!("{path}/"),
            Node::Symlink(target) => format!("{path} -> {target}"),
            Node::Special => format!("{path} !"),
            Node::File(_) => {
                let content = image.read_file(&path, 1 << 20).unwrap().unwrap();
                format!("{path} = {}", String::from_utf8(content).unwrap())
            }
        })
        .collect()
}

fn two_layers() -> [Vec<u8>; 2] {
    [
        tape(&[dir("etc/"), file("etc/a", "old"), file("etc/b", "b"), dir("var"), file("var/x", "x")]),
        tape(&[file("./etc/a", "new"), file("etc/.wh.b", ""), file("top", "t")]),
    ]
}

#[test]
fn every_layout_and_packing_gives_the_same_files() {
    let expected = ["etc/", "etc/a = new", "top = t", "var/", "var/x = x"];
    let layers = two_layers();
    for image in [
        Parts::oci(&layers, plain),
        Parts::oci(&layers, gzip),
        Parts::oci(&layers, zstd),
        Parts::docker(&layers),
    ] {
        assert_eq!(listing(&image.read().unwrap()), expected);
    }
}

#[test]
fn an_index_may_point_to_an_index_with_attestations() {
    let mut parts = Parts::oci(&two_layers(), gzip);
    let index: Value = serde_json::from_slice(&parts.members["index.json"]).unwrap();
    let image = index["manifests"][0].clone();
    let attestation = parts.blob("{}");
    let mut unknown = attestation.clone();
    unknown["platform"] = json!({ "os": "unknown", "architecture": "unknown" });
    let mut absent = attestation;
    absent["digest"] = json!(format!("sha256:{}", "0".repeat(64)));
    let inner = json!({ "manifests": [unknown, image, absent] }).to_string();
    let mut inner = parts.blob(inner);
    inner["mediaType"] = json!("application/vnd.oci.image.index.v1+json");
    parts.json("index.json", json!({ "manifests": [inner] }));
    assert_eq!(parts.read().unwrap().tree().nodes().count(), 5);
}

#[test]
fn an_image_of_several_names_is_one_image() {
    let mut parts = Parts::oci(&two_layers(), gzip);
    let index: Value = serde_json::from_slice(&parts.members["index.json"]).unwrap();
    let named = |name: &str| {
        let mut image = index["manifests"][0].clone();
        image["annotations"] = json!({ "org.opencontainers.image.ref.name": name });
        image
    };
    parts.json("index.json", json!({ "manifests": [named("one"), named("two")] }));
    assert_eq!(parts.read().unwrap().tree().nodes().count(), 5);
}

#[test]
fn of_several_platforms_the_one_of_enclaves_is_taken() {
    let for_platform = |name: &str, os: &str, architecture: &str| {
        let mut parts = Parts::oci(&[tape(&[file(name, "")])], plain);
        let index: Value = serde_json::from_slice(&parts.members["index.json"]).unwrap();
        let mut image = index["manifests"][0].clone();
        image["platform"] = json!({ "os": os, "architecture": architecture });
        parts.members.remove("index.json");
        (parts.members, image)
    };
    let images = [
        for_platform("arm", "linux", "arm64"),
        for_platform("intel", "linux", "amd64"),
        for_platform("windows", "windows", "amd64"),
    ];
    let read = |chosen: &[usize]| {
        let mut parts = Parts { members: BTreeMap::new() };
        let mut manifests = Vec::new();
        for &index in chosen {
            parts.members.extend(images[index].0.clone());
            manifests.push(images[index].1.clone());
        }
        parts.json("index.json", json!({ "manifests": manifests }));
        parts.read()
    };
    assert_eq!(listing(&read(&[0, 1, 2]).unwrap()), ["intel = "]);
    assert_eq!(listing(&read(&[1, 0]).unwrap()), ["intel = "]);
    assert_eq!(listing(&read(&[0]).unwrap()), ["arm = "]);
    let error = read(&[0, 2]).unwrap_err().to_string();
    assert!(error.contains("expected one image, found 2"), "{error}");
}

#[test]
fn docker_writes_a_layer_that_occurs_twice_as_a_link() {
    let layer = tape(&[file("a", "1")]);
    let mut parts = Parts::docker(&[layer.clone(), layer]);
    let second = format!("{:064}/layer.tar", 1);
    parts.members.remove(&second);
    let archive = parts.pack();
    let target = format!("../{:064}/layer.tar", 0);
    let link = symlink(&second, &target);
    let with = |link: Vec<u8>| read_bytes(&[&link[..], &archive[..]].concat());
    assert_eq!(listing(&with(link).unwrap()), ["a = 1"]);
    assert!(with(symlink(&second, "/etc/passwd")).is_err());
    assert!(with(symlink(&second, "../../etc/passwd")).is_err());
}

#[test]
fn layers_apply_as_the_specification_says() {
    let low = tape(&[
        dir("d"),
        file("d/kept", "1"),
        file("d/gone", "2"),
        dir("d/sub"),
        file("d/sub/gone", "3"),
        file("file", "4"),
        dir("tree"),
        file("tree/x", "5"),
        symlink("link", "d/kept"),
        dir("opaque"),
        file("opaque/gone", "6"),
    ]);
    let high = tape(&[
        // A whiteout acts on the layers below only.
        file("d/.wh.gone", ""),
        file("d/gone", "again"),
        file("d/.wh.sub", ""),
        dir("file"),
        file("file/inside", "7"),
        file("tree", "a file now"),
        file("opaque/fresh", "8"),
        file("opaque/.wh..wh..opq", ""),
        file("opaque/.wh..wh.aufs", ""),
        hard_link("hard", "implied/target"),
        file("implied/target", "9"),
        hard_link("harder", "hard"),
        hard_link("low", "d/kept"),
    ]);
    let image = Parts::oci(&[low, high], gzip).read().unwrap();
    assert_eq!(
        listing(&image),
        [
            "d/",
            "d/gone = again",
            "d/kept = 1",
            "file/",
            "file/inside = 7",
            "hard = 9",
            "harder = 9",
            "implied/",
            "implied/target = 9",
            "link -> d/kept",
            "low = 1",
            "opaque/",
            "opaque/fresh = 8",
            "tree = a file now",
        ]
    );
}

#[test]
fn links_are_followed_inside_the_image() {
    let layer = tape(&[
        file("usr/lib/libc.so.6", "c"),
        symlink("lib", "usr/lib"),
        symlink("usr/lib/libc.so", "libc.so.6"),
        symlink("absolute", "/lib/libc.so"),
        symlink("upwards", "../../../usr/../lib/libc.so.6"),
        symlink("loop", "loop2"),
        symlink("loop2", "loop"),
        symlink("dangling", "nothing"),
    ]);
    let image = Parts::oci(&[layer], plain).read().unwrap();
    for path in ["lib/libc.so.6", "lib/libc.so", "absolute", "upwards", "/usr/lib/libc.so"] {
        assert_eq!(image.read_file(path, 10).unwrap().as_deref(), Some(&b"c"[..]), "{path}");
    }
    for path in ["loop", "dangling", "lib", "usr/lib/libc.so.6/x", ""] {
        assert_eq!(image.read_file(path, 10).unwrap(), None, "{path}");
    }
    assert!(matches!(image.read_file("absolute", 0), Err(Error::Limit { .. })));
}

#[test]
fn wrong_digests_and_documents_are_refused() {
    let layers = two_layers();
    type Spoil = fn(&mut Parts);
    let cases: [(&str, Spoil); 12] = [
        ("layer-changed", |p| blob_containing(p, b"\0\0\0\0")[600] ^= 1),
        ("config-changed", |p| *blob_containing(p, b"diff_ids") = b"{\"rootfs\":{\"diff_ids\":[]}}".to_vec()),
        ("manifest-changed", |p| blob_containing(p, b"layers\":[").push(b' ')),
        ("layer-missing", |p| p.members.retain(|_, v| !v.windows(4).any(|w| w == [0; 4]))),
        ("no-index", |p| drop(p.members.remove("index.json"))),
        ("two-images", |p| {
            let index: Value = serde_json::from_slice(&p.members["index.json"]).unwrap();
            let image = &index["manifests"][0];
            let other = p.blob("{}");
            p.json("index.json", json!({ "manifests": [image, other] }));
        }),
        ("no-image", |p| p.json("index.json", json!({ "manifests": [] }))),
        ("not-json", |p| drop(p.members.insert("index.json".into(), b"[".to_vec()))),
        ("huge-json", |p| drop(p.members.insert("index.json".into(), vec![b' '; 5 << 20]))),
        ("digest-is-a-path", |p| {
            p.json("index.json", json!({ "manifests": [{ "digest": "sha256:../../x", "size": 1 }] }));
        }),
        ("wrong-size", |p| {
            let mut index: Value = serde_json::from_slice(&p.members["index.json"]).unwrap();
            index["manifests"][0]["size"] = json!(7);
            p.json("index.json", index);
        }),
        ("index-of-itself", |p| {
            let mut index = p.blob("{\"manifests\":[]}");
            index["mediaType"] = json!("application/vnd.oci.image.index.v1+json");
            p.json("index.json", json!({ "manifests": [index] }));
        }),
    ];
    for (name, spoil) in cases {
        let mut parts = Parts::oci(&layers, plain);
        spoil(&mut parts);
        assert!(parts.read().is_err(), "{name} was accepted");
    }
    // In the older layout only the diff ids and the name of the configuration protect the content.
    let mut parts = Parts::docker(&layers);
    parts.members.get_mut(&format!("{:064}/layer.tar", 0)).unwrap()[600] ^= 1;
    assert!(parts.read().is_err());
    let mut parts = Parts::docker(&layers);
    let config =
        parts.members.keys().find(|name| name.ends_with(".json") && name.len() > 60).unwrap().clone();
    parts.members.get_mut(&config).unwrap().push(b' ');
    assert!(parts.read().is_err());
}

fn blob_containing<'a>(parts: &'a mut Parts, needle: &[u8]) -> &'a mut Vec<u8> {
    (parts.members.iter_mut())
        .filter(|(name, _)| name.starts_with("blobs/"))
        .map(|(_, bytes)| bytes)
        .find(|bytes| bytes.windows(needle.len()).any(|w| w == needle))
        .unwrap()
}

#[test]
fn a_digest_of_the_packed_blob_alone_is_not_enough() {
    // The blob is as the manifest says, but unpacks to something else than the configuration says.
    let layer = tape(&[file("a", "1")]);
    let other = tape(&[file("a", "2")]);
    let mut parts = Parts::oci(&[layer], gzip);
    let config = format!("sha256:{}", hex_digest(blob_containing(&mut parts, b"diff_ids")));
    let config_size = blob_containing(&mut parts, b"diff_ids").len();
    let packed = parts.blob(gzip(&other));
    let manifest = json!({ "config": { "digest": config, "size": config_size }, "layers": [packed] });
    let manifest = parts.blob(manifest.to_string());
    parts.json("index.json", json!({ "manifests": [manifest] }));
    let error = parts.read().unwrap_err();
    assert!(error.to_string().contains("unpacked"), "{error}");
}

#[test]
fn hostile_layers_are_refused() {
    let cases: [(&str, Vec<Vec<u8>>); 11] = [
        ("dot-dot", vec![file("../evil", "")]),
        ("absolute", vec![file("/evil", "")]),
        ("duplicate", vec![file("a", "1"), file("a", "2")]),
        ("file-and-directory", vec![file("a", "1"), dir("a")]),
        ("below-a-file", vec![file("a", "1"), file("a/b", "2")]),
        ("below-a-link", vec![symlink("a", "/etc"), file("a/passwd", "2")]),
        ("hard-link-outside", vec![hard_link("a", "../../etc/passwd")]),
        ("hard-link-to-nothing", vec![hard_link("a", "b"), hard_link("b", "a")]),
        ("whiteout-of-nothing", vec![file("d/.wh.", "")]),
        ("whiteout-of-its-directory", vec![file("d/.wh..", "")]),
        ("whiteout-of-the-directory-above", vec![file("d/.wh...", "")]),
    ];
    for (name, entries) in cases {
        assert!(Parts::oci(&[tape(&entries)], plain).read().is_err(), "{name} was accepted");
    }
    // The same below a link of a lower layer, where engines disagree.
    let low = tape(&[symlink("lib", "usr/lib")]);
    assert!(Parts::oci(&[low, tape(&[file("lib/x", "")])], plain).read().is_err());
}

#[test]
fn a_hard_link_to_a_file_about_to_be_replaced_is_refused() {
    let low = tape(&[file("a", "old")]);
    let read = |entries: &[Vec<u8>]| Parts::oci(&[low.clone(), tape(entries)], plain).read();
    let error = read(&[hard_link("b", "a"), file("a", "new")]).unwrap_err().to_string();
    assert!(error.contains("image layer 2") && error.contains("from b to a"), "{error}");
    let image = read(&[file("a", "new"), hard_link("b", "a")]).unwrap();
    assert_eq!(listing(&image), ["a = new", "b = new"]);
    // Where the file below is taken away: one engine finds nothing, another the mark that it is gone, and before that
    // the old file is still there.
    for entries in [
        [file(".wh.a", ""), hard_link("b", "a"), file("a", "new")],
        [hard_link("b", "a"), file(".wh.a", ""), file("a", "new")],
    ] {
        assert!(read(&entries).is_err());
    }
}

#[test]
fn bombs_are_refused() {
    // 600 MiB of zeros behind the end of the archive, a thousand times smaller when packed.
    let zeros = vec![0; 1 << 20];
    for pack in [gzip_best, zstd] {
        let mut bomb = pack(&tape(&[file("a", "1")]));
        let piece = pack(&zeros);
        for _ in 0..600 {
            bomb.extend_from_slice(&piece);
        }
        let mut parts = Parts { members: BTreeMap::new() };
        // Nobody gets as far as comparing the diff id.
        let diff_ids = json!([format!("sha256:{}", "0".repeat(64))]);
        let config = parts.blob(json!({ "rootfs": { "diff_ids": diff_ids } }).to_string());
        let layer = parts.blob(bomb);
        let manifest = parts.blob(json!({ "config": config, "layers": [layer] }).to_string());
        parts.json("index.json", json!({ "manifests": [manifest] }));
        let error = parts.read().unwrap_err();
        assert!(matches!(error, Error::Limit { .. }), "{error}");
    }
}

#[test]
fn only_plain_images_are_extracted() {
    let good = tape(&[dir("d"), file("d/a", "1"), hard_link("d/b", "d/a"), file("c", "3")]);
    let image = Parts::oci(&[good.clone(), tape(&[file("c", "4")])], gzip).read().unwrap();
    let out = tempfile::tempdir().unwrap();
    image.extract(&out.path().join("x")).unwrap();
    for (name, content) in [("d/a", "1"), ("d/b", "1"), ("c", "4")] {
        assert_eq!(fs::read_to_string(out.path().join("x").join(name)).unwrap(), content);
    }
    assert!(image.extract(&out.path().join("x")).is_err(), "only into an empty directory");
    for (name, bad) in [
        ("symlink", symlink("evil", "/etc")),
        ("device", entry(b"evil", b'3', 0o644, b"", b"")),
        ("fifo", entry(b"evil", b'6', 0o644, b"", b"")),
        ("setuid", entry(b"evil", b'0', 0o4755, b"", b"")),
    ] {
        let image = Parts::oci(&[good.clone(), tape(&[bad])], plain).read().unwrap();
        let dest = out.path().join(name);
        assert!(image.extract(&dest).is_err(), "{name} was extracted");
        assert!(!dest.exists());
    }
}

#[test]
fn a_file_changed_after_it_was_checked_is_noticed() {
    let bytes = Parts::oci(&[tape(&[file("a", "content")])], plain).pack();
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&bytes).unwrap();
    let image = Image::read(&Region::whole(file.try_clone().unwrap()).unwrap()).unwrap();
    let at = bytes.windows(7).position(|w| w == b"content").unwrap();
    std::os::unix::fs::FileExt::write_at(&file, b"c0ntent", at as u64).unwrap();
    assert!(image.read_file("a", 100).is_err());
    let out = tempfile::tempdir().unwrap();
    assert!(image.extract(out.path()).is_err());
    assert_eq!(fs::read_dir(out.path()).unwrap().count(), 0);
}

#[test]
fn the_layout_that_is_written_reads_back() {
    let local = tempfile::NamedTempFile::new().unwrap();
    fs::write(local.path(), "from a file").unwrap();
    let long = format!("opt/{}", "x".repeat(150));
    let files = BTreeMap::from([
        ("opt/a".to_string(), Content::Bytes(b"bytes")),
        (long.clone(), Content::Path(local.path().into())),
    ]);
    let write = || {
        let mut bytes = Vec::new();
        write_layout(&files, "amd64", &mut bytes).unwrap();
        bytes
    };
    assert_eq!(write(), write());
    let image = read_bytes(&write()).unwrap();
    assert_eq!(listing(&image), ["opt/", "opt/a = bytes", &format!("{long} = from a file")]);
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(64))]
    #[test]
    fn any_spoilt_image_is_read_or_refused(
        flips in proptest::collection::vec((0usize..20_000, proptest::num::u8::ANY), 1..8),
        packing in 0usize..4,
    ) {
        let layers = two_layers();
        let parts = match packing {
            0 => Parts::oci(&layers, plain),
            1 => Parts::oci(&layers, gzip),
            2 => Parts::oci(&layers, zstd),
            _ => Parts::docker(&layers),
        };
        let mut bytes = parts.pack();
        let length = bytes.len();
        for (at, value) in flips {
            bytes[at % length] = value;
        }
        let _ = read_bytes(&bytes);
    }
}

fn saved(image: &Image, write: impl FnOnce(&Image, &mut dyn Write) -> Result<()>) -> (Vec<u8>, Image) {
    let mut bytes = Vec::new();
    write(image, &mut bytes).unwrap();
    let again = read_bytes(&bytes).unwrap();
    (bytes, again)
}

/// The one entry of `manifest.json`, and the configuration that it names.
fn documents(archive: &[u8]) -> (Value, Value) {
    let mut members = BTreeMap::new();
    for entry in tar::Archive::new(archive).entries().unwrap() {
        let mut entry = entry.unwrap();
        let mut content = Vec::new();
        entry.read_to_end(&mut content).unwrap();
        members.insert(entry.path().unwrap().display().to_string(), content);
    }
    let manifest: Value = serde_json::from_slice(&members["manifest.json"]).unwrap();
    assert_eq!(manifest.as_array().unwrap().len(), 1);
    let config = serde_json::from_slice(&members[manifest[0]["Config"].as_str().unwrap()]).unwrap();
    (manifest[0].clone(), config)
}

/// An image with everything in its configuration that could act on whoever loads or runs it.
fn talkative(layers: &[Vec<u8>]) -> Parts {
    let mut parts = Parts::docker(layers);
    let diff_ids: Vec<_> = layers.iter().map(|l| format!("sha256:{}", hex_digest(l))).collect();
    let config = json!({
        "architecture": "amd64",
        "config": {
            "Env": ["PATH=/bin", "SSL_CERT_FILE=/ca", "LD_PRELOAD=/evil.so"], "Entrypoint": ["/evil"],
            "Cmd": ["evil"], "User": "evil", "WorkingDir": "/work", "Labels": { "a": "b" },
            "Volumes": { "/data": {} }, "OnBuild": ["RUN evil"], "Healthcheck": { "Test": ["CMD", "evil"] },
            "ExposedPorts": { "80/tcp": {} }, "StopSignal": "SIGKILL", "Shell": ["/evil"],
        },
        "history": [{ "created_by": "a secret" }],
        "rootfs": { "type": "layers", "diff_ids": diff_ids },
    });
    let name = format!("{}.json", hex_digest(config.to_string().as_bytes()));
    parts.json(&name, config);
    let mut manifest: Value = serde_json::from_slice(&parts.members["manifest.json"]).unwrap();
    manifest[0]["Config"] = json!(name);
    parts.json("manifest.json", manifest);
    parts
}

#[test]
fn what_an_engine_loads_has_no_name_or_configuration_of_the_images() {
    for parts in [talkative(&two_layers()), Parts::oci(&two_layers(), gzip), Parts::oci(&two_layers(), zstd)]
    {
        let image = parts.read().unwrap();
        let (bytes, again) = saved(&image, |image, out| image.write_bare(Some("mse-node:abc"), out));
        assert_eq!(listing(&again), listing(&image));
        let (manifest, config) = documents(&bytes);
        assert_eq!(manifest["RepoTags"], json!(["mse-node:abc"]));
        assert_eq!(config["config"], json!({}));
        let keys: Vec<_> = config.as_object().unwrap().keys().cloned().collect();
        assert_eq!(keys, ["architecture", "config", "os", "rootfs"]);
        let (bytes, _) = saved(&image, |image, out| image.write_bare(None, out));
        assert_eq!(documents(&bytes).0["RepoTags"], json!([]));
    }
}

#[test]
fn a_layer_that_occurs_twice_is_written_once() {
    let [one, _] = two_layers();
    let image = Parts::docker(&[one.clone(), one]).read().unwrap();
    let (bytes, again) = saved(&image, |image, out| image.write_bare(None, out));
    assert_eq!(again.layers.len(), 2);
    assert_eq!(tar::Archive::new(&bytes[..]).entries().unwrap().count(), 3);
}

#[test]
fn an_image_that_changes_while_it_is_written_is_refused() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    let bytes = Parts::docker(&two_layers()).pack();
    file.write_all(&bytes).unwrap();
    let image = Image::open(file.path()).unwrap();
    let at = bytes.windows(3).position(|w| w == b"old").unwrap();
    std::os::unix::fs::FileExt::write_at(file.as_file(), b"new", at as u64).unwrap();
    let error = image.write_bare(None, &mut std::io::sink()).unwrap_err();
    assert!(error.to_string().contains("layer 1"), "{error}");
}

#[test]
fn a_base_image_keeps_what_programs_need() {
    let image = talkative(&two_layers()).read().unwrap();
    let (bytes, again) = saved(&image, |i, out| i.write_archive("mse-base:latest", &["SSL_CERT_FILE"], out));
    assert_eq!(listing(&again), listing(&image));
    let (manifest, config) = documents(&bytes);
    assert_eq!(manifest["RepoTags"], json!(["mse-base:latest"]));
    assert_eq!(
        config["config"],
        json!({
            "Cmd": ["evil"], "Entrypoint": ["/evil"], "Env": ["PATH=/bin", "LD_PRELOAD=/evil.so"],
            "Labels": { "a": "b" }, "User": "evil", "WorkingDir": "/work",
        })
    );
    assert!(config.get("history").is_none());
    assert_eq!(image.environment_variable("PATH").as_deref(), Some("/bin"));
    assert_eq!(image.environment_variable("PAT"), None);
}

#[test]
fn layers_of_a_build_are_taken_out() {
    let [one, two] = two_layers();
    let ca = tape(&[dir("run/"), dir("run/ca/"), file("run/ca/ca.pem", "CERTIFICATE")]);
    let removed = tape(&[dir("run"), file("run/.wh.ca", "")]);
    let leads_there = tape(&[dir("run")]);
    let layers = [one.clone(), ca.clone(), two.clone(), removed, leads_there.clone()];
    let image = Parts::docker(&layers).read().unwrap();
    let without = image.without_layers_below("/run/ca").unwrap();
    assert_eq!(without.layers.len(), 3);
    let (bytes, again) = saved(&without, |image, out| image.write_archive("base", &[], out));
    assert_eq!(listing(&again), listing(&Parts::docker(&[one.clone(), two, leads_there]).read().unwrap()));
    assert!(!bytes.windows(11).any(|w| w == b"CERTIFICATE"));
    // A name that only begins alike is another.
    assert_eq!(image.without_layers_below("run/c").unwrap().layers.len(), 5);

    for mixed in [
        tape(&[file("run/ca/copy.pem", "CERTIFICATE"), file("etc/other", "x")]),
        tape(&[file("run/.wh.ca", ""), file("etc/other", "x")]),
        tape(&[file("run/ca", "x"), file("etc/.wh.a", "")]),
        tape(&[file("run/ca", "x"), symlink("run2", "/run")]),
    ] {
        let image = Parts::docker(&[one.clone(), ca.clone(), mixed]).read().unwrap();
        assert!(image.without_layers_below("run/ca").is_err());
    }
    assert!(image.without_layers_below("../x").is_err());
}

#[test]
fn a_layer_is_put_on_top() {
    let mut layer = tempfile::tempfile().unwrap();
    layer.write_all(&tape(&[file("top", "new"), file("etc/.wh.a", "")])).unwrap();
    let image = Parts::oci(&two_layers(), gzip).read().unwrap().with_layer(layer).unwrap();
    let (_, again) = saved(&image, |image, out| image.write_bare(None, out));
    assert_eq!(listing(&again), listing(&image));
    assert!(listing(&image).contains(&"top = new".into()));
    assert!(image.tree().node("etc/a").is_none());
}

mod hostile;
