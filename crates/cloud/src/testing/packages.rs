//! The smallest package that is one.

use std::io::Cursor;
use std::sync::LazyLock;

use crate::bearer::sha256;

const CONFIG: &str = r#"
name = "example"
python_application = "app:app"
healthcheck_endpoint = "/health"
tests_cmd = "pytest"
"#;

const VECTOR: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../gramine/tests/vectors/01-defaults-256m-t4");

/// Its bytes.
pub(crate) static PACKAGE: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let library = std::fs::read(format!("{VECTOR}/libpal.so")).unwrap();
    let layer = tar(&[
        ("opt/mse/python/mse_node/__main__.py", b"pass\n".as_slice()),
        ("opt/mse/python/mse_node/_node.abi3.so", &library),
    ]);
    tar(&[
        ("app.tar", &tar(&[("app.py", b"app = 1\n")])),
        ("image.tar", &image(&layer)),
        ("mse.toml", CONFIG.as_bytes()),
        ("tests.tar", &tar(&[("test_app.py", b"def test(): pass\n")])),
    ])
});

/// A signer's key.
pub(crate) fn signer() -> gramine::sigstruct::SignerKey {
    let pem = std::fs::read_to_string(format!("{VECTOR}/key.pem")).unwrap();
    gramine::sigstruct::SignerKey::from_pem(&pem).unwrap()
}

fn tar(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (path, content) in files {
        let mut header = tar::Header::new_ustar();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        header.set_mtime(1);
        builder.append_data(&mut header, path, Cursor::new(content)).unwrap();
    }
    builder.into_inner().unwrap()
}

/// An OCI image layout with one layer.
fn image(layer: &[u8]) -> Vec<u8> {
    let descriptor = |media: &str, bytes: &[u8]| {
        serde_json::json!({"mediaType": format!("application/vnd.oci.image.{media}"),
            "digest": format!("sha256:{}", sha256(bytes)), "size": bytes.len()})
    };
    let config = serde_json::json!({"architecture": "amd64", "os": "linux",
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{}", sha256(layer))]}})
    .to_string();
    let manifest = serde_json::json!({"schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": descriptor("config.v1+json", config.as_bytes()),
        "layers": [descriptor("layer.v1.tar", layer)]})
    .to_string();
    let index =
        serde_json::json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [descriptor("manifest.v1+json", manifest.as_bytes())]})
        .to_string();
    let blob = |bytes: &[u8]| format!("blobs/sha256/{}", sha256(bytes));
    tar(&[
        (&blob(layer), layer),
        (&blob(config.as_bytes()), config.as_bytes()),
        (&blob(manifest.as_bytes()), manifest.as_bytes()),
        ("index.json", index.as_bytes()),
        ("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#),
    ])
}
