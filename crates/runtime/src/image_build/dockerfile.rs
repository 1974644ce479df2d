//! What has to be known of a Dockerfile before an engine reads it.
//!
//! Format: the Dockerfile reference of Docker's classic builder: parser directives, comments, continued lines,
//! `ARG` before the first `FROM`, stages. Only `FROM` and `ARG` are looked at; everything else is the engine's.

use std::collections::{BTreeMap, HashSet};

use super::{CA_DIRECTORY, CA_IN_CONTEXT, CA_VARIABLES};

/// Largest Dockerfile that is read, in bytes.
pub const LIMIT: usize = 1024 * 1024;

/// Longest name of an image, in bytes: longer ones, which variables can make of a short text, name none.
const NAME_LIMIT: usize = 512;

/// A Dockerfile's text, by instructions.
#[derive(Debug, Clone)]
pub struct Dockerfile {
    text: String,
    instructions: Vec<Instruction>,
}

#[derive(Debug, Clone)]
struct Instruction {
    /// `FROM`, in capitals.
    keyword: String,
    /// The rest, continued lines joined.
    arguments: String,
    /// Number of its last line, from 0.
    last_line: usize,
}

impl Dockerfile {
    /// Splits `text` into instructions. Nothing is refused here: what is wrong, the engine says better.
    pub fn parse(text: &str) -> Dockerfile {
        let escape = escape_character(text);
        let mut instructions = Vec::new();
        let mut open: Option<String> = None;
        for (number, line) in text.lines().enumerate() {
            let trimmed = line.trim();
            // Comments and empty lines do not end an instruction which goes on below them.
            if trimmed.starts_with('#') || (open.is_some() && trimmed.is_empty()) {
                continue;
            }
            let (part, goes_on) = match trimmed.strip_suffix(escape) {
                Some(part) => (part, true),
                None => (trimmed, false),
            };
            let mut joined = open.take().unwrap_or_default();
            joined.push_str(part);
            if goes_on {
                joined.push(' ');
                open = Some(joined);
                continue;
            }
            instructions.extend(Instruction::parse(&joined, number));
        }
        if let Some(joined) = open {
            instructions.extend(Instruction::parse(&joined, text.lines().count().saturating_sub(1)));
        }
        Dockerfile { text: text.to_owned(), instructions }
    }

    /// The images from outside that its stages start from, as far as they can be told: `ARG`s before the first
    /// `FROM` and `arguments` are put in.
    pub fn bases(&self, arguments: &[(String, String)]) -> Vec<String> {
        let mut variables: BTreeMap<&str, &str> = BTreeMap::new();
        let mut stages: HashSet<String> = HashSet::new();
        let mut seen = HashSet::new();
        let mut bases = Vec::new();
        for instruction in &self.instructions {
            match instruction.keyword.as_str() {
                "ARG" if stages.is_empty() && bases.is_empty() => {
                    for declared in instruction.arguments.split_whitespace() {
                        let (name, default) = declared.split_once('=').unwrap_or((declared, ""));
                        let given = arguments.iter().rev().find(|(given, _)| given == name);
                        let value = given.map_or(default, |(_, value)| value);
                        variables.insert(name, value.trim_matches('"'));
                    }
                }
                "FROM" => {
                    let mut words =
                        instruction.arguments.split_whitespace().skip_while(|word| word.starts_with("--"));
                    let Some(image) = words.next() else { continue };
                    if let Some(image) = expand(image, &variables)
                        && !stages.contains(&image.to_lowercase())
                        && !image.is_empty()
                        && image != "scratch"
                        && seen.insert(image.clone())
                    {
                        bases.push(image);
                    }
                    if words.next().is_some_and(|word| word.eq_ignore_ascii_case("as")) {
                        stages.extend(words.next().map(str::to_lowercase));
                    }
                }
                _ => {}
            }
        }
        bases
    }

    /// The same text with the CA put in after each `FROM`.
    pub fn with_ca(&self) -> String {
        let mut lines = format!("COPY {CA_IN_CONTEXT}/ /{CA_DIRECTORY}/\nENV");
        for (name, file) in CA_VARIABLES {
            lines.push_str(&format!(" {name}=/{CA_DIRECTORY}/{file}"));
        }
        let stages = self.instructions.iter().filter(|instruction| instruction.keyword == "FROM");
        let mut ends = stages.map(|stage| stage.last_line).peekable();
        let mut out = String::new();
        for (number, line) in self.text.lines().enumerate() {
            out.push_str(line);
            out.push('\n');
            // Instructions stand in the order of their lines.
            if ends.next_if_eq(&number).is_some() {
                out.push_str(&lines);
                out.push('\n');
            }
        }
        out
    }

    /// The text as it was read.
    pub fn text(&self) -> &str {
        &self.text
    }
}

impl Instruction {
    fn parse(line: &str, last_line: usize) -> Option<Instruction> {
        let (keyword, arguments) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        (!keyword.is_empty()).then(|| Instruction {
            keyword: keyword.to_ascii_uppercase(),
            arguments: arguments.trim().to_owned(),
            last_line,
        })
    }
}

/// The character that continues a line: a backslash, unless a directive at the very top says otherwise.
fn escape_character(text: &str) -> char {
    for line in text.lines() {
        let Some((name, value)) = line.trim().strip_prefix('#').and_then(|rest| rest.split_once('=')) else {
            break;
        };
        if name.trim().eq_ignore_ascii_case("escape") {
            return if value.trim() == "`" { '`' } else { '\\' };
        }
    }
    '\\'
}

/// `$NAME`, `${NAME}` and `${NAME:-default}` in the name of an image; nothing where that gets too long.
fn expand(text: &str, variables: &BTreeMap<&str, &str>) -> Option<String> {
    let mut out = String::new();
    let mut rest = text.trim_matches('"');
    while let Some((before, after)) = rest.split_once('$') {
        out.push_str(before);
        let (name, default, left) = match after.strip_prefix('{') {
            Some(braced) => {
                let (inside, left) = braced.split_once('}').unwrap_or((braced, ""));
                let (name, default) = inside.split_once(":-").unwrap_or((inside, ""));
                (name, default, left)
            }
            None => {
                let end = after.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(after.len());
                (&after[..end], "", &after[end..])
            }
        };
        let value = variables.get(name).copied().filter(|value| !value.is_empty()).unwrap_or(default);
        if out.len() + value.len() > NAME_LIMIT {
            return None;
        }
        out.push_str(value);
        rest = left;
    }
    (out.len() + rest.len() <= NAME_LIMIT).then(|| out + rest)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn bases(text: &str) -> Vec<String> {
        Dockerfile::parse(text).bases(&[("BASE".into(), "given:1".into())])
    }

    #[test]
    fn bases_are_what_comes_from_outside() {
        assert_eq!(bases("FROM mse-base\nRUN true\n"), ["mse-base"]);
        assert_eq!(
            bases("# c\n\nfrom --platform=linux/amd64 python:3.11 as Build\nFROM build\n"),
            ["python:3.11"]
        );
        assert_eq!(
            bases("ARG BASE=debian\nFROM ${BASE}\nFROM $BASE-slim\nFROM scratch"),
            ["given:1", "given:1-slim"]
        );
        assert_eq!(bases("ARG OTHER=a\nFROM ${OTHER}:${TAG:-x}"), ["a:x"]);
        assert_eq!(bases("FROM \\\n  # why not\n  busybox \\\n AS one\nFROM one"), ["busybox"]);
        assert_eq!(bases("RUN echo FROM x"), [""; 0]);
        assert_eq!(bases("FROM"), [""; 0]);
    }

    #[test]
    fn a_name_that_variables_make_too_long_names_no_image() {
        let long = "x".repeat(400);
        let found = bases(&format!("ARG A={long}\nFROM $A$A\nFROM a$A\nFROM {long}$A\nFROM {long}{long}\n"));
        assert_eq!(found, [format!("a{long}")]);
    }

    #[test]
    fn another_escape_character() {
        assert_eq!(bases("# escape=`\nFROM `\nbusybox"), ["busybox"]);
    }

    #[test]
    fn the_ca_comes_right_after_each_from() {
        let text = Dockerfile::parse("FROM a \\\n AS one\nRUN x \\\n FROM y\nFROM one\n").with_ca();
        let lines: Vec<&str> = text.lines().collect();
        let copies: Vec<usize> =
            (0..lines.len()).filter(|&at| lines[at].starts_with("COPY .mse-build-ca/ ")).collect();
        assert_eq!(copies, [2, 7], "{text}");
        assert!(lines[3].starts_with("ENV APT_CONFIG=/run/mse-build-ca/apt.conf "), "{text}");
        assert_eq!(lines[4..6], ["RUN x \\", " FROM y"]);
        assert!(lines.iter().all(|line| !line.is_empty()));
    }
}
