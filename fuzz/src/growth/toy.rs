//! Parsers of known cost, by which the check itself is checked.

use anyhow::ensure;

use super::{Memory, Shape, Subject, check};

const MEMORY: Memory = Memory { per_byte: 64, besides: 1 << 20, at: 16 << 10 };

/// Lines, none of them twice: each compared with all before it. Allocates nothing that shows it.
pub fn quadratic() -> Subject {
    fn run(data: &[u8]) -> bool {
        let lines: Vec<&[u8]> = data.split(|byte| *byte == b'\n').collect();
        lines.iter().enumerate().all(|(index, line)| !lines[..index].contains(line))
    }
    subject("toy-quadratic", run)
}

/// The same with a set.
pub fn linear() -> Subject {
    fn run(data: &[u8]) -> bool {
        let mut lines = std::collections::BTreeSet::new();
        data.split(|byte| *byte == b'\n').all(|line| lines.insert(line))
    }
    subject("toy-linear", run)
}

/// Every line with all that came before it: allocations show it.
pub fn quadratic_in_memory() -> Subject {
    fn run(data: &[u8]) -> bool {
        let ends = data.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(index, _)| index);
        let texts: Vec<Vec<u8>> = ends.map(|end| data[..end].to_vec()).collect();
        !texts.is_empty()
    }
    subject("toy-quadratic-memory", run)
}

fn subject(name: &'static str, run: fn(&[u8]) -> bool) -> Subject {
    let lines = |size: usize| (0..size / 6).map(|n| format!("{n:05}\n")).collect::<String>().into_bytes();
    Subject { name, limit: "none", run, shapes: vec![Shape::new("distinct lines", lines)], memory: MEMORY }
}

/// All of them.
pub fn subjects() -> Vec<Subject> {
    vec![linear(), quadratic(), quadratic_in_memory()]
}

/// Whether the check tells these apart: a check that finds nothing says something only if it would notice.
///
/// # Errors
/// Where it does not.
pub fn check(instructions: bool) -> anyhow::Result<()> {
    for subject in subjects() {
        let name = subject.name;
        let faulty = !check::faults(&check::measure(&[subject], "", instructions)?).is_empty();
        // Comparisons allocate nothing.
        let expected = name == "toy-quadratic-memory" || (name == "toy-quadratic" && instructions);
        ensure!(faulty == expected, "{name}: expected {expected} for a fault, found {faulty}");
    }
    Ok(())
}
