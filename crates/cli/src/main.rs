//! The command `mse`: package a Python web application, spawn it in an enclave, verify, seal, run, call.
//!
//! This crate parses command lines, calls the crates below it and prints what they answer.

mod base_image;
mod cloud;
mod collateral;
mod completions;
mod connect;
mod demo;
mod doctor;
mod embedded;
mod exit;
mod files;
mod home;
mod image;
mod interrupt;
mod judging;
mod live;
mod man;
mod output;
mod places;
mod plain_http;
mod provider_tests;
mod quote;
mod sgx;
mod simulator;

use std::env;
use std::ffi::OsString;
use std::panic::AssertUnwindSafe;
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

use crate::exit::{Exit, chain, exit_of, hint_of};
use crate::output::{BAD, HINT, Styled, say};

/// Run Python web applications in enclaves, and check that you do.
#[derive(Parser)]
#[command(name = "mse", version, propagate_version = true, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Home(home::Args),
    Cloud(cloud::Args),
    BaseImage(base_image::Args),
    Connect(connect::Args),
    Demo(demo::Args),
    Doctor(doctor::Args),
    Quote(quote::Args),
    Sgx(sgx::Args),
    Simulator(simulator::Args),
    Completions(completions::Args),
    Man(man::Args),
}

/// Names the environment whose verbs may be typed without its name: `mse package` for `mse home package`.
const DEFAULT_ENVIRONMENT: &str = "MSE_DEFAULT_ENV";

fn main() -> ExitCode {
    std::panic::set_hook(Box::new(|panic| {
        say!("{} this is a bug in mse: {panic}", Styled(BAD, "error:"));
    }));
    std::panic::catch_unwind(AssertUnwindSafe(run)).unwrap_or(Exit::Failed.into())
}

fn run() -> ExitCode {
    let cli = Cli::parse_from(with_default_environment(env::args_os().collect()));
    let result = match cli.command {
        Command::Home(args) => home::run(args),
        Command::Cloud(args) => cloud::run(args),
        Command::BaseImage(args) => base_image::run(args),
        Command::Connect(args) => connect::run(&args),
        Command::Demo(args) => demo::run(&args),
        Command::Doctor(args) => doctor::run(&args),
        Command::Quote(args) => quote::run(args),
        Command::Sgx(args) => sgx::run(args),
        Command::Simulator(args) => simulator::run(args),
        Command::Completions(args) => completions::run(&args),
        Command::Man(args) => man::run(&args),
    };
    match result {
        Ok(exit) => exit.into(),
        Err(error) if is_broken_pipe(&error) => Exit::Done.into(),
        Err(error) => {
            say!("{} {}", Styled(BAD, "error:"), chain(&error));
            if let Some(hint) = hint_of(&error) {
                say!("{} {hint}", Styled(HINT, "hint:"));
            }
            exit_of(&error).into()
        }
    }
}

/// A reader that closes its end of the pipe (`mse … | head`) has had enough: no error.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let error = match error.downcast_ref() {
        Some(runtime::Error::Output(error)) => Some(error),
        _ => error.downcast_ref(),
    };
    error.is_some_and(|error: &std::io::Error| error.kind() == std::io::ErrorKind::BrokenPipe)
}

/// Puts the default environment's name before a verb that no top-level command has.
fn with_default_environment(mut args: Vec<OsString>) -> Vec<OsString> {
    let Some(environment) = env::var_os(DEFAULT_ENVIRONMENT) else { return args };
    let command = Cli::command();
    let known = |name: &OsString| command.get_subcommands().any(|sub| name == sub.get_name());
    let is_verb = |name: &OsString| !name.to_string_lossy().starts_with('-') && name != "help";
    if known(&environment) && args.get(1).is_some_and(|verb| is_verb(verb) && !known(verb)) {
        args.insert(1, environment);
    }
    args
}
