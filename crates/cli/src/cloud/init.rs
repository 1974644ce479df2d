//! `mse cloud init`: write the `mse.toml` of a project that has none, from the answers to some questions.

use std::io::{BufRead, IsTerminal};
use std::path::Path;

use package::cloud_config::CloudConfig;
use package::config::AppConfig;

use crate::exit::{Advice, Exit, Failure};
use crate::files::{self, PUBLIC};
use crate::output::{self, say};

/// Write the mse.toml of your own project. Asks for what the command line does not say.
#[derive(clap::Args)]
pub struct Args {
    /// The application's name.
    #[arg(long)]
    name: Option<String>,
    /// What is served: `module:variable`.
    #[arg(long, value_name = "MODULE:VARIABLE")]
    application: Option<String>,
    /// The path that answers once the application is up.
    #[arg(long, value_name = "PATH")]
    healthcheck: Option<String>,
    /// The directory of the code.
    #[arg(long, value_name = "DIR")]
    code: Option<String>,
    /// The directory of the tests.
    #[arg(long, value_name = "DIR")]
    tests: Option<String>,
    /// The command that runs the tests.
    #[arg(long, value_name = "COMMAND")]
    tests_cmd: Option<String>,
    /// The project on the backend.
    #[arg(long)]
    project: Option<String>,
    /// The hardware plan; none for the smallest that holds the package.
    #[arg(long)]
    hardware: Option<String>,
    /// Take the usual answer wherever the command line has none.
    #[arg(short = 'y', long = "yes", visible_alias = "y")]
    yes: bool,
}

/// Asks, checks, writes; an `mse.toml` that is there is left alone.
pub fn run(args: &Args) -> anyhow::Result<Exit> {
    let path = Path::new("mse.toml");
    if path.symlink_metadata().is_ok() {
        return Err(Failure::usage("mse.toml exists already").hint("edit it, or remove it first").into());
    }
    let here = std::env::current_dir()?;
    let folder = here.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
    let usual_name = if package::config::is_name(&folder) { folder } else { "app".to_owned() };
    let ask = Asking { yes: args.yes };
    let name = ask.word("Name of the application", &args.name, &usual_name)?;
    let application = ask.word("What is served (module:variable)", &args.application, "app:app")?;
    let healthcheck = ask.word("Path of its health check", &args.healthcheck, "/health")?;
    let code = ask.word("Directory of the code", &args.code, "mse_src")?;
    let tests = ask.word("Directory of the tests", &args.tests, "tests")?;
    let tests_cmd = ask.word("Command that runs the tests", &args.tests_cmd, "pytest")?;
    let project = ask.word("Project on the backend", &args.project, "default")?;
    let hardware = ask.word("Hardware plan (empty: the smallest that holds it)", &args.hardware, "")?;

    let value = |text: &str| toml::Value::from(text).to_string();
    let mut cloud =
        format!("code = {}\ntests = {}\nproject = {}\n", value(&code), value(&tests), value(&project));
    if !hardware.is_empty() {
        cloud.push_str(&format!("hardware = {}\n", value(&hardware)));
    }
    let text = format!(
        "name = {}\npython_application = {}\nhealthcheck_endpoint = {}\ntests_cmd = {}\ntests_requirements = [\"pytest\"]\n\n[cloud]\n{cloud}",
        value(&name),
        value(&application),
        value(&healthcheck),
        value(&tests_cmd)
    );
    // Read back as every other command will read it: a wrong answer is told now.
    let config = AppConfig::from_toml(&text).hint("answer again")?;
    CloudConfig::from_table(&config.cloud).hint("answer again")?;
    files::write(path, text.as_bytes(), PUBLIC)?;
    say!("Wrote mse.toml");
    if !Path::new(&code).is_dir() {
        say!("There is no directory {code} yet: the application's code goes there.");
    }
    say!("Next: mse cloud localtest, then mse cloud deploy");
    Ok(Exit::Done)
}

struct Asking {
    yes: bool,
}

impl Asking {
    /// What the command line says, else what the user answers, else what is usual.
    fn word(&self, question: &str, given: &Option<String>, usual: &str) -> anyhow::Result<String> {
        if let Some(given) = given {
            return Ok(given.clone());
        }
        if self.yes {
            return Ok(usual.to_owned());
        }
        output::ask(format_args!("{question} [{usual}]: "))?;
        let mut line = String::new();
        if std::io::stdin().lock().read_line(&mut line)? == 0 {
            return Err(Failure::usage(format!("no answer: {question}"))
                .hint("answer on standard input, by options, or take what is usual with -y")
                .into());
        }
        if !std::io::stdin().is_terminal() {
            say!("");
        }
        let answer = line.trim();
        Ok(if answer.is_empty() { usual.to_owned() } else { answer.to_owned() })
    }
}
