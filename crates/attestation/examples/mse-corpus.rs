//! `mse-corpus`: the corpus of correct and broken evidence as files, and how any verifier does on them.
//!
//! ```console
//! mse-corpus list                       every case and the checks that must fail for it
//! mse-corpus write DIR                  one folder for each case, see tests/corpus/files.rs
//! mse-corpus run DIR -- COMMAND ARG...  runs COMMAND on each case of DIR and tells where it differs
//! ```
//!
//! In the arguments, `{quote}`, `{collateral}`, `{root}`, `{at}` and `{unix}` stand for the files of the case, the time to
//! judge at, and the same in seconds since 1970. The command accepts by ending with 0 and refuses by ending otherwise. Only
//! bare quotes without policy and expectation are run: what every verifier can be asked.

#![allow(clippy::unwrap_used)]

#[allow(dead_code)]
#[path = "../tests/corpus/mod.rs"]
mod corpus;

use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use corpus::{Anchor, Case, Form};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["list"] => list(),
        ["write", dir] => write(Path::new(dir)),
        ["run", dir, "--", program, rest @ ..] => run(Path::new(dir), program, rest),
        _ => {
            eprintln!("usage: mse-corpus list | write DIR | run DIR -- COMMAND ARG...");
            ExitCode::from(2)
        }
    }
}

/// Correct evidence first, then every mutant.
fn cases() -> impl Iterator<Item = Case> {
    corpus::sound().into_iter().chain(corpus::mutants().into_iter().map(|mutant| mutant.case()))
}

fn list() -> ExitCode {
    for case in cases() {
        let fails: Vec<&str> = case.fails.iter().map(|id| id.as_str()).collect();
        println!("{}\t{}", case.name, fails.join(" "));
    }
    ExitCode::SUCCESS
}

fn write(dir: &Path) -> ExitCode {
    let mut written = 0;
    for case in cases() {
        if let Err(error) = corpus::files::write(&case, dir) {
            eprintln!("error: cannot write {} below {}: {error}", case.name, dir.display());
            return ExitCode::FAILURE;
        }
        written += 1;
    }
    eprintln!("{written} cases in {}", dir.display());
    ExitCode::SUCCESS
}

fn run(dir: &Path, program: &str, arguments: &[&str]) -> ExitCode {
    let (mut right, mut wrongly_accepted, mut wrongly_refused) = (0, Vec::new(), Vec::new());
    for case in cases().filter(is_for_every_verifier) {
        // The written files are judged, so that the same corpus can be given to several verifiers.
        let accepted = match accepts(&dir.join(&case.name), &case, program, arguments) {
            Ok(accepted) => accepted,
            Err(error) => {
                eprintln!("error: cannot run {program} on {}: {error}", case.name);
                return ExitCode::FAILURE;
            }
        };
        match (accepted, case.fails.is_empty()) {
            (true, false) => wrongly_accepted.push(case.name),
            (false, true) => wrongly_refused.push(case.name),
            _ => right += 1,
        }
    }
    println!("as expected: {right}");
    println!("accepted, to be refused: {}", wrongly_accepted.len());
    wrongly_accepted.iter().for_each(|name| println!("  {name}"));
    println!("refused, to be accepted: {}", wrongly_refused.len());
    wrongly_refused.iter().for_each(|name| println!("  {name}"));
    if wrongly_accepted.is_empty() && wrongly_refused.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Whether the case asks for nothing that only this project's verifier offers.
fn is_for_every_verifier(case: &Case) -> bool {
    let expected = &case.expected;
    let expects_nothing = expected.mrenclave.is_empty()
        && expected.mrenclave_by_size.is_empty()
        && expected.mrsigner.is_none()
        && expected.isv_prod_id.is_none()
        && expected.min_isv_svn.is_none()
        && expected.report_data.is_none()
        && expected.nonce.is_none();
    case.form == Form::Quote && case.anchor == Anchor::Explicit && case.policy.is_empty() && expects_nothing
}

fn accepts(folder: &Path, case: &Case, program: &str, arguments: &[&str]) -> std::io::Result<bool> {
    let file = |name: &str| folder.join(name).display().to_string();
    let fill = |argument: &&str| {
        argument
            .replace("{quote}", &file("quote"))
            .replace("{collateral}", &file("collateral.json"))
            .replace("{root}", &file("root.pem"))
            .replace("{at}", &case.at.to_string())
            .replace("{unix}", &case.at.as_second().to_string())
    };
    let status = Command::new(program)
        .args(arguments.iter().map(fill))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()?;
    Ok(status.success())
}
