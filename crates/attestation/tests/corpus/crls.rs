//! Defects of the revocation lists and of the chain behind the PCK's.

use std::sync::Arc;

use attestation::checks::Id;
use attestation::issuer::{INTEL, Signer, pem_chain, set_window};
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DnType, IsCa, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P384_SHA384,
};

use super::draft::{Draft, authority, hours};
use super::{Mutant, der, mutant};

pub fn mutants() -> Vec<Mutant> {
    [issuer_chain(), lists(true), lists(false), lookups()].into_iter().flatten().collect()
}

/// Puts these certificates behind the PCK CRL.
fn set_chain(d: &mut Draft, chain: &[&Vec<u8>]) {
    d.collateral.pck_crl_issuer_chain = pem_chain(chain.iter().copied());
}

/// Puts another certificate of the CA behind the PCK CRL; the quote keeps the old one.
fn set_ca(d: &mut Draft, ca: &Signer) {
    let root = d.authority.root.certificate.clone();
    set_chain(d, &[&ca.certificate, &root]);
}

fn issuer_chain() -> Vec<Mutant> {
    let text = |name: &str, change: fn(&mut String)| {
        mutant(name, Id::CrlChainFormat, move |d| change(&mut d.collateral.pck_crl_issuer_chain))
    };
    let ca = |name: &str, id, change: fn(&mut CertificateParams, jiff::Timestamp)| {
        mutant(name, id, move |d| {
            let ca = d.other_ca(|params| change(params, d.at));
            set_ca(d, &ca);
        })
    };
    vec![
        text("crl-chain-empty", String::clear),
        text("crl-chain-prose", |t| *t = "none".into()),
        text("crl-chain-url-encoded", |t| *t = t.replace('\n', "%0A")),
        mutant("crl-chain-without-root", Id::CrlChainLength, |d| {
            let ca = d.authority.platform_ca.certificate.clone();
            set_chain(d, &[&ca]);
        }),
        mutant("crl-chain-with-the-leaf", Id::CrlChainLength, |d| {
            let chain = d.machine.pck_chain.clone();
            set_chain(d, &[&chain[0], &chain[1], &chain[2]]);
        }),
        mutant("crl-chain-reversed", Id::CrlChainOrder, |d| {
            let chain = d.machine.pck_chain.clone();
            set_chain(d, &[&chain[2], &chain[1]]);
        }),
        mutant("crl-chain-under-a-strange-root", Id::CrlChainRoot, |d| {
            let stranger = authority(INTEL);
            let ca = &d.authority.platform_ca;
            let ca = stranger.root.certify_key(ca.params.clone(), ca.key.clone()).unwrap();
            set_chain(d, &[&ca.certificate, &stranger.root.certificate]);
        }),
        ca("crl-chain-ca-of-another-role", Id::CrlChainNames, |p, _| {
            p.distinguished_name.remove(DnType::CommonName);
            p.distinguished_name.push(DnType::CommonName, "Intel SGX TCB Signing");
        }),
        mutant("crl-chain-ca-key-on-p384", Id::CrlChainKeys, |d| {
            let key = Arc::new(KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).unwrap());
            let ca = d.authority.platform_ca.params.clone();
            let ca = d.authority.root.certify_key(ca, key).unwrap();
            set_ca(d, &ca);
        }),
        mutant("crl-chain-ca-signed-by-a-stranger", Id::CrlChainSignatures, |d| {
            let stranger = authority(INTEL);
            let ca = &d.authority.platform_ca;
            let ca = stranger.root.certify_key(ca.params.clone(), ca.key.clone()).unwrap();
            set_ca(d, &ca);
        }),
        ca("crl-chain-ca-expired", Id::CrlChainValidity, |p, at| {
            set_window(p, at - hours(48), at - hours(1)).unwrap();
        }),
        ca("crl-chain-ca-not-yet-valid", Id::CrlChainValidity, |p, at| {
            set_window(p, at + hours(1), at + hours(48)).unwrap();
        }),
        ca("crl-chain-ca-is-no-ca", Id::CrlChainConstraints, |p, _| p.is_ca = IsCa::ExplicitNoCa),
        ca("crl-chain-ca-may-not-revoke", Id::CrlChainKeyUsage, |p, _| {
            p.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        }),
        mutant("root-may-not-revoke", Id::CrlChainKeyUsage, |d| {
            d.remake_root(|params| {
                params.is_ca = IsCa::Ca(BasicConstraints::Constrained(1));
                params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
            });
        }),
        mutant("crl-chain-ca-unknown-critical-extension", Id::CrlChainExtensions, |d| {
            let ca = d.other_ca(|params| {
                let oid = [1, 3, 6, 1, 4, 1, 99999, 1];
                let mut extension = CustomExtension::from_oid_content(&oid, vec![5, 0]);
                extension.set_criticality(true);
                params.custom_extensions.push(extension);
            });
            set_ca(d, &ca);
        }),
    ]
}

/// The same defects of either list.
fn lists(of_root: bool) -> Vec<Mutant> {
    let (prefix, [format, issuer, signature, window]) = match of_root {
        true => ("root-crl", [Id::RootCrlFormat, Id::RootCrlIssuer, Id::RootCrlSignature, Id::RootCrlWindow]),
        false => ("pck-crl", [Id::PckCrlFormat, Id::PckCrlIssuer, Id::PckCrlSignature, Id::PckCrlWindow]),
    };
    let text = |name: &str, change: fn(&mut String)| {
        mutant(format!("{prefix}-{name}"), format, move |d| change(list(d, of_root)))
    };
    let signed = |name: &str, change: fn(&mut Vec<Vec<u8>>)| {
        mutant(format!("{prefix}-{name}"), format, move |d| {
            let signer = signer(d, of_root);
            let old = hex::decode(&*list(d, of_root)).unwrap();
            *list(d, of_root) = hex::encode(signer.reissue(&old, |body| der::edit(body, change)).unwrap());
        })
    };
    let timed = |name: &str, from: i64, until: i64| {
        mutant(format!("{prefix}-{name}"), window, move |d| {
            let mut plan = d.crl_plan();
            (plan.this_update, plan.next_update) = (d.at + hours(from), d.at + hours(until));
            *list(d, of_root) = hex::encode(signer(d, of_root).crl(&plan).unwrap());
        })
    };
    vec![
        text("empty", String::clear),
        text("not-hex", |t| t.replace_range(..1, "x")),
        text("odd-digits", |t| t.push('0')),
        text("in-broken-base64", |t| *t = "MI!".into()),
        text("in-empty-pem", |t| *t = "-----BEGIN X509 CRL-----\n-----END X509 CRL-----\n".into()),
        text("truncated", |t| t.truncate(t.len() - 2)),
        text("trailing-byte", |t| t.push_str("00")),
        // TBSCertList: version, algorithm, issuer, thisUpdate, nextUpdate, [0] extensions.
        signed("version-1", |fields| drop(fields.remove(0))),
        signed("without-next-update", |fields| drop(fields.remove(4))),
        signed("delta", |fields| add_extension(fields, &[0x55, 0x1d, 0x1b], true, &[2, 1, 1])),
        signed("of-one-distribution-point", |fields| {
            add_extension(fields, &[0x55, 0x1d, 0x1c], false, &[0x30, 0])
        }),
        signed("unknown-critical-extension", |fields| {
            add_extension(fields, &[0x55, 0x1d, 0x7f], true, &[5, 0])
        }),
        signed("seventeen-extensions", |fields| {
            for number in 0..17 {
                add_extension(fields, &[0x2a, 3, 4, number], false, &[5, 0]);
            }
        }),
        signed("extension-twice", |fields| {
            der::edit(fields.last_mut().unwrap(), |inside| {
                der::edit(&mut inside[0], |extensions| extensions.push(extensions[0].clone()));
            });
        }),
        mutant(format!("{prefix}-of-another-issuer"), issuer, move |d| {
            let mut signer = signer(d, of_root);
            signer.params.distinguished_name.push(DnType::OrganizationalUnitName, "else");
            *list(d, of_root) = hex::encode(signer.crl(&d.crl_plan()).unwrap());
        }),
        mutant(format!("{prefix}-signed-by-a-stranger"), signature, move |d| {
            let stranger = authority(INTEL);
            let signer = if of_root { &stranger.root } else { &stranger.platform_ca };
            *list(d, of_root) = hex::encode(signer.crl(&d.crl_plan()).unwrap());
        }),
        mutant(format!("{prefix}-flipped-bit"), signature, move |d| {
            let mut der = hex::decode(&*list(d, of_root)).unwrap();
            *der.last_mut().unwrap() ^= 1;
            *list(d, of_root) = hex::encode(der);
        }),
        timed("expired", -48, -1),
        timed("from-the-future", 1, 48),
    ]
}

fn list(d: &mut Draft, of_root: bool) -> &mut String {
    if of_root { &mut d.collateral.root_ca_crl } else { &mut d.collateral.pck_crl }
}

fn signer(d: &Draft, of_root: bool) -> Signer {
    if of_root { d.authority.root.clone() } else { d.authority.platform_ca.clone() }
}

/// Adds an extension to the fields of a TBSCertList.
fn add_extension(fields: &mut [Vec<u8>], oid: &[u8], critical: bool, value: &[u8]) {
    let mut parts = vec![der::element(6, oid)];
    if critical {
        parts.push(vec![1, 1, 0xff]);
    }
    parts.push(der::element(4, value));
    let extension = der::constructed(0x30, &parts);
    der::edit(fields.last_mut().unwrap(), |inside| {
        der::edit(&mut inside[0], |extensions| extensions.push(extension));
    });
}

/// Who is on a list.
fn lookups() -> Vec<Mutant> {
    vec![
        mutant("pck-revoked", Id::RevokedPck, |d| {
            let serial = d.machine.pck.serial();
            d.remake_pck_crl(|plan| plan.revoked.push(serial));
        }),
        mutant("pck-revoked-among-others", Id::RevokedPck, |d| {
            let serial = d.machine.pck.serial();
            d.remake_pck_crl(|plan| {
                plan.revoked.extend((1..200).map(|n| vec![0x40, n]));
                plan.revoked.push(serial);
            });
        }),
        mutant("pck-ca-revoked", Id::RevokedPckCa, |d| {
            let serial = d.authority.platform_ca.serial();
            d.remake_root_crl(|plan| plan.revoked.push(serial));
        }),
        mutant("crl-issuer-revoked", Id::RevokedPckCa, |d| {
            let ca = d.other_ca(|_| {});
            set_ca(d, &ca);
            d.remake_root_crl(|plan| plan.revoked.push(ca.serial()));
        }),
        mutant("tcb-signing-revoked", Id::RevokedTcbSigning, |d| {
            let serial = d.authority.tcb_signing.serial();
            d.remake_root_crl(|plan| plan.revoked.push(serial));
        }),
        mutant("qe-identity-signer-revoked", Id::RevokedTcbSigning, |d| {
            let signer = d.other_signer(|_| {});
            let root = d.authority.root.certificate.clone();
            d.collateral.qe_identity_issuer_chain = pem_chain([&signer.certificate, &root]);
            d.remake_root_crl(|plan| plan.revoked.push(signer.serial()));
        }),
        mutant("tcb-info-signer-revoked", Id::RevokedTcbSigning, |d| {
            let signer = d.other_signer(|_| {});
            let root = d.authority.root.certificate.clone();
            d.collateral.tcb_info_issuer_chain = pem_chain([&signer.certificate, &root]);
            d.remake_root_crl(|plan| plan.revoked.push(signer.serial()));
        }),
        mutant("root-revoked", Id::RevokedRoot, |d| {
            let serial = d.authority.root.serial();
            d.remake_root_crl(|plan| plan.revoked.push(serial));
        }),
        mutant("pck-crl-of-the-other-ca", Id::PckCrlIssuer, |d| {
            let ca = d.authority.processor_ca.clone();
            set_ca(d, &ca);
            d.collateral.pck_crl = hex::encode(ca.crl(&d.crl_plan()).unwrap());
        }),
    ]
}
