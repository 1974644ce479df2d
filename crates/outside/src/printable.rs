//! Text from outside on a terminal: nothing in it may move the cursor, change colours, end a line, turn the direction of
//! writing or hide.

use std::io::{self, Write};

/// The characters of the Unicode categories Cf, Zl and Zp (Unicode 16), and all of the block of tags, assigned or not:
/// without an image of their own, they change how others are shown. In order.
const FORMATS: [(u32, u32); 22] = [
    (0xad, 0xad),
    (0x600, 0x605),
    (0x61c, 0x61c),
    (0x6dd, 0x6dd),
    (0x70f, 0x70f),
    (0x890, 0x891),
    (0x8e2, 0x8e2),
    (0x180e, 0x180e),
    (0x200b, 0x200f),
    (0x2028, 0x202e),
    (0x2060, 0x206f),
    (0x3164, 0x3164),
    (0xfeff, 0xfeff),
    (0xffa0, 0xffa0),
    (0xfff9, 0xfffb),
    (0x110bd, 0x110bd),
    (0x110cd, 0x110cd),
    (0x13430, 0x1343f),
    (0x1bca0, 0x1bca3),
    (0x1d173, 0x1d17a),
    (0xe0000, 0xe0fff),
    (0x10fffe, 0x10ffff),
];

/// Whether a character acts on a terminal, or on how others are shown, instead of being shown: C0, DEL, C1, and the
/// categories Cf (directions, zero width, tags), Zl and Zp.
pub fn acts(c: char) -> bool {
    if c.is_control() {
        return true;
    }
    let code = u32::from(c);
    let after = FORMATS.partition_point(|(first, _)| *first <= code);
    after.checked_sub(1).and_then(|n| FORMATS.get(n)).is_some_and(|(_, last)| code <= *last)
}

/// Text for a terminal: what [`acts`] is shown as an escape (`\u{1b}`), but for the characters in `kept`.
pub fn printable(text: &str, kept: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        match acts(c) && !kept.contains(c) {
            true => shown.extend(c.escape_unicode()),
            false => shown.push(c),
        }
    }
    shown
}

/// One line of at most `longest` characters: what [`acts`] is a space.
pub fn line(text: &str, longest: usize) -> String {
    let mut line: String = text.chars().take(longest).map(|c| if acts(c) { ' ' } else { c }).collect();
    if text.chars().nth(longest).is_some() {
        line.push_str(" ...");
    }
    line
}

/// Passes a log on to a terminal: lines and tabs as they are, everything else that [`acts`] as an escape, bytes that are
/// not UTF-8 as `\xNN`.
pub struct Escaping<W: Write> {
    out: W,
    /// The beginning of a character whose end has not come: three bytes at most.
    begun: Vec<u8>,
}

impl<W: Write> Escaping<W> {
    /// To `out`.
    pub fn new(out: W) -> Escaping<W> {
        Escaping { out, begun: Vec::new() }
    }

    /// Writes what is left: a character that was cut off.
    ///
    /// # Errors
    /// As `out` has them.
    pub fn finish(mut self) -> io::Result<()> {
        let begun = std::mem::take(&mut self.begun);
        self.out.write_all(escape_bytes(&begun).as_bytes())?;
        self.out.flush()
    }
}

fn escape_bytes(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("\\x{byte:02x}")).collect()
}

impl<W: Write> Write for Escaping<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut all = std::mem::take(&mut self.begun);
        all.extend_from_slice(bytes);
        let mut shown = String::with_capacity(all.len());
        let mut rest = all.as_slice();
        loop {
            let error = match std::str::from_utf8(rest) {
                Ok(text) => {
                    shown.push_str(&printable(text, "\n\t"));
                    break;
                }
                Err(error) => error,
            };
            let (good, bad) = rest.split_at(error.valid_up_to());
            shown.push_str(&printable(&String::from_utf8_lossy(good), "\n\t"));
            let Some(length) = error.error_len() else {
                self.begun = bad.to_vec();
                break;
            };
            let (bad, after) = bad.split_at(length);
            shown.push_str(&escape_bytes(bad));
            rest = after;
        }
        // Some write an end of line in two characters.
        self.out.write_all(shown.replace("\\u{d}\n", "\n").as_bytes())?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_acts_is_escaped_and_what_is_read_is_not() {
        assert!(FORMATS.windows(2).all(|two| two[0].1 < two[1].0), "in order");
        for c in [
            '\0',
            '\u{7}',
            '\u{8}',
            '\n',
            '\r',
            '\u{1b}',
            '\u{7f}',
            '\u{80}',
            '\u{9b}',
            '\u{ad}',
            '\u{600}',
            '\u{61c}',
            '\u{6dd}',
            '\u{70f}',
            '\u{891}',
            '\u{8e2}',
            '\u{180e}',
            '\u{200b}',
            '\u{200c}',
            '\u{200d}',
            '\u{200e}',
            '\u{200f}',
            '\u{2028}',
            '\u{2029}',
            '\u{202a}',
            '\u{202e}',
            '\u{2060}',
            '\u{2064}',
            '\u{2066}',
            '\u{2069}',
            '\u{206f}',
            '\u{feff}',
            '\u{fff9}',
            '\u{110bd}',
            '\u{13430}',
            '\u{1343f}',
            '\u{1bca0}',
            '\u{1d173}',
            '\u{e0001}',
            '\u{e0041}',
            '\u{e007f}',
        ] {
            assert!(acts(c), "{c:?}");
            assert_eq!(printable(&format!("a{c}b"), ""), format!("a{}b", c.escape_unicode()));
            assert_eq!(line(&format!("a{c}b"), 9), "a b");
        }
        for text in
            ["", "Grüße", "e\u{301}", "日本語", "\u{627}\u{644}", "👍", "a\u{a0}b", "\"\\", "\u{e000}"]
        {
            assert_eq!(printable(text, ""), text);
        }
        assert_eq!(printable("a\nb\tc\u{9b}\r", "\n\t"), "a\nb\tc\\u{9b}\\u{d}");
        assert_eq!(line("four", 3), "fou ...");
    }

    /// However a log is cut into pieces.
    #[test]
    fn a_log_is_escaped_byte_by_byte() {
        let log = b"one\r\ntwo\x1b[31mred\t\xe2\x80\xaeturn \xff\xc3\xa9 \xf0\x9f\x91\x8d\xe2\x80";
        let wanted = "one\ntwo\\u{1b}[31mred\t\\u{202e}turn \\xff\u{e9} \u{1f44d}\\xe2\\x80";
        for size in [1, 2, 3, 5, log.len()] {
            let mut shown = Vec::new();
            let mut out = Escaping::new(&mut shown);
            for piece in log.chunks(size) {
                out.write_all(piece).unwrap();
                assert!(out.begun.len() < 4);
            }
            out.finish().unwrap();
            let shown = String::from_utf8(shown).unwrap();
            // A carriage return that ends a piece is escaped.
            assert_eq!(shown.replace("\\u{d}\n", "\n"), wanted, "{size}");
        }
    }
}
