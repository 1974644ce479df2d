//! Images that take more than they bring, and layers that engines would unpack in other ways.

use super::*;

/// Puts `layers` (tars, packed by `pack`), each as often as `times` says, into a `docker save` archive.
fn saved_with(layers: &[Vec<u8>], times: usize, pack: fn(&[u8]) -> Vec<u8>) -> Parts {
    let mut parts = Parts { members: BTreeMap::new() };
    let all = || (0..times).flat_map(|_| layers.iter().enumerate());
    let diff_ids: Vec<_> = all().map(|(_, l)| format!("sha256:{}", hex_digest(l))).collect();
    let config = json!({ "rootfs": { "type": "layers", "diff_ids": diff_ids } }).to_string();
    let config_name = format!("{}.json", hex_digest(config.as_bytes()));
    parts.members.insert(config_name.clone(), config.into_bytes());
    for (index, layer) in layers.iter().enumerate() {
        parts.members.insert(format!("{index}/layer.tar"), pack(layer));
    }
    let names: Vec<_> = all().map(|(index, _)| format!("{index}/layer.tar")).collect();
    parts.json("manifest.json", json!([{ "Config": config_name, "Layers": names }]));
    parts
}

fn long_entry(path: &str, kind: u8, link: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (kind, text) in [(b'L', path), (b'K', link)] {
        if text.len() >= 100 {
            bytes.extend(entry(b"././@LongLink", kind, 0o644, &[text.as_bytes(), b"\0"].concat(), b""));
        }
    }
    let short = |text: &str| text.as_bytes()[..text.len().min(99)].to_vec();
    bytes.extend(entry(short(path).trim_ascii_end(), kind, 0o644, b"", &short(link)));
    bytes
}

fn limit(result: Result<Image>, what: &str) {
    match result {
        Err(Error::Limit { what: found, .. }) => assert!(found.contains(what), "{found}"),
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("it was read"),
    }
}

#[test]
fn directories_that_only_paths_name_are_counted() {
    // 250 new directories for each entry, of which gzip makes a few bytes.
    let deep = |count: usize| {
        let entries: Vec<_> =
            (0..count).map(|n| long_entry(&format!("{n:07}/{}f", "a/".repeat(250)), b'0', "")).collect();
        saved_with(&[tape(&entries)], 1, gzip_best)
    };
    assert_eq!(deep(10).read().unwrap().tree().len(), 10 * 252);
    limit(deep(200).read(), "list of files of image layer 1");
    // The same in layers of which each keeps to the limit.
    let layers: Vec<_> = (0..20)
        .map(|layer| {
            let path = |n: usize| format!("{layer}/{n:07}/{}f", "a/".repeat(250));
            tape(&(0..10).map(|n| long_entry(&path(n), b'0', "")).collect::<Vec<_>>())
        })
        .collect();
    limit(saved_with(&layers, 1, gzip_best).read(), "list of files");
}

#[test]
fn many_empty_files_are_read_in_proportion_to_the_bytes() {
    let entries: Vec<_> = (0..10_000).map(|n| file(&format!("usr/share/{n}"), "")).collect();
    assert_eq!(saved_with(&[tape(&entries)], 1, gzip).read().unwrap().tree().len(), 10_002);
    // Nothing is packed here: the bytes are all there.
    let entries: Vec<_> = (0..30_000).map(|n| file(&format!("usr/share/{n}"), "")).collect();
    assert_eq!(saved_with(&[tape(&entries)], 1, plain).read().unwrap().tree().len(), 30_002);
}

#[test]
fn chains_of_hard_links_are_followed_once() {
    let count = 20_000;
    let mut entries: Vec<_> =
        (0..count).map(|n| hard_link(&format!("l{n:07}"), &format!("l{:07}", n + 1))).collect();
    entries.push(file(&format!("l{count:07}"), "x"));
    let layer = tape(&entries);
    let image = saved_with(&[layer], 1, plain).read().unwrap();
    assert_eq!(image.tree().nodes().filter(|(_, node)| matches!(node, Node::File(_))).count(), count + 1);
    // In a circle, there is nothing at their end.
    let mut circle: Vec<_> =
        (0..count).map(|n| hard_link(&format!("l{n:07}"), &format!("l{:07}", n + 1))).collect();
    circle.push(hard_link(&format!("l{count:07}"), "l0000000"));
    assert!(saved_with(&[tape(&circle)], 1, plain).read().is_err());
}

#[test]
fn chains_of_symbolic_links_are_followed_once() {
    // Each target goes through the next link and a thousand other components.
    let around = "d/../".repeat(700);
    let mut entries = vec![dir("d"), file("end", "x")];
    for n in 0..2_000 {
        let next = if n % 39 == 38 { "end".into() } else { format!("l{:05}", n + 1) };
        entries.push(long_entry(&format!("l{n:05}"), b'2', &format!("{around}{next}")));
    }
    let image = saved_with(&[tape(&entries)], 1, plain).read().unwrap();
    for n in 0..51 * 39 {
        assert!(image.tree().resolve(&format!("l{n:05}")).is_some(), "{n}");
    }
    // Linux follows forty.
    let chain = |length: usize| {
        let mut entries = vec![file("l0", "x")];
        entries.extend((1..=length).map(|n| symlink(&format!("l{n}"), &format!("l{}", n - 1))));
        saved_with(&[tape(&entries)], 1, plain).read().unwrap()
    };
    assert!(chain(41).tree().resolve("l40").is_some());
    assert!(chain(41).tree().resolve("l41").is_none());
}

#[test]
fn a_layer_that_occurs_again_is_read_once() {
    // 512 times 8 MiB of zeros would go beyond what an image of this size may unpack to.
    let layer = tape(&[file("zeros", &"\0".repeat(8 << 20))]);
    let image = saved_with(&[layer], 512, gzip_best).read().unwrap();
    assert_eq!(image.layers.len(), 512);
    assert!(image.layers.iter().all(|blob| blob.unpacked == image.layers[0].unpacked));
    let (_, again) = saved(&image, |image, out| image.write_bare(None, out));
    assert_eq!(again.tree().len(), 1);
    // Its entries are gone through again each time, and that is bounded.
    let entries: Vec<_> = (0..2_000).map(|n| file(&format!("{n}"), "")).collect();
    limit(saved_with(&[tape(&entries)], 512, gzip_best).read(), "repeated layers");
    // The other layers in between count.
    let [one, two] = two_layers();
    let image = saved_with(&[one, two], 2, gzip).read().unwrap();
    assert_eq!(listing(&image), ["etc/", "etc/a = new", "top = t", "var/", "var/x = x"]);
}

#[test]
fn what_all_layers_unpack_to_is_bounded() {
    let layers: Vec<_> =
        (0..4).map(|n| tape(&[file(&format!("zeros{n}"), &"\0".repeat(80 << 20))])).collect();
    limit(saved_with(&layers, 1, zstd).read(), "unpacked with those before it");
    saved_with(&layers[..2], 1, zstd).read().unwrap();
}

#[test]
fn layers_that_engines_unpack_in_other_ways_are_refused() {
    let low =
        tape(&[dir("d"), file("d/a", "old"), symlink("lib", "d"), dir("opaque"), file("opaque/x", "old")]);
    let read = |entries: &[Vec<u8>]| Parts::oci(&[low.clone(), tape(entries)], plain).read();
    let cases: [(&str, Vec<Vec<u8>>); 20] = [
        ("whiteout-behind-its-file", vec![file("d/a", "new"), file("d/.wh.a", "")]),
        ("whiteout-behind-what-is-below", vec![file("d/a/b", "new"), file("d/.wh.a", "")]),
        ("whiteout-behind-a-deeper-whiteout", vec![file("d/a/.wh.x", ""), file("d/.wh.a", "")]),
        ("directory-where-one-is-taken-away", vec![file(".wh.d", ""), dir("d"), file("d/b", "new")]),
        ("path-below-what-is-taken-away", vec![file(".wh.d", ""), file("d/b", "new")]),
        ("whiteout-twice", vec![file("d/.wh.a", ""), file("d/.wh.a", "")]),
        ("opaque-twice", vec![file("opaque/.wh..wh..opq", ""), file("opaque/.wh..wh..opq", "")]),
        (
            "opaque-behind-an-implied-directory",
            vec![file("opaque/sub/y", "new"), file("opaque/.wh..wh..opq", "")],
        ),
        ("opaque-root-behind-an-implied-directory", vec![file("new/y", ""), file(".wh..wh..opq", "")]),
        ("below-a-whiteout-name", vec![file("d/.wh.a/b", "")]),
        ("below-bookkeeping", vec![file(".wh..wh.plnk/b", "")]),
        ("whiteout-below-a-link", vec![file("lib/.wh.a", "")]),
        ("opaque-below-a-link", vec![file("lib/.wh..wh..opq", "")]),
        ("directory-behind-what-is-in-it", vec![file("lib/b", "new"), dir("lib")]),
        ("hard-link-through-a-link", vec![hard_link("b", "lib/a")]),
        ("hard-link-to-a-directory", vec![hard_link("b", "d")]),
        (
            "hard-link-before-an-opaque-directory",
            vec![
                hard_link("b", "opaque/x"),
                dir("opaque"),
                file("opaque/.wh..wh..opq", ""),
                file("opaque/x", "new"),
            ],
        ),
        ("root-as-a-link", vec![symlink(".", "d")]),
        ("root-as-a-hard-link", vec![hard_link("./.", "d/a")]),
        ("link-and-file", vec![symlink("a", "d"), file("a", "1")]),
    ];
    for (name, entries) in cases {
        assert!(read(&entries).is_err(), "{name} was accepted");
    }
    for (name, entries, expected) in [
        ("whiteout-first", vec![file("d/.wh.a", ""), file("d/a", "new")], "d/a = new"),
        ("directory-first", vec![dir("lib"), file("lib/b", "new")], "lib/b = new"),
        (
            "opaque-first",
            vec![dir("opaque"), file("opaque/.wh..wh..opq", ""), file("opaque/sub/y", "new")],
            "opaque/sub/y = new",
        ),
        (
            "opaque-behind-directories",
            vec![dir("opaque"), dir("opaque/s"), file("opaque/s/y", "new"), file("opaque/.wh..wh..opq", "")],
            "opaque/s/y = new",
        ),
        ("absolute-hard-link", vec![hard_link("b", "/d/a")], "b = old"),
        (
            "absolute-hard-link-in-the-layer",
            vec![file("usr/a", "new"), hard_link("usr/b", "//usr/a")],
            "usr/b = new",
        ),
        ("whiteout-of-nothing-there", vec![file("none/.wh.a", ""), file("x", "1")], "x = 1"),
    ] {
        let files = listing(&read(&entries).unwrap_or_else(|e| panic!("{name}: {e}")));
        assert!(files.contains(&expected.to_owned()), "{name}: {files:?}");
        assert!(
            !files.contains(&"opaque/x = old".to_owned()) || !name.starts_with("opaque"),
            "{name}: {files:?}"
        );
        assert!(!files.contains(&"none/".to_owned()), "{name}: {files:?}");
    }
    for outside in ["/../etc/passwd", "/", "/d/../d/a"] {
        assert!(read(&[hard_link("b", outside)]).is_err(), "{outside}");
    }
}

#[test]
fn packed_layers_have_nothing_behind_their_end() {
    let layer = tape(&[file("a", "1")]);
    let read = |packed: Vec<u8>| {
        let mut parts = saved_with(std::slice::from_ref(&layer), 1, plain);
        parts.members.insert("0/layer.tar".into(), packed);
        parts.read()
    };
    let (front, back) = layer.split_at(700);
    for pack in [gzip, zstd] {
        assert!(read([pack(front), pack(back)].concat()).is_ok(), "in two members");
        for trailer in [&b"\0"[..], b"x", &[0; 512], &b"hidden".repeat(200), &pack(b"more")] {
            assert!(read([pack(&layer).as_slice(), trailer].concat()).is_err(), "{trailer:?}");
        }
        let whole = pack(&layer);
        for cut in [1, 4, 8] {
            assert!(read(whole[..whole.len() - cut].to_vec()).is_err(), "cut by {cut}");
        }
    }
    // Frames that every reader skips, as estargz's and podman's relatives write them.
    let skippable = [&0x184d_2a50_u32.to_le_bytes()[..], &4u32.to_le_bytes(), b"toc!"].concat();
    assert!(read([zstd(&layer), skippable].concat()).is_ok());
}

#[test]
fn documents_are_bounded_and_have_each_key_once() {
    let spoilt = |spoil: fn(&mut Value)| {
        let mut parts = Parts::oci(&two_layers(), gzip);
        let mut index: Value = serde_json::from_slice(&parts.members["index.json"]).unwrap();
        spoil(&mut index);
        parts.json("index.json", index);
        parts.read()
    };
    let many = |index: &mut Value| {
        let image = index["manifests"][0].clone();
        index["manifests"] = json!(vec![image; 1_001]);
    };
    limit(spoilt(many), "images in index.json");
    let mut parts = Parts::oci(&two_layers(), gzip);
    let text = String::from_utf8(parts.members["index.json"].clone()).unwrap();
    parts.members.insert("index.json".into(), text.replacen('{', "{\"manifests\":[],", 1).into_bytes());
    assert!(parts.read().unwrap_err().to_string().contains("twice"));
    // A configuration that would take a hundred times its size as a tree.
    let layer = tape(&[file("a", "1")]);
    let with_config = |config: String| {
        let mut parts = Parts::docker(std::slice::from_ref(&layer));
        let diff_id = format!("sha256:{}", hex_digest(&layer));
        let text = format!(r#"{{"config":{config},"rootfs":{{"diff_ids":["{diff_id}"]}}}}"#);
        let name = format!("{}.json", hex_digest(text.as_bytes()));
        parts.members.insert(name.clone(), text.into_bytes());
        let mut manifest: Value = serde_json::from_slice(&parts.members["manifest.json"]).unwrap();
        manifest[0]["Config"] = json!(name);
        parts.json("manifest.json", manifest);
        parts.read()
    };
    with_config(format!("[{}]", "{\"a\":0},".repeat(10))).map(drop).unwrap_err();
    limit(with_config(format!("{{\"x\":[{}0]}}", "{\"a\":0},".repeat(200_000))), "config");
    with_config("null".into()).unwrap();
    with_config("{}".into()).unwrap();
}

#[test]
fn wrong_kinds_of_files_are_named() {
    let image = Parts::oci(&two_layers(), gzip).pack();
    for (bytes, found) in [
        (b"FROM debian\n".to_vec(), "a text file"),
        (gzip(&image), "a gzip file"),
        (Vec::new(), "an empty file"),
    ] {
        let error = Image::from_bytes(bytes).unwrap_err().to_string();
        assert!(error.contains(found), "{error}");
    }
    assert!(Image::from_bytes(image).is_ok());
}

#[test]
fn copies_of_hard_links_are_bounded_when_an_image_is_extracted() {
    let mut entries = vec![file("big", &"x".repeat(16 << 20))];
    entries.extend((0..20).map(|n| hard_link(&format!("copy{n}"), "big")));
    let image = saved_with(&[tape(&entries)], 1, gzip).read().unwrap();
    let out = tempfile::tempdir().unwrap();
    assert!(matches!(image.extract(out.path()), Err(Error::Limit { .. })));
    assert_eq!(fs::read_dir(out.path()).unwrap().count(), 0);
}

#[test]
fn links_that_multiply_names_are_bounded() {
    // Each link leads to the directory that all of them are in: four deep, a hundred of them make 10^8 names.
    let site = "usr/lib/python3/dist-packages";
    let mut entries: Vec<_> = (0..100).map(|n| symlink(&format!("{site}/l{n}"), ".")).collect();
    entries.push(file(&format!("{site}/pip/a.py"), ""));
    let image = saved_with(&[tape(&entries)], 1, plain).read().unwrap();
    let trusted = |image: &Image| {
        crate::enclave::trusted_files(image.tree(), &crate::config::ImageConfig::default(), [0; 32], 0)
    };
    assert!(matches!(trusted(&image), Err(Error::Limit { .. })));
    // Two are what virtual environments have.
    let entries = [
        file(&format!("{site}/pkg/a.py"), "x"),
        symlink(&format!("{site}/alias"), "pkg"),
        symlink(&format!("{site}/again"), "alias"),
    ];
    let image = saved_with(&[tape(&entries)], 1, plain).read().unwrap();
    let names: Vec<_> = trusted(&image).unwrap().into_iter().map(|file| file.uri).collect();
    for name in ["pkg", "alias", "again"] {
        assert!(names.contains(&format!("file:/{site}/{name}/a.py")), "{names:?}");
    }
}

#[test]
fn directories_of_tests_are_looked_into_once() {
    let site = "usr/lib/python3/dist-packages/pkg/tests";
    let entries: Vec<_> = (0..20_000).map(|n| file(&format!("{site}/data{n}"), "")).collect();
    let image = saved_with(&[tape(&entries)], 1, plain).read().unwrap();
    let trusted =
        crate::enclave::trusted_files(image.tree(), &crate::config::ImageConfig::default(), [0; 32], 0);
    assert_eq!(trusted.unwrap().len(), 20_001);
}
