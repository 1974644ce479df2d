//! The text files of a project, whatever editor wrote them.
//!
//! UTF-8 with or without a byte order mark, and UTF-16 and UTF-32 with one, are read. A requirements file may also
//! declare its encoding as Python source does (PEP 263), since pip reads it so. Anything else is refused with a guess at
//! what it is: a wrong guess taken for the truth would change what is installed, or what stays out of a package.

use std::path::Path;

use crate::{Error, Result};

/// Reads the text file at `path`, of at most `limit` bytes and without NUL characters.
///
/// # Errors
/// [`Error::Io`] for what cannot be read or is no regular file, [`Error::Limit`] for a larger one, [`Error::Text`] for
/// other encodings.
pub fn read(path: &Path, limit: u64) -> Result<String> {
    decode(&read_bytes(path, limit)?).map_err(|wrong| wrong.of(path))
}

/// [`read`], and a PEP 263 comment in the first two lines counts, unless there is a byte order mark.
pub fn read_declared(path: &Path, limit: u64) -> Result<String> {
    decode_declared(&read_bytes(path, limit)?).map_err(|wrong| wrong.of(path))
}

fn read_bytes(path: &Path, limit: u64) -> Result<Vec<u8>> {
    outside::files::read(path, limit).map_err(|error| match error.kind() {
        std::io::ErrorKind::FileTooLarge => {
            Error::Limit { what: path.display().to_string(), limit: format!("{limit} bytes") }
        }
        _ => Error::io("read", path)(error),
    })
}

/// Why bytes are no text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wrong {
    /// Line number, from 1.
    pub line: usize,
    /// What stands there, and what encoding that looks like.
    pub found: String,
}

impl Wrong {
    fn of(self, path: &Path) -> Error {
        Error::Text { file: path.display().to_string(), line: self.line, found: self.found }
    }
}

const MARKS: [(&[u8], Encoding); 5] = [
    (b"\xef\xbb\xbf", Encoding::Utf8),
    // Before UTF-16, whose mark is a prefix of this one.
    (b"\xff\xfe\0\0", Encoding::Utf32 { big: false }),
    (b"\0\0\xfe\xff", Encoding::Utf32 { big: true }),
    (b"\xff\xfe", Encoding::Utf16 { big: false }),
    (b"\xfe\xff", Encoding::Utf16 { big: true }),
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Encoding {
    Utf8,
    Utf16 { big: bool },
    Utf32 { big: bool },
    Ascii,
    Latin1,
    Latin9,
    Windows1252,
}

/// Decodes text by its byte order mark, else as UTF-8. The mark is no part of the result.
pub fn decode(bytes: &[u8]) -> Result<String, Wrong> {
    match mark(bytes) {
        Some((encoding, rest)) => decode_as(encoding, rest),
        None => decode_as(Encoding::Utf8, bytes),
    }
}

/// Decodes text by its byte order mark, else by its PEP 263 comment, else as UTF-8.
pub fn decode_declared(bytes: &[u8]) -> Result<String, Wrong> {
    if mark(bytes).is_none()
        && let Some((line, name)) = declared(bytes)
    {
        let Some(encoding) = named(&name) else {
            let found = format!(
                "the declaration of an encoding that is not read here, `{}`: UTF-8, ASCII, Latin-1, Latin-9 and \
                 Windows-1252 can be declared",
                printable(&name, 40)
            );
            return Err(Wrong { line, found });
        };
        return decode_as(encoding, bytes);
    }
    decode(bytes)
}

fn mark(bytes: &[u8]) -> Option<(Encoding, &[u8])> {
    MARKS.iter().find_map(|(mark, encoding)| bytes.strip_prefix(*mark).map(|rest| (*encoding, rest)))
}

/// The line and the encoding that a comment in the first two lines names: `# -*- coding: latin-1 -*-`.
fn declared(bytes: &[u8]) -> Option<(usize, String)> {
    let lines = bytes.split(|b| *b == b'\n').take(2).enumerate().filter(|(_, line)| line.starts_with(b"#"));
    for (number, line) in lines {
        let line = String::from_utf8_lossy(&line[..line.len().min(1024)]);
        for (at, _) in line.match_indices("coding") {
            let Some(rest) = line[at + "coding".len()..].strip_prefix([':', '=']) else { continue };
            let name = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
            let name: String = rest.trim_start().chars().take_while(name).collect();
            if !name.is_empty() {
                return Some((number + 1, name));
            }
        }
    }
    None
}

fn named(name: &str) -> Option<Encoding> {
    match name.to_ascii_lowercase().replace('_', "-").as_str() {
        "utf-8" | "utf8" | "u8" | "utf-8-sig" => Some(Encoding::Utf8),
        "ascii" | "us-ascii" | "646" => Some(Encoding::Ascii),
        "latin-1" | "latin1" | "l1" | "iso-8859-1" | "iso8859-1" | "8859" | "cp819" => Some(Encoding::Latin1),
        "latin-9" | "l9" | "iso-8859-15" | "iso8859-15" => Some(Encoding::Latin9),
        "windows-1252" | "cp1252" | "1252" => Some(Encoding::Windows1252),
        _ => None,
    }
}

fn decode_as(encoding: Encoding, bytes: &[u8]) -> Result<String, Wrong> {
    let text = match encoding {
        Encoding::Utf8 => match std::str::from_utf8(bytes) {
            Ok(text) => text.to_owned(),
            Err(error) => return Err(not_utf8(bytes, error.valid_up_to())),
        },
        Encoding::Utf16 { big } => decode_utf16(bytes, big)?,
        Encoding::Utf32 { big } => decode_utf32(bytes, big)?,
        single => decode_single(bytes, single)?,
    };
    match text.find('\0') {
        None => Ok(text),
        Some(at) => {
            let line = line_at(text.as_bytes(), at);
            Err(Wrong { line, found: format!("a NUL character, {}", guess_at_nul(bytes)) })
        }
    }
}

fn decode_utf16(bytes: &[u8], big: bool) -> Result<String, Wrong> {
    let units = bytes.chunks_exact(2).map(|pair| match big {
        true => u16::from_be_bytes([pair[0], pair[1]]),
        false => u16::from_le_bytes([pair[0], pair[1]]),
    });
    let mut text = String::with_capacity(bytes.len());
    for unit in char::decode_utf16(units) {
        match unit {
            Ok(c) => text.push(c),
            Err(_) => return Err(wrong_at_end(&text, "half of a surrogate pair in UTF-16")),
        }
    }
    match bytes.len() % 2 {
        0 => Ok(text),
        _ => Err(wrong_at_end(&text, "half of a UTF-16 unit at the end")),
    }
}

fn decode_utf32(bytes: &[u8], big: bool) -> Result<String, Wrong> {
    let mut text = String::with_capacity(bytes.len() / 4);
    for unit in bytes.chunks(4) {
        let unit = <[u8; 4]>::try_from(unit).ok().map(|unit| match big {
            true => u32::from_be_bytes(unit),
            false => u32::from_le_bytes(unit),
        });
        match unit.and_then(char::from_u32) {
            Some(c) => text.push(c),
            None => return Err(wrong_at_end(&text, "what is no UTF-32, after its byte order mark")),
        }
    }
    Ok(text)
}

fn decode_single(bytes: &[u8], encoding: Encoding) -> Result<String, Wrong> {
    let mut text = String::with_capacity(bytes.len());
    for byte in bytes {
        let c = match (encoding, byte) {
            (_, 0..=0x7f) | (Encoding::Latin1, _) => Some(char::from(*byte)),
            (Encoding::Latin9, _) => {
                Some(LATIN_9.iter().find(|(at, _)| at == byte).map_or(char::from(*byte), |(_, c)| *c))
            }
            (Encoding::Windows1252, 0x80..=0x9f) => WINDOWS_1252[usize::from(byte - 0x80)],
            (Encoding::Windows1252, _) => Some(char::from(*byte)),
            _ => None,
        };
        match c {
            Some(c) => text.push(c),
            None => {
                return Err(wrong_at_end(&text, &format!("the byte 0x{byte:02X}, against its declaration")));
            }
        }
    }
    Ok(text)
}

/// Where ISO 8859-15 differs from ISO 8859-1.
const LATIN_9: [(u8, char); 8] =
    [(0xa4, '€'), (0xa6, 'Š'), (0xa8, 'š'), (0xb4, 'Ž'), (0xb8, 'ž'), (0xbc, 'Œ'), (0xbd, 'œ'), (0xbe, 'Ÿ')];

/// Windows-1252 from 0x80 to 0x9f, where ISO 8859-1 has control characters.
#[rustfmt::skip]
const WINDOWS_1252: [Option<char>; 32] = [
    Some('€'), None, Some('‚'), Some('ƒ'), Some('„'), Some('…'), Some('†'), Some('‡'),
    Some('ˆ'), Some('‰'), Some('Š'), Some('‹'), Some('Œ'), None, Some('Ž'), None,
    None, Some('‘'), Some('’'), Some('“'), Some('”'), Some('•'), Some('–'), Some('—'),
    Some('˜'), Some('™'), Some('š'), Some('›'), Some('œ'), None, Some('ž'), Some('Ÿ'),
];

fn wrong_at_end(before: &str, found: &str) -> Wrong {
    Wrong { line: line_at(before.as_bytes(), before.len()), found: found.into() }
}

fn line_at(bytes: &[u8], at: usize) -> usize {
    bytes[..at].iter().filter(|b| **b == b'\n').count() + 1
}

fn not_utf8(bytes: &[u8], at: usize) -> Wrong {
    let nul = bytes.iter().filter(|b| **b == 0).count();
    let guess = if nul * 4 > bytes.len() {
        guess_at_nul(bytes)
    } else if bytes[at..].iter().any(|b| (0x80..=0x9f).contains(b)) {
        "as in Windows-1252 or another code page"
    } else {
        "as in Latin-1 (ISO 8859-1) or Windows-1252"
    };
    Wrong { line: line_at(bytes, at), found: format!("the byte 0x{:02X}, {guess}", bytes[at]) }
}

/// ASCII in UTF-16 has a zero in every second byte.
fn guess_at_nul(bytes: &[u8]) -> &'static str {
    let zeros = |from: usize| bytes.iter().skip(from).step_by(2).filter(|b| **b == 0).count();
    let (even, odd) = (zeros(0), zeros(1));
    match (even * 3 > bytes.len(), odd * 3 > bytes.len()) {
        (false, true) => "as in UTF-16 (little-endian) without a byte order mark",
        (true, false) => "as in UTF-16 (big-endian) without a byte order mark",
        _ => "which no text has",
    }
}

/// Splits text into lines as Python's `str.splitlines` does, by which pip reads requirements: a reader that knew fewer
/// line ends would take two lines for one.
pub(crate) fn python_lines(text: &str) -> impl Iterator<Item = &str> {
    let ends = |c: char| {
        matches!(
            c,
            '\n' | '\r' | '\u{b}' | '\u{c}' | '\u{1c}'..='\u{1e}' | '\u{85}' | '\u{2028}' | '\u{2029}'
        )
    };
    let mut rest = Some(text).filter(|text| !text.is_empty());
    std::iter::from_fn(move || {
        let text = rest?;
        let Some(at) = text.find(ends) else {
            rest = None;
            return Some(text);
        };
        let line = &text[..at];
        let after = &text[at..];
        let end = if after.starts_with("\r\n") { 2 } else { after.chars().next().map_or(0, char::len_utf8) };
        rest = Some(&after[end..]).filter(|text| !text.is_empty());
        Some(line)
    })
}

/// At most `limit` characters of `text` for an error, what acts on a terminal as escapes.
pub(crate) fn printable(text: &str, limit: usize) -> String {
    match text.char_indices().nth(limit) {
        Some((end, _)) => outside::printable::printable(&text[..end], "") + "…",
        None => outside::printable::printable(text, ""),
    }
}

/// A TOML parser's error, in one line and without the text of the file: whoever wrote that may be anybody.
pub(crate) fn toml_reason(text: &str, error: &toml::de::Error) -> String {
    let reason = printable(error.message().trim(), 400);
    let Some(at) = error.span().map(|span| span.start.min(text.len())) else { return reason };
    let before = &text.as_bytes()[..at];
    let start = before.iter().rposition(|b| *b == b'\n').map_or(0, |newline| newline + 1);
    // Characters, not bytes: continuation bytes begin none.
    let column = before[start..].iter().filter(|b| **b & 0xc0 != 0x80).count() + 1;
    format!("line {}, column {column}: {reason}", line_at(text.as_bytes(), at))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn utf16(text: &str, big: bool) -> Vec<u8> {
        let unit = |unit: u16| if big { unit.to_be_bytes() } else { unit.to_le_bytes() };
        text.encode_utf16().flat_map(unit).collect()
    }

    #[test]
    fn a_byte_order_mark_says_the_encoding() {
        let text = "flask\r\n# é €😀\r\n";
        let marked = |mark: &[u8], rest: Vec<u8>| [mark.to_vec(), rest].concat();
        let utf32 = |unit: fn(u32) -> [u8; 4]| text.chars().flat_map(|c| unit(u32::from(c))).collect();
        for bytes in [
            text.as_bytes().to_vec(),
            marked(b"\xef\xbb\xbf", text.into()),
            marked(b"\xff\xfe", utf16(text, false)),
            marked(b"\xfe\xff", utf16(text, true)),
            marked(b"\xff\xfe\0\0", utf32(u32::to_le_bytes)),
            marked(b"\0\0\xfe\xff", utf32(u32::to_be_bytes)),
        ] {
            assert_eq!(decode(&bytes).unwrap(), text);
            assert_eq!(decode_declared(&bytes).unwrap(), text);
        }
        assert_eq!(decode(b"").unwrap(), "");
        assert_eq!(decode(b"\xff\xfe").unwrap(), "");
    }

    #[test]
    fn other_encodings_are_guessed_and_refused_by_line() {
        let cases: [(&[u8], usize, &str); 9] = [
            (b"flask\n# caf\xe9\n", 2, "Latin-1"),
            (b"a\nb\n# \x93x\x94\n", 3, "Windows-1252"),
            (&utf16("flask\nrequests\n", false), 1, "UTF-16 (little-endian) without"),
            (&utf16("flask\nrequests\n", true), 1, "UTF-16 (big-endian) without"),
            (&utf16("# \u{e9}t\u{e9}\nflask\n", false), 1, "UTF-16 (little-endian) without"),
            (b"flask\n\0\n", 2, "NUL"),
            (b"\xff\xfef\0\n\0\0", 2, "half of a UTF-16 unit"),
            (b"\xff\xfe\0\xd8f\0", 1, "surrogate"),
            (b"\xff\xfe\0\0f\0\0", 1, "UTF-32"),
        ];
        for (bytes, line, found) in cases {
            let wrong = decode(bytes).unwrap_err();
            assert!(wrong.line == line && wrong.found.contains(found), "{bytes:02x?}: {wrong:?}");
        }
    }

    #[test]
    fn a_coding_comment_counts_where_pip_takes_one() {
        for (bytes, expected) in [
            (&b"# -*- coding: latin-1 -*-\n# caf\xe9\n"[..], "# -*- coding: latin-1 -*-\n# café\n"),
            (
                b"flask\n# vim: set fileencoding=cp1252 :\n# \x80\n",
                "flask\n# vim: set fileencoding=cp1252 :\n# €\n",
            ),
            (b"# coding=ISO_8859-15\n# \xa4\xa5\n", "# coding=ISO_8859-15\n# €¥\n"),
            (b"# coding: utf8\n# \xc3\xa9\n", "# coding: utf8\n# é\n"),
            (b"\xef\xbb\xbf# coding: latin-1\n# \xc3\xa9\n", "# coding: latin-1\n# é\n"),
        ] {
            assert_eq!(decode_declared(bytes).unwrap(), expected);
        }
        for (bytes, line, found) in [
            (&b"# coding: gbk\nflask\n"[..], 1, "`gbk`"),
            (b"# coding: ascii\nflask # \xe9\n", 2, "0xE9"),
            (b"# coding: cp1252\n\x81", 2, "0x81"),
            (b"1\n2\n# coding: latin-1\n\xe9", 4, "Latin-1"),
            (b"# encoding latin-1\n\xe9", 2, "Latin-1"),
        ] {
            let wrong = decode_declared(bytes).unwrap_err();
            assert!(wrong.line == line && wrong.found.contains(found), "{wrong:?}");
        }
    }

    #[test]
    fn what_is_no_file_or_no_text_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(read(dir.path(), 10), Err(Error::Io { .. })));
        assert!(matches!(read(Path::new("/dev/zero"), 10), Err(Error::Io { .. })));
        assert!(matches!(read(&dir.path().join("none"), 10), Err(Error::Io { .. })));
        let path = dir.path().join("file");
        std::fs::write(&path, "12345678901").unwrap();
        assert!(matches!(read(&path, 10), Err(Error::Limit { .. })));
        assert_eq!(read(&path, 11).unwrap().len(), 11);
        std::fs::write(&path, b"a\n\xe9").unwrap();
        let error = read(&path, 11).unwrap_err().to_string();
        assert!(error.contains("file, line 2") && error.contains("UTF-8"), "{error}");
    }

    #[test]
    fn lines_end_where_python_ends_them() {
        let lines: Vec<_> = python_lines("a\r\nb\rc\n\nd\u{b}e\u{2028}f\u{85}").collect();
        assert_eq!(lines, ["a", "b", "c", "", "d", "e", "f"]);
        assert_eq!(python_lines("").count(), 0);
    }

    #[test]
    fn what_errors_show_cannot_act() {
        assert_eq!(printable("a\x1b[31mb\u{61c}c\u{202e}", 80), "a\\u{1b}[31mb\\u{61c}c\\u{202e}");
        assert_eq!(printable("abc", 2), "ab…");
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_text_or_not(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
            let _ = decode(&bytes);
            if let Ok(text) = decode_declared(&bytes) {
                proptest::prop_assert!(!text.contains('\0'));
                let joined: usize = python_lines(&text).map(str::len).sum();
                proptest::prop_assert!(joined <= text.len());
            }
        }
    }
}
