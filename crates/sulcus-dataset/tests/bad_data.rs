//! Faulty data sets: the findings for each kind of fault, and for all kinds together.
#![allow(clippy::unwrap_used, reason = "tests")]

mod scans;
#[path = "scans/spoiled.rs"]
mod spoiled;

use std::path::Path;

use scans::{decathlon, geometry, image_file, label_file, phantom, write_image, write_labels};
use spoiled::{SHAPE, describe, grid, image_of, mask_of, spoil_all};
use sulcus_dataset::Dataset;
use sulcus_io::VolumeMetadata;
use sulcus_volume::{Geometry, LabelMap, LabelTable, Orientation, OrientationSource, RasFromVoxel, Spacing};

/// The findings about a data set of six cases that `spoil` has changed: warnings, then problems.
fn findings(spoil: impl FnOnce(&Path)) -> String {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    decathlon(root, 6, SHAPE);
    spoil(root);
    findings_of(root)
}

fn findings_of(root: &Path) -> String {
    let survey = Dataset::open(root).unwrap().survey(&[]);
    let warnings = survey.warnings.iter().map(|w| format!("warning: {w}\n"));
    let text: String = warnings.chain(survey.problems.iter().map(|p| format!("{p}\n"))).collect();
    text.replace(&format!("{}/", root.display()), "").replace(&root.display().to_string(), "ROOT")
}

#[test]
fn sound_data_set_gives_no_findings() {
    assert_eq!(findings(|_| ()), "");
}

#[test]
fn missing_files_are_named() {
    insta::assert_snapshot!(findings(|root| {
        std::fs::remove_file(image_file(root, "case_01")).unwrap();
        std::fs::remove_file(label_file(root, "case_02")).unwrap();
        std::fs::remove_file(image_file(root, "case_03")).unwrap();
        std::fs::remove_file(label_file(root, "case_03")).unwrap();
    }), @"
    case_01: the image file is missing; add it, or remove the case: imagesTr/case_01.nii.gz
    case_02: the mask file is missing; add it, or remove the case: labelsTr/case_02.nii.gz
    case_03: the image file is missing; add it, or remove the case: imagesTr/case_03.nii.gz
    case_03: the mask file is missing; add it, or remove the case: labelsTr/case_03.nii.gz
    ");
}

#[test]
fn truncated_files_and_other_file_types_are_named() {
    let findings = findings(|root| {
        let short = |file: &Path| {
            let bytes = std::fs::read(file).unwrap();
            std::fs::write(file, &bytes[..bytes.len() / 2]).unwrap();
        };
        short(&image_file(root, "case_00"));
        std::fs::write(label_file(root, "case_01"), "").unwrap();
        std::fs::write(image_file(root, "case_02"), "<html>not found</html>").unwrap();
        std::fs::remove_file(image_file(root, "case_03")).unwrap();
        std::fs::create_dir(image_file(root, "case_03")).unwrap();
    });
    // The number of bytes depends on the compression.
    let (before, after) = findings.split_once("ends after ").unwrap();
    let after = after.trim_start_matches(|c: char| c.is_ascii_digit());
    insta::assert_snapshot!(format!("{before}ends after N{after}"), @"
    case_00: cannot decompress the file: its gzip data ends after N of 7072 bytes; the download or copy was cut short, get the file again: imagesTr/case_00.nii.gz
    case_01: cannot read a volume: the file is empty (0 bytes); it was not copied or written to its end, get it again: labelsTr/case_01.nii.gz
    case_02: cannot read a volume: expected NIfTI (.nii, .nii.gz or .hdr/.img), found a web page; the server sent a page instead of the file: download it again: imagesTr/case_02.nii.gz
    case_03: cannot read the volume: expected a file, found a folder; name a file in it: imagesTr/case_03.nii.gz
    ");
}

#[test]
fn unknown_label_values_are_named() {
    insta::assert_snapshot!(findings(|root| {
        mask_of(root, "case_01", |i, v| if i == 0 { 7 } else { v * 3 });
        mask_of(root, "case_02", |i, _| i as u16);
    }), @"
    warning: case_02: label 1 (Ball) has only one voxel; remove it if it is a mistake: labelsTr/case_02.nii.gz
    warning: case_02: label 2 (Box) has only one voxel; remove it if it is a mistake: labelsTr/case_02.nii.gz
    case_01: label values are not among the data set's (1 Ball, 2 Box): 3 (93 voxels), 6 (75 voxels), 7 (1 voxel); correct the mask, or add them to `labels` in dataset.json: labelsTr/case_01.nii.gz
    case_02: label values are not among the data set's (1 Ball, 2 Box): 3 (1 voxel), 4 (1 voxel), 5 (1 voxel), 6 (1 voxel), 7 (1 voxel), 8 (1 voxel), 9 (1 voxel), 10 (1 voxel) and 1669 more; correct the mask, or add them to `labels` in dataset.json: labelsTr/case_02.nii.gz
    ");
}

#[test]
fn masks_with_fractions_or_negative_values_are_refused() {
    insta::assert_snapshot!(findings(|root| {
        let values = |change: &dyn Fn(usize, f32) -> f32| {
            let labels = phantom(SHAPE, 2, 0).1.into_iter().enumerate();
            labels.map(|(i, v)| change(i, f32::from(v))).collect()
        };
        write_image(&label_file(root, "case_01"), grid(), 1, values(&|i, v| if i < 3 { 0.5 } else { v }));
        write_image(&label_file(root, "case_02"), grid(), 1, values(&|i, v| if i < 2 { f32::NAN } else { v }));
        write_image(&label_file(root, "case_03"), grid(), 1, values(&|i, v| if i == 9 { -1.0 } else { v }));
        let twice: Vec<f32> = values(&|_, v| v);
        write_image(&label_file(root, "case_04"), grid(), 2, twice.repeat(2));
    }), @"
    case_01: cannot read labels: expected whole numbers from 0 to 65535, found other values in 3 voxel(s), such as 0.5; this is an image or a probability map, not a label map, or it was resampled with interpolation: labelsTr/case_01.nii.gz
    case_02: cannot read labels: expected whole numbers from 0 to 65535, found other values in 2 voxel(s), such as NaN; this is an image or a probability map, not a label map, or it was resampled with interpolation: labelsTr/case_02.nii.gz
    case_03: cannot read labels: expected whole numbers from 0 to 65535, found other values in 1 voxel(s), such as -1; this is an image or a probability map, not a label map, or it was resampled with interpolation: labelsTr/case_03.nii.gz
    case_04: cannot read labels: expected one value per voxel (a 3-D volume), found 2 along the fourth axis; give one 3-D label map: labelsTr/case_04.nii.gz
    ");
}

#[test]
fn label_without_a_mask_gives_a_warning() {
    insta::assert_snapshot!(findings(|root| {
        describe(root, |json| json["labels"]["3"] = "Cone".into());
    }), @"warning: label 3 (Cone) is in none of the 6 masks that could be read, so it cannot be learnt; correct the labels' values, or the masks: dataset.json");
}

#[test]
fn contradicting_label_names_of_a_mask_are_reported() {
    insta::assert_snapshot!(findings(|root| {
        let labels = LabelMap::new(grid(), phantom(SHAPE, 2, 1).1).unwrap();
        let names = LabelTable::from_names([(1, "Box".to_owned()), (2, "Ball".to_owned())]).unwrap();
        let like = VolumeMetadata::from(grid());
        sulcus_io::write_labels(&label_file(root, "case_01"), &labels, &like, &names).unwrap();
    }), @"
    case_01: the mask itself names its label 1 `Box`, which is label 2 in this data set; correct the values or the names of one of them: labelsTr/case_01.nii.gz
    case_01: the mask itself names its label 2 `Ball`, which is label 1 in this data set; correct the values or the names of one of them: labelsTr/case_01.nii.gz
    ");
}

#[test]
fn label_names_are_compared_without_case_and_unknown_ones_give_a_warning() {
    insta::assert_snapshot!(findings(|root| {
        for (case, names) in [("case_01", ["box", "BALL"]), ("case_02", ["ball", "Sphere"])] {
            let labels = LabelMap::new(grid(), phantom(SHAPE, 2, 1).1).unwrap();
            let names = LabelTable::from_names((1..).zip(names.map(str::to_owned))).unwrap();
            let like = VolumeMetadata::from(grid());
            sulcus_io::write_labels(&label_file(root, case), &labels, &like, &names).unwrap();
        }
    }), @"
    warning: case_02: the mask itself names its label 2 `Sphere`, but it is `Box` in this data set; correct the names if they do not mean the same: labelsTr/case_02.nii.gz
    case_01: the mask itself names its label 1 `box`, which is label 2 in this data set; correct the values or the names of one of them: labelsTr/case_01.nii.gz
    case_01: the mask itself names its label 2 `BALL`, which is label 1 in this data set; correct the values or the names of one of them: labelsTr/case_01.nii.gz
    ");
}

#[test]
fn swapped_labels_in_one_mask_give_a_warning() {
    insta::assert_snapshot!(findings(|root| mask_of(root, "case_03", |_, v| [0, 2, 1][usize::from(v)])), @"warning: case_03: labels 1 (Ball) and 2 (Box) have the opposite direction of those in the other masks; check whether their values were exchanged, or the header flips the scan: labelsTr/case_03.nii.gz");
}

#[test]
fn swapped_labels_in_one_bundled_mask_give_a_warning() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let bundled = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/data/hippocampus");
    for part in ["imagesTr", "labelsTr"] {
        std::fs::create_dir(root.join(part)).unwrap();
        for entry in std::fs::read_dir(bundled.join(part)).unwrap() {
            let entry = entry.unwrap();
            std::fs::copy(entry.path(), root.join(part).join(entry.file_name())).unwrap();
        }
    }
    std::fs::copy(bundled.join("dataset.json"), root.join("dataset.json")).unwrap();
    let case = Dataset::open(root).unwrap().cases()[7].clone();
    let (mask, like) = sulcus_io::read_labels(&case.label).unwrap();
    let exchanged = mask.map(|v| [0, 2, 1][usize::from(*v)]);
    sulcus_io::write_labels(&case.label, &exchanged, &like, &LabelTable::default()).unwrap();
    insta::assert_snapshot!(findings_of(root), @"warning: hippocampus_051: labels 1 (Anterior) and 2 (Posterior) have the opposite direction of those in the other masks; check whether their values were exchanged, or the header flips the scan: labelsTr/hippocampus_051.nii.gz");
}

/// Masks of three cubes: label 1 at the left, 2 at the right, 3 in the middle and behind.
fn three_cubes(root: &Path, centres: impl Fn(usize) -> [[usize; 3]; 3]) {
    for case in 0..8 {
        let centres = centres(case);
        mask_of(root, &format!("case_{case:02}"), |i, _| {
            let at = [i % SHAPE[0], i / SHAPE[0] % SHAPE[1], i / SHAPE[0] / SHAPE[1]];
            let is_near = |centre: &[usize; 3]| centre.iter().zip(at).all(|(c, v)| c.abs_diff(v) <= 1);
            centres.iter().position(is_near).map_or(0, |index| index as u16 + 1)
        });
    }
    describe(root, |json| json["labels"]["3"] = "Cone".into());
}

#[test]
fn displaced_structure_is_no_exchange_of_labels() {
    let cubes = |odd: [[usize; 3]; 3]| {
        move |case: usize| match case {
            5 => odd,
            // No two patients are alike.
            _ => [[2, 6 + case % 2, 5], [7, 7, 5], [5, 3, 4 + case % 3 / 2]],
        }
    };
    // As in a malformed organ, the first structure lies on the other side of the second, which stays where it is.
    assert_eq!(findings_of_eight(|root| three_cubes(root, cubes([[10, 7, 5], [7, 7, 5], [5, 3, 5]]))), "");
    let exchanged = findings_of_eight(|root| three_cubes(root, cubes([[7, 7, 5], [2, 7, 5], [5, 3, 5]])));
    assert!(
        exchanged.starts_with("warning: case_05: labels 1 (Ball) and 2 (Box) have the opposite direction"),
        "{exchanged}"
    );
    let mirrored = findings_of_eight(|root| three_cubes(root, cubes([[9, 7, 5], [4, 7, 5], [6, 3, 5]])));
    assert!(
        mirrored.starts_with("warning: case_05: labels 1 (Ball) and 2 (Box) have the opposite direction"),
        "{mirrored}"
    );
}

fn findings_of_eight(spoil: impl FnOnce(&Path)) -> String {
    let folder = tempfile::tempdir().unwrap();
    decathlon(folder.path(), 8, SHAPE);
    spoil(folder.path());
    findings_of(folder.path())
}

#[test]
fn mismatching_grids_are_reported() {
    insta::assert_snapshot!(findings(|root| {
        let labels = phantom(SHAPE, 2, 0).1;
        write_labels(&label_file(root, "case_01"), geometry([14, 12, 10], [1.0; 3]), labels.clone());
        write_labels(&label_file(root, "case_02"), geometry(SHAPE, [1.0, 1.0, 1.1]), labels.clone());
        let turned = RasFromVoxel::aligned("LAS".parse::<Orientation>().unwrap(), Spacing::new([1.0; 3]).unwrap());
        let turned = Geometry::new(SHAPE, turned, OrientationSource::Sform).unwrap();
        write_labels(&label_file(root, "case_03"), turned, labels.clone());
        // Within the rounding of headers.
        write_labels(&label_file(root, "case_04"), geometry(SHAPE, [1.0002, 1.0, 1.0]), labels);
    }), @"
    warning: case_03: labels 1 (Ball) and 2 (Box) have the opposite direction of those in the other masks; check whether their values were exchanged, or the header flips the scan: labelsTr/case_03.nii.gz
    case_01: the mask's grid differs from that of its image, imagesTr/case_01.nii.gz: shapes [12, 14, 10] and [14, 12, 10]; resample the mask onto the image, or copy the image's header into it if only the header is wrong: labelsTr/case_01.nii.gz
    case_02: the mask's grid differs from that of its image, imagesTr/case_02.nii.gz: voxel [0, 0, 9] lies at (0.00, 0.00, 9.00) mm in the first and at (0.00, 0.00, 9.90) mm in the second; resample the mask onto the image, or copy the image's header into it if only the header is wrong: labelsTr/case_02.nii.gz
    case_03: the mask's grid differs from that of its image, imagesTr/case_03.nii.gz: voxel [11, 0, 0] lies at (11.00, 0.00, 0.00) mm in the first and at (-11.00, 0.00, 0.00) mm in the second; resample the mask onto the image, or copy the image's header into it if only the header is wrong: labelsTr/case_03.nii.gz
    ");
}

#[test]
fn single_voxels_and_empty_masks_give_warnings() {
    insta::assert_snapshot!(findings(|root| {
        mask_of(root, "case_01", |i, v| if i == 0 { 2 } else { v % 2 });
        mask_of(root, "case_02", |_, _| 0);
    }), @"
    warning: case_01: label 2 (Box) has only one voxel; remove it if it is a mistake: labelsTr/case_01.nii.gz
    warning: case_02: the mask has no foreground; draw the structures, if the scan shows them: labelsTr/case_02.nii.gz
    ");
}

#[test]
fn data_set_without_foreground_is_a_problem() {
    insta::assert_snapshot!(findings(|root| {
        (0..6).for_each(|i| mask_of(root, &format!("case_{i:02}"), |_, _| 0));
    }), @"
    case_00: the mask has no foreground; draw the structures, if the scan shows them: labelsTr/case_00.nii.gz
    case_01: the mask has no foreground; draw the structures, if the scan shows them: labelsTr/case_01.nii.gz
    case_02: the mask has no foreground; draw the structures, if the scan shows them: labelsTr/case_02.nii.gz
    case_03: the mask has no foreground; draw the structures, if the scan shows them: labelsTr/case_03.nii.gz
    case_04: the mask has no foreground; draw the structures, if the scan shows them: labelsTr/case_04.nii.gz
    case_05: the mask has no foreground; draw the structures, if the scan shows them: labelsTr/case_05.nii.gz
    ");
}

#[test]
fn different_number_of_channels_is_reported() {
    insta::assert_snapshot!(findings(|root| {
        let image = phantom(SHAPE, 2, 0).0;
        write_image(&image_file(root, "case_01"), grid(), 2, image.repeat(2));
    }), @"case_01: expected 1 channel as dataset.json says, found 2 along the fourth axis; give each case the same channels, or remove this one: imagesTr/case_01.nii.gz");
}

#[test]
fn non_finite_voxels_are_reported() {
    insta::assert_snapshot!(findings(|root| {
        image_of(root, "case_01", |i, v| if i == 5 { f32::NAN } else { v });
        image_of(root, "case_02", |i, v| if i < 4 { f32::NEG_INFINITY } else { v + 1.0 });
        image_of(root, "case_03", |_, _| f32::NAN);
    }), @"
    case_01: 1 of 1680 voxels are NaN or infinite, which a network cannot use; replace them, for example by the intensity of the background: imagesTr/case_01.nii.gz
    case_02: 4 of 1680 voxels are NaN or infinite, which a network cannot use; replace them, for example by the intensity of the background: imagesTr/case_02.nii.gz
    case_03: 1680 of 1680 voxels are NaN or infinite, which a network cannot use; replace them, for example by the intensity of the background: imagesTr/case_03.nii.gz
    ");
}

#[test]
fn constant_image_is_reported() {
    insta::assert_snapshot!(findings(|root| image_of(root, "case_01", |_, _| 4.5)), @"case_01: every voxel is 4.5, so the image has no content; get the scan again, or remove the case: imagesTr/case_01.nii.gz");
}

#[test]
fn constant_channel_gives_a_warning() {
    insta::assert_snapshot!(findings(|root| {
        for i in 0..6 {
            let (image, _) = phantom(SHAPE, 2, i);
            let second = image.iter().map(|v| if i == 2 { 0.0 } else { -v }).collect();
            write_image(&image_file(root, &format!("case_{i:02}")), grid(), 2, [image, second].concat());
        }
        describe(root, |json| json["modality"]["1"] = "T2".into());
    }), @"warning: case_02: channel `T2` is 0 in every voxel, so a network learns nothing from it in this case: imagesTr/case_02.nii.gz");
}

#[test]
fn duplicate_case_names_are_reported() {
    insta::assert_snapshot!(findings(|root| {
        std::fs::copy(image_file(root, "case_01"), root.join("imagesTr/case_00.nii")).unwrap();
        std::fs::remove_file(image_file(root, "case_01")).unwrap();
        describe(root, |json| {
            json["training"][1]["image"] = "./imagesTr/case_00.nii".into();
            json["training"][3] = json["training"][2].clone();
        });
    }), @"
    warning: 1 volume here belongs to no case (by name and ending, or by dataset.json) and will not be used: case_03.nii.gz: imagesTr
    warning: 1 volume here belongs to no case (by name and ending, or by dataset.json) and will not be used: case_03.nii.gz: labelsTr
    case_00: two cases have this name, the other is imagesTr/case_00.nii.gz; rename or remove one: imagesTr/case_00.nii
    case_02: dataset.json lists this case twice; remove one of the two: labelsTr/case_02.nii.gz
    ");
}

#[test]
fn unused_volumes_give_a_warning() {
    insta::assert_snapshot!(findings(|root| {
        describe(root, |json| {
            json["training"].as_array_mut().unwrap().pop();
            json["numTraining"] = 6.into();
        });
        std::fs::write(root.join("imagesTr/._case_00.nii.gz"), "a resource fork").unwrap();
        std::fs::write(root.join("imagesTr/notes.txt"), "of no interest").unwrap();
        (0..6).for_each(|i| std::fs::write(root.join(format!("labelsTr/more_{i}.nrrd")), "").unwrap());
    }), @"
    warning: 1 volume here belongs to no case (by name and ending, or by dataset.json) and will not be used: case_05.nii.gz: imagesTr
    warning: 7 volumes here belong to no case (by name and ending, or by dataset.json) and will not be used: case_05.nii.gz, more_0.nrrd, more_1.nrrd, more_2.nrrd, more_3.nrrd and 2 more: labelsTr
    warning: `numTraining` is 6, but the data set has 5 cases; correct it, or look for missing or additional cases: dataset.json
    ");
}

#[test]
fn duplicate_images_give_a_warning() {
    insta::assert_snapshot!(findings(|root| {
        // Written again without compression: other bytes, the same voxels.
        let (image, _) = phantom(SHAPE, 2, 1);
        write_image(&root.join("imagesTr/case_05.nii"), grid(), 1, image);
        std::fs::remove_file(image_file(root, "case_05")).unwrap();
        describe(root, |json| json["training"][5]["image"] = "imagesTr/case_05.nii".into());
    }), @"warning: case_05: its voxels are identical to those of case_01; remove one of the two, otherwise scores are too high if one is trained on and the other held out: imagesTr/case_05.nii");
}

#[test]
fn voxel_size_in_another_unit_gives_a_warning() {
    insta::assert_snapshot!(findings(|root| {
        let (image, labels) = phantom(SHAPE, 2, 3);
        let metres = geometry(SHAPE, [0.001; 3]);
        write_image(&image_file(root, "case_03"), metres, 1, image);
        write_labels(&label_file(root, "case_03"), metres, labels);
    }), @"warning: case_03: its voxels are 0.001 × 0.001 × 0.001 mm (right, anterior, superior), those of most cases about 1.000 × 1.000 × 1.000 mm; correct the header if its unit is wrong: imagesTr/case_03.nii.gz");
}

#[test]
fn missing_orientation_gives_a_warning() {
    let forget = |root: &Path, name: &str| {
        for file in [image_file(root, name), label_file(root, name)] {
            // Of the header, qform_code and sform_code.
            let plain = file.with_extension("");
            match sulcus_io::read_labels(&file) {
                Ok((labels, like)) => {
                    sulcus_io::write_labels(&plain, &labels, &like, &LabelTable::default()).unwrap();
                }
                Err(_) => {
                    let read = sulcus_io::read_scan(&file).unwrap();
                    sulcus_io::write_image(&plain, &read.image, &read.metadata).unwrap();
                }
            }
            let mut bytes = std::fs::read(&plain).unwrap();
            bytes[252..256].fill(0);
            std::fs::remove_file(&plain).unwrap();
            // Gzip is recognised by the content, so that a file may be uncompressed under any name.
            std::fs::write(&file, bytes).unwrap();
        }
    };
    insta::assert_snapshot!(findings(|root| forget(root, "case_03")), @"
    warning: case_03: the image has neither sform nor qform, so left and right are a guess; set one from the scan's source: imagesTr/case_03.nii.gz
    warning: case_03: labels 1 (Ball) and 2 (Box) have the opposite direction of those in the other masks; check whether their values were exchanged, or the header flips the scan: labelsTr/case_03.nii.gz
    ");
    insta::assert_snapshot!(findings(|root| (0..6).for_each(|i| forget(root, &format!("case_{i:02}")))), @"warning: each of the 6 images has neither sform nor qform, so left and right are a guess; set one from the scan's source: ROOT");
}

#[test]
fn all_findings_are_reported_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    decathlon(root, 14, SHAPE);
    spoil_all(root);
    insta::assert_snapshot!(findings_of(root), @"
    warning: case_03: label 2 (Box) has only one voxel; remove it if it is a mistake: labelsTr/case_03.nii.gz
    warning: 1 volume here belongs to no case (by name and ending, or by dataset.json) and will not be used: case_09.nii.gz: imagesTr
    warning: 1 volume here belongs to no case (by name and ending, or by dataset.json) and will not be used: case_09.nii.gz: labelsTr
    warning: case_04: the mask has no foreground; draw the structures, if the scan shows them: labelsTr/case_04.nii.gz
    warning: label 3 (Cone) is in none of the 13 masks that could be read, so it cannot be learnt; correct the labels' values, or the masks: dataset.json
    warning: case_01: labels 1 (Ball) and 2 (Box) have the opposite direction of those in the other masks; check whether their values were exchanged, or the header flips the scan: labelsTr/case_01.nii.gz
    case_00: the mask file is missing; add it, or remove the case: labelsTr/case_00.nii.gz
    case_02: the mask's grid differs from that of its image, imagesTr/case_02.nii.gz: voxel [0, 0, 9] lies at (0.00, 0.00, 9.00) mm in the first and at (0.00, 0.00, 9.90) mm in the second; resample the mask onto the image, or copy the image's header into it if only the header is wrong: labelsTr/case_02.nii.gz
    case_05: expected 1 channel as dataset.json says, found 2 along the fourth axis; give each case the same channels, or remove this one: imagesTr/case_05.nii.gz
    case_06: 10 of 1680 voxels are NaN or infinite, which a network cannot use; replace them, for example by the intensity of the background: imagesTr/case_06.nii.gz
    case_07: every voxel is 0, so the image has no content; get the scan again, or remove the case: imagesTr/case_07.nii.gz
    case_08: label values are not among the data set's (1 Ball, 2 Box, 3 Cone): 4 (93 voxels), 8 (75 voxels); correct the mask, or add them to `labels` in dataset.json: labelsTr/case_08.nii.gz
    case_10: dataset.json lists this case twice; remove one of the two: labelsTr/case_10.nii.gz
    ");
}

/// The scans were normalised after skull stripping: their background is a constant negative value.
#[test]
fn constant_negative_background_of_most_cases_is_reported() {
    let normalised = |root: &Path, cases: usize| {
        for seed in 0..cases {
            let (mut image, _) = phantom(SHAPE, 2, seed);
            let half = image.len() / 2;
            image.iter_mut().take(half).for_each(|v| *v = -0.75);
            write_image(&image_file(root, &format!("case_{seed:02}")), geometry(SHAPE, [1.0; 3]), 1, image);
        }
    };
    assert_eq!(findings(|root| normalised(root, 3)), "");
    insta::assert_snapshot!(findings(|root| normalised(root, 4)), @"warning: channel `MRI` has the same negative value in at least 25 % of the voxels of 4 of 6 cases (-0.75 in case_00), probably the background; scans are cropped to their non-zero voxels and normalised inside them only if the background is 0, so set these voxels to 0: ROOT");
    let ct = findings(|root| {
        normalised(root, 6);
        let file = root.join("dataset.json");
        std::fs::write(&file, std::fs::read_to_string(&file).unwrap().replace("\"MRI\"", "\"CT\"")).unwrap();
    });
    assert_eq!(ct, "");
}
