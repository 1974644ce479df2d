//! `mse sgx measure`: the MRENCLAVE of a manifest and libpal, with the memory map on request.

use gramine::measure::{Measurement, measure};
use serde_json::{Value, json};

use super::{Inputs, warn_of_the_loader};
use crate::exit::Exit;
use crate::output::{self, Format, out};

/// Compute an enclave's MRENCLAVE.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    inputs: Inputs,
    /// Show the memory map too.
    #[arg(long, short)]
    verbose: bool,
    /// How the report is written.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// Measures, prints.
pub fn run(args: &Args) -> anyhow::Result<Exit> {
    let (manifest, libpal) = args.inputs.read()?;
    let measurement = measure(&manifest, &libpal)?;
    warn_of_the_loader(&manifest, &libpal);
    match args.format {
        Format::Json => output::json(&report(&measurement, args.verbose))?,
        Format::Human => print(&measurement, args.verbose)?,
    }
    Ok(Exit::Done)
}

fn report(measurement: &Measurement, verbose: bool) -> Value {
    let Measurement { mrenclave, settings, layout } = measurement;
    let pages = layout.page_counts();
    let mut report = json!({
        "mrenclave": hex::encode(mrenclave),
        "enclave_size": settings.enclave_size,
        "max_threads": settings.max_threads,
        "edmm_enable": settings.edmm_enable,
        "debug": settings.debug,
        "pages": { "added": pages.added, "measured": pages.measured },
    });
    if verbose {
        let areas = layout.memory_map().map(|area| {
            json!({
                "name": area.name,
                "start": format!("{:#x}", area.addresses.start),
                "end": format!("{:#x}", area.addresses.end),
                "type": area.page_type.to_string(),
                "perm": area.permissions.to_string(),
                "measured": area.measured,
            })
        });
        report["memory_map"] = areas.collect();
    }
    report
}

fn print(measurement: &Measurement, verbose: bool) -> anyhow::Result<()> {
    out!("{}", hex::encode(measurement.mrenclave))?;
    if !verbose {
        return Ok(());
    }
    out!("{:>16}  {:>16}  type  perm  name", "start", "end")?;
    for area in measurement.layout.memory_map() {
        let (start, end) = (area.addresses.start, area.addresses.end);
        let remark = if area.measured { "" } else { " (not measured)" };
        out!(
            "{start:>#16x}  {end:>#16x}  {:<4}  {:<4}  {}{remark}",
            area.page_type,
            area.permissions,
            area.name
        )?;
    }
    let pages = measurement.layout.page_counts();
    out!("pages: {} added, {} of them measured", pages.added, pages.measured)?;
    Ok(())
}
