//! `mse sgx inspect`: what a SIGSTRUCT says, and whether its signature holds.

use std::path::PathBuf;

use gramine::{Error, SigStruct, attributes};
use serde_json::json;

use crate::exit::{Exit, Failure};
use crate::files;
use crate::output::{self, Format, out};

/// Show what a SIGSTRUCT (`FILE.sig`) says, and check its signature.
#[derive(clap::Args)]
pub struct Args {
    /// The SIGSTRUCT: 1808 bytes.
    #[arg(value_name = "FILE.sig")]
    file: PathBuf,
    /// How the report is written.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// Prints every field; a signature that does not hold is a refusal.
pub fn run(args: &Args) -> anyhow::Result<Exit> {
    let sigstruct = SigStruct::parse(&files::read(&args.file)?)?;
    let validity = sigstruct.verify();
    match args.format {
        Format::Json => print_json(&sigstruct, &validity)?,
        Format::Human => print(&sigstruct, &validity)?,
    }
    match validity {
        Ok(()) => Ok(Exit::Done),
        Err(error) => Err(Failure::refused(error)
            .hint("the file was altered, or its signer is broken: sign again")
            .into()),
    }
}

fn is_debug(sigstruct: &SigStruct) -> bool {
    sigstruct.attributes.flags & attributes::DEBUG != 0
}

fn print_json(sigstruct: &SigStruct, validity: &Result<(), Error>) -> anyhow::Result<()> {
    output::json(&json!({
        "mrenclave": hex::encode(sigstruct.mrenclave),
        "mrsigner": hex::encode(sigstruct.mrsigner()),
        "isv_prod_id": sigstruct.isv_prod_id,
        "isv_svn": sigstruct.isv_svn,
        "debug": is_debug(sigstruct),
        "attributes": {
            "flags": format!("{:#x}", sigstruct.attributes.flags),
            "xfrm": format!("{:#x}", sigstruct.attributes.xfrm),
            "flags_mask": format!("{:#x}", sigstruct.attribute_mask.flags),
            "xfrm_mask": format!("{:#x}", sigstruct.attribute_mask.xfrm),
        },
        "misc_select": format!("{:#x}", sigstruct.misc_select),
        "misc_mask": format!("{:#x}", sigstruct.misc_mask),
        "date": sigstruct.date.to_string(),
        "vendor": format!("{:#x}", sigstruct.vendor),
        "isv_family_id": hex::encode(sigstruct.isv_family_id),
        "isv_ext_prod_id": hex::encode(sigstruct.isv_ext_prod_id),
        "signature_valid": validity.is_ok(),
    }))
}

fn print(sigstruct: &SigStruct, validity: &Result<(), Error>) -> anyhow::Result<()> {
    let SigStruct { attributes, attribute_mask, .. } = sigstruct;
    let debug = if is_debug(sigstruct) { "yes: the host can look inside" } else { "no" };
    let signature = if validity.is_ok() { "valid" } else { "NOT VALID" };
    out!("mrenclave: {}", hex::encode(sigstruct.mrenclave))?;
    out!("mrsigner: {}", hex::encode(sigstruct.mrsigner()))?;
    out!("isv prod id: {}", sigstruct.isv_prod_id)?;
    out!("isv svn: {}", sigstruct.isv_svn)?;
    out!("debug: {debug}")?;
    out!("attributes: flags {:#x} (mask {:#x})", attributes.flags, attribute_mask.flags)?;
    out!("xfrm: {:#x} (mask {:#x})", attributes.xfrm, attribute_mask.xfrm)?;
    out!("misc select: {:#x} (mask {:#x})", sigstruct.misc_select, sigstruct.misc_mask)?;
    out!("date: {}", sigstruct.date)?;
    out!("vendor: {:#x}", sigstruct.vendor)?;
    out!("isv family id: {}", hex::encode(sigstruct.isv_family_id))?;
    out!("isv ext prod id: {}", hex::encode(sigstruct.isv_ext_prod_id))?;
    out!("signature: {signature}")?;
    Ok(())
}
