//! A mask on the wrong side of the brain is the worst answer there is: a real scan, rewritten in every orientation,
//! must get the same mask in the patient, through files.

use sulcus_io::{NiftiHeader, read_image, read_labels, write_image};
use sulcus_runtime::Engine;
use sulcus_tests::{builder, held_out_cases, shipped_model};
use sulcus_volume::Orientation;

#[test]
fn all_48_orientations_of_a_scan_get_the_same_mask_in_the_patient() {
    let folder = tempfile::tempdir().unwrap();
    let (_, image, _) = &held_out_cases().unwrap()[0];
    let segmenter = builder(Engine::Tract).unwrap().model(shipped_model()).build().unwrap();
    let plain = folder.path().join("plain.nii.gz");
    segmenter.segment_file(image, &plain).unwrap();
    let (expected, _) = read_labels(&plain).unwrap();
    assert!(expected.data().iter().any(|l| *l != 0), "an empty mask proves nothing");
    let scan = read_image(image).unwrap().image;
    for orientation in Orientation::all() {
        let turned = scan.reoriented(orientation);
        let file = folder.path().join(format!("scan_{orientation}.nii.gz"));
        write_image(&file, &turned, &NiftiHeader::from_geometry(turned.geometry()).unwrap()).unwrap();
        let mask = folder.path().join(format!("mask_{orientation}.nii.gz"));
        segmenter.segment_file(&file, &mask).unwrap();
        let (found, _) = read_labels(&mask).unwrap();
        assert_eq!(found.geometry().orientation(), orientation);
        let back = found.reoriented(expected.geometry().orientation());
        back.geometry().check_same_grid(expected.geometry()).unwrap();
        assert!(back.data() == expected.data(), "{orientation}");
    }
}
