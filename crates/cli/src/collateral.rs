//! Collateral for a quote, from wherever the caller says it comes. Every verb that takes collateral has these arguments, the
//! same configuration and the same order: `--collateral`, what evidence brought, `--pccs`, this installation's simulator for
//! a simulated quote, the file of Intel's quote provider library, Intel's PCS.

use std::path::PathBuf;

use attestation::Collateral;
use attestation::pcs::{PinnedCertificate, ServerTrust, Update};
use attestation::tcb::TcbInfo;
use client::Error;
use client::collate::Sources;
use client::qcnl;
use jiff::Timestamp;

use crate::exit::{Advice, Failure};
use crate::files;
use crate::output::warn;
use crate::places;

/// Which TCB recovery a service is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum TcbUpdate {
    /// The one that platforms are expected to have applied.
    Standard,
    /// The newest one, from the day it is published.
    Early,
}

impl From<TcbUpdate> for Update {
    fn from(update: TcbUpdate) -> Self {
        match update {
            TcbUpdate::Standard => Update::Standard,
            TcbUpdate::Early => Update::Early,
        }
    }
}

/// Which service is asked, and how.
#[derive(clap::Args)]
pub struct ServiceArgs {
    /// Fetch collateral from this PCCS: https://host:port, with a path prefix or without. Without it the one that the file of
    /// Intel's quote provider library names (QCNL_CONF_PATH, else /etc/sgx_default_qcnl.conf), else Intel's PCS.
    #[arg(long, value_name = "URL")]
    pub pccs: Option<String>,
    /// The PCCS's own TLS certificate (PEM or DER), self-signed ones and version 1 included: no other is taken.
    #[arg(long, value_name = "FILE", conflicts_with = "pccs_insecure")]
    pccs_cert: Option<PathBuf>,
    /// Take any TLS certificate of the PCCS. What it serves is signed by Intel, and judged either way.
    #[arg(long)]
    pccs_insecure: bool,
    /// The TCB recovery to ask for: `early` is the newest from the day it is published, before platforms are expected to
    /// have applied it. Without it what that file says, else `standard`.
    #[arg(long, value_enum, value_name = "WHICH")]
    tcb_update: Option<TcbUpdate>,
}

/// Where collateral comes from.
#[derive(clap::Args)]
pub struct CollateralArgs {
    /// Judge with this collateral: the JSON object, as `mse quote collateral` writes it.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["pccs", "pccs_cert", "pccs_insecure", "tcb_update"])]
    collateral: Option<PathBuf>,
    #[command(flatten)]
    service: ServiceArgs,
}

impl ServiceArgs {
    /// What was chosen, with the certificate read.
    pub fn choice(&self) -> anyhow::Result<Choice> {
        let trust = match &self.pccs_cert {
            Some(file) => {
                let pin = PinnedCertificate::from_bytes(&files::read(file)?)
                    .hint("name with --pccs-cert the certificate that the PCCS shows, in PEM or DER")?;
                Some(ServerTrust::Certificate(pin))
            }
            None => self.pccs_insecure.then_some(ServerTrust::Any),
        };
        Ok(Choice { file: None, pccs: self.pccs.clone(), trust, update: self.tcb_update.map(Update::from) })
    }
}

impl CollateralArgs {
    /// Whether anything was said of it.
    pub fn is_given(&self) -> bool {
        let ServiceArgs { pccs, pccs_cert, pccs_insecure, tcb_update } = &self.service;
        self.collateral.is_some()
            || pccs.is_some()
            || pccs_cert.is_some()
            || *pccs_insecure
            || tcb_update.is_some()
    }

    /// What was chosen, with the certificate read.
    pub fn choice(&self) -> anyhow::Result<Choice> {
        Ok(Choice { file: self.collateral.clone(), ..self.service.choice()? })
    }
}

/// What the caller chose.
#[derive(Clone, Debug, Default)]
pub struct Choice {
    /// A file with collateral.
    pub file: Option<PathBuf>,
    /// A PCCS.
    pub pccs: Option<String>,
    /// Which TLS certificate it may show.
    pub trust: Option<ServerTrust>,
    /// The TCB recovery to ask for.
    pub update: Option<Update>,
}

impl Choice {
    /// Whether the caller wants other collateral than evidence brought: its own file, or what a service serves.
    pub fn overrules_evidence(&self) -> bool {
        self.file.is_some() || self.pccs.is_some() || self.update.is_some()
    }

    /// The same, with this service where neither a file nor a service was named.
    #[must_use]
    pub fn or_service(mut self, pccs: Option<&str>) -> Self {
        if self.file.is_none() && self.pccs.is_none() {
            self.pccs = pccs.map(str::to_owned);
        }
        self
    }

    /// Gets collateral for a quote. `simulated` says that this installation's simulator may be asked.
    pub fn fetch(&self, quote: &[u8], simulated: bool) -> anyhow::Result<Collateral> {
        let (simulator, qcnl) = (places::simulator()?, qcnl::place());
        let sources = Sources {
            file: self.file.as_deref(),
            pccs: self.pccs.as_deref(),
            simulator: simulated.then_some(simulator.as_path()),
            qcnl: Some(&qcnl),
            trust: self.trust.as_ref(),
            update: self.update,
            intel: true,
            ..Sources::default()
        };
        let configured = !simulated && self.file.is_none() && self.pccs.is_none();
        if configured && qcnl.as_os_str() != qcnl::DEFAULT && !qcnl.exists() {
            return Err(Failure::usage(format!(
                "{} names {}, which is not there",
                qcnl::VARIABLE,
                qcnl.display()
            ))
            .hint("correct the variable, or name a PCCS with --pccs URL")
            .into());
        }
        let source = sources.choose().map_err(|error| match error {
            Error::Qcnl { .. } => Failure::failed(error)
                .hint("correct the file, or name a PCCS with --pccs URL or collateral with --collateral FILE")
                .into(),
            other => anyhow::Error::from(other),
        })?;
        let cache = places::cache()?.join("collateral");
        let fetched = source.collateral(quote, Timestamp::now(), Some(&cache));
        let collateral = match fetched {
            Err(error @ Error::UntrustedService { .. }) => Err(error).hint(
                "a PCCS with a certificate of its own: name that with --pccs-cert FILE, or take any with --pccs-insecure; \
                 what it serves is signed and judged either way",
            ),
            Err(error @ Error::NoPlatform(_)) => Err(error).hint(
                "nobody was asked; where the quoting machine found no PCK certificate, see its quote provider library and PCCS",
            ),
            other => other.hint(format!("the collateral was to come from {source}")),
        }?;
        if let (Some(newest), Ok(used)) = (source.newest_set(), TcbInfo::parse(&collateral.tcb_info))
            && used.tcb_evaluation_data_number < newest.number
        {
            warn(format_args!(
                "this collateral has the TCB evaluation data number {}; by the word of {source} there is {}, of the TCB recovery \
                 of {} (--tcb-update early asks for it)",
                used.tcb_evaluation_data_number, newest.number, newest.recovery_event
            ));
        }
        Ok(collateral)
    }
}
