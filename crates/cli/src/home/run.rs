//! `mse home run`: give a waiting node its secrets, and wait until its application answers.

use std::path::PathBuf;
use std::time::Duration;

use client::channel::Channel;
use client::configure::{self, Configuration};
use client::health::{self, Probe};
use runtime::{NodeName, Runtime};
use zeroize::Zeroizing;

use crate::exit::{Exit, Failure};
use crate::files;
use crate::home::{nodes, seal};
use crate::output::{self, say};

/// Send the configuration to a node that waits for it, and wait until the application answers.
#[derive(clap::Args)]
pub struct Args {
    /// The file that the code provider sealed.
    #[arg(long, value_name = "FILE")]
    sealed_secrets: Option<PathBuf>,
    /// Secrets that the operator may see, a JSON object.
    #[arg(long, value_name = "FILE")]
    secrets: Option<PathBuf>,
    /// The code key in clear, for an operator who owns the code too.
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// The certificate (chain) of the application's owner, in owner-certificate mode.
    #[arg(long, value_name = "PEM", requires = "ssl_private_key")]
    ssl_certificate: Option<PathBuf>,
    /// The private key of that certificate.
    #[arg(long, value_name = "PEM", requires = "ssl_certificate")]
    ssl_private_key: Option<PathBuf>,
    /// Seconds to wait for the application.
    #[arg(long, value_name = "SECONDS", default_value_t = 120)]
    timeout: u64,
    /// The node's name.
    name: NodeName,
}

/// Configures over the attested channel of the record *spawned here*.
pub fn run(args: &Args) -> anyhow::Result<Exit> {
    let runtime = nodes::runtime()?;
    let summary = runtime.summary(&args.name)?;
    let mut record = nodes::record(&args.name)?;
    nodes::announce(&record);
    let text = |path: &Option<PathBuf>| path.as_deref().map(files::read_text).transpose();
    let configuration = Configuration {
        secrets: args.secrets.as_deref().map(files::read_secret).transpose()?,
        sealed_secrets: args.sealed_secrets.as_deref().map(files::read).transpose()?,
        code_key: args.key.as_deref().map(seal::code_key).transpose()?,
        private_key: text(&args.ssl_private_key)?.map(Zeroizing::new),
        certificate: text(&args.ssl_certificate)?,
    };
    let target = nodes::target(&summary)?;
    configure::configure(&record, &target, &configuration)?;
    say!("The node accepted its configuration.");
    if let Some(certificate) = &configuration.certificate {
        // From now on the application shows the owner's certificate.
        record = record.serving(certificate)?;
        nodes::records()?.save(&record)?;
    }

    let bar = output::progress();
    bar.set_message("waiting for the application");
    let channel = Channel::attested(&record, &target);
    let mut ended = false;
    let probe = health::wait(&channel, &summary.healthcheck, Duration::from_secs(args.timeout), |probe| {
        ended = !runtime.status(&args.name).is_ok_and(|process| process.is_alive());
        ended || matches!(probe, Probe::Healthy { .. })
    });
    bar.finish_and_clear();
    match probe {
        Ok(Probe::Healthy { .. }) => {
            say!("Running: {}", target.origin());
            Ok(Exit::Done)
        }
        Ok(_) if ended => Err(Failure::failed("the node ended while its application started")
            .hint(format!("see `mse home logs {}`", args.name))
            .into()),
        // Any other last look ends the waiting with an error.
        Ok(_) => Err(Failure::failed("the application does not answer its health check")
            .hint(format!("see `mse home logs {}`", args.name))
            .into()),
        Err(error) => Err(Failure::failed(error).hint(format!("see `mse home logs {}`", args.name)).into()),
    }
}
