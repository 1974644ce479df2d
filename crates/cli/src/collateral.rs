//! Collateral for a quote, from wherever the caller says it comes.

use std::path::Path;

use attestation::Collateral;
use attestation::pcs::Update;
use client::Error;
use client::collate::{QCNL, Sources};
use jiff::Timestamp;

use crate::exit::{Advice, Failure};
use crate::places;

/// For the operator: `--pccs`, else the simulator's for a simulated node, else the machine's configured PCCS.
pub fn for_quote(quote: &[u8], pccs: Option<&str>, simulated: bool) -> anyhow::Result<Collateral> {
    let simulator = places::simulator()?;
    let sources = Sources {
        pccs,
        simulator: simulated.then_some(simulator.as_path()),
        qcnl: Some(Path::new(QCNL)),
        ..Sources::default()
    };
    fetch(&sources, quote)
}

/// Which TCB recovery a service is asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum TcbUpdate {
    /// The one that platforms are expected to have applied.
    #[default]
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

/// Takes the first source there is and asks it.
pub fn fetch(sources: &Sources<'_>, quote: &[u8]) -> anyhow::Result<Collateral> {
    fetch_of(TcbUpdate::Standard, sources, quote)
}

/// As [`fetch`], of this TCB recovery.
pub fn fetch_of(update: TcbUpdate, sources: &Sources<'_>, quote: &[u8]) -> anyhow::Result<Collateral> {
    let source = sources.choose().map_err(|error| match error {
        Error::NoCollateralSource { .. } => Failure::usage(error)
            .hint(format!("name a PCCS with --pccs URL, or configure one in {QCNL}"))
            .into(),
        other => anyhow::Error::from(other),
    })?;
    let cache = places::cache()?.join("collateral");
    source
        .collateral_of(update.into(), quote, Timestamp::now(), Some(&cache))
        .hint(format!("the collateral was to come from {source}"))
}
