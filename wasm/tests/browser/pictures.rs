//! Pictures: PNG, JPEG and TIFF as images, masks and truths.

use std::path::{Path, PathBuf};

use sulcus_io::{
    Compression, StoredVolume, Texts, VolumeMetadata, VoxelType, encode_image, encode_labels, encode_labels_png,
    read_labels_bytes, read_scan_bytes, write_image, write_labels, write_stored,
};
use sulcus_metrics::{count_labels, surface_distances};
use sulcus_viewer::{Fit, Role, Scene};
use sulcus_volume::{Geometry, GridUnit, LabelMap, LabelTable, Plane, Spacing};

use super::features::{data, from_hex, used};
use super::loading::dropped;
use super::{Visit, differing};

const PIXELS: Option<GridUnit> = Some(GridUnit::Pixel);

fn retina(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/retina/data").join(name)
}

/// A photograph of the bundled data with the mask that was drawn for it, and with this mask shifted by two pixels.
struct Photograph {
    jpeg: Vec<u8>,
    /// The same colours without loss: decoders of JPEG round differently on different processors.
    png: Vec<u8>,
    truth: Vec<u8>,
    mask: Vec<u8>,
    masks: [LabelMap; 2],
    table: LabelTable,
}

impl Photograph {
    fn load() -> Self {
        let [jpeg, truth] =
            ["images/Image_02L.jpg", "masks/Image_02L.png"].map(|name| std::fs::read(retina(name)).unwrap());
        let (labels, metadata) = read_labels_bytes(&truth).unwrap();
        let mut values = labels.data().to_vec();
        values.rotate_right(2);
        let mask = LabelMap::new(*labels.geometry(), values).unwrap();
        let table = metadata.label_table().cloned().unwrap_or_default();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("eye.png");
        let scan = read_scan_bytes(&jpeg).unwrap();
        write_image(&path, &scan.image, &scan.metadata).unwrap();
        let of_mask = encode_labels_png(&mask, &metadata, &table).unwrap();
        Self { jpeg, png: std::fs::read(path).unwrap(), truth, mask: of_mask, masks: [mask, labels], table }
    }

    /// What the same code draws natively.
    fn scene(&self) -> Scene {
        let mut scene = Scene::default();
        let scan = read_scan_bytes(&self.jpeg).unwrap();
        let file = encode_image(&scan.image, &scan.metadata, Compression::None).unwrap();
        scene.load_on(&file, "", Some(Role::Image), PIXELS).unwrap();
        for (map, role) in self.masks.iter().zip([Role::Mask, Role::Truth]) {
            let file = encode_labels(map, &(*map.geometry()).into(), &self.table, Compression::None).unwrap();
            scene.load_on(&file, "", Some(role), PIXELS).unwrap();
            scene.name_labels(role, self.table.clone());
        }
        scene
    }
}

/// A single plane is as high as the window, which the browser changes before it takes the screenshot.
const FIX_HEIGHT: &str = "
    $('.view').style.height = '400px';
    dispatchEvent(new Event('resize'));
    await rest();
";

/// Notes whether the visible text of the page has a unit that a picture has not.
const UNITS: &str = "
    const shown = [...document.querySelectorAll('body *')].filter((e) => e.checkVisibility() && !['STYLE', 'SCRIPT'].includes(e.tagName)).flatMap((e) => [...e.childNodes]).filter((n) => n.nodeType === 3).map((n) => n.textContent);
    note('physical', shown.filter((text) => /\\b(mm|ml|mm²|millimetres)\\b/.test(text)).join(' | '));
";

#[test]
fn photograph_with_mask_and_truth_is_in_colours_and_pixels() {
    let case = Photograph::load();
    let files: [(&str, &[u8]); 3] =
        [("eye.png", &case.png), ("eye_pred.png", &case.mask), ("eye_gt.png", &case.truth)];
    let script = format!(
        "await dropAll('eye_gt.png', 'eye_pred.png', 'eye.png');
         await until(() => $('#labels thead').textContent.includes('Dice'));
         await rested();
         note('names', names());
         note('value', $('#value').textContent);
         note('place', $('#ras').textContent);
         note('scale', $('.scale').textContent);
         await key('2');
         await key('n');
         note('views', [...document.querySelectorAll('.view')].map((view) => getComputedStyle(view).display).join(' '));
         note('hidden', ['#meshes', '#layout', '#channels'].map((id) => $(id).hidden).join(' '));
         $('#headers').open = true;
         await until(() => $('#header').textContent);
         note('header', [...document.querySelectorAll('#header dt')].map((dt) => dt.textContent).join(' '));
         $('#tolerance').value = 2;
         $('#surfaces').click();
         await until(() => $('#labels thead').textContent.includes('HD95'));
         await openTools();
         note('columns', [...document.querySelectorAll('#labels th')].map((th) => th.textContent).join(', '));
         note('row', [...$('#labels tbody tr').cells].map((cell) => cell.textContent).join(', '));
         {UNITS}
         {FIX_HEIGHT}"
    );
    let page = dropped("photograph", &files, &script);
    let mut scene = case.scene();
    check_drawn_alone(&page, &mut scene);
    assert_eq!(data(&page, "names"), "eye.png | eye_pred.png | eye_gt.png | drop it here");
    let here: Vec<String> = scene.values_here().iter().map(ToString::to_string).collect();
    assert_eq!((data(&page, "value"), here.len()), (here.join(", "), 3));
    assert_eq!((data(&page, "place"), data(&page, "physical")), ("–".into(), String::new()));
    assert!(data(&page, "scale").ends_with(" px"), "{}", data(&page, "scale"));
    assert_eq!(data(&page, "views"), "grid none none");
    assert_eq!(data(&page, "hidden"), "true true true");
    assert_eq!(data(&page, "header").split(' ').next().unwrap(), "Shape");
    assert!(!data(&page, "header").contains("Orientation"));
    // Where a letter would be, the tag ends.
    assert_eq!(page.edges(), ["<<<<"; 3]);
    assert_eq!(data(&page, "columns"), "Label, Mask px, Truth px, Dice, IoU, HD95 px, NSD");
    scene.measure_intensities();
    let [mask, truth] = &case.masks;
    let counts = &count_labels(mask, truth, &[1]).unwrap()[0];
    let distances = &surface_distances(mask, truth, &[1]).unwrap()[0];
    let name = &scene.label_stats()[0].entry.name;
    let expected = format!(
        "{name}, {}, {}, {:.4}, {:.4}, {:.2}, {:.4}",
        counts.n_pred(),
        counts.n_ref(),
        counts.dice().unwrap(),
        counts.iou().unwrap(),
        distances.hd95_mm().unwrap(),
        distances.surface_dice(2.0).unwrap()
    );
    assert_eq!(data(&page, "row"), expected);
}

/// Compares the only plane of a picture.
fn check_drawn_alone(page: &Visit, scene: &mut Scene) {
    assert_eq!(page.text("error"), "");
    scene.settings.camera.fit = Fit::OwnPlane;
    let (width, height, seen) = page.canvases().swap_remove(0);
    assert!(width > 300 && height > 200, "the picture has room");
    let native: Vec<u8> =
        scene.draw(Plane::Axial, [width, height], 1).chunks_exact(4).flat_map(|p| p[..3].to_vec()).collect();
    assert_eq!(differing(&seen, &native), 0);
}

#[test]
fn pages_of_a_stack_are_slices_and_the_size_of_a_pixel_is_known() {
    let folder = tempfile::tempdir().unwrap();
    let spacing = Spacing::new([0.5, 0.5, 1.0]).unwrap();
    let grid = |shape| Geometry::of_picture(shape, spacing, GridUnit::MillimetreInPlane).unwrap();
    let write = |name: &str, grid: Geometry, value: &dyn Fn(usize) -> usize| {
        let path = folder.path().join(name);
        let like = VolumeMetadata::from(grid).with_values(VoxelType::Uint16, 1);
        let words: Vec<u8> = (0..grid.voxels()).flat_map(|i| (value(i) as u16).to_le_bytes()).collect();
        write_stored(&path, &StoredVolume::new(like, words).unwrap(), None, Texts::Drop).unwrap();
        std::fs::read(path).unwrap()
    };
    let stack = write("stack.tif", grid([60, 40, 3]), &|i| i * 7919 % 30011 + 2400 * (i / 2400));
    let single = write("single.tif", grid([60, 40, 1]), &|i| i * 7919 % 30011);
    let cells = write("cells_mask.tif", grid([60, 40, 1]), &|i| usize::from(i % 60 < 20 && i / 60 < 10));
    let script = "
        await dropAll('stack.tif');
        await rested();
        note('pages', $('.view .slice').textContent);
        await key('PageDown');
        note('next', $('.view .slice').textContent);
        note('value', $('#value').textContent);
        note('range', String($('#level').disabled));
        await dropAll('single.tif', 'cells_mask.tif');
        await until(() => names().startsWith('single.tif | cells_mask.tif'));
        await rested();
        note('columns', [...document.querySelectorAll('#labels th')].map((th) => th.textContent).join(', '));
        note('area', $('#labels tbody tr').cells[1].textContent);
        note('scale', $('.scale').textContent);
    ";
    let files: [(&str, &[u8]); 3] = [("stack.tif", &stack), ("single.tif", &single), ("cells_mask.tif", &cells)];
    let page = dropped("stack", &files, &format!("{script}{FIX_HEIGHT}"));
    assert_eq!((data(&page, "pages"), data(&page, "next")), ("2 / 3".into(), "3 / 3".into()));
    assert_eq!(data(&page, "range"), "false", "grey values have a window");
    let scan = read_scan_bytes(&stack).unwrap();
    // The third page.
    let middle = scan.image.data()[2 * 2400 + 20 * 60 + 30];
    assert_eq!(data(&page, "value").parse::<f32>().unwrap(), middle);
    assert_eq!(data(&page, "columns"), "Label, Mask mm², Mean ± SD");
    assert_eq!(data(&page, "area"), "50", "200 pixels of 0.25 mm²");
    assert!(data(&page, "scale").ends_with(" mm"), "{}", data(&page, "scale"));
    let mut scene = Scene::default();
    let unit = Some(GridUnit::MillimetreInPlane);
    for (file, role) in [(&single, Role::Image), (&cells, Role::Mask)] {
        let scan = read_scan_bytes(file).unwrap();
        let file = encode_image(&scan.image, &scan.metadata, Compression::None).unwrap();
        scene.load_on(&file, "", Some(role), unit).unwrap();
    }
    check_drawn_alone(&page, &mut scene);
}

#[test]
fn corrected_mask_of_a_picture_is_saved_as_a_picture() {
    let case = Photograph::load();
    let query = "image=/data/eye.jpg&mask=/data/eye.png";
    let script = "
        await openTools();
        note('unit', $('#tools .unit').textContent);
        tool('brush').click();
        await set('radius', 6);
        await pointer('down', 0.5, 0.5);
        await pointer('up', 0.5, 0.5);
        const painted = Number($('#labels tbody tr').cells[1].textContent);
        note('painted', String(painted));
        let name;
        HTMLAnchorElement.prototype.click = function () { name = this.download; };
        $('#save-mask').click();
        await until(() => saved.length);
        note('name', name);
        note('png', [...new Uint8Array(await saved[0].arrayBuffer())].map((b) => b.toString(16).padStart(2, '0')).join(''));
        tool('distance').click();
        await drag([0.4, 0.4], [0.6, 0.4]);
        note('list', $('#measures').textContent);
    ";
    let page = used("picture-save", query, &[("eye.jpg", &case.jpeg), ("eye.png", &case.mask)], script);
    assert_eq!(page.text("error"), "");
    assert_eq!((data(&page, "unit"), data(&page, "name")), ("px".into(), "eye_corrected.png".into()));
    let bytes = from_hex(&data(&page, "png"));
    assert!(bytes.starts_with(b"\x89PNG"));
    let (found, metadata) = read_labels_bytes(&bytes).unwrap();
    let before = case.masks[0].data();
    assert!(found.data().iter().zip(before).all(|(now, then)| now == then || *now == 1));
    let painted = found.data().iter().filter(|label| **label == 1).count();
    assert!(painted > before.iter().filter(|label| **label == 1).count() + 50);
    assert_eq!(data(&page, "painted"), painted.to_string());
    assert_eq!(found.geometry(), case.masks[0].geometry());
    assert_eq!(metadata.label_table(), Some(&case.table));
    assert!(data(&page, "list").ends_with(" px ×"), "{}", data(&page, "list"));
}

#[test]
fn pictures_that_cannot_be_shown_are_refused_with_the_reason() {
    let case = Photograph::load();
    let folder = tempfile::tempdir().unwrap();
    let small = Geometry::of_picture([30, 20, 1], Spacing::new([1.0; 3]).unwrap(), GridUnit::Pixel).unwrap();
    let labels = LabelMap::new(small, vec![1; small.voxels()]).unwrap();
    write_labels(&folder.path().join("small.png"), &labels, &small.into(), &case.table).unwrap();
    let small = std::fs::read(folder.path().join("small.png")).unwrap();
    let cut = &case.jpeg[..case.jpeg.len() / 2];
    let mut announces = case.truth.clone();
    // A width and a height of two thousand million pixels.
    announces[16..24].copy_from_slice(&[0x7f, 0xff, 0xff, 0xff, 0x7f, 0xff, 0xff, 0xff]);
    let files: [(&str, &[u8]); 5] = [
        ("eye.jpg", &case.jpeg),
        ("small.png", &small),
        ("cut.jpg", cut),
        ("huge.png", &announces),
        ("none.tif", b"II*\0"),
    ];
    let script = "
        for (const name of ['cut.jpg', 'huge.png', 'none.tif']) {
          await dropAll(name);
          note(name.slice(0, 4).replace('.', ''), await failed());
        }
        note('empty', String(!$('#welcome').hidden));
        await dropAll('eye.jpg');
        await rested();
        await drop([await file('eye.jpg')], document.querySelectorAll('.zone')[1]);
        note('colours', await failed());
        await dropAll('small.png');
        note('other', await failed());
        note('resample', String($('#resample').hidden));
        document.querySelectorAll('.zone .close')[1].click();
        await rested();
    ";
    let page = dropped("picture-refused", &files, script);
    for (name, expected) in [
        ("cut", "cut.jpg: cannot read the JPEG picture"),
        ("huge", "huge.png: cannot read"),
        ("none", "none.tif: cannot read the TIFF picture"),
        ("colours", "eye.jpg: cannot read labels: expected one value per voxel"),
        ("other", "The mask is not drawn"),
    ] {
        assert!(data(&page, name).starts_with(expected), "{name}: {}", data(&page, name));
    }
    assert_eq!((data(&page, "empty"), data(&page, "resample")), ("true".into(), "true".into()));
}
