//! Where words go: data to standard output, talk to standard error.

use std::fmt;
use std::io::{self, Write};

use anstyle::{AnsiColor, Style};
use clap::ValueEnum;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

/// How a report is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Human,
    /// One JSON document, for programs.
    Json,
}

/// Writes a line of data to standard output.
macro_rules! out {
    ($($arg:tt)*) => { $crate::output::data(format_args!($($arg)*)) };
}

/// Writes a line of talk to standard error.
macro_rules! say {
    ($($arg:tt)*) => { $crate::output::talk(format_args!($($arg)*)) };
}

pub(crate) use {out, say};

/// See [`out!`]: fails where the reader of the pipe has gone.
pub fn data(text: fmt::Arguments<'_>) -> io::Result<()> {
    let mut stdout = anstream::stdout().lock();
    writeln!(stdout, "{text}")?;
    stdout.flush()
}

/// See [`say!`]: nobody listening is no error.
pub fn talk(text: fmt::Arguments<'_>) {
    let _ = writeln!(anstream::stderr().lock(), "{text}");
}

/// Writes one JSON document to standard output.
pub fn json(value: &impl Serialize) -> anyhow::Result<()> {
    let text = serde_json::to_string_pretty(value)?;
    Ok(data(format_args!("{text}"))?)
}

/// Writes bytes to a file, atomically, or to standard output for `-`.
pub fn bytes(path: &std::path::Path, content: &[u8], mode: u32) -> anyhow::Result<()> {
    if path.as_os_str() == "-" {
        let mut stdout = io::stdout().lock();
        stdout.write_all(content)?;
        return Ok(stdout.flush()?);
    }
    crate::files::write(path, content, mode)
}

/// The style of a word that says all is well.
pub const GOOD: Style = AnsiColor::Green.on_default();
/// The style of a word that says something is wrong.
pub const BAD: Style = AnsiColor::Red.on_default().bold();
/// The style of a word that asks for attention.
pub const CARE: Style = AnsiColor::Yellow.on_default().bold();
/// The style of a hint.
pub const HINT: Style = AnsiColor::Cyan.on_default().bold();

/// A word in a style; readable without it.
pub struct Styled<'a>(pub Style, pub &'a str);

impl fmt::Display for Styled<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}{}", self.0.render(), self.1, self.0.render_reset())
    }
}

/// Text that may come from outside, for a terminal: control characters, and those that turn the direction of writing,
/// are shown as escapes, but for the ones in `kept`. Nobody's certificate can write a verdict of its own.
pub fn printable(text: &str, kept: &str) -> String {
    let acts = |c: char| {
        c.is_control()
            || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        match acts(c) && !kept.contains(c) {
            true => shown.extend(c.escape_unicode()),
            false => shown.push(c),
        }
    }
    shown
}

/// A remark that asks for attention, on standard error.
pub fn warn(text: impl fmt::Display) {
    talk(format_args!("{} {text}", Styled(CARE, "warning:")));
}

/// A spinner with a line of text; hidden where nobody looks at a terminal.
pub fn progress() -> ProgressBar {
    let bar = ProgressBar::new_spinner();
    if let Ok(style) = ProgressStyle::with_template("{spinner} {msg}") {
        bar.set_style(style);
    }
    bar.enable_steady_tick(std::time::Duration::from_millis(100));
    bar
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_from_outside_acts_on_a_terminal() {
        assert_eq!(
            printable("CN=\u{1b}[2Kok\nVerdict: accepted", ""),
            "CN=\\u{1b}[2Kok\\u{a}Verdict: accepted"
        );
        assert_eq!(printable("a\nb\tc\u{9b}\r", "\n\t"), "a\nb\tc\\u{9b}\\u{d}");
        assert_eq!(printable("\u{202e}txt.exe é \"q\"", ""), "\\u{202e}txt.exe é \"q\"");
    }
}
