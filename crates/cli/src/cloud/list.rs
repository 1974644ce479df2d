//! `mse cloud list`: the apps on the backend, as its operator sees them.

use client::backend::App;

use crate::cloud::session;
use crate::exit::{Exit, Failure};
use crate::output::{self, Format, out, printable, say};

/// List your apps on the backend.
#[derive(clap::Args)]
pub struct Args {
    /// The project; all of yours without it.
    project: Option<String>,
    /// Those too that have ended.
    #[arg(long)]
    all: bool,
    /// How the report is written.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// Asks the backend.
pub fn run(args: &Args) -> anyhow::Result<Exit> {
    let (_, session) = session::open()?;
    let projects = match &args.project {
        None => session.projects()?,
        Some(name) => vec![session.project(name)?.ok_or_else(|| {
            Failure::failed(format!("the backend knows no project {name:?} of yours"))
                .hint("`mse cloud list` without a name shows the apps of all")
        })?],
    };
    let mut rows: Vec<(String, App)> = Vec::new();
    for project in projects {
        rows.extend(session.apps(project.id, args.all)?.into_iter().map(|app| (project.name.clone(), app)));
    }
    if args.format == Format::Json {
        let apps: Vec<&App> = rows.iter().map(|(_, app)| app).collect();
        output::json(&apps)?;
        return Ok(Exit::Done);
    }
    if rows.is_empty() {
        say!("There is no app; `mse cloud deploy` makes one.");
        return Ok(Exit::Done);
    }
    let width = |values: &mut dyn Iterator<Item = &str>, least: usize| {
        values.map(str::len).max().unwrap_or(0).max(least)
    };
    let names = width(&mut rows.iter().map(|(_, app)| app.name.as_str()), 4);
    let projects = width(&mut rows.iter().map(|(project, _)| project.as_str()), 7);
    out!("{:<36}  {:<projects$}  {:<names$}  {:<12}  {}", "ID", "PROJECT", "NAME", "STATE", "DOMAIN")?;
    for (project, app) in &rows {
        let state = printable(&app.state.to_string(), "");
        let (name, domain) = (printable(&app.name, ""), printable(&app.domain, ""));
        out!("{:<36}  {project:<projects$}  {name:<names$}  {state:<12}  {domain}", app.id.to_string())?;
    }
    Ok(Exit::Done)
}
