//! What a server says when it says no, for people to read.
//!
//! A PCCS writes its reason into the body (and into the status line, which is not kept by clients), Intel's PCS into the
//! header `Error-Message`. Either is somebody else's text: its length is bounded, it is put on one line, and nothing in it
//! acts on a terminal.

use ureq::http::{HeaderMap, StatusCode};

/// So much of the body of a refusal is read, in bytes.
pub(super) const READ: u64 = 4096;
/// So much of it is shown, in characters.
const SHOWN: usize = 200;

/// The status and the reason.
pub(super) fn of(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> String {
    let number = status.as_u16();
    if status.is_redirection()
        && let Some(location) = headers.get("location")
    {
        let location = shown(location.as_bytes());
        return format!("status {number}, a redirect to {location}, which is not followed");
    }
    let header = headers.get("error-message").map(|value| shown(value.as_bytes()));
    let said = Some(shown(body)).filter(|text| !text.is_empty()).or(header).unwrap_or_default();
    match (said.is_empty(), status.canonical_reason().or_else(|| of_pccs(number))) {
        (false, _) => format!("status {number}: {said}"),
        (true, Some(reason)) => format!("status {number} ({reason})"),
        (true, None) => format!("status {number}"),
    }
}

/// The statuses of Intel's PCCS that HTTP does not know.
fn of_pccs(status: u16) -> Option<&'static str> {
    match status {
        461 => Some("the platform was not found in the cache"),
        462 => Some("certificates are not available for certain TCBs"),
        _ => None,
    }
}

/// One line of at most [`SHOWN`] characters, every run of white space a space, what acts on a terminal escaped.
pub(super) fn shown(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    let mut line = String::new();
    let mut count = 0;
    for word in text.split_whitespace() {
        if count > 0 {
            line.push(' ');
        }
        for c in word.chars() {
            if count == SHOWN {
                line.push('…');
                return line;
            }
            match acts(c) {
                true => line.extend(c.escape_unicode()),
                false => line.push(c),
            }
            count += 1;
        }
    }
    line
}

/// Control characters, those that turn the direction of writing, and those that cannot be seen.
fn acts(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{e0000}'..='\u{e007f}')
}
