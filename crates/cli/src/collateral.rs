//! Collateral for a quote, from wherever the caller says it comes.

use std::path::Path;

use attestation::Collateral;
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

/// Takes the first source there is and asks it.
pub fn fetch(sources: &Sources<'_>, quote: &[u8]) -> anyhow::Result<Collateral> {
    let source = sources.choose().map_err(|error| match error {
        Error::NoCollateralSource { .. } => Failure::usage(error)
            .hint(format!("name a PCCS with --pccs URL, or configure one in {QCNL}"))
            .into(),
        other => anyhow::Error::from(other),
    })?;
    let cache = places::cache()?.join("collateral");
    source
        .collateral(quote, Timestamp::now(), Some(&cache))
        .hint(format!("the collateral was to come from {source}"))
}
