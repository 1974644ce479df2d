//! Defects of the PCK chain and of the SGX extension in it.

use std::sync::Arc;

use attestation::checks::Id;
use attestation::issuer::{
    Element, INTEL, PckCa, SIMULATED, Signer, elements, encode_elements, pem_chain, set_window, tcb_elements,
};
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DnType, IsCa, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P384_SHA384, PKCS_ED25519,
};

use super::draft::{Draft, authority, hours};
use super::{Anchor, Mutant, der, mutant};

pub fn mutants() -> Vec<Mutant> {
    [text(), order(), roots(), names(), keys(), signatures(), rules(), extension(), simulation()]
        .into_iter()
        .flatten()
        .collect()
}

/// A defect of the certificates' text in the quote.
fn text() -> Vec<Mutant> {
    let edit = |name: &str, change: fn(&mut String)| {
        mutant(name, Id::PckFormat, move |d| {
            let data = &mut d.quote.signature.certification_data;
            let mut text = String::from_utf8(data.clone()).unwrap();
            change(&mut text);
            *data = text.into_bytes();
        })
    };
    vec![
        edit("pck-chain-empty", String::clear),
        edit("pck-chain-prose", |t| *t = "certificates".into()),
        edit("pck-chain-text-between", |t| {
            *t = t.replacen("-----END CERTIFICATE-----\n", "-----END CERTIFICATE-----\nhm\n", 1)
        }),
        edit("pck-chain-two-nuls", |t| t.push_str("\0\0")),
        edit("pck-chain-space-at-the-end", |t| t.push(' ')),
        edit("pck-chain-other-label", |t| *t = t.replace("CERTIFICATE", "X509 CRL")),
        edit("pck-chain-bad-base64", |t| *t = t.replacen("\nMII", "\nM!I", 1)),
        edit("pck-chain-unended", |t| t.truncate(t.len() - 10)),
        mutant("pck-chain-nine-certificates", Id::PckFormat, |d| {
            let chain: Vec<_> = std::iter::repeat_n(&d.machine.pck_chain, 3).flatten().cloned().collect();
            d.set_pck_chain(&chain);
        }),
        leaf_bytes("pck-leaf-truncated", |der| der.truncate(der.len() - 1)),
        leaf_bytes("pck-leaf-trailing-byte", |der| der.push(0)),
        leaf_bytes("pck-leaf-empty-sequence", |der| *der = vec![0x30, 0]),
        mutant("pck-leaf-version-1", Id::PckFormat, |d| {
            d.reissue_pck(|tbs| der::edit(tbs, |fields| drop(fields.remove(0))));
        }),
        mutant("pck-leaf-version-2", Id::PckFormat, |d| {
            d.reissue_pck(|tbs| der::edit(tbs, |fields| fields[0] = vec![0xa0, 3, 2, 1, 1]));
        }),
        mutant("pck-leaf-names-another-algorithm-inside", Id::PckFormat, |d| {
            // ecdsa-with-SHA384 inside, ecdsa-with-SHA256 outside.
            d.reissue_pck(|tbs| der::edit(tbs, |fields| *fields[2].last_mut().unwrap() = 3));
        }),
        mutant("pck-leaf-33-extensions", Id::PckFormat, |d| {
            d.reissue_pck(|tbs| {
                der::edit(tbs, |fields| {
                    der::edit(fields.last_mut().unwrap(), |inside| {
                        der::edit(&mut inside[0], |extensions| {
                            for number in 0..33 - extensions.len() as u8 {
                                let oid = der::element(6, &[0x2a, 3, 4, number]);
                                extensions.push(der::constructed(0x30, &[oid, der::element(4, &[5, 0])]));
                            }
                        });
                    });
                });
            });
        }),
        mutant("pck-leaf-malformed-key-usage", Id::PckFormat, |d| {
            d.reissue_pck(|tbs| edit_extension(tbs, [0x55, 0x1d, 0x0f], |value| *value = vec![0x05, 0]));
        }),
    ]
}

/// Changes the DER of the PCK certificate without signing.
fn leaf_bytes(name: &str, change: fn(&mut Vec<u8>)) -> Mutant {
    mutant(name, Id::PckFormat, move |d| {
        let mut chain = d.machine.pck_chain.clone();
        change(&mut chain[0]);
        d.set_pck_chain(&chain);
    })
}

/// Changes the value of the extension 2.5.29.x whose OID has this content.
fn edit_extension(tbs: &mut Vec<u8>, oid: [u8; 3], change: impl FnOnce(&mut Vec<u8>)) {
    der::edit(tbs, |fields| {
        let explicit = fields.last_mut().unwrap();
        der::edit(explicit, |inside| {
            der::edit(&mut inside[0], |extensions| {
                let extension =
                    extensions.iter_mut().find(|e| der::content(&der::children(e)[0]) == oid).unwrap();
                der::edit(extension, |parts| {
                    let mut value = der::content(parts.last().unwrap()).to_vec();
                    change(&mut value);
                    *parts.last_mut().unwrap() = der::element(0x04, &value);
                });
            });
        });
    });
}

fn order() -> Vec<Mutant> {
    let chain = |name: &str, id, change: fn(&mut Vec<Vec<u8>>)| {
        mutant(name, id, move |d| {
            let mut chain = d.machine.pck_chain.clone();
            change(&mut chain);
            d.set_pck_chain(&chain);
        })
    };
    vec![
        chain("pck-chain-leaf-only", Id::PckLength, |c| c.truncate(1)),
        chain("pck-chain-without-root", Id::PckLength, |c| c.truncate(2)),
        chain("pck-chain-root-twice", Id::PckLength, |c| c.push(c[2].clone())),
        chain("pck-chain-reversed", Id::PckOrder, |c| c.reverse()),
        chain("pck-chain-ca-and-root-swapped", Id::PckOrder, |c| c.swap(1, 2)),
        chain("pck-chain-leaf-twice", Id::PckOrder, |c| c[1] = c[0].clone()),
        mutant("pck-chain-ca-of-the-other-kind", Id::PckOrder, |d| {
            let mut chain = d.machine.pck_chain.clone();
            chain[1] = d.authority.processor_ca.certificate.clone();
            // The leaf names the Platform CA, and so does the revocation list.
            d.set_pck_chain(&chain);
        })
        .also(&[Id::PckSignatures, Id::PckCrlIssuer]),
        mutant("pck-leaf-issuer-of-another-name", Id::PckOrder, |d| {
            d.authority.platform_ca.params.distinguished_name.push(DnType::OrganizationalUnitName, "else");
            d.remake_machine(|_| {});
        }),
    ]
}

impl Mutant {
    /// More checks that cannot but fail with the defect.
    pub(super) fn also(mut self, more: &[Id]) -> Self {
        self.fails.extend_from_slice(more);
        self
    }
}

fn roots() -> Vec<Mutant> {
    vec![
        mutant("root-not-pinned", Id::PckRoot, |d| d.anchor = Anchor::Nothing),
        mutant("root-of-a-stranger-pinned", Id::PckRoot, |d| d.root = authority(INTEL).root_pem()),
        mutant("root-of-a-simulator-not-allowed", Id::PckRoot, |d| {
            *d = Draft::simulated();
            d.anchor = Anchor::Nothing;
        }),
        mutant("root-same-key-another-certificate", Id::PckRoot, |d| {
            let pinned = d.root.clone();
            d.remake_root(|_| {});
            d.root = pinned;
        }),
    ]
}

fn names() -> Vec<Mutant> {
    let leaf = |name: &str, change: fn(&mut CertificateParams)| {
        mutant(name, Id::PckNames, move |d| d.remake_machine(|plan| change(&mut plan.pck)))
    };
    fn common_name(params: &mut CertificateParams, name: &str) {
        params.distinguished_name.remove(DnType::CommonName);
        params.distinguished_name.push(DnType::CommonName, name);
    }
    vec![
        leaf("pck-leaf-named-tcb-signing", |p| common_name(p, "Intel SGX TCB Signing")),
        leaf("pck-leaf-named-platform-ca", |p| common_name(p, "Intel SGX PCK Platform CA")),
        leaf("pck-leaf-named-simulated", |p| common_name(p, "SIMULATED SGX PCK Certificate")),
        leaf("pck-leaf-name-with-a-space", |p| common_name(p, "Intel SGX PCK Certificate ")),
        leaf("pck-leaf-without-common-name", |p| {
            p.distinguished_name.remove(DnType::CommonName);
        }),
        mutant("root-of-another-role", Id::PckNames, |d| {
            // A hierarchy whose root calls itself something else: everything else agrees with that.
            let mut plan =
                attestation::issuer::AuthorityPlan::new(INTEL, d.authority.window.0, d.authority.window.1)
                    .unwrap();
            common_name(&mut plan.root, "Intel SGX Root");
            let authority = attestation::issuer::Authority::generate(&plan).unwrap();
            d.machine = authority.machine(d.machine.plan.clone()).unwrap();
            d.quote = d.machine.make_quote(&d.report).unwrap();
            let plan =
                attestation::issuer::CollateralPlan::new(&d.machine.plan, d.at - hours(1), d.at + hours(24));
            d.collateral = authority.issue_collateral(&plan).unwrap();
            d.root = authority.root_pem();
        }),
    ]
}

fn keys() -> Vec<Mutant> {
    let leaf_key = |name: &str, algorithm: &'static rcgen::SignatureAlgorithm| {
        mutant(name, Id::PckKeys, move |d| {
            let key = Arc::new(KeyPair::generate_for(algorithm).unwrap());
            let pck = d.authority.platform_ca.certify_key(d.machine.plan.pck.clone(), key).unwrap();
            replace_leaf(d, &pck);
        })
    };
    vec![
        leaf_key("pck-leaf-key-on-p384", &PKCS_ECDSA_P384_SHA384),
        leaf_key("pck-leaf-key-ed25519", &PKCS_ED25519),
    ]
}

/// Carries another PCK certificate; signatures stay.
fn replace_leaf(d: &mut Draft, leaf: &Signer) {
    let mut chain = d.machine.pck_chain.clone();
    chain[0] = leaf.certificate.clone();
    d.set_pck_chain(&chain);
}

/// Carries another certificate of the CA in the quote; the CRL's issuer chain keeps the old one.
fn replace_ca(d: &mut Draft, ca: &Signer) {
    let mut chain = d.machine.pck_chain.clone();
    chain[1] = ca.certificate.clone();
    d.set_pck_chain(&chain);
}

fn signatures() -> Vec<Mutant> {
    vec![
        mutant("pck-leaf-signed-by-a-stranger", Id::PckSignatures, |d| {
            let stranger = authority(INTEL);
            let pck = stranger.platform_ca.certify_key(d.machine.plan.pck.clone(), d.machine.pck.key.clone());
            replace_leaf(d, &pck.unwrap());
        }),
        mutant("pck-leaf-signed-by-the-other-ca", Id::PckSignatures, |d| {
            let mut ca = d.authority.processor_ca.clone();
            ca.params = d.authority.platform_ca.params.clone();
            let pck = ca.certify_key(d.machine.plan.pck.clone(), d.machine.pck.key.clone()).unwrap();
            replace_leaf(d, &pck);
        }),
        mutant("pck-leaf-self-signed", Id::PckSignatures, |d| {
            let mut own = d.machine.pck.clone();
            own.params = d.authority.platform_ca.params.clone();
            let pck = own.certify_key(d.machine.plan.pck.clone(), d.machine.pck.key.clone()).unwrap();
            replace_leaf(d, &pck);
        }),
        mutant("pck-ca-signed-by-a-stranger", Id::PckSignatures, |d| {
            let stranger = authority(INTEL);
            let ca = &d.authority.platform_ca;
            let ca = stranger.root.certify_key(ca.params.clone(), ca.key.clone()).unwrap();
            replace_ca(d, &ca);
        }),
        mutant("pck-leaf-signature-flipped-bit", Id::PckSignatures, |d| {
            let mut chain = d.machine.pck_chain.clone();
            let last = chain[0].len() - 1;
            chain[0][last] ^= 1;
            d.set_pck_chain(&chain);
        }),
        mutant("pck-leaf-serial-after-signing", Id::PckSignatures, |d| {
            let mut chain = d.machine.pck_chain.clone();
            let serial = d.machine.pck.serial();
            let at = chain[0].windows(serial.len()).position(|window| window == serial).unwrap();
            chain[0][at + 10] ^= 1;
            d.set_pck_chain(&chain);
        }),
        mutant("pck-leaf-with-another-algorithm", Id::PckSignatures, |d| {
            // ecdsa-with-SHA384 named inside and outside, a signature with SHA-256.
            let leaf = &d.machine.pck_chain[0];
            let ca = &d.authority.platform_ca;
            let mut leaf =
                ca.reissue(leaf, |tbs| der::edit(tbs, |fields| *fields[2].last_mut().unwrap() = 3)).unwrap();
            der::edit(&mut leaf, |parts| *parts[1].last_mut().unwrap() = 3);
            let mut chain = d.machine.pck_chain.clone();
            chain[0] = leaf;
            d.set_pck_chain(&chain);
        }),
    ]
}

/// Validity, constraints, key usage, extensions.
fn rules() -> Vec<Mutant> {
    let leaf = |name: &str, id, change: fn(&mut CertificateParams, jiff::Timestamp)| {
        mutant(name, id, move |d| {
            let at = d.at;
            d.remake_machine(|plan| change(&mut plan.pck, at));
        })
    };
    let ca = |name: &str, id, change: fn(&mut CertificateParams, jiff::Timestamp)| {
        mutant(name, id, move |d| {
            let ca = d.other_ca(|params| change(params, d.at));
            replace_ca(d, &ca);
        })
    };
    let root = |name: &str, id, change: fn(&mut CertificateParams, jiff::Timestamp)| {
        mutant(name, id, move |d| {
            let at = d.at;
            d.remake_root(|params| change(params, at));
        })
    };
    let unknown = || {
        let mut extension = CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 99999, 1], vec![5, 0]);
        extension.set_criticality(true);
        extension
    };
    vec![
        leaf("pck-leaf-expired", Id::PckValidity, |p, at| {
            set_window(p, at - hours(48), at - hours(1)).unwrap();
        }),
        leaf("pck-leaf-not-yet-valid", Id::PckValidity, |p, at| {
            set_window(p, at + hours(1), at + hours(48)).unwrap();
        }),
        ca("pck-ca-expired", Id::PckValidity, |p, at| set_window(p, at - hours(48), at - hours(1)).unwrap()),
        root("root-expired", Id::PckValidity, |p, at| set_window(p, at - hours(48), at - hours(1)).unwrap()),
        leaf("pck-leaf-is-a-ca", Id::PckConstraints, |p, _| {
            p.is_ca = IsCa::Ca(BasicConstraints::Unconstrained)
        }),
        ca("pck-ca-is-no-ca", Id::PckConstraints, |p, _| p.is_ca = IsCa::ExplicitNoCa),
        ca("pck-ca-without-constraints", Id::PckConstraints, |p, _| p.is_ca = IsCa::NoCa),
        root("root-is-no-ca", Id::PckConstraints, |p, _| p.is_ca = IsCa::ExplicitNoCa),
        root("root-path-length-0", Id::PckConstraints, |p, _| {
            p.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        }),
        leaf("pck-leaf-may-not-sign", Id::PckKeyUsage, |p, _| {
            p.key_usages = vec![KeyUsagePurpose::ContentCommitment];
        }),
        leaf("pck-leaf-without-key-usage", Id::PckKeyUsage, |p, _| p.key_usages.clear()),
        ca("pck-ca-may-not-certify", Id::PckKeyUsage, |p, _| p.key_usages = vec![KeyUsagePurpose::CrlSign]),
        ca("pck-ca-without-key-usage", Id::PckKeyUsage, |p, _| p.key_usages.clear()),
        root("root-may-not-certify", Id::PckKeyUsage, |p, _| p.key_usages = vec![KeyUsagePurpose::CrlSign]),
        mutant("pck-leaf-unknown-critical-extension", Id::PckExtensions, move |d| {
            d.remake_machine(|plan| plan.pck.custom_extensions.push(unknown()));
        }),
        mutant("pck-ca-unknown-critical-extension", Id::PckExtensions, move |d| {
            let ca = d.other_ca(|params| params.custom_extensions.push(unknown()));
            replace_ca(d, &ca);
        }),
        mutant("pck-leaf-extension-twice", Id::PckExtensions, |d| {
            d.reissue_pck(|tbs| {
                der::edit(tbs, |fields| {
                    der::edit(fields.last_mut().unwrap(), |inside| {
                        der::edit(&mut inside[0], |extensions| extensions.push(extensions[0].clone()));
                    });
                });
            });
        }),
    ]
}

/// The SGX extension of the PCK certificate.
fn extension() -> Vec<Mutant> {
    let outer = |name: &str, change: fn(&mut Vec<Element>)| {
        mutant(name, Id::PckSgx, move |d| {
            let mut pairs = elements(&d.machine.plan.sgx);
            change(&mut pairs);
            d.remake_sgx_extension(encode_elements(&pairs));
        })
    };
    let inner = |name: &str, change: fn(&mut Vec<Element>)| {
        mutant(name, Id::PckSgx, move |d| {
            let mut pairs = elements(&d.machine.plan.sgx);
            let mut tcb = tcb_elements(&d.machine.plan.sgx);
            change(&mut tcb);
            pairs[1].value = encode_elements(&tcb);
            d.remake_sgx_extension(encode_elements(&pairs));
        })
    };
    let bytes = |name: &str, change: fn(&mut Vec<u8>)| {
        mutant(name, Id::PckSgx, move |d| {
            let mut der = encode_elements(&elements(&d.machine.plan.sgx));
            change(&mut der);
            d.remake_sgx_extension(der);
        })
    };
    let other_oid = |element: &Element, arc| {
        let oid = element.oid.parent().unwrap().push_arc(arc).unwrap();
        Element { oid, value: element.value.clone() }
    };
    let mut mutants = vec![
        mutant("sgx-extension-missing", Id::PckSgx, |d| {
            d.remake_machine(|plan| plan.pck.custom_extensions.clear())
        }),
        bytes("sgx-extension-empty", Vec::clear),
        bytes("sgx-extension-empty-sequence", |der| *der = vec![0x30, 0]),
        bytes("sgx-extension-trailing-byte", |der| der.push(0)),
        bytes("sgx-extension-truncated", |der| der.truncate(der.len() - 1)),
        bytes("sgx-extension-set-instead-of-sequence", |der| der[0] = 0x31),
        outer("sgx-extension-fmspc-twice", |pairs| pairs.push(pairs[3].clone())),
        mutant("sgx-extension-unknown-field", Id::PckSgx, move |d| {
            let mut pairs = elements(&d.machine.plan.sgx);
            pairs.push(other_oid(&pairs[0], 8));
            d.remake_sgx_extension(encode_elements(&pairs));
        }),
        outer("sgx-extension-field-of-another-tree", |pairs| {
            pairs[0].oid = attestation::pck::SIMULATION_MARKER;
        }),
        outer("sgx-extension-ppid-17-bytes", |pairs| pairs[0].value = der::element(4, &[7; 17])),
        outer("sgx-extension-pce-id-1-byte", |pairs| pairs[2].value = der::element(4, &[0])),
        outer("sgx-extension-fmspc-5-bytes", |pairs| pairs[3].value = der::element(4, &[1; 5])),
        outer("sgx-extension-fmspc-as-text", |pairs| pairs[3].value = der::element(0x0c, b"MSESIM")),
        outer("sgx-extension-type-3", |pairs| pairs[4].value = vec![0x0a, 1, 3]),
        outer("sgx-extension-type-as-integer", |pairs| pairs[4].value = vec![2, 1, 0]),
        outer("sgx-extension-instance-id-15-bytes", |pairs| pairs[5].value = der::element(4, &[7; 15])),
        outer("sgx-extension-configuration-malformed", |pairs| pairs[6].value = vec![0x30, 2, 5, 0]),
        outer("sgx-extension-smt-not-der", |pairs| {
            // BOOLEAN true has to be ff.
            *pairs[6].value.last_mut().unwrap() = 1;
        }),
        inner("sgx-extension-component-256", |tcb| tcb[0].value = vec![2, 2, 1, 0]),
        inner("sgx-extension-component-negative", |tcb| tcb[0].value = vec![2, 1, 0x80]),
        inner("sgx-extension-component-missing", |tcb| drop(tcb.remove(15))),
        inner("sgx-extension-component-twice", |tcb| tcb[15] = tcb[14].clone()),
        inner("sgx-extension-pcesvn-65536", |tcb| tcb[16].value = vec![2, 3, 1, 0, 0]),
        inner("sgx-extension-pcesvn-padded", |tcb| tcb[16].value = vec![2, 2, 0, 13]),
        inner("sgx-extension-cpusvn-15-bytes", |tcb| tcb[17].value = der::element(4, &[0; 15])),
    ];
    for (index, field) in ["ppid", "tcb", "pce-id", "fmspc", "type"].into_iter().enumerate() {
        mutants.push(mutant(format!("sgx-extension-without-{field}"), Id::PckSgx, move |d| {
            let mut pairs = elements(&d.machine.plan.sgx);
            pairs.remove(index);
            d.remake_sgx_extension(encode_elements(&pairs));
        }));
    }
    mutants
}

fn simulation() -> Vec<Mutant> {
    vec![
        mutant("simulated-machine-without-its-mark", Id::PckSimulation, |d| {
            *d = Draft::simulated();
            d.remake_machine(|plan| drop(plan.pck.custom_extensions.pop()));
        }),
        mutant("simulated-root-over-real-names", Id::PckNames, |d| {
            // Every name says Intel; the root is a simulator's and the machine is marked.
            d.anchor = Anchor::Simulated;
            d.remake_machine(|plan| {
                plan.pck.custom_extensions.push(attestation::issuer::simulation_marker())
            });
        })
        .also(&[Id::TcbChainNames]),
        mutant("simulated-ca-names-under-a-real-root", Id::PckNames, |d| {
            let stranger = authority(SIMULATED);
            let ca = stranger.pck_ca(PckCa::Platform).params.clone();
            let ca = d.authority.root.certify_key(ca, d.authority.platform_ca.key.clone()).unwrap();
            let mut chain = d.machine.pck_chain.clone();
            chain[0] =
                ca.certify_key(d.machine.plan.pck.clone(), d.machine.pck.key.clone()).unwrap().certificate;
            chain[1] = ca.certificate;
            d.quote.signature.certification_data = pem_chain(&chain).into_bytes();
        })
        .also(&[Id::PckCrlIssuer]),
    ]
}
