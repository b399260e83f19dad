//! Each feature of the page, used as a person would.

use std::fs;
use std::path::Path;

use super::{ALL_THREE, Case, Visit, borrowed, differing, visit, visit_at};
use sulcus_io::{Compression, encode_image, encode_labels, read_labels_bytes};
use sulcus_metrics::surface_distances;
use sulcus_viewer::{Colormap, Comparison, LabelStyle, Projection, Role, Scene};
use sulcus_volume::{Image, LabelTable, Plane};

/// What every script uses. A violation of the page's policy is an error.
const HELP: &str = "
    document.addEventListener('securitypolicyviolation', (event) => { $('#error').textContent += ` policy: ${event.violatedDirective} ${event.blockedURI}`; });
    const views = [...document.querySelectorAll('.view canvas')];
    views.forEach((view) => { view.setPointerCapture = () => {}; });
    const rest = async () => { await frame(); await frame(); };
    const key = async (name, extra = {}, on = views[0]) => { on.dispatchEvent(new KeyboardEvent('keydown', { key: name, bubbles: true, cancelable: true, ...extra })); await rest(); };
    const set = async (id, value) => {
      const input = $('#' + id);
      if (input.type === 'checkbox') input.checked = value;
      else if (input.options) input.selectedIndex = value;
      else input.value = value;
      input.dispatchEvent(new Event('input', { bubbles: true }));
      await rest();
    };
    // Positions are fractions of the canvas.
    const pointer = async (kind, x, y, extra = {}, on = views[0]) => {
      const box = on.getBoundingClientRect();
      on.dispatchEvent(new PointerEvent('pointer' + kind, { clientX: box.x + x * box.width, clientY: box.y + y * box.height, pointerId: 1, bubbles: true, cancelable: true, ...extra }));
      await rest();
    };
    const drag = async (from, to, extra = {}, on = views[0]) => {
      await pointer('down', ...from, extra, on);
      await pointer('move', (from[0] + to[0]) / 2, (from[1] + to[1]) / 2, extra, on);
      await pointer('move', ...to, extra, on);
      await pointer('up', ...to, extra, on);
    };
    const slices = () => [...document.querySelectorAll('.slice')].map((s) => s.textContent.split(' ')[0]).join(' ');
    const note = (name, text) => { document.body.dataset[name] = text; };
    const saved = [];
    URL.createObjectURL = (blob) => { saved.push(blob); return 'data:,'; };
    HTMLAnchorElement.prototype.click = () => {};
    const openTools = async () => { $('#tools').open = true; await until(() => $('#measures')); await rest(); };
    const tool = (name) => $(`[data-tool=${name}]`);
    await rest();
";

pub(crate) fn used(name: &str, query: &str, files: &[(&str, &[u8])], script: &str) -> Visit {
    visit(name, query, files, &format!("{HELP}{script}"))
}

pub(crate) fn data(page: &Visit, name: &str) -> String {
    page.data(name).unwrap_or_else(|| panic!("the script did not get to {name}: {}", page.text("error")))
}

pub(crate) fn scene_of(files: &[(&'static str, Vec<u8>)]) -> Scene {
    let mut scene = Scene::default();
    for ((_, bytes), role) in files.iter().zip([Role::Image, Role::Mask, Role::Truth]) {
        scene.load(bytes, "", Some(role)).unwrap();
    }
    scene
}

pub(crate) fn from_hex(hex: &str) -> Vec<u8> {
    (0..hex.len() / 2).map(|i| u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).unwrap()).collect()
}

/// Checks that the canvases show what the scene draws.
pub(crate) fn check_drawn(page: &Visit, scene: &Scene) {
    assert_eq!(page.text("error"), "");
    for (plane, (width, height, seen)) in Plane::ALL.into_iter().zip(page.canvases()) {
        let native: Vec<u8> =
            scene.draw(plane, [width, height], 1).chunks_exact(4).flat_map(|p| p[..3].to_vec()).collect();
        assert_eq!(differing(&seen, &native), 0, "{plane:?}");
    }
}

#[test]
fn settings_of_the_page_are_those_of_the_scene() {
    let files = Case::load().files();
    let script = "
        await set('neurological', true);
        await set('colormap', 3);
        await set('slab', 7);
        await set('projection', 1);
        await set('smooth', false);
        await set('opacity', 80);
        await set('mask-style', 1);
        await set('truth-style', 2);
        await set('preset', 2);
        note('window', [$('#low').textContent, $('#high').textContent].join(' '));
        note('scale', $('.scale').textContent);
        $('#headers').open = true;
        await until(() => $('#header').textContent);
    ";
    let page = used("settings", ALL_THREE, &borrowed(&files), script);
    let mut scene = scene_of(&files);
    scene.settings.camera.neurological = true;
    scene.settings.colormap = Colormap::Viridis;
    (scene.settings.slab_mm, scene.settings.projection) = (7.0, Projection::Mean);
    scene.settings.shading = sulcus_viewer::Shading::Voxels;
    scene.settings.opacity = 0.8;
    scene.settings.styles = [LabelStyle::Outline, LabelStyle::Hidden];
    scene.settings.window = scene.percentile_window(2.0, 98.0);
    check_drawn(&page, &scene);
    assert_eq!(page.edges(), ["LRAP", "LRSI", "APSI"]);
    let window = data(&page, "window");
    assert_eq!(
        window.split(' ').next().unwrap().parse::<f32>().unwrap().round(),
        scene.settings.window.low.round()
    );
    assert!(data(&page, "scale").ends_with(" mm"));
    let header = page.text("header");
    assert!(header.contains("Shape 35 × 53 × 36") && header.contains("Voxel size 1 × 1 × 1 mm"), "{header}");
}

#[test]
fn zoom_pan_and_single_planes_work_with_keys_and_pointer() {
    let files = Case::load().files();
    let script = "
        const box = views[0].getBoundingClientRect();
        const mm = () => parseFloat($('.scale').textContent) / parseFloat($('.scale').style.width);
        const before = mm();
        views[0].dispatchEvent(new WheelEvent('wheel', { deltaY: -Math.log(2) / 0.002, ctrlKey: true, clientX: box.x + 200, clientY: box.y + 150, bubbles: true, cancelable: true }));
        await rest();
        note('zoomed', (before / mm()).toFixed(2));
        await drag([0.5, 0.5], [0.6, 0.4], { ctrlKey: true });
        const at = $('#voxel').textContent;
        await key('2');
        note('single', [...document.querySelectorAll('.view')].map((view) => getComputedStyle(view).display).join(' '));
        await key('4');
        await key('0');
        note('fit', (before / mm()).toFixed(2));
        await key('+');
        note('plus', (before / mm()).toFixed(2));
        note('moved', String(at !== $('#voxel').textContent));
        views[2].dispatchEvent(new MouseEvent('dblclick', { bubbles: true }));
        await rest();
        note('double', [...document.querySelectorAll('#layout button')].map((button) => button.getAttribute('aria-pressed')).join(' '));
        views[2].dispatchEvent(new MouseEvent('dblclick', { bubbles: true }));
        await key('0');
        // Two fingers move apart to twice their distance.
        await pointer('down', 0.4, 0.5);
        await pointer('down', 0.6, 0.5, { pointerId: 2 });
        await pointer('move', 0.3, 0.5);
        await pointer('move', 0.7, 0.5, { pointerId: 2 });
        await pointer('up', 0.3, 0.5);
        await pointer('up', 0.7, 0.5, { pointerId: 2 });
        note('pinched', (before / mm()).toFixed(2));
        await key('0');
        const [low, high] = ['#low', '#high'].map((id) => parseFloat($(id).textContent));
        await drag([0.5, 0.5], [0.7, 0.5], { shiftKey: true });
        const [low2, high2] = ['#low', '#high'].map((id) => parseFloat($(id).textContent));
        note('wider', String(high2 - low2 > high - low && Math.abs(low2 + high2 - low - high) < 1));
    ";
    let page = used("zoom", ALL_THREE, &borrowed(&files), script);
    assert_eq!(page.text("error"), "");
    let factor = |name: &str| data(&page, name).parse::<f64>().unwrap();
    // Slices have a whole number of pixels, about two hundred.
    let is =
        |name: &str, expected: f64| assert!((factor(name) - expected).abs() < 0.02, "{name}: {}", factor(name));
    is("zoomed", 2.0);
    assert_eq!(data(&page, "single"), "none grid none");
    is("fit", 1.0);
    is("plus", 1.25);
    assert_eq!(data(&page, "moved"), "false", "neither moves the crosshair");
    assert_eq!(data(&page, "double"), "false false false true");
    is("pinched", 2.0);
    assert_eq!(data(&page, "wider"), "true");
}

#[test]
fn series_plays_and_shows_each_volume() {
    let case = Case::load();
    let geometry = *case.image.geometry();
    let volumes = (0..3).flat_map(|t| case.image.channel(0).iter().map(move |v| v + 100.0 * t as f32)).collect();
    let image = Image::new(geometry, 3, volumes).unwrap();
    let like = case.like.clone().with_values(case.like.voxel_type(), 3);
    let file = encode_image(&image, &like, Compression::Gzip).unwrap();
    let script = "
        const value = () => parseFloat($('#value').textContent);
        const first = value();
        await key('.');
        note('second', (value() - first).toFixed(0));
        await key(',');
        await key(',');
        note('last', (value() - first).toFixed(0) + ' ' + $('#channels label').textContent);
        const seen = new Set();
        await key(' ');
        note('playing', $('#play').textContent);
        const start = performance.now();
        await until(() => { seen.add(value()); return seen.size === 3 || performance.now() - start > 10000; });
        await key(' ');
        note('seen', `${seen.size} ${$('#play').textContent}`);
    ";
    let page = used("series", "image=/data/series.nii.gz", &[("series.nii.gz", &file)], script);
    assert_eq!(page.text("error"), "");
    assert!(page.shows("channels"));
    assert_eq!((data(&page, "second"), data(&page, "last")), ("100".to_owned(), "200 Volume 3/3".to_owned()));
    assert_eq!((data(&page, "playing"), data(&page, "seen")), ("Pause".to_owned(), "3 Play".to_owned()));
}

#[test]
fn labels_are_hidden_described_and_found() {
    let case = Case::load();
    let files = case.files();
    let script = "
        const rows = () => [...document.querySelectorAll('#labels tbody tr')];
        note('mean', rows()[0].lastChild.textContent);
        rows()[1].querySelector('button').dispatchEvent(new MouseEvent('click', { shiftKey: true, bubbles: true }));
        await rest();
        note('largest', $('#voxel').textContent);
        rows()[0].querySelector('button').click();
        await rest();
        note('centre', $('#at-mask').textContent);
        rows()[1].querySelector('input').click();
        await rest();
        note('shown', rows().map((row) => row.querySelector('input').checked).join(' '));
    ";
    let page = used("labels", ALL_THREE, &borrowed(&files), script);
    let mut scene = scene_of(&files);
    scene.measure_intensities();
    let found = scene.label_stats()[0].intensity.unwrap();
    let [mean, sd] = data(&page, "mean").split(" ± ").map(|n| n.parse::<f64>().unwrap()).collect::<Vec<_>>()[..]
    else {
        panic!("mean ± standard deviation")
    };
    assert!((mean - found.mean).abs() <= 0.05 && (sd - found.sd).abs() <= 0.05, "{mean} {sd} {found:?}");
    scene.go_to_largest(Plane::Axial, 2);
    assert_eq!(data(&page, "largest"), scene.position().unwrap().0.0.map(|i| i.to_string()).join(", "));
    assert_eq!((data(&page, "centre"), data(&page, "shown")), ("Anterior".to_owned(), "true false".to_owned()));
    scene.go_to(1);
    scene.show_label(2, false);
    check_drawn(&page, &scene);
}

#[test]
fn names_come_from_label_files_and_data_sets() {
    let case = Case::load();
    let plain = encode_labels(&case.truth, &case.like, &LabelTable::default(), Compression::Gzip).unwrap();
    let itk_snap = b"1 255 0 0 1 1 1 \"Head\"\n2 0 0 255 1 1 1 \"Tail\"\n";
    let dataset = br#"{ "labels": { "background": 0, "Anterior": 1, "Posterior": 2 } }"#;
    let script = "
        const file = async (name) => new File([await (await fetch('/data/' + name)).arrayBuffer()], name);
        const drop = async (name) => {
          const data = new DataTransfer();
          data.items.add(await file(name));
          $('#views').dispatchEvent(new DragEvent('drop', { dataTransfer: data, bubbles: true, cancelable: true }));
        };
        const names = () => [...document.querySelectorAll('#labels button')].map((button) => button.textContent).join(' ');
        await drop('labels.txt');
        await until(() => names() === 'Head Tail');
        note('color', document.querySelector('.swatch').style.background);
        await drop('dataset.json');
        await until(() => names() === 'Anterior Posterior');
        await drop('broken.json');
        await until(() => !$('#error').hidden);
        note('reason', $('#error').textContent);
        $('#error').textContent = '';
    ";
    let served: [(&str, &[u8]); 4] =
        [("mask.nii.gz", &plain), ("labels.txt", itk_snap), ("dataset.json", dataset), ("broken.json", b"{")];
    let page = used("names", "mask=/data/mask.nii.gz", &served, script);
    assert_eq!(page.text("error"), "");
    assert_eq!(data(&page, "color"), "rgb(255, 0, 0)");
    assert_eq!(data(&page, "reason"), "broken.json: this is not JSON.");
}

#[test]
fn mask_and_truth_are_compared_as_evaluate_does() {
    let case = Case::load();
    let files = case.files();
    let script = "
        await key('d');
        $('#tolerance').value = 1.5;
        $('#surfaces').click();
        await until(() => $('#labels thead').textContent.includes('HD95'));
        const cells = [...document.querySelectorAll('#labels tbody tr')].map((row) => [...row.cells].slice(5, 7).map((cell) => cell.textContent).join(' '));
        note('scores', cells.join(' | '));
        await key('w');
        note('worst', slices());
    ";
    let page = used("differences", ALL_THREE, &borrowed(&files), script);
    let mut scene = scene_of(&files);
    scene.settings.comparison = Comparison::Difference;
    scene.go_to_worst(Plane::Axial);
    check_drawn(&page, &scene);
    assert!(page.shows("legend"));
    let expected = surface_distances(&case.mask, &case.truth, &[1, 2]).unwrap();
    let expected: Vec<String> = expected
        .iter()
        .map(|d| format!("{:.2} {:.4}", d.hd95_mm().unwrap(), d.surface_dice(1.5).unwrap()))
        .collect();
    assert_eq!(data(&page, "scores"), expected.join(" | "));
    let axial = scene.slices(Plane::Axial).unwrap()[1] + 1;
    assert_eq!(data(&page, "worst").split(' ').next().unwrap(), axial.to_string());
}

#[test]
fn swipe_and_flicker_show_one_of_the_two() {
    let files = Case::load().files();
    let script = "
        await key('f');
        const seen = new Set();
        const start = performance.now();
        await until(() => { seen.add($('.slice').textContent.split(' ')[0]); return seen.size === 2 || performance.now() - start > 10000; });
        note('seen', [...seen].sort().join(' '));
        await set('comparison', 2);
        await set('swipe', 30);
    ";
    let page = used("swipe", ALL_THREE, &borrowed(&files), script);
    assert_eq!(data(&page, "seen"), "mask truth");
    let mut scene = scene_of(&files);
    scene.settings.comparison = Comparison::Swipe(0.3);
    check_drawn(&page, &scene);
}

#[test]
fn keyboard_and_screen_reader_reach_everything() {
    let files = Case::load().files();
    let script = "
        const unnamed = [...document.querySelectorAll('button, input, select, canvas[tabindex]')].filter((e) => {
          const label = e.labels?.length ? e.labels[0].textContent : '';
          return !(e.getAttribute('aria-label') || e.textContent.trim() || label.trim() || e.ariaLabel);
        });
        note('unnamed', unnamed.map((e) => e.outerHTML).join(' '));
        await key('ArrowLeft');
        await until(() => $('#live').textContent);
        note('live', $('#live').textContent);
        await key('?');
        await until(() => $('#help').open);
        note('focus', document.activeElement.textContent);
        const listed = $('#help dl').textContent;
        note('listed', String(['PgUp', 'Ctrl-drag', 'Shift-drag'].every((name) => listed.includes(name))));
        const smooth = $('#smooth').checked;
        await key('s', {}, $('#help'));
        note('modal', String($('#smooth').checked === smooth));
        $('#help button').click();
        note('closed', String(!$('#help').open));
        await key('s');
        note('key', String($('#smooth').checked !== smooth));
        await key('n', {}, $('#level'));
        note('typing', String($('#neurological').checked));
        const order = [...document.querySelectorAll('button:not([hidden]), input, select, canvas[tabindex]')];
        note('order', String(order.every((e) => e.tabIndex >= 0) && order.indexOf($('#fit')) < order.indexOf(views[0]) && order.indexOf(views[2]) < order.indexOf($('#level'))));
        await key('End');
        note('end', slices().split(' ')[0]);
    ";
    let page = used("keyboard", ALL_THREE, &borrowed(&files), script);
    assert_eq!(page.text("error"), "");
    assert_eq!(data(&page, "unnamed"), "");
    let live = data(&page, "live");
    for part in [
        "Axial slice 21 of 36",
        "right 18.0, anterior 28.0, superior 16.0 millimetres",
        "value ",
        "mask Posterior",
    ] {
        assert!(live.contains(part), "{live}");
    }
    for (name, expected) in [
        ("focus", "Close"),
        ("listed", "true"),
        ("modal", "true"),
        ("closed", "true"),
        ("key", "true"),
        ("typing", "false"),
    ] {
        assert_eq!(data(&page, name), expected, "{name}");
    }
    assert_eq!((data(&page, "order"), data(&page, "end")), ("true".to_owned(), "36".to_owned()));
}

#[test]
fn gzip_members_are_joined_and_addresses_set_the_view() {
    let case = Case::load();
    let image = encode_image(&case.image, &case.like, Compression::None).unwrap();
    let gzip = |bytes: &[u8]| {
        let map = std::process::Command::new("gzip")
            .arg("-c")
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn();
        let mut child = map.unwrap();
        let mut input = child.stdin.take().unwrap();
        let bytes = bytes.to_vec();
        let writer = std::thread::spawn(move || std::io::Write::write_all(&mut input, &bytes).unwrap());
        let output = child.wait_with_output().unwrap().stdout;
        writer.join().unwrap();
        output
    };
    let members = [gzip(&image[..1000]), gzip(&image[1000..])].concat();
    let query = "image=/data/members.nii.gz&at=3,20,5&window=10,700&colormap=2&plane=1&neurological=1";
    let script = "note('ras', $('#ras').textContent); note('low', $('#low').textContent); note('single', $('#views').className);";
    let page = used("members", query, &[("members.nii.gz", &members)], script);
    assert_eq!(page.text("error"), "");
    assert_eq!((data(&page, "ras"), data(&page, "low")), ("R 3.0, A 20.0, S 5.0 mm".to_owned(), "10".to_owned()));
    assert_eq!(data(&page, "single"), "single");
}

#[test]
fn measurements_are_drawn_listed_and_saved_as_csv() {
    let files = Case::load().files();
    let script = "
        await openTools();
        const spot = (x, y) => { const box = views[0].getBoundingClientRect(); return [x / box.width, y / box.height]; };
        tool('distance').click();
        await drag(spot(150, 100), spot(180, 140));
        note('list', $('#measures').textContent);
        const scale = parseFloat($('.scale').textContent) / parseFloat($('.scale').style.width);
        note('expected', (50 * scale).toFixed(1));
        tool('angle').click();
        for (const at of [[200, 100], [150, 100], [150, 160]]) { await pointer('down', ...spot(...at)); await pointer('up', ...spot(...at)); }
        tool('ellipse').click();
        await drag(spot(150, 100), spot(200, 180));
        tool('polygon').click();
        // The last click is near the first corner, and a double click does not change the planes.
        for (const at of [[150, 100], [210, 110], [200, 170], [140, 160], [152, 101]]) { await pointer('down', ...spot(...at)); await pointer('up', ...spot(...at)); }
        views[0].dispatchEvent(new MouseEvent('dblclick', { bubbles: true, cancelable: true }));
        await rest();
        note('planes', $('#views').className);
        note('drawn', [...document.querySelectorAll('.view svg')].map((svg) => [...svg.children].map((e) => e.tagName).join(',')).join('|'));
        await key('Escape');
        await pointer('down', 0.5, 0.5);
        await pointer('up', 0.5, 0.5);
        note('off', String($('#measures').children.length));
        await key('PageUp');
        note('other', String(document.querySelector('.view svg').children.length));
        $('#csv').click();
        note('csv', (await saved[0].text()).trim().replaceAll('\\n', ';'));
    ";
    let page = used("measure", ALL_THREE, &borrowed(&files), script);
    assert_eq!(page.text("error"), "");
    // The picture has a whole number of pixels, so that a pixel is not exactly as wide as it is high.
    let measured =
        data(&page, "list").split("distance: ").nth(1).unwrap().split(' ').next().unwrap().parse::<f64>();
    let expected = data(&page, "expected").parse::<f64>().unwrap();
    assert!((measured.unwrap() - expected).abs() < 0.15, "{} {expected}", data(&page, "list"));
    assert_eq!(data(&page, "drawn"), "polyline,text,polyline,text,ellipse,text,polygon,text||");
    assert_eq!(data(&page, "planes"), "");
    assert_eq!((data(&page, "off"), data(&page, "other")), ("4".to_owned(), "0".to_owned()));
    let csv = data(&page, "csv");
    let rows: Vec<Vec<&str>> = csv.split(';').map(|row| row.split(',').collect()).collect();
    assert_eq!(rows.len(), 5);
    assert!(rows.iter().all(|row| row.len() == 21), "{csv}");
    assert_eq!((rows[2][1], rows[2][12].parse::<f64>().unwrap().round(), rows[2][13]), ("angle", 90.0, "degrees"));
    let number = |i: usize| rows[3][i].parse::<f64>().unwrap();
    let case = Case::load();
    let corners = [[3, 4, 5], [6, 7, 8]].map(|at| at.map(number));
    check_region(&case, &rows[3], &corners, |[x, y]| {
        let parts = [(x, 0), (y, 1)].map(|(at, i)| {
            let [a, b] = [corners[0][i], corners[1][i]];
            ((at - (a + b) / 2.0) / ((a - b) / 2.0)).powi(2)
        });
        parts[0] + parts[1] <= 1.0
    });
    let corners: Vec<[f64; 3]> = rows[4][20]
        .split('|')
        .map(|at| at.split(' ').map(|n| n.parse().unwrap()).collect::<Vec<f64>>().try_into().unwrap())
        .collect();
    assert_eq!(corners.len(), 4, "{csv}");
    // The corners go round: a point is inside where it is on the same side of all sides.
    check_region(&case, &rows[4], &corners, |[x, y]| {
        let sides = (0..4).map(|i| {
            let ([ax, ay, _], [bx, by, _]) = (corners[i], corners[(i + 1) % 4]);
            (bx - ax) * (y - ay) - (by - ay) * (x - ax) > 0.0
        });
        let sides: Vec<bool> = sides.collect();
        sides.iter().all(|side| *side == sides[0])
    });
}

/// Compares a row of the file of measurements with the voxels of the axial slice whose centres lie inside. Voxels have 1 mm.
fn check_region(case: &Case, row: &[&str], points: &[[f64; 3]], inside: impl Fn([f64; 2]) -> bool) {
    let geometry = case.image.geometry();
    let [nx, ny, _] = geometry.shape();
    let values: Vec<f64> = case
        .image
        .channel(0)
        .iter()
        .enumerate()
        .filter(|(i, _)| {
            let [x, y, z] =
                geometry.ras_from_voxel().apply([i % nx, i / nx % ny, i / nx / ny].map(|i| i as f64)).0;
            (z - points[0][2]).abs() < 0.5 && inside([x, y])
        })
        .map(|(_, value)| f64::from(*value))
        .collect();
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let sd = (values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n).sqrt();
    let [min, max] = [f64::min, f64::max].map(|of| values.iter().copied().reduce(of).unwrap());
    assert!(n > 10.0, "{row:?}");
    for (found, expected) in row[14..20].iter().zip([n, n, mean, sd, min, max]) {
        assert!((found.parse::<f64>().unwrap() - expected).abs() < 1e-6, "{found} {expected}");
    }
}

#[test]
fn brush_paints_only_intensities_in_the_window() {
    let case = Case::load();
    let files = case.files();
    let script = "
        await until(() => $('#low').textContent === '300');
        await openTools();
        tool('brush').click();
        $('#paint').value = 3;
        $('#radius').value = 5;
        $('#in-window').checked = true;
        await drag([0.4, 0.4], [0.6, 0.5]);
        $('#save-mask').click();
        await until(() => saved.length);
        const bytes = new Uint8Array(await saved[0].arrayBuffer());
        note('bytes', [...bytes].map((b) => b.toString(16).padStart(2, '0')).join(''));
        await key('z', { ctrlKey: true });
        note('rows', String(document.querySelectorAll('#labels tbody tr').length));
    ";
    let page = used("window", "image=/data/image.nii.gz&window=300,500", &borrowed(&files), script);
    assert_eq!(page.text("error"), "");
    let (map, _) = read_labels_bytes(&from_hex(&data(&page, "bytes"))).unwrap();
    let painted: Vec<f32> =
        map.data().iter().zip(case.image.channel(0)).filter(|(label, _)| **label == 3).map(|(_, v)| *v).collect();
    assert!(painted.len() > 20, "{}", painted.len());
    assert!(painted.iter().all(|value| (300.0..=500.0).contains(value)), "{painted:?}");
    assert_eq!(data(&page, "rows"), "0", "undone");
}

#[test]
fn corrected_mask_is_saved_on_the_same_grid() {
    let case = Case::load();
    let files = case.files();
    let script = "
        await openTools();
        tool('brush').click();
        $('#paint').value = 3;
        $('#radius').value = 2;
        const ml = () => [...document.querySelectorAll('#labels tbody tr')].map((row) => row.cells[1].textContent).join(' ');
        const before = ml();
        await drag([0.45, 0.3], [0.6, 0.3]);
        note('rows', String(document.querySelectorAll('#labels tbody tr').length));
        const painted = ml();
        await key('z', { ctrlKey: true });
        note('undone', String(ml() === before && $('#undo').disabled));
        await key('y', { ctrlKey: true });
        note('redone', String(ml() === painted));
        tool('erase').click();
        $('#radius').value = 1;
        await drag([0.5, 0.5], [0.55, 0.55]);
        $('#save-mask').click();
        await until(() => saved.length);
        const bytes = new Uint8Array(await saved[0].arrayBuffer());
        note('bytes', [...bytes].map((b) => b.toString(16).padStart(2, '0')).join(''));
    ";
    let page = used("correct", ALL_THREE, &borrowed(&files), script);
    assert_eq!(page.text("error"), "");
    assert_eq!(
        (data(&page, "rows"), data(&page, "undone"), data(&page, "redone")),
        ("3".into(), "true".into(), "true".into())
    );
    let bytes = from_hex(&data(&page, "bytes"));
    let (map, metadata) = read_labels_bytes(&bytes).unwrap();
    assert_eq!(map.geometry(), case.mask.geometry());
    assert_eq!(metadata.label_text().map(|text| text.contains("Posterior <&>")), Some(true));
    let painted = map.data().iter().filter(|label| **label == 3).count();
    assert!(painted > 30, "{painted}");
    let differ = |from: u16, to: u16| {
        map.data().iter().zip(case.mask.data()).filter(|(new, old)| (**old, **new) == (from, to)).count()
    };
    assert!(differ(1, 0) + differ(2, 0) > 0);
    assert_eq!(differ(1, 2) + differ(2, 1), 0);
}

#[test]
fn small_screens_show_one_plane_with_a_slider_and_nothing_is_cut() {
    let files = Case::load().files();
    let script = "
        const shown = () => [...document.querySelectorAll('.view')].map((view) => getComputedStyle(view).display).join(' ');
        note('shown', shown());
        note('fits', String(document.documentElement.scrollWidth <= innerWidth));
        const slide = $('.view.on .slide');
        note('range', `${slide.min} ${slide.max} ${slide.value}`);
        slide.value = 3;
        slide.dispatchEvent(new Event('input', { bubbles: true }));
        await rest();
        note('moved', slices().split(' ')[0]);
        document.querySelectorAll('#layout button')[2].click();
        await rest();
        note('coronal', shown());
        await openTools();
        note('fitsTools', String(document.documentElement.scrollWidth <= innerWidth));
    ";
    let page = visit_at("500,900", "small", ALL_THREE, &borrowed(&files), &format!("{HELP}{script}"));
    assert_eq!(page.text("error"), "");
    assert_eq!((data(&page, "shown"), data(&page, "coronal")), ("grid none none".into(), "none grid none".into()));
    assert_eq!((data(&page, "range"), data(&page, "moved")), ("1 36 21".into(), "3".into()));
    assert_eq!((data(&page, "fits"), data(&page, "fits-tools")), ("true".into(), "true".into()));
}

#[test]
fn slices_are_interpolated_and_islands_removed() {
    let case = Case::load();
    let files = case.files();
    let script = "
        await openTools();
        tool('brush').click();
        note('hint', $('#hint').textContent);
        $('#paint').value = 7;
        $('#radius').value = 3;
        const voxels = () => { const row = [...document.querySelectorAll('#labels tbody tr')].find((row) => row.textContent.includes('label 7')); return row ? parseInt(row.cells[1].title) : 0; };
        const slide = $('.slide');
        const go = async (slice) => { slide.value = slice; slide.dispatchEvent(new Event('input', { bubbles: true })); await rest(); };
        await go(5);
        await drag([0.5, 0.5], [0.5, 0.5]);
        const one = voxels();
        await go(9);
        await drag([0.5, 0.5], [0.5, 0.5]);
        await pointer('move', 0.5, 0.5);
        note('ring', String(document.querySelectorAll('.view svg .ring').length));
        note('two', String(voxels() === 2 * one));
        $('#interpolate').click();
        await rest();
        note('filled', String(voxels() === 5 * one) + ' ' + $('#done').textContent);
        await key('z', { ctrlKey: true });
        note('undone', String(voxels() === 2 * one));
        await go(5);
        tool('erase').click();
        $('#radius').value = 0;
        await drag([0.5, 0.5], [0.5, 0.5]);
        $('#largest').click();
        await rest();
        note('largest', String(voxels() === one));
        note('again', (await (async () => { $('#largest').click(); await rest(); return $('#done').textContent; })()));
    ";
    let page = used("refine", "image=/data/image.nii.gz", &borrowed(&files), script);
    assert_eq!(page.text("error"), "");
    assert!(data(&page, "hint").starts_with("Drag on a picture"));
    for name in ["two", "undone", "largest"] {
        assert_eq!(data(&page, name), "true", "{name}");
    }
    assert_eq!(data(&page, "ring"), "1");
    assert!(data(&page, "filled").starts_with("true ") && data(&page, "filled").ends_with(" voxels changed"));
    assert_eq!(data(&page, "again"), "nothing to change");
}

#[test]
fn saved_view_is_restored() {
    let files = Case::load().files();
    let script = "
        await set('colormap', 2);
        await set('comparison', 1);
        await key('2');
        await key('+');
        document.querySelectorAll('#labels input')[1].click();
        views[1].dispatchEvent(new KeyboardEvent('keydown', { key: 'ArrowLeft', bubbles: true }));
        await rest();
        await openTools();
        tool('distance').click();
        await drag([0.4, 0.4], [0.6, 0.6], {}, views[1]);
        const state = () => [$('#ras').textContent, $('#colormap').selectedIndex, $('#comparison').selectedIndex, $('.view.on .scale')?.style.width, $('#views').className, [...document.querySelectorAll('#labels input')].map((i) => i.checked), $('#measures').textContent].join(' ');
        const before = state();
        $('#save-view').click();
        const session = new File([saved[0]], 'view.json');
        await set('colormap', 0);
        await set('comparison', 0);
        await key('4');
        await key('0');
        await key('ArrowDown');
        document.querySelectorAll('#labels input')[1].click();
        $('#measures').querySelectorAll('button')[1].click();
        const data = new DataTransfer();
        data.items.add(session);
        $('#views').dispatchEvent(new DragEvent('drop', { dataTransfer: data, bubbles: true, cancelable: true }));
        const start = performance.now();
        await until(() => state() === before || performance.now() - start > 5000);
        note('before', before);
        note('after', state());
    ";
    let page = used("session", ALL_THREE, &borrowed(&files), script);
    assert_eq!(page.text("error"), "");
    assert_eq!(data(&page, "after"), data(&page, "before"));
    assert!(data(&page, "before").contains("distance"));
}

/// Real scans of other shapes, for the eye and for the time of a step.
#[test]
fn slices_of_a_head_are_drawn_fast() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data/colin27/t1.nii.gz");
    let Ok(file) = fs::read(&path) else {
        sulcus_harness::skip("the scan of a whole head is not on this machine");
    };
    let script = "
        const times = [];
        for (let i = 0; i < 30; i++) { await key('PageDown'); times.push(Number(document.body.dataset.drawMs)); }
        times.sort((a, b) => a - b);
        note('median', String(times[15]));
    ";
    let page = used("head", "image=/data/t1.nii.gz", &[("t1.nii.gz", &file)], script);
    assert_eq!(page.text("error"), "");
    println!(
        "first picture after {} ms, a step takes {} ms",
        data(&page, "first-picture-ms"),
        data(&page, "median")
    );
}
