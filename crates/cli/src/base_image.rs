//! `mse base-image build`: the image that applications inherit from, in the local container engine.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Subcommand;
use package::native::needed_glibc;

use crate::embedded;
use crate::exit::{Advice, Exit, Failure};
use crate::files::{self, PUBLIC};
use crate::image::{self, BASE, BuildArgs};
use crate::interrupt::Scratch;
use crate::output::{out, say};

/// The image that applications' images start from.
#[derive(clap::Args)]
#[command(arg_required_else_help = true)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    Build(Build),
}

/// Build it: Python, the node, its application server and, for SGX, Gramine's runtime.
#[derive(clap::Args)]
struct Build {
    /// The image to start from: Debian or one of its kin, with Python or without.
    #[arg(long, value_name = "IMAGE", default_value = "debian:bookworm-slim")]
    from: String,
    /// The name to give it.
    #[arg(long, value_name = "NAME", default_value = BASE)]
    tag: String,
    /// Where Gramine comes from: `packages` (its own Debian packages), the directory of an installed Gramine, or `none`,
    /// which is enough for simulation.
    #[arg(long, value_name = "packages|DIR|none", default_value = "none")]
    gramine: String,
    #[command(flatten)]
    build: BuildArgs,
}

const DOCKERFILE: &str = include_str!("../../../images/base/Dockerfile");
const REQUIREMENTS: &str = include_str!("../../../images/base/requirements.txt");

/// Runs a verb.
pub fn run(args: Args) -> anyhow::Result<Exit> {
    match args.verb {
        Verb::Build(args) => build(args),
    }
}

fn build(mut args: Build) -> anyhow::Result<Exit> {
    let gramine = match args.gramine.as_str() {
        "none" | "packages" => None,
        directory => Some(installed_gramine(Path::new(directory))?),
    };
    let engine = image::engine()?;
    let scratch = Scratch::new()?;
    let context = scratch.path().join("context");
    for (path, content) in embedded::node_files().files {
        files::write(&context.join("node").join(path), &content, PUBLIC)?;
    }
    files::write(&context.join("requirements.txt"), REQUIREMENTS.as_bytes(), PUBLIC)?;
    let dockerfile = scratch.path().join("Dockerfile");
    files::write(&dockerfile, DOCKERFILE.as_bytes(), PUBLIC)?;
    let target = context.join("gramine");
    fs::create_dir_all(&target)?;
    if let Some(source) = &gramine {
        copy_runtime(source, &target)?;
    }
    let own = [
        ("BASE", args.from.as_str()),
        ("GRAMINE", if gramine.is_some() { "copy" } else { args.gramine.as_str() }),
    ];
    args.build.build_args.extend(own.map(|(name, value)| (name.to_owned(), value.to_owned())));

    let (repository, tag) = name_and_tag(&args.tag);
    let built = image::build(&engine, &context, &dockerfile, &args.build);
    let draft = match engine.has_image(&args.from)? {
        true => built?,
        false => built.hint(format!(
            "the engine has no image {} and got none: name one that it has with --from",
            args.from
        ))?,
    };
    let saved = scratch.path().join("image.tar");
    image::save(&draft, &args.build, &format!("{repository}:{tag}"), &saved)?;
    check_glibc(&saved, &args.from)?;
    if args.build.build_ca.is_some() {
        engine.load(File::open(&saved)?)?;
    } else {
        engine.tag(draft.tag(), repository, tag)?;
    }
    say!("Applications start from it with FROM {} in their Dockerfile.", args.tag);
    out!("{}", args.tag)?;
    Ok(Exit::Done)
}

/// `registry:5000/name:tag` in its two parts; `latest` is what engines take for no tag.
fn name_and_tag(reference: &str) -> (&str, &str) {
    match reference.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => (name, tag),
        _ => (reference, "latest"),
    }
}

/// What Gramine consists of at run time, below the directory where it is installed.
const RUNTIME: [&str; 4] = ["libsysdb.so", "direct", "sgx", "runtime"];

/// Finds the directory with `libsysdb.so` in an installed tree: it, or one of the usual places below it.
fn installed_gramine(directory: &Path) -> anyhow::Result<PathBuf> {
    let places = [
        "",
        "lib/x86_64-linux-gnu/gramine",
        "lib64/gramine",
        "lib/gramine",
        "usr/lib/x86_64-linux-gnu/gramine",
        "usr/local/lib/x86_64-linux-gnu/gramine",
        "gramine",
    ];
    let found = places.iter().map(|place| directory.join(place)).find(|path| path.join(RUNTIME[0]).is_file());
    let found = found.ok_or_else(|| {
        Failure::usage(format!(
            "{} is no installed Gramine: there is no {} in it",
            directory.display(),
            RUNTIME[0]
        ))
        .hint("name the directory that Gramine was installed to, `packages`, or `none`")
    })?;
    let loader = |platform: &str| found.join(platform).join("loader").exists();
    if !loader("direct") && !loader("sgx") {
        return Err(Failure::usage(format!("{} has neither direct/loader nor sgx/loader", found.display()))
            .hint("build Gramine with -Ddirect=enabled or -Dsgx=enabled, and install it")
            .into());
    }
    Ok(found)
}

/// Copies the runtime's files; links are followed, for what they lead to may lie outside.
fn copy_runtime(from: &Path, to: &Path) -> anyhow::Result<()> {
    for name in RUNTIME {
        let source = from.join(name);
        if source.exists() {
            copy(&source, &to.join(name), 0)?;
        }
    }
    Ok(())
}

/// How deep an installed Gramine's directories go at the most.
const DEPTH_LIMIT: usize = 8;

fn copy(from: &Path, to: &Path, depth: usize) -> anyhow::Result<()> {
    if depth > DEPTH_LIMIT {
        return Err(Failure::failed(format!("{} lies too deep for a Gramine runtime", from.display())).into());
    }
    let reading = || format!("cannot read {}", from.display());
    let metadata = fs::metadata(from).with_context(reading)?;
    if metadata.is_dir() {
        fs::create_dir_all(to).with_context(|| format!("cannot make {}", to.display()))?;
        for entry in fs::read_dir(from).with_context(reading)? {
            let entry = entry.with_context(reading)?;
            copy(&entry.path(), &to.join(entry.file_name()), depth + 1)?;
        }
    } else if metadata.is_file() && from.extension().is_none_or(|extension| extension != "a") {
        fs::copy(from, to).with_context(|| format!("cannot copy {}", from.display()))?;
    }
    Ok(())
}

/// Refuses a base whose C library is older than the newest symbol that the node asks for.
fn check_glibc(saved: &Path, from: &str) -> anyhow::Result<()> {
    let needed = (embedded::node_files().files.iter()).filter_map(|(_, bytes)| needed_glibc(bytes)).max();
    let image = package::image::Image::open(saved)?;
    let libraries = ["lib/x86_64-linux-gnu/libc.so.6", "usr/lib/x86_64-linux-gnu/libc.so.6"];
    let mut offered = None;
    for library in libraries {
        if let Some(bytes) = image.read_file(library, 64 << 20)? {
            offered = offered_glibc(&bytes);
            break;
        }
    }
    match (needed, offered) {
        (Some(needed), Some(offered)) if offered < needed => Err(Failure::failed(format!(
            "the node needs glibc {}.{}, and {from} has {}.{}",
            needed.0, needed.1, offered.0, offered.1
        ))
        .hint("start from a newer image with --from, or build mse on an older system")
        .into()),
        (Some(_), None) => Err(Failure::failed(format!("{from} has no glibc where Debian keeps it"))
            .hint("start from Debian or one of its kin with --from")
            .into()),
        _ => Ok(()),
    }
}

/// The version that a libc says of itself: `GNU C Library (...) stable release version 2.36.`
fn offered_glibc(library: &[u8]) -> Option<(u32, u32)> {
    const SAYS: &[u8] = b"release version ";
    let start = library.windows(SAYS.len()).position(|window| window == SAYS)? + SAYS.len();
    let text: String = (library[start..].iter().take(16).map(|byte| char::from(*byte)))
        .take_while(|c| c.is_ascii_digit() || *c == '.')
        .collect();
    let (major, minor) = text.trim_end_matches('.').split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_image_gets_gramine_alone() {
        let (first, last) = DOCKERFILE.split_once("\nFROM ${BASE}\n").unwrap();
        assert!(first.contains("FROM ${BASE} AS gramine") && first.contains("apt-get download gramine"));
        // Installed, Gramine brings click and jinja2 into the image's own Python.
        for line in DOCKERFILE.lines().filter(|line| line.contains("apt-get install")) {
            assert!(!line.contains("gramine"), "{line}");
        }
        assert!(last.contains("COPY --from=gramine /runtime/ /\n") && !last.contains("sources.list"));
    }

    #[test]
    fn a_libc_says_its_version() {
        let text = b"\0GNU C Library (Debian GLIBC 2.36-9) stable release version 2.36.\nCopyright";
        assert_eq!(offered_glibc(text), Some((2, 36)));
        assert_eq!(offered_glibc(b"release version x"), None);
        assert_eq!(offered_glibc(b""), None);
    }

    #[test]
    fn a_name_without_a_tag_is_the_latest() {
        assert_eq!(name_and_tag("mse-base"), ("mse-base", "latest"));
        assert_eq!(name_and_tag("host:5000/mse-base"), ("host:5000/mse-base", "latest"));
        assert_eq!(name_and_tag("host:5000/mse-base:1.0"), ("host:5000/mse-base", "1.0"));
    }

    #[test]
    fn gramine_is_found_below_where_it_was_installed() {
        let prefix = tempfile::tempdir().unwrap();
        assert!(installed_gramine(prefix.path()).is_err());
        let place = prefix.path().join("lib/x86_64-linux-gnu/gramine");
        fs::create_dir_all(place.join("runtime/glibc")).unwrap();
        fs::write(place.join("libsysdb.so"), "os").unwrap();
        assert!(installed_gramine(prefix.path()).is_err(), "without a loader");
        fs::create_dir(place.join("direct")).unwrap();
        fs::write(place.join("direct/loader"), "loader").unwrap();
        fs::write(place.join("direct/libpal.a"), "static").unwrap();
        fs::write(place.join("runtime/glibc/libc.so.6"), "libc").unwrap();
        std::os::unix::fs::symlink("libc.so.6", place.join("runtime/glibc/libc.so")).unwrap();
        assert_eq!(installed_gramine(prefix.path()).unwrap(), place);

        let target = tempfile::tempdir().unwrap();
        copy_runtime(&place, target.path()).unwrap();
        assert_eq!(fs::read(target.path().join("runtime/glibc/libc.so")).unwrap(), b"libc");
        assert!(!target.path().join("direct/libpal.a").exists());
    }
}
