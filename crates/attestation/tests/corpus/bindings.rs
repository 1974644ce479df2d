//! Defects of RA-TLS certificates, claims and evidence files.

use attestation::checks::Id;
use attestation::ratls::{AppClaims, Claims, TlsMode, report_data};
use rcgen::{CustomExtension, KeyPair};

use super::draft::{Draft, NONCE, hours};
use super::{Form, Mutant, der, mutant};

/// The older extension.
pub const LEGACY: [u64; 6] = [1, 2, 840, 113_741, 1337, 6];
/// The same as Gramine wrote it before version 1.8.
pub const MISSPELT_LEGACY: [u64; 8] = [0, 6, 9, 42, 840, 113_741, 1337, 6];

pub fn mutants() -> Vec<Mutant> {
    [certificates(), claims(), legacy(), evidence()].into_iter().flatten().collect()
}

fn in_certificate(name: &str, id: Id, make: impl Fn(&mut Draft) + 'static) -> Mutant {
    mutant(name, id, make).in_form(Form::Certificate)
}

fn certificates() -> Vec<Mutant> {
    let bytes = |name: &str, id, change: fn(&mut Vec<u8>)| {
        in_certificate(name, id, move |d| change(&mut d.certificate))
    };
    let carrying = |name: &str, id, content: fn(&Draft) -> Vec<u8>| {
        in_certificate(name, id, move |d| {
            let extension = CustomExtension::from_oid_content(&[2, 23, 133, 5, 4, 9], content(d));
            d.certificate = d.issue_with(vec![extension]);
        })
    };
    vec![
        bytes("certificate-empty", Id::CertFormat, Vec::clear),
        bytes("certificate-prose", Id::CertFormat, |b| *b = b"certificate".to_vec()),
        bytes("certificate-truncated", Id::CertFormat, |b| b.truncate(b.len() - 1)),
        bytes("certificate-trailing-byte", Id::CertFormat, |b| b.push(0)),
        bytes("certificate-two-in-pem", Id::CertFormat, |b| {
            let pem = attestation::issuer::pem_chain([&*b, &*b]);
            *b = pem.into_bytes();
        }),
        in_certificate("certificate-without-a-quote", Id::CertQuote, |d| {
            d.certificate = d.issue_with(Vec::new())
        }),
        carrying("certificate-evidence-empty", Id::CertQuote, |_| Vec::new()),
        carrying("certificate-evidence-is-a-bare-quote", Id::CertQuote, |d| d.quote.to_bytes()),
        carrying("certificate-evidence-of-another-tag", Id::CertQuote, |d| {
            tagged(60001, &d.quote.to_bytes(), b"")
        }),
        carrying("certificate-evidence-trailing-byte", Id::CertQuote, |d| {
            let mut cbor = tagged(60000, &d.quote.to_bytes(), &d.claims_bytes);
            cbor.push(0);
            cbor
        }),
        in_certificate("certificate-signed-by-another-key", Id::CertSelfSignature, |d| {
            let last = d.certificate.len() - 1;
            d.certificate[last] ^= 1;
        }),
        in_certificate("certificate-host-after-signing", Id::CertSelfSignature, |d| {
            let at = d.certificate.windows(8).position(|window| window == b"myapp.fr").unwrap();
            d.certificate[at] = b'n';
        }),
        in_certificate("certificate-expired", Id::CertWindow, |d| {
            d.certificate_window = (d.at - hours(48), d.at - hours(1));
            d.remake_node();
        }),
        in_certificate("certificate-not-yet-valid", Id::CertWindow, |d| {
            d.certificate_window = (d.at + hours(1), d.at + hours(48));
            d.remake_node();
        }),
    ]
}

/// CBOR: tag [quote, claims].
fn tagged(tag: u16, quote: &[u8], claims: &[u8]) -> Vec<u8> {
    let [high, low] = tag.to_be_bytes();
    let mut cbor = vec![0xd9, high, low, 0x82];
    for part in [quote, claims] {
        let length = (part.len() as u16).to_be_bytes();
        match part.len() {
            short @ 0..24 => cbor.push(0x40 | short as u8),
            medium @ 24..256 => cbor.extend([0x58, medium as u8]),
            _ => cbor.extend([0x59, length[0], length[1]]),
        }
        cbor.extend_from_slice(part);
    }
    cbor
}

fn claims() -> Vec<Mutant> {
    let bytes = |name: &str, change: fn(&mut Vec<u8>)| {
        in_certificate(name, Id::BindingClaimsFormat, move |d| {
            change(&mut d.claims_bytes);
            d.remake_node();
        })
    };
    let data = |name: &str, change: fn(&mut [u8; 64])| {
        in_certificate(name, Id::BindingClaims, move |d| {
            let mut data = report_data(&d.claims_bytes);
            change(&mut data);
            let quote = d.quote_over(data).to_bytes();
            d.certificate = d.issue(&quote, &d.claims_bytes);
        })
    };
    vec![
        bytes("claims-empty", Vec::clear),
        bytes("claims-trailing-byte", |c| c.push(0)),
        bytes("claims-indefinite-length", |c| {
            c[0] = 0xbf;
            c.push(0xff);
        }),
        bytes("claims-key-twice", |c| {
            let inside = c[1..].to_vec();
            c[0] = 0xa4;
            c.extend(inside);
        }),
        bytes("claims-not-a-map", |c| *c = vec![0x80]),
        data("claims-of-another-quote", |d| d[0] ^= 1),
        data("claims-and-more-in-the-report-data", |d| d[63] = 1),
        data("claims-and-report-data-zero", |d| *d = [0; 64]),
        in_certificate("claims-after-quoting", Id::BindingClaims, |d| {
            let quote = d.quote.to_bytes();
            let app = AppClaims::new([8; 16], vec![2; 1216], TlsMode::RaTls);
            let claims = Claims { app: Some(app), ..d.claims.clone() }.encode();
            d.certificate = d.issue(&quote, &claims);
        }),
        in_certificate("claims-of-another-key", Id::BindingPublicKey, |d| {
            d.claims_bytes = Claims { pubkey_hash: [1; 32], ..d.claims.clone() }.encode();
            d.remake_node();
        }),
        in_certificate("certificate-of-another-key", Id::BindingPublicKey, |d| {
            d.key = KeyPair::generate().unwrap();
            d.remake_node();
        }),
        in_certificate("certificate-without-a-nonce", Id::BindingNonce, |d| {
            d.expected.nonce = Some(NONCE.to_vec())
        }),
    ]
}

fn legacy() -> Vec<Mutant> {
    let data = |name: &str, change: fn(&mut [u8; 64])| {
        mutant(name, Id::BindingPublicKey, move |d| {
            let mut data = d.quote.report.report_data;
            change(&mut data);
            d.certificate = d.issue_legacy(&d.quote_over(data).to_bytes());
        })
        .in_form(Form::Legacy)
    };
    vec![
        mutant("legacy-certificate-with-two-quotes", Id::CertQuote, |d| {
            let (one, other) = (d.quote.to_bytes(), d.quote_over([1; 64]).to_bytes());
            let quote = |oid: &[u64], quote| CustomExtension::from_oid_content(oid, quote);
            d.certificate = d.issue_with(vec![quote(&LEGACY, one), quote(&MISSPELT_LEGACY, other)]);
        })
        .in_form(Form::Legacy),
        mutant("legacy-certificate-of-older-gramine-of-another-key", Id::BindingPublicKey, |d| {
            let quote = d.quote_over([0; 64]).to_bytes();
            d.certificate = d.issue_with(vec![CustomExtension::from_oid_content(&MISSPELT_LEGACY, quote)]);
        })
        .in_form(Form::Legacy),
        mutant("certificate-of-open-enclave", Id::CertQuote, |d| {
            let oid = [1, 3, 6, 1, 4, 1, 311, 105, 1];
            let report = d.quote.to_bytes();
            d.certificate = d.issue_with(vec![CustomExtension::from_oid_content(&oid, report)]);
        })
        .in_form(Form::Legacy),
        mutant("certificate-of-a-machine", Id::CertQuote, |d| {
            d.certificate = d.machine.pck.certificate.clone();
        })
        .in_form(Form::Legacy),
        data("legacy-certificate-of-another-key", |d| d[0] ^= 1),
        data("legacy-certificate-binds-nothing", |d| *d = [0; 64]),
        data("legacy-certificate-binds-in-the-second-half", |d| d.rotate_left(32)),
        mutant("legacy-certificate-has-no-nonce", Id::BindingNonce, |d| {
            d.expected.nonce = Some(NONCE.to_vec())
        })
        .in_form(Form::Legacy),
    ]
}

fn evidence() -> Vec<Mutant> {
    let with = |name: &str, id, make: fn(&mut Draft)| mutant(name, id, make).in_form(Form::Evidence);
    let file = |name: &str, json: &'static str| {
        mutant(name, Id::EvidenceFormat, move |d| d.evidence_file = Some(json.into())).in_form(Form::Evidence)
    };
    let fresh = |claims: Claims| Claims { nonce: Some(NONCE.to_vec()), ..claims }.encode();
    vec![
        file("evidence-empty", ""),
        file("evidence-empty-object", "{}"),
        file("evidence-array", "[]"),
        file("evidence-is-a-certificate", "-----BEGIN CERTIFICATE-----\nAwAC\n-----END CERTIFICATE-----\n"),
        file("evidence-is-collateral", r#"{"pck_crl": ""}"#),
        file("evidence-is-live-evidence", r#"{"version": 1, "certificate": "", "quote": "", "claims": ""}"#),
        file("evidence-is-a-hex-quote", "0300020000000000"),
        with("evidence-unknown-field", Id::EvidenceFormat, |d| {
            let json = d.to_evidence().replacen('{', "{\"more\": 1,", 1);
            d.evidence_file = Some(json.into());
        }),
        with("evidence-unknown-field-of-the-collateral-twice", Id::EvidenceFormat, |d| {
            let json = d.to_evidence();
            d.evidence_file =
                Some(json.replacen("\"pck_crl\"", "\"more\": 1, \"more\": 1, \"pck_crl\"", 1).into());
        }),
        with("evidence-nonce-of-another-request", Id::BindingNonce, |d| d.expected.nonce = Some(vec![8; 32])),
        with("evidence-nonce-shortened", Id::BindingNonce, |d| d.expected.nonce = Some(NONCE[..31].to_vec())),
        with("evidence-certificate-without-a-quote", Id::CertQuote, |d| {
            d.certificate = d.issue_with(Vec::new())
        }),
        with("evidence-certificate-malformed", Id::CertFormat, |d| {
            der::edit(&mut d.certificate, |c| c.truncate(c.len() - 1))
        }),
        with("evidence-certificate-expired", Id::CertWindow, |d| d.at -= hours(2)).also(&[
            Id::RootCrlWindow,
            Id::PckCrlWindow,
            Id::TcbInfoWindow,
            Id::QeIdentityWindow,
        ]),
        with("evidence-certificate-of-another-key", Id::BindingPublicKey, |d| {
            // The certificate agrees with itself; the fresh quote is of another node's key.
            d.claims_bytes =
                Claims { pubkey_hash: [1; 32], nonce: Some(NONCE.to_vec()), ..d.claims.clone() }.encode();
            d.set_fresh_claims(d.claims_bytes.clone());
        }),
        with("evidence-certificate-of-another-enclave", Id::BindingCertificateQuote, |d| {
            let report = attestation::EnclaveReport {
                mr_enclave: [6; 32],
                report_data: report_data(&d.claims.encode()),
                ..d.report.clone()
            };
            let quote = d.machine.quote(&report).unwrap();
            d.certificate = d.issue(&quote, &d.claims.encode());
        }),
        with("evidence-certificate-with-loose-claims", Id::BindingCertificateQuote, |d| {
            let quote = d.quote_over([0; 64]).to_bytes();
            d.certificate = d.issue(&quote, &d.claims.encode());
        }),
        mutant("evidence-application-swapped", Id::BindingCertificateQuote, move |d| {
            // Fresh claims with another sealing key than the certificate's.
            let app = AppClaims::new([1; 16], vec![3; 1216], TlsMode::RaTls);
            d.set_fresh_claims(fresh(Claims { app: Some(app), ..d.claims.clone() }));
        })
        .in_form(Form::Evidence),
        with("evidence-host-of-another-certificate", Id::BindingArguments, |d| {
            d.arguments.host = "other.fr".into()
        }),
        with("evidence-app-id-of-another-node", Id::BindingArguments, |d| {
            d.arguments.app_id = "02020202-0202-0202-0202-020202020202".into();
        }),
        with("evidence-platform-misnamed", Id::BindingArguments, |d| {
            d.arguments.platform = "simulated".into()
        }),
        with("evidence-nonce-misnamed", Id::BindingArguments, |d| d.nonce = Some(vec![8; 32])),
    ]
}
