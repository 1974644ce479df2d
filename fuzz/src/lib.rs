//! Every parser of outside bytes, fed with mutated inputs.
//!
//! A [`Target`] is one parser behind `fn(&[u8]) -> bool`: it must return, whatever the bytes, and never panic; where
//! more can be said (what was read is written back unchanged; an altered quote is not accepted), the target asserts it.
//!
//! Inputs are mutations of a corpus: `corpus/<target>/*`, small valid files and whatever once broke a parser. They
//! follow from a number, so every run can be repeated. No coverage is measured and no nightly compiler is needed: the
//! same functions serve as entry points for a coverage-guided fuzzer (`fuzz_target!(|data| …)` of libFuzzer calls
//! [`Target::run`]).
//!
//! ```text
//! targets   the parsers
//! tape      tar headers made right again after mutation, container images made around a layer
//! mutate    from one input to another
//! campaign  corpus -> inputs -> panics caught
//! seeds     makes the corpus
//! growth    what parsers cost as their inputs grow
//! ```

pub mod campaign;
pub mod growth;
pub mod mutate;
pub mod seeds;
pub mod tape;
mod targets;

pub use targets::TARGETS;

/// One parser of outside bytes.
#[derive(Clone, Copy)]
pub struct Target {
    /// Its name, and that of its corpus directory.
    pub name: &'static str,
    /// Feeds it, and says whether it took the input. Returning is passing; a panic is a bug.
    pub run: fn(&[u8]) -> bool,
    /// Makes checksums right again, without which every mutation would end at the first of them.
    pub repair: Option<fn(&mut [u8])>,
}
