//! Where words go: data to standard output, talk to standard error.

use std::cell::Cell;
use std::fmt;
use std::io::{self, IsTerminal, Write};

use anstyle::{AnsiColor, Style};
use clap::ValueEnum;
use indicatif::{ProgressBar, ProgressStyle};
pub use outside::printable::printable;
use outside::printable::{Escaping, acts};
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
    writeln!(stdout, "{}", shown(text))?;
    stdout.flush()
}

/// See [`say!`]: nobody listening is no error.
pub fn talk(text: fmt::Arguments<'_>) {
    let _ = writeln!(anstream::stderr().lock(), "{}", shown(text));
}

/// Asks a question on standard error, and stays on its line.
///
/// # Errors
/// Standard error cannot be written.
pub fn ask(question: fmt::Arguments<'_>) -> io::Result<()> {
    let mut stderr = anstream::stderr().lock();
    write!(stderr, "{}", shown(question))?;
    stderr.flush()
}

/// What is written to a terminal: lines, tabs and our own styles; whatever else acts on a terminal is shown as an escape,
/// wherever in the text it comes from. A field that must stay on its line is made so with [`printable`] besides.
fn shown(text: fmt::Arguments<'_>) -> String {
    let mut shown = Shown(String::new());
    // Nothing but a `Display` of ours fails.
    let _ = fmt::write(&mut shown, text);
    shown.0
}

struct Shown(String);

impl fmt::Write for Shown {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        match OWN_STYLE.get() {
            true => self.0.push_str(text),
            false => self.0.push_str(&printable(text, "\n\t")),
        }
        Ok(())
    }
}

thread_local! {
    /// Whether what is written at present is a style of ours: nobody else's text can say so.
    static OWN_STYLE: Cell<bool> = const { Cell::new(false) };
}

fn own_style(f: &mut fmt::Formatter<'_>, style: impl fmt::Display) -> fmt::Result {
    OWN_STYLE.set(true);
    let done = write!(f, "{style}");
    OWN_STYLE.set(false);
    done
}

/// Writes one JSON document to standard output.
pub fn json(value: &impl Serialize) -> anyhow::Result<()> {
    let text = serde_json::to_string_pretty(value)?;
    Ok(data(format_args!("{}", json_for_terminals(&text)))?)
}

/// The same JSON document, with characters that act on a terminal as escapes (RFC 8259, section 7). All of them are in
/// strings.
fn json_for_terminals(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        match c != '\n' && acts(c) {
            true => {
                c.encode_utf16(&mut [0; 2]).iter().for_each(|unit| shown.push_str(&format!("\\u{unit:04x}")))
            }
            false => shown.push(c),
        }
    }
    shown
}

/// Where a log goes: as it is into a pipe or a file, escaped onto a terminal.
pub fn log(copy: impl FnOnce(&mut dyn Write) -> anyhow::Result<()>) -> anyhow::Result<()> {
    let stdout = io::stdout().lock();
    if !stdout.is_terminal() {
        let mut stdout = stdout;
        return copy(&mut stdout);
    }
    let mut escaping = Escaping::new(stdout);
    let copied = copy(&mut escaping);
    escaping.finish()?;
    copied
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
        own_style(f, self.0.render())?;
        f.write_str(self.1)?;
        own_style(f, self.0.render_reset())
    }
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
#[allow(clippy::unwrap_used)]
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

    /// Whatever a print site forgets: the place where all text goes through does not.
    #[test]
    fn only_our_own_styles_reach_a_terminal() {
        let name = "\u{1b}[32mok\u{61c}\r\u{9b}2J\u{e0041}";
        let text =
            shown(format_args!("{} {name:<30}|\n\t{}", Styled(GOOD, "a\u{1b}[31m"), Styled(BAD, name)));
        let own = |style: Style, text: &str| format!("{}{text}{}", style.render(), style.render_reset());
        let escaped = "\\u{1b}[32mok\\u{61c}\\u{d}\\u{9b}2J\\u{e0041}";
        assert!(text.starts_with(&format!("{} {escaped} ", own(GOOD, "a\\u{1b}[31m"))), "{text:?}");
        assert!(text.ends_with(&format!("|\n\t{}", own(BAD, escaped))), "{text:?}");
        // A style that was made text before is text.
        let before = Styled(GOOD, "ok").to_string();
        assert!(!shown(format_args!("{before}")).contains('\u{1b}'));
    }

    #[test]
    fn json_is_the_same_document_without_what_acts() {
        let value = serde_json::json!({"a\u{202e}": ["\u{1b}[2J", "\u{7f}\u{9b}", "\u{e0041}é", "\n"]});
        let shown = json_for_terminals(&serde_json::to_string_pretty(&value).unwrap());
        assert!(!shown.chars().any(|c| c != '\n' && acts(c)), "{shown:?}");
        assert!(shown.contains("\\udb40\\udc41é"), "{shown}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&shown).unwrap(), value);
    }
}
