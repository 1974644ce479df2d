//! Container images and packages: layouts, layers in every packing, links, whiteouts.

use std::io::Write as _;

use serde_json::json;
use sha2::{Digest, Sha256};

use super::shapes::{self, long_member, many, member, tar};
use super::{Memory, Shape, Subject};
use crate::targets;

const IMAGE: Memory = Memory { per_byte: 64, besides: 16 << 20, at: 1 << 20 };
/// Whatever is in a package of up to 1 MB.
const PACKAGE: Memory = Memory { per_byte: 0, besides: 100_000_000, at: 1_000_000 };

const IMAGE_LIMIT: &str =
    "64 GiB; documents of 4 MiB, 10,000 members, 512 layers; layers of 1,000,000 entries";

pub(super) fn subjects() -> Vec<Subject> {
    vec![
        Subject {
            name: "image-layer",
            limit: "64 GiB and 256 MiB + 200 times its packed size unpacked; 1,000,000 entries; paths of 4,096 bytes",
            run: targets::find("image"),
            shapes: layers(),
            memory: IMAGE,
        },
        Subject {
            name: "image-packed-layer",
            limit: "256 MiB + 200 times its packed size unpacked; windows of 64 MiB",
            run: targets::find("image"),
            shapes: packed(),
            memory: IMAGE,
        },
        Subject {
            name: "image",
            limit: IMAGE_LIMIT,
            run: targets::find("image"),
            shapes: layouts(),
            memory: IMAGE,
        },
        Subject {
            name: "package",
            limit: "64 GiB image, 4 GiB code; 100 MB alive for a package of 1 MB",
            run: targets::find("package"),
            shapes: packages(),
            memory: PACKAGE,
        },
    ]
}

/// A layer: as it lies in the archive, and unpacked.
#[derive(Clone)]
struct Layer {
    packed: Vec<u8>,
    unpacked: Vec<u8>,
}

fn plain(layer: Vec<u8>) -> Layer {
    Layer { packed: layer.clone(), unpacked: layer }
}

fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(bytes)))
}

/// A file of an archive.
fn file(name: &str, content: &[u8]) -> Vec<u8> {
    member(b'0', name.as_bytes(), b"", content)
}

/// An OCI layout of these layers. `change` may change configuration, manifest and index.
fn oci(
    layers: &[Layer],
    change: impl Fn(&mut serde_json::Value, &mut serde_json::Value, &mut serde_json::Value),
) -> Vec<u8> {
    let mut members = file("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#);
    let mut seen = std::collections::BTreeSet::new();
    let mut blob = |content: &[u8], kind: &str| {
        let digest = digest(content);
        let name = format!("blobs/{}", digest.replacen(':', "/", 1));
        if seen.insert(name.clone()) {
            members.extend(file(&name, content));
        }
        json!({ "mediaType": format!("application/vnd.oci.image.{kind}"), "digest": digest, "size": content.len() })
    };
    let diff_ids: Vec<String> = layers.iter().map(|layer| digest(&layer.unpacked)).collect();
    let descriptors: Vec<_> = layers.iter().map(|layer| blob(&layer.packed, "layer.v1.tar")).collect();
    let mut config = json!({ "architecture": "amd64", "os": "linux", "config": {}, "rootfs": { "type": "layers", "diff_ids": diff_ids } });
    let mut manifest = json!({ "schemaVersion": 2, "layers": descriptors });
    let mut index = json!({ "schemaVersion": 2 });
    change(&mut config, &mut manifest, &mut index);
    manifest["config"] = blob(config.to_string().as_bytes(), "config.v1+json");
    let own = blob(manifest.to_string().as_bytes(), "manifest.v1+json");
    match index["manifests"].as_array_mut() {
        Some(others) => others.push(own),
        None => index["manifests"] = json!([own]),
    }
    members.extend(file("index.json", index.to_string().as_bytes()));
    tar(members)
}

fn image(layers: &[Layer]) -> Vec<u8> {
    oci(layers, |_, _, _| {})
}

/// What `docker save` writes: one layer, named as often as is said.
fn docker(layer: &[u8], names: usize) -> Vec<u8> {
    let diff_ids = vec![digest(layer); names];
    let config = json!({ "architecture": "amd64", "os": "linux", "rootfs": { "type": "layers", "diff_ids": diff_ids } }).to_string();
    let name = format!("{}.json", hex::encode(Sha256::digest(&config)));
    let manifest = json!([{ "Config": name, "Layers": vec!["a/layer.tar"; names], "RepoTags": null }]);
    let members = [
        file("a/layer.tar", layer),
        file(&name, config.as_bytes()),
        file("manifest.json", manifest.to_string().as_bytes()),
    ];
    tar(members.concat())
}

/// Shapes of the tar of one layer.
fn layers() -> Vec<Shape> {
    let one = |name, grow: fn(usize) -> Vec<u8>| {
        Shape::new(name, move |size| image(&[plain(tar(grow(size)))])).up_to(128 << 10)
    };
    let mut all: Vec<Shape> = shapes::tars("")
        .into_iter()
        .map(|shape| Shape {
            name: shape.name,
            largest: shape.largest.min(256 << 10),
            make: Box::new(move |size| image(&[plain((shape.make)(size))])),
        })
        .collect();
    all.extend([
        one("hard links, each to the one before", |size| {
            [file("l0", b"x"), many(size, |n| link(n + 1, n))].concat()
        }),
        one("hard links, each to the next", |size| {
            let count = size / 512;
            let links: Vec<u8> = (0..count).flat_map(|n| link(n, n + 1)).collect();
            [links, file(&format!("l{count}"), b"x")].concat()
        }),
        one("hard links in a circle", |size| {
            let count = size / 512;
            (0..count).flat_map(|n| link(n, (n + 1) % count.max(1))).collect()
        }),
        one("hard links to one file", |size| {
            [file("l", b"x"), many(size, |n| member(b'1', format!("h{n}").as_bytes(), b"l", b""))].concat()
        }),
        one("hard links with long names", |size| {
            let name = |n: usize| format!("{}{n}", "d/".repeat(1000));
            [
                long_member(b'0', &name(0), "", b"x"),
                many(size, |n| long_member(b'1', &name(n + 1), &name(n), b"")),
            ]
            .concat()
        }),
        one("symbolic links, each to the one before", |size| {
            many(size, |n| member(b'2', format!("s{}", n + 1).as_bytes(), format!("s{n}").as_bytes(), b""))
        }),
        one("symbolic links with long targets", |size| {
            many(size, |n| long_member(b'2', &format!("s{n}"), &"a/".repeat(1900), b""))
        }),
        one("symbolic links where the image's record is looked for", |size| {
            [
                member(b'2', b"opt", "a/../".repeat(19).as_bytes(), b""),
                many(size, |n| member(b'2', format!("a{n}").as_bytes(), b"opt", b"")),
            ]
            .concat()
        }),
        one("devices", |size| many(size, |n| member(b'3', format!("d{n}").as_bytes(), b"", b""))),
        one("whiteouts", |size| many(size, |n| member(b'0', format!(".wh.f{n}").as_bytes(), b"", b""))),
        one("opaque directories", |size| {
            many(size, |n| member(b'0', format!("d{n}/.wh..wh..opq").as_bytes(), b"", b""))
        }),
        one("deep whiteouts", |size| {
            many(size, |n| long_member(b'0', &format!("{}.wh.f{n}", "d/".repeat(1900)), "", b""))
        }),
    ]);
    let two = |name, lower: fn(usize) -> Vec<u8>, upper: fn(usize) -> Vec<u8>| {
        Shape::new(name, move |size| image(&[plain(tar(lower(size / 2))), plain(tar(upper(size / 2)))]))
            .up_to(256 << 10)
    };
    fn files(size: usize) -> Vec<u8> {
        many(size, |n| member(b'0', format!("d/f{n}").as_bytes(), b"", b""))
    }
    all.extend([
        two("files replaced by files", files, files),
        two("files replaced by directories", files, |size| {
            many(size, |n| member(b'5', format!("d/f{n}/").as_bytes(), b"", b""))
        }),
        two("files and a whiteout of each", files, |size| {
            many(size, |n| member(b'0', format!("d/.wh.f{n}").as_bytes(), b"", b""))
        }),
        two("files and many whiteouts of all", files, |size| {
            many(size, |n| member(b'0', format!("{n}/.wh.d").as_bytes(), b"", b""))
        }),
        two("files and hard links to each", files, |size| {
            many(size, |n| member(b'1', format!("h{n}").as_bytes(), format!("d/f{n}").as_bytes(), b""))
        }),
        two(
            "deep directories and opaque ones on the way",
            |size| many(size, |n| long_member(b'0', &format!("{}f{n}", "d/".repeat(1900)), "", b"")),
            |size| {
                many(size, |n| {
                    long_member(b'0', &format!("{}.wh..wh..opq", "d/".repeat(n % 1900 + 1)), "", b"")
                })
            },
        ),
    ]);
    all.push(
        Shape::new("many layers of one file each", |size| {
            let layers: Vec<Layer> =
                (0..(size / 2500).min(500)).map(|n| plain(tar(file(&format!("f{n}"), b"")))).collect();
            image(&layers)
        })
        .up_to(512 << 10),
    );
    all.push(
        Shape::new("many layers that each replace one file", |size| {
            let layers: Vec<Layer> = (0..(size / 2500).min(500))
                .map(|n| plain(tar(file("f", n.to_string().as_bytes()))))
                .collect();
            image(&layers)
        })
        .up_to(512 << 10),
    );
    all.push(
        Shape::new("many layers that each are opaque below many files", |size| {
            let first = plain(tar(many(size / 2, |n| member(b'0', format!("d/f{n}").as_bytes(), b"", b""))));
            let others = (0..(size / 5000).min(250)).map(|n| plain(tar(file(&format!("e/.wh.{n}"), b""))));
            image(&std::iter::once(first).chain(others).collect::<Vec<_>>())
        })
        .up_to(512 << 10),
    );
    all
}

/// A hard link from one number to another.
fn link(from: usize, to: usize) -> Vec<u8> {
    member(b'1', format!("l{from}").as_bytes(), format!("l{to}").as_bytes(), b"")
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    let _ = encoder.write_all(bytes);
    encoder.finish().unwrap_or_default()
}

fn zstd(bytes: &[u8], window: u32) -> Vec<u8> {
    let pack = || {
        let mut encoder = zstd::Encoder::new(Vec::new(), 1)?;
        encoder.window_log(window)?;
        encoder.write_all(bytes)?;
        encoder.finish()
    };
    pack().unwrap_or_default()
}

/// Shapes of packed layers.
fn packed() -> Vec<Shape> {
    let of = |name, pack: fn(&[u8]) -> Vec<u8>| {
        Shape::new(name, move |size| {
            let unpacked =
                tar(many(size, |n| file(&format!("f{n}"), format!("{n:032x}").repeat(16).as_bytes())));
            image(&[Layer { packed: pack(&unpacked), unpacked }])
        })
        .up_to(64 << 10)
    };
    // Archives that pack a thousandfold: what is stated as the input's size is a thousandth of what is read.
    let zeros = |name, pack: fn(&[u8]) -> Vec<u8>| {
        Shape::new(name, move |size| {
            let unpacked = tar(file("f", &vec![0; size * 400]));
            image(&[Layer { packed: pack(&unpacked), unpacked }])
        })
        .up_to(4 << 10)
    };
    let after = |name, grow: fn(usize) -> Vec<u8>, pack: fn(&[u8]) -> Vec<u8>| {
        Shape::new(name, move |size| {
            let unpacked = tar(file("f", b""));
            let packed = [pack(&unpacked), grow(size)].concat();
            image(&[Layer { packed, unpacked }])
        })
        .up_to(64 << 10)
    };
    let in_zstd: fn(&[u8]) -> Vec<u8> = |bytes| zstd(bytes, 20);
    vec![
        of("files in gzip", gzip),
        of("files in zstd", in_zstd),
        of("files in a gzip stream of many members", |bytes| bytes.chunks(64).flat_map(gzip).collect()),
        of("files in many zstd frames", |bytes| {
            bytes.chunks(512).flat_map(|chunk| zstd(chunk, 10)).collect()
        }),
        zeros("zeros in gzip", gzip),
        zeros("zeros in zstd", in_zstd),
        after("empty gzip members after the end", |size| gzip(b"").repeat(size / 20), gzip),
        after(
            "zstd frames to be skipped",
            |size| [0x50, 0x2a, 0x4d, 0x18, 0, 0, 0, 0].repeat(size / 8),
            in_zstd,
        ),
        after(
            "empty zstd frames after the end",
            |size| zstd::encode_all(&b""[..], 1).unwrap_or_default().repeat(size / 13),
            in_zstd,
        ),
        after(
            "a gzip member with a long name",
            |size| [&[0x1f, 0x8b, 8, 8, 0, 0, 0, 0, 0, 0][..], &vec![b'n'; size]].concat(),
            gzip,
        ),
    ]
}

/// Shapes of the documents around the layers.
fn layouts() -> Vec<Shape> {
    let with =
        |name, change: fn(usize, &mut serde_json::Value, &mut serde_json::Value, &mut serde_json::Value)| {
            Shape::new(name, move |size| {
                let layer = plain(tar(file("f", b"")));
                oci(&[layer], |config, manifest, index| change(size, config, manifest, index))
            })
        };
    let raw = |name, grow: fn(usize) -> String| {
        Shape::new(name, move |size| {
            tar([file("oci-layout", b"{}"), file("index.json", grow(size).as_bytes())].concat())
        })
    };
    vec![
        with("a configuration of many variables", |size, config, _, _| {
            config["config"]["Env"] =
                (0..size / 10).map(|n| json!(format!("V{n}=x"))).collect::<Vec<_>>().into();
        }),
        with("a configuration of many fields", |size, config, _, _| {
            for n in 0..size / 10 {
                config["config"][format!("f{n}")] = n.into();
            }
        }),
        with("a configuration that nests", |size, config, _, _| {
            let mut value = json!(1);
            for _ in 0..(size / 10).min(120) {
                value = json!([value]);
            }
            config["config"]["x"] = value;
        }),
        with("a configuration with a long history", |size, config, _, _| {
            config["history"] = vec![json!({ "empty_layer": true }); size / 20].into();
        }),
        with("diff ids", |size, config, _, _| {
            config["rootfs"]["diff_ids"] = vec!["sha256:"; size / 10].into()
        }),
        with("layers that are missing", |size, _, manifest, _| {
            manifest["layers"] = (0..size / 150)
                .map(|n| json!({ "digest": format!("sha256:{n:064x}"), "size": 1 }))
                .collect::<Vec<_>>()
                .into();
        }),
        with("manifests that are missing", |size, _, _, index| {
            index["manifests"] = (0..size / 150)
                .map(|n| json!({ "digest": format!("sha256:{n:064x}"), "size": 1 }))
                .collect::<Vec<_>>()
                .into();
        }),
        with("annotations", |size, _, _, index| {
            for n in 0..size / 20 {
                index["annotations"][format!("a{n}")] = "x".into();
            }
        }),
        with("manifests that are attestations", |size, _, _, index| {
            index["manifests"] = vec![json!({ "digest": "sha256:00", "size": 1, "annotations": { "vnd.docker.reference.type": "x" } }); size / 100].into();
        }),
        raw("arrays in arrays", |size| "[".repeat(size)),
        raw("unknown fields", |size| format!("{{{}}}", shapes::listed(size, |n| format!("\"f{n}\":{n}")))),
        raw("one manifest again and again", |size| {
            format!(
                "{{\"manifests\":[{}]}}",
                shapes::listed(size, |_| "{\"digest\":\"sha256:00\",\"size\":1}".into())
            )
        }),
        Shape::new("members", |size| {
            tar([
                file("oci-layout", b"{}"),
                many(size, |n| file(&format!("m{n}"), b"")),
                file("index.json", b"{}"),
            ]
            .concat())
        })
        .up_to(256 << 10),
        Shape::new("links to one member", |size| {
            let links =
                many(size, |n| member(b'2', format!("m{n}/layer.tar").as_bytes(), b"../a/layer.tar", b""));
            tar([file("a/layer.tar", &tar(vec![])), links, file("manifest.json", b"[]")].concat())
        })
        .up_to(256 << 10),
        Shape::new("links to links", |size| {
            let links = many(size, |n| {
                member(
                    b'2',
                    format!("m{}/layer.tar", n + 1).as_bytes(),
                    format!("../m{n}/layer.tar").as_bytes(),
                    b"",
                )
            });
            tar([file("m0/layer.tar", &tar(vec![])), links, file("manifest.json", b"[]")].concat())
        })
        .up_to(256 << 10),
        // So many names that the layer and its names grow alike.
        Shape::new("one layer, named again and again", |size| {
            let layer = tar(many(size / 2, |n| file(&format!("f{n}"), b"")));
            docker(&layer, (size / 600).clamp(1, 512))
        })
        .up_to(128 << 10),
    ]
}

/// Packages around images and archives that grow.
fn packages() -> Vec<Shape> {
    let config =
        b"name = \"e\"\npython_application = \"app:app\"\nhealthcheck_endpoint = \"/h\"\ntests_cmd = \"t\"\n";
    let bundle = move |code: &[u8], image: &[u8]| {
        let code_and_image = [file("app.tar", code), file("image.tar", image)].concat();
        tar([code_and_image, file("mse.toml", config), file("tests.tar", &tar(vec![]))].concat())
    };
    let of_code = |shape: Shape| Shape {
        name: shape.name,
        largest: shape.largest.min(128 << 10),
        make: Box::new(move |size| bundle(&(shape.make)(size), &image(&[plain(tar(file("f", b"")))]))),
    };
    let of_image = |shape: Shape| Shape {
        name: shape.name,
        largest: shape.largest.min(128 << 10),
        make: Box::new(move |size| bundle(&tar(vec![]), &(shape.make)(size))),
    };
    let mut all: Vec<Shape> = Vec::new();
    all.extend(shapes::tars("").into_iter().filter(|shape| shape.name.starts_with("files")).map(of_code));
    let worst = [
        "files each in many directories of its own",
        "hard links, each to the next",
        "deep whiteouts",
        "symbolic links with long targets",
    ];
    all.extend(layers().into_iter().filter(|shape| worst.contains(&shape.name)).map(of_image));
    all.extend(layouts().into_iter().filter(|shape| shape.name.starts_with("one layer")).map(of_image));
    all.push(
        Shape::new("shared objects that the enclave maps", move |size| {
            let layer = tar(many(size, |n| file(&format!("opt/mse/python/l{n}.so"), b"\x7fELF")));
            bundle(&tar(vec![]), &image(&[plain(layer)]))
        })
        .up_to(128 << 10),
    );
    all.push(
        Shape::new("packages in the image", move |size| {
            let record = br#"{"implementation":"cpython","version":"3.11","architecture":"x86_64","libc":"glibc","libc_version":"2.34"}"#;
            let files = many(size, |n| file(&format!("opt/mse/python/p{n}.py"), b""));
            let layer = tar([file("opt/mse/python/interpreter.json", record), file("opt/mse/python/mse_node/_node.abi3.so", b"\x7fELF"), files].concat());
            bundle(&tar(vec![]), &image(&[plain(layer)]))
        })
        .up_to(128 << 10),
    );
    all
}
