//! `mse cloud status`: one app, as the backend's operator sees it and as its owner knows it.

use client::backend::{App, Context, Verification};
use serde::Serialize;

use crate::cloud::{apps, session};
use crate::exit::Exit;
use crate::output::{self, CARE, Format, Styled, out, printable};

/// Show one app.
#[derive(clap::Args)]
pub struct Args {
    /// How the report is written.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// The app's id, or its name if it was deployed from here.
    id: String,
}

#[derive(Serialize)]
struct Report {
    app: App,
    /// What this home knows of it.
    deployed_here: bool,
    verification: Option<String>,
}

/// Asks the backend, and looks into the context.
pub fn run(args: &Args) -> anyhow::Result<Exit> {
    let contexts = session::contexts()?;
    let id = apps::id_of(&contexts, &args.id)?;
    let (_, session) = session::open()?;
    let app = session.app(id)?;
    let context = contexts.load(id)?;
    let verification = context.as_ref().map(|context| words(&context.verified));
    if args.format == Format::Json {
        output::json(&Report { app, deployed_here: context.is_some(), verification })?;
        return Ok(Exit::Done);
    }
    out!("Id: {}", app.id)?;
    out!("Name: {}", printable(&app.name, ""))?;
    out!("State: {} ({})", app.state, printable(&app.message, ""))?;
    out!("Plan: {} ({} MB, {} cores)", printable(&app.plan, ""), app.enclave_mb, app.cores)?;
    out!("TLS: {}", app.tls)?;
    out!("Domain: {}", printable(&app.domain, ""))?;
    out!("Created: {}", app.created_at)?;
    out!("Expires: {}", app.expires_at)?;
    match (context, verification) {
        (Some(context), Some(verification)) => describe(&context, &app, &verification)?,
        _ => out!("Deployed from here: no; nothing above was verified by this home")?,
    }
    Ok(Exit::Done)
}

fn describe(context: &Context, app: &App, verification: &str) -> anyhow::Result<()> {
    out!("Fingerprint (of your package): {}", hex::encode(context.fingerprint))?;
    if app.fingerprint.is_some_and(|said| said != context.fingerprint) {
        out!("{} the operator names another fingerprint", Styled(CARE, "Attention:"))?;
    }
    out!("Verified: {verification}")?;
    session::describe_signer(context.mrsigner, context.signer_confirmed)
}

/// How an app was verified, in words.
pub fn words(verified: &Verification) -> String {
    match verified {
        Verification::NotYet => "no: the deployment was not finished".to_owned(),
        Verification::Verified { at, simulated, skipped } => {
            let mut words = format!("yes, at {at}");
            if *simulated {
                words.push_str(": SIMULATED, which proves nothing about the machine");
            }
            if let Some(skipped) = skipped {
                words.push_str(&format!(
                    "; its code key and secrets were sent before that, with --no-verify at {skipped}"
                ));
            }
            words
        }
        Verification::Skipped { at } => format!("NO: --no-verify at {at}"),
    }
}
