//! Every vector made with Gramine's own tools is reproduced to the byte.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};

use gramine::attributes::SignedAttributes;
use gramine::layout::Area;
use gramine::manifest::EnclaveSettings;
use gramine::measure::{Stage, measure_in_stages};
use gramine::{Manifest, SigStruct, SignerKey, loader, measure};
use serde_json::Value;

struct Vector {
    name: String,
    folder: PathBuf,
    expected: Value,
}

impl Vector {
    fn all() -> Vec<Vector> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors");
        let folders =
            fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_dir());
        let vectors: Vec<_> = folders
            .map(|folder| Vector {
                name: folder.file_name().unwrap().to_str().unwrap().into(),
                expected: serde_json::from_slice(&fs::read(folder.join("vector.json")).unwrap()).unwrap(),
                folder,
            })
            .collect();
        assert_eq!(vectors.len(), 8);
        vectors
    }

    fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.folder.join(name)).unwrap()
    }

    fn manifest(&self) -> Vec<u8> {
        self.read("app.manifest.sgx")
    }

    fn libpal(&self) -> Vec<u8> {
        self.read("libpal.so")
    }

    fn text(&self, key: &str) -> &str {
        self.expected[key].as_str().unwrap()
    }
}

fn number(value: &Value) -> u64 {
    u64::from_str_radix(value.as_str().unwrap().strip_prefix("0x").unwrap(), 16).unwrap()
}

#[test]
fn the_stream_agrees_after_every_area() {
    for vector in Vector::all() {
        let mut stages = Vec::new();
        let measured = measure_in_stages(&vector.manifest(), &vector.libpal(), |stage, digest| {
            let name = match stage {
                Stage::Created => "ecreate".into(),
                Stage::Manifest => "manifest".into(),
                Stage::Ssa => "ssa".into(),
                Stage::Tcs => "tcs".into(),
                Stage::Tls => "tls".into(),
                Stage::Stacks => "all stacks".into(),
                Stage::SigStacks => "all sig_stacks".into(),
                Stage::Segment { address } => format!("PT_LOAD at vaddr {address:#x}"),
                Stage::Free => "end".into(),
            };
            stages.push((name, hex::encode(digest)));
        });
        let expected: Vec<(String, String)> = vector.expected["checkpoints"]
            .as_array()
            .unwrap()
            .iter()
            .filter_map(|checkpoint| {
                let name = checkpoint.get("after")?.as_str()?;
                let name = if name.contains("(final MRENCLAVE)") { "end" } else { name };
                Some((name.into(), checkpoint["sha256_so_far"].as_str()?.into()))
            })
            .collect();
        assert_eq!(stages, expected, "{}", vector.name);
        assert_eq!(hex::encode(measured.unwrap().mrenclave), vector.text("mrenclave"), "{}", vector.name);
    }
}

#[test]
fn the_memory_map_agrees() {
    for vector in Vector::all() {
        let layout = measure::measure(&vector.manifest(), &vector.libpal()).unwrap().layout;
        let expected: Vec<_> = vector.expected["memory_map"]
            .as_array()
            .unwrap()
            .iter()
            .map(|area| {
                let text = |key: &str| area[key].as_str().unwrap().to_string();
                let addresses = number(&area["start"])..number(&area["end"]);
                (text("name"), addresses, text("type"), text("perm"), area["measured"].as_bool().unwrap())
            })
            .collect();
        let line = |a: Area| {
            (a.name.into(), a.addresses, a.page_type.to_string(), a.permissions.to_string(), a.measured)
        };
        assert_eq!(layout.memory_map().map(line).collect::<Vec<_>>(), expected, "{}", vector.name);

        let pages = layout.page_counts();
        assert_eq!(Some(pages.added), vector.expected["pages"]["eadd_total"].as_u64(), "{}", vector.name);
        assert_eq!(Some(pages.measured), vector.expected["pages"]["eextended"].as_u64(), "{}", vector.name);
    }
}

#[test]
fn signatures_are_the_same_files() {
    for vector in Vector::all() {
        let key = SignerKey::from_pem(std::str::from_utf8(&vector.read("key.pem")).unwrap()).unwrap();
        let date = vector.text("date").parse().unwrap();
        let sigstruct = SigStruct::sign(&vector.manifest(), &vector.libpal(), &key, date).unwrap();
        let file = vector.read("app.sig");
        assert!(sigstruct.to_bytes() == file.as_slice(), "{}: another app.sig", vector.name);

        let parsed = SigStruct::parse(&file).unwrap();
        assert!(parsed == sigstruct && parsed.verify() == Ok(()), "{}", vector.name);
        assert_eq!(hex::encode(parsed.mrenclave), vector.text("mrenclave"));
        assert_eq!(hex::encode(parsed.mrsigner()), vector.text("mrsigner"));
        assert_eq!(key.mrsigner(), parsed.mrsigner());
        assert_eq!(parsed.date.to_string(), vector.text("date"));
    }
}

#[test]
fn settings_and_attributes_agree() {
    for vector in Vector::all() {
        let settings = EnclaveSettings::parse(&vector.manifest()).unwrap();
        let inputs = &vector.expected["inputs"];
        assert_eq!(Some(u64::from(settings.max_threads)), inputs["max_threads"].as_u64());
        assert_eq!(Some(settings.debug), inputs["debug"].as_bool());
        assert_eq!(Some(settings.edmm_enable), inputs["edmm_enable"].as_bool());
        assert_eq!(Some(u64::from(settings.isv_prod_id)), vector.expected["isv_prod_id"].as_u64());
        assert_eq!(Some(u64::from(settings.isv_svn)), vector.expected["isv_svn"].as_u64());

        let signed = SignedAttributes::of(&settings);
        let expected = &vector.expected["attributes"];
        assert_eq!(signed.attributes.flags, number(&expected["attribute_flags"]), "{}", vector.name);
        assert_eq!(signed.attributes.xfrm, number(&expected["attribute_xfrms"]), "{}", vector.name);
        assert_eq!(signed.attribute_mask.flags, number(&expected["attribute_flags_mask"]), "{}", vector.name);
        assert_eq!(signed.attribute_mask.xfrm, number(&expected["attribute_xfrm_mask"]), "{}", vector.name);
        assert_eq!(u64::from(signed.misc_select), number(&vector.expected["misc_select"]), "{}", vector.name);
        assert_eq!(u64::from(signed.misc_mask), number(&vector.expected["misc_mask"]), "{}", vector.name);
    }
}

#[test]
fn whole_manifests_are_read() {
    for vector in Vector::all() {
        let manifest = Manifest::parse(&vector.manifest()).unwrap();
        let expected = vector.expected["inputs"]["trusted_files_count"].as_u64();
        assert_eq!(Some(manifest.trusted_files.len() as u64), expected, "{}", vector.name);
        assert!(manifest.trusted_files.iter().all(|file| file.uri.starts_with("file:")), "{}", vector.name);
    }
}

#[test]
fn the_loader_takes_what_real_enclaves_look_like() {
    for vector in Vector::all() {
        let outcome = loader::check(&vector.manifest(), &vector.libpal());
        let hexadecimal_size = vector.name.starts_with("10-");
        assert_eq!(outcome.is_err(), hexadecimal_size, "{}: {outcome:?}", vector.name);
    }
}
