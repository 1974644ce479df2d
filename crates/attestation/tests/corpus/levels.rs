//! Defects of the quoting enclave and of the platform's level.

use std::sync::Arc;

use attestation::checks::Id;
use attestation::issuer::INTEL;
use attestation::report::{FLAG_DEBUG, FLAG_INIT, FLAG_PROVISION_KEY};
use rcgen::KeyPair;

use super::draft::authority;
use super::{Mutant, mutant};

pub fn mutants() -> Vec<Mutant> {
    [quoting_enclave(), platform()].into_iter().flatten().collect()
}

fn quoting_enclave() -> Vec<Mutant> {
    let report = |name: &str, id, change: fn(&mut attestation::EnclaveReport)| {
        mutant(name, id, move |d| d.edit_qe_report(change))
    };
    vec![
        mutant("qe-report-signature-flipped-bit", Id::QeReportSignature, |d| {
            d.quote.signature.qe_report_signature[63] ^= 1;
        }),
        mutant("qe-report-signed-by-another-pck", Id::QeReportSignature, |d| {
            let other = authority(INTEL).machine(d.machine.plan.clone()).unwrap();
            other.sign_qe_report(&mut d.quote).unwrap();
        }),
        mutant("qe-report-changed-after-signing", Id::QeReportSignature, |d| {
            d.quote.signature.qe_report.mr_enclave[0] ^= 1;
        }),
        report("qe-binds-another-key", Id::QeKeyBinding, |r| r.report_data[0] ^= 1),
        report("qe-binds-nothing", Id::QeKeyBinding, |r| r.report_data = [0; 64]),
        report("qe-report-data-more-than-a-hash", Id::QeKeyBinding, |r| r.report_data[63] = 1),
        mutant("qe-authentication-data-changed", Id::QeKeyBinding, |d| {
            d.quote.signature.qe_auth_data[0] ^= 1
        }),
        mutant("qe-authentication-data-missing", Id::QeKeyBinding, |d| {
            d.quote.signature.qe_auth_data.clear()
        }),
        mutant("attestation-key-of-another-machine", Id::QeKeyBinding, |d| {
            // The quote is signed by the key it carries; the QE never saw that key.
            let mut other = d.machine.clone();
            other.attestation_key = Arc::new(KeyPair::generate().unwrap());
            let quote = other.make_quote(&d.report).unwrap();
            d.quote.signature.attestation_key = quote.signature.attestation_key;
            d.quote.signature.signature = quote.signature.signature;
        }),
        report("qe-reserved", Id::QeReserved, |r| r.reserved4[0] = 1),
        report("qe-of-another-signer", Id::QeMrsigner, |r| r.mr_signer[0] ^= 1),
        report("qe-of-another-product", Id::QeIsvProdId, |r| r.isv_prod_id = 2),
        report("qe-misc-select", Id::QeMiscSelect, |r| r.misc_select = 1),
        report("qe-misc-select-high-bit", Id::QeMiscSelect, |r| r.misc_select = 1 << 31),
        report("qe-debug", Id::QeAttributes, |r| r.attributes.flags |= FLAG_DEBUG),
        report("qe-not-initialised", Id::QeAttributes, |r| r.attributes.flags &= !FLAG_INIT),
        report("qe-without-provisioning-key", Id::QeAttributes, |r| {
            r.attributes.flags &= !FLAG_PROVISION_KEY
        }),
        mutant("qe-xfrm-under-its-mask", Id::QeAttributes, |d| {
            d.edit_qe(|identity| {
                identity.attributes_mask = "FBFFFFFFFFFFFFFFFF00000000000000".into();
                identity.attributes = "11000000000000000700000000000000".into();
            });
        }),
        report("qe-older-than-any-level", Id::QeLevel, |r| r.isv_svn = 5),
    ]
}

fn platform() -> Vec<Mutant> {
    let mut mutants = vec![mutant("platform-pcesvn-below-all-levels", Id::TcbLevel, |d| {
        d.remake_machine(|plan| {
            let mut sgx = plan.sgx.clone();
            sgx.pce_svn -= 1;
            plan.set_sgx(sgx);
        });
    })];
    // Components 3 to 6 and 8 have the same minimum on both levels.
    for component in [2, 3, 4, 5, 7] {
        let name = format!("platform-component-{}-below-all-levels", component + 1);
        mutants.push(mutant(name, Id::TcbLevel, move |d| {
            d.remake_machine(|plan| {
                let mut sgx = plan.sgx.clone();
                sgx.components[component] -= 1;
                plan.set_sgx(sgx);
            });
        }));
    }
    for component in [0, 15] {
        let name = format!("platform-component-{}-raised-by-the-levels", component + 1);
        mutants.push(mutant(name, Id::TcbLevel, move |d| {
            d.edit_tcb(|info| {
                for level in &mut info.tcb_levels {
                    level.tcb.sgxtcbcomponents[component].svn = 12;
                }
            });
        }));
    }
    mutants
}
