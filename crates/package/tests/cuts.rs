//! Where a package is cut for an upload: what two packages have in common is the same part in both.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fs;

use package::Package;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

const CONFIG: &str = r#"
name = "example"
python_application = "app:app"
healthcheck_endpoint = "/health"
tests_cmd = "pytest"
"#;

const LIBPAL: &[u8] = include_bytes!("data/libpal.so");
const MIB: usize = 1024 * 1024;

fn tar(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for (path, content) in entries {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        archive.append_data(&mut header, path, *content).unwrap();
    }
    archive.into_inner().unwrap()
}

/// Bytes that occur nowhere else.
fn noise(seed: u8, length: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    for block in 0u64.. {
        if bytes.len() >= length {
            break;
        }
        bytes.extend(Sha256::digest([&[seed][..], &block.to_be_bytes()].concat()));
    }
    bytes.truncate(length);
    bytes
}

fn digest(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

/// What `docker save` writes of these layers, in an order of the engine's own.
fn saved(layers: &[&[u8]]) -> Vec<u8> {
    let diff_ids: Vec<_> = layers.iter().map(|layer| format!("sha256:{}", digest(layer))).collect();
    let config = json!({ "rootfs": { "diff_ids": diff_ids } }).to_string();
    let names: Vec<_> = (0..layers.len()).map(|n| format!("{}/layer.tar", layers.len() - n)).collect();
    let manifest = json!([{ "Config": format!("{}.json", digest(config.as_bytes())), "Layers": names }]);
    let manifest = manifest.to_string();
    let config_name = format!("{}.json", digest(config.as_bytes()));
    let mut members =
        BTreeMap::from([(config_name.as_str(), config.as_bytes()), ("manifest.json", manifest.as_bytes())]);
    for (name, layer) in names.iter().zip(layers) {
        members.insert(name, layer);
    }
    tar(&members.into_iter().collect::<Vec<_>>())
}

/// An OCI layout of one layer, as the native builder writes it.
fn native(layer: &[u8]) -> Vec<u8> {
    let mut blobs: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    let mut blob = |bytes: &[u8]| -> Value {
        blobs.insert(format!("blobs/sha256/{}", digest(bytes)), bytes.to_vec());
        json!({ "digest": format!("sha256:{}", digest(bytes)), "size": bytes.len() })
    };
    let layer_id = format!("sha256:{}", digest(layer));
    let config = blob(json!({ "rootfs": { "diff_ids": [layer_id] } }).to_string().as_bytes());
    let layer = blob(layer);
    let manifest = blob(json!({ "config": config, "layers": [layer] }).to_string().as_bytes());
    blobs.insert("index.json".into(), json!({ "manifests": [manifest] }).to_string().into_bytes());
    tar(&blobs.iter().map(|(name, bytes)| (name.as_str(), &bytes[..])).collect::<Vec<_>>())
}

/// A package, and its parts between the cuts.
fn cut(image: &[u8], code: &[u8]) -> (Package, Vec<Vec<u8>>) {
    let bytes = tar(&[
        ("app.tar.enc", code),
        ("image.tar", image),
        ("mse.toml", CONFIG.as_bytes()),
        ("tests.tar", &tar(&[])),
    ]);
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("package.tar");
    fs::write(&path, &bytes).unwrap();
    let package = Package::open(&path).unwrap();
    let cuts = package.cuts();
    assert_eq!(cuts.first(), Some(&0));
    assert!(cuts.is_sorted_by(|a, b| a < b) && cuts.len() <= 1000);
    let ends = cuts.iter().skip(1).copied().chain([bytes.len() as u64]);
    let parts: Vec<_> =
        cuts.iter().zip(ends).map(|(&start, end)| bytes[start as usize..end as usize].to_vec()).collect();
    assert!(parts.iter().all(|part| !part.is_empty()));
    assert_eq!(parts.concat(), bytes);
    (package, parts)
}

#[test]
fn a_layer_is_a_part_of_its_own_whatever_lies_around_it() {
    let node = tar(&[("opt/mse/python/mse_node/_node.abi3.so", LIBPAL)]);
    let large = tar(&[("usr/lib/large", &noise(1, 2 * MIB))]);
    let larger = tar(&[("usr/lib/larger", &noise(2, 3 * MIB))]);
    let other = tar(&[("usr/lib/other", &noise(3, 2 * MIB))]);
    let (_, first) = cut(&saved(&[&large, &node, &larger]), &noise(4, 700));
    let (_, second) = cut(&saved(&[&larger, &other, &large, &node]), &noise(5, 90_000));
    for layer in [&large, &larger] {
        assert!(first.contains(layer) && second.contains(layer));
    }
    assert!(!first.contains(&node), "small things travel with what is around them");
    assert_eq!(first.len(), 5);
    assert_eq!(second.len(), 7);
}

#[test]
fn another_code_is_another_first_part_and_no_more() {
    let node = tar(&[("opt/mse/python/mse_node/_node.abi3.so", LIBPAL)]);
    let large = tar(&[("usr/lib/large", &noise(1, 2 * MIB))]);
    let image = saved(&[&node, &large]);
    let (_, first) = cut(&image, &noise(4, 700));
    let (_, second) = cut(&image, &noise(5, 90_000));
    assert_ne!(first[0], second[0]);
    assert_eq!(first[1..], second[1..]);
}

#[test]
fn large_files_of_a_natively_built_image_are_parts_too() {
    let record = json!({
        "implementation": "cpython", "version": "3.11", "architecture": "x86_64",
        "libc": "glibc", "libc_version": "2.36",
    });
    let record = record.to_string();
    let library = noise(1, 2 * MIB);
    let layer = |module: &str, content: &[u8]| {
        tar(&[
            ("opt/mse/python/interpreter.json", record.as_bytes()),
            (&format!("opt/mse/python/{module}"), content),
            ("opt/mse/python/large.so", &library),
            ("opt/mse/python/mse_node/_node.abi3.so", LIBPAL),
        ])
    };
    let (package, first) = cut(&native(&layer("a.py", b"print(1)")), b"code");
    assert!(package.interpreter().is_some());
    let (_, second) = cut(&native(&layer("another.py", &noise(2, 5000))), b"code");
    assert!(first.contains(&library) && second.contains(&library));
    assert_eq!(first.len(), 5);
}

#[test]
fn a_small_package_is_one_part() {
    let node = tar(&[("opt/mse/python/mse_node/_node.abi3.so", LIBPAL)]);
    assert_eq!(cut(&saved(&[&node]), b"code").1.len(), 1);
}
