//! Predictions of the built viewer in headless Chromium, compared with the native engine on this machine.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test fails by panicking and prints what it measured"
)]

#[macro_use]
extern crate sulcus_harness;

#[allow(dead_code, reason = "other tests use the rest")]
#[path = "../../../tests/browser/page.rs"]
mod page;
#[path = "../../../tests/browser/server.rs"]
mod server;

use std::fs;
use std::path::{Path, PathBuf};

use page::{Visit, visit};
use sulcus_runtime::io::{Compression, encode_image, read_labels_bytes, read_scan_bytes};
use sulcus_runtime::volume::Image;
use sulcus_runtime::{Engine, SELF_TEST_MODEL, SegmentOptions, Segmentation, Segmenter};

/// The limits of a prediction from the click to the mask, by the folder of the model. The best of [`TRIES`] counts, since the machine may
/// be busy.
const LIMITS_MS: [(&str, u64); 2] = [("hippocampus", 1500), ("hippocampus-3d", 4000)];
const TRIES: usize = 5;
/// Labels may differ only where the two greatest logits are equal but for rounding.
const ROUNDING: f32 = 1e-3;

/// What every script uses. A violation of the page's policy is an error.
const HELP: &str = "
    document.addEventListener('securitypolicyviolation', (event) => { $('#error').textContent += ` policy: ${event.violatedDirective} ${event.blockedURI}`; });
    const note = (name, text) => { document.body.dataset[name] = text; };
    const status = () => $('#predict-status')?.textContent ?? '';
    const file = async (name) => new File([await (await fetch('/data/' + name)).arrayBuffer()], name);
    const dropOn = async (target, ...names) => {
      const data = new DataTransfer();
      for (const name of names) data.items.add(await file(name));
      target.dispatchEvent(new DragEvent('drop', { dataTransfer: data, bubbles: true, cancelable: true }));
    };
    const drop = (...names) => dropOn($('#views'), ...names);
    const loaded = () => until(() => $('#model dd'));
    const ended = () => until(() => $('#predict-go') && !$('#predict-go').hidden && !/^(Loading|Predicting)/.test(status()));
    const predict = async () => { $('#predict-go').click(); await ended(); return status(); };
    const saved = [];
    URL.createObjectURL = (blob) => { saved.push(blob); return 'data:,'; };
    HTMLAnchorElement.prototype.click = () => {};
    const saveMask = async () => {
      $('#tools').open = true;
      await until(() => $('#save-mask'));
      $('#save-mask').click();
      await until(() => saved.length);
      const bytes = new Uint8Array(await saved.pop().arrayBuffer());
      return [...bytes].map((byte) => byte.toString(16).padStart(2, '0')).join('');
    };
";

fn used(name: &str, query: &str, files: &[(&str, &[u8])], script: &str) -> Visit {
    let page = visit(name, query, files, &format!("{HELP}{script}"));
    assert_eq!(page.text("error"), "");
    page
}

fn data(page: &Visit, name: &str) -> String {
    page.data(name).unwrap_or_else(|| panic!("the script did not get to {name}: {}", page.html))
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn model(folder: &str) -> Vec<u8> {
    fs::read(root().join("models").join(folder).join("model.onnx")).unwrap()
}

fn case() -> Vec<u8> {
    fs::read(root().join("examples/data/case/image.nii.gz")).unwrap()
}

/// What the command line's native engine finds, with probabilities.
fn native(model: &[u8], scan: &[u8]) -> Segmentation {
    let segmenter = Segmenter::builder().model_bytes(model).engine(Engine::Native).build().unwrap();
    let image = read_scan_bytes(scan).unwrap().image;
    segmenter.segment(&image, SegmentOptions::default().with_probabilities()).unwrap()
}

/// Compares a mask with the native one. Each voxel that differs is listed with the difference of the two logits.
fn compare(name: &str, mask_hex: &str, expected: &Segmentation) {
    let bytes: Vec<u8> =
        (0..mask_hex.len() / 2).map(|i| u8::from_str_radix(&mask_hex[2 * i..2 * i + 2], 16).unwrap()).collect();
    let (mask, metadata) = read_labels_bytes(&bytes).unwrap();
    mask.geometry().check_same_grid(expected.labels.geometry()).unwrap();
    assert_eq!(metadata.label_table().unwrap(), &expected.table);
    let probabilities = expected.probabilities.as_ref().unwrap();
    let logarithm = |label: u16, voxel: usize| {
        let class = expected.table.entries().iter().position(|entry| entry.value == label).map_or(0, |i| i + 1);
        probabilities.channel(class)[voxel].ln()
    };
    let pairs = mask.data().iter().zip(expected.labels.data()).enumerate();
    let differing: Vec<(usize, f32)> = pairs
        .filter(|(_, (found, wanted))| found != wanted)
        .map(|(voxel, (found, wanted))| (voxel, logarithm(*wanted, voxel) - logarithm(*found, voxel)))
        .collect();
    println!("{name}: {} of {} voxels differ from the native engine", differing.len(), mask.data().len());
    for (voxel, gap) in &differing {
        println!("  voxel {voxel}: the logits differ by {gap:e}");
    }
    assert!(differing.iter().all(|(_, gap)| gap.abs() < ROUNDING), "{name}: {differing:?}");
    assert!(mask.data().iter().any(|label| *label > 0), "an empty mask would pass");
}

#[test]
fn shipped_models_predict_what_the_native_engine_predicts_in_time() {
    for (folder, limit_ms) in LIMITS_MS {
        let (model, scan) = (model(folder), case());
        let expected = native(&model, &scan);
        let files = [("image.nii.gz", scan.as_slice()), ("model.onnx", model.as_slice())];
        // The first prediction comes from the address, with the load of module and model; the others from clicks.
        let script = format!(
            "await ended();
             note('first', $('#predict-status').dataset.ms + ' ' + status());
             const times = [];
             for (let i = 0; i < {TRIES}; i++) {{ note('status', await predict()); times.push(Number($('#predict-status').dataset.ms)); }}
             note('times', times.join(' '));
             note('stages', $('#predict-status').dataset.seconds);
             note('warnings', $('#predict-warnings').textContent);
             note('about', $('#model').innerText.replace(/\\s+/g, ' '));
             note('labels', $('#labels').innerText.replace(/\\s+/g, ' '));
             note('mask', await saveMask());"
        );
        let page =
            used(&format!("predict-{folder}"), "image=/data/image.nii.gz&model=/data/model.onnx", &files, &script);
        assert!(data(&page, "status").starts_with("Predicted in "), "{}", data(&page, "status"));
        compare(folder, &data(&page, "mask"), &expected);
        assert_eq!(data(&page, "warnings"), "");
        for entry in expected.table.entries() {
            assert!(data(&page, "about").contains(&entry.name), "{}", data(&page, "about"));
            assert!(data(&page, "labels").contains(&entry.name), "{}", data(&page, "labels"));
        }
        let times: Vec<u64> = data(&page, "times").split(' ').map(|ms| ms.parse().unwrap()).collect();
        println!("{folder}: {}; {times:?} ms, of which {}", data(&page, "first"), data(&page, "stages"));
        let best = times.into_iter().min().unwrap();
        assert!(best <= limit_ms, "{folder}: {best} ms, at most {limit_ms} are allowed");
    }
}

#[test]
fn dropped_model_can_be_cancelled_and_run_again() {
    let (model, scan) = (model("hippocampus-3d"), case());
    let files = [("image.nii.gz", scan.as_slice()), ("model.onnx", model.as_slice())];
    let script = "
        await drop('image.nii.gz', 'model.onnx');
        await loaded(); await ended();
        note('open', String($('#predict').open));
        $('#predict-go').focus();
        $('#predict-go').click();
        note('busy', [$('#predict-go').hidden, $('#predict-cancel').hidden, $('#predict-bar').hidden, document.activeElement.id].join(' '));
        await new Promise((go) => setTimeout(go, 50));
        $('#predict-cancel').click();
        note('cancelled', status() + ' ' + document.activeElement.id);
        await new Promise((go) => setTimeout(go, 300));
        note('mask', document.querySelectorAll('.zone .name')[1].textContent);
        note('again', await predict());
        note('after', document.querySelectorAll('.zone .name')[1].textContent);
    ";
    let page = used("predict-cancel", "", &files, script);
    assert_eq!(data(&page, "open"), "true");
    assert_eq!(data(&page, "busy"), "true false false predict-cancel");
    assert_eq!(data(&page, "cancelled"), "Cancelled. predict-go");
    assert_eq!(data(&page, "mask"), "drop it here", "a cancelled prediction leaves no mask");
    assert!(data(&page, "again").starts_with("Predicted in "), "{}", data(&page, "again"));
    assert!(data(&page, "after").ends_with("(predicted)"), "{}", data(&page, "after"));
}

/// A scan whose voxels all have one value.
fn blank() -> Vec<u8> {
    let scan = read_scan_bytes(&case()).unwrap();
    let image = Image::new(*scan.image.geometry(), 1, vec![7.0; scan.image.data().len()]).unwrap();
    encode_image(&image, &scan.metadata, Compression::None).unwrap()
}

/// A scan with voxels of 4 mm, which no training scan had.
fn coarse() -> Vec<u8> {
    let mut bytes = fs::read(root().join("examples/data/case/image.nii.gz")).unwrap();
    let scan = read_scan_bytes(&bytes).unwrap();
    bytes = encode_image(&scan.image, &scan.metadata, Compression::None).unwrap();
    for row in 0..3 {
        for column in 0..3 {
            let at = 280 + 16 * row + 4 * column;
            let value = f32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) * 4.0;
            bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
        }
    }
    bytes
}

#[test]
fn implausible_scans_are_refused_or_warned_about() {
    let (model, blank, coarse, scan) = (model("hippocampus"), blank(), coarse(), case());
    let files = [
        ("blank.nii", blank.as_slice()),
        ("coarse.nii", coarse.as_slice()),
        ("image.nii.gz", scan.as_slice()),
        ("model.onnx", model.as_slice()),
    ];
    let names = "document.querySelectorAll('.zone .name')";
    let script = format!(
        "await drop('model.onnx');
         await loaded(); await ended();
         note('none', await predict());
         for (const name of ['blank.nii', 'coarse.nii', 'image.nii.gz']) {{
           await dropOn($('.zone'), name);
           await until(() => {names}[0].textContent === name && $('#busy').hidden);
           note(name.split('.')[0], await predict());
           note(name.split('.')[0] + 'Warnings', $('#predict-warnings').hidden ? '' : $('#predict-warnings').textContent);
         }}"
    );
    let page = used("predict-implausible", "", &files, &script);
    assert_eq!(data(&page, "none"), "Open a scan first.");
    let blank = data(&page, "blank");
    assert!(blank.contains("is 7 in every voxel"), "{blank}");
    assert!(data(&page, "coarse").starts_with("Predicted in "), "{}", data(&page, "coarse"));
    let warned = page.data("coarse-warnings").unwrap();
    assert!(warned.contains("voxel"), "{warned}");
    assert!(data(&page, "image").starts_with("Predicted in "), "{}", data(&page, "image"));
    assert_eq!(page.data("image-warnings").unwrap(), "");
}

#[test]
fn corrections_that_are_not_saved_are_not_replaced() {
    let scan = case();
    let files = [("image.nii.gz", scan.as_slice()), ("model.onnx", SELF_TEST_MODEL)];
    let script = "
         await loaded(); await ended();
         $('#tools').open = true;
         await until(() => $('[data-tool=brush]'));
         $('[data-tool=brush]').click();
         const view = $('.view canvas');
         view.setPointerCapture = () => {};
         const box = view.getBoundingClientRect();
         for (const kind of ['down', 'up']) view.dispatchEvent(new PointerEvent('pointer' + kind, { clientX: box.x + box.width / 2, clientY: box.y + box.height / 2, pointerId: 1, bubbles: true, cancelable: true }));
         await frame(); await frame();
         note('corrected', await predict());
    ";
    let page = used("predict-corrected", "image=/data/image.nii.gz&model=/data/model.onnx", &files, script);
    assert!(data(&page, "corrected").contains("not saved"), "{}", data(&page, "corrected"));
}

#[test]
fn unusable_models_are_named_with_the_reason() {
    // The same graph with an operator that no network of Sulcus has.
    let foreign = replaced(SELF_TEST_MODEL, b"Relu", b"Selu");
    let mut spec = sulcus_onnx::read_spec(SELF_TEST_MODEL).unwrap();
    spec.unchecked = Some("logits differ by up to 3e-2 <b>&".into());
    spec.format_version = spec.min_format_version();
    let unchecked = sulcus_onnx::with_spec(SELF_TEST_MODEL, &spec).unwrap();
    let (cut, scan) = (&SELF_TEST_MODEL[..SELF_TEST_MODEL.len() / 2], case());
    let noise: Vec<u8> = (0..10_000_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let files = [
        ("image.nii.gz", scan.as_slice()),
        ("foreign.onnx", foreign.as_slice()),
        ("unchecked.onnx", unchecked.as_slice()),
        ("cut.onnx", cut),
        ("noise.onnx", noise.as_slice()),
        ("empty.onnx", b"".as_slice()),
        ("scan.onnx", scan.as_slice()),
    ];
    let script = "
        for (const name of ['foreign', 'cut', 'noise', 'empty', 'scan']) {
          await drop(name + '.onnx');
          await until(() => status().startsWith(name + '.onnx: '));
          note(name, status() + ' ' + $('#predict-go').disabled);
        }
        await drop('unchecked.onnx');
        await loaded(); await ended();
        note('marked', $('#predict .banner').textContent);
        note('elements', String($('#predict .banner b')));
        const before = $('#predict-go').disabled;
        $('#allow-unchecked').click();
        note('disabled', before + ' ' + $('#predict-go').disabled);
        note('allowed', await predict());
    ";
    let page = used("predict-unusable", "image=/data/image.nii.gz", &files, script);
    let said = |name: &str| data(&page, name);
    assert!(said("foreign").contains("Selu"), "{}", said("foreign"));
    for name in ["foreign", "cut", "noise", "empty", "scan"] {
        println!("{}", said(name));
        assert!(said(name).ends_with(". true"), "no model can be run: {}", said(name));
        assert!(!said(name).contains("engine stopped"), "{}", said(name));
    }
    assert!(said("marked").contains("logits differ by up to 3e-2"), "{}", said("marked"));
    assert_eq!(said("elements"), "null", "the text of the file is not markup");
    assert_eq!(said("disabled"), "true false");
    assert!(said("allowed").starts_with("Predicted in "), "{}", said("allowed"));
}

fn replaced(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    assert_eq!(from.len(), to.len());
    let mut replaced = bytes.to_vec();
    let places: Vec<usize> = (0..bytes.len() - from.len()).filter(|at| bytes[*at..].starts_with(from)).collect();
    assert!(!places.is_empty(), "the model has no such operator");
    for at in places {
        replaced[at..at + to.len()].copy_from_slice(to);
    }
    replaced
}

sulcus_harness::main!();
