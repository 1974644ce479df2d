//! What a path names may be anything: a FIFO that nobody writes into, a device, a directory. No command waits for it.

use std::fs;
use std::io::Write;
use std::process::{Command, Output, Stdio};

use crate::installation::{Installation, wait_for};

/// Runs a command that must end by itself.
fn end(mut command: Command) -> Output {
    let mut child =
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut waited = 0;
    wait_for("a command that reads a FIFO", || {
        waited += 1;
        // A minute of looks, of fifty milliseconds each.
        assert!(waited < 1200, "it waits for somebody who writes");
        child.try_wait().unwrap()
    });
    child.wait_with_output().unwrap()
}

#[test]
fn no_command_waits_for_a_fifo() {
    let person = Installation::new();
    person.run("home scaffold example", 0);
    assert!(Command::new("mkfifo").arg(person.path("fifo")).status().unwrap().success());
    let aes = "--aes 00112233445566778899aabbccddeeff";
    for line in [
        "home fingerprint --package PATH".to_owned(),
        "home verify --package PATH --evidence example/mse.toml --output out/".to_owned(),
        "home seal --secrets PATH --cert example/mse.toml --output out/".to_owned(),
        "home seal --secrets example/secrets.json --cert PATH --output out/".to_owned(),
        format!("home encrypt {aes} --output out PATH"),
        format!("home decrypt {aes} --output out PATH"),
        "home encrypt --key PATH --output out example/mse.toml".to_owned(),
        "quote inspect PATH".to_owned(),
        "quote verify --quote PATH".to_owned(),
        "quote verify --evidence PATH".to_owned(),
        "quote verify --quote example/mse.toml --collateral PATH".to_owned(),
        "quote verify --quote example/mse.toml --policy PATH".to_owned(),
        "quote verify --quote example/mse.toml --root-ca PATH".to_owned(),
        "sgx inspect PATH".to_owned(),
        "sgx measure --manifest PATH --libpal PATH".to_owned(),
        "cloud login --token-file PATH https://localhost:1".to_owned(),
        "cloud context import PATH".to_owned(),
    ] {
        for (path, word) in
            [("fifo", "a FIFO"), ("/dev/zero", "a character device"), ("example", "a directory")]
        {
            let output = end(person.mse(&line.replace("PATH", path)));
            let said = String::from_utf8_lossy(&output.stderr);
            assert_ne!(output.status.code(), Some(0), "{line}: {said}");
            // A package says it in its own words.
            assert!(said.contains(word) || said.contains("no regular file"), "{line}: {said}");
        }
    }

    // In a project.
    for name in ["mse.toml", "requirements.txt", "mse_src/.mseignore", "mse_src/app.py"] {
        let path = person.path("example").join(name);
        let kept = fs::read(&path).ok();
        let _ = fs::remove_file(&path);
        assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
        let output = end(person.mse("home package --project example --output packages/"));
        assert_ne!(output.status.code(), Some(0), "{name}: {}", String::from_utf8_lossy(&output.stderr));
        fs::remove_file(&path).unwrap();
        if let Some(kept) = kept {
            fs::write(&path, kept).unwrap();
        }
    }
}

/// A shell's `<(command)`, and a pipe into `/dev/stdin`.
#[test]
fn what_a_shell_gives_open_is_read() {
    let person = Installation::new();
    fs::write(person.path("plain"), b"plain").unwrap();
    let aes = "--aes 00112233445566778899aabbccddeeff";
    let mut encrypt = person
        .mse(&format!("home encrypt {aes} --output sealed /dev/stdin"))
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    encrypt.stdin.take().unwrap().write_all(b"plain").unwrap();
    assert!(encrypt.wait().unwrap().success());
    let decrypt = person.mse(&format!("home decrypt {aes} --output opened /dev/fd/0"));
    let mut from_file = decrypt;
    let status = from_file.stdin(fs::File::open(person.path("sealed")).unwrap()).status().unwrap();
    assert!(status.success());
    assert_eq!(fs::read(person.path("opened")).unwrap(), b"plain");
    let said = end(person.mse(&format!("home encrypt {aes} --output sealed /dev/stdin")));
    assert!(String::from_utf8_lossy(&said.stderr).contains("a character device"), "{said:?}");
}
