//! Which file of a project names its packages.
//!
//! ```text
//! [image] requirements    where mse.toml names one, it counts, even if it is empty
//! requirements.txt        beside mse.toml
//! mse_src/requirements.txt
//! ```
//!
//! The first that requires anything. Where none does, but another tool's file names packages (`pyproject.toml`, `Pipfile`,
//! `setup.cfg`, `setup.py`, `environment.yml`), that is refused with what to do: an image without them would start and fail
//! at the first import.

use std::path::{Path, PathBuf};

use crate::build::Project;
use crate::native::Requirements;
use crate::{Error, Result, text};

/// Largest file of another tool that is looked into, in bytes.
const LIMIT: u64 = 1024 * 1024;

const NAME: &str = "requirements.txt";

/// What was found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Found {
    /// The requirements file; `None` if nothing is required.
    pub path: Option<PathBuf>,
    /// What to tell the user, where it is not the usual file.
    pub note: Option<String>,
}

/// Finds and checks the requirements of a project. Starts no program.
///
/// # Errors
/// Those of [`Requirements::read`], and [`Error::Project`] for packages that only another tool's file names.
pub fn requirements(project: &Project) -> Result<Found> {
    let usual = project.requirements.clone();
    let is_empty = Requirements::read(usual.as_deref())?.is_empty();
    if project.requirements_named || !is_empty {
        return Ok(Found { path: usual, note: None });
    }
    let inner = project.code.join(NAME);
    if inner.is_file() && !Requirements::read(Some(&inner))?.is_empty() {
        let why = if usual.is_some() { "is empty" } else { "is missing" };
        let note = format!("{NAME} beside mse.toml {why}: using {}", inner.display());
        return Ok(Found { path: Some(inner), note: Some(note) });
    }
    let folder = project.lock.parent().unwrap_or(Path::new(""));
    for folder in [folder, &project.code] {
        for (name, names_packages, convert) in OTHERS {
            let path = folder.join(name);
            if path.is_file() && names_packages(&text::read(&path, LIMIT)?) {
                return Err(Error::Project {
                    path,
                    expected: format!("the packages in a {NAME} beside mse.toml, which has none"),
                    found: format!(
                        "some here, which is not read: {convert}; or, if the application needs none of them, name an \
                         empty file as `requirements` below `[image]` in mse.toml"
                    ),
                });
            }
        }
    }
    Ok(Found { path: usual, note: None })
}

/// Files of other tools, whether a text of that kind names packages, and how to write them down.
type Other = (&'static str, fn(&str) -> bool, &'static str);
const OTHERS: [Other; 5] = [
    (
        "pyproject.toml",
        pyproject,
        "make it with `pip-compile pyproject.toml` or `uv export --no-emit-project -o requirements.txt`",
    ),
    ("Pipfile", pipfile, "make it with `pipenv requirements > requirements.txt`"),
    ("setup.cfg", setup, "copy what `install_requires` lists"),
    ("setup.py", setup, "copy what `install_requires` lists"),
    ("environment.yml", |text| text.contains("dependencies:"), "list there what pip has of it"),
];

fn table(text: &str) -> toml::Table {
    // What does not parse is the other tool's to refuse.
    text.parse().unwrap_or_default()
}

fn pyproject(text: &str) -> bool {
    let table = table(text);
    let project = table.get("project");
    let listed = project.and_then(|project| project.get("dependencies")?.as_array());
    let dynamic = project.and_then(|project| project.get("dynamic")?.as_array());
    let poetry = table.get("tool").and_then(|tool| tool.get("poetry")?.get("dependencies")?.as_table());
    listed.is_some_and(|list| !list.is_empty())
        || dynamic.is_some_and(|names| names.iter().any(|name| name.as_str() == Some("dependencies")))
        || poetry.is_some_and(|packages| packages.keys().any(|name| name != "python"))
}

fn pipfile(text: &str) -> bool {
    table(text)
        .get("packages")
        .and_then(|packages| packages.as_table())
        .is_some_and(|packages| !packages.is_empty())
}

fn setup(text: &str) -> bool {
    text.contains("install_requires")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const CONFIG: &str =
        "name = \"a\"\npython_application = \"app:app\"\nhealthcheck_endpoint = \"/\"\ntests_cmd = \"x\"\n";

    fn found(files: &[(&str, &str)]) -> Result<(Option<String>, bool)> {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("mse_src")).unwrap();
        std::fs::write(dir.path().join("mse.toml"), CONFIG).unwrap();
        for (name, text) in files {
            std::fs::write(dir.path().join(name), text).unwrap();
        }
        let (project, _) = Project::open(dir.path())?;
        let found = requirements(&project)?;
        let path = found.path.map(|path| path.strip_prefix(dir.path()).unwrap().to_str().unwrap().to_owned());
        Ok((path, found.note.is_some()))
    }

    #[test]
    fn the_first_file_that_requires_anything_counts() {
        let inner = ("mse_src/requirements.txt", "flask\n");
        let named = ("mse.toml", &*format!("{CONFIG}[image]\nrequirements = \"none.txt\"\n"));
        let some = |name: &str| Some(name.to_owned());
        assert_eq!(found(&[]).unwrap(), (None, false));
        assert_eq!(found(&[("requirements.txt", "a\n"), inner]).unwrap(), (some("requirements.txt"), false));
        assert_eq!(found(&[inner]).unwrap(), (some("mse_src/requirements.txt"), true));
        for empty in ["", "\n# none\n", "--pre\n"] {
            let both = [("requirements.txt", empty), inner];
            assert_eq!(found(&both).unwrap(), (some("mse_src/requirements.txt"), true));
        }
        assert_eq!(found(&[named, ("none.txt", ""), inner]).unwrap(), (some("none.txt"), false));
        let empty = [("requirements.txt", ""), ("mse_src/requirements.txt", "# none\n")];
        assert_eq!(found(&empty).unwrap(), (some("requirements.txt"), false));
        assert!(found(&[("requirements.txt", "-e .\n"), inner]).is_err());
    }

    #[test]
    fn packages_that_another_tool_names_are_told() {
        for (name, text) in [
            ("pyproject.toml", "[project]\ndependencies = [\"flask\"]\n"),
            ("pyproject.toml", "[project]\ndynamic = [\"version\", \"dependencies\"]\n"),
            ("pyproject.toml", "\u{feff}[tool.poetry.dependencies]\npython = \"^3.10\"\nflask = \"*\"\n"),
            ("mse_src/pyproject.toml", "[project]\ndependencies = [\"flask\"]\n"),
            ("Pipfile", "[packages]\nflask = \"*\"\n"),
            ("setup.cfg", "[options]\ninstall_requires =\n  flask\n"),
            ("mse_src/setup.py", "setup(install_requires=['flask'])\n"),
        ] {
            let error = found(&[(name, text)]).unwrap_err().to_string();
            assert!(error.contains(name) && error.contains("requirements.txt"), "{error}");
            assert!(found(&[(name, text), ("requirements.txt", "flask\n")]).is_ok());
            let named = format!("{CONFIG}[image]\nrequirements = \"none.txt\"\n");
            assert!(found(&[(name, text), ("mse.toml", &named), ("none.txt", "")]).is_ok());
        }
        for text in ["[tool.ruff]\n", "[project]\nname = \"a\"\ndependencies = []\n", "no toml", ""] {
            assert!(found(&[("pyproject.toml", text)]).is_ok(), "{text}");
        }
    }
}
