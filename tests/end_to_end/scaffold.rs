//! `mse home scaffold`, and the bare command line.

use std::fs;

use crate::installation::Installation;

#[test]
fn a_project_is_written_whole_with_keys_of_its_own() {
    let person = Installation::new();
    person.run("home scaffold one", 0);
    person.run("home scaffold two", 0);
    for file in [
        "mse.toml",
        "Dockerfile",
        "requirements.txt",
        "README.md",
        "secrets.json",
        "secrets_to_seal.json",
        "mse_src/app.py",
        "mse_src/.mseignore",
        "tests/conftest.py",
        "tests/test_app.py",
    ] {
        let text = fs::read_to_string(person.path("one").join(file)).unwrap();
        assert!(!text.contains("{{"), "{file} has a hole: {text}");
    }
    let read = |path: &str| fs::read_to_string(person.path(path)).unwrap();
    assert_ne!(read("one/secrets_to_seal.json"), read("two/secrets_to_seal.json"));
    assert!(read("one/secrets.json").contains("00112233445566778899aabbccddeeff"));
}

#[test]
fn a_bad_name_or_a_directory_that_exists_is_refused() {
    let person = Installation::new();
    let before = || fs::read_dir(person.work()).unwrap().count();
    for name in ["../up", ".hidden", "a/b"] {
        let said = person.talk(&format!("home scaffold {name}"), 2);
        assert!(said.contains("hint:"), "{said}");
    }
    assert_eq!(before(), 0);
    fs::create_dir(person.path("taken")).unwrap();
    person.run("home scaffold taken", 2);
    assert_eq!(fs::read_dir(person.path("taken")).unwrap().count(), 0);
}

#[test]
fn the_default_environment_lends_its_verbs() {
    let person = Installation::new();
    let output = person.mse("scaffold short").env("MSE_DEFAULT_ENV", "home").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(person.path("short/mse.toml").is_file());
    assert_eq!(person.mse("scaffold other").output().unwrap().status.code(), Some(2));
}

#[test]
fn a_file_goes_through_encrypt_and_decrypt() {
    let person = Installation::new();
    fs::write(person.path("plain"), b"\x00\xffdata").unwrap();
    fs::write(person.path("key.txt"), "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=\n").unwrap();
    for key in ["--aes 00112233445566778899aabbccddeeff", "--key key.txt"] {
        person.run(&format!("home encrypt {key} --output sealed plain"), 0);
        person.run(&format!("home decrypt {key} --output opened sealed"), 0);
        assert_eq!(fs::read(person.path("opened")).unwrap(), b"\x00\xffdata");
        fs::remove_file(person.path("opened")).unwrap();

        let mut damaged = fs::read(person.path("sealed")).unwrap();
        let last = damaged.len() - 9;
        damaged[last] ^= 1;
        fs::write(person.path("damaged"), damaged).unwrap();
        person.run(&format!("home decrypt {key} --output opened damaged"), 1);
        assert!(!person.path("opened").exists());
    }
    person.run("home decrypt --aes 0011 --output opened sealed", 1);
}
