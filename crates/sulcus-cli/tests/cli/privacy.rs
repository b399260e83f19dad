//! A header may contain the patient's name. No output and no message may contain it, unless that is requested.

use std::path::{Path, PathBuf};

use super::support::{bundled, ended, file, predict, run, sulcus, tiny_model};

/// The name in every text of the test headers.
const NAME: &str = "Dolores^Haze";

/// The content of a gzipped file.
fn inflated(home: &Path, path: &Path) -> Vec<u8> {
    let plain = home.join("inflated.nii");
    run(home, &[&"convert", &path, &plain, &"--keep-texts"]).code(0);
    let bytes = std::fs::read(&plain).unwrap();
    std::fs::remove_file(&plain).unwrap();
    bytes
}

/// A bundled volume with the name in `data_type`, `db_name`, `descrip`, `aux_file` and `intent_name`, and in two
/// extensions, a comment and a DICOM one.
fn planted(home: &Path, from: &Path, to: &str) -> PathBuf {
    let mut bytes = inflated(home, from);
    for (at, length) in [(4, 10), (14, 18), (148, 80), (228, 24), (328, 16)] {
        let mut text = NAME.as_bytes().to_vec();
        text.resize(length, 0);
        bytes[at..at + length].copy_from_slice(&text);
    }
    let voxels = f32::from_le_bytes(bytes[108..112].try_into().unwrap()) as usize;
    let mut extensions = vec![1_u8, 0, 0, 0];
    for code in [6_i32, 2] {
        let mut text = format!("PatientName={NAME}").into_bytes();
        text.resize(40, 0);
        extensions.extend(48_i32.to_le_bytes());
        extensions.extend(code.to_le_bytes());
        extensions.extend(text);
    }
    bytes[108..112].copy_from_slice(&((348 + extensions.len()) as f32).to_le_bytes());
    bytes.splice(348..voxels, extensions);
    file(home, to, &bytes)
}

fn holds(bytes: &[u8], name: &str) -> bool {
    bytes.windows(name.len()).any(|part| part.eq_ignore_ascii_case(name.as_bytes()))
}

/// Searches for the name in every file of a folder.
fn search(home: &Path, folder: &Path, seen: &mut usize) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            search(home, &path, seen);
            continue;
        }
        *seen += 1;
        let bytes = std::fs::read(&path).unwrap();
        let volume = path.to_string_lossy().ends_with(".nii.gz");
        let bytes = if volume { inflated(home, &path) } else { bytes };
        assert!(!holds(&bytes, NAME) && !holds(&bytes, "Dolores"), "the name is in {}", path.display());
    }
}

#[test]
fn patient_name_in_a_header_is_neither_written_nor_printed() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    for case in ["hippocampus_008", "hippocampus_011", "hippocampus_023", "hippocampus_040"] {
        for (from, to) in [("imagesTr", "images"), ("labelsTr", "labels")] {
            let source = bundled(&format!("hippocampus/{from}/{case}.nii.gz"));
            planted(home, &source, &format!("set/{to}/{case}.nii"));
        }
    }
    let (set, out) = (home.join("set"), home.join("out"));
    std::fs::create_dir(&out).unwrap();
    let (scan, truth) = (set.join("images/hippocampus_008.nii"), set.join("labels/hippocampus_008.nii"));
    assert!(holds(&std::fs::read(&scan).unwrap(), NAME), "nothing was planted");
    let (mask, run_folder) = (out.join("masks/hippocampus_008.nii.gz"), out.join("run"));
    let path = |path: &Path| path.to_string_lossy().into_owned();
    let commands = [
        vec!["info".into(), path(&scan), "--json".into()],
        vec!["info".into(), path(&scan)],
        vec!["info".into(), path(&set)],
        vec!["info".into(), path(&set), "--json".into()],
        vec!["plan".into(), path(&set), "-o".into(), path(&out.join("plan.json"))],
        vec![
            "train".into(),
            path(&set),
            "-o".into(),
            path(&run_folder),
            "--epochs".into(),
            "1".into(),
            "--preset".into(),
            "unet2d-lite".into(),
            "--patch".into(),
            "48,32".into(),
            "--device".into(),
            "cpu".into(),
        ],
        vec![
            "predict".into(),
            "--engine".into(),
            "tract".into(),
            "-m".into(),
            path(&tiny_model()),
            path(&set.join("images")),
            "-o".into(),
            path(&out.join("masks")),
            "--probabilities".into(),
            "--json".into(),
        ],
        vec![
            "evaluate".into(),
            "-p".into(),
            path(&mask),
            "-t".into(),
            path(&truth),
            "--json".into(),
            "--report".into(),
            path(&out.join("report.html")),
        ],
        vec![
            "figure".into(),
            "-i".into(),
            path(&scan),
            "-t".into(),
            path(&truth),
            "-p".into(),
            path(&mask),
            "-o".into(),
            path(&out.join("figure.png")),
        ],
        vec!["convert".into(), path(&scan), path(&out.join("turned.nii")), "--orient".into(), "LPS".into()],
        vec![
            "convert".into(),
            path(&truth),
            path(&out.join("fine.nii")),
            "--spacing".into(),
            "0.8,0.8,0.8".into(),
        ],
    ];
    for arguments in &commands {
        let ended = ended(sulcus(home).args(["-v", "-v"]).args(arguments).output().unwrap()).code(0);
        for text in [&ended.stdout, &ended.stderr] {
            assert!(!holds(text.as_bytes(), "Dolores"), "{arguments:?} says the name: {text}");
        }
    }
    let mut seen = 0;
    search(home, &out, &mut seen);
    assert!(seen > 15, "{seen} files");
}

#[test]
fn errors_do_not_contain_the_patients_name() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    let scan = planted(home, &bundled("case/image.nii.gz"), "scan.nii");
    let whole = std::fs::read(&scan).unwrap();
    let mut wrong_type = whole.clone();
    wrong_type[70..72].copy_from_slice(&128_i16.to_le_bytes());
    let mut wrong_magic = whole.clone();
    wrong_magic[344..348].copy_from_slice(b"n+7\0");
    for (name, bytes) in
        [("cut.nii", &whole[..2000]), ("type.nii", wrong_type.as_slice()), ("magic.nii", wrong_magic.as_slice())]
    {
        let broken = file(home, name, bytes);
        let out = home.join("mask.nii.gz");
        for ended in [
            predict(home, &[&broken], &out, &["-v", "-v"]),
            run(home, &[&"info", &broken]),
            run(home, &[&"convert", &broken, &home.join("x.nii")]),
            run(home, &[&"evaluate", &"-p", &broken, &"-t", &broken]),
        ] {
            let ended = ended.code(1).says(name);
            assert!(!ended.stderr.contains("Dolores") && !ended.stdout.contains("Dolores"), "{}", ended.stderr);
        }
    }
}

#[test]
fn converted_series_and_tables_contain_no_patient_data() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    let slice = Path::new(env!("CARGO_MANIFEST_DIR")).join("../sulcus-dicom/tests/dicom/u12.dcm");
    let mut bytes = std::fs::read(slice).unwrap();
    let secrets = ["Doe^Jane", "ID-47112", "19700229", "Haze, D."];
    let tags = [([0x10, 0x10], "PN"), ([0x10, 0x20], "LO"), ([0x10, 0x30], "DA"), ([0x08, 0x3e], "LO")];
    // Before StudyInstanceUID.
    let at = bytes.windows(4).rposition(|w| w == [0x20, 0, 0x0d, 0]).unwrap();
    for (secret, ([group, number], vr)) in secrets.into_iter().zip(tags) {
        // SeriesDescription is (0008,103E); the high byte of the other elements is zero.
        let high = if group == 0x08 { 0x10 } else { 0 };
        let head = [group, 0, number, high, vr.as_bytes()[0], vr.as_bytes()[1], 8, 0];
        bytes.splice(at..at, head.into_iter().chain(secret.bytes()));
    }
    let series = home.join("series");
    file(home, "series/IM0001", &bytes);
    let mask = home.join("mask.nii");
    predict(home, &[&series], &mask, &[]).code(0);
    let names = file(home, "names.ctbl", b"# Color table file\n1 Head 1 2 3 255\n2 Tail 4 5 6 255\n");
    for name in ["a.nii", "a.nrrd", "a.mha", "seg.dcm", "b.nii", "t.txt", "t.ctbl", "t.csv", "t.json"] {
        let out = home.join(name);
        let ended = match name {
            "seg.dcm" => run(home, &[&"-v", &"convert", &mask, &out, &"--like", &series, &"--names", &names]),
            "b.nii" => run(home, &[&"-v", &"convert", &home.join("seg.dcm"), &out]),
            _ if name.starts_with('t') => run(home, &[&"-v", &"convert", &home.join("seg.dcm"), &out]),
            _ => run(home, &[&"-v", &"convert", &series, &out, &"--series", &"1.2.3.4.1"]),
        };
        let ended = ended.code(0);
        let written = std::fs::read(&out).unwrap();
        assert!(!written.is_empty(), "{name}");
        for secret in secrets {
            assert!(!holds(&written, secret), "{secret} is in {name}");
            assert!(!holds(ended.stderr.as_bytes(), secret) && !holds(ended.stdout.as_bytes(), secret), "{name}");
        }
    }
    let figure = home.join("figure.png");
    let ended = run(home, &[&"figure", &"-i", &series, &"-p", &mask, &"-o", &figure]).code(0);
    assert!(!holds(ended.stderr.as_bytes(), "Doe"), "{}", ended.stderr);
}

#[test]
fn texts_are_kept_on_request() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    let scan = planted(home, &bundled("case/image.nii.gz"), "scan.nii");
    let (kept, dropped) = (home.join("kept.nii"), home.join("dropped.nii"));
    run(home, &[&"convert", &scan, &kept, &"--keep-texts"]).code(0);
    run(home, &[&"convert", &scan, &dropped]).code(0);
    assert!(holds(&std::fs::read(&kept).unwrap()[148..228], NAME));
    assert!(!holds(&std::fs::read(&dropped).unwrap(), "Dolores"));
}
