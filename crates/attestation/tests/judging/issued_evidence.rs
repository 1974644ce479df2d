//! What the make-believe Intel issues, judged by the code that judges real evidence: accepted where it should be, and only
//! under the anchor that it was made for.
use attestation::issuer::{
    Authority, AuthorityPlan, CollateralPlan, INTEL, Machine, MachinePlan, PckCa, SIMULATED, TcbInfo,
};
use attestation::judgement::{Judgement, Platform};
use attestation::ratls::{
    AppClaims, CertificateRequest, Claims, RatlsCertificate, TlsMode, issue, report_data, spki_sha256,
};
use attestation::trust::{ExplicitRoot, SimulatedRoot};
use attestation::{Arguments, Evidence};
use attestation::{Expected, Policy, Subject, TrustAnchors, admit, judge};
use jiff::{SignedDuration, Timestamp};
use rcgen::{KeyPair, PublicKeyData};

const APP_ID: &str = "01010101-0101-0101-0101-010101010101";

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn now() -> Timestamp {
    at("2026-03-01T12:00:00Z")
}

struct World {
    authority: Authority,
    machine: Machine,
}

impl World {
    fn new(prefix: &str, ca: PckCa) -> Self {
        let plan =
            AuthorityPlan::new(prefix, at("2026-01-01T00:00:00Z"), at("2046-01-01T00:00:00Z")).unwrap();
        let authority = Authority::generate(&plan).unwrap();
        let machine =
            authority.machine(MachinePlan::new(&authority, ca, *b"MSESIM", [7; 16]).unwrap()).unwrap();
        World { authority, machine }
    }

    fn collateral(&self) -> attestation::Collateral {
        self.authority.collateral(&self.machine.plan, now(), SignedDuration::from_hours(24)).unwrap()
    }

    fn quote(&self, report_data: [u8; 64]) -> Vec<u8> {
        let mut report = self.machine.report();
        report.mr_enclave = [3; 32];
        report.report_data = report_data;
        self.machine.quote(&report).unwrap()
    }

    fn judge(&self, subject: &Subject, anchors: &TrustAnchors, at: Timestamp) -> Judgement {
        judge(subject, &self.collateral(), anchors, &Policy::strict(), &Expected::default(), at)
    }

    fn simulated_anchors(&self) -> TrustAnchors {
        let root = SimulatedRoot::from_pem(self.authority.root_pem().as_bytes()).unwrap();
        TrustAnchors::intel().with_simulated(root)
    }

    fn explicit_anchors(&self) -> TrustAnchors {
        let root = ExplicitRoot::from_pem(self.authority.root_pem().as_bytes()).unwrap();
        TrustAnchors::intel().with_explicit(root)
    }
}

/// A node's key, claims over a nonce, and certificate without one.
fn evidence(world: &World) -> Evidence {
    let key = KeyPair::generate().unwrap();
    let mut claims = Claims {
        pubkey_hash: spki_sha256(&key.subject_public_key_info()),
        nonce: None,
        app: Some(AppClaims::new([1; 16], vec![2; 1216], TlsMode::RaTls)),
    };
    let certified = claims.encode();
    let certificate = issue(&CertificateRequest {
        subject: "CN=myapp.fr",
        hosts: &["myapp.fr".into()],
        not_before: now(),
        not_after: now() + SignedDuration::from_hours(24 * 365),
        key: &key,
        quote: &world.quote(report_data(&certified)),
        claims: &certified,
    })
    .unwrap();
    claims.nonce = Some(vec![9; 32]);
    let claims = claims.encode();
    Evidence {
        certificate,
        quote: world.quote(report_data(&claims)),
        claims,
        nonce: Some(vec![9; 32]),
        collateral: world.collateral(),
        arguments: Arguments {
            host: "myapp.fr".into(),
            port: 7777,
            size_mb: 4096,
            days: 365,
            subject: "CN=myapp.fr".into(),
            app_id: APP_ID.into(),
            platform: "simulated".into(),
            runtime: "process".into(),
        },
    }
}

fn accepted(judgement: &Judgement) {
    let failures: Vec<_> =
        judgement.failures().map(|check| format!("{}: {}", check.id, check.found)).collect();
    assert!(judgement.is_accepted(), "{failures:?}");
}

fn failed_ids(judgement: &Judgement) -> Vec<String> {
    judgement.failures().map(|check| check.id.to_string()).collect()
}

#[test]
fn quotes_of_both_cas_are_accepted_under_the_strict_policy() {
    for ca in [PckCa::Platform, PckCa::Processor] {
        let world = World::new(SIMULATED, ca);
        let subject = Subject::Quote(world.quote([0; 64]));
        let judgement = world.judge(&subject, &world.simulated_anchors(), now());
        accepted(&judgement);
        assert_eq!(judgement.platform(), Some(Platform::Simulated));
        assert_eq!(judgement.valid_until(), Some(now() + SignedDuration::from_hours(24)));
    }
}

#[test]
fn an_explicit_root_is_accepted_too_and_the_marker_still_says_simulated() {
    for (prefix, platform) in [(INTEL, Platform::Sgx), (SIMULATED, Platform::Simulated)] {
        let world = World::new(prefix, PckCa::Platform);
        let subject = Subject::Quote(world.quote([0; 64]));
        let judgement = world.judge(&subject, &world.explicit_anchors(), now());
        accepted(&judgement);
        assert_eq!(judgement.platform(), Some(platform));
    }
}

#[test]
fn without_its_anchor_nothing_issued_here_passes() {
    let world = World::new(SIMULATED, PckCa::Platform);
    let subject = Subject::Quote(world.quote([0; 64]));
    let judgement = world.judge(&subject, &TrustAnchors::intel(), now());
    assert!(!judgement.is_accepted());
    assert!(failed_ids(&judgement).contains(&"pck.chain.root".to_owned()), "{:?}", failed_ids(&judgement));
    let other = World::new(SIMULATED, PckCa::Platform);
    assert!(!world.judge(&subject, &other.simulated_anchors(), now()).is_accepted());
    // Intel's names under a simulator's anchor, and the other way round.
    let disguised = World::new(INTEL, PckCa::Platform);
    let subject = Subject::Quote(disguised.quote([0; 64]));
    assert!(!disguised.judge(&subject, &disguised.simulated_anchors(), now()).is_accepted());
}

#[test]
fn ratls_certificates_and_evidence_are_accepted() {
    let world = World::new(SIMULATED, PckCa::Platform);
    let evidence = evidence(&world);
    let anchors = world.simulated_anchors();
    accepted(&world.judge(&Subject::Certificate(evidence.certificate.clone()), &anchors, now()));

    let expected =
        Expected { mrenclave: vec![[3; 32]], nonce: evidence.nonce.clone(), ..Expected::default() };
    let key = RatlsCertificate::parse(&evidence.certificate).unwrap().spki_sha256;
    let verified = match admit(evidence, &anchors, &Policy::strict(), &expected, now()) {
        Ok(verified) => verified,
        Err(refused) => panic!("{:?}", failed_ids(&refused.judgement)),
    };
    assert_eq!(verified.spki_sha256(), key);
    assert_eq!(verified.app().unwrap().app_id, [1; 16]);
}

#[test]
fn collateral_counts_in_its_window_only() {
    let world = World::new(SIMULATED, PckCa::Platform);
    let subject = Subject::Quote(world.quote([0; 64]));
    for outside in [now() - SignedDuration::from_secs(1), now() + SignedDuration::from_hours(25)] {
        let failed = failed_ids(&world.judge(&subject, &world.simulated_anchors(), outside));
        let windows = [
            "crl.root_ca.window",
            "crl.pck.window",
            "collateral.tcb_info.window",
            "collateral.qe_identity.window",
        ];
        assert_eq!(failed, windows, "at {outside}");
    }
}

/// The issuer's reason for being: one thing broken, one check failed.
#[test]
fn one_broken_thing_fails_one_check() {
    let world = World::new(SIMULATED, PckCa::Platform);
    let quote = Subject::Quote(world.quote([0; 64]));
    let correct = CollateralPlan::new(&world.machine.plan, now(), now() + SignedDuration::from_hours(24));
    let verdict = |plan: &CollateralPlan| {
        let collateral = world.authority.issue_collateral(plan).unwrap();
        let anchors = world.simulated_anchors();
        failed_ids(&judge(&quote, &collateral, &anchors, &Policy::strict(), &Expected::default(), now()))
    };
    assert_eq!(verdict(&correct), [""; 0]);

    let mut revoked = correct.clone();
    revoked.pck_crl.revoked.push(world.machine.pck.serial());
    assert_eq!(verdict(&revoked), ["crl.revocation.pck"]);

    let mut revoked_ca = correct.clone();
    revoked_ca.root_crl.revoked.push(world.authority.platform_ca.serial());
    assert_eq!(verdict(&revoked_ca), ["crl.revocation.pck_ca"]);

    let mut other_list = correct.clone();
    other_list.pck_ca = PckCa::Processor;
    assert!(verdict(&other_list).contains(&"crl.pck.issuer".to_owned()));

    let mut out_of_date = correct.clone();
    let mut tcb_info =
        TcbInfo::for_machine(&world.machine.plan, now(), now() + SignedDuration::from_hours(24));
    tcb_info.tcb_levels[0].tcb.sgxtcbcomponents[0].svn += 1;
    out_of_date.tcb_info = tcb_info.to_json();
    assert_eq!(verdict(&out_of_date), ["policy.tcb_status", "policy.advisories"]);

    let mut version = correct;
    version.tcb_info = version.tcb_info.replace("\"version\":3", "\"version\":2");
    assert_eq!(verdict(&version), ["collateral.tcb_info.version"]);
}

/// Each sign of a simulator is enough by itself: its mark, its names, its anchor.
#[test]
fn the_mark_alone_says_simulated_whatever_the_names() {
    for (prefix, marked, platform) in [
        (INTEL, true, Platform::Simulated),
        (SIMULATED, false, Platform::Simulated),
        (INTEL, false, Platform::Sgx),
    ] {
        let mut world = World::new(prefix, PckCa::Platform);
        let mut plan = world.machine.plan.clone();
        plan.pck.custom_extensions.truncate(1);
        if marked {
            plan.pck.custom_extensions.push(attestation::issuer::simulation_marker());
        }
        world.machine = world.authority.machine(plan).unwrap();
        let judgement = world.judge(&Subject::Quote(world.quote([0; 64])), &world.explicit_anchors(), now());
        accepted(&judgement);
        assert_eq!(judgement.platform(), Some(platform), "{prefix} {marked}");
    }
}

#[test]
fn what_was_accepted_ends_with_the_first_certificate_that_ends() {
    let mut world = World::new(SIMULATED, PckCa::Platform);
    let mut plan = world.machine.plan.clone();
    let until = now() + SignedDuration::from_hours(2);
    attestation::issuer::set_window(&mut plan.pck, at("2026-01-02T00:00:00Z"), until).unwrap();
    world.machine = world.authority.machine(plan).unwrap();
    let judgement = world.judge(&Subject::Quote(world.quote([0; 64])), &world.simulated_anchors(), now());
    accepted(&judgement);
    assert_eq!(judgement.valid_until(), Some(until));
}
