//! Between the stages: is it genuine, is it of this operator, and does it run exactly this package?
//!
//! The node is asked itself, through the router, over a nonce of our own. Everything it is compared with was computed
//! here or recorded at `login`.

use std::time::Duration;

use attestation::Expected;
use attestation::judgement::{Judgement, Verified};
use attestation::trust::SimulatedRoot;
use attestation::{Evidence, Policy, TrustAnchors};
use client::backend::{Context, Login, TlsMode};
use client::live::{self as asking, ChannelKind};
use client::records::{Origin, Record};
use client::target::Target;
use package::Package;
use uuid::Uuid;

use crate::cloud::deploy::stage_one::Sealed;
use crate::cloud::deploy::{Args, Deadline};
use crate::collateral::{Choice, CollateralArgs};
use crate::exit::{Advice, Failure};
use crate::home::nodes;
use crate::judging::{self, Rules, Trust};
use crate::live;
use crate::output::{Format, say};

/// An enclave, and the way to it.
pub struct Found {
    /// What was verified; its origin says if nothing was.
    pub record: Record,
    /// Where it answers its owner.
    pub target: Target,
}

/// By what a deployment will be judged: whom to trust, and the policy. `None` where its owner chose to do without.
pub fn rules(args: &Args, login: &Login) -> anyhow::Result<Option<(TrustAnchors, Policy)>> {
    if args.no_verify {
        return Ok(None);
    }
    let anchors = anchors(&args.trust, login.operator.simulated_root.as_deref())?;
    Ok(Some((anchors, Rules { policy: args.policy.clone(), at: None }.policy()?)))
}

/// Asks and judges; an error is a refusal, and nothing of the second stage may follow. Without rules nothing is judged.
pub fn between_the_stages(
    args: &Args,
    rules: Option<(TrustAnchors, Policy)>,
    context: &Context,
    package: &Sealed,
    tls: TlsMode,
) -> anyhow::Result<Found> {
    let mut target = Target::new(&context.config_domain, context.router_port)?;
    if let Some(address) = args.resolve {
        target = target.resolve_to(address);
    }
    let deadline = Deadline::after(args.timeout);
    let record = match rules {
        None => {
            let nonce = asking::fresh_nonce()?;
            let live = patiently(deadline, || {
                asking::request(&target, &nonce, Duration::from_secs(60)).map_err(anyhow::Error::from)
            })?;
            Record::unverified(&live)?
        }
        Some(rules) => verify(args, rules, context, package, tls, &target, deadline)?,
    };
    let record = record.named(&context.id.to_string());
    nodes::records()?.save(&record)?;
    Ok(Found { record, target })
}

fn verify(
    args: &Args,
    (anchors, policy): (TrustAnchors, Policy),
    context: &Context,
    package: &Sealed,
    tls: TlsMode,
    target: &Target,
    deadline: Deadline,
) -> anyhow::Result<Record> {
    let fingerprint = package.package.fingerprint(context.size_mb)?;
    let terms = live::Terms {
        anchors,
        policy,
        expected: Expected {
            mrenclave: vec![*fingerprint.as_bytes()],
            mrsigner: Some(context.mrsigner),
            ..Expected::default()
        },
        collateral: collateral(&args.collateral, args.pccs_of_backend, context.pccs.as_deref())?,
        pccs_for_simulated: context.pccs.clone().filter(|_| args.trust.allow_simulated),
    };
    let records = nodes::records()?;
    let outcome = patiently(deadline, || live::verify(target, &terms, &records));
    let outcome = outcome.map_err(|error| match is_anothers_key(&error) {
        true => Failure::from_error(&error).hint(SOMEBODY_BETWEEN).into(),
        false => error,
    })?;
    let verified = match outcome {
        live::Outcome::Accepted(verified, ChannelKind::Attested) => verified,
        live::Outcome::Accepted(_, kind) => {
            return Err(Failure::refused(format!("the channel is {}", live::channel_word(kind))).into());
        }
        live::Outcome::Refused(judgement) => {
            judging::print(&judgement, Format::Human)?;
            return Err(explained(&judgement, &package.package, context.size_mb).into());
        }
    };
    same_app(&verified, context.id, tls)?;
    judging::note(verified.judgement());
    say!("Verified: a genuine enclave of this operator runs exactly this package.");
    let record = Record::of(&verified, Origin::Deployed)?;
    nodes::announce(&record);
    Ok(record)
}

/// The anchors that the owner accepts. With `--allow-simulated` that is the simulator of the backend, as it was when this
/// home logged in.
pub fn anchors(trust: &Trust, recorded_root: Option<&str>) -> anyhow::Result<TrustAnchors> {
    match recorded_root {
        Some(root) if trust.allow_simulated => {
            let root = SimulatedRoot::from_pem(root.as_bytes()).hint("log in again")?;
            Ok(TrustAnchors::intel().with_simulated(root))
        }
        _ => trust.anchors(),
    }
}

/// Where collateral comes from. The address that the backend gave is somebody else's word: nothing asks there but where the
/// caller says so, by `--pccs-of-backend` or, for simulated quotes, `--allow-simulated`.
pub fn collateral(args: &CollateralArgs, of_backend: bool, offered: Option<&str>) -> anyhow::Result<Choice> {
    let choice = args.choice()?;
    match (of_backend, offered) {
        (false, _) => Ok(choice),
        (true, Some(offered)) => Ok(choice.or_service(Some(offered))),
        (true, None) => Err(Failure::usage("the backend names no service for collateral")
            .hint("leave out --pccs-of-backend, or name a service with --pccs URL")
            .into()),
    }
}

/// What the fingerprint does not say: which instance of the package this is. Its TLS mode it does say; it is compared
/// again, because everything that follows rests on it.
fn same_app(verified: &Verified<Evidence>, id: Uuid, tls: TlsMode) -> anyhow::Result<()> {
    let Some(app) = verified.app() else {
        return Err(Failure::refused("the enclave makes no claims of a node").into());
    };
    let found = Uuid::from_bytes(app.app_id);
    if found != id {
        return Err(Failure::refused(format!(
            "the node is of another app: expected {id}, found {found}; the operator leads to the wrong node"
        ))
        .into());
    }
    let wanted = tls.measured();
    if app.tls_mode != wanted {
        return Err(Failure::refused(format!("expected TLS mode {wanted}, found {}", app.tls_mode)).into());
    }
    Ok(())
}

/// A refusal, and whose change may have led to it.
fn explained(judgement: &Judgement, package: &Package, size_mb: u64) -> Failure {
    let refusal = judging::refusal(judgement);
    let Some(check) = judgement.failures().find(|check| check.id.as_str() == "quote.mrenclave") else {
        return refusal;
    };
    let of_another_size = package.fingerprints().ok().and_then(|all| {
        all.into_iter().find(|(size, value)| *size != size_mb && check.found == value.to_string())
    });
    match of_another_size {
        Some((size, _)) => refusal.hint(format!(
            "the operator runs this package in an enclave of {size} MB, not in the {size_mb} MB of the plan"
        )),
        None => refusal.hint(
            "the operator runs something else than this package: another image, other code, or other settings",
        ),
    }
}

/// Again and again while nobody answers: the router may not know the app yet, or begin anew.
pub(super) fn patiently<T>(
    deadline: Deadline,
    mut ask: impl FnMut() -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    loop {
        let error = match ask() {
            Ok(answer) => return Ok(answer),
            Err(error) => error,
        };
        // A router that does not know the name says so in the handshake.
        let is_passing =
            |error: &client::Error| error.is_passing() || matches!(error, client::Error::Handshake { .. });
        let may_pass = error.chain().any(|cause| cause.downcast_ref().is_some_and(is_passing));
        if !may_pass || deadline.is_over() {
            return Err(error);
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// Whether the peer of the connection holds another key than the enclave of its evidence.
pub fn is_anothers_key(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| matches!(cause.downcast_ref(), Some(client::Error::NotThisPeer { .. })))
}

/// What that means where TLS should end in the enclave.
pub const SOMEBODY_BETWEEN: &str = "somebody stands between: TLS does not end in the enclave";
