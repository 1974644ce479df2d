//! `mse cloud deploy`: in one command from a project to an app that runs on a backend which is not trusted.
//!
//! Two stages, and a verification between them. What the backend gets in the first is worth nothing without the code
//! key; what the second sends goes to the enclave that was just verified, and to nobody else. Whatever fails, and
//! Ctrl-C, undoes what was made: see [`attempt`].

mod attempt;
mod stage_one;
mod stage_two;
pub mod verification;

use std::io::{BufRead, IsTerminal};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use client::backend::{App, Context, Session, Verification};
use jiff::Timestamp;
use serde::Serialize;

use crate::cloud::project::{self, ProjectArgs};
use crate::cloud::{session, stop};
use crate::collateral::CollateralArgs;
use crate::exit::{Exit, Failure};
use crate::home::package::BuilderChoice;
use crate::image::BuildArgs;
use crate::judging::Trust;
use crate::output::{self, CARE, Format, Styled, out, printable, say, warn};

/// Deploy a project: build and upload it, verify the enclave that the operator made of it, and only then send it its
/// keys.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    project: ProjectArgs,
    /// Replace an app of the same project and name without asking.
    #[arg(short = 'y', long = "yes", visible_alias = "y")]
    yes: bool,
    /// Send code key and secrets to whoever answers, without verifying anything.
    #[arg(long)]
    no_verify: bool,
    /// Let users' TLS end at the operator's router, which then sees every request and every answer.
    #[arg(long)]
    untrusted_ssl: bool,
    /// Build in this directory, and keep the package there.
    #[arg(long, value_name = "DIR")]
    workspace: Option<PathBuf>,
    /// Seconds to wait for room, for the node and for the application.
    #[arg(long, value_name = "SECONDS", default_value_t = 300, value_parser = stop::patience())]
    timeout: u64,
    /// The policy: `strict`, or a TOML file.
    #[arg(long, value_name = "strict|FILE", default_value = "strict")]
    policy: String,
    #[command(flatten)]
    trust: Trust,
    #[command(flatten)]
    collateral: CollateralArgs,
    /// Fetch collateral from the service that the backend names. Without this only that of simulated enclaves is.
    #[arg(long, conflicts_with_all = ["pccs", "collateral"])]
    pccs_of_backend: bool,
    /// The IP address of the backend's router, instead of what the app's name resolves to.
    #[arg(long, value_name = "IP")]
    resolve: Option<std::net::IpAddr>,
    /// What makes the image; what the backend's runtime needs without it.
    #[arg(long, value_enum, default_value_t)]
    builder: BuilderChoice,
    #[command(flatten)]
    build: BuildArgs,
    /// How the report is written.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// Until when something may take.
#[derive(Clone, Copy)]
struct Deadline {
    at: Instant,
    seconds: u64,
}

impl Deadline {
    fn after(seconds: u64) -> Deadline {
        Deadline { at: Instant::now() + Duration::from_secs(seconds), seconds }
    }

    fn is_over(self) -> bool {
        Instant::now() >= self.at
    }
}

/// Both stages, and what is between them.
pub fn run(args: &Args) -> anyhow::Result<Exit> {
    let now = Timestamp::now();
    let project = args.project.open()?;
    let tls = project.tls_mode(args.untrusted_ssl)?;
    if let Some(at) = project.cloud.expires_at.filter(|at| *at <= now) {
        return Err(Failure::usage(format!("cloud.expiration_date is in the past: {at}")).into());
    }
    let certificate = project.own_certificate(now)?;
    let secrets = stage_two::Secrets {
        plain: project::read_secrets(project.file(&project.cloud.secrets).as_deref())?,
        sealed: project::read_secrets(project.file(&project.cloud.sealed_secrets).as_deref())?,
        certificate,
    };
    let (login, session) = session::open()?;
    check_platform(args, login.operator.is_simulated())?;
    // What is to be judged later is read now: a wrong word on the command line ends no app and begins none.
    let rules = verification::rules(args, &login)?;

    let builder = stage_one::builder(args.builder, session.operator(), &project)?;
    let package = stage_one::build(args, &project, builder, tls)?;
    let place = stage_one::place(&session, &project, &package)?;
    agree_to_replace(args, &place)?;
    stage_one::upload(&session, &place, &package)?;
    stop_earlier(args, &session, &place)?;
    let attempt = attempt::Attempt::begin(&session, &place, &package)?;
    let app = stage_one::create(&session, &place, &package, &secrets, tls, project.cloud.expires_at)?;
    let mut context = stage_one::context(&login, &session, &place, &package, &app)?;
    let contexts = session::contexts()?;
    contexts.save(&context)?;
    if let Some(own) = &secrets.certificate {
        own.check(now, app.expires_at)?;
    }
    stage_one::wait_for_node(&session, &app, Deadline::after(args.timeout))?;

    let found = verification::between_the_stages(args, rules, &context, &package, tls)?;
    context.verified = match args.no_verify {
        true => Verification::Skipped { at: Timestamp::now() },
        false => Verification::Verified {
            at: Timestamp::now(),
            simulated: found.record.is_simulated(),
            skipped: None,
        },
    };
    contexts.save(&context)?;

    stage_two::configure(&found, &package, &secrets, Deadline::after(args.timeout))?;
    context.configured_at = Some(Timestamp::now());
    contexts.save(&context)?;
    // From here on it is the owner's to keep: its enclave has what it needs.
    attempt.succeeded();
    stage_two::wait_for_application(&session, &found, &context, &project, Deadline::after(args.timeout))?;
    report(args, &context, &app)?;
    Ok(Exit::Done)
}

/// Refuses early what verification would refuse late; and says what it means to go without.
fn check_platform(args: &Args, is_simulated: bool) -> anyhow::Result<()> {
    if args.no_verify {
        warn(
            "--no-verify: the code key and the secrets go to whoever answers. The operator, or anybody between, can read the code, the secrets and the data.",
        );
        return Ok(());
    }
    if is_simulated && !args.trust.allow_simulated && args.trust.simulated_root.is_none() {
        return Err(Failure::refused(
            "this backend's enclaves are simulated, and prove nothing about its machines",
        )
        .hint("--allow-simulated accepts them, to try things out")
        .into());
    }
    Ok(())
}

/// Whether an app of the same name may be ended: asked, or told with `-y`.
fn agree_to_replace(args: &Args, place: &stage_one::Place) -> anyhow::Result<()> {
    let Some(earlier) = &place.earlier else { return Ok(()) };
    let what = described(earlier, place);
    if args.yes || confirm(&format!("Replace the app {what}?"))? {
        return Ok(());
    }
    Err(Failure::failed(format!("there is the app {what} already"))
        .hint("-y replaces it; another name in mse.toml makes another app")
        .into())
}

/// Ends it, once everything is there that takes its place.
fn stop_earlier(args: &Args, session: &Session, place: &stage_one::Place) -> anyhow::Result<()> {
    let Some(earlier) = &place.earlier else { return Ok(()) };
    say!("Stopping the app {}", described(earlier, place));
    stop::stop(session, earlier.id, Duration::from_secs(args.timeout))?;
    stop::forget(earlier.id)
}

fn described(app: &App, place: &stage_one::Place) -> String {
    format!("{} of project {} ({}, {})", place.name, place.project.name, app.id, app.state)
}

/// Asks on a terminal; without one the answer is no.
fn confirm(question: &str) -> anyhow::Result<bool> {
    if !std::io::stdin().is_terminal() {
        return Ok(false);
    }
    output::ask(format_args!("{} [y/N] ", printable(question, "")))?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    Ok(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
}

/// What the owner needs, and what users need.
#[derive(Serialize)]
struct Report<'a> {
    id: uuid::Uuid,
    name: &'a str,
    project: &'a str,
    url: &'a str,
    expires_at: Timestamp,
    fingerprint: String,
    package_sha256: String,
    mrsigner: String,
    signer_confirmed: bool,
    tls: String,
    verified: &'a Verification,
}

fn report(args: &Args, context: &Context, app: &App) -> anyhow::Result<()> {
    let url = format!("{}/", context.origin());
    let fingerprint = hex::encode(context.fingerprint);
    if args.format == Format::Json {
        return output::json(&Report {
            id: context.id,
            name: &context.name,
            project: &context.project,
            url: &url,
            expires_at: context.expires_at,
            fingerprint: hex::encode(context.fingerprint),
            package_sha256: hex::encode(context.package_sha256),
            mrsigner: hex::encode(context.mrsigner),
            signer_confirmed: context.signer_confirmed,
            tls: context.tls.to_string(),
            verified: &context.verified,
        });
    }
    out!("URL: {}", printable(&url, ""))?;
    out!("App: {}", context.id)?;
    out!("Expires: {}", app.expires_at)?;
    out!("Fingerprint: {fingerprint}")?;
    session::describe_signer(context.mrsigner, context.signer_confirmed)?;
    match &context.verified {
        Verification::Skipped { .. } => out!("Verified: {}", Styled(CARE, "NO (--no-verify)"))?,
        verified => out!("Verified: {}", crate::cloud::status::words(verified))?,
    }
    let domain = printable(&context.domain, "");
    match context.tls {
        client::backend::TlsMode::ZeroTrust => {
            let simulated = if context.simulated_root.is_some() { " --allow-simulated" } else { "" };
            out!(
                "Users verify before they call: mse cloud verify {domain}:{} --fingerprint {fingerprint}{simulated}",
                context.router_port
            )?;
            out!(
                "A browser needs a door that verifies: mse connect --fingerprint {fingerprint} {}",
                context.origin()
            )?;
        }
        client::backend::TlsMode::OwnerCertificate => {
            out!(
                "TLS ends in the enclave, under your certificate: users trust you, and cannot verify the enclave"
            )?;
        }
        _ => out!(
            "TLS ends at the operator's router: {} every request and every answer, and users cannot verify the enclave",
            Styled(CARE, "the operator sees")
        )?,
    }
    Ok(())
}
