//! A package from a saved image: what it says, and every way in which a package can be hostile.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::io::Write;
use std::path::PathBuf;

use package::build::{Builder, Options, Project, build_for};
use package::config::{NodeConfig, TlsMode};
use package::{Error, Fingerprint, Package};
use serde_json::json;
use sha2::{Digest, Sha256};

const CONFIG: &str = r#"
name = "example"
python_application = "app:app"
healthcheck_endpoint = "/health"
tests_cmd = "pytest"
"#;

const LIBPAL: &[u8] = include_bytes!("data/libpal.so");

/// One tar entry, as wrong as wished.
struct Entry<'a> {
    path: &'a str,
    kind: u8,
    mode: u32,
    content: &'a [u8],
    link: &'a str,
}

fn file<'a>(path: &'a str, content: &'a [u8]) -> Entry<'a> {
    Entry { path, kind: b'0', mode: 0o644, content, link: "" }
}

fn tar(entries: &[Entry<'_>]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for entry in entries {
        let mut header = tar::Header::new_gnu();
        let raw = header.as_mut_bytes();
        raw[..entry.path.len()].copy_from_slice(entry.path.as_bytes());
        raw[156] = entry.kind;
        raw[157..157 + entry.link.len()].copy_from_slice(entry.link.as_bytes());
        header.set_mode(entry.mode);
        header.set_size(entry.content.len() as u64);
        header.set_mtime(0);
        header.set_uid(0);
        header.set_gid(0);
        header.set_cksum();
        bytes.extend_from_slice(header.as_bytes());
        bytes.extend_from_slice(entry.content);
        bytes.resize(bytes.len().next_multiple_of(512), 0);
    }
    bytes.resize(bytes.len() + 1024, 0);
    bytes
}

/// An image as `docker save` writes it, of one layer.
fn image(layer: &[u8]) -> Vec<u8> {
    let diff_id = hex::encode(Sha256::digest(layer));
    packed_image(&diff_id, layer)
}

fn packed_image(diff_id: &str, layer: &[u8]) -> Vec<u8> {
    let config = json!({ "rootfs": { "diff_ids": [format!("sha256:{diff_id}")] } }).to_string();
    let name = format!("{}.json", hex::encode(Sha256::digest(&config)));
    let manifest = json!([{ "Config": name, "Layers": ["1/layer.tar"] }]).to_string();
    tar(&[
        file(&name, config.as_bytes()),
        file("1/layer.tar", layer),
        file("manifest.json", manifest.as_bytes()),
    ])
}

fn good_layer() -> Vec<u8> {
    tar(&[
        file("opt/mse/python/mse_node/_node.abi3.so", LIBPAL),
        file("opt/mse/python/mse_node/__main__.py", b"print()"),
        file("etc/motd", b"not measured"),
    ])
}

fn good_members() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("app.tar", tar(&[file("app.py", b"app = 1")])),
        ("image.tar", image(&good_layer())),
        ("mse.toml", CONFIG.into()),
        ("tests.tar", tar(&[file("test_app.py", b"")])),
    ]
}

fn bundle(members: &[(&str, Vec<u8>)]) -> Vec<u8> {
    tar(&members.iter().map(|(path, content)| file(path, content)).collect::<Vec<_>>())
}

fn open(bytes: &[u8]) -> Result<Package, Error> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("package.tar");
    fs::write(&path, bytes).unwrap();
    let opened = Package::open(&path);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "opening a package writes nothing");
    opened
}

#[test]
fn a_good_package_opens() {
    let bytes = bundle(&good_members());
    let package = open(&bytes).unwrap();
    assert_eq!(package.sha256()[..], Sha256::digest(&bytes)[..]);
    assert!(!package.encrypted());
    assert_eq!(package.interpreter(), None);
    assert_eq!(package.libpal().unwrap(), LIBPAL);
    // The order of members means nothing.
    let mut members = good_members();
    members.reverse();
    let reversed = open(&bundle(&members)).unwrap();
    assert_eq!(reversed.fingerprint(1024).unwrap(), package.fingerprint(1024).unwrap());
}

#[test]
fn the_manifest_says_what_runs() {
    let package = open(&bundle(&good_members())).unwrap();
    let bytes = package.manifest(2048).unwrap();
    assert_eq!(bytes, package.manifest(2048).unwrap());
    let manifest = gramine::manifest::Manifest::parse(&bytes).unwrap();
    assert_eq!(manifest.sgx.enclave_size, 2048 << 20);
    assert!(!manifest.sgx.debug);
    assert_eq!(manifest.sgx.remote_attestation, gramine::manifest::RemoteAttestation::Dcap);
    assert_eq!(manifest.argv, ["python3", "-m", "mse_node"]);
    assert_eq!(manifest.env["PYTHONPATH"], "/opt/mse/python");
    assert_eq!(NodeConfig::from_json(&manifest.env["MSE_NODE_CONFIG"]).unwrap(), package.node_config());
    let trusted: Vec<_> = manifest.trusted_files.iter().map(|file| file.uri.as_str()).collect();
    assert_eq!(
        trusted,
        [
            "file:/mse/app.tar",
            "file:/opt/mse/python/mse_node/__main__.py",
            "file:/opt/mse/python/mse_node/_node.abi3.so",
        ]
    );
    let code = tar(&[file("app.py", b"app = 1")]);
    assert_eq!(manifest.trusted_files[0].sha256[..], Sha256::digest(&code)[..]);
    // Gramine's own reader knows plain TOML tables only.
    let table: toml::Table = String::from_utf8(bytes).unwrap().parse().unwrap();
    assert_eq!(table["sgx"]["allowed_files"].as_array().unwrap().len(), 2);
    assert_eq!(
        table["loader"]["entrypoint"]["uri"].as_str(),
        Some("file:/opt/mse/python/mse_node/_node.abi3.so")
    );

    for wrong in [0, 512, 1000, 3000, 131_072] {
        assert!(matches!(package.manifest(wrong), Err(Error::EnclaveSize(_))), "{wrong}");
    }
}

#[test]
fn an_image_with_gramine_starts_from_it() {
    for prefix in ["gramine", "usr/lib/x86_64-linux-gnu/gramine"] {
        let at = |name: &str| format!("{prefix}/{name}");
        let (libpal, libsysdb, libc) =
            (at("sgx/libpal.so"), at("libsysdb.so"), at("runtime/glibc/libc.so.6"));
        let linker = at("runtime/glibc/ld-linux-x86-64.so.2");
        let layer = tar(&[
            file("opt/mse/python/mse_node/_node.abi3.so", b"node"),
            file(&libpal, LIBPAL),
            file(&at("sgx/loader"), b"loader"),
            file(&libsysdb, b"libos"),
            file(&libc, b"libc"),
            file(&linker, b"linker"),
            file("usr/bin/python3.11", b"python"),
            Entry { kind: b'2', link: "python3.11", ..file("usr/bin/python3", b"") },
            file("usr/lib/python3.11/os.py", b"os"),
            file("usr/lib/python3.11/test/test_os.py", b"left out"),
            file("usr/lib/python3.11/__pycache__/os.cpython-311.pyc", b"left out"),
            file("usr/lib/x86_64-linux-gnu/libssl.so.3", b"ssl"),
            file("usr/share/doc/x", b"left out"),
        ]);
        let mut members = good_members();
        members[1].1 = image(&layer);
        let package = open(&bundle(&members)).unwrap();
        assert_eq!(package.libpal().unwrap(), LIBPAL);
        let text = String::from_utf8(package.manifest(1024).unwrap()).unwrap();
        let manifest = gramine::manifest::Manifest::parse(text.as_bytes()).unwrap();
        let trusted: Vec<_> = manifest.trusted_files.iter().map(|file| file.uri.clone()).collect();
        let mut expected = vec![
            "file:/mse/app.tar".to_string(),
            "file:/opt/mse/python/mse_node/_node.abi3.so".into(),
            format!("file:/{libsysdb}"),
            format!("file:/{libc}"),
            format!("file:/{linker}"),
            "file:/usr/bin/python3".into(),
            "file:/usr/bin/python3.11".into(),
            "file:/usr/lib/python3.11/os.py".into(),
            "file:/usr/lib/x86_64-linux-gnu/libssl.so.3".into(),
        ];
        expected.sort();
        assert_eq!(trusted, expected);
        let python = manifest.trusted_files.iter().find(|f| f.uri == "file:/usr/bin/python3").unwrap();
        assert_eq!(python.sha256[..], Sha256::digest(b"python")[..], "a link has the hash of its target");
        assert!(manifest.env["LD_LIBRARY_PATH"].starts_with(&format!("/{prefix}/runtime/glibc:")));
        assert!(text.contains(&format!("uri = \"file:/{libsysdb}\"")));
        assert!(text.contains(&format!("uri = \"file:/{linker}\" }},")));
        let gramine = package.gramine().unwrap();
        assert_eq!(gramine.sgx().unwrap().libpal, format!("/{libpal}"));
        assert_eq!(gramine.direct(), None);
        package.fingerprint(1024).unwrap();
    }
}

/// A package of this image.
fn package_of(layer: &[u8]) -> Result<Package, Error> {
    package_with(CONFIG, layer)
}

fn package_with(config: &str, layer: &[u8]) -> Result<Package, Error> {
    let mut members = good_members();
    members[1].1 = image(layer);
    members[2].1 = config.into();
    open(&bundle(&members))
}

/// The paths that a package's enclave may read.
fn trusted(package: &Package) -> Vec<&str> {
    package.trusted_files().iter().filter_map(|file| file.uri.strip_prefix("file:/")).collect()
}

fn link<'a>(path: &'a str, target: &'a str) -> Entry<'a> {
    Entry { kind: b'2', link: target, ..file(path, b"") }
}

fn direct_gramine() -> Vec<Entry<'static>> {
    vec![
        file("opt/mse/python/mse_node/_node.abi3.so", LIBPAL),
        file("gramine/direct/loader", b"loader"),
        file("gramine/direct/libpal.so", b"libpal"),
        file("gramine/libsysdb.so", b"libos"),
        file("gramine/runtime/glibc/ld-linux-x86-64.so.2", b"linker"),
        file("usr/bin/python3", b"python"),
    ]
}

#[test]
fn a_gramine_without_sgx_runs_the_same_manifest() {
    let package = package_of(&tar(&direct_gramine())).unwrap();
    let gramine = package.gramine().unwrap();
    assert_eq!(gramine.sgx(), None);
    assert_eq!(gramine.direct().unwrap().loader, "/gramine/direct/loader");
    assert_eq!(gramine.direct().unwrap().libpal, "/gramine/direct/libpal.so");
    assert_eq!(package.libpal().unwrap(), LIBPAL, "the node's library stands in");
    let manifest = String::from_utf8(package.manifest(1024).unwrap()).unwrap();
    assert!(manifest.contains("uri = \"file:/gramine/libsysdb.so\""), "{manifest}");
    for missing in [
        "gramine/runtime/glibc/ld-linux-x86-64.so.2",
        "usr/bin/python3",
        "opt/mse/python/mse_node/_node.abi3.so",
    ] {
        let layer: Vec<_> = direct_gramine().into_iter().filter(|entry| entry.path != missing).collect();
        let error = package_of(&tar(&layer)).unwrap().manifest(1024).unwrap_err();
        assert!(error.to_string().contains(missing), "{error}");
    }
    // Half a Gramine is none.
    let layer: Vec<_> =
        direct_gramine().into_iter().filter(|e| e.path != "gramine/direct/libpal.so").collect();
    assert_eq!(package_of(&tar(&layer)).unwrap().gramine(), None);
}

#[test]
fn files_are_listed_under_the_names_by_which_they_are_opened() {
    let mut layer = direct_gramine();
    layer.extend([
        link("lib", "usr/lib"),
        link("bin", "usr/bin"),
        file("usr/lib/x86_64-linux-gnu/libz.so.1.2", b"z"),
        link("usr/lib/x86_64-linux-gnu/libz.so.1", "libz.so.1.2"),
        link("usr/lib/x86_64-linux-gnu/libblas.so.3", "/etc/alternatives/blas"),
        link("etc/alternatives/blas", "/usr/lib/x86_64-linux-gnu/blas/libblas.so.3"),
        file("usr/lib/x86_64-linux-gnu/blas/libblas.so.3", b"blas"),
        file("etc/ssl/openssl.cnf", b"cnf"),
        link("usr/lib/ssl/openssl.cnf", "/etc/ssl/openssl.cnf"),
        link("usr/lib/ssl/certs", "/etc/ssl/certs"),
        file("etc/ssl/certs/ca-certificates.crt", b"all"),
        file("etc/ssl/certs/one.pem", b"one"),
        file("etc/hosts", b"the engine's"),
        file("etc/hostname", b"the engine's"),
        file("etc/resolv.conf", b"the engine's"),
        file("usr/share/mpl/data", b"data"),
        link("usr/lib/python3/dist-packages/mpl/data", "/usr/share/mpl"),
        file("usr/lib/python3/dist-packages/mpl/__init__.py", b""),
    ]);
    let package = package_of(&tar(&layer)).unwrap();
    let trusted = trusted(&package);
    for path in [
        "usr/lib/x86_64-linux-gnu/libz.so.1",
        "usr/lib/x86_64-linux-gnu/libz.so.1.2",
        "usr/lib/x86_64-linux-gnu/libblas.so.3",
        "usr/lib/ssl/openssl.cnf",
        "etc/ssl/certs/ca-certificates.crt",
        "usr/lib/python3/dist-packages/mpl/data/data",
    ] {
        assert!(trusted.contains(&path), "{path} is missing");
    }
    for path in [
        "lib/x86_64-linux-gnu/libz.so.1",
        "etc/hosts",
        "etc/hostname",
        "etc/resolv.conf",
        "etc/ssl/certs/one.pem",
        "usr/share/mpl/data",
    ] {
        assert!(!trusted.contains(&path), "{path} is there");
    }
    let manifest = gramine::Manifest::parse(&package.manifest(1024).unwrap()).unwrap();
    // What makes the names below /lib unnecessary.
    let libraries = &manifest.env["LD_LIBRARY_PATH"];
    assert!(
        libraries.find("/usr/lib/x86_64").unwrap() < libraries.find(":/lib/x86_64").unwrap(),
        "{libraries}"
    );
    assert_eq!(manifest.env["SSL_CERT_FILE"], "/etc/ssl/certs/ca-certificates.crt");
}

#[test]
fn what_applications_do_not_load_is_left_out() {
    let packages = "usr/local/lib/python3.12/site-packages";
    let kept = [
        "numpy/__init__.py",
        "numpy/__init__.pyi",
        "numpy/testing/__init__.py",
        "numpy/_core/tests/_natype.py",
        "app/tests/__init__.py",
        "pipeline/__init__.py",
        "numpy.libs/libblas.so.0",
        "single.py",
        "x-1.dist-info/METADATA",
    ];
    let left_out = [
        "numpy/tests/test_numpy.py",
        "numpy/tests/__init__.py",
        "numpy/__pycache__/x.cpython-312.pyc",
        "numpy/core.pyi",
        "numpy/include/numpy/array.h",
        "numpy/lib/libm.a",
        "pip/__init__.py",
        "pip-23.0.dist-info/METADATA",
        "setuptools/__init__.py",
        "wheel/cli.py",
        "distutils-precedence.pth",
    ];
    let paths: Vec<String> = kept.iter().chain(&left_out).map(|path| format!("{packages}/{path}")).collect();
    let entries: Vec<_> = paths.iter().map(|path| file(path, b"x")).chain(direct_gramine()).collect();
    let package = package_of(&tar(&entries)).unwrap();
    let found: Vec<_> =
        trusted(&package).into_iter().filter_map(|p| p.strip_prefix(packages)?.strip_prefix('/')).collect();
    let mut expected = kept.to_vec();
    expected.sort_unstable();
    assert_eq!(found, expected);
    // Unless the owner says so.
    let config = format!("{CONFIG}[image]\nmeasured = [\"/{packages}/setuptools\"]\n");
    let package = package_with(&config, &tar(&entries)).unwrap();
    assert!(trusted(&package).contains(&format!("{packages}/setuptools/__init__.py").as_str()));
}

#[test]
fn the_owner_says_what_else_is_measured() {
    let mut layer = direct_gramine();
    layer.extend([
        file("data/models/one/weights", b"w"),
        file("data/models/one/cache/x", b"x"),
        link("opt/model", "/data/models/one"),
        file("srv/a/.hidden", b"h"),
        file("srv/ab", b"another"),
        file("usr/lib/python3/dist-packages/big/a.py", b""),
    ]);
    let layer = tar(&layer);
    let config = |image: &str| format!("{CONFIG}[image]\n{image}\n");
    let package = package_with(
        &config(
            "measured = [\"/opt/model\", \"/srv/a\"]\n\
             unmeasured = [\"/opt/model/cache\", \"/usr/lib/python3/dist-packages/big\"]",
        ),
        &layer,
    )
    .unwrap();
    let found: Vec<_> = trusted(&package)
        .into_iter()
        .filter(|path| !path.starts_with("gramine") && !path.starts_with("opt/mse") && *path != "mse/app.tar")
        .collect();
    assert_eq!(found, ["opt/model/weights", "srv/a/.hidden", "usr/bin/python3"]);
    let plain = package_of(&layer).unwrap();
    assert_ne!(plain.fingerprint(1024).unwrap(), package.fingerprint(1024).unwrap());
    let error = package_with(&config("measured = [\"/nothing\"]"), &layer).unwrap_err();
    assert!(error.to_string().contains("/nothing"), "{error}");
}

#[test]
fn a_debug_enclave_has_another_fingerprint() {
    let package = package_of(&good_layer()).unwrap();
    let debug = package.debug_manifest(1024).unwrap();
    assert!(gramine::Manifest::parse(&debug).unwrap().sgx.debug);
    let text = String::from_utf8(debug.clone()).unwrap();
    assert_eq!(text.replace("debug = true", "debug = false").as_bytes(), package.manifest(1024).unwrap());
    let fingerprint = Fingerprint::measure(&debug, &package.libpal().unwrap()).unwrap();
    assert_ne!(fingerprint, package.fingerprint(1024).unwrap());
}

#[test]
fn many_packages_travel_as_one_archive() {
    let build = |layers: &[u8]| {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::create_dir_all(at("mse_src")).unwrap();
        fs::write(at("mse_src/app.py"), "app = 1").unwrap();
        fs::write(at("mse.toml"), CONFIG).unwrap();
        fs::write(at("saved.tar"), layers).unwrap();
        let (project, _) = Project::open(dir.path()).unwrap();
        let options = Options {
            builder: Builder::Saved(&at("saved.tar")),
            encrypt: false,
            output: &at("out"),
            now: "2026-01-01T00:00:00Z".parse().unwrap(),
            progress: &mut |_| {},
        };
        let built = build_for(&[1024], &project, options).unwrap();
        let package = Package::open(&built.package).unwrap();
        (built, package)
    };
    let tree = "usr/lib/python3/dist-packages";
    let many: Vec<_> = (0..2_500).map(|n| (format!("{tree}/many/m{n}.py"), format!("n = {n}"))).collect();
    let mut entries: Vec<_> = many.iter().map(|(path, text)| file(path, text.as_bytes())).collect();
    entries.extend(direct_gramine());
    entries.push(Entry { mode: 0o755, ..file("opt/mse/python/granian/_granian.so", b"so") });
    entries.push(file("opt/mse/python/mse_node/serve.py", b"serve"));
    let (built, package) = build(&image(&tar(&entries)));
    assert!(built.trusted_files.0 < 20, "{:?}", built.trusted_files);
    assert!(!built.many_files && built.start_seconds < 0.2 && built.smallest_size == 1024);
    let trusted_paths = trusted(&package);
    assert!(trusted_paths.contains(&"opt/mse/python.tar") && trusted_paths.contains(&"opt/mse/hosts"));
    assert!(trusted_paths.contains(&"opt/mse/python/mse_node/serve.py"));
    assert!(!trusted_paths.contains(&"opt/mse/python/granian/_granian.so"));
    let archive = package.image().read_file("opt/mse/python.tar", 1 << 30).unwrap().unwrap();
    let mut names = Vec::new();
    for entry in tar::Archive::new(&archive[..]).entries().unwrap() {
        let entry = entry.unwrap();
        names.push((entry.path().unwrap().display().to_string(), entry.header().mode().unwrap()));
    }
    assert_eq!(names.len(), 2_501);
    assert!(names.is_sorted());
    assert_eq!(names[0], ("opt/mse/python/granian/_granian.so".to_owned(), 0o755));
    let text = String::from_utf8(package.manifest(1024).unwrap()).unwrap();
    assert!(text.contains("{ type = \"tmpfs\", path = \"/opt/mse/packages\" }"), "{text}");
    assert!(text.contains("MSE_PACKAGES = \"/opt/mse/python.tar\""));
    assert!(text.contains("{ path = \"/etc/hosts\", uri = \"file:/opt/mse/hosts\" }"));
    let mounts = package.memory_mounts();
    let packages = mounts.iter().find(|mount| mount.path == "/opt/mse/packages").unwrap();
    assert!(packages.executable && packages.bytes == archive.len() as u64);

    // The same content in another order, as another engine may save it.
    entries.reverse();
    let (again, _) = build(&image(&tar(&entries)));
    assert_eq!(again.fingerprints, built.fingerprints);
    // With few packages each file is listed.
    let few: Vec<_> = entries.into_iter().filter(|entry| !entry.path.contains("/m1")).collect();
    let (_, package) = build(&image(&tar(&few)));
    assert!(trusted(&package).contains(&"opt/mse/python/granian/_granian.so"));
    assert!(!trusted(&package).contains(&"opt/mse/python.tar"));
}

/// Whether the fingerprint of a package with `change` is another than that of the good one.
fn changes_fingerprint(change: impl FnOnce(&mut Vec<(&'static str, Vec<u8>)>)) -> bool {
    let measure = |members: &[(&str, Vec<u8>)]| open(&bundle(members)).unwrap().fingerprint(1024).unwrap();
    let mut members = good_members();
    change(&mut members);
    measure(&members) != measure(&good_members())
}

#[test]
fn whatever_shapes_behaviour_is_measured() {
    let layer = |content: &[u8]| {
        tar(&[
            file("opt/mse/python/mse_node/_node.abi3.so", LIBPAL),
            file("opt/mse/python/mse_node/__main__.py", content),
            file("etc/motd", b"not measured"),
        ])
    };
    assert!(changes_fingerprint(|m| m[0].1 = tar(&[file("app.py", b"app = 2")])), "code");
    assert!(changes_fingerprint(|m| m[1].1 = image(&layer(b"evil"))), "image");
    assert!(changes_fingerprint(|m| m[2].1 = CONFIG.replace("app:app", "app:other").into()), "application");
    assert!(changes_fingerprint(|m| m[2].1 = CONFIG.replace("/health", "/").into()), "health check");
    let tls = format!("tls_mode = \"owner-certificate\"\n{CONFIG}");
    assert!(changes_fingerprint(|m| m[2].1 = tls.into()), "TLS mode");
    let sealed = format!("sealed_secrets = \"required\"\n{CONFIG}");
    assert!(changes_fingerprint(|m| m[2].1 = sealed.into()), "sealed secrets");
    assert!(changes_fingerprint(|m| m[0].0 = "app.tar.enc"), "encryption");
    assert!(!changes_fingerprint(|m| m[3].1 = tar(&[])), "the tests run elsewhere");
    assert!(
        !changes_fingerprint(|m| m[2].1 = CONFIG.replace("pytest", "pytest -q").into()),
        "so does their command"
    );
    let package = open(&bundle(&good_members())).unwrap();
    let prints = package.fingerprints_for(&[1024, 2048, 4096]).unwrap();
    assert!(prints[0].1 != prints[1].1 && prints[1].1 != prints[2].1, "the size");
    assert_eq!(prints[2], (4096, package.fingerprint(4096).unwrap()));
    assert_eq!(prints[2].1.to_string().parse::<Fingerprint>().unwrap(), prints[2].1);
}

#[test]
fn a_member_too_many_or_too_few_is_refused() {
    for index in 0..4 {
        let mut members = good_members();
        members.remove(index);
        assert!(matches!(open(&bundle(&members)), Err(Error::Package { .. })), "without member {index}");
        let mut members = good_members();
        members.push(members[index].clone());
        assert!(matches!(open(&bundle(&members)), Err(Error::Entry { .. })), "member {index} twice");
    }
    for extra in ["README", "app.tar.enc", "./app.tar", "sub/app.tar", "evil.so"] {
        let mut members = good_members();
        members.push((extra, Vec::new()));
        assert!(open(&bundle(&members)).is_err(), "with {extra}");
    }
}

#[test]
fn hostile_members_are_refused() {
    let with = |entry: Entry<'_>| {
        let members = good_members();
        let mut entries: Vec<_> = members.iter().map(|(path, content)| file(path, content)).collect();
        entries.push(entry);
        tar(&entries)
    };
    let cases = [
        ("dot-dot", file("../evil", b"")),
        ("absolute", file("/etc/evil", b"")),
        ("directory", Entry { kind: b'5', ..file("dir/", b"") }),
        ("symlink", Entry { kind: b'2', link: "/etc/passwd", ..file("app.tar.enc", b"") }),
        ("hard-link", Entry { kind: b'1', link: "app.tar", ..file("app.tar.enc", b"") }),
        ("device", Entry { kind: b'3', ..file("app.tar.enc", b"") }),
        ("global-pax-path", Entry { kind: b'g', ..file("pax", b"16 path=app.tar\n") }),
    ];
    for (name, entry) in cases {
        assert!(open(&with(entry)).is_err(), "{name} was accepted");
    }
    // In place of a good member.
    for (name, kind, mode) in [("link", b'2', 0o644), ("fifo", b'6', 0o644), ("setuid", b'0', 0o4755)] {
        let members = good_members();
        let mut entries: Vec<_> = members.iter().map(|(path, content)| file(path, content)).collect();
        entries[3] = Entry { kind, mode, content: b"", ..file("tests.tar", b"") };
        assert!(matches!(open(&tar(&entries)), Err(Error::Entry { .. })), "{name} was accepted");
    }
}

#[test]
fn hostile_archives_inside_are_refused() {
    let evil = [
        ("dot-dot", tar(&[file("../evil", b"x")])),
        ("absolute", tar(&[file("/evil", b"x")])),
        ("link", tar(&[Entry { kind: b'2', link: "/etc/passwd", ..file("evil", b"") }])),
        ("device", tar(&[Entry { kind: b'4', ..file("evil", b"") }])),
        ("setuid", tar(&[Entry { mode: 0o4755, ..file("evil", b"x") }])),
        ("duplicate", tar(&[file("a", b"1"), file("a", b"2")])),
        ("cut-off", tar(&[file("a", b"1")])[..1000].to_vec()),
        ("empty", Vec::new()),
        ("gzip", gzip(&tar(&[file("a", b"1")]))),
    ];
    for (name, archive) in evil {
        for index in [0, 1, 3] {
            let mut members = good_members();
            members[index].1 = archive.clone();
            assert!(open(&bundle(&members)).is_err(), "{name} as {}", members[index].0);
        }
    }
}

#[test]
fn a_native_image_holds_plain_files_in_its_place_only() {
    let record = br#"{"implementation":"cpython","version":"3.11","architecture":"x86_64","libc":"glibc","libc_version":"2.34"}"#;
    let with = |extra: Option<Entry<'_>>, record: &[u8]| {
        let mut entries = vec![
            file("opt/mse/python/mse_node/_node.abi3.so", LIBPAL),
            file("opt/mse/python/interpreter.json", record),
        ];
        entries.extend(extra);
        let mut members = good_members();
        members[1].1 = image(&tar(&entries));
        open(&bundle(&members))
    };
    assert_eq!(with(None, record).unwrap().interpreter().unwrap().version, "3.11");
    assert!(with(None, b"{}").is_err());
    for (name, entry) in [
        ("elsewhere", file("etc/passwd", b"")),
        ("link", Entry { kind: b'2', link: "/etc", ..file("opt/mse/python/etc", b"") }),
        ("device", Entry { kind: b'3', ..file("opt/mse/python/null", b"") }),
        ("setuid", Entry { mode: 0o4755, ..file("opt/mse/python/su", b"") }),
    ] {
        assert!(matches!(with(Some(entry), record), Err(Error::Image { .. })), "{name} was accepted");
    }
}

#[test]
fn files_that_are_no_packages_are_refused() {
    let good = bundle(&good_members());
    for (name, bytes) in [
        ("empty", Vec::new()),
        ("text", b"hello".repeat(500)),
        ("gzip", gzip(&good)),
        ("trailing", [&good[..], b"x"].concat()),
        ("cut-off", good[..good.len() - 1024].to_vec()),
    ] {
        assert!(open(&bytes).is_err(), "{name} was accepted");
    }
    let dir = tempfile::tempdir().unwrap();
    assert!(matches!(Package::open(dir.path()), Err(Error::Package { .. })));
    assert!(matches!(Package::open(&dir.path().join("none")), Err(Error::Io { .. })));
    let mut members = good_members();
    members[2].1 = vec![b' '; 100_000];
    assert!(matches!(open(&bundle(&members)), Err(Error::Limit { .. })), "a huge mse.toml");
}

#[test]
fn a_gzip_bomb_is_refused() {
    // Half a gigabyte of zeros after the layer's end, in a thousandth of that.
    let mut layer = gzip(&good_layer());
    let zeros = gzip(&vec![0; 1 << 20]);
    for _ in 0..600 {
        layer.extend_from_slice(&zeros);
    }
    let mut members = good_members();
    members[1].1 = packed_image(&"0".repeat(64), &layer);
    assert!(matches!(open(&bundle(&members)), Err(Error::Limit { .. })));
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn what_changes_after_it_was_checked_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("package.tar");
    let bytes = bundle(&good_members());
    fs::write(&path, &bytes).unwrap();
    let package = Package::open(&path).unwrap();
    let at = bytes.windows(7).position(|w| w == b"app = 1").unwrap();
    let file = fs::File::options().write(true).open(&path).unwrap();
    std::os::unix::fs::FileExt::write_at(&file, b"app = 2", at as u64).unwrap();
    let copy = dir.path().join("app.tar");
    assert!(matches!(package.copy_code_archive(&copy), Err(Error::Package { .. })));
    assert!(!copy.exists());
}

#[test]
fn a_saved_image_becomes_a_package() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| -> PathBuf { dir.path().join(name) };
    fs::create_dir_all(at("p/mse_src")).unwrap();
    fs::write(at("p/mse.toml"), CONFIG).unwrap();
    fs::write(at("p/mse_src/app.py"), "app = 1").unwrap();
    fs::write(at("image.tar"), image(&good_layer())).unwrap();
    let (project, _) = Project::open(&at("p")).unwrap();
    let package_with = |image: &str| {
        let options = Options {
            builder: Builder::Saved(&at(image)),
            encrypt: false,
            output: &at("out"),
            now: jiff::Timestamp::UNIX_EPOCH,
            progress: &mut |_| {},
        };
        build_for(&[1024], &project, options)
    };
    let built = package_with("image.tar").unwrap();
    assert_eq!(built.package, at("out/package_example_0.tar"));
    let package = Package::open(&built.package).unwrap();
    assert_eq!(built.fingerprints, [(1024, package.fingerprint(1024).unwrap())]);
    package.extract_tests(&at("tests")).unwrap();
    assert_eq!(fs::read_dir(at("tests")).unwrap().count(), 0, "a project without tests");
    package.extract_image(&at("root")).unwrap();
    assert_eq!(fs::read(at("root/etc/motd")).unwrap(), b"not measured");

    assert_eq!(built.code_sha256, package::code_archive::sha256(&at("p/mse_src")).unwrap());

    let again = package_with("image.tar");
    assert!(matches!(again, Err(Error::Io { .. })), "an existing package is never replaced");
    fs::write(at("broken.tar"), b"not an image").unwrap();
    fs::remove_file(&built.package).unwrap();
    assert!(package_with("broken.tar").is_err());
    assert_eq!(fs::read_dir(at("out")).unwrap().count(), 0, "nothing is left of what failed");
}

#[test]
fn an_application_is_in_the_code_or_in_the_image() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| -> PathBuf { dir.path().join(name) };
    fs::create_dir_all(at("p/mse_src/src")).unwrap();
    fs::write(at("p/mse_src/src/app.py"), "app = 1").unwrap();
    let mut layer = good_layer();
    layer.truncate(layer.len() - 1024);
    layer.extend(tar(&[file("usr/lib/python3/dist-packages/shop/web.py", b"app = 1")]));
    fs::write(at("image.tar"), image(&layer)).unwrap();
    let build = |application: &str| {
        fs::write(at("p/mse.toml"), CONFIG.replace("app:app", application)).unwrap();
        let (project, _) = Project::open(&at("p")).unwrap();
        let options = Options {
            builder: Builder::Saved(&at("image.tar")),
            encrypt: false,
            output: &at(&application.replace(':', "_")),
            now: jiff::Timestamp::UNIX_EPOCH,
            progress: &mut |_| {},
        };
        build_for(&[1024], &project, options).map(drop).map_err(|error| error.to_string())
    };
    assert_eq!(build("shop.web:app"), Ok(()));
    assert!(build("shop.wep:app").unwrap_err().contains("python_application"));
    let hint = build("app:app").unwrap_err();
    assert!(hint.contains("--code") && hint.contains("`src/`"), "{hint}");
}

#[test]
fn who_builds_may_choose_the_tls_mode_that_the_configuration_leaves_open() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| -> PathBuf { dir.path().join(name) };
    fs::create_dir_all(at("p/mse_src")).unwrap();
    fs::write(at("p/mse_src/app.py"), "app = 1").unwrap();
    fs::write(at("image.tar"), image(&good_layer())).unwrap();
    let build = |toml: &str, mode: Option<TlsMode>, out: &str| {
        fs::write(at("p/mse.toml"), toml).unwrap();
        let (mut project, _) = Project::open(&at("p")).unwrap();
        project.tls_mode = mode;
        let options = Options {
            builder: Builder::Saved(&at("image.tar")),
            encrypt: false,
            output: &at(out),
            now: jiff::Timestamp::UNIX_EPOCH,
            progress: &mut |_| {},
        };
        build_for(&[1024], &project, options)
    };
    let usual = build(CONFIG, None, "a").unwrap();
    let chosen = build(CONFIG, Some(TlsMode::OwnerCertificate), "b").unwrap();
    let written = build(&format!("tls_mode = \"owner-certificate\"\n{CONFIG}"), None, "c").unwrap();
    assert_eq!(Package::open(&chosen.package).unwrap().node_config().tls_mode, TlsMode::OwnerCertificate);
    assert_ne!(chosen.fingerprints, usual.fingerprints, "the mode is measured");
    assert_eq!(chosen.fingerprints, written.fingerprints, "however it came in");
    assert_eq!(build(CONFIG, Some(TlsMode::RaTls), "d").unwrap().sha256, usual.sha256);
    let other = format!("tls_mode = \"owner-certificate\"\n{CONFIG}");
    let refused = build(&other, Some(TlsMode::RaTls), "e");
    assert!(matches!(refused, Err(Error::Field { field: "tls_mode", .. })), "{refused:?}");
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(32))]
    #[test]
    fn any_spoilt_package_is_opened_or_refused(
        flips in proptest::collection::vec((0usize..1 << 20, proptest::num::u8::ANY), 1..6),
    ) {
        let mut bytes = bundle(&good_members());
        let length = bytes.len();
        for (at, value) in flips {
            bytes[at % length] = value;
        }
        let _ = open(&bytes);
    }
}

#[test]
fn reading_goes_no_further_than_the_file() {
    // A header may claim any size; only what is there is read.
    let mut bytes = bundle(&good_members());
    let mut header = tar::Header::new_gnu();
    header.as_mut_bytes().copy_from_slice(&bytes[..512]);
    header.set_size(1 << 40);
    header.set_cksum();
    bytes[..512].copy_from_slice(header.as_bytes());
    assert!(open(&bytes).is_err());
    assert!(package::code_archive::check(&bytes[..]).is_err());
}
