//! A project becomes a package natively: with packages from a directory of wheels made here, so that
//! nothing is fetched.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use jiff::Timestamp;
use package::build::{Builder, Options, build_for};
use package::code_archive;
use package::config::CodeForm;
use package::native::{Lock, Pip};
use package::python::Interpreter;
use package::{Built, Error, NodeFiles, Package, Project};
use secrets::code::CodeKey;
use sha2::{Digest, Sha256};

/// Makes wheels: name, version, requirements, and Python files.
const WHEELS: &str = r#"
import base64, hashlib, sys, zipfile
def wheel(name, version, requires, files):
    info = f'{name}-{version}.dist-info'
    files = dict(files)
    files[f'{info}/METADATA'] = f'Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n' + ''.join(f'Requires-Dist: {r}\n' for r in requires)
    files[f'{info}/WHEEL'] = 'Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n'
    files[f'{info}/entry_points.txt'] = f'[console_scripts]\n{name} = {name}:main\n'
    record = ''
    for path, text in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b'=').decode()
        record += f'{path},sha256={digest},{len(text.encode())}\n'
    files[f'{info}/RECORD'] = record + f'{info}/RECORD,,\n'
    with zipfile.ZipFile(f'{sys.argv[1]}/{name}-{version}-py3-none-any.whl', 'w') as z:
        for path, text in files.items():
            z.writestr(path, text)
wheel('granian', '2.8.7', [], {'granian/__init__.py': 'def main(): pass\n'})
wheel('greeter', '1.0', ['helper>=1'], {'greeter/__init__.py': 'import helper\n', 'greeter/tests/test_x.py': ''})
wheel('greeter', '2.0', ['helper>=1'], {'greeter/__init__.py': 'import helper, sys\n'})
wheel('helper', '1.5', [], {'helper.py': 'x = 1\n'})
"#;

/// What is made once for all tests: wheels, and what was resolved and installed from them.
struct Prepared {
    dir: tempfile::TempDir,
    lock: String,
}

fn wheels() -> PathBuf {
    static WHEELS_MADE: OnceLock<tempfile::TempDir> = OnceLock::new();
    let made = WHEELS_MADE.get_or_init(|| {
        // Statics are never dropped: below the target directory, nobody minds what is left.
        let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let interpreter = Interpreter::discover().unwrap();
        let status = Command::new(interpreter.path()).args(["-I", "-c", WHEELS]).arg(dir.path()).status();
        assert!(status.unwrap().success());
        dir
    });
    made.path().into()
}

fn prepared() -> &'static Prepared {
    static PREPARED: OnceLock<Prepared> = OnceLock::new();
    PREPARED.get_or_init(|| {
        let world = World::new();
        world.built(false, "out", "cache");
        let lock = fs::read_to_string(world.path("p/requirements.lock")).unwrap();
        Prepared { dir: world.dir, lock }
    })
}

struct World {
    dir: tempfile::TempDir,
    interpreter: Interpreter,
    node_files: NodeFiles,
}

impl World {
    /// A project of which nothing is locked or installed.
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let interpreter = Interpreter::discover().unwrap();
        // Any small shared object will do for measuring.
        let library = fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/libpal.so")).unwrap();
        let node_files = NodeFiles {
            files: vec![
                ("mse_node/__main__.py".into(), b"print('node')\n".to_vec()),
                ("mse_node/_node.abi3.so".into(), library),
            ],
        };
        let world = World { dir, interpreter, node_files };
        world.write("p/mse.toml", CONFIG);
        world.write("p/mse_src/app.py", "import greeter\napp = 1\n");
        world.write("p/mse_src/.mseignore", "*.csv\n");
        world.write("p/mse_src/private.csv", "1");
        world.write("p/tests/test_app.py", "def test(): pass\n");
        let wheels = wheels();
        let requirements =
            format!("--no-index\n--find-links {}\ngreeter<2  # the old one\n", wheels.display());
        world.write("p/requirements.txt", &requirements);
        world
    }

    /// A project with its lock; what the lock says is installed in the cache that [`World::shared`] names.
    fn locked() -> Self {
        let world = World::new();
        world.write("p/requirements.lock", &prepared().lock);
        world
    }

    /// The cache that all tests share.
    fn shared() -> String {
        prepared().dir.path().join("cache").to_str().unwrap().to_owned()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn build(&self, encrypt: bool, output: &str, cache: &str) -> (Result<Built, Error>, Vec<String>) {
        let mut steps = Vec::new();
        let (project, _) = Project::open(&self.path("p")).unwrap();
        let built = build_for(
            &[1024],
            &project,
            Options {
                builder: Builder::Native {
                    interpreter: &self.interpreter,
                    node_files: &self.node_files,
                    cache: &self.path(cache),
                },
                encrypt,
                output: &self.path(output),
                now: Timestamp::from_nanosecond(1_700_000_000_123_456_789).unwrap(),
                progress: &mut |step| steps.push(step.to_owned()),
            },
        );
        (built, steps)
    }

    fn built(&self, encrypt: bool, output: &str, cache: &str) -> (Built, Vec<String>) {
        let (built, steps) = self.build(encrypt, output, cache);
        (built.unwrap(), steps)
    }
}

const CONFIG: &str = r#"
name = "example"
python_application = "app:app"
healthcheck_endpoint = "/health"
tests_cmd = "pytest"
"#;

/// Paths of all files below `dir`, sorted.
fn files(dir: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut left = vec![dir.to_path_buf()];
    while let Some(next) = left.pop() {
        for entry in fs::read_dir(&next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                left.push(path);
            } else {
                found.push(path.strip_prefix(dir).unwrap().to_str().unwrap().to_owned());
            }
        }
    }
    found.sort();
    found
}

#[test]
fn a_project_becomes_a_package() {
    let world = World::new();
    let (built, steps) = world.built(false, "out", "cache");
    assert!(steps.iter().any(|step| step == "resolving requirements"), "{steps:?}");
    assert_eq!(built.package.file_name().unwrap(), "package_example_1700000000123456789.tar");
    assert_eq!(built.key, None);
    assert_eq!(files(&world.path("out")).len(), 1, "nothing else is left there");

    let package = Package::open(&built.package).unwrap();
    assert_eq!(package.sha256(), built.sha256);
    assert_eq!(package.config().name, "example");
    assert_eq!(package.config_toml(), CONFIG);
    assert_eq!(package.node_config().code, CodeForm::Plain);
    let record = package.interpreter().unwrap();
    world.interpreter.compatible_with(record).unwrap();

    // Everything in the image, and nothing else: no scripts, no bytecode, no tests nobody imports.
    let image = world.path("image");
    package.extract_image(&image).unwrap();
    let expected: Vec<_> = [
        "granian-2.8.7.dist-info/METADATA",
        "granian-2.8.7.dist-info/RECORD",
        "granian-2.8.7.dist-info/WHEEL",
        "granian-2.8.7.dist-info/entry_points.txt",
        "granian/__init__.py",
        "greeter-1.0.dist-info/METADATA",
        "greeter-1.0.dist-info/RECORD",
        "greeter-1.0.dist-info/WHEEL",
        "greeter-1.0.dist-info/entry_points.txt",
        "greeter/__init__.py",
        "helper-1.5.dist-info/METADATA",
        "helper-1.5.dist-info/RECORD",
        "helper-1.5.dist-info/WHEEL",
        "helper-1.5.dist-info/entry_points.txt",
        "helper.py",
        "interpreter.json",
        "mse_node/__main__.py",
        "mse_node/_node.abi3.so",
    ]
    .map(|name| format!("opt/mse/python/{name}"))
    .into();
    assert_eq!(files(&image), expected);
    let secret_place = world.dir.path().to_str().unwrap().as_bytes();
    for name in &expected {
        let content = fs::read(image.join(name)).unwrap();
        assert!(!content.windows(secret_place.len()).any(|w| w == secret_place), "{name} holds a local path");
    }

    // Tests and code come out as they went in.
    package.extract_tests(&world.path("tests")).unwrap();
    assert_eq!(files(&world.path("tests")), ["test_app.py"]);
    package.copy_code_archive(&world.path("app.tar")).unwrap();
    code_archive::unpack(fs::File::open(world.path("app.tar")).unwrap(), &world.path("code")).unwrap();
    assert_eq!(files(&world.path("code")), ["app.py"]);
}

#[test]
fn the_same_inputs_give_the_same_bytes() {
    let world = World::locked();
    let (one, _) = world.built(false, "one", &World::shared());
    let (two, steps) = world.built(false, "two", &World::shared());
    assert!(!steps.iter().any(|step| step.contains("requirements")), "all from the cache: {steps:?}");
    assert_eq!(fs::read(&one.package).unwrap(), fs::read(&two.package).unwrap());
    assert_eq!(one.fingerprints, two.fingerprints);

    // Installed anew, from the lock alone, after somebody used the cached files.
    let (three, steps) = world.built(false, "three", "cache");
    assert!(!steps.iter().any(|step| step == "resolving requirements"), "the lock is used: {steps:?}");
    assert_eq!(one.sha256, three.sha256);
    let site = fs::read_dir(world.path("cache/site")).unwrap().next().unwrap().unwrap().path();
    world.write(site.join("greeter/__pycache__/x.cpython-311.pyc").to_str().unwrap(), "bytecode");
    assert_eq!(one.sha256, world.built(false, "four", "cache").0.sha256);

    // Anything measured changes the fingerprint.
    world.write("p/mse_src/app.py", "import greeter\napp = 2\n");
    assert_ne!(world.built(false, "five", "cache").0.fingerprints, one.fingerprints);
}

#[test]
fn the_lock_follows_the_requirements() {
    let world = World::locked();
    world.built(false, "one", &World::shared());
    let lock = || Lock::read(&world.path("p/requirements.lock")).unwrap().unwrap();
    let versions = |lock: &Lock| -> Vec<String> {
        lock.pins().iter().map(|pin| format!("{}=={}", pin.name, pin.version)).collect()
    };
    assert_eq!(versions(&lock()), ["granian==2.8.7", "greeter==1.0", "helper==1.5"]);
    let text = fs::read_to_string(world.path("p/requirements.lock")).unwrap();
    assert!(!text.contains('/') && !text.contains("wheels"), "no places in the lock:\n{text}");

    let requirements = fs::read_to_string(world.path("p/requirements.txt")).unwrap();
    world.write("p/requirements.txt", &requirements.replace("greeter<2", "greeter"));
    let (_, steps) = world.built(false, "two", "cache");
    assert!(steps.iter().any(|step| step == "resolving requirements"));
    assert_eq!(versions(&lock()), ["granian==2.8.7", "greeter==2.0", "helper==1.5"]);

    // What is installed must have the hash that the lock says.
    let tampered = lock().to_text().replace(&lock().pins()[2].sha256, &"0".repeat(64));
    world.write("p/requirements.lock", &tampered);
    let (refused, _) = world.build(false, "three", "cache");
    assert!(matches!(refused, Err(Error::Pip { .. })), "{refused:?}");
}

#[test]
fn requirements_with_hashes_are_held_to_them() {
    let world = World::new();
    let digest = |wheel: &str| hex::encode(Sha256::digest(fs::read(wheels().join(wheel)).unwrap()));
    let greeter = digest("greeter-1.0-py3-none-any.whl");
    let helper = digest("helper-1.5-py3-none-any.whl");
    let requirements = |greeter: &str| {
        let wheels = wheels();
        let options = format!("--no-index\n--find-links {}\n", wheels.display());
        let pins = format!("greeter==1.0 \\\n --hash=sha256:{greeter}\nhelper==1.5 --hash=sha256:{helper}\n");
        world.write("p/requirements.txt", &(options + &pins));
    };
    requirements(&greeter);
    world.built(false, "one", "cache");
    let lock = Lock::read(&world.path("p/requirements.lock")).unwrap().unwrap();
    let names: Vec<_> = lock.pins().iter().map(|pin| pin.name.as_str()).collect();
    assert_eq!(names, ["granian", "greeter", "helper"]);
    assert_eq!(lock.pins()[1].sha256, greeter);

    requirements(&"0".repeat(64));
    assert!(matches!(world.build(false, "two", "cache").0, Err(Error::Pip { .. })));
}

#[test]
fn an_encrypted_package_opens_with_its_key() {
    let world = World::locked();
    let (built, _) = world.built(true, "out", &World::shared());
    let key_path = built.key.unwrap();
    assert_eq!(key_path.with_extension("tar"), built.package);
    assert_eq!(fs::metadata(&key_path).unwrap().permissions().mode() & 0o777, 0o600);
    let package = Package::open(&built.package).unwrap();
    assert!(package.encrypted());
    assert_eq!(package.node_config().code, CodeForm::Encrypted);

    package.copy_code_archive(&world.path("app.tar.enc")).unwrap();
    let key = CodeKey::from_hex(fs::read_to_string(key_path).unwrap().trim()).unwrap();
    let sealed = fs::read(world.path("app.tar.enc")).unwrap();
    let mut plain = Vec::new();
    secrets::code::decrypt(&key, &sealed[..], &mut plain).unwrap();
    code_archive::check(&plain[..]).unwrap();
    assert!(!sealed.windows(7).any(|w| w == b"greeter"));

    let (again, _) = world.built(true, "again", &World::shared());
    assert_ne!(again.sha256, built.sha256, "a fresh key each time");
}

#[test]
fn the_application_may_come_from_a_requirement() {
    let world = World::locked();
    let with = |application: &str| {
        world.write("p/mse.toml", &CONFIG.replace("app:app", application));
        let output = application.replace([':', '(', ')'], "_");
        world.build(false, &output, &World::shared()).0.map(drop).map_err(|error| error.to_string())
    };
    assert_eq!(with("greeter:app"), Ok(()));
    assert_eq!(with("helper:app"), Ok(()));
    let error = with("greter:app").unwrap_err();
    assert!(error.contains("`greeter`"), "{error}");
    world.write("p/mse_src/app.py", "def create_app(config=None):\n    pass\n");
    let error = with("app:create_app").unwrap_err();
    assert!(error.contains("factory") && error.contains("`app:create_app()`"), "{error}");
    assert_eq!(with("app:create_app()"), Ok(()));
}

#[test]
fn requirements_inside_the_code_count_where_there_are_no_others() {
    let world = World::locked();
    let usual = world.path("p/requirements.txt");
    world.write("p/mse_src/requirements.txt", &fs::read_to_string(&usual).unwrap());
    fs::remove_file(usual).unwrap();
    let (built, _) = world.built(false, "out", &World::shared());
    Package::open(&built.package).unwrap().extract_image(&world.path("image")).unwrap();
    assert!(world.path("image/opt/mse/python/greeter/__init__.py").exists());
}

#[test]
fn a_repository_is_refused_before_anything_is_started() {
    let world = World::new();
    world.write("p/requirements.txt", "greeter\ngreeter @ git+https://host.invalid/greeter.git\n");
    let (refused, steps) = world.build(false, "out", "cache");
    let message = refused.unwrap_err().to_string();
    assert!(message.contains("requirements.txt, line 2") && message.contains("repository"), "{message}");
    assert!(!steps.iter().any(|step| step.contains("requirements")), "{steps:?}");
}

#[test]
fn projects_that_cannot_work_are_refused() {
    let world = World::locked();
    let refused = |expected: &str| {
        let (built, _) = world.build(false, "out", &World::shared());
        let message = built.unwrap_err().to_string();
        assert!(message.contains(expected), "{message}");
        assert!(!world.path("out").exists() || files(&world.path("out")).is_empty(), "something was left");
    };
    world.write("p/mse.toml", &CONFIG.replace("app:app", "web:app"));
    refused("web.py");
    world.write("p/mse.toml", CONFIG);

    let requirements = fs::read_to_string(world.path("p/requirements.txt")).unwrap();
    world.write("p/requirements.txt", &format!("{requirements}nonexistent-package\n"));
    refused("nonexistent-package");
    let wheel = wheels().join("helper-1.5-py3-none-any.whl");
    world.write("p/requirements.txt", &format!("{requirements}{}\n", wheel.display()));
    refused("a path is one of this machine");
    world.write("p/requirements.txt", &format!("{requirements}granian==2.8.6\n"));
    refused("granian");
    fs::remove_dir_all(world.path("p/mse_src")).unwrap();
    refused("mse_src");
}

#[test]
fn an_interpreter_without_pip_gets_one() {
    let dir = tempfile::tempdir().unwrap();
    let (bare, cache) = (dir.path().join("bare"), dir.path().join("cache"));
    let made = Command::new(Interpreter::discover().unwrap().path())
        .args(["-I", "-m", "venv", "--without-pip"])
        .arg(&bare)
        .status()
        .unwrap();
    assert!(made.success());
    let bare = Interpreter::at(&bare.join("bin/python3")).unwrap();
    let pip = Pip::of(&bare, &cache).unwrap();
    assert!(pip.python().starts_with(&cache), "{}", pip.python().display());
    let version = Command::new(pip.python()).args(["-m", "pip", "--version"]).output().unwrap();
    assert!(version.status.success());

    // The second time it is there, and is not made anew.
    let witness = pip.python().with_file_name("witness");
    fs::write(&witness, "").unwrap();
    assert_eq!(Pip::of(&bare, &cache).unwrap().python(), pip.python());
    assert!(witness.exists());
}
