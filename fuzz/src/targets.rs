//! The parsers, one function each.

use std::io::Write;
use std::path::Path;
use std::sync::LazyLock;

use attestation::certificate::{Certificate, chain_from_pem};
use attestation::crl::Crl;
use attestation::pck::SgxExtension;
use attestation::policy::Policy;
use attestation::qe::QeIdentity;
use attestation::quote::SIGNED_LEN;
use attestation::ratls::{Claims, LiveEvidence, RatlsCertificate};
use attestation::tcb::TcbInfo;
use attestation::trust::SimulatedRoot;
use attestation::{Arguments, Collateral, Evidence, Expected, Quote, Subject, TrustAnchors, judge};
use gramine::elf::Image as ElfImage;
use gramine::manifest::EnclaveSettings;
use gramine::{Date, Manifest, SigStruct, SignerKey, loader};
use jiff::Timestamp;
use package::cloud_config::CloudConfig;
use package::config::{AppConfig, NodeConfig};
use package::ignore::Ignore;
use package::image::Image;
use package::instance::Instance;
use package::native::Lock;
use package::{Package, code_archive};
use router::HelloReader;
use secrets::code::CodeKey;
use secrets::seal::{SealingKey, SealingPublicKey};

use crate::campaign::{self, corpus, root_file};
use crate::{Target, tape};

/// When the corpus's evidence was in order.
pub(crate) const JUDGED_AT: &str = "2026-03-01T12:00:00Z";

/// Small but complete inputs for what takes two.
const MANIFEST: &[u8] = b"sgx.edmm_enable = true\nsgx.max_threads = 1\nsgx.enclave_size = '4M'";
pub(crate) const LIBPAL: &[u8] =
    include_bytes!("../../crates/gramine/tests/vectors/01-defaults-256m-t4/libpal.so");

/// Every parser of outside bytes.
pub const TARGETS: &[Target] = &[
    plain("arguments", |data| text(data, |text| Arguments::from_toml(text).is_ok())),
    plain("certificate", certificate),
    plain("claims", claims),
    plain("collateral", |data| Collateral::from_json(data).is_ok()),
    plain("crl", |data| Crl::parse(data).is_ok()),
    plain("evidence", evidence),
    plain("live-evidence", |data| LiveEvidence::from_json(data).is_ok()),
    plain("pck-extension", |data| SgxExtension::parse(data).is_ok()),
    plain("policy", |data| text(data, |text| Policy::from_toml(text).is_ok())),
    plain("qe-identity", |data| text(data, |text| QeIdentity::parse(text).is_ok())),
    plain("quote", quote),
    plain("ratls-certificate", ratls_certificate),
    plain("tcb-info", |data| text(data, |text| TcbInfo::parse(text).is_ok())),
    plain("elf", elf),
    plain("manifest", manifest),
    plain("signer-key", |data| text(data, |text| SignerKey::from_pem(text).is_ok())),
    plain("sigstruct", sigstruct),
    plain("date", |data| text(data, |text| text.parse::<Date>().is_ok())),
    tar("code-archive", code_archive),
    plain("ignore-rules", |data| text(data, |text| Ignore::parse(Path::new("/project"), text).is_ok())),
    tar("image", |data| with_file(data, |file| Image::open(file).is_ok())),
    tar("image-layer", |data| with_file(&tape::image(data), |file| Image::open(file).is_ok())),
    plain("instance", |data| text(data, |text| Instance::from_toml(text).is_ok())),
    plain("lock", lock),
    plain("mse-toml", |data| text(data, |text| AppConfig::from_toml(text).is_ok())),
    plain("node-config", |data| text(data, |text| NodeConfig::from_json(text).is_ok())),
    tar("package", |data| with_file(data, |file| Package::open(file).is_ok())),
    plain("aes-file", |data| secrets::aes::decrypt(&"00".repeat(16), data).is_ok()),
    plain("encrypted-code", encrypted_code),
    plain("fernet-token", |data| secrets::fernet::decrypt(FERNET_KEY, data).is_ok()),
    plain("code-key", |data| text(data, |text| CodeKey::from_hex(text).is_ok())),
    plain("sealed", sealed),
    plain("sealing-public-key", |data| SealingPublicKey::from_bytes(data).is_ok()),
    plain("sealed-state", |data| secrets::state::open(&[5; 32], b"node", data).is_ok()),
    plain("url", |data| text(data, |text| client::target::Target::from_url(text).is_ok())),
    plain("qcnl", |data| client::qcnl::Qcnl::parse(data).is_ok()),
    plain("client-hello", client_hello),
    plain("cloud-table", |data| {
        text(data, |text| text.parse().is_ok_and(|table| CloudConfig::from_table(&table).is_ok()))
    }),
];

/// The key of the corpus's tokens.
pub(crate) const FERNET_KEY: &str = "cw_0x689RpI-jtRR7oE8h_eQsKImvJapLeSbXpwF4e4=";

/// The parser of a target. Only names of targets are asked for.
pub(crate) fn find(name: &str) -> fn(&[u8]) -> bool {
    let target = TARGETS.iter().find(|target| target.name == name);
    target.map_or_else(|| unreachable!("no target {name}"), |target| target.run)
}

const fn plain(name: &'static str, run: fn(&[u8]) -> bool) -> Target {
    Target { name, run, repair: None }
}

const fn tar(name: &'static str, run: fn(&[u8]) -> bool) -> Target {
    Target { name, run, repair: Some(tape::repair) }
}

/// For parsers of text: bytes that are not UTF-8 never reach them.
pub(crate) fn text(data: &[u8], parse: impl FnOnce(&str) -> bool) -> bool {
    std::str::from_utf8(data).is_ok_and(parse)
}

/// For parsers that read files.
pub(crate) fn with_file(data: &[u8], parse: impl FnOnce(&Path) -> bool) -> bool {
    let file = tempfile::NamedTempFile::new().and_then(|mut file| file.write_all(data).map(|()| file));
    file.is_ok_and(|file| parse(file.path()))
}

fn certificate(data: &[u8]) -> bool {
    let _ = chain_from_pem(data);
    let Ok(certificate) = Certificate::parse(data) else { return false };
    let _ = (certificate.common_name(), certificate.validity(), certificate.key());
    let _ = certificate.objectionable_extension(&[]);
    true
}

/// In whatever pieces it comes, the same is read, and every byte is kept for the node.
fn client_hello(data: &[u8]) -> bool {
    let mut at_once = HelloReader::new();
    let whole = at_once.push(data);
    let mut in_pieces = HelloReader::new();
    let mut last = Ok(None);
    for piece in data.chunks(7) {
        last = in_pieces.push(piece);
        if !matches!(last, Ok(None)) {
            break;
        }
    }
    assert!(data.starts_with(in_pieces.received()), "what is passed on is what came");
    match (&whole, &last) {
        // What follows a hello in the same record is refused at once, and is not there yet in pieces.
        (Ok(Some(whole)), Ok(Some(last))) => assert_eq!(whole, last),
        (Ok(None), last) => assert_eq!(last, &Ok(None)),
        _ => {}
    }
    matches!(whole, Ok(Some(_)))
}

/// What was read survives being written. (Not byte for byte: claims of other people's are passed over.)
fn claims(data: &[u8]) -> bool {
    let Ok(claims) = Claims::decode(data) else { return false };
    let encoded = claims.encode();
    let again = Claims::decode(&encoded).map(|claims| claims.encode());
    assert_eq!(again.ok(), Some(encoded), "claims that their own encoding loses");
    true
}

fn ratls_certificate(data: &[u8]) -> bool {
    let _ = RatlsCertificate::from_pem(data);
    let Ok(certificate) = RatlsCertificate::parse(data) else { return false };
    let again = RatlsCertificate::from_pem(certificate.to_pem().as_bytes());
    assert!(again.is_ok(), "a certificate that its own PEM loses");
    let _ = certificate.self_signature_is_valid();
    true
}

/// A quote is written back as it was read, and none is accepted with other contents than one that was made.
fn quote(data: &[u8]) -> bool {
    let Ok(raw) = Quote::recognise(data) else { return false };
    let Ok(quote) = Quote::parse(&raw) else { return false };
    assert_eq!(quote.to_bytes(), raw, "a quote with a second encoding");
    let trusted = Trusted::get();
    let accepted = trusted.accept(&Subject::Quote(raw));
    assert!(!accepted || trusted.quotes.contains(&quote.signed_bytes()), "an altered quote was accepted");
    true
}

/// The same for evidence: its quote is one that was made.
fn evidence(data: &[u8]) -> bool {
    let Ok(evidence) = Evidence::from_json(data) else { return false };
    assert!(Evidence::from_json(evidence.to_json().as_bytes()).is_ok(), "evidence that its own JSON loses");
    let quote = Quote::parse(&evidence.quote).map(|quote| quote.signed_bytes());
    let trusted = Trusted::get();
    let accepted = trusted.accept(&Subject::Evidence(Box::new(evidence)));
    let genuine = quote.is_ok_and(|quote| trusted.quotes.contains(&quote));
    assert!(!accepted || genuine, "altered evidence was accepted");
    true
}

/// What the corpus's quotes are judged by.
struct Trusted {
    anchors: TrustAnchors,
    collateral: Collateral,
    /// What was signed in each quote of the corpus.
    quotes: Vec<[u8; SIGNED_LEN]>,
    at: Timestamp,
}

impl Trusted {
    /// Read once from the corpus; a corpus that cannot be read is nothing to fuzz with.
    #[allow(clippy::expect_used)]
    fn get() -> &'static Trusted {
        static TRUSTED: LazyLock<Trusted> = LazyLock::new(|| {
            let files = |target| corpus(target).expect("a corpus").into_iter();
            let bare = files("quote").filter_map(|quote| Quote::recognise(&quote).ok());
            let carried = files("evidence").filter_map(|json| Some(Evidence::from_json(&json).ok()?.quote));
            let signed = |quote: Vec<u8>| Some(Quote::parse(&quote).ok()?.signed_bytes());
            let root = std::fs::read(root_file()).expect("the corpus's root");
            Trusted {
                anchors: TrustAnchors::intel()
                    .with_simulated(SimulatedRoot::from_pem(&root).expect("a simulated root")),
                collateral: files("collateral")
                    .find_map(|json| Collateral::from_json(&json).ok())
                    .expect("collateral"),
                quotes: bare.chain(carried).filter_map(signed).collect(),
                at: JUDGED_AT.parse().expect("a time"),
            }
        });
        &TRUSTED
    }

    fn accept(&self, subject: &Subject) -> bool {
        self.accept_by(subject, &self.collateral)
    }

    fn accept_by(&self, subject: &Subject, collateral: &Collateral) -> bool {
        let (policy, expected) = (Policy::strict(), Expected::default());
        judge(subject, collateral, &self.anchors, &policy, &expected, self.at).is_accepted()
    }
}

/// Judges a quote of the corpus by this collateral.
pub(crate) fn judged_with(collateral: &[u8]) -> bool {
    static QUOTE: LazyLock<Vec<u8>> = LazyLock::new(|| campaign::corpus_file("quote", "platform"));
    let Ok(collateral) = Collateral::from_json(collateral) else { return false };
    Trusted::get().accept_by(&Subject::Quote(QUOTE.clone()), &collateral)
}

fn elf(data: &[u8]) -> bool {
    let _ = gramine::measure::mrenclave(MANIFEST, data);
    let _ = loader::check(MANIFEST, data);
    ElfImage::parse(data).is_ok_and(|image| image.lowest() <= image.highest())
}

fn manifest(data: &[u8]) -> bool {
    let _ = loader::check(data, LIBPAL);
    // Large enclaves take their time to measure, and say nothing new about the parser.
    let small = |settings: &EnclaveSettings| {
        settings.max_threads <= 8 && (settings.edmm_enable || settings.enclave_size <= 64 << 20)
    };
    if EnclaveSettings::parse(data).is_ok_and(|settings| small(&settings)) {
        let _ = gramine::measure::mrenclave(data, LIBPAL);
    }
    Manifest::parse(data).is_ok()
}

/// A SIGSTRUCT is written back as it was read.
fn sigstruct(data: &[u8]) -> bool {
    let Ok(sigstruct) = SigStruct::parse(data) else { return false };
    assert_eq!(sigstruct.to_bytes(), data, "a SIGSTRUCT with a second encoding");
    let _ = sigstruct.verify();
    true
}

/// What a check refuses is never unpacked.
fn code_archive(data: &[u8]) -> bool {
    let checked = code_archive::check(data).is_ok();
    let unpacked = tempfile::tempdir()
        .is_ok_and(|directory| code_archive::unpack(data, &directory.path().join("code")).is_ok());
    assert!(checked || !unpacked, "an archive was unpacked that the check refuses");
    unpacked
}

/// A lock survives being written.
fn lock(data: &[u8]) -> bool {
    text(data, |text| {
        let Ok(lock) = Lock::parse(text) else { return false };
        assert_eq!(Lock::parse(&lock.to_text()).ok(), Some(lock), "a lock that its own text loses");
        true
    })
}

fn encrypted_code(data: &[u8]) -> bool {
    secrets::code::decrypt(&CodeKey::from_bytes([7; 32]), data, std::io::sink()).is_ok()
}

fn sealed(data: &[u8]) -> bool {
    SealingKey::from_bytes([3; 32]).open(&[1; 32], &[2; 16], data).is_ok()
}
