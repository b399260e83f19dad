//! Two hundred damaged and malicious models: each is refused with a reason, none causes a panic or executes anything, and none takes
//! more memory than its size justifies.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot be set up has failed"
)]
#![allow(unsafe_code, reason = "an allocator that counts")]

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::collections::BTreeMap;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use common::{CHECKPOINT, Model, PICKLE, Random, call, fixture, pack, unpack};
use serde_json::{Value, json};
use sulcus_nnunet::{ImportOptions, import};
use zip::CompressionMethod;

/// The memory that the program holds, and the most that it has held since the value was last set, in bytes.
static HELD: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

struct Counting;

// SAFETY: every call is passed unchanged to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let held = HELD.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        PEAK.fetch_max(held, Ordering::Relaxed);
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        HELD.fetch_sub(layout.size(), Ordering::Relaxed);
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Archives may inflate to twenty times their size; buffers double as data arrive. Buffers of fixed size are added.
const MEMORY_PER_BYTE: usize = 64;
const FIXED_MEMORY: usize = 2 << 20;

/// Counts the models that were refused.
struct Refused {
    canary: PathBuf,
    count: usize,
}

impl Refused {
    /// Imports a folder or archive whose files have this many bytes.
    fn add(&mut self, what: &str, path: &Path, bytes: usize) {
        let before = HELD.load(Ordering::Relaxed);
        PEAK.store(before, Ordering::Relaxed);
        let outcome = catch_unwind(AssertUnwindSafe(|| import(path, &ImportOptions::default()).map(drop)));
        let peak = PEAK.load(Ordering::Relaxed).saturating_sub(before);
        let outcome = outcome.unwrap_or_else(|_| panic!("{what}: it panicked"));
        let Err(error) = outcome else { panic!("{what}: it was imported") };
        let reason = error.to_string();
        assert!(reason.contains("annot") && reason.contains('/'), "{what}: {reason}");
        let most = FIXED_MEMORY + MEMORY_PER_BYTE * bytes;
        assert!(peak <= most, "{what}: {peak} bytes of memory for {bytes} bytes, at most {most} are justified");
        assert!(!self.canary.exists(), "{what}: it was executed");
        self.count += 1;
    }

    fn add_model(&mut self, what: &str, model: &Model) {
        let bytes = ["plans.json", "dataset.json", CHECKPOINT].map(|file| model.read(file).len());
        self.add(what, model.path(), bytes.iter().sum());
    }
}

#[test]
fn two_hundred_damaged_models_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let canary = folder.path().join("canary");
    let mut refused = Refused { canary: canary.clone(), count: 0 };
    checkpoints(&mut refused, &canary);
    let of_checkpoints = refused.count;
    json_files(&mut refused);
    let of_json = refused.count - of_checkpoints;
    archives(&mut refused, folder.path(), &canary);
    let of_archives = refused.count - of_json - of_checkpoints;
    assert!(refused.count >= 200, "{} models", refused.count);
    assert!(
        of_checkpoints >= 70 && of_json >= 70 && of_archives >= 40,
        "{of_checkpoints}, {of_json}, {of_archives}"
    );
}

fn changed_pickle(change: impl FnOnce(&mut Vec<u8>)) -> Model {
    let model = Model::new("plain_2d_bn");
    model.edit_checkpoint(|files| change(files.get_mut(PICKLE).unwrap()));
    model
}

/// Replaces every occurrence of a text by one of the same length.
fn replaced(bytes: &mut [u8], from: &[u8], to: &[u8]) {
    assert_eq!(from.len(), to.len());
    let mut found = false;
    for at in 0..bytes.len().saturating_sub(from.len()) {
        if bytes[at..].starts_with(from) {
            bytes[at..at + from.len()].copy_from_slice(to);
            found = true;
        }
    }
    assert!(found, "{}", String::from_utf8_lossy(from));
}

fn checkpoints(refused: &mut Refused, canary: &Path) {
    let command = format!("touch {}", canary.display());
    // Names that execute, as a whole pickle and at the end of a sound one.
    for (module, name) in [
        ("os", "system"),
        ("posix", "popen"),
        ("nt", "system"),
        ("subprocess", "Popen"),
        ("builtins", "exec"),
        ("builtins", "__import__"),
        ("__builtin__", "eval"),
        ("runpy", "_run_code"),
        ("torch.hub", "load"),
        ("torch._utils", "_rebuild_tensor"),
        ("numpy.testing", "_private"),
        ("pickle", "loads"),
    ] {
        let model = changed_pickle(|pickle| *pickle = call(module, name, &command));
        refused.add_model(&format!("{module}.{name}"), &model);
        let model = changed_pickle(|pickle| {
            assert_eq!(pickle.pop(), Some(b'.'));
            pickle.extend(&call(module, name, &command)[2..]);
        });
        refused.add_model(&format!("{module}.{name} at the end"), &model);
    }
    let names: [(&[u8], &[u8]); 8] = [
        (b"network_weights", b"network_weightz"),
        (b"init_args", b"init_argz"),
        (b"configuration", b"configuratiom"),
        (b"trainer_name", b"trainer_nama"),
        (b"_rebuild_tensor_v2", b"_rebuild_tensor_v9"),
        (b"OrderedDict", b"DisorderDic"),
        (b"FloatStorage", b"BloatStorage"),
        (b"encoder.stages.0", b"encoder.stages.9"),
    ];
    for (from, to) in names {
        let model = changed_pickle(|pickle| replaced(pickle, from, to));
        refused.add_model(&String::from_utf8_lossy(to), &model);
    }
    let whole = Model::new("plain_2d_bn").read(CHECKPOINT);
    for part in 0..16 {
        let model = Model::new("plain_2d_bn");
        model.write(CHECKPOINT, &whole[..whole.len() * part / 16]);
        refused.add_model(&format!("{part}/16 of a checkpoint"), &model);
        let model = changed_pickle(|pickle| pickle.truncate(pickle.len() * part / 16));
        refused.add_model(&format!("{part}/16 of a pickle"), &model);
    }
    // Weights whose bytes were changed without their checksum.
    let whole = Model::new("plain_2d").read(CHECKPOINT);
    let files = unpack(&whole);
    let mut random = Random(3);
    for key in 0..10 {
        let values = &files[&format!("checkpoint_final/data/{key}")];
        let at = whole.windows(values.len()).position(|window| window == values.as_slice()).unwrap();
        let mut changed = whole.clone();
        changed[at + random.below(values.len())] ^= 0x11;
        let model = Model::new("plain_2d");
        model.write(CHECKPOINT, &changed);
        refused.add_model(&format!("a changed weight of storage {key}"), &model);
    }
    // Storages that are missing, or larger than the pickle says.
    for key in 0..6 {
        let name = format!("checkpoint_final/data/{key}");
        let model = Model::new("plain_2d");
        model.edit_checkpoint(|files| match key % 2 {
            0 => drop(files.remove(&name).unwrap()),
            _ => files.get_mut(&name).unwrap().extend([0; 4]),
        });
        refused.add_model(&format!("storage {key}"), &model);
    }
}

fn json_files(refused: &mut Refused) {
    let entries = [
        ("plans.json", "/transpose_forward"),
        ("plans.json", "/configurations"),
        ("plans.json", "/configurations/2d/patch_size"),
        ("plans.json", "/configurations/2d/spacing"),
        ("plans.json", "/configurations/2d/normalization_schemes"),
        ("plans.json", "/configurations/2d/resampling_fn_data"),
        ("plans.json", "/configurations/2d/architecture/network_class_name"),
        ("plans.json", "/configurations/2d/architecture/arch_kwargs/n_stages"),
        ("plans.json", "/configurations/2d/architecture/arch_kwargs/features_per_stage"),
        ("plans.json", "/configurations/2d/architecture/arch_kwargs/strides"),
        ("plans.json", "/configurations/2d/architecture/arch_kwargs/kernel_sizes"),
        ("dataset.json", "/labels"),
        ("dataset.json", "/channel_names"),
    ];
    let values: [Value; 5] = [Value::Null, json!("x"), json!(-1), json!(1e30), json!([])];
    for (file, entry) in entries {
        for value in &values {
            let model = Model::new("plain_2d_bn");
            model.edit(file, |json| *json.pointer_mut(entry).unwrap() = value.clone());
            refused.add_model(&format!("{file}{entry} = {value}"), &model);
        }
    }
    for file in ["plans.json", "dataset.json"] {
        let whole = Model::new("plain_2d_bn").read(file);
        let deep = [vec![b'['; 200_000], vec![b']'; 200_000]].concat();
        let mut not_utf8 = whole.clone();
        not_utf8[whole.len() / 2] = 0xff;
        let half = whole[..whole.len() / 2].to_vec();
        for bytes in [deep, not_utf8, half, b"[]".to_vec(), b"NaN".to_vec(), Vec::new()] {
            let model = Model::new("plain_2d_bn");
            model.write(file, &bytes);
            refused.add_model(&format!("{file} of {} bytes", bytes.len()), &model);
        }
    }
}

fn archives(refused: &mut Refused, folder: &Path, canary: &Path) {
    let whole = fs::read(fixture("plain_2d_bn")).unwrap();
    let files = unpack(&whole);
    let path = folder.join("export.zip");
    let mut add = |what: &str, bytes: &[u8]| {
        fs::write(&path, bytes).unwrap();
        refused.add(what, &path, bytes.len());
    };
    for part in 0..20 {
        add(&format!("{part}/20 of an archive"), &whole[..whole.len() * part / 20]);
    }
    // Compressed bytes that were changed.
    let mut random = Random(5);
    for i in 0..16 {
        let mut changed = whole.clone();
        // The checkpoint comes first and is nearly all of the archive.
        let at = whole.len() / 8 + random.below(whole.len() / 2);
        changed[at] ^= 0x55;
        add(&format!("changed byte {i}"), &changed);
    }
    type Files = BTreeMap<String, Vec<u8>>;
    let changed = |change: &dyn Fn(&mut Files)| {
        let mut files = files.clone();
        change(&mut files);
        pack(&files, CompressionMethod::Deflated)
    };
    let name_of = |end: &str| files.keys().find(|name| name.ends_with(end)).unwrap().clone();
    for end in ["plans.json", "dataset.json", "checkpoint_final.pth"] {
        let name = name_of(end);
        add(&format!("without {end}"), &changed(&|files| drop(files.remove(&name))));
        add(&format!("{end} is empty"), &changed(&|files| drop(files.insert(name.clone(), Vec::new()))));
        // Small when compressed, 80 MB when not.
        let bomb = changed(&|files| drop(files.insert(name.clone(), vec![b' '; 80 << 20])));
        add(&format!("{end} inflates without measure"), &bomb);
    }
    // Names outside the folder are never written to: nothing is unpacked.
    let outside = changed(&|files| {
        let all: Vec<String> = files.keys().cloned().collect();
        for name in all {
            let bytes = files.remove(&name).unwrap();
            files.insert(format!("../../{}/{}", canary.display(), name.replace("fold_0", "fold_x")), bytes);
        }
    });
    add("names outside the folder", &outside);
    assert!(!canary.exists());
}
