//! `mse home package`: make the tar that the code provider hands to the operator.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::ValueEnum;
use jiff::Timestamp;
use package::build::{Builder, Options};
use package::python::Interpreter;
use package::{Built, Project};
use runtime::docker::Engine;
use serde::Serialize;

use crate::exit::{Advice, Exit, Failure};
use crate::image::{self, BuildArgs, Buildable};
use crate::interrupt::{Scratch, Work};
use crate::output::{self, Format, out, say, warn};
use crate::{embedded, places};

/// Make a package of a project: code archive, image, tests and configuration in one tar.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    pub project: ProjectArgs,
    /// Encrypt the code: only the enclave will read it. The key is saved beside the package.
    #[arg(long)]
    pub encrypt: bool,
    /// The directory for the package, made if missing.
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub output: PathBuf,
    /// What makes the image.
    #[arg(long, value_enum, default_value_t)]
    pub builder: BuilderChoice,
    /// The Dockerfile, if not the one in the project.
    #[arg(long, value_name = "FILE")]
    pub dockerfile: Option<PathBuf>,
    #[command(flatten)]
    pub build: BuildArgs,
    /// How the report is written.
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
}

/// Where the parts of a project are.
#[derive(clap::Args)]
pub struct ProjectArgs {
    /// The project's directory; the one that holds --config, or the current one, without it.
    #[arg(long, value_name = "DIR")]
    pub project: Option<PathBuf>,
    /// The application's code, if not `mse_src/` in the project.
    #[arg(long, value_name = "DIR")]
    pub code: Option<PathBuf>,
    /// The configuration, if not `mse.toml` in the project.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The tests, if not `tests/` in the project.
    #[arg(long, value_name = "DIR")]
    pub test: Option<PathBuf>,
}

/// What makes the image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum BuilderChoice {
    /// With the container engine where the project has a Dockerfile and the engine what that needs; else natively.
    #[default]
    Auto,
    /// The project's Dockerfile, by the container engine.
    Docker,
    /// Python packages alone: no container engine, simulation only.
    Native,
}

impl ProjectArgs {
    /// The project's directory.
    pub fn folder(&self) -> PathBuf {
        let beside =
            self.config.as_deref().and_then(Path::parent).filter(|path| !path.as_os_str().is_empty());
        let folder = self.project.as_deref().or(beside);
        folder.unwrap_or(Path::new(".")).to_owned()
    }

    /// Opens the project and puts in its parts that are elsewhere.
    pub fn open(&self) -> anyhow::Result<(Project, package::config::AppConfig)> {
        let folder = self.folder();
        let config = self.config.clone().unwrap_or_else(|| folder.join("mse.toml"));
        let (mut project, app) = Project::with_config(&folder, &config)
            .hint("name the project with --project DIR; `mse home scaffold NAME` makes one")?;
        if let Some(code) = &self.code {
            project.code.clone_from(code);
        }
        if let Some(tests) = &self.test {
            project.tests.clone_from(tests);
        }
        Ok((project, app))
    }
}

/// Makes the package.
pub fn run(args: &Args) -> anyhow::Result<Exit> {
    let (project, _) = args.project.open()?;
    let dockerfile = dockerfile(args.dockerfile.as_deref(), &args.project)?;
    let source = ImageSource {
        folder: &args.project.folder(),
        dockerfile: &dockerfile,
        builder: args.builder,
        build: &args.build,
        ready: None,
    };
    let built = make(&project, &source, args.encrypt, &args.output)?;
    report(&built, args.format)?;
    Ok(Exit::Done)
}

/// Where the image of a package comes from.
pub struct ImageSource<'a> {
    /// The project's directory: what a Dockerfile can copy from.
    pub folder: &'a Path,
    /// The Dockerfile, which may be missing.
    pub dockerfile: &'a Path,
    /// What makes the image.
    pub builder: BuilderChoice,
    /// How a Dockerfile is built.
    pub build: &'a BuildArgs,
    /// An image that the engine has already: nothing is built then.
    pub ready: Option<&'a str>,
}

/// Makes a package of a project in `output`. An interruption leaves nothing there.
pub fn make(
    project: &Project,
    source: &ImageSource<'_>,
    encrypt: bool,
    output: &Path,
) -> anyhow::Result<Built> {
    if let Some(reference) = source.ready {
        let engine = image::engine()?;
        if !engine.has_image(reference)? {
            return Err(Failure::failed(format!("the engine has no image {reference}"))
                .hint("build or load it first, or leave `docker` out of mse.toml to build the project's own")
                .into());
        }
        let scratch = Scratch::new()?;
        let saved = scratch.path().join("image.tar");
        image::save_reference(&engine, reference, &saved)?;
        return build(project, encrypt, output, Builder::Saved(&saved));
    }
    if let Some(engine) = engine_for(source.builder, source.dockerfile, source.build)? {
        let scratch = Scratch::new()?;
        let saved = scratch.path().join("image.tar");
        let draft = image::build(&engine, source.folder, source.dockerfile, source.build)?;
        image::save(&draft, source.build, draft.tag(), &saved)?;
        drop(draft);
        return build(project, encrypt, output, Builder::Saved(&saved));
    }
    // Before any program is started.
    if let Some(note) = package::discovery::requirements(project)?.note {
        say!("{note}.");
    }
    let (interpreter, node_files) = (Interpreter::discover()?, embedded::node_files());
    let cache = places::cache()?.join("packages");
    let native = Builder::Native { interpreter: &interpreter, node_files: &node_files, cache: &cache };
    build(project, encrypt, output, native)
}

/// The Dockerfile's name in a project.
const DOCKERFILE: &str = "Dockerfile";

/// The Dockerfile that the caller names, which must be there, or the project's, which need not.
pub fn dockerfile(named: Option<&Path>, project: &ProjectArgs) -> anyhow::Result<PathBuf> {
    match named {
        Some(path) if !path.is_file() => {
            Err(Failure::failed(format!("{} is no file", path.display())).hint("name a Dockerfile").into())
        }
        Some(path) => Ok(path.to_owned()),
        None => Ok(project.folder().join(DOCKERFILE)),
    }
}

/// The engine that builds, or `None` for the native builder.
pub fn engine_for(
    builder: BuilderChoice,
    dockerfile: &Path,
    args: &BuildArgs,
) -> anyhow::Result<Option<Engine>> {
    if builder == BuilderChoice::Native {
        return Ok(None);
    }
    match (image::buildable(dockerfile, args)?, builder) {
        (Buildable::By(engine), _) => Ok(Some(engine)),
        (Buildable::Not(reason), BuilderChoice::Docker) => {
            Err(Failure::failed(format!("cannot build the image: {reason}"))
                .hint("`mse doctor` tells what the engine lacks; --builder native does without one")
                .into())
        }
        (Buildable::Not(reason), _) => {
            say!("Building natively, which is for simulation only: {reason}.");
            Ok(None)
        }
    }
}

/// Builds, showing each step. An interruption leaves nothing in `output`.
fn build(project: &Project, encrypt: bool, output: &Path, builder: Builder<'_>) -> anyhow::Result<Built> {
    let making = || format!("cannot write to {}", output.display());
    fs::create_dir_all(output).with_context(making)?;
    let draft = Scratch::inside(output, ".mse-package-").with_context(making)?;
    let work = Work::begin();
    let bar = output::progress();
    let built = package::build::build(
        project,
        Options {
            builder,
            encrypt,
            output: draft.path(),
            now: Timestamp::now(),
            progress: &mut |step| bar.set_message(output::printable(step, "")),
        },
    );
    bar.finish_and_clear();
    drop(work);
    let mut built = built?;
    // The key first: a package whose code nobody can open is worth nothing. Both names hold the nanosecond.
    for file in built.key.iter_mut().chain([&mut built.package]) {
        let place = output.join(file.file_name().unwrap_or_default());
        fs::rename(&*file, &place).with_context(|| format!("cannot write {}", place.display()))?;
        *file = place;
    }
    Ok(built)
}

#[derive(Serialize)]
struct Report {
    package: PathBuf,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<PathBuf>,
    sha256: String,
    fingerprints: Vec<SizedFingerprint>,
    trusted_files: usize,
    trusted_bytes: u64,
    /// About how many seconds Gramine takes until the application runs.
    start_seconds: f64,
    /// The directory whose listing costs the most of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    start_directory: Option<String>,
    /// The smallest enclave size that holds it all, in MB.
    smallest_size: u64,
}

#[derive(Serialize)]
struct SizedFingerprint {
    size_mb: u64,
    fingerprint: String,
}

fn report(built: &Built, format: Format) -> anyhow::Result<()> {
    let report = Report {
        package: built.package.clone(),
        key: built.key.clone(),
        sha256: hex::encode(built.sha256),
        fingerprints: built
            .fingerprints
            .iter()
            .map(|(size_mb, fingerprint)| SizedFingerprint {
                size_mb: *size_mb,
                fingerprint: fingerprint.to_string(),
            })
            .collect(),
        trusted_files: built.trusted_files.0,
        trusted_bytes: built.trusted_files.1,
        start_seconds: built.start_seconds,
        start_directory: built.start_directory.as_ref().map(|(path, _)| path.clone()),
        smallest_size: built.smallest_size,
    };
    if built.many_files {
        warn(format_args!(
            "the enclave trusts {} files, and Gramine starts slowly on so many: leave some out with `unmeasured` in mse.toml",
            report.trusted_files
        ));
    }
    if format == Format::Json {
        return output::json(&report);
    }
    out!("Package: {}", report.package.display())?;
    if let Some(key) = &report.key {
        out!("Code key: {} (keep it: nobody can read the code without it)", key.display())?;
    }
    out!("SHA-256: {}", report.sha256)?;
    out!(
        "Trusted files: {}, {} bytes; Gramine starts in about {:.1} s",
        report.trusted_files,
        report.trusted_bytes,
        report.start_seconds
    )?;
    if let Some((path, bytes)) = &built.start_directory {
        out!(
            "Costliest directory: {}, {bytes} bytes, hashed whole when Python lists it",
            output::printable(path, "")
        )?;
    }
    out!("Smallest enclave: {} MB", report.smallest_size)?;
    out!("Fingerprint, for each enclave size in MB:")?;
    for SizedFingerprint { size_mb, fingerprint } in &report.fingerprints {
        out!("  {size_mb:>5}  {fingerprint}")?;
    }
    Ok(())
}
