//! `mse home test`: run the code provider's tests against the live application.

use std::path::PathBuf;

use client::forwarder::Forwarder;
use package::config::AppConfig;
use runtime::{NodeName, Runtime};

use crate::exit::{Advice, Exit};
use crate::files;
use crate::home::nodes;
use crate::output::say;
use crate::provider_tests;

/// Run the code provider's tests against the running application, through an attested local door.
#[derive(clap::Args)]
pub struct Args {
    /// The tests.
    #[arg(long, value_name = "DIR", default_value = "tests")]
    test: PathBuf,
    /// The configuration that came with the package.
    #[arg(long, value_name = "FILE", default_value = "mse.toml")]
    config: PathBuf,
    /// `secrets.json`, if the tests are to know it.
    #[arg(long, value_name = "FILE")]
    secrets: Option<PathBuf>,
    /// The secrets before sealing, if the tests are to know them.
    #[arg(long, value_name = "FILE")]
    sealed_secrets: Option<PathBuf>,
    /// The node's name.
    name: NodeName,
}

/// Opens the door, runs the tests, closes it.
pub fn run(args: &Args) -> anyhow::Result<Exit> {
    let config = AppConfig::from_toml(&files::read_text(&args.config)?)
        .hint("`spawn` wrote mse.toml and tests/ into its output directory")?;
    let summary = nodes::runtime()?.summary(&args.name)?;
    let record = nodes::record(&args.name)?;
    nodes::announce(&record);
    let target = nodes::target(&summary)?;
    let listen = (std::net::Ipv4Addr::LOCALHOST, 0).into();
    let door = Forwarder::start(&record, &target, listen)?;
    let url = format!("http://localhost:{}/", door.addr().port());
    say!("Testing {} through {url}", target.origin());
    provider_tests::Run {
        command: &config.tests_cmd,
        requirements: &config.tests_requirements,
        tests: &args.test,
        url: &url,
        secrets: args.secrets.as_deref(),
        sealed_secrets: args.sealed_secrets.as_deref(),
    }
    .run()
}
