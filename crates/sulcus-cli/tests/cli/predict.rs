use std::path::Path;

use sulcus_model::{CoarseAxis, SpacingRule};
use sulcus_volume::{Interpolation, Spacing};

use super::support::{RAS, bundled, file, nifti, predict, run, scan, sulcus, tiny_model};

#[test]
fn cache_without_effect_is_reported() {
    let home = tempfile::tempdir().unwrap();
    let (mask, cache) = (home.path().join("mask.nii"), home.path().join("cache"));
    let mut command = super::support::sulcus(home.path());
    command.args(["predict", "-m"]).arg(super::support::tiny_model()).arg(scan()).arg("-o").arg(&mask);
    // No ONNX Runtime is found, so `auto` takes a built-in engine.
    super::support::ended(command.arg("--cache").arg(&cache).output().unwrap())
        .code(0)
        .says("nothing is kept in the cache folder: the engine ")
        .says(" stores nothing on the device cpu");
    assert!(!cache.exists());
}

/// Whether the processor has instructions that kernels were written for.
fn has_vectors() -> bool {
    #[cfg(target_arch = "x86_64")]
    return is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
    #[cfg(not(target_arch = "x86_64"))]
    false
}

#[test]
fn auto_takes_the_native_engine_and_says_so() {
    if !has_vectors() {
        sulcus_harness::skip("the processor has no AVX2, so `auto` is not the native engine");
    }
    let home = tempfile::tempdir().unwrap();
    let predict = |name: &str, more: &[&str]| {
        let mask = home.path().join(name);
        let mut command = sulcus(home.path());
        command.args(["predict", "--json", "-m"]).arg(tiny_model()).arg(scan()).arg("-o").arg(&mask).args(more);
        let ended = super::support::ended(command.output().unwrap());
        (ended, mask)
    };
    let (auto, mask) = predict("auto.nii", &[]);
    let auto = auto.code(0).says("engine native on cpu");
    assert_eq!(auto.json_lines()[0]["engine"], "native");
    let (named, same) = predict("native.nii", &["--engine", "native", "--threads", "1"]);
    named.code(0).says("engine native on cpu");
    assert_eq!(std::fs::read(&mask).unwrap(), std::fs::read(same).unwrap(), "threads change no bit");
    let (half, _) = predict("half.nii", &["--precision", "bf16"]);
    if sulcus_runtime::NativePredictor::bf16(&std::fs::read(tiny_model()).unwrap(), None).is_ok() {
        assert_eq!(half.code(0).json_lines()[0]["precision"], "bf16");
    } else {
        half.code(1).says("no bf16 arithmetic");
    }
}

#[test]
fn mask_has_the_grid_of_the_scan() {
    let home = tempfile::tempdir().unwrap();
    let mask = home.path().join("new/folder/mask.nii.gz");
    let ended = predict(home.path(), &[&scan()], &mask, &["--json"]).code(0);
    let lines = ended.json_lines();
    let line = &lines[0];
    assert_eq!(lines.len(), 1);
    assert_eq!(
        (&line["engine"], &line["device"], &line["precision"]),
        (&"tract".into(), &"cpu".into(), &"fp32".into())
    );
    assert_eq!(line["output"], mask.to_str().unwrap());
    let seconds = line["seconds"].as_object().unwrap();
    let part = |name: &str| seconds[name].as_f64().unwrap();
    let parts: f64 = ["read", "preprocess", "infer", "postprocess", "write"].into_iter().map(part).sum();
    assert!(parts > 0.0 && part("total") >= parts, "{seconds:?}");
    assert!(line["tiles"].as_u64().unwrap() >= 1);

    let (image, source) = sulcus_io::read_scan(&scan()).map(|read| (read.image, read.metadata)).unwrap();
    let (labels, written) = sulcus_io::read_labels(&mask).unwrap();
    image.geometry().check_same_grid(labels.geometry()).unwrap();
    assert_eq!(source.geometry().ras_from_voxel().rows(), written.geometry().ras_from_voxel().rows());
    let counts = labels.counts();
    for entry in written.label_table().unwrap().entries() {
        let amount = &line["labels"][&entry.name];
        let voxels = counts.get(&entry.value).copied().unwrap_or(0);
        assert_eq!(
            (amount["value"].as_u64(), amount["voxels"].as_u64()),
            (Some(entry.value.into()), Some(voxels as u64))
        );
        let ml = labels.geometry().ml(voxels).unwrap();
        assert!((amount["ml"].as_f64().unwrap() - ml).abs() < 1e-9);
    }
    assert!(counts.len() > 1, "the tiny model finds something: {counts:?}");
}

#[test]
fn mask_may_be_a_pair_of_files() {
    let home = tempfile::tempdir().unwrap();
    let path = |name: &str| home.path().join(name);
    for mask in ["mask.nii.gz", "pair.hdr", "packed.img.gz", "mask.nhdr", "mask.mhd"] {
        predict(home.path(), &[&scan()], &path(mask), &[]).code(0);
    }
    let (expected, _) = sulcus_io::read_labels(&path("mask.nii.gz")).unwrap();
    for (header, voxels) in [
        ("pair.hdr", "pair.img"),
        ("packed.hdr.gz", "packed.img.gz"),
        ("mask.nhdr", "mask.raw.gz"),
        ("mask.mhd", "mask.zraw"),
    ] {
        assert!(path(voxels).exists(), "{voxels}");
        let (found, _) = sulcus_io::read_labels(&path(header)).unwrap();
        found.geometry().check_same_grid(expected.geometry()).unwrap();
        assert!(found.data() == expected.data(), "{header}");
    }
}

#[test]
fn failed_case_does_not_stop_the_others_and_is_named() {
    let home = tempfile::tempdir().unwrap();
    let whole = std::fs::read(scan()).unwrap();
    let good = file(home.path(), "in/good.nii.gz", &whole);
    file(home.path(), "in/cut.nii.gz", &whole[..whole.len() / 2]);
    file(home.path(), "in/._good.nii.gz", b"what macOS leaves behind");
    file(home.path(), "in/notes.txt", b"not a scan");
    let (folder, missing) = (home.path().join("in"), home.path().join("missing.nii.gz"));
    let out = home.path().join("out");
    let ended = predict(home.path(), &[&folder, &missing], &out, &["--json"]).code(1);
    let lines = ended.json_lines();
    assert_eq!(lines.len(), 3, "{}", ended.stdout);
    let of = |name: &str| {
        lines.iter().find(|l| l["input"].as_str().unwrap().ends_with(name)).unwrap_or_else(|| panic!("{name}"))
    };
    assert!(of("cut.nii.gz")["error"].as_str().unwrap().contains("gzip"), "{}", ended.stdout);
    assert!(of("missing.nii.gz")["error"].as_str().unwrap().contains("no such file"));
    assert_eq!(of("good.nii.gz")["output"], out.join("good.nii.gz").to_str().unwrap());
    assert!(out.join("good.nii.gz").is_file() && !out.join("cut.nii.gz").exists() && good.is_file());
    ended.says("2 of 3 cases failed").says("cut.nii.gz").says("missing.nii.gz");
    let names: Vec<_> = std::fs::read_dir(&out).unwrap().flatten().map(|e| e.file_name()).collect();
    assert_eq!(names.len(), 1, "no temporary file is left: {names:?}");
}

#[test]
fn several_models_are_averaged_and_named() {
    let home = tempfile::tempdir().unwrap();
    let (one, two) = (home.path().join("one.nii.gz"), home.path().join("two.nii.gz"));
    let (tiny, copy) = (tiny_model(), home.path().join("copy.onnx"));
    std::fs::copy(&tiny, &copy).unwrap();
    predict(home.path(), &[&scan()], &one, &[]).code(0);
    let more = ["-m", copy.to_str().unwrap(), "--json"];
    let ended = predict(home.path(), &[&scan()], &two, &more).code(0);
    let both = [tiny.to_str().unwrap(), copy.to_str().unwrap()];
    assert_eq!(ended.json_lines()[0]["models"], serde_json::json!(both));
    ended.says(&format!("averaging 2 models: {}", both.join(", ")));
    let labels = |path: &Path| sulcus_io::read_labels(path).unwrap().0;
    assert_eq!(labels(&one), labels(&two), "a model averaged with itself gives its own mask");

    // A model of another task: the message names both files and the difference.
    let other = Path::new(env!("CARGO_MANIFEST_DIR")).join("../sulcus-runtime/data/self-test.onnx");
    let three = home.path().join("three.nii.gz");
    predict(home.path(), &[&scan()], &three, &["-m", other.to_str().unwrap()])
        .code(1)
        .says("the models cannot be averaged: they differ in their labels")
        .says(tiny.to_str().unwrap())
        .says("1 Middle, 2 Bright in ")
        .says(other.to_str().unwrap());
    assert!(!three.exists());
}

#[test]
fn probabilities_are_a_4d_image_beside_the_mask() {
    let home = tempfile::tempdir().unwrap();
    predict(home.path(), &[&scan()], &home.path().join("out"), &["--probabilities"]).code(0);
    let read = sulcus_io::read_scan(&home.path().join("out/image_probabilities.nii.gz")).unwrap();
    let (labels, _) = sulcus_io::read_labels(&home.path().join("out/image.nii.gz")).unwrap();
    assert_eq!((read.metadata.voxel_type().name(), read.image.channels()), ("float32", 3));
    for voxel in 0..labels.data().len() {
        let classes: Vec<f32> = (0..3).map(|c| read.image.channel(c)[voxel]).collect();
        assert!((classes.iter().sum::<f32>() - 1.0).abs() < 1e-4, "{classes:?}");
        let best = classes[usize::from(labels.data()[voxel])];
        assert!(classes.iter().all(|p| *p <= best + 1e-6), "{classes:?} {}", labels.data()[voxel]);
    }
}

#[test]
fn channel_numbers_are_removed_from_case_names() {
    let home = tempfile::tempdir().unwrap();
    let input = file(home.path(), "case_0000.nii.gz", &std::fs::read(scan()).unwrap());
    predict(home.path(), &[&input], &home.path().join("out"), &[]).code(0);
    assert!(home.path().join("out/case.nii.gz").is_file());
}

#[test]
fn surplus_channel_fails_only_that_case() {
    let home = tempfile::tempdir().unwrap();
    let bytes = std::fs::read(scan()).unwrap();
    for name in ["in/x_0000.nii.gz", "in/x_0001.nii.gz", "in/y_0000.nii.gz"] {
        file(home.path(), name, &bytes);
    }
    let out = home.path().join("out");
    predict(home.path(), &[&home.path().join("in")], &out, &[])
        .code(1)
        .says("the model takes 1 channel, the folder has channels 0000 and 0001 of case x")
        .says("1 of 2 cases failed");
    let names: Vec<_> = std::fs::read_dir(&out).unwrap().flatten().map(|e| e.file_name()).collect();
    assert_eq!(names, ["y.nii.gz"]);
}

#[test]
fn mirroring_has_no_effect_on_a_model_trained_without_it() {
    let home = tempfile::tempdir().unwrap();
    let (plain, mirrored) = (home.path().join("plain.nii.gz"), home.path().join("mirrored.nii.gz"));
    predict(home.path(), &[&scan()], &plain, &[]).code(0);
    predict(home.path(), &[&scan()], &mirrored, &["--mirror"]).code(0).says("--mirror has no effect");
    let labels = |path: &Path| sulcus_io::read_labels(path).unwrap().0;
    assert_eq!(labels(&plain), labels(&mirrored));
}

#[test]
fn unknown_orientation_gives_one_warning() {
    let home = tempfile::tempdir().unwrap();
    let values: Vec<f32> = (0..20 * 20 * 8).map(|i| (i % 37) as f32).collect();
    let lost = file(home.path(), "lost.nii", &nifti(&[20, 20, 8], &values, None));
    let known = file(home.path(), "known.nii", &nifti(&[20, 20, 8], &values, Some(RAS)));
    let out = home.path().join("out");
    let ended = predict(home.path(), &[&lost, &known], &out, &[]).code(0).says("left and right are unknown");
    assert_eq!(ended.stderr.matches("left and right are unknown").count(), 1);
}

#[test]
fn outputs_that_would_destroy_data_are_wrong_usage() {
    let home = tempfile::tempdir().unwrap();
    let bytes = std::fs::read(scan()).unwrap();
    let input = file(home.path(), "a/x.nii.gz", &bytes);
    let twin = file(home.path(), "b/x.nii.gz", &bytes);
    predict(home.path(), &[&input], &input, &[]).code(2).says("overwrite the scan itself");
    predict(home.path(), &[&input], &home.path().join("a"), &[]).code(2).says("overwrite the scan itself");
    let plain = sulcus_io::read_scan(&input).map(|read| (read.image, read.metadata)).unwrap();
    let (header, voxels) = (home.path().join("pair.hdr"), home.path().join("pair.img"));
    sulcus_io::write_image(&header, &plain.0, &plain.1).unwrap();
    let pair = [&header, &voxels].map(|path| std::fs::read(path).unwrap());
    predict(home.path(), &[&header], &voxels, &[]).code(2).says("overwrite the scan itself");
    assert_eq!([&header, &voxels].map(|path| std::fs::read(path).unwrap()), pair);
    // After renaming the header, the file of its voxels has another name.
    let (first, renamed) = (home.path().join("first.mhd"), home.path().join("renamed.mhd"));
    sulcus_io::write_image(&first, &plain.0, &plain.1).unwrap();
    std::fs::rename(&first, &renamed).unwrap();
    let voxels = std::fs::read(home.path().join("first.zraw")).unwrap();
    predict(home.path(), &[&renamed], &first, &[]).code(2).says("overwrite the scan itself");
    assert_eq!(std::fs::read(home.path().join("first.zraw")).unwrap(), voxels);
    // The probabilities of one case have the name of the mask of another one.
    let case = file(home.path(), "x_probabilities.nii.gz", &bytes);
    predict(home.path(), &[&input, &case], &home.path().join("out"), &["--probabilities"])
        .code(2)
        .says("two outputs would have the same name");
    predict(home.path(), &[&input, &twin], &home.path().join("out"), &[]).code(2).says("case name `x`");
    predict(home.path(), &[&home.path().join("a"), &home.path().join("b")], &home.path().join("out.nii.gz"), &[])
        .code(2)
        .says("case name `x`");
    assert_eq!(std::fs::read(&input).unwrap(), bytes);
    assert!(!home.path().join("out").exists());
}

#[test]
fn one_output_file_for_many_scans_is_wrong_usage() {
    let home = tempfile::tempdir().unwrap();
    let cases = bundled("hippocampus/imagesTr");
    predict(home.path(), &[&cases], &home.path().join("one.nii.gz"), &[]).code(2).says("-o names one file");
}

#[test]
fn unwritable_folder_fails_before_prediction() {
    let home = tempfile::tempdir().unwrap();
    let blocked = file(home.path(), "a_file", b"");
    predict(home.path(), &[&scan()], &blocked.join("out"), &["--json"])
        .code(1)
        .says("cannot write into the output folder")
        .says("hint: choose another place");
}

#[test]
fn missing_engine_library_or_device_fails_with_the_reason() {
    let home = tempfile::tempdir().unwrap();
    let out = home.path().join("mask.nii.gz");
    let with = |more: &[&str]| {
        let mut command = sulcus(home.path());
        command.args(["predict", "-m"]).arg(tiny_model()).arg(scan()).arg("-o").arg(&out).args(more);
        super::support::ended(command.output().unwrap())
    };
    with(&["--ort-lib", "/no/such/libonnxruntime.so"])
        .code(1)
        .says("--ort-lib")
        .says("/no/such/libonnxruntime.so");
    with(&["--ort-lib", scan().to_str().unwrap()]).code(1).says("cannot be used");
    with(&["--engine", "tract", "--device", "cuda"]).code(1).says("`cuda:0`").says("processor");
    with(&["--engine", "tract", "--device", "vulkan"]).code(1).says("vulkan");
    assert!(!out.exists());
    let variable = sulcus(home.path())
        .env("SULCUS_ORT_LIB", "/no/such/lib.so")
        .args(["predict", "-m"])
        .arg(tiny_model())
        .arg(scan())
        .arg("-o")
        .arg(&out)
        .output()
        .unwrap();
    super::support::ended(variable).code(1).says("$SULCUS_ORT_LIB");
}

#[test]
fn dicom_file_without_image_is_named() {
    let home = tempfile::tempdir().unwrap();
    let mut dicom = vec![0_u8; 128];
    dicom.extend(b"DICM");
    file(home.path(), "series/1.dcm", &dicom);
    let series = home.path().join("series");
    predict(home.path(), &[&series], &home.path().join("out"), &[]).code(1).says("expected DICOM images, found 1");
    run(home.path(), &[&"info", &series]).code(1).says("DICOM");
}

/// The masks of a folder, with their bytes.
fn masks(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut masks: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .flatten()
        .filter(|e| e.path().is_file())
        .map(|e| (e.file_name().to_string_lossy().into_owned(), std::fs::read(e.path()).unwrap()))
        .collect();
    masks.sort();
    masks
}

#[test]
fn memory_limit_keeps_masks_identical_and_a_too_small_one_is_refused() {
    let home = tempfile::tempdir().unwrap();
    let (whole, limited) = (home.path().join("whole"), home.path().join("limited"));
    let cases = home.path().join("in");
    let values: Vec<f32> = (0..150 * 140 * 40).map(|i| ((i * i) % 371) as f32).collect();
    file(home.path(), "in/b.nii", &nifti(&[150, 140, 40], &values, Some(RAS)));
    file(home.path(), "in/a.nii.gz", &std::fs::read(scan()).unwrap());
    let ended = predict(home.path(), &[&cases], &whole, &["--json"]).code(0).says("2 cases: 2 done, 0 failed");
    if cfg!(target_os = "linux") {
        assert!(ended.json_lines()[0]["peak_memory_bytes"].as_u64().unwrap() > 1_000_000);
    }
    let inputs: Vec<_> = ended.json_lines().iter().map(|l| l["input"].as_str().unwrap().to_owned()).collect();
    assert!(inputs[0].ends_with("a.nii.gz") && inputs[1].ends_with("b.nii"), "{inputs:?}");
    predict(home.path(), &[&cases], &limited, &["--max-memory", "300MB"]).code(0);
    assert_eq!(masks(&whole), masks(&limited));
    let small = home.path().join("small");
    predict(home.path(), &[&cases], &small, &["--max-memory", "5MB"])
        .code(1)
        .says("the memory limit of 5 MB is too small for this scan: with this model it needs at least")
        .says("b.nii")
        .says("2 of 2 cases failed");
    assert!(masks(&small).is_empty());
}

#[test]
fn resumed_cohort_repeats_only_changed_cases() {
    let home = tempfile::tempdir().unwrap();
    let bytes = std::fs::read(scan()).unwrap();
    for name in ["in/a.nii.gz", "in/b.nii.gz", "in/c.nii.gz", "in/d.nii.gz"] {
        file(home.path(), name, &bytes);
    }
    let (cases, out) = (home.path().join("in"), home.path().join("out"));
    let go = |more: &[&str]| {
        let ended = predict(home.path(), &[&cases], &out, &[&["--resume", "--json"], more].concat()).code(0);
        let before = |line: &serde_json::Value| line.get("done_before").is_some();
        let done: Vec<bool> = ended.json_lines().iter().map(before).collect();
        (done, ended)
    };
    assert_eq!(go(&[]).0, [false; 4]);
    let first = masks(&out);
    assert_eq!(first.len(), 4);
    let (done, ended) = go(&[]);
    assert_eq!(done, [true; 4]);
    ended.says("4 cases: 0 done, 4 done before, 0 failed");

    // A missing mask, a truncated one, and a changed scan.
    std::fs::remove_file(out.join("a.nii.gz")).unwrap();
    std::fs::write(out.join("b.nii.gz"), &first[1].1[..40]).unwrap();
    file(home.path(), "in/c.nii.gz", &[&bytes[..], &[0; 8]].concat());
    assert_eq!(go(&[]).0, [false, false, false, true]);
    assert_eq!(masks(&out), first);
    // The voxels of some formats are in a second file.
    let (image, source) = sulcus_io::read_scan(&scan()).map(|read| (read.image, read.metadata)).unwrap();
    for name in ["e.hdr", "f.mhd"] {
        sulcus_io::write_image(&cases.join(name), &image, &source).unwrap();
    }
    assert_eq!(go(&[]).0, [true, true, true, true, false, false]);
    assert_eq!(go(&[]).0, [true; 6]);
    for voxels in ["e.img", "f.zraw"] {
        let content = std::fs::read(cases.join(voxels)).unwrap();
        std::fs::write(cases.join(voxels), content).unwrap();
    }
    assert_eq!(go(&[]).0, [true, true, true, true, false, false]);
    for name in ["e.hdr", "e.img", "f.mhd", "f.zraw"] {
        std::fs::remove_file(cases.join(name)).unwrap();
    }
    // Another option invalidates the records.
    assert_eq!(go(&["--step", "0.4"]).0, [false; 4]);
    predict(home.path(), &[&scan()], &home.path().join("one.nii.gz"), &["--resume"])
        .code(2)
        .says("--resume continues a folder");
}

/// An unreadable file of a folder is a failed case: a cohort must not become smaller without a message.
#[cfg(unix)]
#[test]
fn broken_link_is_a_failed_case() {
    let home = tempfile::tempdir().unwrap();
    let good = file(home.path(), "in/good.nii.gz", &std::fs::read(scan()).unwrap());
    std::os::unix::fs::symlink(home.path().join("never fetched"), good.with_file_name("lost.nii.gz")).unwrap();
    let out = home.path().join("out");
    let ended = predict(home.path(), &[&home.path().join("in")], &out, &["--json"]).code(1);
    assert_eq!(ended.json_lines().len(), 2, "{}", ended.stdout);
    ended.says("lost.nii.gz");
    assert!(out.join("good.nii.gz").is_file());
}

#[test]
fn parts_together_equal_one_run() {
    let home = tempfile::tempdir().unwrap();
    let bytes = std::fs::read(scan()).unwrap();
    for name in ["in/a.nii.gz", "in/b.nii.gz", "in/c.nii.gz", "in/broken.nii.gz"] {
        file(home.path(), name, if name.contains("broken") { &bytes[..100] } else { &bytes });
    }
    let (cases, whole, parts) = (home.path().join("in"), home.path().join("whole"), home.path().join("parts"));
    predict(home.path(), &[&cases], &whole, &[]).code(1);
    let mut made = Vec::new();
    for part in ["1/3", "2/3", "3/3"] {
        predict(home.path(), &[&cases], &parts, &["--part", part]);
        made.push(masks(&parts).len());
    }
    assert_eq!(made, [2, 3, 3], "a and c, then b, then the broken one");
    assert_eq!(masks(&whole), masks(&parts));
    predict(home.path(), &[&cases], &parts, &["--part", "4/3"]).code(2).says("such as 2/8");
}

/// Regression test: a scan whose header says 100 mm instead of 0.1 mm ended the process.
#[test]
fn scan_that_needs_more_memory_than_the_machine_has_is_refused_by_its_header() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    let bytes = std::fs::read(tiny_model()).unwrap();
    let mut spec = sulcus_onnx::read_spec(&bytes).unwrap();
    spec.golden_case = None;
    spec.spacing = SpacingRule::Resample {
        mm: Spacing::new([1.0; 3]).unwrap(),
        interpolation: Interpolation::Linear,
        coarse_axis: CoarseAxis::AsOthers,
        tolerance: 1.0,
    };
    let model = file(home, "model.onnx", &sulcus_onnx::with_spec(&bytes, &spec).unwrap());
    let form = [[500.0, 0.0, 0.0, 0.0], [0.0, 500.0, 0.0, 0.0], [0.0, 0.0, 500.0, 0.0]];
    // The voxels are missing, but the header is enough.
    let mut scan = nifti(&[20, 20, 20], &[0.0; 8000], Some(form));
    scan.truncate(400);
    let scan = file(home, "scan.nii", &scan);
    let mask = home.join("mask.nii");
    for more in [&[][..], &["--max-memory", "2GB"]] {
        let mut arguments: Vec<&dyn AsRef<std::ffi::OsStr>> = vec![&"predict", &"-m", &model, &scan, &"-o", &mask];
        arguments.extend(more.iter().map(|word| word as &dyn AsRef<std::ffi::OsStr>));
        run(home, &arguments).code(1).says("the memory limit of").says("hint: `--max-memory` sets the limit");
    }
    assert!(!mask.exists());
}
