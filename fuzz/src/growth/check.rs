//! All shapes measured, judged and told.

use std::fmt::Write as _;

use super::count::{self, Allocations};
use super::{Growth, Subject};

/// What was measured of one shape.
#[derive(Debug)]
pub struct Measured {
    /// The parser's name.
    pub subject: &'static str,
    /// What bounds it.
    pub limit: &'static str,
    /// The shape's name.
    pub shape: &'static str,
    /// Bytes of the four inputs.
    pub sizes: [usize; 4],
    /// What each allocated.
    pub allocations: [Allocations; 4],
    /// Instructions of each, where they were counted.
    pub instructions: Option<[u64; 4]>,
    /// Bytes of one larger input, the most bytes alive while it was read, and how many may be.
    pub memory: Option<(usize, u64, u64)>,
}

impl Measured {
    /// How each counted cost grows, by name.
    pub fn growth(&self) -> Vec<(&'static str, Growth)> {
        let of = |cost: fn(&Allocations) -> u64, nothing| {
            Growth::of(self.allocations.each_ref().map(cost), nothing)
        };
        let mut all = vec![
            ("allocations", of(|a| a.calls, 500)),
            ("bytes allocated", of(|a| a.bytes, 256 << 10)),
            ("bytes alive", self.alive()),
        ];
        let instructions = |counts| ("instructions", Growth::of(counts, 500_000));
        all.extend(self.instructions.map(instructions));
        all
    }

    /// Tables that double move the most bytes alive in steps of their own, so those count only where they outgrow the input
    /// over all four sizes, too.
    fn alive(&self) -> Growth {
        let peaks = self.allocations.each_ref().map(|a| a.peak);
        match Growth::of(peaks, 128 << 10) {
            Growth::TooMuch if peaks[3] <= 8 * peaks[0] => Growth::Linear,
            growth => growth,
        }
    }

    /// What is wrong with it, in words; empty where nothing is.
    pub fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        for (cost, growth) in self.growth() {
            if growth == Growth::TooMuch {
                faults.push(format!(
                    "{}, {}: {cost} grow faster than the input: {}",
                    self.subject,
                    self.shape,
                    self.costs(cost)
                ));
            }
        }
        if let Some((size, peak, most)) = self.memory
            && peak > most
        {
            faults.push(format!(
                "{}, {}: {peak} bytes alive for an input of {size}, at most {most} may be",
                self.subject, self.shape
            ));
        }
        faults
    }

    fn costs(&self, cost: &str) -> String {
        let costs = match cost {
            "instructions" => self.instructions.unwrap_or_default(),
            "allocations" => self.allocations.map(|a| a.calls),
            "bytes allocated" => self.allocations.map(|a| a.bytes),
            _ => self.allocations.map(|a| a.peak),
        };
        self.sizes
            .iter()
            .zip(costs)
            .map(|(size, cost)| format!("{cost} for {size} B"))
            .collect::<Vec<_>>()
            .join(", ")
    }

    /// The verdict in a word.
    pub fn verdict(&self) -> &'static str {
        let growth = self.growth();
        if !self.faults().is_empty() {
            "TOO MUCH"
        } else if growth.iter().all(|(_, growth)| *growth == Growth::Bounded) {
            "bounded"
        } else {
            "linear"
        }
    }

    /// Instructions for each byte of the largest input.
    fn per_byte(&self) -> f64 {
        let most = self.instructions.map_or(self.allocations[3].bytes, |instructions| instructions[3]);
        most as f64 / self.sizes[3].max(1) as f64
    }
}

/// Measures all shapes of `subjects`, which are those with `shape` in their names: the `whole`, or no instructions and no
/// larger inputs. Counting allocations needs the process to itself.
///
/// # Errors
/// Those of [`count::instructions`].
pub fn measure(subjects: &[Subject], shape: &str, whole: bool) -> anyhow::Result<Vec<Measured>> {
    let mut all = Vec::new();
    for subject in subjects {
        for shape in &subject.shapes {
            let (allocations, sizes) = count::allocations_of(subject, shape);
            let mut measured = Measured {
                subject: subject.name,
                limit: subject.limit,
                shape: shape.name,
                sizes,
                allocations,
                instructions: None,
                memory: None,
            };
            // What grows too fast is not worth a larger input.
            if whole && measured.faults().is_empty() {
                let input = (shape.make)(subject.memory.at);
                let most = subject.memory.per_byte * input.len() + subject.memory.besides;
                let peak = count::allocations(subject.run, &input).peak;
                measured.memory = Some((input.len(), peak, most as u64));
            }
            all.push(measured);
        }
    }
    if whole {
        let counts = count::instructions(subjects, shape)?.into_iter().flatten();
        for (measured, counts) in all.iter_mut().zip(counts) {
            measured.instructions = Some(counts);
        }
    }
    Ok(all)
}

/// What is wrong with all of them.
pub fn faults(all: &[Measured]) -> Vec<String> {
    all.iter().flat_map(Measured::faults).collect()
}

/// The table, in Markdown: of each parser the shape that costs most for each byte, or what is wrong.
pub fn table(all: &[Measured]) -> String {
    let mut out = String::from(
        "| parser | limit | worst shape | largest input | instructions per byte at n, 2n, 4n, 8n | bytes alive per byte | growth |\n\
         |---|---|---|---|---|---|---|\n",
    );
    let mut rest = all;
    while let Some(first) = rest.first() {
        let (of_subject, others) =
            rest.split_at(rest.iter().take_while(|m| m.subject == first.subject).count());
        rest = others;
        let faulty = of_subject.iter().find(|measured| !measured.faults().is_empty());
        let worst = of_subject.iter().max_by(|a, b| a.per_byte().total_cmp(&b.per_byte()));
        let Some(worst) = faulty.or(worst) else { continue };
        let memory = of_subject.iter().filter_map(|measured| measured.memory);
        let alive = memory.map(|(size, peak, _)| peak as f64 / size.max(1) as f64).fold(0.0, f64::max);
        let per_byte =
            |(size, count): (&usize, &u64)| format!("{:.0}", *count as f64 / (*size).max(1) as f64);
        let counts = worst.instructions.unwrap_or_else(|| worst.allocations.map(|a| a.bytes));
        let counts = worst.sizes.iter().zip(&counts).map(per_byte).collect::<Vec<_>>().join(", ");
        let _ = writeln!(
            out,
            "| {} | {} | {} | {} B | {counts} | {alive:.1} | {} |",
            worst.subject,
            worst.limit,
            worst.shape,
            worst.sizes[3],
            worst.verdict(),
        );
    }
    out
}

/// All shapes, one a line.
pub fn list(all: &[Measured]) -> String {
    let mut out = String::new();
    for measured in all {
        let peak = measured.memory.map_or(String::new(), |(size, peak, _)| {
            format!(", alive {:.1} per byte at {size} B", peak as f64 / size.max(1) as f64)
        });
        let _ = writeln!(
            out,
            "{:20} {:44} {:>7} B, {:>7.0} per byte{peak}: {}",
            measured.subject,
            measured.shape,
            measured.sizes[3],
            measured.per_byte(),
            measured.verdict()
        );
    }
    out
}
