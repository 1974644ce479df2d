//! `peak-memory`: the most memory that `mse quote verify` takes, as the kernel counts it.
//!
//! A new process starts with the mark of the one that it was made from, so a small process of its own starts what is
//! measured: this program again, with nothing in memory.

use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, bail, ensure};
use benches::samples::{self, Sample};
use clap::{Parser, Subcommand};
use nix::sys::resource::{UsageWho, getrusage};

/// Report the peak memory of `mse quote verify`.
#[derive(Parser)]
#[command(args_conflicts_with_subcommands = true)]
struct Args {
    #[command(subcommand)]
    verb: Option<Verb>,
    /// The `mse` to run.
    #[arg(long, value_name = "FILE")]
    mse: Option<PathBuf>,
    /// The directory of the real quote.
    #[arg(long, value_name = "DIR", default_value_os_t = samples::usual_directory())]
    quotes: PathBuf,
    /// Exit with 1 above so many MB (of 1,000,000 bytes).
    #[arg(long, value_name = "MB")]
    limit: Option<f64>,
}

#[derive(Subcommand)]
enum Verb {
    /// Run a command and print its exit code and the kB (of 1024 bytes) that it held at most.
    #[command(hide = true)]
    Measure {
        #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<String>,
    },
}

fn main() -> anyhow::Result<ExitCode> {
    let args = Args::parse();
    if let Some(Verb::Measure { command }) = &args.verb {
        return measure(command);
    }
    let mse = args.mse.context("name the mse to run with --mse FILE")?;
    let directory = tempfile::tempdir()?;
    let mut within = true;
    for sample in samples::real(&args.quotes)?.into_iter().chain([samples::of_the_corpus()?]) {
        let peak = peak(&sample, &mse, directory.path())?;
        println!("{}: {peak:.1} MB at most", sample.name);
        within &= args.limit.is_none_or(|limit| peak < limit);
    }
    if !within {
        eprintln!("error: more memory than the limit allows");
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}

/// In MB; an error where the quote is not accepted.
fn peak(sample: &Sample, mse: &Path, directory: &Path) -> anyhow::Result<f64> {
    let file = |name: &str, bytes: &[u8]| -> anyhow::Result<PathBuf> {
        let path = directory.join(name);
        std::fs::write(&path, bytes)?;
        Ok(path)
    };
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["measure", "--"]).arg(mse).args(["quote", "verify"]);
    command.arg("--quote").arg(file("quote", &sample.quote)?);
    command.arg("--collateral").arg(file("collateral.json", &sample.collateral)?);
    command.args(["--at", &sample.at.to_string()]);
    if let Some(root) = &sample.root_pem {
        command.arg("--root-ca").arg(file("root.pem", root.as_bytes())?);
    }
    if !sample.policy.is_empty() {
        command.arg("--policy").arg(file("policy.toml", sample.policy.as_bytes())?);
    }
    let output = command.stderr(Stdio::inherit()).output()?;
    let text = String::from_utf8(output.stdout)?;
    let Some(("0", kilobytes)) = text.trim().split_once(' ') else {
        bail!("{}: expected mse to accept it, found {:?}", sample.name, text.trim());
    };
    Ok(kilobytes.parse::<f64>()? * 1024.0 / 1e6)
}

fn measure(command: &[String]) -> anyhow::Result<ExitCode> {
    let [program, arguments @ ..] = command else { bail!("no command") };
    let status = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .status()
        .with_context(|| format!("cannot run {program}"))?;
    ensure!(status.signal().is_none(), "{program}: ended by {status}");
    let code = status.code().unwrap_or(-1);
    println!("{code} {}", getrusage(UsageWho::RUSAGE_CHILDREN)?.max_rss());
    Ok(ExitCode::SUCCESS)
}
