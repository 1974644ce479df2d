//! What a file is that is not what was asked for, by its first bytes: for messages, and for nothing else.

/// Names the kind of file that begins with `head` (512 bytes are enough); `None` if nothing is known.
pub(crate) fn describe(head: &[u8]) -> Option<&'static str> {
    const MAGIC: [(&[u8], &str); 11] = [
        (b"\x1f\x8b", "a gzip file"),
        (b"\x28\xb5\x2f\xfd", "a zstd file"),
        (b"\xfd7zXZ\0", "an xz file"),
        (b"BZh", "a bzip2 file"),
        (b"PK\x03\x04", "a zip file"),
        (b"\x7fELF", "an ELF file (a program or a shared object)"),
        (b"-----BEGIN ", "a PEM file (a certificate or a key)"),
        (b"\x89PNG", "a picture"),
        (b"hsqs", "a squashfs image"),
        (b"SQLite format 3\0", "an SQLite database"),
        (b"\x30\x82", "a DER file (a certificate or a CRL)"),
    ];
    if head.is_empty() {
        return Some("an empty file");
    }
    if let Some((_, name)) = MAGIC.iter().find(|(magic, _)| head.starts_with(magic)) {
        return Some(name);
    }
    // The last character may be cut.
    let text = match std::str::from_utf8(head) {
        Ok(text) => text,
        Err(e) if e.error_len().is_none() => {
            std::str::from_utf8(&head[..e.valid_up_to()]).unwrap_or_default()
        }
        Err(_) => "",
    };
    if !text.is_empty() && !text.contains(|c: char| c.is_control() && !c.is_whitespace()) {
        return Some(if text.trim_start().starts_with('{') { "a JSON file" } else { "a text file" });
    }
    head.iter().all(|&b| b == 0).then_some("zeros")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_named_by_how_they_begin() {
        for (head, name) in [
            (&b""[..], Some("an empty file")),
            (b"name = \"x\"\n", Some("a text file")),
            ("né".as_bytes(), Some("a text file")),
            (&"né".as_bytes()[..2], Some("a text file")),
            (b" {\"version\": 1", Some("a JSON file")),
            (b"\x1f\x8b\x08", Some("a gzip file")),
            (b"-----BEGIN CERTIFICATE-----\n", Some("a PEM file (a certificate or a key)")),
            (&[0; 512], Some("zeros")),
            (b"\xff\x01\x02", None),
            (b"text\0with NUL", None),
        ] {
            assert_eq!(describe(head), name, "{}", head.escape_ascii());
        }
    }
}
