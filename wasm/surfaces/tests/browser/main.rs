//! The surfaces of the built viewer in headless Chromium, with WebGL and without, compared with what the same code draws natively.

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
use std::path::Path;

use page::{Visit, visit_with};
use sulcus_io::{Compression, encode_labels, read_labels_bytes};
use sulcus_mesh::{MemoryLimit, NamedSurface, Smoothing, Space, surface, survey, write_ply, write_stl};
use sulcus_viewer_surfaces::Surfaces;
use sulcus_volume::{LabelMap, LabelTable};

/// Neither a GPU nor its software implementation.
const WITHOUT_WEBGL: &[&str] = &["--disable-gpu", "--disable-3d-apis"];
/// WebGL on the processor.
const WITH_WEBGL: &[&str] = &["--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--ignore-gpu-blocklist"];
/// The tolerance per colour channel: the browser's colour management rounds.
const COLOUR_TOLERANCE: u8 = 2;
/// WebGL smooths edges: pixels that differ, and the change of the number of coloured pixels, as shares of the coloured pixels.
const EDGES: f64 = 0.1;
const COVERED: f64 = 0.02;

/// What every script uses. A violation of the page's policy is an error.
const HELP: &str = "
    document.addEventListener('securitypolicyviolation', (event) => { $('#error').textContent += ` policy: ${event.violatedDirective} ${event.blockedURI}`; });
    const note = (name, text) => { document.body.dataset[name] = text; };
    const rest = () => new Promise((go) => setTimeout(go, 300));
    const loaded = () => performance.getEntriesByType('resource').filter(({ name }) => /meshes|mesher|webgl|surfaces/.test(name)).length;
    const made = () => document.body.dataset.meshesMade;
    const open = async (labels) => { $('#meshes').open = true; await until(() => made() === labels); await rest(); };
    const canvas = () => $('#meshes-canvas');
    const key = async (name) => { canvas().dispatchEvent(new KeyboardEvent('keydown', { key: name, bubbles: true, cancelable: true })); await rest(); };
    const pointer = (kind, x, y, extra = {}) => {
      const box = canvas().getBoundingClientRect();
      canvas().dispatchEvent(new PointerEvent('pointer' + kind, { clientX: box.x + x * box.width, clientY: box.y + y * box.height, pointerId: 1, bubbles: true, cancelable: true, ...extra }));
    };
    const drag = async (from, to, extra) => {
      canvas().setPointerCapture = () => {};
      pointer('down', ...from, extra);
      pointer('move', ...to, extra);
      pointer('up', ...to, extra);
      await rest();
    };
    const saved = [];
    URL.createObjectURL = (blob) => { saved.push(blob); return 'data:,'; };
    const names = [];
    HTMLAnchorElement.prototype.click = function () { names.push(this.download); };
    const hex = async (blob) => [...new Uint8Array(await blob.arrayBuffer())].map((byte) => byte.toString(16).padStart(2, '0')).join('');
    const edges = () => [...document.querySelectorAll('#meshes-view .edge')].map((edge) => edge.textContent).join('');
";

/// A real mask with names, as a file.
fn mask() -> (LabelMap, LabelTable, Vec<u8>) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/data/case/truth.nii.gz");
    let (map, like) = read_labels_bytes(&fs::read(path).unwrap()).unwrap();
    let names = LabelTable::from_names([(1, "Anterior".to_owned()), (2, "Posterior <&>".to_owned())]).unwrap();
    let file = encode_labels(&map, &like, &names, Compression::Gzip).unwrap();
    (map, names, file)
}

fn used(flags: &[&str], name: &str, script: &str) -> Visit {
    let (_, _, file) = mask();
    let page = visit_with(
        flags,
        "1200,1000",
        name,
        "mask=/data/mask.nii.gz",
        &[("mask.nii.gz", &file)],
        &format!("{HELP}{script}"),
    );
    assert_eq!(page.text("error"), "");
    page
}

fn data(page: &Visit, name: &str) -> String {
    page.data(name).unwrap_or_else(|| panic!("the script did not get to {name}: {}", page.html))
}

/// The same surfaces natively.
fn natively() -> Surfaces {
    let (map, ..) = mask();
    let rows = map.geometry().ras_from_voxel().rows();
    let grid: Vec<f64> =
        map.geometry().shape().map(|n| n as f64).into_iter().chain(rows.into_iter().flatten()).collect();
    let mut surfaces = Surfaces::new();
    surfaces.set_voxels(&grid, map.data().to_vec()).unwrap();
    [1, 2].into_iter().for_each(|label| assert!(!surfaces.make(label).unwrap().is_empty()));
    surfaces
}

fn camera(page: &Visit) -> Vec<f32> {
    let text = page.html.split("data-camera=\"").nth(1).unwrap().split('"').next().unwrap();
    text.split(',').map(|n| n.parse().unwrap()).collect()
}

/// The pixels of the page, and those that are drawn natively for labels of the mask.
fn pictures(page: &Visit, labels: &[u16]) -> [Vec<[u8; 3]>; 2] {
    let (width, height, seen) = page.pictures("place").remove(0);
    let (_, names, _) = mask();
    let colors: Vec<u8> = labels.iter().flat_map(|label| names.get(*label).unwrap().color.0).collect();
    let drawn = natively().draw(width, height, &camera(page), labels, &colors).0;
    [seen.as_chunks::<3>().0.to_vec(), drawn.as_chunks::<4>().0.iter().map(|[r, g, b, _]| [*r, *g, *b]).collect()]
}

fn differing([seen, drawn]: &[Vec<[u8; 3]>; 2]) -> usize {
    assert_eq!(seen.len(), drawn.len());
    let far = |(a, b): &(&[u8; 3], &[u8; 3])| a.iter().zip(*b).any(|(a, b)| a.abs_diff(*b) > COLOUR_TOLERANCE);
    seen.iter().zip(drawn).filter(far).count()
}

/// The number of pixels of the two labels: orange, and blue.
fn counts(picture: &[[u8; 3]]) -> [usize; 2] {
    let count = |is: fn(&[u8; 3]) -> bool| picture.iter().filter(|pixel| is(pixel)).count();
    [count(|[r, _, b]| *r > b.saturating_add(20)), count(|[r, _, b]| *b > r.saturating_add(20))]
}

const TURNED: &str = "
    note('before', String(loaded()));
    await open('1 2');
    note('after', String(loaded() >= 2));
    note('edges', edges());
    note('seen', canvas().getAttribute('aria-label'));
    note('sizes', $('#meshes-table').innerText.replace(/\\s+/g, ' '));
    await key('ArrowLeft');
    await key('+');
    await drag([0.4, 0.5], [0.6, 0.6]);
    canvas().dispatchEvent(new WheelEvent('wheel', { deltaY: 50, bubbles: true, cancelable: true }));
    await drag([0.5, 0.5], [0.52, 0.5], { ctrlKey: true });
    note('slices', [...document.querySelectorAll('.slice')].map((s) => s.textContent.split(' ')[0]).join(' '));
";

fn check_turned(page: &Visit) {
    assert_eq!((data(page, "before"), data(page, "after")), ("0".into(), "true".into()), "loaded on demand");
    // From the front: the patient's right is on the left.
    assert_eq!(data(page, "edges"), "RLSI");
    assert_eq!(data(page, "seen"), "Surfaces of Anterior, Posterior &lt;&amp;&gt;, seen from the front");
    let (mut surfaces, sizes) = (natively(), data(page, "sizes"));
    for label in [1, 2] {
        let measures = surfaces.make(label).unwrap();
        assert!(sizes.contains(&format!("{:.1} {:.3} {}", measures[2], measures[3], measures[5])), "{sizes}");
    }
}

#[test]
fn surfaces_are_drawn_without_webgl() {
    let page = used(WITHOUT_WEBGL, "surfaces-software", TURNED);
    assert_eq!(data(&page, "meshes"), "software");
    check_turned(&page);
    let both = pictures(&page, &[1, 2]);
    assert_eq!(differing(&both), 0, "the browser shows something else than is drawn natively");
    let [orange, blue] = counts(&both[0]);
    println!("{orange} and {blue} pixels");
    assert!(orange > 5000 && blue > 5000, "{orange} {blue}");
}

#[test]
fn surfaces_are_drawn_with_webgl() {
    let page = used(WITH_WEBGL, "surfaces-webgl", TURNED);
    if data(&page, "meshes") != "webgl" {
        sulcus_harness::skip("this Chromium has no WebGL 2 on the processor");
    }
    check_turned(&page);
    let both = pictures(&page, &[1, 2]);
    let [seen, drawn] = both.each_ref().map(|picture| counts(picture));
    let coloured: usize = drawn.iter().sum();
    println!("{seen:?} of {drawn:?} pixels; {} differ", differing(&both));
    for (seen, drawn) in seen.iter().zip(drawn) {
        assert!(seen.abs_diff(drawn) as f64 <= COVERED * drawn as f64, "{seen} of {drawn} pixels");
    }
    assert!(
        differing(&both) as f64 <= EDGES * coloured as f64,
        "{} of {coloured} pixels differ",
        differing(&both)
    );
}

#[test]
fn labels_are_hidden_and_picked() {
    let script = "
        await open('1 2');
        document.querySelectorAll('#labels input')[1].click();
        await until(() => made() === '1');
        await rest();
        const box = canvas().getBoundingClientRect();
        // The middle of the picture is on the surface, which is one piece.
        const at = { clientX: box.x + box.width / 2, clientY: box.y + box.height / 2 };
        canvas().dispatchEvent(new MouseEvent('dblclick', { ...at, bubbles: true }));
        await rest();
        note('size', [canvas().width, canvas().height].join(' '));
        note('voxel', $('#voxel').textContent);
        note('label', $('#at-mask').textContent);
    ";
    let page = used(WITHOUT_WEBGL, "surfaces-pick", script);
    let pictures = pictures(&page, &[1]);
    assert_eq!(differing(&pictures), 0);
    assert_eq!(counts(&pictures[0])[1], 0, "the second label is hidden");
    let size: Vec<usize> = data(&page, "size").split(' ').map(|n| n.parse().unwrap()).collect();
    let middle = [size[0], size[1]].map(|n| n as f32 / 2.0);
    let surfaces = natively();
    let found = surfaces.pick(size[0], size[1], &camera(&page), &[1], middle[0], middle[1]);
    let (map, ..) = mask();
    let inverse = map.geometry().ras_from_voxel().inverse();
    let voxel =
        inverse.apply(sulcus_volume::RasPoint([found[0], found[1], found[2]])).map(|i| i.round().to_string());
    assert_eq!((data(&page, "voxel"), data(&page, "label")), (voxel.join(", "), "Anterior".to_owned()));
}

#[test]
fn saved_files_are_those_of_the_command_line() {
    let script = "
        await open('1 2');
        $('#meshes-stl').click();
        await until(() => saved.length === 2);
        $('#meshes-ply').click();
        await until(() => saved.length === 3);
        note('names', names.join(' '));
        note('files', (await Promise.all(saved.map(hex))).join(' '));
    ";
    let page = used(WITHOUT_WEBGL, "surfaces-save", script);
    assert_eq!(data(&page, "names"), "1_Anterior.stl 2_Posterior____.stl mask.ply");
    let (map, names, _) = mask();
    let made: Vec<_> = survey(&map)
        .values()
        .map(|extent| surface(&map, extent, Smoothing::default(), MemoryLimit::NONE).unwrap())
        .collect();
    let named: Vec<NamedSurface<'_>> =
        made.iter().zip(names.entries()).map(|(surface, entry)| NamedSurface { surface, entry }).collect();
    let mut expected = vec![Vec::new(); 3];
    write_stl(&mut expected[0], named[0], Space::Ras).unwrap();
    write_stl(&mut expected[1], named[1], Space::Ras).unwrap();
    write_ply(&mut expected[2], &named, Space::Ras).unwrap();
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    for (found, expected) in data(&page, "files").split(' ').zip(&expected) {
        assert!(found == hex(expected), "{} bytes instead of {}", found.len() / 2, expected.len());
    }
}

#[test]
fn corrections_make_surfaces_again_and_a_closed_mask_removes_them() {
    let script = "
        const asked = [];
        const post = Worker.prototype.postMessage;
        Worker.prototype.postMessage = function (message, ...more) { asked.push(message.action); return post.call(this, message, ...more); };
        await open('1 2');
        const rows = () => [...document.querySelectorAll('#meshes-table tbody tr')].map((row) => row.textContent);
        const before = rows();
        $('#tools').open = true;
        await until(() => $('#measures'));
        $('#paint').value = 5;
        $('#radius').value = 3;
        document.querySelector('[data-tool=brush]').click();
        const plane = document.querySelector('.view canvas');
        plane.setPointerCapture = () => {};
        const box = plane.getBoundingClientRect();
        const at = { clientX: box.x + box.width / 2, clientY: box.y + box.height / 2, pointerId: 1, bubbles: true, cancelable: true };
        plane.dispatchEvent(new PointerEvent('pointerdown', at));
        plane.dispatchEvent(new PointerEvent('pointerup', at));
        await until(() => made() === '1 2 5');
        note('added', rows()[2]);
        $('#undo').click();
        await until(() => made() === '1 2');
        note('undone', String(rows().join() === before.join()));
        note('asked', asked.filter((action) => action === 'voxels' || action === 'change').join(' '));
        $('#meshes-smooth').value = 0;
        $('#meshes-smooth').dispatchEvent(new Event('change'));
        await until(() => rows().join() !== before.join());
        note('faces', rows()[0]);
        const unnamed = [...document.querySelectorAll('#meshes button, #meshes input, #meshes select, #meshes-view canvas')].filter((e) => !(e.getAttribute('aria-label') || e.ariaLabel || e.textContent.trim() || e.labels?.[0]?.textContent.trim()));
        note('unnamed', unnamed.map((e) => e.outerHTML).join(' '));
        document.querySelectorAll('.zone .close')[1].click();
        await rest();
        note('closed', `${$('#meshes').hidden} ${$('#meshes-view').hidden} ${$('#under').style.gridColumn}`);
    ";
    let page = used(WITHOUT_WEBGL, "surfaces-correct", script);
    assert!(data(&page, "added").starts_with("label 5"), "{}", data(&page, "added"));
    assert_eq!(data(&page, "undone"), "true");
    assert_eq!(data(&page, "asked"), "voxels change change", "the mask is sent once");
    let (map, ..) = mask();
    let faces = survey(&map)[&1].faces;
    assert!(data(&page, "faces").starts_with(&format!("Anterior{faces}.0")), "{faces} {}", data(&page, "faces"));
    assert_eq!((data(&page, "unnamed"), data(&page, "closed")), (String::new(), "true true ".to_owned()));
}

#[test]
fn changed_voxels_give_the_surfaces_of_the_whole_mask() {
    let (map, ..) = mask();
    let rows = map.geometry().ras_from_voxel().rows();
    let grid: Vec<f64> =
        map.geometry().shape().map(|n| n as f64).into_iter().chain(rows.into_iter().flatten()).collect();
    let first = map.data().iter().position(|label| *label == 1).unwrap();
    let changes = [first as u32, 2, (first + 1) as u32, 2, u32::MAX, 1];
    let mut data = map.data().to_vec();
    (data[first], data[first + 1]) = (2, 2);
    let (mut changed, mut whole) = (natively(), Surfaces::new());
    assert!(Surfaces::new().change_voxels(&changes).is_err());
    changed.change_voxels(&changes).unwrap();
    whole.set_voxels(&grid, data).unwrap();
    assert!(!changed.has(1) && !changed.has(2), "both changed");
    for label in [1, 2] {
        assert_eq!(changed.make(label).unwrap(), whole.make(label).unwrap());
        assert_eq!(changed.positions(label), whole.positions(label));
    }
    changed.change_voxels(&[first as u32, 2]).unwrap();
    assert!(changed.has(1) && changed.has(2), "nothing changed");
}

#[test]
fn two_fingers_zoom() {
    let script = "
        await open('1 2');
        canvas().setPointerCapture = () => {};
        const numbers = () => canvas().dataset.camera.split(',').map(Number);
        const before = numbers();
        pointer('down', 0.4, 0.5);
        pointer('down', 0.6, 0.5, { pointerId: 2 });
        pointer('move', 0.3, 0.5);
        pointer('move', 0.7, 0.5, { pointerId: 2 });
        pointer('up', 0.7, 0.5, { pointerId: 2 });
        pointer('up', 0.3, 0.5);
        await rest();
        const after = numbers();
        note('zoom', (after[12] / before[12]).toFixed(3));
        note('turned', String(after.slice(0, 9).join() !== before.slice(0, 9).join()));
        // One finger turns again.
        await drag([0.5, 0.5], [0.6, 0.5]);
        note('later', String(numbers().slice(0, 9).join() !== after.slice(0, 9).join()));
    ";
    let page = used(WITHOUT_WEBGL, "surfaces-pinch", script);
    let zoom: f64 = data(&page, "zoom").parse().unwrap();
    assert!((zoom - 2.0).abs() < 0.02, "{zoom}");
    assert_eq!((data(&page, "turned"), data(&page, "later")), ("false".into(), "true".into()));
    assert_eq!(differing(&pictures(&page, &[1, 2])), 0);
}

#[test]
fn lost_context_is_replaced_by_drawing_on_the_processor() {
    let script = "
        await open('1 2');
        note('first', document.body.dataset.meshes);
        if (document.body.dataset.meshes === 'webgl') {
          await key('ArrowLeft');
          canvas().getContext('webgl2').getExtension('WEBGL_lose_context').loseContext();
          await until(() => document.body.dataset.meshes === 'software' && document.body.dataset.meshesDrawn && $('#meshes-status').textContent.includes('processor'));
          await key('ArrowRight');
          await key('+');
        }
    ";
    let page = used(WITH_WEBGL, "surfaces-lost", script);
    if data(&page, "first") != "webgl" {
        sulcus_harness::skip("this Chromium has no WebGL 2 on the processor");
    }
    assert_eq!(differing(&pictures(&page, &[1, 2])), 0);
}

sulcus_harness::main!();
