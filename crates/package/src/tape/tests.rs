//! Forms of tar: what real tools write, and what readers understand differently.
#![allow(clippy::unwrap_used)]

use super::*;

/// A tar of one entry, made by hand so that it can be as wrong as a test likes.
pub(crate) fn entry(path: &[u8], kind: u8, mode: u32, content: &[u8], link: &[u8]) -> Vec<u8> {
    let mut header = tar::Header::new_gnu();
    header.as_mut_bytes()[..path.len()].copy_from_slice(path);
    header.as_mut_bytes()[156] = kind;
    header.as_mut_bytes()[157..157 + link.len()].copy_from_slice(link);
    header.set_mode(mode);
    header.set_size(content.len() as u64);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    header.set_cksum();
    let mut bytes = header.as_bytes().to_vec();
    bytes.extend_from_slice(content);
    bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
    bytes
}

pub(crate) fn tape(entries: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = entries.concat();
    bytes.extend_from_slice(&[0; 2 * BLOCK]);
    bytes
}

fn read(bytes: &[u8]) -> Result<Vec<(String, Kind, Vec<u8>)>> {
    let mut reader = TapeReader::new("test.tar", bytes);
    let mut all = Vec::new();
    while let Some(entry) = reader.next_entry()? {
        let mut content = Vec::new();
        reader.read_to_end(&mut content).map_err(|e| reader.damaged("content", e))?;
        all.push((entry.path, entry.kind, content));
    }
    Ok(all)
}

#[test]
fn reads_what_it_writes() {
    let long = format!("{}/{}", "d".repeat(200), "f".repeat(200));
    let mut writer = TapeWriter::new(Vec::new());
    writer.file("a/b", true, 3, &b"abc"[..]).unwrap();
    writer.file(&long, false, 0, &b""[..]).unwrap();
    let bytes = writer.finish().unwrap();
    assert_eq!(
        read(&bytes).unwrap(),
        [("a/b".into(), Kind::File, b"abc".to_vec()), (long, Kind::File, vec![]),]
    );
    // The common reader of such archives sees the same.
    let names: Vec<_> = (tar::Archive::new(&bytes[..]).entries().unwrap())
        .map(|e| e.unwrap().path().unwrap().display().to_string().len())
        .collect();
    assert_eq!(names, [3, 401]);
}

#[test]
fn paths_have_one_form() {
    assert_eq!(clean_path(b"./a//b/./c/").unwrap(), "a/b/c");
    assert_eq!(clean_path(b"./").unwrap(), "");
    assert_eq!(clean_path(b"..a/b..").unwrap(), "..a/b..");
    for bad in [&b"/a"[..], b"..", b"a/../b", b"a/..", b"", b"a\0b", b"\xff", &[b'a'; 5000], &[b'a'; 256]] {
        assert!(clean_path(bad).is_err(), "{}", printable(bad));
    }
}

#[test]
fn pax_names_are_read() {
    let records = b"30 mtime=1350244992.023960108\n19 path=other/name\n";
    let bytes =
        tape(&[entry(b"PaxHeaders/x", b'x', 0o644, records, b""), entry(b"short", b'0', 0o644, b"!", b"")]);
    assert_eq!(read(&bytes).unwrap(), [("other/name".into(), Kind::File, b"!".to_vec())]);
    for bad in [
        &b"12 size=999\n"[..],
        b"22 GNU.sparse.major=1\n",
        b"999 path=a\n",
        b"x",
        b"0 a=b\n",
        b"+9 path=a\n",
        b"5 =a\n",
        b"00000000000000000000010 path=a\n",
    ] {
        let bytes = tape(&[entry(b"p", b'x', 0o644, bad, b""), entry(b"a", b'0', 0o644, b"", b"")]);
        assert!(read(&bytes).is_err(), "{}", printable(bad));
    }
}

#[test]
fn a_damaged_end_is_refused() {
    let whole = tape(&[entry(b"a", b'0', 0o644, b"abc", b"")]);
    assert!(read(&whole).is_ok());
    for cut in [0, 1, 511, 512, 514, 1023, 1024, 1536, whole.len() - 1] {
        assert!(read(&whole[..cut]).is_err(), "cut at {cut}");
    }
    let padded = [&whole[..], &[0; 4096]].concat();
    assert!(read(&padded).is_ok());
    let trailing = [&whole[..], b"x"].concat();
    assert!(read(&trailing).is_err());
    let mut flipped = whole.clone();
    flipped[3] ^= 1;
    assert!(read(&flipped).is_err());
}

#[test]
fn headers_that_would_fill_memory_are_refused() {
    let long = vec![b'a'; 10_000];
    let bytes = tape(&[entry(b"n", b'L', 0o644, &long, b""), entry(b"a", b'0', 0o644, b"", b"")]);
    assert!(matches!(read(&bytes), Err(Error::Limit { .. })));
    let bytes = tape(&[entry(b"n", b'L', 0o644, b"name\0", b"")]);
    assert!(matches!(read(&bytes), Err(Error::Archive { .. })), "a long name of nothing");
}

proptest::proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..3000)) {
        let _ = read(&bytes);
    }

    #[test]
    fn any_header_is_read_or_refused(
        flips in proptest::collection::vec((0usize..512, proptest::num::u8::ANY), 1..6),
    ) {
        let mut bytes = entry(b"some/path", b'0', 0o644, b"content", b"");
        for (at, value) in flips {
            bytes[at] = value;
        }
        let mut header = tar::Header::new_old();
        header.as_mut_bytes().copy_from_slice(&bytes[..512]);
        header.set_cksum();
        bytes[..512].copy_from_slice(header.as_bytes());
        if let Ok(entries) = read(&tape(&[bytes])) {
            for (path, ..) in entries {
                proptest::prop_assert!(!path.starts_with('/') && !path.split('/').any(|c| c == ".."));
            }
        }
    }
}
fn record(key: &str, value: &[u8]) -> Vec<u8> {
    let content = [b" ", key.as_bytes(), b"=", value, b"\n"].concat();
    let mut length = content.len() + 1;
    while length.to_string().len() + content.len() != length {
        length = length.to_string().len() + content.len();
    }
    [length.to_string().as_bytes(), &content].concat()
}

fn pax(kind: u8, records: &[(&str, &[u8])]) -> Vec<u8> {
    let records: Vec<_> = records.iter().map(|(key, value)| record(key, value)).collect();
    entry(b"PaxHeaders/x", kind, 0o644, &records.concat(), b"")
}

fn long(kind: u8, text: &[u8]) -> Vec<u8> {
    entry(b"././@LongLink", kind, 0o644, &[text, b"\0"].concat(), b"")
}

fn file(path: &[u8]) -> Vec<u8> {
    entry(path, b'0', 0o644, b"data", b"")
}

/// An entry with these bytes at these places of its header, and the checksum right again.
fn with(mut entry: Vec<u8>, patches: &[(usize, &[u8])]) -> Vec<u8> {
    for (at, bytes) in patches {
        entry[*at..at + bytes.len()].copy_from_slice(bytes);
    }
    let mut header = tar::Header::new_old();
    header.as_mut_bytes().copy_from_slice(&entry[..BLOCK]);
    header.set_cksum();
    entry[..BLOCK].copy_from_slice(header.as_bytes());
    entry
}

#[test]
fn forms_that_readers_understand_differently_are_refused() {
    const USTAR: (usize, &[u8]) = (257, b"ustar\x0000");
    let first_records = || pax(b'x', &[("path", b"seen/by-pax")]);
    let cases: Vec<(&str, Vec<Vec<u8>>)> = vec![
        ("long-name-then-pax", vec![long(b'L', b"seen/by-long"), first_records(), file(b"plain")]),
        ("pax-then-long-name", vec![first_records(), long(b'L', b"seen/by-long"), file(b"plain")]),
        ("long-link-then-pax", vec![long(b'K', b"target"), first_records(), file(b"plain")]),
        ("pax-twice", vec![first_records(), pax(b'x', &[("mtime", b"1")]), file(b"plain")]),
        ("pax-then-global", vec![first_records(), pax(b'g', &[("comment", b"c")]), file(b"plain")]),
        ("long-name-then-global", vec![long(b'L', b"a"), pax(b'g', &[("comment", b"c")]), file(b"plain")]),
        ("long-name-twice", vec![long(b'L', b"a"), long(b'L', b"b"), file(b"plain")]),
        ("ustar-version-01", vec![with(file(b"tail"), &[(257, b"ustar\x0001"), (345, b"prefix")])]),
        ("ustar-without-version", vec![with(file(b"tail"), &[(257, b"ustar\0\0\0")])]),
        (
            "star-prefix",
            vec![with(
                file(b"tail"),
                &[USTAR, (345, &[b'p'; 131]), (476, b"00000000000\0"), (508, b"tar\0")],
            )],
        ),
        (
            "star-without-its-magic",
            vec![with(file(b"tail"), &[USTAR, (345, b"prefix"), (476, b"00000000000\0")])],
        ),
        ("v7-with-prefix", vec![with(file(b"tail"), &[(257, &[0; 8]), (345, b"prefix")])]),
        ("gnu-with-prefix", vec![with(file(b"tail"), &[(345, b"prefix")])]),
        ("unknown-magic", vec![with(file(b"tail"), &[(257, b"schily\0\0")])]),
        ("file-with-a-slash", vec![entry(b"thing/", b'0', 0o644, b"", b"")]),
        (
            "old-file-with-a-slash-in-pax-only",
            vec![pax(b'x', &[("path", b"thing/")]), entry(b"thing", 0, 0o644, b"", b"")],
        ),
        (
            "old-file-with-a-slash-in-the-header-only",
            vec![pax(b'x', &[("path", b"thing")]), entry(b"thing/", 0, 0o644, b"", b"")],
        ),
        ("link-with-a-slash", vec![entry(b"thing/", b'2', 0o644, b"", b"target")]),
        ("empty-pax-path", vec![pax(b'x', &[("path", b"")]), file(b"plain")]),
        ("empty-pax-link", vec![pax(b'x', &[("linkpath", b"")]), entry(b"a", b'2', 0o777, b"", b"b")]),
        ("pax-path-twice", vec![pax(b'x', &[("path", b"first"), ("path", b"second")]), file(b"plain")]),
        ("pax-path-with-nul", vec![pax(b'x', &[("path", b"a\0b")]), file(b"plain")]),
        ("pax-link-with-nul", vec![pax(b'x', &[("linkpath", b"a\0b")]), entry(b"a", b'2', 0o777, b"", b"b")]),
        ("long-link-with-nul", vec![long(b'K', b"a\0b"), entry(b"a", b'2', 0o777, b"", b"b")]),
        ("pax-size-twice", vec![pax(b'x', &[("size", b"4"), ("size", b"4")]), file(b"plain")]),
        ("pax-size-beside-another", vec![pax(b'x', &[("size", b"3")]), file(b"plain")]),
        ("pax-size-signed", vec![pax(b'x', &[("size", b"+4")]), file(b"plain")]),
        (
            "pax-size-of-a-directory",
            vec![pax(b'x', &[("size", b"512")]), entry(b"d/", b'5', 0o755, b"", b""), vec![0; 512]],
        ),
        (
            "other-character-set",
            vec![pax(b'x', &[("hdrcharset", b"BINARY"), ("path", b"a")]), file(b"plain")],
        ),
        (
            "sparse-1.0",
            vec![pax(b'x', &[("GNU.sparse.major", b"1"), ("GNU.sparse.name", b"x")]), file(b"plain")],
        ),
        ("sparse-0.1", vec![pax(b'x', &[("GNU.sparse.map", b"0,4")]), file(b"plain")]),
        ("sparse-of-star", vec![pax(b'x', &[("SCHILY.realsize", b"4")]), file(b"plain")]),
        ("old-sparse", vec![entry(b"a", b'S', 0o644, b"", b"")]),
        ("type-of-star", vec![pax(b'x', &[("SCHILY.filetype", b"dir")]), file(b"plain")]),
        (
            "overlay-redirect",
            vec![
                pax(b'x', &[("SCHILY.xattr.trusted.overlay.redirect", b"/etc")]),
                entry(b"d/", b'5', 0o755, b"", b""),
            ],
        ),
        (
            "overlay-whiteout",
            vec![
                pax(b'x', &[("SCHILY.xattr.user.overlay.opaque", b"y")]),
                entry(b"d/", b'5', 0o755, b"", b""),
            ],
        ),
        (
            "overlay-by-libarchive",
            vec![
                pax(b'x', &[("LIBARCHIVE.xattr.trusted.overlay.opaque", b"eQ")]),
                entry(b"d/", b'5', 0o755, b"", b""),
            ],
        ),
        ("global-path", vec![pax(b'g', &[("path", b"a")]), file(b"plain")]),
        ("global-size", vec![pax(b'g', &[("size", b"4")]), file(b"plain")]),
        ("global-character-set", vec![pax(b'g', &[("hdrcharset", b"BINARY")]), file(b"plain")]),
        ("global-attribute", vec![pax(b'g', &[("SCHILY.xattr.user.a", b"b")]), file(b"plain")]),
        ("contiguous", vec![entry(b"contig", b'7', 0o644, b"data", b"")]),
        ("dump-directory", vec![entry(b"d/", b'D', 0o755, b"", b"")]),
        ("volume-label", vec![entry(b"label", b'V', 0o644, b"", b"")]),
        ("next-volume", vec![entry(b"a", b'M', 0o644, b"data", b"")]),
        ("solaris", vec![entry(b"a", b'X', 0o644, b"", b""), file(b"plain")]),
        ("unknown-type", vec![entry(b"a", b'Z', 0o644, b"data", b"")]),
        ("link-of-a-size", vec![entry(b"a", b'1', 0o644, b"data", b"b")]),
        ("link-without-target", vec![entry(b"a", b'2', 0o777, b"", b"")]),
        ("negative-size", vec![with(file(b"a"), &[(124, &[0xff; 12])])]),
        ("size-of-two-readings", vec![with(file(b"a"), &[(124, b"4\x004\0\0\0\0\0\0\0\0\0")])]),
        ("size-behind-nul", vec![with(file(b"a"), &[(124, b"\x0000000000004")])]),
        (
            "signed-checksum",
            vec![{
                let mut entry = file("é".as_bytes());
                let sum: i64 = (entry[..BLOCK].iter().enumerate())
                    .map(|(i, &b)| if (148..156).contains(&i) { 32 } else { i64::from(b as i8) })
                    .sum();
                entry[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
                entry
            }],
        ),
    ];
    for (name, entries) in cases {
        assert!(read(&tape(&entries)).is_err(), "{name} was read: {:?}", read(&tape(&entries)));
    }
    let hidden =
        [&file(b"a")[..], &[0; BLOCK], &entry(b"hidden", b'0', 0o644, b"", b""), &[0; 2 * BLOCK]].concat();
    assert!(read(&hidden).is_err(), "an entry behind one zero block");
}

#[test]
fn forms_that_real_tools_write_are_read() {
    const USTAR: (usize, &[u8]) = (257, b"ustar\x0000");
    let one = |name: &str| vec![(name.to_owned(), Kind::File, b"data".to_vec())];
    let big_octal = with(file(b"a"), &[(124, b"\x80\0\0\0\0\0\0\0\0\0\0\x04")]);
    for (name, entries, expected) in [
        ("ustar-prefix", vec![with(file(b"tail"), &[USTAR, (345, b"some/prefix")])], one("some/prefix/tail")),
        ("v7", vec![with(file(b"a"), &[(257, &[0; 8])])], one("a")),
        ("v7-of-gnu", vec![with(file(b"a"), &[(257, &[0; 8]), (329, b"0000000\x000000000\0")])], one("a")),
        ("v7-old-type", vec![with(entry(b"a", 0, 0o644, b"data", b""), &[(257, &[0; 8])])], one("a")),
        ("git-comment", vec![pax(b'g', &[("comment", b"0123abcd")]), file(b"a")], one("a")),
        ("base-256", vec![big_octal], one("a")),
        ("spaces", vec![with(file(b"a"), &[(100, b"   644 \0"), (124, b"          4 ")])], one("a")),
        (
            "pax-size-alone",
            vec![pax(b'x', &[("size", b"4")]), with(file(b"a"), &[(124, b"00000000000\0")])],
            one("a"),
        ),
        ("pax-size-the-same", vec![pax(b'x', &[("size", b"4")]), file(b"a")], one("a")),
        ("long-name-and-link", vec![long(b'K', b"x"), long(b'L', b"a"), file(b"short")], one("a")),
        (
            "utf-8",
            vec![
                pax(b'x', &[("hdrcharset", b"ISO-IR 10646 2000 UTF-8"), ("path", "é".as_bytes())]),
                file(b"a"),
            ],
            one("é"),
        ),
        (
            "capabilities",
            vec![pax(b'x', &[("SCHILY.xattr.security.capability", b"\x01\0\0\x02")]), file(b"a")],
            one("a"),
        ),
        (
            "bsdtar",
            vec![
                pax(
                    b'x',
                    &[
                        ("SCHILY.dev", b"1"),
                        ("SCHILY.ino", b"2"),
                        ("SCHILY.nlink", b"1"),
                        ("LIBARCHIVE.creationtime", b"1.5"),
                    ],
                ),
                file(b"a"),
            ],
            one("a"),
        ),
        (
            "old-directory",
            vec![entry(b"d/", 0, 0o755, b"", b"")],
            vec![("d".into(), Kind::Directory, vec![])],
        ),
    ] {
        assert_eq!(read(&tape(&entries)).map_err(|e| format!("{name}: {e}")), Ok(expected));
    }
}

#[test]
fn a_pax_size_replaces_one_that_the_header_cannot_hold() {
    // The content is not there: what counts is how long it is said to be.
    let size = 9u64 << 30;
    for header_size in [&b"00000000000\0"[..], b"77777777777\0"] {
        let bytes = [
            pax(b'x', &[("size", size.to_string().as_bytes())]),
            with(entry(b"big", b'0', 0o644, b"", b""), &[(124, header_size)]),
        ]
        .concat();
        let mut reader = TapeReader::new("test.tar", &bytes[..]);
        assert_eq!(reader.next_entry().unwrap().unwrap().size, size);
        assert!(reader.next_entry().is_err());
    }
}

#[test]
fn paths_are_not_deep_without_end() {
    assert!(clean_path("d/".repeat(256).as_bytes()).is_ok());
    assert!(clean_path("d/".repeat(257).as_bytes()).is_err());
    assert_eq!(clean_path("./".repeat(1000).as_bytes()).unwrap(), "");
}

#[test]
fn what_is_no_tar_is_named() {
    for (head, found) in [
        (&b"name = \"x\"\n"[..], "a text file"),
        (b"", "an empty file"),
        (&[b"\x1f\x8b".as_slice(), &[7; 600]].concat(), "a gzip file"),
    ] {
        let error = read(head).unwrap_err().to_string();
        assert!(error.contains(found), "{error}");
    }
    assert_eq!(foreign(&tape(&[file(b"a text file")])[..BLOCK]), None);
}
