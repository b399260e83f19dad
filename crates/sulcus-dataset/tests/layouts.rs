//! Each layout of a data set, and its file names.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "tests")]

#[macro_use]
extern crate sulcus_harness;

mod scans;

use std::path::{Path, PathBuf};

use scans::{decathlon, geometry, image_file, label_file, phantom, write_image, write_labels};
use sulcus_dataset::{Case, Dataset, Layout};
use sulcus_volume::{Geometry, GridUnit, Spacing};

const SHAPE: [usize; 3] = [12, 14, 10];

/// The message without the temporary folder's name.
fn message(error: impl ToString, root: &Path) -> String {
    error.to_string().replace(&format!("{}/", root.display()), "").replace(&root.display().to_string(), "ROOT")
}

/// All findings, warnings first.
fn findings(root: &Path) -> String {
    let survey = Dataset::open(root).unwrap().survey(&[]);
    let warnings = survey.warnings.iter().map(|w| format!("warning: {w}\n"));
    message(warnings.chain(survey.problems.iter().map(|p| format!("{p}\n"))).collect::<String>(), root)
}

fn image(file: &Path, seed: usize) {
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    write_image(file, geometry(SHAPE, [1.0; 3]), 1, phantom(SHAPE, 2, seed).0);
}

fn mask(file: &Path, seed: usize) {
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    write_labels(file, geometry(SHAPE, [1.0; 3]), phantom(SHAPE, 2, seed).1);
}

fn describe(root: &Path, json: &str) {
    std::fs::write(root.join("dataset.json"), json).unwrap();
}

fn files(root: &Path, case: &Case) -> Vec<String> {
    let inside = |file: &PathBuf| file.strip_prefix(root).unwrap().to_string_lossy().replace('\\', "/");
    case.images.iter().chain([&case.label]).map(inside).collect()
}

#[test]
fn nnunet_version_1_has_the_decathlons_description() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    for (seed, name) in ["a", "b"].into_iter().enumerate() {
        for channel in 0..2 {
            image(&root.join(format!("imagesTr/{name}_{channel:04}.nii.gz")), seed * 2 + channel);
        }
        mask(&label_file(root, name), seed);
    }
    describe(
        root,
        r#"{"name":"Two","modality":{"0":"T1","1":"T2"},"labels":{"0":"background","1":"Ball","2":"Box"},
        "numTraining":2,"training":[{"image":"./imagesTr/a.nii.gz","label":"./labelsTr/a.nii.gz"},
        {"image":"./imagesTr/b.nii.gz","label":"./labelsTr/b.nii.gz"}]}"#,
    );
    let dataset = Dataset::open(root).unwrap();
    assert_eq!((dataset.layout(), dataset.channels().len()), (Layout::NnUnet, 2));
    let names = ["imagesTr/b_0000.nii.gz", "imagesTr/b_0001.nii.gz", "labelsTr/b.nii.gz"];
    assert_eq!(files(root, dataset.case("b").unwrap()), names);
    assert_eq!(findings(root), "");
    std::fs::remove_file(root.join("imagesTr/b_0000.nii.gz")).unwrap();
    insta::assert_snapshot!(findings(root), @"b: the image file is missing; add it, or remove the case: imagesTr/b_0000.nii.gz");
}

#[test]
fn nnunet_version_2_may_list_its_files() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    image(&root.join("elsewhere/one.nii"), 0);
    mask(&root.join("elsewhere/masks/one.nii.gz"), 0);
    let json = r#"{"channel_names":{"0":"CT"},"labels":{"background":0,"Ball":1,"Box":2},"numTraining":1,"file_ending":".nii.gz",
        "dataset":{"x":{"images":["elsewhere/one.nii"],"label":"./elsewhere/masks/one.nii.gz"}}}"#;
    describe(root, json);
    let dataset = Dataset::open(root).unwrap();
    assert_eq!(files(root, dataset.case("x").unwrap()), ["elsewhere/one.nii", "elsewhere/masks/one.nii.gz"]);
    assert_eq!(findings(root), "");
    let refused = |json: &str| {
        describe(root, json);
        message(Dataset::open(root).unwrap_err(), root)
    };
    insta::assert_snapshot!(refused(&json.replace("\"images\"", "\"files\"")), @r#"this data set's description cannot be used: case `x` of `dataset` has no list `images` and path `label`: {"files":["elsewhere/one.nii"],"label":"./elsewhere/masks/one.nii.gz"}: dataset.json"#);
    insta::assert_snapshot!(refused(&json.replace("\"x\"", "\"../x\"")), @"this data set's description cannot be used: `../x` of `dataset` cannot be a case's name, as results are files named after it: dataset.json");
}

#[test]
fn channels_of_one_case_must_share_a_grid() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    for (seed, name) in ["a", "b"].into_iter().enumerate() {
        for channel in 0..3 {
            image(&root.join(format!("imagesTr/{name}_{channel:04}.nii.gz")), seed * 3 + channel);
        }
        mask(&label_file(root, name), seed);
    }
    describe(
        root,
        r#"{"channel_names":{"0":"T1","1":"T2","2":"FLAIR"},"labels":{"background":0,"Ball":1,"Box":2},"file_ending":".nii.gz"}"#,
    );
    assert_eq!(findings(root), "");
    let shorter = [12, 14, 9];
    let values = phantom(shorter, 2, 0).0;
    write_image(&root.join("imagesTr/a_0001.nii.gz"), geometry(shorter, [1.0; 3]), 1, values);
    std::fs::remove_file(root.join("imagesTr/a_0002.nii.gz")).unwrap();
    image(&root.join("imagesTr/b_0003.nii.gz"), 9);
    insta::assert_snapshot!(findings(root), @"
    warning: 1 volume here belongs to no case (by name and ending, or by dataset.json) and will not be used: b_0003.nii.gz: imagesTr
    a: its grid differs from that of the first channel, imagesTr/a_0000.nii.gz: shapes [12, 14, 10] and [12, 14, 9]; resample the channels onto one grid: imagesTr/a_0001.nii.gz
    a: the image file is missing; add it, or remove the case: imagesTr/a_0002.nii.gz
    ");
}

#[test]
fn plain_folders_may_have_one_file_per_channel() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    for (seed, name) in ["a_0007", "b", "c"].into_iter().enumerate() {
        for channel in 0..2 {
            image(&root.join(format!("images/{name}_{channel:04}.nii")), seed * 2 + channel);
        }
        mask(&root.join(format!("labels/{name}.nii.gz")), seed);
    }
    let dataset = Dataset::open(root).unwrap();
    assert_eq!(
        (dataset.layout(), dataset.channels()),
        (Layout::Folders, &["image 0".into(), "image 1".into()][..])
    );
    let names: Vec<&str> = dataset.cases().iter().map(|c| c.name.as_str()).collect();
    assert_eq!(names, ["a_0007", "b", "c"]);
    assert_eq!(files(root, &dataset.cases()[1]), ["images/b_0000.nii", "images/b_0001.nii", "labels/b.nii.gz"]);
    assert_eq!(findings(root), "");

    std::fs::remove_file(root.join("images/b_0000.nii")).unwrap();
    std::fs::remove_file(root.join("images/c_0001.nii")).unwrap();
    std::fs::remove_file(root.join("labels/a_0007.nii.gz")).unwrap();
    mask(&root.join("labels/d.nii.gz"), 5);
    image(&root.join("images/e_0000.nii.gz"), 6);
    insta::assert_snapshot!(findings(root), @"
    a_0007: the mask file is missing; add it, or remove the case: labels/a_0007.nii
    a_0007: expected 1 channel as most cases have, found 2; give each case the same channels, or remove this one: images/a_0007_0000.nii
    b: the image file is missing; add it, or remove the case: images/b_0000.nii
    d: the image file is missing; add it, or remove the case: images/d_0000.nii.gz
    e: the mask file is missing; add it, or remove the case: labels/e.nii.gz
    ");
}

#[test]
fn plain_pairs_may_have_different_endings_and_end_in_four_digits() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    for (seed, (a, b)) in
        [("s_0001.nii", "s_0001.nii.gz"), ("s_0002.nii.gz", "s_0002.nii")].into_iter().enumerate()
    {
        image(&root.join("images").join(a), seed);
        mask(&root.join("labels").join(b), seed);
    }
    let dataset = Dataset::open(root).unwrap();
    assert_eq!(files(root, &dataset.cases()[1]), ["images/s_0002.nii.gz", "labels/s_0002.nii"]);
    assert_eq!(findings(root), "");
    // A third scan without a mask, and one scan twice.
    image(&root.join("images/s_0003.nii"), 2);
    image(&root.join("images/s_0001.nii.gz"), 3);
    insta::assert_snapshot!(findings(root), @"
    s_0003: the mask file is missing; add it, or remove the case: labels/s_0003.nii
    s_0001: two cases have this name, the other is images/s_0001.nii; rename or remove one: images/s_0001.nii.gz
    ");
}

#[test]
fn deviating_case_is_named_even_if_it_is_the_first() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    for seed in 0..5 {
        image(&root.join(format!("images/{seed}.nii")), seed);
        mask(&root.join(format!("labels/{seed}.nii")), seed);
    }
    let (values, mut labels) = phantom(SHAPE, 2, 7);
    write_image(&root.join("images/0.nii"), geometry(SHAPE, [1.0; 3]), 2, values.repeat(2));
    labels[3] = 4;
    write_labels(&root.join("labels/4.nii"), geometry(SHAPE, [1.0; 3]), labels);
    insta::assert_snapshot!(findings(root), @"
    warning: 4: label 4 (Label 4) has only one voxel; remove it if it is a mistake: labels/4.nii
    warning: 4: label 4 is in this mask alone (1 voxel) and would be trained as a structure; correct the mask if this is a mistake: labels/4.nii
    0: expected 1 channel as most cases have, found 2 along the fourth axis; give each case the same channels, or remove this one: images/0.nii
    ");
}

#[test]
fn images_in_the_labels_folder_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    image(&root.join("images/a.nii"), 0);
    let values = (0..SHAPE.iter().product::<usize>()).map(|i| i as u16).collect();
    std::fs::create_dir(root.join("labels")).unwrap();
    write_labels(&root.join("labels/a.nii"), geometry(SHAPE, [1.0; 3]), values);
    insta::assert_snapshot!(message(Dataset::open(root).unwrap_err(), root), @"this data set's description cannot be used: there are 1679 different labels, at most 254 can be trained; are these masks, or images?: labels");
}

#[test]
fn label_names_are_read_from_masks() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    image(&root.join("images/a.nii"), 0);
    mask(&root.join("labels/a.nii"), 0);
    let (labels, like) = sulcus_io::read_labels(&root.join("labels/a.nii")).unwrap();
    let names = sulcus_volume::LabelTable::from_names([(2, "Box".to_owned())]).unwrap();
    sulcus_io::write_labels(&root.join("labels/a.nii"), &labels, &like, &names).unwrap();
    let dataset = Dataset::open(root).unwrap();
    let names: Vec<&str> = dataset.labels().entries().iter().map(|e| e.name.as_str()).collect();
    assert_eq!(names, ["Label 1", "Box"]);
    assert_eq!(findings(root), "");
}

#[test]
fn ignore_label_is_not_a_structure() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    for (seed, name) in ["a", "b"].into_iter().enumerate() {
        image(&root.join(format!("imagesTr/{name}_0000.nii.gz")), seed);
        let labels = phantom(SHAPE, 2, seed).1.into_iter().enumerate();
        let labels = labels.map(|(i, v)| if i % 12 == 0 { 3 } else { v }).collect();
        std::fs::create_dir_all(root.join("labelsTr")).unwrap();
        write_labels(&label_file(root, name), geometry(SHAPE, [1.0; 3]), labels);
    }
    let json = |ignore: u16| {
        format!(
            r#"{{"channel_names":{{"0":"MRI"}},"labels":{{"background":0,"Ball":1,"Box":[2],"ignore":{ignore}}},"file_ending":".nii.gz"}}"#
        )
    };
    describe(root, &json(3));
    let dataset = Dataset::open(root).unwrap();
    assert_eq!((dataset.ignore(), dataset.labels().entries().len()), (Some(3), 2));
    assert_eq!(findings(root), "");
    let facts = dataset.survey(&[]).into_facts().unwrap();
    assert!(facts.iter().all(|f| f.label_voxels.keys().eq([1, 2].iter())));
    // Now another value is ignored, so that 3 is unknown.
    describe(root, &json(9));
    insta::assert_snapshot!(findings(root), @"
    a: a label value is not among the data set's (1 Ball, 2 Box): 3 (140 voxels); correct the mask, or add them to `labels` in dataset.json: labelsTr/a.nii.gz
    b: a label value is not among the data set's (1 Ball, 2 Box): 3 (140 voxels); correct the mask, or add them to `labels` in dataset.json: labelsTr/b.nii.gz
    ");
    describe(root, &json(1));
    insta::assert_snapshot!(message(Dataset::open(root).unwrap_err(), root), @"this data set's description cannot be used: the label `ignore` has value 1, but must have the greatest of all, 3 for example, as in nnU-Net: dataset.json");
}

#[test]
fn invalid_descriptions_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let refused = |json: &str| {
        describe(root, json);
        message(Dataset::open(root).unwrap_err(), root)
    };
    insta::assert_snapshot!(refused(r#"{"channel_names":{"0":"CT"},"labels":{"background":0,"A":1},"file_ending":".mha"}"#), @"this data set's description cannot be used: its `file_ending` is `.mha`, but only NIfTI files and pictures are read (.nii.gz, .nii, .img.gz, .img, .png, .tif, .tiff, .jpg, .jpeg); convert the files and change it: dataset.json");
    insta::assert_snapshot!(refused(r#"{"channel_names":{"0":"CT"},"labels":{"background":0,"core":[2],"whole":[1,2]},"regions_class_order":[2,1]}"#), @"this data set's description cannot be used: a voxel of value 2 belongs to region `core` and `whole`, but the last of these writes 1, which belongs to `whole`; list each region before the regions inside it, and let it write a value that these do not have: dataset.json");
    insta::assert_snapshot!(refused(r#"{"channel_names":{"0":"CT"},"labels":{"background":0,"A":1,"B":1}}"#), @"this data set's description cannot be used: label table: value 1 occurs twice: dataset.json");
    insta::assert_snapshot!(refused(r#"{"modality":{"0":"CT"},"training":[],"labels":{"0":"background","1":"A","3":"ignore","4":"ignore"}}"#), @"this data set's description cannot be used: two labels are named `ignore`; only one value can mark the voxels without a label: dataset.json");
}

/// Every case has a file name for each channel, so a short description could ask for any amount of memory.
#[test]
fn description_with_thousands_of_channels_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let channels = (0..1025).map(|i| format!("\"{i}\":\"x\"")).collect::<Vec<_>>().join(",");
    describe(
        folder.path(),
        &format!(r#"{{"modality":{{{channels}}},"training":[],"labels":{{"0":"background","1":"A"}}}}"#),
    );
    insta::assert_snapshot!(message(Dataset::open(folder.path()).unwrap_err(), folder.path()), @"this data set's description cannot be used: `modality` has 1025 channels, at most 1024 are possible: dataset.json");
}

#[cfg(unix)]
#[test]
fn links_unicode_names_and_read_only_folders_work() {
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::{PermissionsExt, symlink};

    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("Größe 1, 東京");
    let names = ["Fall 1 (prä)", "Fall 2 — post", "脳"];
    for (seed, name) in names.into_iter().enumerate() {
        image(&folder.path().join(format!("store/{name} T1.nii.gz")), seed);
        mask(&root.join(format!("labels/{name}.nii.gz")), seed);
        std::fs::create_dir_all(root.join("images")).unwrap();
        let from = folder.path().join(format!("store/{name} T1.nii.gz"));
        symlink(from, root.join(format!("images/{name}.nii.gz"))).unwrap();
    }
    for part in ["images", "labels", ""] {
        std::fs::set_permissions(root.join(part), PermissionsExt::from_mode(0o555)).unwrap();
    }
    let dataset = Dataset::open(&root).unwrap();
    let found: Vec<&str> = dataset.cases().iter().map(|c| c.name.as_str()).collect();
    assert_eq!(found, names);
    assert_eq!(findings(&root), "");
    for part in ["images", "labels", ""] {
        std::fs::set_permissions(root.join(part), PermissionsExt::from_mode(0o755)).unwrap();
    }
    std::fs::remove_file(folder.path().join("store/脳 T1.nii.gz")).unwrap();
    let unreadable = std::ffi::OsStr::from_bytes(b"na\xefve.nii.gz");
    std::fs::copy(root.join("labels/脳.nii.gz"), root.join("images").join(unreadable)).unwrap();
    let findings = findings(&root).replace(&format!("{}/", folder.path().display()), "");
    insta::assert_snapshot!(findings, @"
    warning: 1 volume here belongs to no case (by name and ending, or by dataset.json) and will not be used: na�ve.nii.gz: images
    脳: the image file is a link to store/脳 T1.nii.gz, which is missing: images/脳.nii.gz
    ");
}

#[test]
fn resource_forks_are_not_cases() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    decathlon(root, 2, SHAPE);
    std::fs::write(image_file(root, "._case_00"), "a resource fork").unwrap();
    std::fs::write(label_file(root, "._case_00"), "a resource fork").unwrap();
    let text = std::fs::read_to_string(root.join("dataset.json")).unwrap();
    let entry = r#""training":[{"image":"./imagesTr/._case_00.nii.gz","label":"./labelsTr/._case_00.nii.gz"},"#;
    describe(root, &text.replace(r#""training":["#, entry));
    assert_eq!(Dataset::open(root).unwrap().cases().len(), 2);
    assert_eq!(findings(root), "");
}

#[test]
fn whole_hippocampus_task_has_no_findings() {
    let task = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/Task04_Hippocampus");
    if !task.is_dir() {
        sulcus_harness::skip("the hippocampus task is not beside the project");
    }
    let dataset = Dataset::open(&task).unwrap();
    assert_eq!((dataset.layout(), dataset.cases().len()), (Layout::Decathlon, 208));
    insta::assert_snapshot!(findings(&task), @"");
}

sulcus_harness::main!();

/// A colour picture, and a mask with one label, as PNG.
fn picture(root: &Path, image: &str, label: &str, seed: u16, mm: Option<f64>) {
    let (unit, size) = match mm {
        Some(mm) => (GridUnit::MillimetreInPlane, mm),
        None => (GridUnit::Pixel, 1.0),
    };
    let grid = Geometry::of_picture([8, 6, 1], Spacing::new([size; 3]).unwrap(), unit).unwrap();
    let (image, label) = (root.join(image), root.join(label));
    [&image, &label].iter().for_each(|file| std::fs::create_dir_all(file.parent().unwrap()).unwrap());
    write_image(&image, grid, 3, (0..144_u16).map(|i| f32::from((i * 7 + seed * 3) % 256)).collect());
    write_labels(&label, grid, (0..48).map(|i| if i % 8 < 3 { 255 } else { 0 }).collect());
}

#[test]
fn pictures_in_images_and_masks_are_cases() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    picture(root, "images/b.png", "masks/b.png", 1, None);
    // The endings of picture and mask may differ.
    picture(root, "images/a.png", "masks/a.tif", 2, None);
    let dataset = Dataset::open(root).unwrap();
    assert_eq!(dataset.layout(), Layout::Folders);
    assert_eq!(dataset.channels(), ["red", "green", "blue"]);
    let names: Vec<_> = dataset.labels().entries().iter().map(|e| (e.value, e.name.as_str())).collect();
    assert_eq!(names, [(255, "Foreground")]);
    assert_eq!(files(root, &dataset.cases()[0]), ["images/a.png", "masks/a.tif"]);
    assert_eq!(findings(root), "");
    let facts = dataset.survey(&[]).into_facts().unwrap();
    assert!(facts.iter().all(|f| f.rgb && f.picture && f.unit == GridUnit::Pixel && f.volume_ml(255).is_none()));
    let summary = dataset.summary(&dataset.survey(&[]));
    assert_eq!((summary.labels[0].ml, summary.labels[0].pixels), (None, Some([18.0; 3])));
}

#[test]
fn colour_picture_of_nnunet_has_its_channels_in_one_file() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    for (seed, name) in ["a", "b"].into_iter().enumerate() {
        picture(root, &format!("imagesTr/{name}_0000.png"), &format!("labelsTr/{name}.png"), seed as u16, None);
    }
    describe(
        root,
        r#"{"channel_names":{"0":"R","1":"G","2":"B"},"labels":{"background":0,"vessel":255},"numTraining":2,
        "file_ending":".png"}"#,
    );
    let dataset = Dataset::open(root).unwrap();
    assert_eq!(files(root, &dataset.cases()[0]), ["imagesTr/a_0000.png", "labelsTr/a.png"]);
    assert_eq!(findings(root), "");
    assert_eq!(dataset.cases()[0].read_image().unwrap().0.channels(), 3);
}

#[test]
fn pictures_with_and_without_a_pixel_size_are_a_warning() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    picture(root, "images/a.png", "masks/a.png", 1, Some(0.1));
    picture(root, "images/b.png", "masks/b.png", 2, None);
    assert_eq!(
        findings(root),
        "warning: 1 of 2 images do not state the size of their pixels, the others do; all are used pixel by pixel, without regard \
         to their sizes: ROOT\n"
    );
}
