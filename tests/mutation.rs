//! A hundred thousand damaged files of every format that is read, and the findings of the fuzzer: each is read or
//! refused, none causes a panic, and no reader allocates more memory than the content of the file justifies.
//!
//! `cargo test --release --workspace --test mutation -- --ignored --nocapture` also measures time and memory of 2,000 files of each
//! kind.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot be set up has failed")]
#![allow(unsafe_code, reason = "an allocator that counts")]
#![allow(clippy::print_stdout, reason = "the measurement prints its table")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

#[path = "fuzz/src/seeds.rs"]
#[allow(unreachable_pub, reason = "public in the fuzz package, which this file belongs to")]
mod seeds;
#[path = "fuzz/src/targets.rs"]
#[allow(unreachable_pub, reason = "public in the fuzz package, which this file belongs to")]
mod targets;

use seeds::Seed;

thread_local! {
    /// The largest allocation of this thread since the value was last set to 0.
    static LARGEST: Cell<usize> = const { Cell::new(0) };
}

/// The memory that all threads hold, and the most that they have held since it was last set, in bytes.
static HELD: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

struct Counting;

fn count(size: usize, returned: usize) {
    // A thread that is ending no longer has this value.
    let _ = LARGEST.try_with(|largest| largest.set(largest.get().max(size)));
    let held = HELD.fetch_add(size, Ordering::Relaxed).wrapping_add(size);
    PEAK.fetch_max(held, Ordering::Relaxed);
    HELD.fetch_sub(returned, Ordering::Relaxed);
}

// SAFETY: every call is passed unchanged to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size(), 0);
        unsafe { System.alloc(layout) }
    }
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size(), 0);
        unsafe { System.alloc_zeroed(layout) }
    }
    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size, layout.size());
        unsafe { System.realloc(pointer, layout, size) }
    }
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        HELD.fetch_sub(layout.size(), Ordering::Relaxed);
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Number of all files.
const FILES: usize = 100_000;
const THREADS: usize = 2;

/// Maximum size of one allocation: twice the size of the content, whatever the header announces. A stored byte becomes at
/// most a float32, and buffers double as data arrive. Tables of fixed size (counts of labels, the inflater's window) are
/// added.
fn limit(file: &[u8]) -> usize {
    const FIXED: usize = 1 << 18;
    FIXED + 2 * size_of::<f32>() * file.len().max(inflated(file))
}

/// Size of the compressed data in a file after decompression, as far as it can be inflated.
fn inflated(file: &[u8]) -> usize {
    let starts = file.windows(3).enumerate().filter_map(|(at, bytes)| match bytes {
        [0x1f, 0x8b, 8] => after_gzip_header(file.get(at..)?),
        [0x78, 0x01 | 0x5e | 0x9c | 0xda, _] => file.get(at + 2..),
        _ => None,
    });
    starts.map(inflated_stream).sum()
}

fn after_gzip_header(member: &[u8]) -> Option<&[u8]> {
    let flags = *member.get(3)?;
    let mut at = 10;
    if flags & 4 != 0 {
        at += 2 + usize::from(*member.get(10)?) + 256 * usize::from(*member.get(11)?);
    }
    for flag in [8, 16] {
        if flags & flag != 0 {
            at += member.get(at..)?.iter().position(|b| *b == 0)? + 1;
        }
    }
    member.get(at + if flags & 2 != 0 { 2 } else { 0 }..)
}

fn inflated_stream(data: &[u8]) -> usize {
    use miniz_oxide::inflate::TINFLStatus;
    use miniz_oxide::inflate::core::{DecompressorOxide, decompress};
    let mut state = DecompressorOxide::new();
    let mut ring = vec![0; 1 << 15];
    let (mut read, mut all) = (0, 0);
    loop {
        let at = all % ring.len();
        let (status, taken, written) = decompress(&mut state, &data[read..], &mut ring, at, 0);
        read += taken;
        all += written;
        if status != TINFLStatus::HasMoreOutput {
            return all;
        }
    }
}

/// The same for DICOM. A compressed frame may have this number of pixels regardless of its size, because an empty slice
/// compresses to almost nothing; values are in double precision until they are scaled.
fn dicom_limit(file: &[u8]) -> usize {
    const FIXED: usize = 1 << 18;
    const MAX_COMPRESSED_PIXELS: usize = 1 << 22;
    const MAX_INFLATION: usize = 1032;
    let has = |part: &[u8]| file.windows(part.len()).any(|window| window == part);
    // The transfer syntaxes of JPEG and similar codecs, RLE, and the deflated one.
    let compressed = file.starts_with(targets::FRAME) || has(b"10008.1.2.4.") || has(b"10008.1.2.5");
    let bytes = if has(b"10008.1.2.1.99") { MAX_INFLATION * file.len() } else { file.len() };
    FIXED + if compressed { 8 * MAX_COMPRESSED_PIXELS } else { 2 * 4 * bytes }
}

/// The same for pictures, whose values may be compressed as far as the format allows.
fn picture_limit(file: &[u8]) -> usize {
    /// Tables of the decoders, and the values of a directory.
    const FIXED: usize = 1 << 21;
    const MAX_EXPANSION: usize = 1500;
    FIXED + size_of::<f32>() * MAX_EXPANSION * file.len()
}

/// Runs the target on a file.
fn check(target: &str, file: &[u8], what: &str) {
    let (_, run) = targets::TARGETS.iter().find(|(name, _)| *name == target).expect("a target of this name");
    // Computed first, because the computation allocates memory too.
    let most = match target {
        "dicom" => dicom_limit(file),
        "pictures" => picture_limit(file),
        _ => limit(file),
    };
    LARGEST.set(0);
    let sound = catch_unwind(AssertUnwindSafe(|| run(file))).is_ok();
    let asked = LARGEST.get();
    assert!(sound, "{target} panicked on {what}: {}", file.escape_ascii());
    assert!(
        asked <= most,
        "{target} asked for {asked} bytes of at most {most} on {what} of {} bytes: {}",
        file.len(),
        file.escape_ascii()
    );
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The seeds, and real files: the bundled case. Those of the second list take long, so they are used rarely.
fn seeds() -> (Vec<Seed>, Vec<Seed>) {
    let read = |path: &str| std::fs::read(root().join(path)).expect("a bundled file");
    let mut quick = seeds::all(&read("models/hippocampus/model.onnx"));
    let is_slow = |seed: &mut Seed| ["checkpoint", "weights", "nnunet"].contains(&seed.target);
    let mut slow: Vec<Seed> = quick.extract_if(.., is_slow).collect();
    quick.push(Seed { target: "nifti", name: "truth", bytes: read("examples/data/case/truth.nii.gz") });
    slow.push(Seed { target: "nifti", name: "image", bytes: read("examples/data/case/image.nii.gz") });
    (quick, slow)
}

/// Marsaglia's xorshift64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n.max(1) as u64) as usize
    }

    fn pick<'a, T: ?Sized>(&mut self, list: &[&'a T]) -> &'a T {
        list[self.below(list.len())]
    }
}

const BINARY: [&[u8]; 10] = [
    &[0; 4],
    &[0xff; 4],
    &[0xff, 0xff, 0xff, 0x7f],
    &[0, 0, 0, 0x80],
    &[0, 0, 0xc0, 0x7f],
    &[0, 0, 0x80, 0x7f],
    &[0xff, 0xff],
    &[0xff, 0x7f],
    &[0x1f, 0x8b, 8],
    &[0x78, 0x9c],
];

const WORDS: [&str; 18] = [
    "-1",
    "0",
    "1e308",
    "nan",
    "inf",
    "4294967296",
    "18446744073709551615",
    "1",
    "none",
    "(1,0,0)",
    "gzip",
    "raw",
    "ascii",
    "True",
    "LOCAL",
    "\n",
    "\n\n",
    "=",
];

/// Changes a file one to four times: flips, overwrites, removes or repeats bytes, or inserts another word or number.
fn damage(bytes: &mut Vec<u8>, random: &mut Random, other: &[u8]) {
    for _ in 0..=random.below(4) {
        let at = random.below(bytes.len());
        match random.below(9) {
            0 => bytes.truncate(at),
            1 | 2 => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= 1 << random.below(8);
                }
            }
            3 => {
                let end = (at + random.below(24)).min(bytes.len());
                bytes.drain(at..end);
            }
            4 => {
                let end = (at + random.below(64)).min(bytes.len());
                let piece = bytes[at..end].to_vec();
                bytes.splice(at..at, piece);
            }
            5 => {
                let mut value = random.pick(&BINARY).to_vec();
                if random.below(2) == 0 {
                    value.reverse();
                }
                let end = (at + value.len()).min(bytes.len());
                bytes[at..end].copy_from_slice(&value[..end - at]);
            }
            6 => {
                let from = random.below(other.len());
                let end = (from + random.below(200)).min(other.len());
                bytes.splice(at..at, other[from..end].iter().copied());
            }
            _ => {
                // A word of a text header is replaced by another one.
                let word = random.pick(&WORDS).as_bytes();
                let is_word = |b: &u8| b.is_ascii_alphanumeric() || *b == b'.' || *b == b'-';
                let length = bytes[at..].iter().take(20).take_while(|b| is_word(b)).count();
                bytes.splice(at..at + length, word.iter().copied());
            }
        }
    }
}

#[test]
fn hundred_thousand_damaged_files_are_read_or_refused() {
    let (quick, slow) = seeds();
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (quick, slow) = (&quick, &slow);
            scope.spawn(move || {
                let mut random = Random(0x5eed_0000_0000_0001 + thread as u64);
                for round in 0..FILES / THREADS {
                    let (list, index) = if round % 40 == 0 { (slow, round / 40) } else { (quick, round) };
                    let seed = &list[index % list.len()];
                    let other = &quick[random.below(quick.len())].bytes;
                    let mut bytes = seed.bytes.clone();
                    damage(&mut bytes, &mut random, other);
                    check(seed.target, &bytes, &format!("{}, round {round} of thread {thread}", seed.name));
                }
                targets::remove_scratch();
            });
        }
    });
}

/// The most time that a file may take.
const MAX_SECS: f64 = 2.0;
/// After so long a file counts as one that never ends.
const HANG: Duration = Duration::from_secs(30);

/// The twelve kinds of files that come from others, and their targets.
const KINDS: [(&str, &str); 12] = [
    ("NIfTI", "nifti"),
    ("NRRD", "nrrd"),
    ("MetaImage", "metaimage"),
    ("DICOM", "dicom"),
    ("DICOM SEG", "dicom"),
    ("ONNX", "model"),
    ("specification", "spec"),
    ("plan", "plan"),
    ("checkpoint", "checkpoint"),
    ("weights", "weights"),
    ("dataset.json", "dataset"),
    ("nnU-Net model", "nnunet"),
];

#[test]
#[ignore = "measures time and memory, so run it alone and by hand"]
fn two_thousand_damaged_files_of_each_kind_take_little_time_and_memory() {
    const FILES: usize = 2000;
    let (quick, slow) = seeds();
    let all: Vec<&Seed> = quick.iter().chain(&slow).collect();
    std::thread::spawn(watch);
    println!(
        "{:<14} {:>6} {:>9} {:>10} {:>12} {:>10}",
        "kind", "files", "max s", "mean ms", "max peak kB", "of allowed"
    );
    for (kind, target) in KINDS {
        let is_segmentation = |seed: &&Seed| seed.name.starts_with("seg-");
        let seeds: Vec<&Seed> = all.iter().copied().filter(|seed| seed.target == target).collect();
        let (segmentations, others): (Vec<&Seed>, Vec<&Seed>) = seeds.into_iter().partition(is_segmentation);
        let seeds = if kind == "DICOM SEG" { segmentations } else { others };
        let mut random = Random(0x5eed_0000_0000_0011);
        let (mut slowest, mut total, mut most, mut share) = (0.0_f64, 0.0, 0, 0.0_f64);
        for round in 0..FILES {
            let seed = seeds[round % seeds.len()];
            let mut bytes = seed.bytes.clone();
            damage(&mut bytes, &mut random, &all[round % all.len()].bytes);
            let what = format!("{kind}: {}, round {round}", seed.name);
            let allowed = allowed_peak(target, &bytes);
            let held = HELD.load(Ordering::Relaxed);
            PEAK.store(held, Ordering::Relaxed);
            let start = Instant::now();
            *WATCHED.lock().unwrap() = Some((start, what.clone()));
            check(target, &bytes, &what);
            *WATCHED.lock().unwrap() = None;
            let secs = start.elapsed().as_secs_f64();
            let peak = PEAK.load(Ordering::Relaxed).saturating_sub(held);
            assert!(secs <= MAX_SECS, "{secs} s for {what}: {}", bytes.escape_ascii());
            assert!(peak <= allowed, "{peak} of {allowed} bytes for {what}: {}", bytes.escape_ascii());
            (slowest, total) = (slowest.max(secs), total + secs);
            (most, share) = (most.max(peak), share.max(peak as f64 / allowed as f64));
        }
        let mean = 1000.0 * total / FILES as f64;
        println!("{kind:<14} {FILES:>6} {slowest:>9.3} {mean:>10.3} {:>12} {share:>10.2}", most / 1000);
    }
    targets::remove_scratch();
}

/// The most memory that reading a file may take: 32 times what the file holds, and the tables and windows of readers. Each value is
/// held several times, as bytes, numbers and a network's weights; the values of a description take more memory than their text.
fn allowed_peak(target: &str, file: &[u8]) -> usize {
    const FIXED: usize = 1 << 20;
    const PER_BYTE: usize = 32;
    // A compressed frame of DICOM may have this size however few bytes it takes in the file.
    let frames = if target == "dicom" { 2 * dicom_limit(file) } else { 0 };
    FIXED + frames + PER_BYTE * file.len().max(inflated(file))
}

/// The file that is read now, and since when.
static WATCHED: std::sync::Mutex<Option<(Instant, String)>> = std::sync::Mutex::new(None);

/// Ends the process when a file takes forever.
fn watch() {
    loop {
        std::thread::sleep(Duration::from_secs(1));
        if let Some((start, what)) = &*WATCHED.lock().unwrap()
            && start.elapsed() > HANG
        {
            println!("no end after {HANG:?}: {what}");
            std::process::abort();
        }
    }
}

/// Reads a seed that is neither a volume nor a table, by the functions that read only files.
fn sound(seed: &Seed) -> Option<Result<(), String>> {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| {
        let file = folder.path().join(name);
        std::fs::write(&file, &seed.bytes).unwrap();
        file
    };
    let init = |name: &str| sulcus_train::InitSource::read(&file(name)).map(drop).map_err(|e| e.to_string());
    Some(match (seed.target, seed.name) {
        ("spec", _) => {
            let json = std::str::from_utf8(&seed.bytes).unwrap();
            sulcus_model::ModelSpec::from_json(json).map(drop).map_err(|e| e.to_string())
        }
        ("plan", _) => sulcus_plan::PlanFile::read(&file("plan.json")).map(drop).map_err(|e| e.to_string()),
        ("checkpoint", _) => init("x.ckpt"),
        ("nnunet", "export") => {
            let options = sulcus_nnunet::ImportOptions::default();
            sulcus_nnunet::import(&file("x.zip"), &options).map(drop).map_err(|e| e.to_string())
        }
        // Files of the one above.
        ("nnunet", _) => Ok(()),
        ("weights", "pytorch") => init("x.pt"),
        ("weights", "safetensors") => init("x.safetensors"),
        // A part of a file.
        ("weights", _) => Ok(()),
        // Without its files a data set has no case.
        ("dataset", name) => match sulcus_dataset::Dataset::open(file("dataset.json").parent().unwrap()) {
            Err(sulcus_dataset::DatasetError::Folder { .. }) if name == "nnunet" => Ok(()),
            other => other.map(drop).map_err(|e| e.to_string()),
        },
        _ => return None,
    })
}

#[test]
fn every_seed_is_sound() {
    let (quick, slow) = seeds();
    for seed in quick.iter().chain(&slow) {
        let what = format!("{}/{}", seed.target, seed.name);
        check(seed.target, &seed.bytes, &what);
        if seed.target == "model" {
            assert!(sulcus_onnx::read_spec(&seed.bytes).is_ok(), "{what}");
            let read = sulcus_runtime::NativePredictor::new(&seed.bytes, Some(1)).map(drop);
            assert!(read.is_ok(), "{what}: {}", read.unwrap_err());
        } else if let Some(read) = sound(seed) {
            assert_eq!(read, Ok(()), "{what}");
        } else if seed.target == "tables" {
            assert!(sulcus_io::parse_label_table(&seed.bytes).is_ok(), "{what}");
        } else if seed.name.starts_with("seg-") {
            assert!(sulcus_dicom::read_segmentation_bytes(&seed.bytes).is_ok(), "{what}");
        } else if seed.target == "dicom" {
            let files = targets::dicom_files(&seed.bytes);
            let files: Vec<&[u8]> = files.iter().map(Vec::as_slice).collect();
            let read = sulcus_io::dicom::read_series_bytes(&files, None);
            assert!(read.is_ok(), "{what}: {}", read.err().map(|e| e.to_string()).unwrap_or_default());
        } else if seed.name != "pair" {
            let read = sulcus_io::read_scan_bytes(&seed.bytes);
            assert!(read.is_ok(), "{what}: {}", read.err().map(|e| e.to_string()).unwrap_or_default());
        }
    }
    targets::remove_scratch();
}

#[test]
fn fuzzing_corpus_is_read_or_refused() {
    let corpus = root().join("tests/fuzz/corpus");
    let mut files = 0;
    for (target, _) in targets::TARGETS {
        // Targets that were added later have no corpus yet.
        for entry in std::fs::read_dir(corpus.join(target)).into_iter().flatten() {
            let path = entry.unwrap().path();
            check(target, &std::fs::read(&path).unwrap(), &path.display().to_string());
            files += 1;
        }
    }
    targets::remove_scratch();
    assert!(files > targets::TARGETS.len(), "the corpus is empty");
}
