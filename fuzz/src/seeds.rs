//! Makes the corpus: one or a few small valid inputs for every target.
//!
//! The make-believe Intel's keys are thrown away afterwards, so nobody can make another quote that the corpus's root
//! vouches for.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::Context;
use attestation::issuer::{Authority, AuthorityPlan, MachinePlan, PckCa, SIMULATED, encode_sgx_extension};
use attestation::ratls::{
    AppClaims, CertificateRequest, Claims, LiveEvidence, TlsMode, issue, report_data, spki_sha256,
};
use attestation::{Arguments, Evidence};
use jiff::{SignedDuration, Timestamp};
use rcgen::{KeyPair, PublicKeyData};
use secrets::code::CodeKey;
use secrets::seal::{Payload, Recipient, SealingKey};
use zeroize::Zeroizing;

use crate::campaign::{corpus_directory, root_file};
use crate::tape;
use crate::targets::JUDGED_AT;

/// Writes the corpus anew, but for what a target broke on before: other files stay.
///
/// # Errors
/// Where something cannot be made or written.
pub fn write() -> anyhow::Result<()> {
    let mut seeds = Seeds::default();
    attestation_seeds(&mut seeds)?;
    gramine_seeds(&mut seeds)?;
    package_seeds(&mut seeds);
    secrets_seeds(&mut seeds)?;
    for ((target, name), content) in seeds.0 {
        let directory = corpus_directory(&target);
        fs::create_dir_all(&directory)?;
        fs::write(directory.join(&name), content).with_context(|| format!("cannot write {target}/{name}"))?;
    }
    Ok(())
}

/// Files by target and name.
#[derive(Default)]
struct Seeds(BTreeMap<(String, String), Vec<u8>>);

impl Seeds {
    fn add(&mut self, target: &str, name: &str, content: impl Into<Vec<u8>>) {
        self.0.insert((target.into(), name.into()), content.into());
    }
}

fn attestation_seeds(seeds: &mut Seeds) -> anyhow::Result<()> {
    let now: Timestamp = JUDGED_AT.parse()?;
    let day = SignedDuration::from_hours(24);
    let authority = Authority::generate(&AuthorityPlan::new(SIMULATED, now - day, now + day * 365)?)?;
    fs::write(root_file(), authority.root_pem()).context("cannot write the root")?;
    seeds.add("certificate", "root.der", authority.root_certificate());
    seeds.add("certificate", "root.pem", authority.root_pem());
    for (ca, name) in [(PckCa::Processor, "processor"), (PckCa::Platform, "platform")] {
        let machine = authority.machine(MachinePlan::new(&authority, ca, *b"MSESIM", [7; 16])?)?;
        let collateral = authority.collateral(&machine.plan, now, day)?;
        seeds.add("certificate", &format!("pck-{name}.der"), machine.pck_chain[0].clone());
        seeds.add("pck-extension", name, encode_sgx_extension(&machine.plan.sgx));
        seeds.add("crl", name, hex::decode(&collateral.pck_crl)?);
        let mut report = machine.report();
        report.mr_enclave = [3; 32];
        seeds.add("quote", name, machine.quote(&report)?);
        if ca == PckCa::Processor {
            continue;
        }
        seeds.add("quote", "platform.hex", hex::encode(machine.quote(&report)?));
        seeds.add("tcb-info", "simulated.json", collateral.tcb_info.clone());
        seeds.add("qe-identity", "simulated.json", collateral.qe_identity.clone());
        seeds.add("collateral", "simulated.json", collateral.to_json());

        let key = KeyPair::generate()?;
        let mut claims = Claims {
            pubkey_hash: spki_sha256(&key.subject_public_key_info()),
            nonce: None,
            app: Some(AppClaims::new(
                [1; 16],
                SealingKey::from_bytes([3; 32]).public().as_bytes().into(),
                TlsMode::RaTls,
            )),
        };
        let certified = claims.encode();
        seeds.add("claims", "of-a-node", certified.clone());
        report.report_data = report_data(&certified);
        let certificate = issue(&CertificateRequest {
            subject: "CN=myapp.fr",
            hosts: &["myapp.fr".into()],
            not_before: now,
            not_after: now + day * 300,
            key: &key,
            quote: &machine.quote(&report)?,
            claims: &certified,
        })?;
        seeds.add("ratls-certificate", "of-a-node.der", certificate.clone());
        claims.nonce = Some(vec![9; 32]);
        let claims = claims.encode();
        seeds.add("claims", "with-a-nonce", claims.clone());
        report.report_data = report_data(&claims);
        let quote = machine.quote(&report)?;
        seeds.add(
            "live-evidence",
            "of-a-node.json",
            LiveEvidence::new(certificate.clone(), quote.clone(), claims.clone()).to_json(),
        );
        let arguments = Arguments {
            host: "myapp.fr".into(),
            port: 7777,
            size_mb: 4096,
            days: 300,
            subject: "CN=myapp.fr".into(),
            app_id: "01010101-0101-0101-0101-010101010101".into(),
            platform: "simulated".into(),
            runtime: "process".into(),
        };
        seeds.add("arguments", "args.toml", arguments.to_toml());
        let nonce = Some(vec![9; 32]);
        let evidence = Evidence { certificate, quote, claims, nonce, collateral, arguments };
        seeds.add("evidence", "of-a-node.json", evidence.to_json());
    }
    seeds.add("policy", "strict.toml", "");
    seeds.add("url", "name", "https://myapp.fr:7777/");
    seeds.add("url", "address", "https://[::1]:443");
    seeds.add("client-hello", "name", client_hello("app.example", &[]));
    seeds.add(
        "client-hello",
        "name-and-protocols",
        client_hello("0123.config.apps.localhost", &["h2", "http/1.1"]),
    );
    seeds.add(
        "cloud-table",
        "everything",
        "code = \"src\"\ntests = \"tests\"\ndocker = \"image:1\"\nproject = \"p\"\nhardware = \"small\"\n\
         expiration_date = \"2030-01-31 18:00\"\nsecrets = \"s.json\"\nsealed_secrets = \"t.json\"\n[ssl]\n\
         domain_name = \"app.example\"\nprivate_key = \"key.pem\"\ncertificate = \"chain.pem\"\n",
    );
    Ok(())
}

fn gramine_seeds(seeds: &mut Seeds) -> anyhow::Result<()> {
    let vectors = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/gramine/tests/vectors");
    for vector in
        ["01-defaults-256m-t4", "05-edmm-256m-cpu-required-dcap", "10-inline-trusted-files-debug-edmm"]
    {
        let read = |file: &str| {
            fs::read(vectors.join(vector).join(file)).with_context(|| format!("{vector}/{file}"))
        };
        seeds.add("manifest", vector, read("app.manifest.sgx")?);
        seeds.add("elf", vector, read("libpal.so")?);
        seeds.add("sigstruct", vector, read("app.sig")?);
        seeds.add("signer-key", vector, read("key.pem")?);
    }
    seeds.add("date", "date", "2025-06-20");
    Ok(())
}

fn package_seeds(seeds: &mut Seeds) {
    let config = "name = \"example\"\npython_application = \"app:app\"\nhealthcheck_endpoint = \"/health\"\n\
                  tests_cmd = \"pytest\"\ntests_requirements = [\"pytest==8.4.1\"]\n";
    seeds.add("mse-toml", "minimal", config);
    let optional = "sealed_secrets = \"required\"\n[image]\nrequirements = \"requirements.txt\"\n[cloud]\nlocation = \"anywhere\"\n";
    seeds.add("mse-toml", "everything", format!("{config}{optional}"));
    seeds.add("node-config", "plain", r#"{"application":"app:app","code":"plain","healthcheck":"/health","sealed_secrets_required":false,"tls_mode":"ra-tls"}"#);
    seeds.add("instance", "simulated", "app_id = \"01010101-0101-0101-0101-010101010101\"\nhost = \"myapp.fr\"\n\
        listen = \"127.0.0.1:7777\"\nnot_before = \"2026-03-01T12:00:00Z\"\nnot_after = \"2027-03-01T12:00:00Z\"\nsubject = \"CN=myapp.fr\"\n\
        [simulation]\ninstallation = \"/var/lib/mse\"\n");
    seeds.add(
        "ignore-rules",
        "usual",
        "# caches\n__pycache__/\n*.pyc\n!keep.pyc\n/build\n**/node_modules\n[a-z]?.txt\n",
    );
    let hash = "ab".repeat(32);
    seeds.add("lock", "two", format!("# made by mse\n# inputs: {hash}\n# target: cp311\nflask==3.1.1 --hash=sha256:{hash}\nwerkzeug==3.1.3 --hash=sha256:{hash}\n"));

    let file = |name: &str, content: &str| (name.to_string(), content.as_bytes().to_vec());
    let code = tape::archive(&BTreeMap::from([file("app.py", "app = 1\n"), file("package/__init__.py", "")]));
    seeds.add("code-archive", "two-files", code.clone());
    let layer = tape::archive(&BTreeMap::from([
        file("opt/mse/python/app.py", "x = 1\n"),
        file("opt/mse/python/.wh.gone", ""),
        file("opt/mse/python/lib/.wh..wh..opq", ""),
    ]));
    seeds.add("image-layer", "whiteouts", layer.clone());
    seeds.add("image-layer", "links", linked());
    seeds.add("image-layer", "pax", extended());
    let image = tape::image(&layer);
    seeds.add("image", "oci", image.clone());
    let tests = tape::archive(&BTreeMap::from([file("test_app.py", "def test(): pass\n")]));
    let members =
        [("app.tar", code), ("image.tar", image), ("mse.toml", config.into()), ("tests.tar", tests)];
    seeds.add(
        "package",
        "small",
        tape::archive(&members.map(|(name, content)| (name.to_string(), content)).into()),
    );
}

/// A layer with pax records: a global comment, a path, a size, a link from the image's root.
fn extended() -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    let mut member = |kind, path: &str, link: &str, content: &[u8]| {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(kind);
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        // A target from the root on is what is wanted here, and `set_link_name` would refuse none.
        let _ = header.set_link_name(link);
        let _ = builder.append_data(&mut header, path, content);
    };
    member(tar::EntryType::XGlobalHeader, "pax_global_header", "", b"13 comment=c\n");
    member(tar::EntryType::XHeader, "pax_header", "", b"17 path=usr/file\n10 size=4\n");
    member(tar::EntryType::Regular, "short", "", b"data");
    member(tar::EntryType::Link, "usr/hard", "/usr/file", b"");
    builder.into_inner().unwrap_or_default()
}

/// A layer with a directory, a symbolic and a hard link and a long name.
fn linked() -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    let mut member = |kind, path: &str, link: &str| {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_size(0);
        header.set_mode(0o755);
        let _ = match link {
            "" => builder.append_data(&mut header, path, std::io::empty()),
            _ => builder.append_link(&mut header, path, link),
        };
    };
    member(tar::EntryType::Directory, "usr/", "");
    member(tar::EntryType::Regular, "usr/file", "");
    member(tar::EntryType::Symlink, "usr/symbolic", "file");
    member(tar::EntryType::Link, "usr/hard", "usr/file");
    member(tar::EntryType::Regular, &format!("usr/{}", "long/".repeat(40) + "name"), "");
    builder.into_inner().unwrap_or_default()
}

fn secrets_seeds(seeds: &mut Seeds) -> anyhow::Result<()> {
    let mut code = Vec::new();
    secrets::code::encrypt(&CodeKey::from_bytes([7; 32]), &b"print('hello')\n"[..], &mut code)?;
    seeds.add("encrypted-code", "short", code);
    seeds.add("code-key", "sevens", "07".repeat(32));
    let recipient =
        Recipient { fingerprint: [1; 32], app_id: [2; 16], key: SealingKey::from_bytes([3; 32]).public() };
    let payload = Payload {
        secrets: Some(Zeroizing::new(b"{\"a\": 1}".to_vec())),
        code_key: Some(CodeKey::from_bytes([9; 32])),
    };
    seeds.add("sealed", "both", secrets::seal::seal(&recipient, &payload)?);
    seeds.add("sealing-public-key", "of-threes", recipient.key.as_bytes());
    seeds.add("sealed-state", "identity", secrets::state::seal(&[5; 32], b"node", b"identity")?);
    seeds.add("aes-file", "message", secrets::aes::encrypt(&"00".repeat(16), b"message")?);
    let token = "gAAAAAAdwJ6wAAECAwQFBgcICQoLDA0ODy021cpGVWKZ_eEwCGM4BLLF_5CV9dOPmrhuVUPgJobwOz7JcbmrR64jVmpU4IwqDA==";
    seeds.add("fernet-token", "hello", token);
    Ok(())
}

/// A ClientHello (RFC 8446, section 4.1.2) in one record, with a name and protocols.
fn client_hello(name: &str, protocols: &[&str]) -> Vec<u8> {
    fn vector16(content: &[u8]) -> Vec<u8> {
        [&(content.len() as u16).to_be_bytes(), content].concat()
    }
    let entry = [&[0][..], &vector16(name.as_bytes())].concat();
    let mut extensions = [&[0, 0][..], &vector16(&vector16(&entry))].concat();
    if !protocols.is_empty() {
        let list: Vec<u8> =
            protocols.iter().flat_map(|p| [&[p.len() as u8], p.as_bytes()].concat()).collect();
        extensions.extend([&[0, 16][..], &vector16(&vector16(&list))].concat());
    }
    let body =
        [&[3, 3][..], &[7; 32], &[0], &vector16(&[0x13, 0x01]), &[1, 0], &vector16(&extensions)].concat();
    let message = [&[1, 0][..], &vector16(&body)].concat();
    [&[22, 3, 1][..], &vector16(&message)].concat()
}
