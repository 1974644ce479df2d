//! Counting: allocations in this process, instructions in a child under Valgrind.

use std::alloc::{GlobalAlloc, Layout, System};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::{fs, hint, thread};

use anyhow::{Context, bail, ensure};

use super::{Shape, Subject};

/// The system's allocator, counting.
struct Counting;

static CALLS: AtomicUsize = AtomicUsize::new(0);
static BYTES: AtomicUsize = AtomicUsize::new(0);
static ALIVE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn grown(by: usize) {
    CALLS.fetch_add(1, Relaxed);
    BYTES.fetch_add(by, Relaxed);
    let alive = ALIVE.fetch_add(by, Relaxed).wrapping_add(by);
    PEAK.fetch_max(alive, Relaxed);
}

// SAFETY: everything is passed on to the system's allocator as it came; the counters allocate nothing.
#[allow(unsafe_code)]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        grown(layout.size());
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        grown(layout.size());
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        ALIVE.fetch_sub(layout.size(), Relaxed);
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // As if it were always moved: for a moment both are there.
        grown(size);
        ALIVE.fetch_sub(layout.size(), Relaxed);
        unsafe { System.realloc(pointer, layout, size) }
    }
}

/// What one run allocated, in all threads.
#[derive(Clone, Copy, Debug, Default)]
pub struct Allocations {
    /// Calls of the allocator.
    pub calls: u64,
    /// Bytes that it gave out.
    pub bytes: u64,
    /// The most of them alive at once.
    pub peak: u64,
}

/// Runs the parser, and counts what it allocates. Nothing else may run in this process meanwhile.
pub fn allocations(run: fn(&[u8]) -> bool, input: &[u8]) -> Allocations {
    let alive = ALIVE.load(Relaxed);
    PEAK.store(alive, Relaxed);
    let (calls, bytes) = (CALLS.load(Relaxed), BYTES.load(Relaxed));
    hint::black_box(run(hint::black_box(input)));
    Allocations {
        calls: (CALLS.load(Relaxed) - calls) as u64,
        bytes: (BYTES.load(Relaxed) - bytes) as u64,
        peak: PEAK.load(Relaxed).saturating_sub(alive) as u64,
    }
}

/// The function whose instructions Valgrind counts, in all threads: from where it is entered to where it returns.
#[inline(never)]
pub fn measured_by_valgrind(run: fn(&[u8]) -> bool, input: &[u8]) -> bool {
    hint::black_box(run(hint::black_box(input)))
}

/// The inputs of one shape, as files for the child.
fn input_file(directory: &Path, subject: usize, shape: usize, size: usize) -> PathBuf {
    directory.join(format!("{subject}-{shape}-{size}"))
}

/// Instructions of each shape's four inputs, in the order of subjects and shapes.
///
/// # Errors
/// Where Valgrind is missing, or a child fails.
pub fn instructions(subjects: &[Subject], shape: &str) -> anyhow::Result<Vec<Vec<[u64; 4]>>> {
    let directory = tempfile::tempdir()?;
    let directory = directory.path();
    for (subject_index, subject) in subjects.iter().enumerate() {
        for (shape_index, shape) in subject.shapes.iter().enumerate() {
            for (size, input) in shape.inputs().iter().enumerate() {
                fs::write(input_file(directory, subject_index, shape_index, size), input)?;
            }
        }
    }
    // Each child takes every so many-th subject.
    let children = thread::available_parallelism().map_or(1, |n| n.get()).min(subjects.len());
    let counts: Vec<anyhow::Result<Vec<u64>>> = thread::scope(|scope| {
        let started: Vec<_> = (0..children)
            .map(|child| {
                let names: Vec<_> = subjects.iter().skip(child).step_by(children).map(|s| s.name).collect();
                scope.spawn(move || child_counts(directory, child, children, &names, shape))
            })
            .collect();
        started.into_iter().map(|handle| handle.join().unwrap_or_else(|_| bail!("a panic"))).collect()
    });
    let mut counts = counts.into_iter().collect::<anyhow::Result<Vec<_>>>()?;
    let mut all = Vec::new();
    for (index, subject) in subjects.iter().enumerate() {
        let counts = &mut counts[index % children];
        let expected = 4 * subject.shapes.len();
        ensure!(counts.len() >= expected, "{}: Valgrind counted too few runs", subject.name);
        let rest = counts.split_off(expected);
        let of_subject = std::mem::replace(counts, rest);
        all.push(of_subject.chunks_exact(4).map(|four| [four[0], four[1], four[2], four[3]]).collect());
    }
    Ok(all)
}

/// Starts one child, and reads what Valgrind counted for each call of [`measured_by_valgrind`].
fn child_counts(
    directory: &Path,
    child: usize,
    children: usize,
    names: &[&str],
    shape: &str,
) -> anyhow::Result<Vec<u64>> {
    let profiles = directory.join(format!("profiles-{child}"));
    fs::create_dir(&profiles)?;
    let function = "*measured_by_valgrind";
    let output = Command::new("valgrind")
        .arg("--tool=callgrind")
        .arg(format!("--zero-before={function}"))
        .arg(format!("--dump-after={function}"))
        .arg(format!("--callgrind-out-file={}", profiles.join("out").display()))
        .args(["--compress-strings=yes", "--combine-dumps=no", "--quiet"])
        .arg(std::env::current_exe()?)
        .arg("growth-child")
        .arg(directory)
        .args([child.to_string(), children.to_string()])
        .args(names)
        .args(["--shape", shape])
        .stdin(Stdio::null())
        .output()
        .context("cannot run valgrind (Debian: apt-get install valgrind)")?;
    ensure!(
        output.status.success(),
        "valgrind: {}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    let mut counts = Vec::new();
    loop {
        // The last part, without a number, is from the end of the last call to the end of the program.
        let Ok(profile) = fs::read_to_string(profiles.join(format!("out.{}", counts.len() + 1))) else {
            return Ok(counts);
        };
        let total = profile.lines().find_map(|line| line.strip_prefix("totals: "));
        let total = total.and_then(|total| total.trim().parse().ok()).context("a profile without totals")?;
        counts.push(total);
    }
}

/// What the child does: reads its inputs and feeds them to their parsers.
///
/// # Errors
/// Where an input is missing.
pub fn child(directory: &Path, child: usize, children: usize, subjects: &[Subject]) -> anyhow::Result<()> {
    for (index, subject) in subjects.iter().enumerate() {
        for (shape_index, _) in subject.shapes.iter().enumerate() {
            let read = |size| fs::read(input_file(directory, child + index * children, shape_index, size));
            // What is made once, at the first use, is not the input's.
            (subject.run)(&read(0)?);
            for size in 0..4 {
                measured_by_valgrind(subject.run, &read(size)?);
            }
        }
    }
    Ok(())
}

/// What the shape's four inputs allocate.
pub fn allocations_of(subject: &Subject, shape: &Shape) -> ([Allocations; 4], [usize; 4]) {
    let inputs = shape.inputs();
    (subject.run)(&inputs[0]);
    let sizes = [0, 1, 2, 3].map(|size| inputs[size].len());
    (inputs.map(|input| allocations(subject.run, &input)), sizes)
}
