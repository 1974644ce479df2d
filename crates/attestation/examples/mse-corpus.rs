//! `mse-corpus`: the corpus of correct and broken evidence as files, and how any verifier does on them.
//!
//! ```console
//! mse-corpus list                                     every case and the checks that must fail for it
//! mse-corpus write DIR                                one folder for each case; DIR/README.md explains them
//! mse-corpus run [--timeout SECONDS] DIR -- COMMAND ARG...   runs COMMAND on each case of DIR and tells where it differs
//! ```
//!
//! In the arguments, `{quote}`, `{collateral}`, `{root}`, `{at}` and `{unix}` stand for the files of the case, the time to
//! judge at, and the same in seconds since 1970. The command accepts by ending with 0 and refuses by ending with anything
//! else; one that a signal ends, or that takes longer than the timeout (10 seconds), did neither. Only bare quotes without
//! policy and expectation are run: what every verifier can be asked. `run` itself ends with 0 where the command did as
//! expected, 1 where it did not, 2 where it cannot be told.

#![allow(clippy::unwrap_used)]

#[allow(dead_code)]
#[path = "../tests/corpus/mod.rs"]
mod corpus;

use std::io;
use std::path::Path;
use std::process::{Command, ExitCode, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use corpus::Case;
use serde::Deserialize;

const TIMEOUT: Duration = Duration::from_secs(10);

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match words.as_slice() {
        ["list"] => Ok(list()),
        ["write", dir] => write(Path::new(dir)),
        ["run", dir, "--", program, rest @ ..] => run(Path::new(dir), TIMEOUT, program, rest),
        ["run", "--timeout", seconds, dir, "--", program, rest @ ..] => match seconds.parse() {
            Ok(seconds @ 1..) => run(Path::new(dir), Duration::from_secs(seconds), program, rest),
            _ => Err(format!("--timeout: expected seconds, at least 1, found {seconds}")),
        },
        _ => Err("usage: mse-corpus list | write DIR | run [--timeout SECONDS] DIR -- COMMAND ARG...".into()),
    };
    done.unwrap_or_else(|message| {
        eprintln!("error: {message}");
        ExitCode::from(2)
    })
}

/// Correct evidence first, then every mutant.
fn cases() -> Vec<Case> {
    corpus::sound().into_iter().chain(corpus::mutants().into_iter().map(|mutant| mutant.case())).collect()
}

fn list() -> ExitCode {
    for case in cases() {
        let fails: Vec<&str> = case.fails.iter().map(|id| id.as_str()).collect();
        println!("{}\t{}", case.name, fails.join(" "));
    }
    ExitCode::SUCCESS
}

fn write(dir: &Path) -> Result<ExitCode, String> {
    let cases = cases();
    for case in &cases {
        corpus::files::write(case, dir)
            .map_err(|error| format!("cannot write {} below {}: {error}", case.name, dir.display()))?;
    }
    corpus::files::write_explanations(&cases, dir)
        .map_err(|error| format!("cannot write to {}: {error}", dir.display()))?;
    eprintln!("{} cases in {}", cases.len(), dir.display());
    Ok(ExitCode::SUCCESS)
}

/// What is read of `expectations.json`.
#[derive(Deserialize)]
struct Expectation {
    name: String,
    at: String,
    unix: i64,
    for_every_verifier: bool,
    verdict: String,
    fails: Vec<String>,
}

/// How the command ended on one case.
enum End {
    Accepted,
    Refused,
    /// By this signal.
    Crashed(ExitStatus),
    TimedOut,
}

/// The written files are judged, and by the expectations beside them, so that one corpus can be given to several
/// verifiers.
fn run(dir: &Path, timeout: Duration, program: &str, arguments: &[&str]) -> Result<ExitCode, String> {
    let list = dir.join("expectations.json");
    let text = std::fs::read(&list).map_err(|error| {
        format!("cannot read {}: {error}; write the corpus with `mse-corpus write`", list.display())
    })?;
    let all: Vec<Expectation> =
        serde_json::from_slice(&text).map_err(|error| format!("{}: {error}", list.display()))?;
    let asked: Vec<&Expectation> = all.iter().filter(|case| case.for_every_verifier).collect();
    let [mut accepted, mut refused, mut neither] = [const { Vec::new() }; 3];
    for case in &asked {
        let line = format!("{} {}", case.name, case.fails.join(" "));
        let end = end_of(&dir.join(&case.name), case, timeout, program, arguments)
            .map_err(|error| format!("cannot run {program} on {}: {error}", case.name))?;
        match (end, case.verdict.as_str()) {
            (End::Accepted, "accepted") | (End::Refused, "refused") => {}
            (End::Accepted, _) => accepted.push(line),
            (End::Refused, _) => refused.push(line),
            (End::Crashed(status), _) => neither.push(format!("{line}: {status}")),
            (End::TimedOut, _) => neither.push(format!("{line}: still running after {timeout:?}")),
        }
    }
    let wrong = accepted.len() + refused.len() + neither.len();
    println!("as expected: {} of {}", asked.len() - wrong, asked.len());
    for (title, cases) in [
        ("accepted, to be refused", accepted),
        ("refused, to be accepted", refused),
        ("crashed or timed out", neither),
    ] {
        println!("{title}: {}", cases.len());
        cases.iter().for_each(|line| println!("  {line}"));
    }
    println!("not asked, since they need more than a quote: {}", all.len() - asked.len());
    Ok(if wrong == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn end_of(
    folder: &Path,
    case: &Expectation,
    timeout: Duration,
    program: &str,
    arguments: &[&str],
) -> io::Result<End> {
    let file = |name: &str| folder.join(name).display().to_string();
    let fill = |argument: &&str| {
        argument
            .replace("{quote}", &file("quote"))
            .replace("{collateral}", &file("collateral.json"))
            .replace("{root}", &file("root.pem"))
            .replace("{at}", &case.at)
            .replace("{unix}", &case.unix.to_string())
    };
    let mut child = Command::new(program)
        .args(arguments.iter().map(fill))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    let end = Instant::now() + timeout;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(match status.code() {
                Some(0) => End::Accepted,
                Some(_) => End::Refused,
                None => End::Crashed(status),
            });
        }
        if Instant::now() >= end {
            child.kill()?;
            child.wait()?;
            return Ok(End::TimedOut);
        }
        sleep(Duration::from_millis(2));
    }
}
