//! Rules for every exported function: it catches panics and refuses null pointers. Also the structs that can grow.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::ffi::{CStr, c_char, c_int, c_void};
use std::mem::offset_of;
use std::ptr::{null, null_mut};

use crate::*;

thread_local! {
    static ARMED: Cell<bool> = const { Cell::new(false) };
}

/// Simulates a bug in the next exported function that this thread calls.
pub(crate) fn panic_if_armed() {
    assert!(!ARMED.get(), "armed by the test");
}

fn armed<T>(work: impl FnOnce() -> T) -> T {
    ARMED.set(true);
    let found = work();
    ARMED.set(false);
    found
}

fn last_error() -> String {
    // SAFETY: the text belongs to the library and is valid until the next failure.
    unsafe { CStr::from_ptr(sulcus_last_error()) }.to_str().unwrap().to_owned()
}

/// What an exported function returns after a panic, and for null pointers.
trait ReturnValue {
    fn reports_panic(&self) -> bool;
    fn refuses_null(&self) -> bool;
}

impl ReturnValue for SulcusStatus {
    fn reports_panic(&self) -> bool {
        *self == SulcusStatus::Panic
    }

    fn refuses_null(&self) -> bool {
        *self == SulcusStatus::InvalidArgument && last_error().contains("is a null pointer")
    }
}

/// Functions that free accept null.
impl ReturnValue for () {
    fn reports_panic(&self) -> bool {
        true
    }

    fn refuses_null(&self) -> bool {
        true
    }
}

impl ReturnValue for *const c_char {
    fn reports_panic(&self) -> bool {
        !self.is_null()
    }

    fn refuses_null(&self) -> bool {
        !self.is_null()
    }
}

impl ReturnValue for u32 {
    fn reports_panic(&self) -> bool {
        *self == 0
    }

    fn refuses_null(&self) -> bool {
        *self == SULCUS_ABI_VERSION
    }
}

type ExportedFunction = (&'static str, fn() -> Box<dyn ReturnValue>);

macro_rules! exported_functions {
    ($($name:ident($($argument:expr),*)),* $(,)?) => {
        &[$((
            stringify!($name),
            #[allow(unused_unsafe, reason = "some functions take no pointer")]
            // SAFETY: null pointers, which each function must check.
            || Box::new(unsafe { $name($($argument),*) }),
        )),*]
    };
}

const EXPORTED_FUNCTIONS: &[ExportedFunction] = exported_functions![
    sulcus_abi_version(),
    sulcus_version(),
    sulcus_status_text(0),
    sulcus_last_error(),
    sulcus_last_error_warnings_json(),
    sulcus_options_new(null_mut()),
    sulcus_options_free(null_mut()),
    sulcus_options_add_model_file(null_mut(), c"m.onnx".as_ptr()),
    sulcus_options_add_model_bytes(null_mut(), b"m".as_ptr(), 1),
    sulcus_options_set_engine(null_mut(), c"tract".as_ptr()),
    sulcus_options_set_device(null_mut(), c"cpu".as_ptr()),
    sulcus_options_set_threads(null_mut(), 1),
    sulcus_options_set_mirror(null_mut(), 1),
    sulcus_options_set_exact(null_mut(), 1),
    sulcus_options_set_step(null_mut(), 0.5),
    sulcus_options_set_max_memory(null_mut(), 1),
    sulcus_options_set_precision(null_mut(), 1),
    sulcus_options_set_allow_unchecked(null_mut(), 1),
    sulcus_options_set_strict(null_mut(), 1),
    sulcus_options_set_allow_constant(null_mut(), 1),
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
    sulcus_segmentation_report_json(null(), null_mut()),
    sulcus_segmentation_warning(null(), 0, null_mut()),
];

#[test]
fn list_has_every_function_of_the_header() {
    let header = include_str!("../include/sulcus.h");
    let declared: BTreeSet<&str> = header
        .split(|c: char| !(c.is_ascii_alphanumeric() || "_(".contains(c)))
        .filter_map(|word| word.split_once('('))
        .map(|(name, _)| name)
        .filter(|name| name.starts_with("sulcus_"))
        .collect();
    assert_eq!(declared, EXPORTED_FUNCTIONS.iter().map(|(name, _)| *name).collect());
}

#[test]
fn panic_becomes_a_status() {
    // A function that does not catch the panic would abort this process.
    for (name, call) in EXPORTED_FUNCTIONS {
        ffi::call(|| Err(ffi::FfiError::argument("something else")));
        let value = armed(call);
        assert!(value.reports_panic(), "{name}");
        let message = last_error();
        assert_eq!(message, "this is a bug in the library, please report it: armed by the test", "{name}");
    }
}

#[test]
fn null_pointers_are_refused() {
    for (name, call) in EXPORTED_FUNCTIONS {
        assert!(call().refuses_null(), "{name}: {}", last_error());
    }
}

#[test]
fn message_of_a_formatted_panic_is_kept() {
    let status = ffi::call(|| panic!("found {}", 3));
    assert_eq!((status, last_error().ends_with(": found 3")), (SulcusStatus::Panic, true));
    let status = ffi::call(|| std::panic::panic_any(7_u8));
    assert_eq!((status, last_error().ends_with(": no message")), (SulcusStatus::Panic, true));
}

#[test]
fn last_error_is_per_thread_and_success_keeps_it() {
    let fail = |message: &'static str| {
        ffi::call(|| Err(ffi::FfiError::argument(message)));
    };
    fail("here");
    std::thread::spawn(move || {
        assert_eq!(last_error(), "");
        fail("there\0and after");
        assert_eq!(last_error(), "there\u{fffd}and after");
    })
    .join()
    .unwrap();
    assert_eq!(ffi::call(|| Ok(())), SulcusStatus::Ok);
    assert_eq!(last_error(), "here");
}

#[test]
fn handles_are_send_and_sync() {
    fn shared<T: Send + Sync>() {}
    shared::<SulcusSegmenter>();
    shared::<SulcusSegmentation>();
    shared::<SulcusImage>();
    shared::<SulcusOptions>();
}

/// A later version of [`SulcusSegmentOptions`].
#[repr(C)]
#[derive(Clone, Copy)]
struct NewerOptions {
    known: SulcusSegmentOptions,
    added: u64,
}

fn options(struct_size: usize) -> SulcusSegmentOptions {
    unsafe extern "C" fn progress(_: *mut c_void, _: usize, _: usize) -> c_int {
        0
    }
    SulcusSegmentOptions { struct_size, flags: 1, max_memory: 7, progress: Some(progress), user_data: null_mut() }
}

fn read(options: &SulcusSegmentOptions) -> Result<SulcusSegmentOptions, SulcusStatus> {
    let mut read = Err(SulcusStatus::Failed);
    // SAFETY: a live struct with at least as many bytes as `struct_size` says.
    let status = ffi::call(|| unsafe { growing::read_growing(options, "options").map(|found| read = Ok(found)) });
    if status == SulcusStatus::Ok { read } else { Err(status) }
}

#[test]
fn fields_that_an_older_struct_lacks_have_their_defaults() {
    let found = read(&options(size_of::<SulcusSegmentOptions>())).unwrap();
    assert!((found.flags, found.max_memory, found.progress.is_some()) == (1, 7, true));
    // A version that ended with `max_memory`, and one that ended with `flags`.
    let found = read(&options(offset_of!(SulcusSegmentOptions, progress))).unwrap();
    assert!((found.flags, found.max_memory, found.progress.is_some()) == (1, 7, false));
    let found = read(&options(offset_of!(SulcusSegmentOptions, max_memory))).unwrap();
    assert!((found.flags, found.max_memory, found.progress.is_some()) == (1, 0, false));
}

#[test]
fn newer_struct_is_read_only_when_its_unknown_fields_are_zero() {
    let newer = |added| NewerOptions { known: options(size_of::<NewerOptions>()), added };
    // SAFETY: a struct of `struct_size` bytes.
    let read = |newer: &NewerOptions| unsafe {
        ffi::call(|| {
            growing::read_growing(std::ptr::from_ref(newer).cast::<SulcusSegmentOptions>(), "options").map(drop)
        })
    };
    assert_eq!(read(&newer(0)), SulcusStatus::Ok);
    assert_eq!(read(&newer(1 << 63)), SulcusStatus::InvalidArgument);
    assert!(
        last_error().starts_with("`options` sets a field that this library does not have"),
        "{}",
        last_error()
    );
}

#[test]
fn struct_size_that_was_not_set_is_refused() {
    for size in [0, 7, size_of::<SulcusSegmentOptions>() - 1, 1 << 20, usize::MAX] {
        assert_eq!(read(&options(size)).unwrap_err(), SulcusStatus::InvalidArgument, "{size}");
        let message = last_error();
        assert!(message.starts_with("`options.struct_size` must be sizeof(SulcusSegmentOptions), "), "{message}");
    }
}

/// The numbers are those of the layout with 64-bit pointers.
#[cfg(target_pointer_width = "64")]
#[test]
fn structs_are_filled_in_up_to_their_size() {
    let value = SulcusStructure {
        struct_size: size_of::<SulcusStructure>(),
        name: null(),
        values: null(),
        values_length: 3,
        value: 9,
        voxels: 10,
        ml: 2.5,
    };
    let fill = |room: &mut [u64; 9], bytes: usize| {
        *room = [u64::MAX; 9];
        room[0] = bytes as u64;
        ffi::call(|| {
            // SAFETY: an aligned array of more bytes than `struct_size` says.
            unsafe { growing::OutStruct::new(room.as_mut_ptr().cast(), "structure") }.map(|out| out.write(&value))
        })
    };
    let mut room = [0; 9];
    assert_eq!(fill(&mut room, size_of::<SulcusStructure>()), SulcusStatus::Ok);
    assert_eq!((room[0], room[3], room[5], f64::from_bits(room[6]), room[7]), (56, 3, 10, 2.5, u64::MAX));
    // An older struct without `ml`, and a newer one with another field.
    assert_eq!(fill(&mut room, offset_of!(SulcusStructure, ml)), SulcusStatus::Ok);
    assert_eq!((room[0], room[5], room[6]), (48, 10, u64::MAX));
    assert_eq!(fill(&mut room, 64), SulcusStatus::Ok);
    assert_eq!((room[0], f64::from_bits(room[6]), room[7], room[8]), (64, 2.5, 0, u64::MAX));
}
