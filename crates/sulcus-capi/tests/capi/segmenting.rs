//! Segmentations through C equal those through Rust.

use std::ffi::{c_int, c_void};
use std::ptr::null;

use sulcus_capi::*;
use sulcus_model::label_hash;
use sulcus_pipeline::Numerics;
use sulcus_runtime::{Engine, SELF_TEST_MODEL, SegmentOptions};

use crate::common::*;

#[test]
fn arrays_and_files_give_the_masks_of_rust() {
    let scan = sulcus_io::read_scan(&bundled_scan()).unwrap().image;
    let model = std::fs::read(shipped_model()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    for (engine, library) in engines() {
        let expected = rust_builder(engine, library.as_deref()).model(shipped_model()).build().unwrap();
        let expected = expected.segment(&scan, SegmentOptions::default().with_probabilities()).unwrap();

        let segmenter = segmenter(&options_with(&model, engine, library.as_deref())).unwrap();
        let options = SulcusSegmentOptions { flags: SULCUS_SEGMENT_PROBABILITIES, ..default_options() };
        let found = segment(&segmenter, &Arrays::of(&scan).scan(), Some(&options)).unwrap();
        assert!(labels(&found) == expected.labels.data(), "{engine}: the mask of the array");
        assert!(expected.labels.counts().len() == 3, "{:?}", expected.labels.counts());

        let report = report(&found);
        assert_eq!((text(report.engine), text(report.device)), (engine.name().to_owned(), "cpu".to_owned()));
        assert_eq!((text(report.precision), report.tiles), (expected.precision.clone(), expected.tiles));
        assert!(report.engine_seconds > 0.0 && report.infer_seconds >= report.engine_seconds * 0.5);
        assert_eq!(report.peak_memory_bytes > 0, expected.peak_memory_bytes.is_some());
        assert_eq!(report.structures, expected.label_volumes().len());
        for (index, volume) in expected.label_volumes().iter().enumerate() {
            let structure = structure(&found, index).unwrap();
            // SAFETY: the values are valid while the handle lives.
            let values = unsafe { std::slice::from_raw_parts(structure.values, structure.values_length) };
            assert_eq!((text(structure.name), structure.value), (volume.name.clone(), volume.value));
            assert_eq!((values, structure.voxels), (&volume.values[..], volume.voxels as u64));
            assert_eq!(Some(structure.ml), volume.ml);
        }

        let (mut probabilities, mut classes, mut length) = (null(), 0, 0);
        // SAFETY: a live handle, and room for what is filled in; the values live as long as the handle.
        let probabilities = unsafe {
            let call = sulcus_segmentation_probabilities;
            ok(call(found.pointer, &mut probabilities, &mut classes, &mut length));
            std::slice::from_raw_parts(probabilities, length)
        };
        let image = expected.probabilities.as_ref().unwrap();
        assert!((classes, probabilities) == (image.channels(), image.data()), "{engine}: probabilities");

        let mut grid = std::mem::MaybeUninit::<SulcusGrid>::uninit();
        // SAFETY: a live handle, and room for a grid.
        let grid = unsafe {
            ok(sulcus_segmentation_grid(found.pointer, grid.as_mut_ptr()));
            grid.assume_init()
        };
        let geometry = scan.geometry();
        assert_eq!((grid.shape, grid.spacing_mm), (geometry.shape(), geometry.spacing().mm()));
        assert_eq!(grid.ras_from_voxel.as_slice(), geometry.ras_from_voxel().matrix().concat());
        assert_eq!(grid.orientation_known, 1);

        let mask = folder.path().join(format!("{engine}.nii.gz"));
        // SAFETY: a live handle, texts, and room for a pointer.
        let from_file = create(sulcus_segmentation_free, |out| unsafe {
            let (scan, mask) = (c_path(&bundled_scan()), c_path(&mask));
            sulcus_segment_file(segmenter.pointer, scan.as_ptr(), mask.as_ptr(), null(), out)
        });
        assert_eq!(labels(&from_file.unwrap()), labels(&found));
        let (written, _) = sulcus_io::read_labels(&mask).unwrap();
        assert_eq!(label_hash(&written), label_hash(&expected.labels), "{engine}: the mask of the file");

        // The segmentation outlives its segmenter.
        drop(segmenter);
        assert_eq!(labels(&found).len(), length / classes);
    }
}

#[test]
fn shipped_model_replays_its_golden_case() {
    for (engine, library) in engines() {
        let (options, folder) = (options(), tempfile::tempdir().unwrap());
        let name = std::ffi::CString::new(engine.name()).unwrap();
        // SAFETY: live handles and texts.
        unsafe {
            ok(sulcus_options_add_model_file(options.pointer, c_path(&shipped_model()).as_ptr()));
            ok(sulcus_options_set_engine(options.pointer, name.as_ptr()));
            if let Some(library) = &library {
                ok(sulcus_options_set_ort_library(options.pointer, c_path(library).as_ptr()));
                ok(sulcus_options_set_device(options.pointer, c"cpu".as_ptr()));
            }
            ok(sulcus_options_set_cache_folder(options.pointer, c_path(folder.path()).as_ptr()));
        }
        // The second one uses the cached graph of the first.
        for _ in 0..2 {
            let segmenter = segmenter(&options).unwrap();
            // SAFETY: a live handle.
            ok(unsafe { sulcus_segmenter_replay_golden(segmenter.pointer) });
            let kept = folder.path().read_dir().unwrap().count();
            assert_eq!(kept, usize::from(library.is_some()), "{engine}");
        }
    }
}

#[test]
fn golden_case_with_another_mask_is_an_error() {
    // One digit of the recorded hash.
    let mut model = SELF_TEST_MODEL.to_vec();
    let key = br#""labels_sha256":""#;
    let at = model.windows(key.len()).position(|w| w == key).unwrap() + key.len();
    model[at] = if model[at] == b'0' { b'1' } else { b'0' };
    let segmenter = segmenter(&options_with(&model, Engine::Tract, None)).unwrap();
    // SAFETY: a live handle.
    let status = unsafe { sulcus_segmenter_replay_golden(segmenter.pointer) };
    let message = refused(status, SulcusStatus::GoldenCase);
    assert!(message.contains("its golden case gives another mask here"), "{message}");
}

#[test]
fn segmenter_info_names_model_engine_and_device() {
    let model = std::fs::read(shipped_model()).unwrap();
    for (engine, library) in engines() {
        let segmenter = segmenter(&options_with(&model, engine, library.as_deref())).unwrap();
        let (mut info, mut name): (SulcusSegmenterInfo, _) = (zeroed(), null());
        // SAFETY: a live handle, a struct, and room for a pointer.
        unsafe {
            ok(sulcus_segmenter_info(segmenter.pointer, &mut info));
            ok(sulcus_segmenter_channel(segmenter.pointer, 0, &mut name));
        }
        assert_eq!((text(info.model_name), text(name)), ("Hippocampus".to_owned(), "MRI".to_owned()));
        assert_eq!((text(info.engine), text(info.device)), (engine.name().to_owned(), "cpu".to_owned()));
        assert_eq!((info.models, info.channels, info.notes), (1, 1, 0));
        // SAFETY: a live handle, and room for a pointer.
        let status = unsafe { sulcus_segmenter_channel(segmenter.pointer, 1, &mut name) };
        let message = refused(status, SulcusStatus::NotAvailable);
        assert_eq!(message, "there is no channel 1: there are 1, counted from 0");
        assert!(name.is_null());
        // SAFETY: a live handle, and room for a pointer.
        let status = unsafe { sulcus_segmenter_note(segmenter.pointer, 0, &mut name) };
        assert_eq!(refused(status, SulcusStatus::NotAvailable), "there is no note 0: there are 0, counted from 0");
    }
}

#[test]
fn ensembles_mirroring_and_memory_limit_work_as_in_rust() {
    let image = sulcus_io::read_scan(&bundled_scan()).unwrap().image;
    let expected = rust_builder(Engine::Tract, None)
        .model_bytes(SELF_TEST_MODEL)
        .model_bytes(SELF_TEST_MODEL)
        .mirror(true)
        .step(Some(0.75))
        .build()
        .unwrap();
    let expected = expected.segment(&image, SegmentOptions::default()).unwrap();
    let options = options_with(SELF_TEST_MODEL, Engine::Tract, None);
    // SAFETY: a live handle and bytes.
    unsafe {
        let (bytes, length) = (SELF_TEST_MODEL.as_ptr(), SELF_TEST_MODEL.len());
        ok(sulcus_options_add_model_bytes(options.pointer, bytes, length));
        ok(sulcus_options_set_mirror(options.pointer, 1));
        ok(sulcus_options_set_step(options.pointer, 0.75));
        ok(sulcus_options_set_threads(options.pointer, 1));
        ok(sulcus_options_set_max_memory(options.pointer, 1 << 40));
    }
    let segmenter = segmenter(&options).unwrap();
    let arrays = Arrays::of(&image);
    let found = segment(&segmenter, &arrays.scan(), None).unwrap();
    assert!(labels(&found) == expected.labels.data());
    assert_eq!(report(&found).tiles, expected.tiles);

    let options = SulcusSegmentOptions { max_memory: 1_000_000, ..default_options() };
    let status = segment(&segmenter, &arrays.scan(), Some(&options)).err().unwrap();
    let message = refused(status, SulcusStatus::MemoryLimit);
    assert!(message.starts_with("the memory limit of 1 MB is too small for this scan"), "{message}");
}

/// A task of TotalSegmentator, and the mask of its own program.
#[test]
fn pack_gives_the_masks_of_rust_and_of_totalsegmentator() {
    let folder = repository().join("crates/sulcus-nnunet/tests/fixtures/totalsegmentator");
    let model = std::fs::read(folder.join("headneck_muscles.onnx")).unwrap();
    let scan = sulcus_io::read_scan(&folder.join("scan.nii.gz")).unwrap().image;
    let (theirs, _) = sulcus_io::read_labels(&folder.join("headneck_muscles.nii.gz")).unwrap();
    for (exact, numerics) in [(0, Numerics::Float32), (1, Numerics::Nnunet)] {
        let expected = rust_builder(Engine::Native, None).model_bytes(model.clone()).numerics(numerics);
        let expected = expected.build().unwrap().segment(&scan, SegmentOptions::default()).unwrap();
        let options = options_with(&model, Engine::Native, None);
        // SAFETY: a live handle.
        ok(unsafe { sulcus_options_set_exact(options.pointer, exact) });
        let found = segment(&segmenter(&options).unwrap(), &Arrays::of(&scan).scan(), None).unwrap();
        assert!(labels(&found) == expected.labels.data(), "exact = {exact}");
        assert_eq!(report(&found).structures, 23);
        let different = labels(&found).iter().zip(theirs.data()).filter(|(a, b)| a != b).count();
        assert_eq!(different == 0, exact == 1, "{different} voxels differ");
    }
    // There is no computation of nnU-Net to repeat.
    let options = options_with(SELF_TEST_MODEL, Engine::Tract, None);
    // SAFETY: a live handle.
    ok(unsafe { sulcus_options_set_exact(options.pointer, 1) });
    let message = refused(segmenter(&options).err().unwrap(), SulcusStatus::Model);
    assert!(message.contains("was not imported from nnU-Net"), "{message}");
}

struct ProgressLog {
    seen: Vec<(usize, usize)>,
    stop_at: usize,
    thread: Option<std::thread::ThreadId>,
}

unsafe extern "C" fn on_progress(user_data: *mut c_void, done: usize, total: usize) -> c_int {
    // SAFETY: the tests pass a `ProgressLog` that outlives the call.
    let log = unsafe { &mut *user_data.cast::<ProgressLog>() };
    log.seen.push((done, total));
    log.thread = Some(std::thread::current().id());
    c_int::from(done == log.stop_at)
}

#[test]
fn progress_callback_runs_in_the_calling_thread_and_can_stop_the_work() {
    let segmenter = self_test();
    let arrays = Arrays::ramp(&[12, 10, 4]);
    for (stop_at, tiles) in [(0, 4), (3, 3)] {
        let mut log = ProgressLog { seen: Vec::new(), stop_at, thread: None };
        let user_data = std::ptr::from_mut(&mut log).cast();
        let options = SulcusSegmentOptions { progress: Some(on_progress), user_data, ..default_options() };
        match segment(&segmenter, &arrays.scan(), Some(&options)) {
            Ok(_) => assert_eq!(stop_at, 0),
            Err(status) => assert_eq!(refused(status, SulcusStatus::Cancelled), "stopped on request"),
        }
        assert_eq!(log.seen, (1..=tiles).map(|done| (done, 4)).collect::<Vec<_>>());
        assert_eq!(log.thread, Some(std::thread::current().id()));
    }
}

#[test]
fn stopped_file_leaves_no_mask() {
    let segmenter = self_test();
    let folder = tempfile::tempdir().unwrap();
    let mask = folder.path().join("mask.nii.gz");
    let mut log = ProgressLog { seen: Vec::new(), stop_at: 2, thread: None };
    let user_data = std::ptr::from_mut(&mut log).cast();
    let options = SulcusSegmentOptions {
        flags: SULCUS_SEGMENT_PROBABILITIES,
        progress: Some(on_progress),
        user_data,
        ..default_options()
    };
    let (scan, to) = (c_path(&bundled_scan()), c_path(&mask));
    // SAFETY: a live handle, texts, options, and room for a pointer.
    let call = || unsafe {
        let call = sulcus_segment_file;
        create(sulcus_segmentation_free, |out| call(segmenter.pointer, scan.as_ptr(), to.as_ptr(), &options, out))
    };
    refused(call().err().unwrap(), SulcusStatus::Cancelled);
    assert_eq!((log.seen.len(), std::fs::read_dir(folder.path()).unwrap().count()), (2, 0));
    // SAFETY: no other code uses it now.
    unsafe { (*user_data.cast::<ProgressLog>()).stop_at = usize::MAX };
    let found = call().unwrap();
    let (mut values, mut classes, mut length) = (null(), 0, 0);
    // SAFETY: a live handle, and room for what is filled in.
    ok(unsafe { sulcus_segmentation_probabilities(found.pointer, &mut values, &mut classes, &mut length) });
    assert_eq!((classes, length), (3, 3 * labels(&found).len()));
    assert!(mask.is_file());
}

#[test]
fn implausible_scans_are_refused_or_get_warnings_as_in_rust() {
    let mut blank = Arrays::ramp(&[12, 10, 4]);
    blank.voxels.fill(7.0);
    let status = segment(&self_test(), &blank.scan(), None).err().unwrap();
    let message = refused(status, SulcusStatus::Scan);
    assert_eq!(message, "the scan is not plausible: channel `MRI` is 7 in every voxel, so it shows nothing");
    let refused_because: serde_json::Value =
        serde_json::from_str(&text(sulcus_last_error_warnings_json())).unwrap();

    let options = options_with(SELF_TEST_MODEL, Engine::Tract, None);
    // SAFETY: a live handle.
    ok(unsafe { sulcus_options_set_allow_constant(options.pointer, 1) });
    let found = segment(&segmenter(&options).unwrap(), &blank.scan(), None).unwrap();
    assert_eq!(report(&found).warnings, 1);
    let (mut warning, mut json): (SulcusWarning, _) = (zeroed(), null());
    // SAFETY: a live handle, a struct, and room for a pointer.
    unsafe {
        ok(sulcus_segmentation_warning(found.pointer, 0, &mut warning));
        ok(sulcus_segmentation_report_json(found.pointer, &mut json));
    }
    assert_eq!(text(warning.kind), "constant_channel");
    assert_eq!(text(warning.message), "channel `MRI` is 7 in every voxel, so it shows nothing");
    let json: serde_json::Value = serde_json::from_str(&text(json)).unwrap();
    assert_eq!(
        (&json["warnings"][0]["kind"], &json["warnings"][0]["min"]),
        (&"constant_channel".into(), &7.0.into())
    );
    assert_eq!((&json["engine"], &json["tiles"]), (&"tract".into(), &report(&found).tiles.into()));
    assert_eq!(json["labels"]["Bright"]["value"], 2);
    assert_eq!(refused_because, json["warnings"], "the same objects in the error and in the report");
    // SAFETY: a live handle and a struct.
    let status = unsafe { sulcus_segmentation_warning(found.pointer, 1, &mut warning) };
    assert_eq!(refused(status, SulcusStatus::NotAvailable), "there is no warning 1: there are 1, counted from 0");
    assert_eq!(text(sulcus_last_error_warnings_json()), "[]");

    // SAFETY: a live handle.
    ok(unsafe { sulcus_options_set_strict(options.pointer, 1) });
    let status = segment(&segmenter(&options).unwrap(), &blank.scan(), None).err().unwrap();
    refused(status, SulcusStatus::Scan);
    let usual = segment(&segmenter(&options).unwrap(), &Arrays::ramp(&[12, 10, 4]).scan(), None).unwrap();
    assert_eq!(report(&usual).warnings, 0);
}

#[test]
fn threads_share_one_segmenter() {
    let segmenter = self_test();
    let scans: Vec<Arrays> =
        [[9, 8, 7], [12, 10, 4], [5, 30, 3]].iter().map(|shape| Arrays::ramp(shape)).collect();
    let alone: Vec<Vec<u16>> =
        scans.iter().map(|scan| labels(&segment(&segmenter, &scan.scan(), None).unwrap())).collect();
    assert!(alone.iter().all(|mask| mask.contains(&2)), "empty masks prove nothing");
    std::thread::scope(|scope| {
        for _ in 0..2 {
            for (scan, mask) in scans.iter().zip(&alone) {
                let segmenter = &segmenter;
                scope.spawn(move || {
                    for _ in 0..3 {
                        let found = segment(segmenter, &scan.scan(), None).unwrap();
                        assert!(labels(&found) == *mask);
                    }
                });
            }
        }
    });
}

#[test]
fn image_has_the_voxels_and_the_grid_of_its_file() {
    let expected = sulcus_io::read_scan(&bundled_scan()).unwrap().image;
    let file = c_path(&bundled_scan());
    // SAFETY: a text, and room for a pointer.
    let image = create(sulcus_image_free, |out| unsafe { sulcus_image_read(file.as_ptr(), out) }).unwrap();
    let (mut scan, mut grid) = (std::mem::MaybeUninit::<SulcusScan>::uninit(), std::mem::MaybeUninit::uninit());
    // SAFETY: a live handle, and room for two structs, whose pointers are valid while the handle lives.
    unsafe {
        ok(sulcus_image_scan(image.pointer, scan.as_mut_ptr()));
        ok(sulcus_image_grid(image.pointer, grid.as_mut_ptr()));
        let (scan, grid): (_, SulcusGrid) = (scan.assume_init(), grid.assume_init());
        assert!(std::slice::from_raw_parts(scan.voxels, scan.length) == expected.data());
        assert_eq!(std::slice::from_raw_parts(scan.shape, scan.rank), [35, 53, 36, 1]);
        let matrix = expected.geometry().ras_from_voxel().matrix().concat();
        assert_eq!(std::slice::from_raw_parts(scan.ras_from_voxel, 16), matrix);
        assert_eq!((grid.shape, grid.spacing_mm, grid.orientation_known), ([35, 53, 36], [1.0; 3], 1));
        assert_eq!(grid.ras_from_voxel.as_slice(), matrix);
    }
}

#[test]
fn matrix_from_directions_of_dicom_and_itk() {
    // Axis x runs to the patient's left, y to the front, z down; in ITK's world left and posterior are positive.
    let spacing_mm = [0.5, 2.0, 3.0];
    let directions = [1.0, 0.0, 0.0, 0.0, -1.0, 0.0, 0.0, 0.0, -1.0];
    let origin_mm = [10.0, 20.0, 30.0];
    let mut found = [f64::NAN; 16];
    // SAFETY: as many numbers as the function reads and writes.
    let mut call = |world, directions: &[f64; 9]| unsafe {
        let (spacing, origin) = (spacing_mm.as_ptr(), origin_mm.as_ptr());
        (sulcus_ras_from_directions(spacing, directions.as_ptr(), origin, world, found.as_mut_ptr()), found)
    };
    let (status, matrix) = call(SULCUS_WORLD_LPS, &directions);
    ok(status);
    let expected = [[-0.5, 0.0, 0.0, -10.0], [0.0, 2.0, 0.0, -20.0], [0.0, 0.0, -3.0, 30.0], [0.0, 0.0, 0.0, 1.0]];
    assert_eq!(matrix.as_slice(), expected.concat());
    let (status, matrix) = call(SULCUS_WORLD_RAS, &directions);
    ok(status);
    assert_eq!((matrix[0], matrix[3], matrix[7]), (0.5, 10.0, 20.0));

    let message = refused(call(2, &directions).0, SulcusStatus::InvalidArgument);
    assert!(message.starts_with("the world must be SULCUS_WORLD_RAS"), "{message}");
    let long = directions.map(|v| v * 2.0);
    let message = refused(call(SULCUS_WORLD_LPS, &long).0, SulcusStatus::InvalidArgument);
    assert!(message.ends_with("must have length 1, found 2"), "{message}");
    let message = refused(call(SULCUS_WORLD_LPS, &[f64::NAN; 9]).0, SulcusStatus::InvalidArgument);
    assert!(message.ends_with("must have length 1, found NaN"), "{message}");
    let flat = [1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0];
    let message = refused(call(SULCUS_WORLD_LPS, &flat).0, SulcusStatus::InvalidArgument);
    assert!(message.contains("no inverse"), "{message}");
}

#[test]
fn versions_and_statuses_have_texts() {
    assert_eq!(text(sulcus_version()), env!("CARGO_PKG_VERSION"));
    assert_eq!(sulcus_abi_version(), SULCUS_ABI_VERSION);
    let known: Vec<String> = (0..=14).map(|status| text(sulcus_status_text(status))).collect();
    let distinct: std::collections::BTreeSet<&String> = known.iter().collect();
    assert_eq!(distinct.len(), 15);
    for other in [-1, 15, c_int::MAX] {
        assert_eq!(text(sulcus_status_text(other)), "not a status of this library");
    }
}
