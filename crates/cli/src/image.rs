//! Building an image with the container engine: what `package`, `localtest` and `base-image build` share.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use package::image::Image;
use runtime::docker::{BuildRequest, Engine};
use runtime::image_build::context::{Context, DOCKERFILE};
use runtime::image_build::{CA_DIRECTORY, ca_variables, dockerfile};
use uuid::Uuid;

use crate::exit::{Advice, Failure};
use crate::files;
use crate::interrupt::{self, Scratch};
use crate::output;

/// The image that `mse base-image build` makes and the project template starts from.
pub const BASE: &str = "mse-base";

/// What images are called in the engine until they are finished.
const DRAFTS: &str = "mse-build";

/// How an image is built.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct BuildArgs {
    /// Certificates (PEM) that the build trusts and no layer of the image keeps: for networks behind a proxy.
    #[arg(long, value_name = "PEM")]
    pub build_ca: Option<PathBuf>,
    /// A variable for the build, declared by ARG in the Dockerfile. Can be given more than once.
    #[arg(long = "build-arg", value_name = "NAME=VALUE", value_parser = assignment)]
    pub build_args: Vec<(String, String)>,
    /// The network that the build's commands use: the engine's own, or `host`.
    #[arg(long, value_name = "NETWORK")]
    pub build_network: Option<String>,
}

fn assignment(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("NAME=VALUE is expected".to_owned()),
    }
}

/// Whether an image can be built of a project on this machine, and if not, why not.
pub enum Buildable {
    /// It can, by this engine.
    By(Engine),
    /// It cannot.
    Not(String),
}

/// Looks for the Dockerfile, for an engine that answers, and for the base image in it.
pub fn buildable(dockerfile: &Path, args: &BuildArgs) -> anyhow::Result<Buildable> {
    if !dockerfile.is_file() {
        return Ok(Buildable::Not(format!("there is no {}", dockerfile.display())));
    }
    let engine = match Engine::connect().and_then(|engine| engine.version().map(|_| engine)) {
        Ok(engine) => engine,
        Err(error) => return Ok(Buildable::Not(error.to_string())),
    };
    let text = files::read_text(dockerfile)?;
    for base in dockerfile::Dockerfile::parse(&text).bases(&args.build_args) {
        // Others the engine fetches itself; this one is in no registry.
        if base.split(':').next() == Some(BASE) && !engine.has_image(&base)? {
            return Ok(Buildable::Not(format!(
                "the engine has no image {base} (`mse base-image build` makes it)"
            )));
        }
    }
    Ok(Buildable::By(engine))
}

/// An image in the engine under a name of its own, which goes again when this is dropped or interrupted.
pub struct Draft<'a> {
    engine: &'a Engine,
    tag: String,
    _guard: interrupt::Guard,
}

impl Draft<'_> {
    /// Its name in the engine.
    pub fn tag(&self) -> &str {
        &self.tag
    }
}

impl Drop for Draft<'_> {
    fn drop(&mut self) {
        let _ = self.engine.remove_built(&self.tag);
    }
}

/// Builds `dockerfile` with `directory` as its context.
pub fn build<'a>(
    engine: &'a Engine,
    directory: &Path,
    dockerfile: &Path,
    args: &BuildArgs,
) -> anyhow::Result<Draft<'a>> {
    let context = Context::open(directory, dockerfile, args.build_ca.as_deref())?;
    let tag = format!("{DRAFTS}:{}", Uuid::new_v4().simple());
    let guard = {
        let (engine, tag) = (engine.clone(), tag.clone());
        interrupt::on_interrupt(move || drop(engine.remove_built(&tag)))
    };
    let draft = Draft { engine, tag, _guard: guard };
    let bar = output::progress();
    bar.set_message("building the image");
    let request = BuildRequest {
        tag: &draft.tag,
        dockerfile: DOCKERFILE,
        build_args: &args.build_args,
        network: args.build_network.as_deref(),
    };
    let built = engine.build(&request, |out| context.pack(out), &mut |line| {
        bar.set_message(output::printable(line, " ").to_string());
    });
    bar.finish_and_clear();
    built.hint(match args.build_ca {
        None => "behind a proxy that terminates TLS, name its certificate with --build-ca".to_owned(),
        Some(_) => format!("the build reads {}", dockerfile.display()),
    })?;
    Ok(draft)
}

/// Saves a built image into a file, without the CA of its build.
pub fn save(draft: &Draft<'_>, args: &BuildArgs, reference: &str, to: &Path) -> anyhow::Result<()> {
    if args.build_ca.is_none() {
        return save_reference(draft.engine, draft.tag(), to);
    }
    let scratch = Scratch::inside(to.parent().unwrap_or(Path::new(".")), ".mse-image-")?;
    let whole = scratch.path().join("image.tar");
    save_reference(draft.engine, draft.tag(), &whole)?;
    let image = Image::open(&whole)?.without_layers_below(CA_DIRECTORY)?;
    let variables: Vec<&str> = ca_variables().collect();
    let mut file = BufWriter::new(create(to)?);
    image.write_archive(reference, &variables, &mut file)?;
    file.flush().with_context(|| format!("cannot write {}", to.display()))
}

/// Saves an image of the engine into a file as it is.
pub fn save_reference(engine: &Engine, reference: &str, to: &Path) -> anyhow::Result<()> {
    let mut file = BufWriter::new(create(to)?);
    engine.save(reference, &mut file)?;
    file.flush().with_context(|| format!("cannot write {}", to.display()))
}

fn create(path: &Path) -> anyhow::Result<File> {
    File::create(path).with_context(|| format!("cannot write {}", path.display()))
}

/// The engine, or why there is none, as an error with advice.
pub fn engine() -> anyhow::Result<Engine> {
    let engine = Engine::connect().hint("`mse doctor` tells what is missing")?;
    engine.version().map_err(|error| Failure::failed(error).hint("`mse doctor` tells what is missing"))?;
    Ok(engine)
}
