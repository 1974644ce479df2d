//! Images that engines build, and images that somebody made by hand.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::engine::{account, build_ca, docker};
use crate::installation::{Installation, free_port};
use crate::nodes::{only_package, project, status};

fn package(person: &Installation, name: &str) -> String {
    person.run(
        &format!("home package --project {name} --builder docker --output out-{name} {}", build_ca()),
        0,
    );
    only_package(person, &format!("out-{name}"))
}

/// The package's fingerprint for the smallest enclave.
fn fingerprint(person: &Installation, package: &str) -> String {
    person.run(&format!("home fingerprint --package {package} --size 1024"), 0).trim().to_owned()
}

#[test]
fn a_dockerfile_that_installs_and_removes() {
    let Some(person) = account() else { return };
    project(
        &person,
        "whited",
        "FROM mse-base\n\
         RUN apt-get update && apt-get install --yes --no-install-recommends libyaml-0-2 && rm -rf /var/lib/apt/lists/*\n\
         RUN mkdir /opt/gone /opt/kept && touch /opt/gone/a /opt/kept/b && python3 -m pip install --no-compile six\n\
         RUN rm -rf /opt/gone /usr/share/doc && rm -rf /opt/kept && mkdir /opt/kept\n",
    );
    let package = package(&person, "whited");
    let image = members(&person, &package, "image.tar");
    assert!(!image.is_empty());
    person.run(
        &format!("home spawn --port {} --size 1024 --package {package} --output at whited", free_port()),
        0,
    );
    person.run("home run whited", 0);
    assert_eq!(status(&person, "whited")["state"], "running");

    // The same Dockerfile again, and the same image saved again: the same fingerprint.
    let again = self::package(&person, "whited");
    assert_eq!(fingerprint(&person, &package), fingerprint(&person, &again));
}

#[test]
fn no_layer_keeps_the_ca_of_the_build() {
    let Some(person) = account() else { return };
    if build_ca().is_empty() {
        eprintln!("skipped: this machine has no bundle of CAs");
        return;
    }
    project(
        &person,
        "trusting",
        "FROM mse-base AS one\nRUN test -s $PIP_CERT\nFROM one\nRUN test -s $SSL_CERT_FILE\n",
    );
    let package = package(&person, "trusting");
    let image = person.path("image");
    fs::create_dir(&image).unwrap();
    let tar = |arguments: &[&str]| {
        assert!(Command::new("tar").args(arguments).status().unwrap().success(), "tar {arguments:?}");
    };
    let at = |path: &Path| path.to_str().unwrap().to_owned();
    tar(&["-xf", &at(&person.path(&package)), "-C", &at(&image), "image.tar"]);
    tar(&["-xf", &at(&image.join("image.tar")), "-C", &at(&image)]);
    fs::remove_file(image.join("image.tar")).unwrap();
    let mut files = vec![image];
    let mut looked_at = 0;
    while let Some(path) = files.pop() {
        if path.is_dir() {
            files.extend(fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
            continue;
        }
        let content = fs::read(&path).unwrap();
        let holds = |text: &[u8]| content.windows(text.len()).any(|window| window == text);
        assert!(!holds(b"mse-build-ca"), "{}", path.display());
        looked_at += 1;
    }
    assert!(looked_at > 3);
    // Nor does the base image, in the engine.
    let inside = docker(&["run", "--rm", "mse-base", "sh", "-c", "env; ls /run"]);
    assert!(!inside.contains("mse-build-ca"), "{inside}");
}

#[test]
fn an_image_cannot_take_a_local_name() {
    let Some(person) = account() else { return };
    let before = docker(&["image", "inspect", "--format", "{{.Id}}", "debian:bookworm"]);
    // Somebody's image under the name of the distribution's, saved by the engine and put into a package by hand.
    project(
        &person,
        "evil",
        "FROM mse-base\nRUN touch /evil\nCMD [\"/evil\"]\nENV EVIL=1\nVOLUME /opt/mse\n",
    );
    let package = package(&person, "evil");
    let folder = person.path("unpacked");
    fs::create_dir(&folder).unwrap();
    let run = |line: &str| {
        assert!(
            Command::new("sh").args(["-ec", line]).current_dir(&folder).status().unwrap().success(),
            "{line}"
        );
    };
    run(&format!("tar -xf '{}'", person.path(&package).display()));
    docker(&["tag", "mse-base", "evil-names:1"]);
    docker(&["save", "--output", folder.join("saved.tar").to_str().unwrap(), "evil-names:1"]);
    docker(&["rmi", "evil-names:1"]);
    run("mkdir saved && tar -xf saved.tar -C saved && rm saved.tar \
         && sed -i 's/evil-names:1/debian:bookworm/' saved/manifest.json && rm -f saved/repositories \
         && tar -cf image.tar -C saved $(ls saved) && rm -r saved && tar -cf ../evil.tar *");
    person.run(
        &format!("home spawn --port {} --size 1024 --package evil.tar --output at evil", free_port()),
        0,
    );
    assert_eq!(docker(&["image", "inspect", "--format", "{{.Id}}", "debian:bookworm"]), before);
    person.run("home stop --remove evil", 0);
    assert_eq!(docker(&["image", "inspect", "--format", "{{.Id}}", "debian:bookworm"]), before);
}

fn members(person: &Installation, package: &str, name: &str) -> Vec<u8> {
    let output = Command::new("tar").arg("-xOf").arg(person.path(package)).arg(name).output().unwrap();
    assert!(output.status.success());
    output.stdout
}
