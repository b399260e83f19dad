//! Label tables of other programs.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

use proptest::prelude::*;
use sulcus_io::{LabelTableFormat, format_label_table, parse_label_table, write_label_table};
use sulcus_volume::{LabelEntry, LabelTable, Rgb};

fn expected() -> LabelTable {
    let entry = |value, name: &str, color| LabelEntry { value, name: name.into(), color: Rgb(color) };
    LabelTable::new(vec![entry(1, "Left part", [255, 0, 10]), entry(17, "Rest", [0, 128, 255])]).unwrap()
}

const ITK_SNAP: &str = r##"################################################
# ITK-SnAP Label Description File
# IDX   -R-  -G-  -B-  -A--  VIS MSH  LABEL
################################################
    0     0    0    0        0  0  0    "Clear Label"
    1   255    0   10        1  1  1    "Left part"
   17     0  128  255      0.5  1  0    "Rest"
"##;

const CTBL: &str = "# Color table file /home/someone/x.ctbl\n# 3 values\n0 Background 0 0 0 0\n1 Left_part 255 0 10 255\n17 Rest 0 128 255 255\n";

const CSV: &str = "LabelValue,Name,Color_R,Color_G,Color_B,Color_A,Category_CodeMeaning\r\n0,Background,0,0,0,0,\r\n1,\"Left part\",255,0,10,255,\"Tissue, all\"\r\n17,Rest,0,128,255,255,\r\n";

const NIIVUE: &str = r#"{"R": [0, 255, 0], "G": [0, 0, 128], "B": [0, 10, 255], "A": [0, 255, 255], "I": [0, 1, 17],
    "labels": ["air", "Left part", "Rest"], "min": 0}"#;

#[test]
fn every_table_format_is_read() {
    for (text, format) in [
        (ITK_SNAP, LabelTableFormat::ItkSnap),
        (CTBL, LabelTableFormat::SlicerColorTable),
        (CSV, LabelTableFormat::SlicerCsv),
        (NIIVUE, LabelTableFormat::NiiVue),
    ] {
        assert_eq!(LabelTableFormat::of_content(text.as_bytes()), Some(format));
        assert_eq!(parse_label_table(text.as_bytes()).unwrap(), expected(), "{format:?}");
        let with_mark = format!("\u{feff}{text}");
        assert_eq!(parse_label_table(with_mark.as_bytes()).unwrap(), expected(), "{format:?}");
        assert_eq!(parse_label_table(format_label_table(&expected(), format).as_bytes()).unwrap(), expected());
    }
}

#[test]
fn colormap_without_values_uses_indices() {
    let text = r#"{"R":[0,1,9,2],"G":[0,1,9,2],"B":[0,1,9,2],"labels":["air","a","","b"]}"#;
    let table = parse_label_table(text.as_bytes()).unwrap();
    let values: Vec<u16> = table.entries().iter().map(|e| e.value).collect();
    assert_eq!(values, [1, 3]);
}

#[test]
fn errors_name_the_line() {
    let message = |text: &str| parse_label_table(text.as_bytes()).unwrap_err().to_string();
    assert_eq!(
        message(&ITK_SNAP.replace("   17     0", "70000     0")),
        "cannot read the label table: expected a line of ITK-SNAP with a value from 0 to 65535, a name and colours \
         from 0 to 255, found `70000     0  128  255      0.5  1  0    \"Rest\"` in line 7; correct the line"
    );
    assert!(message(&CTBL.replace("17 Rest 0 128 255", "17 Rest 0 128 256")).contains("in line 5"));
    assert!(message(&CSV.replace("17,Rest,0", "17,Rest,x")).contains("(CSV)"));
    assert!(
        message(&NIIVUE.replace("\"I\": [0, 1, 17]", "\"I\": [0, 1]")).contains("have [3, 3, 3, 2] and 3 entries")
    );
    assert!(message(&CTBL.replace("17 Rest", "1 Rest")).contains("value 1 occurs twice"));
    for text in ["", "hello\n", "{\"labels\": {\"a\": 1}}", "1 2 3\n"] {
        assert!(message(text).contains("found none of them"), "{text}");
    }
}

#[test]
fn ending_selects_the_format() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["a.txt", "a.LABEL", "a.ctbl", "a.csv", "a.json"] {
        let path = folder.path().join(name);
        write_label_table(&path, &expected()).unwrap();
        assert_eq!(parse_label_table(&std::fs::read(&path).unwrap()).unwrap(), expected(), "{name}");
    }
    let error = write_label_table(&folder.path().join("a.nii"), &expected()).unwrap_err().to_string();
    assert!(error.contains("expected a file name that ends in .txt"), "{error}");
}

proptest! {
    #[test]
    fn tables_survive_the_round_trip(
        entries in proptest::collection::btree_map(1_u16.., ("[a-zA-Z,;'#()+-]{0,12}", any::<[u8; 3]>()), 1..20)
    ) {
        let entries = entries.into_iter().map(|(value, (name, color))| {
            // A name of its own, without what some of the formats can't hold.
            LabelEntry { value, name: format!("n{name}{value}"), color: Rgb(color) }
        });
        let table = LabelTable::new(entries.collect()).unwrap();
        for format in [
            LabelTableFormat::ItkSnap,
            LabelTableFormat::SlicerColorTable,
            LabelTableFormat::SlicerCsv,
            LabelTableFormat::NiiVue,
        ] {
            let text = format_label_table(&table, format);
            prop_assert_eq!(parse_label_table(text.as_bytes()).unwrap(), table.clone(), "{}", text);
        }
    }
}
