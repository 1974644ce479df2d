//! Genuine evidence that the policy does not want.

use attestation::checks::Id;
use attestation::tcb::TcbStatus;

use super::draft::{Draft, MRENCLAVE, MRSIGNER, NONCE, hours};
use super::{Case, Form, Mutant, mutant};

pub fn mutants() -> Vec<Mutant> {
    [statuses(), advisories(), dates(), machines(), ages()].into_iter().flatten().collect()
}

/// Genuine evidence just inside of what a policy wants: what must be accepted.
pub fn sound() -> Vec<Case> {
    let case = |name: &str, form, policy: &str, make: fn(&mut Draft)| {
        let mut draft = Draft::new(form);
        draft.policy = policy.into();
        make(&mut draft);
        draft.finish(name.to_owned(), Vec::new())
    };
    let out_of_date = |d: &mut Draft| {
        d.edit_tcb(|info| info.tcb_levels[1].advisory_ids.clear());
        d.remake_machine(|plan| {
            let mut sgx = plan.sgx.clone();
            sgx.components[0] -= 1;
            plan.set_sgx(sgx);
        });
    };
    let quote = Form::Quote;
    vec![
        case(
            "sound-within-grace",
            quote,
            "allowed_tcb_statuses = [\"OutOfDate\"]\ngrace_days = 201",
            out_of_date,
        ),
        case(
            "sound-tolerated-statuses-together",
            quote,
            r#"allowed_tcb_statuses = ["ConfigurationAndSWHardeningNeeded"]"#,
            |d| {
                d.edit_tcb(|info| info.tcb_levels[0].tcb_status = "ConfigurationNeeded".into());
                d.edit_qe(|identity| identity.tcb_levels[0].tcb_status = "SWHardeningNeeded".into());
            },
        ),
        case("sound-tolerated-advisory", quote, TOLERATED, |d| {
            d.at -= hours(1);
            d.edit_tcb(|info| info.tcb_levels[0].advisory_ids.push("INTEL-SA-00001".into()));
        }),
        case(
            "sound-number-and-date",
            quote,
            "min_tcb_evaluation_data_number = 17\nmin_tcb_date = 2025-08-13",
            |_| {},
        ),
        case(
            "sound-configuration",
            quote,
            r#"
            allowed_smt = ["enabled"]
            allowed_dynamic_platform = ["enabled"]
            allowed_cached_keys = ["enabled"]
            allowed_ppids = ["07070707070707070707070707070707"]
            max_collateral_age = "1h"
            "#,
            |_| {},
        ),
        case(
            "sound-platform-instance",
            quote,
            r#"allowed_platform_instances = ["07070707070707070707070707070707"]"#,
            |_| {},
        ),
        case(
            "sound-nonce-age-and-size",
            Form::Evidence,
            "require_nonce = true\nmax_evidence_age = \"1h\"\nallowed_enclave_sizes = [4096]",
            |d| {
                d.expected.nonce = Some(NONCE.to_vec());
                d.expected.nonce_issued_at = Some(d.at - hours(1));
                d.expected.mrenclave_by_size = [(1024, [0; 32]), (4096, MRENCLAVE)].into();
            },
        ),
        case("sound-expectations", quote, "", |d| {
            d.expected.mrenclave = vec![[0; 32], MRENCLAVE];
            d.expected.mrsigner = Some(MRSIGNER);
            d.expected.isv_prod_id = Some(5);
            d.expected.min_isv_svn = Some(6);
            d.expected.report_data = Some([0; 64]);
        }),
    ]
}

/// Tolerates one advisory until the time that cases are judged at.
const TOLERATED: &str = r#"
    [[advisory]]
    id = "INTEL-SA-00001"
    owner = "us"
    reason = "tolerated"
    expires = 2026-03-01T12:00:00Z
"#;

/// A defect that only this policy minds.
fn under(name: &str, id: Id, policy: &'static str, make: impl Fn(&mut Draft) + 'static) -> Mutant {
    mutant(name, id, move |d| {
        d.policy = policy.into();
        make(d);
    })
}

fn statuses() -> Vec<Mutant> {
    let mut mutants = Vec::new();
    for status in TcbStatus::ALL.into_iter().filter(|status| *status != TcbStatus::UpToDate) {
        mutants.push(mutant(format!("platform-{status}"), Id::PolicyTcbStatus, move |d| {
            d.edit_tcb(|info| info.tcb_levels[0].tcb_status = status.to_string());
        }));
    }
    for status in ["OutOfDate", "Revoked", "ConfigurationNeeded"] {
        mutants.push(mutant(format!("qe-{status}"), Id::PolicyTcbStatus, move |d| {
            d.edit_qe(|identity| identity.tcb_levels[0].tcb_status = status.into());
        }));
    }
    mutants.push(mutant("platform-on-an-older-level", Id::PolicyTcbStatus, |d| {
        d.edit_tcb(|info| info.tcb_levels[1].advisory_ids.clear());
        d.remake_machine(|plan| {
            let mut sgx = plan.sgx.clone();
            sgx.components[0] -= 1;
            plan.set_sgx(sgx);
        });
    }));
    mutants.push(mutant("qe-on-an-older-level", Id::PolicyTcbStatus, |d| {
        d.edit_qe(|identity| identity.tcb_levels[1].advisory_ids.clear());
        d.edit_qe_report(|report| report.isv_svn -= 1);
    }));
    mutants.push(under(
        "worst-of-two-tolerated-statuses",
        Id::PolicyTcbStatus,
        r#"allowed_tcb_statuses = ["UpToDate", "ConfigurationNeeded", "SWHardeningNeeded"]"#,
        |d| {
            d.edit_tcb(|info| info.tcb_levels[0].tcb_status = "ConfigurationNeeded".into());
            d.edit_qe(|identity| identity.tcb_levels[0].tcb_status = "SWHardeningNeeded".into());
        },
    ));
    mutants
}

fn advisories() -> Vec<Mutant> {
    let with = |d: &mut Draft, id: &str| {
        let id = id.to_owned();
        d.edit_tcb(|info| info.tcb_levels[0].advisory_ids.push(id));
    };
    vec![
        mutant("advisory-of-the-platform", Id::PolicyAdvisories, move |d| with(d, "INTEL-SA-00001")),
        mutant("advisory-of-the-qe", Id::PolicyAdvisories, |d| {
            d.edit_qe(|identity| identity.tcb_levels[0].advisory_ids.push("INTEL-SA-00001".into()));
        }),
        under("advisory-tolerated-until-now", Id::PolicyAdvisories, TOLERATED, move |d| {
            with(d, "INTEL-SA-00001")
        }),
        under("advisory-other-than-the-tolerated", Id::PolicyAdvisories, TOLERATED, move |d| {
            d.at -= hours(1);
            with(d, "INTEL-SA-00002");
        }),
    ]
}

fn dates() -> Vec<Mutant> {
    let grace = r#"
        allowed_tcb_statuses = ["UpToDate", "OutOfDate"]
        grace_days = 200
    "#;
    vec![
        // The level that would be current is of 2025-08-13; 200 days later is 2026-03-01, at midnight.
        under("grace-of-the-platform-over", Id::PolicyGrace, grace, |d| {
            d.edit_tcb(|info| info.tcb_levels[1].advisory_ids.clear());
            d.remake_machine(|plan| {
                let mut sgx = plan.sgx.clone();
                sgx.components[0] -= 1;
                plan.set_sgx(sgx);
            });
        }),
        under("grace-of-the-qe-over", Id::PolicyGrace, grace, |d| {
            d.edit_qe(|identity| identity.tcb_levels[1].advisory_ids.clear());
            d.edit_qe_report(|report| report.isv_svn -= 1);
        }),
        under("grace-without-a-current-level", Id::PolicyGrace, grace, |d| {
            d.edit_tcb(|info| info.tcb_levels[0].tcb_status = "OutOfDate".into());
        }),
        under(
            "tcb-info-number-too-low",
            Id::PolicyEvaluationNumber,
            "min_tcb_evaluation_data_number = 17",
            |d| {
                d.edit_tcb(|info| info.tcb_evaluation_data_number = 16);
            },
        ),
        under(
            "qe-identity-number-too-low",
            Id::PolicyEvaluationNumber,
            "min_tcb_evaluation_data_number = 17",
            |d| {
                d.edit_qe(|identity| identity.tcb_evaluation_data_number = 16);
            },
        ),
        under("tcb-level-too-old", Id::PolicyTcbDate, "min_tcb_date = 2025-08-14", |_| {}),
        under("collateral-too-old", Id::PolicyCollateralAge, "max_collateral_age = \"59m\"", |_| {}),
        under("root-crl-too-old", Id::PolicyCollateralAge, "max_collateral_age = \"2h\"", |d| {
            let issued = d.at - hours(3);
            d.remake_root_crl(|plan| plan.this_update = issued);
        }),
        under("qe-identity-too-old", Id::PolicyCollateralAge, "max_collateral_age = \"2h\"", |d| {
            let issued = (d.at - hours(3)).to_string();
            d.edit_qe(|identity| identity.issue_date = issued);
        }),
    ]
}

fn machines() -> Vec<Mutant> {
    let processor = |name: &str, id, policy: &'static str| {
        mutant(name, id, move |d| {
            *d = Draft::of_processor_ca();
            d.policy = policy.into();
        })
    };
    vec![
        under("hyper-threading-on", Id::PolicySmt, r#"allowed_smt = ["disabled"]"#, |_| {}),
        processor("hyper-threading-unstated", Id::PolicySmt, r#"allowed_smt = ["enabled", "disabled"]"#),
        under(
            "platform-dynamic",
            Id::PolicyDynamicPlatform,
            r#"allowed_dynamic_platform = ["disabled"]"#,
            |_| {},
        ),
        under("platform-keys-cached", Id::PolicyCachedKeys, r#"allowed_cached_keys = ["disabled"]"#, |_| {}),
        under(
            "machine-not-on-the-list",
            Id::PolicyMachine,
            r#"allowed_ppids = ["07070707070707070707070707070708"]"#,
            |_| {},
        ),
        under("machine-list-empty", Id::PolicyMachine, "allowed_ppids = []", |_| {}),
        under(
            "machine-instance-not-on-the-list",
            Id::PolicyMachine,
            r#"allowed_platform_instances = ["07070707070707070707070707070708"]"#,
            |_| {},
        ),
        under("enclave-size-not-allowed", Id::PolicyEnclaveSize, "allowed_enclave_sizes = [1024]", |d| {
            d.expected.mrenclave_by_size = [(1024, [0; 32]), (4096, MRENCLAVE)].into();
        }),
        under("enclave-size-not-proven", Id::PolicyEnclaveSize, "allowed_enclave_sizes = [4096]", |d| {
            d.expected.mrenclave = vec![MRENCLAVE];
        }),
        under(
            "enclave-size-only-in-the-arguments",
            Id::PolicyEnclaveSize,
            "allowed_enclave_sizes = [4096]",
            |_| {},
        )
        .in_form(Form::Evidence),
    ]
}

fn ages() -> Vec<Mutant> {
    let evidence = |name: &str, id, policy: &'static str, make: fn(&mut Draft)| {
        under(name, id, policy, make).in_form(Form::Evidence)
    };
    vec![
        evidence("nonce-required-and-none-named", Id::PolicyNonce, "require_nonce = true", |_| {}),
        evidence("evidence-age-without-a-nonce", Id::PolicyEvidenceAge, r#"max_evidence_age = "1h""#, |d| {
            d.expected.nonce_issued_at = Some(d.at);
        }),
        evidence(
            "evidence-age-of-a-nonce-not-recorded",
            Id::PolicyEvidenceAge,
            r#"max_evidence_age = "1h""#,
            |d| {
                d.expected.nonce = Some(NONCE.to_vec());
            },
        ),
        evidence("evidence-too-old", Id::PolicyEvidenceAge, r#"max_evidence_age = "1h""#, |d| {
            d.expected.nonce = Some(NONCE.to_vec());
            d.expected.nonce_issued_at = Some(d.at - hours(2));
        }),
        evidence("nonce-issued-in-the-future", Id::PolicyEvidenceAge, r#"max_evidence_age = "1h""#, |d| {
            d.expected.nonce = Some(NONCE.to_vec());
            d.expected.nonce_issued_at = Some(d.at + hours(2));
        }),
    ]
}
