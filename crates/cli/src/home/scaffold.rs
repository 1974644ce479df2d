//! `mse home scaffold NAME`: a project that works, to start from.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;

use crate::exit::{Exit, Failure};
use crate::files::{self, PUBLIC, SECRET};
use crate::output::say;

/// Write a new project: a small Flask application with its tests and secrets.
#[derive(clap::Args)]
pub struct Args {
    /// Name of the project, and of the directory to make.
    name: String,
}

/// Writes the project; nothing is left behind where it cannot be written whole.
pub fn run(args: &Args) -> anyhow::Result<Exit> {
    create(Kind::Home, &args.name, Path::new("."))?;
    say!("Wrote the project {name}/", name = args.name);
    say!("Next: mse home localtest --project {}", args.name);
    Ok(Exit::Done)
}

/// Where the project is to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// On one's own machine.
    Home,
    /// On a backend.
    Cloud,
}

/// What is written: path in the project, content, mode.
fn written(kind: Kind, name: &str) -> anyhow::Result<Vec<(&'static str, String, u32)>> {
    let fernet_key = secrets::fernet::generate_key()?;
    let fill = |text: &str| text.replace("{{name}}", name).replace("{{fernet_key}}", &fernet_key);
    let files = TEMPLATES.iter().map(|(path, content, mode)| {
        let mut text = fill(content);
        let more = CLOUD.iter().find(|(to, _)| kind == Kind::Cloud && to == path);
        text.extend(more.map(|(_, tail)| fill(tail)));
        (*path, text, *mode)
    });
    Ok(files.collect())
}

/// Makes the project `name` inside `folder`.
pub fn create(kind: Kind, name: &str, folder: &Path) -> anyhow::Result<PathBuf> {
    check_name(name)?;
    let target = folder.join(name);
    if target.symlink_metadata().is_ok() {
        return Err(Failure::usage(format!("{} exists already", target.display()))
            .hint("choose another name, or remove it first")
            .into());
    }
    let making = || format!("cannot make {}", target.display());
    let draft = tempfile::Builder::new().prefix(".mse-scaffold-").tempdir_in(folder).with_context(making)?;
    for (path, content, mode) in written(kind, name)? {
        files::write(&draft.path().join(path), content.as_bytes(), mode)?;
    }
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(draft.path(), mode).with_context(making)?;
    // A directory that appeared since the check is not empty or makes this fail: nothing is ever replaced.
    fs::rename(draft.path(), &target).with_context(making)?;
    let _ = draft.keep();
    Ok(target)
}

/// Writes the project into `folder`, and returns its name: that of the directory, where it can be one.
pub fn create_here(kind: Kind, folder: &Path) -> anyhow::Result<String> {
    let whole = folder.canonicalize().with_context(|| format!("cannot find {}", folder.display()))?;
    let name = whole.file_name().and_then(|name| name.to_str()).filter(|name| check_name(name).is_ok());
    let name = name.unwrap_or("example").to_owned();
    let files = written(kind, &name)?;
    let tops = files.iter().filter_map(|(path, ..)| path.split('/').next());
    if let Some(there) = tops.map(|top| folder.join(top)).find(|path| path.symlink_metadata().is_ok()) {
        return Err(Failure::usage(format!("{} exists already", there.display()))
            .hint("name a new project: `mse cloud scaffold NAME` makes a directory for it")
            .into());
    }
    for (n, (path, content, mode)) in files.iter().enumerate() {
        if let Err(error) = files::write(&folder.join(path), content.as_bytes(), *mode) {
            for (written, ..) in &files[..n] {
                let _ = fs::remove_file(folder.join(written));
            }
            return Err(error);
        }
    }
    Ok(name)
}

/// The rule for `name` in mse.toml, which is also a safe name for a directory.
fn check_name(name: &str) -> anyhow::Result<()> {
    let starts = name.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric());
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    if starts && name.len() <= 64 && name.bytes().all(allowed) {
        return Ok(());
    }
    Err(Failure::usage(format!("{name:?} cannot be the name of a project"))
        .hint("use 1 to 64 letters, digits, - and _, beginning with a letter or a digit")
        .into())
}

/// Path in the project, content, mode.
const TEMPLATES: &[(&str, &str, u32)] = &[
    ("mse.toml", include_str!("../../templates/project/mse.toml"), PUBLIC),
    ("Dockerfile", include_str!("../../templates/project/Dockerfile"), PUBLIC),
    (".dockerignore", include_str!("../../templates/project/dockerignore"), PUBLIC),
    ("requirements.txt", include_str!("../../templates/project/requirements.txt"), PUBLIC),
    ("README.md", include_str!("../../templates/project/README.md"), PUBLIC),
    ("secrets.json", include_str!("../../templates/project/secrets.json"), SECRET),
    ("secrets_to_seal.json", include_str!("../../templates/project/secrets_to_seal.json"), SECRET),
    ("mse_src/app.py", include_str!("../../templates/project/mse_src/app.py"), PUBLIC),
    ("mse_src/.mseignore", include_str!("../../templates/project/mse_src/.mseignore"), PUBLIC),
    ("tests/conftest.py", include_str!("../../templates/project/tests/conftest.py"), PUBLIC),
    ("tests/test_app.py", include_str!("../../templates/project/tests/test_app.py"), PUBLIC),
];

/// What a project for a backend has besides: path in the project, what is added to the content.
const CLOUD: &[(&str, &str)] = &[
    ("mse.toml", include_str!("../../templates/cloud/mse.toml")),
    ("README.md", include_str!("../../templates/cloud/README.md")),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bad_names_are_refused() {
        for name in ["", ".", "..", "a/b", "-a", "a b", "é", "a\n", &"a".repeat(65)] {
            assert!(check_name(name).is_err(), "{name:?}");
        }
        check_name("example").expect("a plain name");
    }
}
