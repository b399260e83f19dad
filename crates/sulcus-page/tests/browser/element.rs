//! The custom element of the npm package, with the page in one file and with the page of a server.

use std::collections::HashMap;
use std::fs;

use serde_json::Value;
use sulcus_page::npm_package;
use sulcus_testing::repository;

use crate::case;
use crate::devtools::Page;
use crate::server::serve;

const PAGE: &str =
    "<!DOCTYPE html><meta charset=\"utf-8\"><title>host</title><body style=\"margin:0\"><script type=\"module\">
  import * as sulcus from './sulcus-viewer.js';
  globalThis.sulcus = sulcus;
</script>";

/// What the scripts use. `reason` is why a promise was rejected.
const HELP: &str = "
    globalThis.log = {};
    globalThis.reason = (promise) => promise.then(() => 'not rejected', (error) => error.name + ': ' + error.message);
    globalThis.viewer = document.createElement('sulcus-viewer');
    viewer.style.height = '100vh';
    for (const type of ['location', 'window', 'frame', 'label', 'measurement', 'edit', 'load', 'error', 'predict-progress']) {
      viewer.addEventListener(type, ({ detail }) => (log[type] ??= []).push(detail));
    }
";

fn package() -> HashMap<String, Vec<u8>> {
    let mut files: HashMap<String, Vec<u8>> =
        npm_package().unwrap().into_iter().map(|(path, content)| (path, content.into_owned())).collect();
    files.insert("image.nii.gz".to_owned(), case("image.nii.gz"));
    files.insert("truth.nii.gz".to_owned(), case("truth.nii.gz"));
    files.insert("model.onnx".to_owned(), fs::read(repository().join("models/hippocampus/model.onnx")).unwrap());
    files.insert("host.html".to_owned(), PAGE.as_bytes().to_vec());
    files
}

/// Opens a page with the element, which has these attributes (a script that sets them).
fn opened(files: HashMap<String, Vec<u8>>, attributes: &str) -> Page {
    let mut page = Page::open(&format!("{}/host.html", serve(files)));
    page.wait_for("globalThis.sulcus");
    page.value(&format!("{HELP}; {attributes}; document.body.append(viewer); viewer.ready.then(() => 0)"));
    page
}

fn names(labels: &Value) -> Vec<&str> {
    labels.as_array().unwrap().iter().map(|label| label["name"].as_str().unwrap()).collect()
}

/// Every method and its events. The page in one file and that of a server must do the same.
fn check_methods(page: &mut Page) {
    let loaded = page
        .value("viewer.load({ image: 'image.nii.gz', mask: { data: 'truth.nii.gz', name: 'own name.nii.gz' } })");
    assert_eq!(
        (&loaded["files"]["image"], &loaded["files"]["mask"]),
        (&"image.nii.gz".into(), &"own name.nii.gz".into())
    );
    assert_eq!((names(&loaded["labels"]), &loaded["problem"]), (vec!["label 1", "label 2"], &Value::Null));
    let renamed = page.value(
        "viewer.setLabels([{ value: 1, name: 'Head', color: '#ff0000', visible: false }, { value: 2, name: 'Tail' }])",
    );
    assert_eq!(names(&renamed), ["Head", "Tail"]);
    assert_eq!((renamed[0]["color"].to_string(), &renamed[0]["visible"]), ("[255,0,0]".to_owned(), &false.into()));

    let at = page.value("viewer.goTo({ label: 2 })");
    assert_eq!(at["mask"]["name"], "Tail");
    page.wait_for("log.label?.at(-1).mask.name === 'Tail'");
    assert_eq!(page.value("viewer.goTo([20, 30, 20])")["ras"].to_string(), "[20,30,20]");
    page.wait_for("log.location?.at(-1).ras[0] === 20 && log.label.at(-1).mask.name === 'background'");
    page.wait_for("log.load?.at(-1).files.mask === 'own name.nii.gz'");

    page.value("viewer.setState({ opacity: 90, window: [100, 300], plane: 1 })");
    page.wait_for("log.window?.at(-1).low === 100");
    let state = page.value("viewer.getState()");
    assert_eq!(
        (&state["opacity"], &state["plane"], &state["format"]),
        (&90.into(), &1.into(), &"sulcus.view".into())
    );
    page.value("viewer.setState({ format: 'sulcus.view', format_version: 1, measures: [{ kind: 'distance', plane: 1, points: [[20, 30, 20], [20, 30, 26]] }] })");
    page.wait_for("log.measurement?.at(-1).measurements[0].value === 6");

    // The picture has the colours of the label: 90 % of blue over grey.
    let picture = page.value(
        "(async () => {
           await viewer.goTo({ label: 2 });
           const bitmap = await createImageBitmap(await viewer.screenshot());
           const canvas = new OffscreenCanvas(bitmap.width, bitmap.height);
           const context = canvas.getContext('2d');
           context.drawImage(bitmap, 0, 0);
           const { data } = context.getImageData(0, 0, bitmap.width, bitmap.height);
           let blue = 0;
           for (let i = 0; i < data.length; i += 4) if (data[i + 2] > data[i] + 60) blue++;
           return [bitmap.width, bitmap.height, blue];
         })()",
    );
    assert!(picture[0].as_u64() > Some(300) && picture[2].as_u64() > Some(1000), "{picture}");

    let mask = page.value("viewer.getMask().then(async (blob) => [...new Uint8Array(await blob.slice(0, 2).arrayBuffer()), blob.size])");
    assert_eq!(mask.as_array().unwrap()[2], case("truth.nii.gz").len());
}

/// Each rejection says why.
fn check_refusals(page: &mut Page) {
    let refusals = [
        ("viewer.goTo('there')", "SulcusViewerError: a target is a position"),
        ("viewer.goTo({ label: 9 })", "there is no label 9"),
        ("viewer.setLabels([{ value: 0, name: 'x' }])", "from 1 to 65535, not 0"),
        ("viewer.setLabels([{ value: 1, color: 'red' }])", "a colour is #rrggbb"),
        ("viewer.setLabels([{ value: 1, name: 'a' }, { value: 2, name: 'a' }])", "the name `a` occurs twice"),
        ("viewer.load({ image: 'none.nii.gz' })", "none.nii.gz: could not be loaded: the server answered 404"),
        ("viewer.load({ picture: 'image.nii.gz' })", "files are given by their roles"),
        ("viewer.load({ mask: new Uint8Array(5) })", "mask.nii.gz: cannot read a volume"),
        ("viewer.load({ truth: 5 })", "truth: expected an address"),
        ("viewer.predict(new Uint8Array(8))", "model.onnx: "),
        ("viewer.setState({ format: 'sulcus.view', format_version: 7 })", "version 7"),
        ("viewer.setState({ fn: () => 0 })", "cannot be sent to the viewer"),
    ];
    for (call, expected) in refusals {
        let reason = page.text(&format!("reason({call})"));
        assert!(reason.starts_with("SulcusViewerError: ") && reason.contains(expected), "{call}: {reason}");
    }
    page.wait_for("log.error?.some(({ message }) => message.includes('mask.nii.gz'))");
}

fn check_prediction(page: &mut Page) {
    page.value("viewer.load({ mask: null }).then(() => 0)");
    let predicted = page.value("viewer.predict('model.onnx')");
    assert_eq!(names(&predicted["labels"]), ["Anterior", "Posterior"]);
    assert_eq!(page.value("log['predict-progress'].at(-1).done"), 1);
    page.wait_for("log.load.at(-1).files.mask === 'Hippocampus (predicted)'");
}

#[test]
fn element_with_the_page_in_one_file() {
    let mut page = opened(package(), "");
    check_methods(&mut page);
    check_refusals(&mut page);
    check_prediction(&mut page);
    // The page has no origin, so that it can read nothing of the document around it.
    assert_eq!(page.value("viewer.shadowRoot.querySelector('iframe').contentDocument"), Value::Null);
    assert!(!page.requested().iter().any(|url| url.contains("/page/")), "{:?}", page.requested());
    page.picture("element.png");
    // Removed, it fails what it was asked; put back, it starts again with the files of its attributes.
    let reason =
        page.text("(() => { const asked = reason(viewer.screenshot()); viewer.remove(); return asked; })()");
    assert!(reason.contains("the viewer was removed from the document"), "{reason}");
    page.value("viewer.setAttribute('image', 'image.nii.gz'); log.load = []; document.body.append(viewer)");
    page.wait_for("log.load.at(-1)?.files.image === 'image.nii.gz'");
}

#[test]
fn element_with_the_page_of_a_server() {
    let mut page = opened(package(), "viewer.setAttribute('src', 'page/index.html')");
    check_methods(&mut page);
    check_refusals(&mut page);
    check_prediction(&mut page);
    // Corrections are told, and not lost without a word.
    page.value(
        "(async () => {
           const inside = viewer.shadowRoot.querySelector('iframe').contentDocument;
           inside.querySelector('#tools').open = true;
           while (!inside.querySelector('#largest')) await new Promise((go) => setTimeout(go, 20));
           inside.querySelector('#paint').value = 2;
           inside.querySelector('#fit').click();
           inside.querySelector('[data-tool=brush]').click();
           const canvas = inside.querySelector('#views .view.on canvas') ?? inside.querySelector('canvas');
           const box = canvas.getBoundingClientRect();
           canvas.setPointerCapture = () => {};
           for (const type of ['pointerdown', 'pointerup']) canvas.dispatchEvent(new PointerEvent(type, { clientX: box.x + box.width / 2, clientY: box.y + box.height / 2, bubbles: true }));
         })()",
    );
    page.wait_for("log.edit?.length");
    let reason = page.text("reason(viewer.load({ mask: 'truth.nii.gz' }))");
    assert!(reason.contains("corrections that are not saved"), "{reason}");
    let mask = page
        .value("viewer.getMask().then(async (blob) => [...new Uint8Array(await blob.slice(0, 2).arrayBuffer())])");
    assert_eq!(mask.to_string(), "[31,139]");
    page.value("viewer.load({ mask: 'truth.nii.gz' }).then(() => 0)");
    page.picture("element-src.png");
}

/// Windows and origins that are not expected get no answer.
#[test]
fn only_the_document_around_the_page_can_control_it() {
    let files = package();
    let stranger = serve(files.clone());
    let mut page = opened(files, "");
    // A page of another server cannot be used.
    let reason = page.text(&format!(
        "(() => {{ const other = document.createElement('sulcus-viewer'); other.setAttribute('src', '{stranger}/page/index.html'); document.body.append(other); return reason(other.ready); }})()"
    ));
    assert!(reason.contains("must come from the server of this document"), "{reason}");
    // The page of a server does not answer a document of another one; it does answer one of its own.
    let answered = |page: &mut Page, address: &str| {
        page.text(&format!(
            "new Promise((go) => {{
               const frame = document.createElement('iframe');
               frame.src = '{address}/page/index.html?embedded=1';
               addEventListener('message', (event) => {{
                 if (event.source !== frame.contentWindow || event.data?.sulcus !== 'embedded') return;
                 const {{ port1, port2 }} = new MessageChannel();
                 port1.onmessage = ({{ data }}) => go(JSON.stringify(data));
                 frame.contentWindow.postMessage({{ sulcus: 'connect' }}, '*', [port2]);
                 setTimeout(() => go('no answer'), 1500);
               }});
               document.body.append(frame);
             }})"
        ))
    };
    let own = page.text("location.origin");
    assert_eq!(answered(&mut page, &own), "{\"ready\":true}");
    assert_eq!(answered(&mut page, &stranger), "no answer");
}
