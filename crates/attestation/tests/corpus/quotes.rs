//! Defects of the quote itself.

use attestation::checks::Id;
use attestation::quote::{HEADER_LEN, MAX_LEN, SIGNED_LEN, TEE_TDX};
use attestation::report::{FLAG_DEBUG, FLAG_EINITTOKEN_KEY, FLAG_INIT, FLAG_MODE64BIT, FLAG_PROVISION_KEY};

use super::draft::{Draft, MRENCLAVE, authority};
use super::{Mutant, mutant};

pub fn mutants() -> Vec<Mutant> {
    [forms(), header(), lengths(), report(), signature(), expectations()].into_iter().flatten().collect()
}

fn forms() -> Vec<Mutant> {
    let file = |name: &str, bytes: &'static [u8]| {
        mutant(name, Id::QuoteFormat, move |d| d.quote_file = Some(bytes.to_vec()))
    };
    vec![
        file("quote-empty", b""),
        file("quote-blank", b" \n\t\n"),
        file("quote-prose", b"this is not a quote!"),
        file("quote-pem-of-a-certificate", b"-----BEGIN CERTIFICATE-----\nAwAC\n-----END CERTIFICATE-----\n"),
        file("quote-pem-without-end", b"-----BEGIN SGX QUOTE-----\nAwAC\n"),
        file("quote-pem-two-labels", b"-----BEGIN SGX QUOTE-----\nAwAC\n-----END QUOTE-----\n"),
        file("quote-is-a-private-key", b"-----BEGIN PRIVATE KEY-----\nAwAC\n-----END PRIVATE KEY-----\n"),
        file("quote-is-an-evidence-file", b"{\"certificate\": \"\", \"quote\": \"\", \"collateral\": {}}"),
        file("quote-in-hex-with-an-odd-number-of-digits", b"0x030"),
        file("quote-in-utf-16", b"\xff\xfe0\x003\x00"),
        file("quote-is-compressed", b"\x1f\x8b\x08\x00"),
        mutant("quote-is-a-certificate-in-der", Id::QuoteFormat, |d| {
            d.quote_file = Some(d.authority.root.certificate.clone());
        }),
        mutant("quote-behind-an-unknown-header", Id::QuoteFormat, |d| {
            d.quote_file = Some([vec![7; 28], d.quote.to_bytes()].concat());
        }),
        mutant("quote-behind-an-open-enclave-header-of-another-length", Id::QuoteFormat, |d| {
            let mut report = open_enclave_report(&d.quote.to_bytes());
            report[8] ^= 1;
            d.quote_file = Some(report);
        }),
        mutant("quote-behind-two-open-enclave-headers", Id::QuoteVersion, |d| {
            d.quote_file = Some(open_enclave_report(&open_enclave_report(&d.quote.to_bytes())));
        })
        .also(&[Id::QuoteKeyType, Id::QuoteTeeType]),
        mutant("quote-too-large", Id::QuoteFormat, |d| {
            let mut bytes = d.quote.to_bytes();
            bytes.resize(MAX_LEN + 1, 0);
            d.quote_file = Some(bytes);
        }),
    ]
}

/// A report as Open Enclave writes it: version 1, type 2, length, then the quote.
pub fn open_enclave_report(quote: &[u8]) -> Vec<u8> {
    let mut report = vec![1, 0, 0, 0, 2, 0, 0, 0];
    report.extend((quote.len() as u64).to_le_bytes());
    report.extend(quote);
    report
}

fn header() -> Vec<Mutant> {
    let mut mutants = vec![
        mutant("quote-key-type-p384", Id::QuoteKeyType, |d| {
            d.edit_quote(|q| q.header.attestation_key_type = 3)
        }),
        mutant("quote-tee-type-tdx", Id::QuoteTeeType, |d| d.edit_quote(|q| q.header.tee_type = 0x81)),
        mutant("quote-tee-type-high-bit", Id::QuoteTeeType, |d| {
            d.edit_quote(|q| q.header.tee_type = 1 << 31)
        }),
        mutant("quote-vendor-unknown", Id::QuoteVendor, |d| d.edit_quote(|q| q.header.qe_vendor_id[15] ^= 1)),
        mutant("quote-vendor-zero", Id::QuoteVendor, |d| d.edit_quote(|q| q.header.qe_vendor_id = [0; 16])),
    ];
    for version in [0, 2, 4, 5, 0x0103] {
        mutants.push(mutant(format!("quote-version-{version}"), Id::QuoteVersion, move |d| {
            d.edit_quote(|q| q.header.version = version);
        }));
    }
    for (version, name) in [(4, "quote-of-tdx-version-4"), (5, "quote-of-tdx-version-5")] {
        let mutant = mutant(name, Id::QuoteVersion, move |d| {
            d.edit_quote(|q| (q.header.version, q.header.tee_type) = (version, TEE_TDX));
        });
        mutants.push(mutant.also(&[Id::QuoteTeeType]));
    }
    for kind in [0, 1, 2, 3, 4, 6, 7] {
        mutants.push(mutant(
            format!("quote-certification-data-type-{kind}"),
            Id::QuoteCertificationType,
            move |d| {
                d.quote.signature.certification_data_type = kind;
            },
        ));
    }
    mutants
}

fn lengths() -> Vec<Mutant> {
    let bytes = |name: &str, change: fn(&mut Vec<u8>)| {
        mutant(name, Id::QuoteLength, move |d: &mut Draft| {
            let mut bytes = d.quote.to_bytes();
            change(&mut bytes);
            d.quote_file = Some(bytes);
        })
    };
    // Where the lengths stand: of the signature, of the authentication data (32 bytes), of the certification data.
    const SIGNATURE: usize = SIGNED_LEN;
    const AUTHENTICATION: usize = 1012;
    const CERTIFICATION: usize = 1012 + 2 + 32 + 2;
    vec![
        bytes("quote-one-byte-short", |b| b.truncate(b.len() - 1)),
        bytes("quote-header-only", |b| b.truncate(HEADER_LEN)),
        bytes("quote-less-than-a-header", |b| b.truncate(HEADER_LEN - 1)),
        bytes("quote-signed-part-only", |b| b.truncate(SIGNED_LEN)),
        bytes("quote-one-byte-more", |b| b.push(0)),
        bytes("quote-two-bytes-more", |b| b.extend([0, 1])),
        bytes("quote-twice", |b| b.extend(b.clone())),
        bytes("quote-signature-length-lower", |b| b[SIGNATURE] = b[SIGNATURE].wrapping_sub(1)),
        bytes("quote-signature-length-huge", |b| b[SIGNATURE..SIGNATURE + 4].fill(0xff)),
        bytes("quote-authentication-length-huge", |b| b[AUTHENTICATION..AUTHENTICATION + 2].fill(0xff)),
        bytes("quote-certification-length-lower", |b| b[CERTIFICATION] = b[CERTIFICATION].wrapping_sub(1)),
        bytes("quote-certification-length-huge", |b| b[CERTIFICATION..CERTIFICATION + 4].fill(0xff)),
    ]
}

fn report() -> Vec<Mutant> {
    let edit = |name: &str, id, change: fn(&mut attestation::EnclaveReport)| {
        mutant(name, id, move |d| d.edit_quote(|q| change(&mut q.report)))
    };
    vec![
        edit("enclave-reserved-1", Id::QuoteReserved, |r| r.reserved1[11] = 1),
        edit("enclave-reserved-2", Id::QuoteReserved, |r| r.reserved2[0] = 1),
        edit("enclave-reserved-3", Id::QuoteReserved, |r| r.reserved3[31] = 1),
        edit("enclave-reserved-4", Id::QuoteReserved, |r| r.reserved4[41] = 1),
        edit("enclave-not-initialised", Id::QuoteInit, |r| r.attributes.flags &= !FLAG_INIT),
        edit("enclave-debug", Id::QuoteDebug, |r| r.attributes.flags |= FLAG_DEBUG),
        edit("enclave-provisioning-key", Id::QuoteProvisioningKey, |r| {
            r.attributes.flags |= FLAG_PROVISION_KEY
        }),
        edit("enclave-launch-key", Id::QuoteProvisioningKey, |r| r.attributes.flags |= FLAG_EINITTOKEN_KEY),
        edit("enclave-32-bit", Id::QuoteAttributes, |r| r.attributes.flags &= !FLAG_MODE64BIT),
        edit("enclave-unknown-flag-3", Id::QuoteAttributes, |r| r.attributes.flags |= 8),
        edit("enclave-unknown-flag-63", Id::QuoteAttributes, |r| r.attributes.flags |= 1 << 63),
        edit("enclave-xfrm-without-sse", Id::QuoteXfrm, |r| r.attributes.xfrm &= !2),
        edit("enclave-xfrm-without-x87", Id::QuoteXfrm, |r| r.attributes.xfrm &= !1),
        edit("enclave-xfrm-unknown-bit", Id::QuoteXfrm, |r| r.attributes.xfrm |= 1 << 62),
    ]
}

fn signature() -> Vec<Mutant> {
    let unsigned = |name: &str, change: fn(&mut attestation::Quote)| {
        mutant(name, Id::QuoteSignature, move |d| change(&mut d.quote))
    };
    vec![
        unsigned("quote-signature-flipped-bit", |q| q.signature.signature[0] ^= 1),
        unsigned("quote-signature-zero", |q| q.signature.signature = [0; 64]),
        unsigned("quote-signature-ones", |q| q.signature.signature = [0xff; 64]),
        unsigned("quote-mrenclave-after-signing", |q| q.report.mr_enclave[0] ^= 1),
        unsigned("quote-report-data-after-signing", |q| q.report.report_data[63] ^= 1),
        unsigned("quote-user-data-after-signing", |q| q.header.user_data[0] ^= 1),
        unsigned("quote-qe-svn-after-signing", |q| q.header.qe_svn += 1),
        mutant("quote-signed-by-another-machine", Id::QuoteSignature, |d| {
            let stranger = authority("Intel").machine(d.machine.plan.clone()).unwrap();
            stranger.sign_quote(&mut d.quote).unwrap();
        }),
        mutant("quote-signature-of-another-quote", Id::QuoteSignature, |d| {
            d.quote.signature.signature = d.quote_over([1; 64]).signature.signature;
        }),
    ]
}

fn expectations() -> Vec<Mutant> {
    let mut other = MRENCLAVE;
    other[31] ^= 1;
    vec![
        mutant("enclave-another-mrenclave", Id::QuoteMrenclave, move |d| d.expected.mrenclave = vec![other]),
        mutant("enclave-mrenclave-of-no-size", Id::QuoteMrenclave, move |d| {
            d.expected.mrenclave_by_size = [(1024, other), (2048, [0; 32])].into();
        }),
        mutant("enclave-another-mrsigner", Id::QuoteMrsigner, |d| d.expected.mrsigner = Some([5; 32])),
        mutant("enclave-another-product", Id::QuoteIsvProdId, |d| d.expected.isv_prod_id = Some(4)),
        mutant("enclave-older-than-wanted", Id::QuoteIsvSvn, |d| d.expected.min_isv_svn = Some(7)),
        mutant("enclave-another-report-data", Id::BindingReportData, |d| {
            d.expected.report_data = Some([1; 64])
        }),
        mutant("nonce-for-a-bare-quote", Id::BindingNonce, |d| d.expected.nonce = Some(vec![9; 32])),
    ]
}
