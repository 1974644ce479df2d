//! From valid inputs to nearly valid ones, by chance that can be repeated.

use std::ops::Range;

/// The largest input made.
const MAX_SIZE: usize = 256 << 10;

/// Numbers at the edges of what formats can say.
const EDGES: [u64; 12] = [
    0,
    1,
    0x7f,
    0x80,
    0xff,
    0x7fff,
    0xffff,
    0x7fff_ffff,
    0xffff_ffff,
    0x7fff_ffff_ffff_ffff,
    0x8000_0000_0000_0000,
    0xffff_ffff_ffff_ffff,
];

/// Pieces of text that parsers of text trip over.
const WORDS: [&str; 24] = [
    "-1",
    "0",
    "1e999",
    "18446744073709551616",
    "-9223372036854775809",
    "null",
    "true",
    "{}",
    "[]",
    "\"\"",
    "[[",
    "]]",
    "{\"a\":",
    "\\u0000",
    "\\ud800",
    "\u{feff}",
    "\u{0}",
    "../",
    "/",
    "\n",
    "-----BEGIN CERTIFICATE-----\n",
    "-----END",
    "2026-13-45T25:61:61Z",
    "é\u{301}",
];

/// Pseudo-random numbers: splitmix64.
pub struct Random(u64);

impl Random {
    /// The sequence that belongs to `seed`.
    pub fn new(seed: u64) -> Random {
        Random(seed)
    }

    /// The next number.
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`; 0 where there is none.
    pub fn below(&mut self, bound: usize) -> usize {
        if bound == 0 { 0 } else { (self.number() % bound as u64) as usize }
    }

    fn one_of<'a, T>(&mut self, choices: &'a [T]) -> &'a T {
        &choices[self.below(choices.len())]
    }

    fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| self.number() as u8).collect()
    }

    /// A range inside `length`, mostly short.
    fn range(&mut self, length: usize) -> Range<usize> {
        let start = self.below(length);
        let most = (length - start).min(if self.below(4) == 0 { length } else { 64 });
        start..start + self.below(most + 1)
    }
}

/// One to eight changes to one of the corpus; now and then bytes that have nothing to do with it.
pub fn mutate(corpus: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    if random.below(32) == 0 {
        let length = random.below(512);
        return random.bytes(length);
    }
    let mut input = random.one_of(corpus).clone();
    for _ in 0..=random.below(8) {
        change(&mut input, corpus, random);
    }
    input.truncate(MAX_SIZE);
    input
}

fn change(input: &mut Vec<u8>, corpus: &[Vec<u8>], random: &mut Random) {
    let at = random.below(input.len());
    match random.below(11) {
        0 => flip(input, at, random),
        1 => overwrite(input, at, &random.number().to_le_bytes()[..1]),
        2 => {
            let edge = *random.one_of(&EDGES);
            let size = *random.one_of(&[1, 2, 4, 8]);
            let (little, big) = (edge.to_le_bytes(), edge.to_be_bytes());
            overwrite(input, at, if random.below(2) == 0 { &little[..size] } else { &big[8 - size..] });
        }
        3 => {
            let range = random.range(input.len());
            input.drain(range);
        }
        4 => {
            let range = random.range(input.len());
            let copy = input[range].to_vec();
            input.splice(at..at, copy);
        }
        5 => {
            let length = random.below(16);
            let bytes = random.bytes(length);
            input.splice(at..at, bytes);
        }
        6 => input.truncate(at),
        7 => {
            let other = random.one_of(corpus);
            input.truncate(at);
            input.extend_from_slice(&other[random.below(other.len())..]);
        }
        8 => {
            let word = random.one_of(&WORDS).bytes();
            input.splice(at..at, word);
        }
        9 => {
            let digits = digits_from(input, at);
            let word = random.one_of(&WORDS[..5]).bytes();
            input.splice(digits, word);
        }
        _ => {
            // The same text many times: nesting and repetition.
            let range = random.range(input.len());
            let copy = input[range].repeat(1 + random.below(40));
            input.splice(at..at, copy);
        }
    }
}

fn flip(input: &mut [u8], at: usize, random: &mut Random) {
    if let Some(byte) = input.get_mut(at) {
        *byte ^= 1 << random.below(8);
    }
}

fn overwrite(input: &mut [u8], at: usize, bytes: &[u8]) {
    for (old, new) in input.iter_mut().skip(at).zip(bytes) {
        *old = *new;
    }
}

/// The first run of decimal digits at or after `at`.
fn digits_from(input: &[u8], at: usize) -> Range<usize> {
    let start = input.iter().skip(at).position(u8::is_ascii_digit).map_or(input.len(), |offset| at + offset);
    let length = input[start..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    start..start + length
}
