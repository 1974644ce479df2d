//! What parsers cost as their inputs grow.
//!
//! For every parser there are *shapes*: generators of inputs of about a given size, each the worst of its sort (deep
//! nesting, many siblings, long strings, chains of links, ...). A parser reads four inputs of each, of `n`, `2n`, `4n`
//! and `8n` bytes, and what that costs is counted: instructions (under Valgrind), allocations and bytes allocated, and
//! the most bytes alive at once. No clock is looked at, so that a busy machine changes nothing.
//!
//! The increments between the four inputs double where cost is linear, and quadruple where it is quadratic; what costs
//! the same whatever the input is cancels out. See [`Growth::of`] for where the line is drawn.
//!
//! ```text
//! count     instructions, allocations, bytes alive
//! check     all shapes measured and judged; the table
//! shapes    generators that several parsers share: JSON, TOML, DER, PEM, tar
//! toy       a linear and a quadratic parser, by which the check itself is checked
//! evidence, package, image, gramine, secrets, wire    the parsers and their shapes
//! ```

pub mod check;
pub mod count;

mod evidence;
mod gramine;
mod image;
mod package;
mod secrets;
mod shapes;
pub mod toy;
mod wire;

/// One parser and the shapes that it is measured with.
pub struct Subject {
    /// Its name; that of a fuzz target where there is one.
    pub name: &'static str,
    /// What bounds its input and its cost, in words.
    pub limit: &'static str,
    /// Feeds it; says whether it took the input.
    pub run: fn(&[u8]) -> bool,
    /// The shapes.
    pub shapes: Vec<Shape>,
    /// What it may allocate.
    pub memory: Memory,
}

/// How many bytes may be alive at once: `per_byte` times the input, and `besides`.
#[derive(Clone, Copy, Debug)]
pub struct Memory {
    /// Bytes alive for each byte of the input.
    pub per_byte: usize,
    /// Bytes alive besides: buffers of a fixed size.
    pub besides: usize,
    /// The size of an input with which this is checked: the parser's limit, or what one run can bear.
    pub at: usize,
}

/// A generator of inputs.
pub struct Shape {
    /// What is special about them.
    pub name: &'static str,
    /// An input of about so many bytes.
    pub make: Box<dyn Fn(usize) -> Vec<u8> + Send + Sync>,
    /// The size of the largest whose instructions are counted, in bytes: `8n`.
    pub largest: usize,
}

impl Shape {
    /// A shape whose largest input has [`LARGEST`] bytes.
    pub fn new(name: &'static str, make: impl Fn(usize) -> Vec<u8> + Send + Sync + 'static) -> Shape {
        Shape { name, make: Box::new(make), largest: LARGEST }
    }

    /// The same with another size of the largest input.
    pub fn up_to(self, largest: usize) -> Shape {
        Shape { largest, ..self }
    }

    /// The four inputs, smallest first.
    pub fn inputs(&self) -> [Vec<u8>; 4] {
        [8, 4, 2, 1].map(|part| (self.make)(self.largest / part))
    }
}

/// The usual size of the largest input: what costs the square of it shows clearly, and Valgrind takes a second.
pub const LARGEST: usize = 16 << 10;

/// Every parser of outside bytes.
pub fn subjects() -> Vec<Subject> {
    [
        evidence::subjects(),
        gramine::subjects(),
        package::subjects(),
        image::subjects(),
        secrets::subjects(),
        wire::subjects(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// How a cost follows the size of the input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Growth {
    /// The same whatever the size is, or nearly: a limit ends it.
    Bounded,
    /// In proportion, or a logarithm above it.
    Linear,
    /// More than that.
    TooMuch,
}

impl Growth {
    /// Judges the costs of inputs of `n`, `2n`, `4n` and `8n` bytes.
    ///
    /// The three increments are compared: the next is twice the one before where cost is linear, 2.2 times where it is
    /// `n log n` with these sizes, four times where it is quadratic. Too much is a last step above 2.6 with the one before
    /// above 2.2. Increments below a fiftieth of the whole are noise, and so is everything that costs less than `nothing`.
    pub fn of(costs: [u64; 4], nothing: u64) -> Growth {
        let [first, second, third, last] = costs.map(|cost| cost as f64);
        if last <= 2.0 * first || last <= nothing as f64 {
            return Growth::Bounded;
        }
        let noise = (last / 50.0).max(1.0);
        let steps = [second - first, third - second, last - third].map(|step| step.max(noise));
        let (before, after) = (steps[1] / steps[0], steps[2] / steps[1]);
        if after > 2.6 && before > 2.2 { Growth::TooMuch } else { Growth::Linear }
    }

    /// In a word.
    pub fn as_str(self) -> &'static str {
        match self {
            Growth::Bounded => "bounded",
            Growth::Linear => "linear",
            Growth::TooMuch => "MORE THAN LINEAR",
        }
    }
}
