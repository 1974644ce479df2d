//! `mse cloud test`: run the project's tests against the deployed app.

use std::path::PathBuf;

use client::backend::Context;
use client::forwarder::Forwarder;
use client::records::{Origin, Record};
use client::target::Target;

use crate::cloud::project::ProjectArgs;
use crate::cloud::{apps, session};
use crate::exit::{Exit, Failure};
use crate::home::nodes;
use crate::output::{self, say};
use crate::provider_tests;

/// Run the project's tests against the running app, through a local door that leads to its enclave.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    project: ProjectArgs,
    /// `secrets.json`, if the tests are to know it; what `[cloud]` names without it.
    #[arg(long, value_name = "FILE")]
    secrets: Option<PathBuf>,
    /// The secrets before sealing, if the tests are to know them; what `[cloud]` names without it.
    #[arg(long, value_name = "FILE")]
    sealed_secrets: Option<PathBuf>,
    /// The app's id, or its name; the project's own without it.
    id: Option<String>,
}

/// Opens the door, runs the tests, closes it.
pub fn run(args: &Args) -> anyhow::Result<Exit> {
    let project = args.project.open()?;
    let contexts = session::contexts()?;
    let name = args.id.clone().unwrap_or_else(|| project.app_name());
    let context = apps::context_of(&contexts, &name)?;
    let record = record(&context)?;
    let target = target(&context)?;
    let listen = (std::net::Ipv4Addr::LOCALHOST, 0).into();
    let door = Forwarder::start(&record, &target, listen)?;
    let url = format!("http://localhost:{}/", door.addr().port());
    say!("Testing {} through {url}", context.name);
    let (secrets, sealed_secrets) = project.secrets_for_tests();
    provider_tests::Run {
        command: &project.app.tests_cmd,
        requirements: &project.app.tests_requirements,
        tests: &project.parts.tests,
        url: &url,
        secrets: args.secrets.clone().or(secrets).as_deref(),
        sealed_secrets: args.sealed_secrets.clone().or(sealed_secrets).as_deref(),
    }
    .run()
}

/// The record of a deployment, which is announced.
fn record(context: &Context) -> anyhow::Result<Record> {
    let record = nodes::records()?.by_deployment(context.id)?.ok_or_else(|| {
        Failure::failed(format!("{} was not verified from here", context.name))
            .hint("`mse cloud verify DOMAIN` verifies it")
    })?;
    nodes::announce(&record);
    if record.origin() == Origin::Unverified {
        output::warn("this app was deployed with --no-verify: whoever answers may be anybody");
    }
    Ok(record)
}

/// Where an app's enclave answers its owner.
pub fn target(context: &Context) -> anyhow::Result<Target> {
    Ok(Target::new(&context.config_domain, context.router_port)?)
}
