//! Pictures through every command: trained on, predicted, scored, drawn, described, converted and served.

use std::path::{Path, PathBuf};

use serde_json::Value;
use sulcus_io::{VolumeMetadata, read_labels, write_image, write_labels};
use sulcus_volume::{Geometry, GridUnit, Image, LabelEntry, LabelMap, LabelTable, Rgb, Spacing};

use super::support::{run, sulcus};

const SIZE: [usize; 2] = [64, 48];
/// Some seconds of training on bright stripes exceed this Dice.
const MIN_DICE: f64 = 0.7;

fn grid(slices: usize) -> Geometry {
    Geometry::of_picture([SIZE[0], SIZE[1], slices], Spacing::new([1.0; 3]).unwrap(), GridUnit::Pixel).unwrap()
}

fn names() -> LabelTable {
    LabelTable::new(vec![LabelEntry { value: 1, name: "Stripe".into(), color: Rgb([10, 200, 90]) }]).unwrap()
}

/// Writes a colour picture of a red stripe on noise, and its mask.
fn picture(image: &Path, mask: &Path, seed: usize) {
    let inside = |i: usize| (i % SIZE[0] + seed * 5) % 32 < 6 && i / SIZE[0] > 5;
    let noise = |i: usize| ((i.wrapping_mul(2_654_435_761).wrapping_add(seed * 977) >> 9) % 80) as f32;
    let pixels = SIZE[0] * SIZE[1];
    let red = (0..pixels).map(|i| if inside(i) { 170.0 + noise(i) } else { noise(i) });
    let values = red.chain((0..2 * pixels).map(|i| 60.0 + noise(i + 7))).collect();
    let metadata = VolumeMetadata::from(grid(1));
    for file in [image, mask] {
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    }
    write_image(image, &Image::new(grid(1), 3, values).unwrap(), &metadata).unwrap();
    let labels = LabelMap::new(grid(1), (0..pixels).map(|i| u16::from(inside(i))).collect()).unwrap();
    write_labels(mask, &labels, &metadata, &names()).unwrap();
}

/// `images/` and `masks/` with six pictures.
fn data_set(root: &Path) -> PathBuf {
    for seed in 0..6 {
        let file = |folder: &str| root.join(folder).join(format!("eye_{seed}.png"));
        picture(&file("images"), &file("masks"), seed);
    }
    root.to_path_buf()
}

#[test]
fn pictures_are_trained_on_predicted_scored_and_drawn() {
    let home = tempfile::tempdir().unwrap();
    let (set, folder) = (data_set(&home.path().join("set")), home.path().join("run"));
    let about = run(home.path(), &[&"info", &set]).code(0).stdout;
    assert!(about.contains("label 1 Stripe, pixels") && !about.contains(", ml"), "{about}");
    let planned = run(home.path(), &[&"plan", &set, &"--device", &"cpu"]).code(0).stdout;
    for part in
        ["divided by 255", "the size of the pixels is not known", "pictures as they are stored", "pixels ("]
    {
        assert!(planned.contains(part), "{part}: {planned}");
    }
    let mut train = sulcus(home.path());
    train.arg("train").arg(&set).arg("-o").arg(&folder);
    train.args([
        "--device",
        "cpu",
        "--preset",
        "unet2d-lite",
        "--patch",
        "48,64",
        "--batch-size",
        "2",
        "--epochs",
        "60",
    ]);
    let trained = super::support::ended(train.output().unwrap()).code(0);
    assert!(trained.stdout.contains("HD95 in pixels"), "{}", trained.stdout);
    assert!(
        folder
            .join("validation")
            .read_dir()
            .unwrap()
            .any(|file| file.unwrap().path().extension().unwrap() == "png")
    );

    // A new picture, predicted into a folder and a file.
    let (image, truth) = (home.path().join("new.png"), home.path().join("truth.png"));
    picture(&image, &truth, 17);
    let (model, masks) = (folder.join("model.onnx"), home.path().join("masks"));
    let predict =
        |output: &Path| run(home.path(), &[&"predict", &"-m", &model, &image, &"-o", &output, &"--json"]);
    let line = predict(&masks).code(0).json_lines().remove(0);
    assert_eq!((line.get("warnings"), line["labels"]["Stripe"].get("ml")), (None, None), "{line}");
    let mask = masks.join("new.png");
    let (labels, metadata) = read_labels(&mask).unwrap();
    assert_eq!(metadata.label_table().unwrap().get(1).unwrap().name, "Stripe");
    assert_eq!(line["labels"]["Stripe"]["voxels"], labels.counts()[&1]);
    let as_nifti = home.path().join("mask.nii.gz");
    predict(&as_nifti).code(0);
    assert_eq!(read_labels(&as_nifti).unwrap().0.data(), labels.data());
    predict(&home.path().join("mask.jpg")).code(2).says("a JPEG cannot hold a mask");

    for mask in [&mask, &as_nifti] {
        let scored = run(home.path(), &[&"evaluate", &"-p", mask, &"-t", &truth, &"--json"]).code(0);
        let summary: Value = serde_json::from_str(&scored.stdout).unwrap();
        let case = &summary["metric_per_case"][0];
        assert_eq!((&case["unit"], &case["metrics"]["1"]["volume_ml_pred"]), (&"pixel".into(), &Value::Null));
        assert!(case["metrics"]["1"]["Dice"].as_f64().unwrap() > MIN_DICE, "{case}");
    }
    let figure = home.path().join("figure.png");
    run(home.path(), &[&"figure", &"-i", &image, &"-t", &truth, &"-p", &mask, &"-o", &figure]).code(0);
    // The stripes are red in the drawing: the figure is itself a picture that can be read.
    let drawn = sulcus_io::read_scan(&figure).unwrap().image;
    let [red, green] = [0, 1].map(|channel| drawn.channel(channel));
    let strongly_red = red.iter().zip(green).filter(|(red, green)| **red > **green + 60.0).count();
    assert!(strongly_red > 1000, "{strongly_red}");
}

#[test]
fn pictures_are_described_and_converted() {
    let home = tempfile::tempdir().unwrap();
    let (image, mask) = (home.path().join("eye.png"), home.path().join("mask.png"));
    picture(&image, &mask, 3);
    let about: Value =
        serde_json::from_str(&run(home.path(), &[&"info", &image, &"--json"]).code(0).stdout).unwrap();
    assert_eq!((&about["format"], &about["shape"]), (&"png".into(), &serde_json::json!([64, 48, 1, 3])));
    assert_eq!((about.get("spacing_mm"), &about["orientation_source"]), (None, &"picture".into()));
    let text = run(home.path(), &[&"info", &image]).code(0).stdout;
    assert!(text.contains("not stated: the unit is the pixel"), "{text}");

    // Through other formats and back without a change.
    let values = |path: &Path| sulcus_io::read_scan(path).unwrap().image.data().to_vec();
    let convert = |from: &Path, to: &str| {
        let to = home.path().join(to);
        (run(home.path(), &[&"convert", &from, &to]).code(0), to)
    };
    let (_, tiff) = convert(&image, "eye.tif");
    let (said, nifti) = convert(&tiff, "eye.nii.gz");
    said.says("the output states voxels of 1 mm");
    let (said, back) = convert(&nifti, "back.png");
    said.says("a picture cannot store where the voxels are in the patient");
    for file in [&tiff, &nifti, &back] {
        assert_eq!(values(file), values(&image), "{}", file.display());
    }
    let (_, copy) = convert(&mask, "copy.png");
    assert_eq!(std::fs::read(&copy).unwrap(), std::fs::read(&mask).unwrap());
    run(home.path(), &[&"convert", &image, &home.path().join("eye.jpg")]).code(2).says("OUT must end in one of");
    run(home.path(), &[&"convert", &image, &home.path().join("x.png"), &"--spacing", &"2,2,2"])
        .code(2)
        .says("does not state the size of its pixels");
}

#[test]
fn damaged_picture_among_others_is_named_and_the_others_predicted() {
    let home = tempfile::tempdir().unwrap();
    let folder = home.path().join("in");
    let grey = |name: &str| {
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join(name);
        let values = (0..SIZE[0] * SIZE[1]).map(|i| (i % 251) as f32).collect();
        write_image(&path, &Image::new(grid(1), 1, values).unwrap(), &grid(1).into()).unwrap();
        path
    };
    grey("a.png");
    let bytes = std::fs::read(grey("b.png")).unwrap();
    std::fs::write(folder.join("b.png"), &bytes[..bytes.len() / 2]).unwrap();
    picture(&folder.join("c.png"), &home.path().join("c_mask.png"), 1);
    let out = home.path().join("out");
    let ended = super::support::predict(home.path(), &[&folder], &out, &["--json"]).code(1);
    let lines = ended.json_lines();
    let error = |name: &str| {
        let line = lines.iter().find(|line| line["input"].as_str().unwrap().ends_with(name)).unwrap();
        line["error"].as_str().map(str::to_owned)
    };
    assert_eq!(error("a.png"), None);
    assert!(error("b.png").unwrap().contains("its data ends early"), "{:?}", error("b.png"));
    assert!(error("c.png").unwrap().contains("the picture has 3"), "{:?}", error("c.png"));
    assert_eq!(read_labels(&out.join("a.png")).unwrap().0.geometry().shape(), [64, 48, 1]);
}
