//! Opening files of every format, in any number, by dropping.

use sulcus_io::dicom::read_segmentation_bytes;
use sulcus_io::{Compression, encode_image, encode_labels, read_labels_bytes, write_image, write_labels};
use sulcus_testing::dicom::{EXPLICIT, bundled_image, file, put, slices, text};
use sulcus_viewer::{Role, Scene};
use sulcus_volume::{Geometry, Image, LabelMap, LabelTable, OrientationSource, Plane, RasFromVoxel};

use super::features::{check_drawn, data, from_hex, used};
use super::{Case, Visit, borrowed};

const DROP: &str = "
    const file = async (name) => new File([await (await fetch('/data/' + name)).arrayBuffer()], name);
    const drop = (files, target = $('#views')) => {
      const data = new DataTransfer();
      files.forEach((f) => data.items.add(f));
      target.dispatchEvent(new DragEvent('drop', { dataTransfer: data, bubbles: true, cancelable: true }));
    };
    const dropAll = async (...names) => drop(await Promise.all(names.map(file)));
    const rested = async () => { await until(() => $('#busy').hidden && !$('#welcome:not([hidden])')); await rest(); };
    const failed = async () => { await until(() => $('#error').textContent && $('#busy').hidden); const text = $('#error').textContent; $('#error').textContent = ''; return text; };
    const names = () => [...document.querySelectorAll('.zone .name')].map((n) => n.textContent).join(' | ');
";

pub(crate) fn dropped(name: &str, files: &[(&str, &[u8])], script: &str) -> Visit {
    used(name, "", files, &format!("{DROP}{script}"))
}

fn scene_of(image: &Image) -> Scene {
    let mut scene = Scene::default();
    let bytes = encode_image(image, &(*image.geometry()).into(), Compression::None).unwrap();
    scene.load(&bytes, "", Some(Role::Image)).unwrap();
    scene
}

/// The files of a series, with names that do not follow the order of the slices.
fn series(image: &Image, uid: &str, description: &str) -> Vec<(String, Vec<u8>)> {
    let objects = slices(image).into_iter().enumerate().map(|(z, mut object)| {
        put(&mut object, dicom_core::Tag(0x0020, 0x000e), dicom_core::VR::UI, text(uid));
        put(&mut object, dicom_core::Tag(0x0008, 0x103e), dicom_core::VR::LO, text(description));
        (format!("{uid}-{:03}", z * 7 % 97), file(object, EXPLICIT))
    });
    objects.collect()
}

fn list(files: &[(String, Vec<u8>)]) -> (Vec<(&str, &[u8])>, String) {
    let names = files.iter().map(|(name, _)| format!("'{name}'")).collect::<Vec<_>>().join(", ");
    (files.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())).collect(), names)
}

#[test]
fn dropped_dicom_series_is_shown() {
    let image = bundled_image();
    let files = series(&image, "1.2.3", "T1 axial");
    let (served, names) = list(&files);
    let page =
        dropped("dicom", &served, &format!("await dropAll({names}); await rested(); note('names', names());"));
    check_drawn(&page, &scene_of(&image));
    assert!(data(&page, "names").starts_with("MR T1 axial | "), "{}", data(&page, "names"));
}

#[test]
fn mask_of_a_series_is_saved_as_a_dicom_segmentation() {
    let image = bundled_image();
    let mut files = series(&image, "1.2.3", "T1");
    let values = image.channel(0).iter().map(|v| 2 * u16::from(*v > 500.0)).collect();
    let labels = LabelMap::new(*image.geometry(), values).unwrap();
    let table = LabelTable::from_names([(2, "Bright".to_owned())]).unwrap();
    let mask = encode_labels(&labels, &(*image.geometry()).into(), &table, Compression::None).unwrap();
    files.push(("mask.nii".into(), mask));
    let (served, names) = list(&files);
    let script = format!(
        "await dropAll({names});
         await rested();
         await openTools();
         $('#save-seg').click();
         await until(() => saved.length || $('#error').textContent);
         note('seg', [...new Uint8Array(await saved[0].arrayBuffer())].map((b) => b.toString(16).padStart(2, '0')).join(''));
         await drop([await file('mask.nii')], $('.zone'));
         await rested();
         $('#save-seg').click();
         note('other', await failed());"
    );
    let page = dropped("save-segmentation", &served, &script);
    let bytes = from_hex(&data(&page, "seg"));
    let (found, metadata) = read_segmentation_bytes(&bytes).unwrap();
    assert_eq!(found.reoriented(labels.geometry().orientation()).data(), labels.data());
    assert_eq!(metadata.label_table().unwrap().get(2).unwrap().name, "Bright");
    let contains = |word: &[u8]| bytes.windows(word.len()).any(|w| w == word);
    assert!(contains(b"1.2.3\0"), "the series is referenced");
    assert!(data(&page, "other").contains("DICOM series"), "{}", data(&page, "other"));
}

#[test]
fn one_of_several_series_is_chosen_and_its_name_stays_text() {
    let image = bundled_image();
    let inverted = image.data().iter().map(|v| 1000.0 - v).collect();
    let other = Image::new(*image.geometry(), 1, inverted).unwrap();
    let hostile = "<img src=x onerror=\"document.body.dataset.hacked=1\">";
    let mut files = series(&image, "1.2.3", "T1");
    files.extend(series(&other, "1.2.4", hostile));
    let (served, names) = list(&files);
    let script = format!(
        "await dropAll({names});
         await until(() => $('#chooser[open]') && document.querySelectorAll('#chooser canvas').length === 2);
         note('rows', [...document.querySelectorAll('#chooser tbody tr')].map((row) => row.textContent.trim()).join(' | '));
         note('images', String(document.querySelectorAll('#chooser img').length));
         const lit = [...document.querySelectorAll('#chooser canvas')].map((c) => c.getContext('2d').getImageData(0, 0, c.width, c.height).data.filter((v, i) => i % 4 === 0).reduce((a, b) => a + b) / c.width / c.height);
         note('pictures', String(lit.every((v) => v > 10 && v < 245)));
         document.querySelectorAll('#chooser input')[1].click();
         $('#chooser .big').click();
         await rested();
         note('names', names());
         note('left', String(document.querySelectorAll('dialog#chooser').length));"
    );
    let page = dropped("series-chooser", &served, &script);
    check_drawn(&page, &scene_of(&other));
    let rows = data(&page, "rows");
    assert!(rows.contains("MR T1") && rows.contains("MR &lt;img src=x"), "{rows}");
    assert_eq!(
        (data(&page, "images"), data(&page, "pictures"), data(&page, "left")),
        ("0".into(), "true".into(), "0".into())
    );
    assert_eq!(page.data("hacked"), None);
}

#[test]
fn folder_with_image_mask_and_truth_is_recognised() {
    let case = Case::load();
    let files = case.files();
    let script = "
        const entry = (path, file) => ({ isFile: true, fullPath: '/' + path, file: (go) => go(file) });
        // A browser lists a folder in parts.
        const folder = (...children) => ({ isDirectory: true, createReader: () => ({ readEntries: (go) => go(children.splice(0, 2)) }) });
        const [image, mask, truth] = await Promise.all(['image.nii.gz', 'mask.nii.gz', 'truth.nii.gz'].map(file));
        const text = new File(['notes'], 'notes.pdf');
        const root = folder(entry('case/notes.pdf', text), entry('case/.hidden', text), folder(entry('case/labelsTr/a.nii.gz', truth)), folder(entry('case/imagesTr/a_0000.nii.gz', image)), folder(entry('case/out/a.nii.gz', mask)));
        const event = new DragEvent('drop', { bubbles: true, cancelable: true });
        Object.defineProperty(event, 'dataTransfer', { value: { files: [image], items: [{ webkitGetAsEntry: () => root }] } });
        $('#views').dispatchEvent(event);
        await until(() => $('#labels thead').textContent.includes('Dice'));
        await rested();
        note('names', names());
        note('rows', String(document.querySelectorAll('#labels tbody tr').length));
    ";
    let page = dropped("folder", &borrowed(&files), script);
    assert_eq!(page.text("error"), "");
    assert_eq!(data(&page, "names"), "a_0000.nii.gz | a.nii.gz | a.nii.gz | drop it here");
    assert_eq!(data(&page, "rows"), "2");
}

#[test]
fn nrrd_metaimage_and_pairs_are_opened_together() {
    let case = Case::load();
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    write_image(&path("scan.nhdr"), &case.image, &case.like).unwrap();
    write_image(&path("scan.mha"), &case.image, &case.like).unwrap();
    write_labels(&path("pred.seg.nrrd"), &case.mask, &case.like, &case.names).unwrap();
    write_labels(&path("gt.hdr"), &case.truth, &case.like, &LabelTable::default()).unwrap();
    let all = ["scan.nhdr", "scan.raw.gz", "scan.mha", "pred.seg.nrrd", "gt.hdr", "gt.img"];
    let bytes = all.map(|name| std::fs::read(path(name)).unwrap());
    let served: Vec<(&str, &[u8])> = all.into_iter().zip(bytes.iter().map(Vec::as_slice)).collect();
    let script = "
        await dropAll('scan.nhdr', 'scan.raw.gz', 'pred.seg.nrrd', 'gt.hdr', 'gt.img');
        await rested();
        note('names', names());
        note('labels', [...document.querySelectorAll('#labels tbody tr')].map((row) => row.cells[0].textContent).join(' '));
        await dropAll('scan.nhdr');
        note('alone', await failed());
        await dropAll('scan.mha');
        await until(() => names().startsWith('scan.mha'));
        await rested();
        note('second', names());
    ";
    let page = dropped("formats", &served, script);
    assert_eq!(data(&page, "names"), "scan.nhdr | pred.seg.nrrd | gt.hdr | drop it here");
    assert_eq!(data(&page, "labels"), "Anterior Posterior &lt;&amp;&gt;");
    assert_eq!(data(&page, "alone"), "scan.nhdr: the file with its voxels is missing: drop both files together.");
    assert!(data(&page, "second").starts_with("scan.mha | pred.seg.nrrd"));
    let mut scene = Scene::default();
    for ((_, bytes), role) in case.files().iter().zip([Role::Image, Role::Mask, Role::Truth]) {
        scene.load(bytes, "", Some(role)).unwrap();
    }
    check_drawn(&page, &scene);
}

#[test]
fn what_cannot_be_opened_is_named_with_the_reason() {
    let image = bundled_image();
    let mut files = series(&image, "1.2.3", "T1");
    files[4].1.truncate(2000);
    files.remove(9);
    let damaged = files[4].0.clone();
    files.push(("photo.png".into(), b"\x89PNG\r\n\x1a\n".to_vec()));
    files.push(("notes.pdf".into(), b"%PDF-1.7".to_vec()));
    files.push(("broken.nrrd".into(), b"NRRD0004\ntype: float\n".to_vec()));
    let (served, _) = list(&files);
    let slices =
        files.iter().map(|(name, _)| format!("'{name}'")).filter(|n| n.starts_with("'1.2")).collect::<Vec<_>>();
    let script = format!(
        "await dropAll({});
         note('series', await failed());
         await dropAll('photo.png');
         note('photo', await failed());
         await dropAll('notes.pdf', 'photo.png');
         note('notes', await failed());
         const hostile = '<img src=x onerror=document.body.dataset.hacked=1>.nrrd';
         drop([new File([await (await file('broken.nrrd')).arrayBuffer()], hostile)]);
         note('broken', await failed());
         drop([new File([new Uint8Array(5000).fill(7)], 'unknown')]);
         note('unknown', await failed());
         note('empty', String(!$('#welcome').hidden));",
        slices.join(", ")
    );
    let page = dropped("refused", &served, &script);
    let reason = |name: &str| data(&page, name);
    assert!(
        reason("series").contains(&format!(": {damaged}")) && reason("series").contains("cut short"),
        "{}",
        reason("series")
    );
    assert!(reason("photo").starts_with("photo.png: cannot read the PNG picture"), "{}", reason("photo"));
    assert!(reason("notes").ends_with("notes.pdf, photo.png: none of these is a volume. NIfTI (.nii, .nii.gz), DICOM, NRRD (.nrrd, .nhdr), MetaImage (.mha, .mhd) and pictures (.png, .jpg, .tif) are opened."), "{}", reason("notes"));
    assert!(
        reason("broken").contains("onerror") && reason("broken").contains("cannot read"),
        "{}",
        reason("broken")
    );
    assert!(reason("unknown").starts_with("unknown: cannot read a volume"), "{}", reason("unknown"));
    assert_eq!((reason("empty"), page.data("hacked")), ("true".to_owned(), None));
}

#[test]
fn mask_on_another_grid_is_resampled_on_request() {
    let case = Case::load();
    let files = case.files();
    // Half the voxel size along x.
    let mut rows = case.truth.geometry().ras_from_voxel().rows();
    for row in &mut rows {
        row[0] /= 2.0;
        row[3] -= row[0] / 2.0;
    }
    let [nx, ny, nz] = case.truth.geometry().shape();
    let finer =
        Geometry::new([2 * nx, ny, nz], RasFromVoxel::new(rows).unwrap(), OrientationSource::Sform).unwrap();
    let mask = case.mask.resample_to(&finer, 0).unwrap();
    let finer = encode_labels(&mask, &finer.into(), &case.names, Compression::Gzip).unwrap();
    let mut moved = case.truth.geometry().ras_from_voxel().rows();
    moved[1][3] += 900.0;
    let moved = Geometry::new([nx, ny, nz], RasFromVoxel::new(moved).unwrap(), OrientationSource::Sform).unwrap();
    let elsewhere = LabelMap::new(moved, case.mask.data().to_vec()).unwrap();
    let elsewhere = encode_labels(&elsewhere, &moved.into(), &case.names, Compression::None).unwrap();
    let served: [(&str, &[u8]); 3] =
        [("image.nii.gz", &files[0].1), ("mask.nii.gz", &finer), ("truth.nii", &elsewhere)];
    let script = "
        await dropAll('image.nii.gz', 'mask.nii.gz');
        await until(() => !$('#resample').hidden);
        note('problem', $('#error').textContent);
        $('#resample button').click();
        await until(() => $('#resample').hidden);
        await rested();
        note('after', $('#error').textContent + names());
        await openTools();
        $('#save-mask').click();
        await until(() => saved.length);
        note('bytes', [...new Uint8Array(await saved[0].arrayBuffer())].map((b) => b.toString(16).padStart(2, '0')).join(''));
        await dropAll('truth.nii');
        await until(() => !$('#resample').hidden);
        $('#resample button').click();
        await until(() => $('#error').textContent.includes('outside'));
        note('refused', $('#error').textContent);
        document.querySelectorAll('.zone .close')[2].click();
        await until(() => $('#error').hidden);
    ";
    let page = dropped("resampled", &served, script);
    assert!(data(&page, "problem").contains("mask is not drawn"), "{}", data(&page, "problem"));
    assert_eq!(data(&page, "after"), "image.nii.gz | mask.nii (resampled) | drop it here | drop it here");
    let (map, metadata) = read_labels_bytes(&super::features::from_hex(&data(&page, "bytes"))).unwrap();
    assert_eq!(
        map.data(),
        case.mask.resample_to(mask.geometry(), 0).unwrap().resample_to(case.image.geometry(), 0).unwrap().data()
    );
    assert_eq!(metadata.label_table().unwrap().get(1).unwrap().name, "Anterior");
    assert!(
        data(&page, "refused").contains("truth.nii: the file lies outside the image"),
        "{}",
        data(&page, "refused")
    );
    let mut scene = scene_of(&case.image);
    let labels = encode_labels(&map, &case.like, &case.names, Compression::None).unwrap();
    scene.load(&labels, "", Some(Role::Mask)).unwrap();
    scene.name_labels(Role::Mask, case.names.clone());
    check_drawn(&page, &scene);
}

#[test]
fn probabilities_and_uncertainty_are_drawn_over_the_image() {
    let case = Case::load();
    let geometry = *case.image.geometry();
    // A smooth transition along x.
    let nx = geometry.shape()[0];
    let first: Vec<f32> = (0..geometry.voxels()).map(|i| (i % nx) as f32 / (nx - 1) as f32).collect();
    let values = first.iter().map(|p| 1.0 - p).chain(first.iter().copied()).collect();
    let maps = Image::new(geometry, 2, values).unwrap();
    let like = case.like.clone().with_values(sulcus_io::VoxelType::Float32, 2);
    let maps = encode_image(&maps, &like, Compression::Gzip).unwrap();
    let files = case.files();
    let served: [(&str, &[u8]); 2] = [("image.nii.gz", &files[0].1), ("a_probabilities.nii.gz", &maps)];
    let script = "
        await dropAll('image.nii.gz', 'a_probabilities.nii.gz');
        await rested();
        note('names', names());
        note('choices', [...$('#map-channel').options].map((o) => o.text).join(', '));
        note('value', $('#at-map').textContent);
        await set('map-channel', 2);
        note('window', $('#map-low').value + ' ' + $('#map-high').value);
        note('uncertainty', $('#at-map').textContent);
        await set('map-colors', 3);
        await set('map-low', 0.2);
        await set('map-opacity', 80);
    ";
    let page = dropped("probabilities", &served, script);
    assert_eq!(data(&page, "names"), "image.nii.gz | drop it here | drop it here | a_probabilities.nii.gz");
    assert_eq!(
        (data(&page, "choices"), data(&page, "window")),
        ("background, class 1, uncertainty".into(), "0.05 0.5".into())
    );
    let number = |name: &str| data(&page, name).parse::<f32>().unwrap();
    assert!((number("uncertainty") - number("value").min(1.0 - number("value"))).abs() < 0.002);
    let mut scene = scene_of(&case.image);
    scene.load(&maps, "", Some(Role::Map)).unwrap();
    scene.settings.map.channel = 2;
    scene.settings.map.colormap = sulcus_viewer::Colormap::Viridis;
    scene.settings.map.window = sulcus_volume::WindowLevel { low: 0.2, high: 0.5 };
    scene.settings.map.opacity = 0.8;
    check_drawn(&page, &scene);
    assert!(scene.slices(Plane::Axial).is_some());
}
