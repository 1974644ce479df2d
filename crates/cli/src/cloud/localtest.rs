//! `mse cloud localtest`: serve the application on this machine, without an enclave, and run its tests.

use crate::cloud::project::ProjectArgs;
use crate::exit::Exit;
use crate::home::localtest;
use crate::home::package::BuilderChoice;
use crate::image::BuildArgs;

/// Serve the application in development mode on localhost and run its tests against it.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    project: ProjectArgs,
    /// What makes the environment that the application runs in.
    #[arg(long, value_enum, default_value_t)]
    builder: BuilderChoice,
    #[command(flatten)]
    build: BuildArgs,
    /// Serve until Ctrl-C instead of running the tests.
    #[arg(long)]
    no_tests: bool,
    /// The port; any free one without it.
    #[arg(long)]
    port: Option<u16>,
    /// Seconds to wait for the application.
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    timeout: u64,
}

/// The same as at home, with what the `[cloud]` table names.
pub fn run(args: Args) -> anyhow::Result<Exit> {
    let project = args.project.open()?;
    let (secrets, sealed_secrets) = project.secrets_for_tests();
    localtest::run(&localtest::Args {
        project: crate::home::package::ProjectArgs {
            project: Some(project.folder),
            code: Some(project.parts.code),
            config: Some(project.config),
            test: Some(project.parts.tests),
        },
        dockerfile: None,
        builder: args.builder,
        build: args.build,
        secrets,
        sealed_secrets,
        no_tests: args.no_tests,
        port: args.port,
        timeout: args.timeout,
    })
}
