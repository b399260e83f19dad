//! Reading and changing model files, good and bad.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

use prost::Message;
use sulcus_model::{
    Activation, ChannelSpec, CropRule, Dimensions, Downsampling, Encoder, ModelSpec, NetworkSpec, Norm,
    Normalisation, OutputActivation, SPEC_KEY, SpacingRule, StageConfig, Tiling, Training,
};
use sulcus_onnx::messages::ModelProto;
use sulcus_onnx::{Axis, GraphBuilder, OnnxError, attribute, read_spec, with_spec};
use sulcus_volume::LabelTable;

fn spec() -> ModelSpec {
    let stage = StageConfig { channels: 2, convolutions: 1, kernel: vec![1, 1], stride: vec![1, 1] };
    ModelSpec {
        format_version: ModelSpec::version_for(&[]),
        name: "tiny".into(),
        network: NetworkSpec {
            name: "tiny".into(),
            dimensions: Dimensions::Two,
            stages: vec![stage],
            norm: Norm::Batch,
            activation: Activation::Relu,
            downsampling: Downsampling::MaxPool,
            encoder: Encoder::Plain,
            deep_supervision: false,
        },
        channels: vec![ChannelSpec { name: "MRI".into(), normalisation: Normalisation::ZScore }],
        labels: LabelTable::from_names([(1, "Anterior".into())]).unwrap(),
        regions: Vec::new(),
        activation: OutputActivation::Softmax,
        crop: CropRule::Whole,
        orientation: "RAS".parse().unwrap(),
        spacing: SpacingRule::Native,
        patch: vec![8, 8],
        tiling: Tiling::Whole,
        tile_step: 0.5,
        mirror_axes: vec![],
        padding_multiple: vec![1, 1],
        postprocessing: vec![],
        training: Training::default(),
        precision: None,
        golden_case: None,
    }
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
fn a_file_gives_its_specification_back() {
    assert_eq!(read_spec(&model()).unwrap(), spec());
}

#[test]
fn another_specification_replaces_the_first_and_leaves_the_rest_alone() {
    let mut file = model();
    // A field that this crate doesn't know (training_info, 20) and somebody's metadata: both must survive.
    let other = ModelProto {
        metadata_props: vec![sulcus_onnx::messages::StringStringEntryProto {
            key: "author".into(),
            value: "me".into(),
        }],
        ..ModelProto::default()
    };
    file.extend_from_slice(&other.encode_to_vec());
    let unknown = [0xa2, 0x01, 0x03, 1, 2, 3];
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
fn files_of_other_kinds_are_named() {
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
fn a_file_cut_short_says_where() {
    let file = model();
    // Inside the graph, whose length does not depend on the specification.
    insta::assert_snapshot!(message(&file[..200]), @"this ONNX file is damaged or cut short: after 25 bytes, a part of 197 bytes is announced and 172 are left; copy or export it again");
}

#[test]
fn somebody_elses_model_is_named() {
    let theirs = |producer: &str| {
        let mut model = ModelProto::decode(model().as_slice()).unwrap();
        model.metadata_props.clear();
        model.producer_name = producer.into();
        model.encode_to_vec()
    };
    insta::assert_snapshot!(message(&theirs("pytorch")), @"this ONNX file was not exported by sulcus: it has no sulcus.spec entry, so nothing says how to prepare a scan for it (it was written by pytorch); export one with `sulcus export`");
    insta::assert_snapshot!(message(&theirs("")), @"this ONNX file was not exported by sulcus: it has no sulcus.spec entry, so nothing says how to prepare a scan for it; export one with `sulcus export`");
    let adopted = with_spec(&theirs("pytorch"), &spec()).unwrap();
    assert_eq!(read_spec(&adopted).unwrap(), spec());
}

#[test]
fn a_broken_or_newer_specification_says_so() {
    let with_json = |change: &dyn Fn(String) -> String| {
        let mut model = ModelProto::decode(model().as_slice()).unwrap();
        let entry = &mut model.metadata_props[0];
        entry.value = change(std::mem::take(&mut entry.value));
        message(&model.encode_to_vec())
    };
    let newer = with_json(&|json| json.replace("\"format_version\":1", "\"format_version\":99"));
    insta::assert_snapshot!(newer, @"this model cannot be used: its format version is 99, this program knows 1 to 3: use a newer sulcus");
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
        // A cut in front of the metadata leaves a whole ONNX file without ours; any other is refused as damaged.
        let error = read_spec(&file[..end]).unwrap_err();
        assert!(!matches!(error, OnnxError::Spec(_)), "cut at {end}: {error}");
    }
    let mut state = 1_u32;
    let mut random = |below: usize| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as usize % below
    };
    let (mut read, mut refused) = (0, 0);
    for _ in 0..20_000 {
        let mut mutated = file.clone();
        for _ in 0..=random(3) {
            let at = random(mutated.len());
            mutated[at] = random(256) as u8;
        }
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
