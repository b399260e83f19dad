//! Reading and changing model files, good and bad.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

mod common;

use common::mutated;
use prost::Message;
use sulcus_model::{ModelSpec, SPEC_KEY, StageConfig};
use sulcus_onnx::messages::ModelProto;
use sulcus_onnx::{Axis, GraphBuilder, OnnxError, attribute, read_spec, with_spec};
use sulcus_testing::test_spec;

fn spec() -> ModelSpec {
    let stage = StageConfig { channels: 2, convolutions: 1, kernel: vec![1, 1], stride: vec![1, 1] };
    test_spec(2).name("tiny").stages(vec![stage]).labels(&[(1, "Anterior")]).build()
}

fn model() -> Vec<u8> {
    let mut graph = GraphBuilder::new("tiny");
    let axes = |channels| {
        [Axis::Dynamic("batch"), Axis::Fixed(channels), Axis::Dynamic("height"), Axis::Dynamic("width")]
    };
    graph.input("image", &axes(1), "");
    graph.output("logits", &axes(2), "");
    graph.constant("weight", &[2, 1, 1, 1], &[0.5, -2.0]);
    graph.node("Conv", &["image", "weight"], "logits", vec![attribute::ints("kernel_shape", &[1, 1])]);
    graph.finish(&spec(), "a test", "0.0.0").unwrap()
}

#[test]
fn read_spec_returns_the_written_specification() {
    assert_eq!(read_spec(&model()).unwrap(), spec());
}

#[test]
fn with_spec_keeps_all_other_fields() {
    let mut file = model();
    // A field that this crate does not know (training_info, 20) and metadata of other software must be kept.
    let other = ModelProto {
        metadata_props: vec![sulcus_onnx::messages::StringStringEntryProto {
            key: "author".into(),
            value: "me".into(),
        }],
        ..ModelProto::default()
    };
    file.extend_from_slice(&other.encode_to_vec());
    let unknown = [0xa2, 0x01, 0x03, 0x18, 0x82, 0x01];
    file.extend_from_slice(&unknown);

    let changed_spec = ModelSpec { name: "renamed".into(), tile_step: 0.25, ..spec() };
    let changed = with_spec(&file, &changed_spec).unwrap();

    assert_eq!(read_spec(&changed).unwrap(), changed_spec);
    assert!(changed.windows(unknown.len()).any(|window| window == unknown));
    let before = ModelProto::decode(model().as_slice()).unwrap();
    let after = ModelProto::decode(changed.as_slice()).unwrap();
    assert_eq!(after.graph, before.graph);
    assert_eq!(after.opset_import, before.opset_import);
    let keys: Vec<&str> = after.metadata_props.iter().map(|entry| entry.key.as_str()).collect();
    assert_eq!(keys, ["author", SPEC_KEY]);
}

fn message(bytes: &[u8]) -> String {
    read_spec(bytes).unwrap_err().to_string()
}

#[test]
fn files_of_other_kinds_are_identified() {
    insta::assert_snapshot!(message(b""), @"this is not an ONNX file: it is an empty file; expected a model.onnx that sulcus wrote");
    insta::assert_snapshot!(message(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"), @"this is not an ONNX file: it is a PNG picture; expected a model.onnx that sulcus wrote");
    insta::assert_snapshot!(message(b"\x1f\x8b\x08\0\0\0\0\0"), @"this is not an ONNX file: it is a gzip file, perhaps a scan (.nii.gz); expected a model.onnx that sulcus wrote");
    insta::assert_snapshot!(message(b"PK\x03\x04 archive/data.pkl"), @"this is not an ONNX file: it is a zip file, perhaps a PyTorch checkpoint; expected a model.onnx that sulcus wrote");
    insta::assert_snapshot!(message("{\"model\": \"text\"}\n".as_bytes()), @"this is not an ONNX file: it is text; expected a model.onnx that sulcus wrote");
    insta::assert_snapshot!(message(&[0xff; 64]), @"this is not an ONNX file: it is a file of another kind; expected a model.onnx that sulcus wrote");
    // A protobuf message of another kind: field 1 is text, not a version.
    insta::assert_snapshot!(message(b"\x12\x03\x01\x02\x03"), @"this is not an ONNX file: it is a file of another kind; expected a model.onnx that sulcus wrote");
}

#[test]
fn truncated_file_reports_the_position() {
    let file = model();
    // Inside the graph, whose length does not depend on the specification.
    insta::assert_snapshot!(message(&file[..200]), @"this ONNX file is damaged or cut short: after 25 bytes, a part of 197 bytes is announced and 172 are left; copy or export it again");
}

#[test]
fn model_of_other_software_is_refused_with_its_producer() {
    let theirs = |producer: &str| {
        let mut model = ModelProto::decode(model().as_slice()).unwrap();
        model.metadata_props.clear();
        model.producer_name = producer.into();
        model.encode_to_vec()
    };
    insta::assert_snapshot!(message(&theirs("pytorch")), @"this ONNX file was not exported by sulcus: it has no sulcus.spec entry, so it does not describe how to prepare a scan for it (it was written by pytorch); expected a model that sulcus exported");
    insta::assert_snapshot!(message(&theirs("")), @"this ONNX file was not exported by sulcus: it has no sulcus.spec entry, so it does not describe how to prepare a scan for it; expected a model that sulcus exported");
    let adopted = with_spec(&theirs("pytorch"), &spec()).unwrap();
    assert_eq!(read_spec(&adopted).unwrap(), spec());
}

/// A length-delimited field of a protobuf message.
fn field(number: u8, content: &[u8]) -> Vec<u8> {
    let key = usize::from(number) << 3 | 2;
    let varint = |n: usize| if n < 128 { vec![n as u8] } else { vec![(n & 127 | 128) as u8, (n >> 7) as u8] };
    [varint(key), varint(content.len()), content.to_vec()].concat()
}

/// A reader merges fields that occur twice, so a tensor that is appended to a file belongs to its graph.
#[test]
fn tensors_in_other_files_are_refused() {
    let location = field(13, &[field(1, b"location"), field(2, b"/etc/passwd")].concat());
    let tensor = [field(8, b"weight"), location].concat();
    let attribute = field(5, &tensor);
    let nested = field(6, &field(5, &tensor));
    let graphs = [
        field(5, &tensor),
        field(15, &field(1, &tensor)),
        field(1, &field(5, &attribute)),
        field(1, &field(5, &nested)),
    ];
    let parts = graphs
        .iter()
        .map(|graph| field(7, graph))
        .chain([field(20, &field(1, &field(5, &tensor))), field(25, &field(7, &field(5, &attribute)))]);
    for (case, part) in parts.enumerate() {
        let error = read_spec(&[model(), part].concat()).unwrap_err();
        assert!(matches!(error, OnnxError::ExternalData), "{case}: {error}");
    }
    let without = field(7, &field(5, &field(8, b"weight")));
    assert!(read_spec(&[model(), without].concat()).is_ok());
}

#[test]
fn graphs_nested_too_deeply_are_refused() {
    let graph = (0..200).fold(Vec::new(), |inner, _| field(1, &field(5, &field(6, &inner))));
    let error = read_spec(&[model(), field(7, &graph)].concat()).unwrap_err();
    assert!(error.to_string().contains("levels"), "{error}");
}

#[test]
fn invalid_and_newer_specifications_are_refused() {
    let with_json = |change: &dyn Fn(String) -> String| {
        let mut model = ModelProto::decode(model().as_slice()).unwrap();
        let entry = &mut model.metadata_props[0];
        entry.value = change(std::mem::take(&mut entry.value));
        message(&model.encode_to_vec())
    };
    let newer = with_json(&|json| json.replace("\"format_version\":1", "\"format_version\":99"));
    insta::assert_snapshot!(newer, @"this model cannot be used: its format version is 99, this program knows 1 to 8: use a newer sulcus");
    insta::assert_snapshot!(with_json(&|_| "{}".into()), @"this model cannot be used: its specification is not JSON with a format_version: missing field `format_version` at line 1 column 2");
    let unknown = with_json(&|json| json.replacen("\"name\"", "\"nom\"", 1));
    assert!(unknown.contains("nom"), "{unknown}");
    let contradiction =
        with_json(&|json| json.replace("\"padding_multiple\":[1,1]", "\"padding_multiple\":[2,1]"));
    insta::assert_snapshot!(contradiction, @"this model cannot be used: its padding multiple is [2, 1], its network's strides give [1, 1]");
}

#[test]
fn no_truncation_or_mutation_panics() {
    let file = model();
    for end in 0..file.len() {
        // A cut before the metadata leaves a valid ONNX file without a specification; any other cut is refused as damaged.
        let error = read_spec(&file[..end]).unwrap_err();
        assert!(!matches!(error, OnnxError::Spec(_)), "cut at {end}: {error}");
    }
    let (mut read, mut refused) = (0, 0);
    for mutated in mutated(&file, 1, 20_000) {
        match read_spec(&mutated) {
            Ok(_) => read += 1,
            Err(_) => refused += 1,
        }
        if let Ok(changed) = with_spec(&mutated, &spec()) {
            assert_eq!(read_spec(&changed).unwrap(), spec());
        }
    }
    assert!(read > 0 && refused > 0, "{read} read, {refused} refused");
}
