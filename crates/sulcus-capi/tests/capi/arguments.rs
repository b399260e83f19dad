//! Invalid arguments: each gets an error, and none crashes.

use std::ffi::CString;
use std::ptr::null;

use sulcus_capi::*;
use sulcus_runtime::{Engine, SELF_TEST_MODEL};

use crate::common::*;

const ARGUMENT: SulcusStatus = SulcusStatus::InvalidArgument;

#[test]
fn arrays_of_wrong_rank_or_length_are_refused() {
    let segmenter = self_test();
    let refuse = |scan: SulcusScan, expected: SulcusStatus| refused_scan(&segmenter, &scan, expected);
    let good = Arrays::ramp(&[4, 3, 2]);
    for rank in [0, 1, 2, 5, usize::MAX] {
        let message = refuse(SulcusScan { rank, ..good.scan() }, ARGUMENT);
        let expected = format!("a scan has rank 3 (x, y, z) or 4 (x, y, z, channels), found rank {rank}");
        assert_eq!(message, expected);
    }
    for length in [0, 23, 25, usize::MAX] {
        let message = refuse(SulcusScan { length, ..good.scan() }, ARGUMENT);
        assert_eq!(message, format!("shape [4, 3, 2] with 1 channel(s) needs 24 values, found {length}"));
    }
    for shape in [vec![0, 3, 2], vec![4, 0, 2, 1], vec![4, 3, 0], vec![usize::MAX, 2, 1], vec![1 << 21; 3]] {
        let message = refuse(Arrays { shape: shape.clone(), ..good.clone() }.scan(), ARGUMENT);
        let expected =
            "a volume needs at least one voxel along each axis and fewer than 2^40 in all, found shape ";
        assert_eq!(message, format!("{expected}{:?}", &shape[..3]));
    }
    let message = refuse(Arrays { shape: vec![4, 3, 2, 0], ..good.clone() }.scan(), ARGUMENT);
    assert_eq!(message, "shape [4, 3, 2] with 0 channel(s) needs 0 values, found 24");
    let message = refuse(Arrays { shape: vec![4, 3, 2, usize::MAX], ..good.clone() }.scan(), ARGUMENT);
    assert!(message.ends_with("found 24"), "{message}");
    // The length matches, but the model has one channel.
    let message = refuse(Arrays { shape: vec![4, 3, 1, 2], ..good.clone() }.scan(), SulcusStatus::Scan);
    assert_eq!(message, "the model expects 1 channel(s) (MRI), the image has 2");
    let one = Arrays { shape: vec![4, 3, 2, 1], ..good.clone() };
    assert_eq!(labels(&segment(&segmenter, &one.scan(), None).unwrap()).len(), 24);

    for (scan, name) in [
        (SulcusScan { voxels: null(), ..good.scan() }, "voxels"),
        (SulcusScan { shape: null(), ..good.scan() }, "shape"),
        (SulcusScan { ras_from_voxel: null(), ..good.scan() }, "ras_from_voxel"),
    ] {
        assert_eq!(refuse(scan, ARGUMENT), format!("`{name}` is a null pointer"));
    }
    let odd = good.voxels.as_ptr().wrapping_byte_add(1);
    let message = refuse(SulcusScan { voxels: odd, ..good.scan() }, ARGUMENT);
    assert!(message.starts_with("`voxels` must be aligned to 4 bytes, found address 0x"), "{message}");
}

#[test]
fn nan_and_infinite_voxels_are_refused() {
    let segmenter = self_test();
    for broken in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let mut scan = Arrays::ramp(&[4, 3, 2]);
        scan.voxels[5] = broken;
        let message = refused_scan(&segmenter, &scan.scan(), SulcusStatus::Scan);
        assert!(message.starts_with("the image has 1 voxel(s) that are not finite numbers"), "{message}");
    }
}

#[test]
fn invalid_transforms_are_refused() {
    let segmenter = self_test();
    let with = |change: fn(&mut Vec<f64>)| {
        let mut scan = Arrays::ramp(&[4, 3, 2]);
        change(&mut scan.ras_from_voxel);
        refused_scan(&segmenter, &scan.scan(), ARGUMENT)
    };
    let singular = with(|m| m[4..8].copy_from_slice(&[2.0, 0.0, 0.0, 0.0]));
    assert!(singular.starts_with("the transform from voxels to the patient cannot be used: "), "{singular}");
    let parallel = with(|m| m[..8].copy_from_slice(&[1.0, 2.0, 0.0, 0.0, 2.0, 4.0, 0.0, 0.0]));
    assert!(parallel.contains("its columns lie in a plane, so it has no inverse"), "{parallel}");
    let empty = with(|m| m[..12].fill(0.0));
    assert!(empty.contains("one of its columns is zero"), "{empty}");
    let nan = with(|m| m[3] = f64::NAN);
    assert!(nan.contains("an entry that is not a finite number"), "{nan}");
    // Column-major order, as in Fortran, MATLAB and OpenGL.
    let transposed = with(|m| m[12..15].copy_from_slice(&[-90.0, -126.0, -72.0]));
    assert!(
        transposed.starts_with(
            "the last row of `ras_from_voxel` must be [0, 0, 0, 1], found [-90.0, -126.0, -72.0, 1.0]"
        ),
        "{transposed}"
    );
}

#[test]
fn volumes_smaller_than_the_patch_are_padded() {
    for (engine, library) in engines() {
        let model = std::fs::read(shipped_model()).unwrap();
        let segmenter = segmenter(&options_with(&model, engine, library.as_deref())).unwrap();
        for shape in [[2, 1, 1], [3, 2, 1], [70, 2, 3]] {
            let scan = Arrays::ramp(&shape);
            let found = segment(&segmenter, &scan.scan(), None).unwrap();
            let image = sulcus_volume::Image::new(geometry(shape), 1, scan.voxels.clone()).unwrap();
            let expected = rust_builder(engine, library.as_deref()).model(shipped_model()).build().unwrap();
            let expected = expected.segment(&image, Default::default()).unwrap();
            assert!(labels(&found) == expected.labels.data(), "{engine} {shape:?}");
        }
    }
}

fn geometry(shape: [usize; 3]) -> sulcus_volume::Geometry {
    use sulcus_volume::{Geometry, OrientationSource, RasFromVoxel, Spacing};
    let map = RasFromVoxel::aligned("RAS".parse().unwrap(), Spacing::new([1.0; 3]).unwrap());
    Geometry::new(shape, map, OrientationSource::Directions).unwrap()
}

/// Checks that a model is refused. Returns the message.
fn refused_model(model: &[u8]) -> String {
    let status = segmenter(&options_with(model, Engine::Tract, None)).err().expect("the model was accepted");
    refused(status, SulcusStatus::Model)
}

#[test]
fn files_that_are_not_models_are_refused() {
    let message = refused_model(b"this is a text");
    assert!(message.starts_with("the model cannot be used: this is not an ONNX file"), "{message}");
    let scan = std::fs::read(bundled_scan()).unwrap();
    let message = refused_model(&scan);
    assert!(message.starts_with("the model cannot be used: "), "{message}");
    let message = refused_model(&SELF_TEST_MODEL[..SELF_TEST_MODEL.len() / 2]);
    assert!(message.starts_with("the model cannot be used: "), "{message}");

    let options = options();
    // SAFETY: a live handle and a text.
    ok(unsafe { sulcus_options_add_model_file(options.pointer, c"/nowhere/model.onnx".as_ptr()) });
    let message = refused(segmenter(&options).err().unwrap(), SulcusStatus::Model);
    assert!(message.starts_with("could not read the model file /nowhere/model.onnx: "), "{message}");
}

#[test]
fn models_of_a_newer_format_are_refused_with_its_number() {
    let mut model = SELF_TEST_MODEL.to_vec();
    let key = br#""format_version":1"#;
    let at = model.windows(key.len()).position(|w| w == key).unwrap() + key.len() - 1;
    model[at] = b'9';
    let message = refused_model(&model);
    assert!(message.contains("its format version is 9, this program knows 1 to "), "{message}");
    assert!(message.ends_with("use a newer sulcus"), "{message}");
}

#[test]
fn invalid_options_are_refused_and_change_nothing() {
    let options = options_with(SELF_TEST_MODEL, Engine::Tract, None);
    let handle = options.pointer;
    let latin = CString::new(vec![b'c', 0xfc]).unwrap();
    let name = |text: &std::ffi::CStr, entry: unsafe extern "C" fn(_, _) -> _| {
        // SAFETY: a live handle and a text.
        unsafe { entry(handle, text.as_ptr()) }
    };
    let bytes = |pointer: *const u8, length| {
        // SAFETY: a live handle, and a pointer that must not be read.
        unsafe { sulcus_options_add_model_bytes(handle, pointer, length) }
    };
    // SAFETY: a live handle.
    let step = |step| unsafe { sulcus_options_set_step(handle, step) };
    let refuse = |status, expected: &str| {
        let message = refused(status, ARGUMENT);
        assert!(message.starts_with(expected), "{message}");
    };
    refuse(name(c"onnx", sulcus_options_set_engine), "`onnx` is not an engine: expected auto");
    refuse(name(c"gpu", sulcus_options_set_device), "`gpu` is not a device: expected auto");
    refuse(name(&latin, sulcus_options_set_device), "`device` must be UTF-8");
    refuse(name(c"", sulcus_options_add_model_file), "`model` is an empty path");
    refuse(name(c"", sulcus_options_set_ort_library), "`library` is an empty path");
    refuse(name(c"", sulcus_options_set_cache_folder), "`folder` is an empty path");
    refuse(bytes(null(), 0), "the model has no bytes");
    refuse(bytes(null(), 8), "`bytes` is a null pointer");
    refuse(bytes(latin.as_ptr().cast(), usize::MAX), "`bytes` cannot have");
    refuse(step(0.0), "the window step must lie in (0, 1], found 0");
    refuse(step(1.5), "the window step must lie in (0, 1], found 1.5");
    refuse(step(f64::NAN), "the window step must lie in (0, 1], found NaN");
    // SAFETY: a live handle.
    unsafe {
        refuse(sulcus_options_set_threads(handle, 0), "the number of threads must be at least 1, found 0");
        refuse(sulcus_options_set_max_memory(handle, 0), "the memory limit must be at least 1 byte, found 0");
        refuse(sulcus_options_set_precision(handle, 3), "the precision must be SULCUS_PRECISION_NATIVE (0), ");
        refuse(sulcus_options_set_precision(handle, -1), "the precision must be SULCUS_PRECISION_NATIVE (0), ");
    }
    assert!(segmenter(&options).is_ok());

    let empty = self::options();
    let message = refused(segmenter(&empty).err().unwrap(), ARGUMENT);
    assert!(message.starts_with("no model was given"), "{message}");
}

#[test]
fn unavailable_engines_devices_and_precisions_are_refused_with_the_reason() {
    let options = options_with(SELF_TEST_MODEL, Engine::Tract, None);
    // SAFETY: a live handle and texts.
    let build = |engine: &std::ffi::CStr, device: &std::ffi::CStr| unsafe {
        ok(sulcus_options_set_engine(options.pointer, engine.as_ptr()));
        ok(sulcus_options_set_device(options.pointer, device.as_ptr()));
        segmenter(&options).err()
    };
    let message = refused(build(c"tract", c"cuda:1").unwrap(), SulcusStatus::Device);
    assert!(message.starts_with("the device `cuda:1` cannot be used: "), "{message}");
    // SAFETY: a live handle.
    let precision = |precision| ok(unsafe { sulcus_options_set_precision(options.pointer, precision as i32) });
    for half in [SulcusPrecision::Bf16, SulcusPrecision::Fp16] {
        precision(half);
        let message = refused(build(c"tract", c"cpu").unwrap(), SulcusStatus::Device);
        assert!(message.contains("`cpu`") && message.contains("half precision"), "{message}");
    }
    let message = refused(build(c"ort", c"openvino").unwrap(), SulcusStatus::Device);
    assert!(message.starts_with("`openvino` cannot compute in fp16: it computes in bf16 or "), "{message}");
    precision(SulcusPrecision::Bf16);
    let message = refused(build(c"ort", c"tensorrt:1").unwrap(), SulcusStatus::Device);
    assert!(message.starts_with("`tensorrt:1` cannot compute in bf16: it computes in fp16 or "), "{message}");
    // The native engine computes in bf16 where the processor can.
    if let Some(error) = build(c"native", c"cpu") {
        let message = refused(error, SulcusStatus::Device);
        assert!(message.contains("no bf16 arithmetic"), "{message}");
    }
    precision(SulcusPrecision::Native);
    // SAFETY: a live handle and a text.
    ok(unsafe { sulcus_options_set_ort_library(options.pointer, c"/nowhere/libonnxruntime.so".as_ptr()) });
    let message = refused(build(c"ort", c"cpu").unwrap(), SulcusStatus::Engine);
    assert!(message.contains("there is no such file"), "{message}");

    // When one library is loaded, another one is refused.
    let Some((_, Some(library))) = engines().pop() else { return };
    let other = tempfile::NamedTempFile::new().unwrap();
    let first = segmenter(&options_with(SELF_TEST_MODEL, Engine::Ort, Some(&library))).unwrap();
    // SAFETY: a live handle and a text.
    ok(unsafe { sulcus_options_set_ort_library(options.pointer, c_path(other.path()).as_ptr()) });
    let message = refused(build(c"ort", c"cpu").unwrap(), SulcusStatus::Engine);
    assert!(message.starts_with("a process can load only one ONNX Runtime"), "{message}");
    drop(first);
}

#[test]
fn files_that_cannot_be_segmented_are_refused_with_the_reason() {
    let segmenter = self_test();
    let folder = tempfile::tempdir().unwrap();
    let run = |scan: &std::path::Path, mask: &std::path::Path| {
        let (scan, mask) = (c_path(scan), c_path(mask));
        // SAFETY: a live handle and texts; the segmentation is not needed.
        unsafe {
            sulcus_segment_file(segmenter.pointer, scan.as_ptr(), mask.as_ptr(), null(), std::ptr::null_mut())
        }
    };
    let mask = folder.path().join("mask.nii.gz");
    let message = refused(run(&folder.path().join("no.nii"), &mask), SulcusStatus::File);
    assert!(message.contains("there is no such file") && message.ends_with("no.nii"), "{message}");
    let text = folder.path().join("text.nii");
    std::fs::write(&text, "hello").unwrap();
    refused(run(&text, &mask), SulcusStatus::File);
    let scan = folder.path().join("scan.nii.gz");
    std::fs::copy(bundled_scan(), &scan).unwrap();
    let message = refused(run(&scan, &scan), SulcusStatus::File);
    assert!(message.starts_with("the mask would overwrite the scan itself"), "{message}");
    // Each name of a pair means both files.
    let (header, voxels) = (folder.path().join("pair.hdr"), folder.path().join("pair.img"));
    let read = sulcus_io::read_scan(&scan).unwrap();
    sulcus_io::write_image(&header, &read.image, &read.metadata).unwrap();
    let pair = [&header, &voxels].map(|path| std::fs::read(path).unwrap());
    for (scan, mask) in [(&header, &voxels), (&voxels, &header)] {
        let message = refused(run(scan, mask), SulcusStatus::File);
        assert!(message.starts_with("the mask would overwrite the scan itself"), "{message}");
    }
    assert_eq!([&header, &voxels].map(|path| std::fs::read(path).unwrap()), pair);
    assert!(!mask.exists());
    ok(run(&scan, &mask));
    assert!(mask.exists());
    let message = refused(
        // SAFETY: a text, and room for a pointer.
        create(sulcus_image_free, |out| unsafe { sulcus_image_read(c_path(&text).as_ptr(), out) }).err().unwrap(),
        SulcusStatus::File,
    );
    assert!(message.ends_with("text.nii"), "{message}");
}

#[test]
fn unknown_flags_and_missing_results_are_refused() {
    let segmenter = self_test();
    let scan = Arrays::ramp(&[4, 3, 2]);
    let options = SulcusSegmentOptions { flags: 6, ..default_options() };
    let message = refused(segment(&segmenter, &scan.scan(), Some(&options)).err().unwrap(), ARGUMENT);
    assert!(message.ends_with("found 6"), "{message}");
    let options = SulcusSegmentOptions { struct_size: 0, ..default_options() };
    let message = refused(segment(&segmenter, &scan.scan(), Some(&options)).err().unwrap(), ARGUMENT);
    let expected = "`options.struct_size` must be sizeof(SulcusSegmentOptions), ";
    assert!(message.starts_with(expected) && message.ends_with("found 0"), "{message}");

    let found = segment(&segmenter, &scan.scan(), None).unwrap();
    let (mut values, mut classes, mut length) = (null(), 0, 0);
    // SAFETY: a live handle, and room for what is filled in.
    unsafe {
        let call = sulcus_segmentation_probabilities;
        let status = call(found.pointer, &mut values, &mut classes, &mut length);
        let message = refused(status, SulcusStatus::NotAvailable);
        assert!(message.contains("SULCUS_SEGMENT_PROBABILITIES"), "{message}");
        let message = refused(structure(&found, 2).unwrap_err(), SulcusStatus::NotAvailable);
        assert_eq!(message, "there is no structure 2: there are 2, counted from 0");
        let status = sulcus_segmentation_labels(found.pointer, std::ptr::null_mut(), &mut length);
        assert_eq!(refused(status, ARGUMENT), "`labels` is a null pointer");
    }
}
