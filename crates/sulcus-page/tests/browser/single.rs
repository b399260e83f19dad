//! Pages of one file that carry their data.

use std::fs;
use std::path::{Path, PathBuf};

use sulcus_page::SinglePage;
use sulcus_testing::{bundled, repository};
use tempfile::TempDir;

use crate::case;
use crate::devtools::Page;

/// The names in the table of labels.
const LABELS: &str =
    "[...document.querySelectorAll('#labels tbody button')].map((button) => button.textContent).join()";

/// A page with these files, which are named by their addresses, in a folder whose name has to be escaped.
fn saved(query: &str, files: &[(&str, Vec<u8>)]) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a page.html");
    let mut page = SinglePage::default();
    for (address, bytes) in files {
        page.add(*address, bytes.clone()).unwrap();
    }
    page.set_query(query);
    page.write(&mut fs::File::create(&path).unwrap()).unwrap();
    (folder, path)
}

/// Opens the page, and waits until it shows its files. A violation of its policy is an error.
fn opened(path: &Path) -> Page {
    let mut page = Page::open_file(path);
    page.wait_for("document.body?.dataset.ready");
    page.value(
        "globalThis.violations = []; document.addEventListener('securitypolicyviolation', (event) => violations.push(event.blockedURI)); 0",
    );
    page
}

/// Nothing but the file itself was requested, and the policy was not violated.
fn check_alone(page: &mut Page) {
    assert_eq!(
        page.requested().iter().filter(|url| !url.ends_with("a%20page.html")).count(),
        0,
        "{:?}",
        page.requested()
    );
    assert_eq!(page.text("violations.join()"), "");
}

#[test]
fn page_from_disk_shows_its_files_and_makes_surfaces_in_a_worker() {
    let files = [("data/image.nii.gz", case("image.nii.gz")), ("data/mask.nii.gz", case("truth.nii.gz"))];
    let (_folder, path) = saved(
        "image=data/image.nii.gz&image_name=a%20%3Cb%3E.nii.gz&mask=data/mask.nii.gz&opacity=80&plane=1",
        &files,
    );
    let mut page = opened(&path);
    assert_eq!(page.text("document.querySelector('#error').textContent"), "");
    assert_eq!(page.text("document.querySelector('#case').textContent"), "a <b>.nii.gz");
    page.wait_for("document.querySelector('#views').classList.contains('single')");
    assert_eq!(page.text("document.querySelector('#opacity').value"), "80");
    let rows = page.text(LABELS);
    assert_eq!(rows, "label 1,label 2");
    // The surfaces are the first that need a worker.
    page.value("document.querySelector('#meshes').open = true");
    page.wait_for("document.querySelectorAll('#meshes-table tr').length > 2");
    assert!(page.text("document.querySelector('#meshes-status').textContent").contains("triangles"));
    page.picture("single-case.png");
    check_alone(&mut page);
    // Only what was opened is no longer in the document.
    assert_eq!(page.value("document.querySelectorAll('script[data-file^=\"data/\"]').length"), 0);
}

#[test]
fn page_from_disk_predicts_and_restores_a_view() {
    let model = fs::read(repository().join("models/hippocampus/model.onnx")).unwrap();
    let view = r#"{"format": "sulcus.view", "format_version": 1, "files": ["image.nii.gz"], "at": [30, 30, 20], "smooth": false,
        "measures": [{"kind": "distance", "plane": 0, "points": [[20, 30, 20], [20, 42.5, 20]]}]}"#;
    let files = [
        ("data/image.nii.gz", case("image.nii.gz")),
        ("data/model.onnx", model),
        ("data/view.json", view.as_bytes().to_vec()),
    ];
    let (_folder, path) = saved("image=data/image.nii.gz&view=data/view.json&model=data/model.onnx", &files);
    let mut page = opened(&path);
    page.wait_for("document.querySelector('#predict-status')?.textContent.startsWith('Predicted')");
    assert_eq!(page.text("document.querySelector('#error').textContent"), "");
    assert_eq!(page.value("document.querySelector('#smooth').checked"), false);
    assert_eq!(page.text("document.querySelector('#measures').textContent"), "1. distance: 12.5 mm ×");
    let rows = page.text(LABELS);
    assert_eq!(rows, "Anterior,Posterior");
    page.picture("single-predicted.png");
    check_alone(&mut page);
}

/// Every part of the page that a person can open. The decoders are workers with modules of their own.
#[test]
fn page_from_disk_opens_other_formats_and_every_panel() {
    let (_folder, path) = saved("", &[]);
    let mut page = opened(&path);
    assert_eq!(page.value("document.querySelector('#welcome').hidden"), false);
    // A grey PNG of two by one pixels, and a MetaImage.
    page.value(
        "globalThis.drop = (name, bytes) => {
           const data = new DataTransfer();
           data.items.add(new File([bytes], name));
           document.querySelector('.zone').dispatchEvent(new DragEvent('drop', { dataTransfer: data, bubbles: true, cancelable: true }));
         };
         const png = 'iVBORw0KGgoAAAANSUhEUgAAAAIAAAABCAAAAADRSSBWAAAAC0lEQVR42mMQ+AAAARMBAeb/ERsAAAAASUVORK5CYII=';
         drop('two.png', Uint8Array.from(atob(png), (c) => c.charCodeAt(0)));",
    );
    page.wait_for("document.querySelector('#case').textContent === 'two.png' || document.querySelector('#error').textContent");
    assert_eq!(page.text("document.querySelector('#error').textContent"), "");
    page.value(
        "const head = 'ObjectType = Image\\nNDims = 3\\nDimSize = 2 2 2\\nElementSpacing = 1 1 1\\nOffset = 0 0 0\\nElementType = MET_UCHAR\\nElementDataFile = LOCAL\\n';
         drop('eight.mha', new Blob([head, Uint8Array.of(0, 10, 20, 30, 40, 50, 60, 77)]));",
    );
    page.wait_for("document.querySelector('#case').textContent === 'eight.mha' || document.querySelector('#error').textContent");
    assert_eq!(page.text("document.querySelector('#error').textContent"), "");
    for panel in ["tools", "headers", "predict"] {
        page.value(&format!("document.querySelector('#{panel}').open = true"));
        page.wait_for(&format!("document.querySelector('#{panel}').children.length > 1"));
    }
    page.wait_for("document.querySelector('#header').textContent.includes('2 × 2 × 2')");
    page.drop_path(&bundled("case/image.nii.gz"));
    page.wait_for("document.querySelector('#case').textContent === 'image.nii.gz'");
    // Browsers give pages from disk no access to dropped folders; the page says what to do.
    page.drop_path(&bundled("case"));
    page.wait_for("document.querySelector('#error').textContent.includes('Open a folder')");
    check_alone(&mut page);
}
