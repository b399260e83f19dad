//! What every entry must do, whatever it does: survive a panic, and refuse null pointers.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::ffi::{CStr, c_char};
use std::ptr::{null, null_mut};

use crate::*;

thread_local! {
    static ARMED: Cell<bool> = const { Cell::new(false) };
}

/// A bug in whatever entry this thread calls next, when armed.
pub(crate) fn trip() {
    assert!(!ARMED.get(), "the wire was armed");
}

fn armed<T>(work: impl FnOnce() -> T) -> T {
    ARMED.set(true);
    let found = work();
    ARMED.set(false);
    found
}

fn last_error() -> String {
    // SAFETY: the library's text, which lives until the next failure.
    unsafe { CStr::from_ptr(sulcus_last_error()) }.to_str().unwrap().to_owned()
}

/// What an entry gives after a panic, and without a handle to work on.
trait Answer {
    fn survived(&self) -> bool;
    fn refused(&self) -> bool;
}

impl Answer for SulcusStatus {
    fn survived(&self) -> bool {
        *self == SulcusStatus::Panic
    }

    fn refused(&self) -> bool {
        *self == SulcusStatus::InvalidArgument && last_error().contains("is a null pointer")
    }
}

/// Freeing nothing is allowed.
impl Answer for () {
    fn survived(&self) -> bool {
        true
    }

    fn refused(&self) -> bool {
        true
    }
}

impl Answer for *const c_char {
    fn survived(&self) -> bool {
        !self.is_null()
    }

    fn refused(&self) -> bool {
        !self.is_null()
    }
}

impl Answer for u32 {
    fn survived(&self) -> bool {
        *self == 0
    }

    fn refused(&self) -> bool {
        *self == SULCUS_ABI_VERSION
    }
}

type Entry = (&'static str, fn() -> Box<dyn Answer>);

macro_rules! entries {
    ($($name:ident($($argument:expr),*)),* $(,)?) => {
        &[$((
            stringify!($name),
            #[allow(unused_unsafe, reason = "some entries take no pointer")]
            // SAFETY: null pointers, which each entry has to look for.
            || Box::new(unsafe { $name($($argument),*) }),
        )),*]
    };
}

const ENTRIES: &[Entry] = entries![
    sulcus_abi_version(),
    sulcus_version(),
    sulcus_status_text(0),
    sulcus_last_error(),
    sulcus_options_new(null_mut()),
    sulcus_options_free(null_mut()),
    sulcus_options_add_model_file(null_mut(), c"m.onnx".as_ptr()),
    sulcus_options_add_model_bytes(null_mut(), b"m".as_ptr(), 1),
    sulcus_options_set_engine(null_mut(), c"tract".as_ptr()),
    sulcus_options_set_device(null_mut(), c"cpu".as_ptr()),
    sulcus_options_set_threads(null_mut(), 1),
    sulcus_options_set_mirror(null_mut(), 1),
    sulcus_options_set_step(null_mut(), 0.5),
    sulcus_options_set_max_memory(null_mut(), 1),
    sulcus_options_set_half(null_mut(), 1),
    sulcus_options_set_allow_unchecked(null_mut(), 1),
    sulcus_options_set_cache_folder(null_mut(), c"cache".as_ptr()),
    sulcus_options_set_ort_library(null_mut(), c"lib".as_ptr()),
    sulcus_segmenter_new(null(), null_mut()),
    sulcus_segmenter_free(null_mut()),
    sulcus_segmenter_info(null(), null_mut()),
    sulcus_segmenter_channel(null(), 0, null_mut()),
    sulcus_segmenter_note(null(), 0, null_mut()),
    sulcus_segmenter_replay_golden(null()),
    sulcus_ras_from_directions(null(), null(), null(), SULCUS_WORLD_RAS, null_mut()),
    sulcus_image_read(null(), null_mut()),
    sulcus_image_free(null_mut()),
    sulcus_image_scan(null(), null_mut()),
    sulcus_image_grid(null(), null_mut()),
    sulcus_segment(null(), null(), null(), null_mut()),
    sulcus_segment_file(null(), c"in.nii".as_ptr(), c"out.nii".as_ptr(), null(), null_mut()),
    sulcus_segmentation_free(null_mut()),
    sulcus_segmentation_labels(null(), null_mut(), null_mut()),
    sulcus_segmentation_grid(null(), null_mut()),
    sulcus_segmentation_probabilities(null(), null_mut(), null_mut(), null_mut()),
    sulcus_segmentation_structure(null(), 0, null_mut()),
    sulcus_segmentation_report(null(), null_mut()),
];

#[test]
fn the_entries_here_are_those_of_the_header() {
    let header = include_str!("../include/sulcus.h");
    let declared: BTreeSet<&str> = header
        .split(|c: char| !(c.is_ascii_alphanumeric() || "_(".contains(c)))
        .filter_map(|word| word.split_once('('))
        .map(|(name, _)| name)
        .filter(|name| name.starts_with("sulcus_"))
        .collect();
    assert_eq!(declared, ENTRIES.iter().map(|(name, _)| *name).collect());
}

#[test]
fn no_panic_crosses_the_border() {
    // An entry without its net would abort this process: Rust lets no panic out of an `extern "C"` function.
    for (name, call) in ENTRIES {
        border::guard(|| Err(border::Failure::argument("something else")));
        let answer = armed(call);
        assert!(answer.survived(), "{name}");
        let said = last_error();
        assert_eq!(said, "this is a bug in the library, please report it: the wire was armed", "{name}");
    }
}

#[test]
fn null_pointers_are_errors() {
    for (name, call) in ENTRIES {
        assert!(call().refused(), "{name}: {}", last_error());
    }
}

#[test]
fn a_panic_with_a_text_made_for_it_is_told_as_well() {
    let status = border::guard(|| panic!("found {}", 3));
    assert_eq!((status, last_error().ends_with(": found 3")), (SulcusStatus::Panic, true));
    let status = border::guard(|| std::panic::panic_any(7_u8));
    assert_eq!((status, last_error().ends_with(": no message")), (SulcusStatus::Panic, true));
}

#[test]
fn each_thread_has_its_own_last_error_and_success_leaves_it() {
    let fail = |message: &'static str| {
        border::guard(|| Err(border::Failure::argument(message)));
    };
    fail("here");
    std::thread::spawn(move || {
        assert_eq!(last_error(), "");
        fail("there\0and after");
        assert_eq!(last_error(), "there\u{fffd}and after");
    })
    .join()
    .unwrap();
    assert_eq!(border::guard(|| Ok(())), SulcusStatus::Ok);
    assert_eq!(last_error(), "here");
}

#[test]
fn handles_that_threads_share_can_be_shared() {
    fn shared<T: Send + Sync>() {}
    shared::<SulcusSegmenter>();
    shared::<SulcusSegmentation>();
    shared::<SulcusImage>();
    shared::<SulcusOptions>();
}
