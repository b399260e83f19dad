//! Packs: networks that are put into one file, and taken out of it again.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot be set up has failed")]

mod common;

use common::mutated;
use prost::Message;
use sulcus_model::{
    FileSpec, Locate, MaskUse, ModelSpec, NnunetResampling, NothingFound, PACK_VERSION, PackNetwork, PackSpec,
    Part, PreviousNetwork, Recipe, StageConfig,
};
use sulcus_onnx::messages::ModelProto;
use sulcus_onnx::{
    Axis, GraphBuilder, OnnxError, attribute, join_networks, read_constants, read_file_spec, read_model,
    read_spec, split_networks, split_pack, with_pack_spec,
};
use sulcus_testing::test_spec;

fn alone() -> ModelSpec {
    let stage = StageConfig { channels: 2, convolutions: 1, kernel: vec![1, 1], stride: vec![1, 1] };
    test_spec(2).name("tiny").stages(vec![stage]).labels(&[(1, "Anterior")]).build()
}

fn cascade() -> ModelSpec {
    let mask = MaskUse::InputChannels { labels: vec![1], resampling: NnunetResampling::DEFAULT_LOGITS };
    let previous = PreviousNetwork { name: "low".into(), spec: alone(), mask };
    let mut spec = ModelSpec { previous: Some(Box::new(previous)), ..alone() };
    spec.format_version = spec.min_format_version();
    spec
}

/// A file with the networks of a specification, whose weights tell them apart.
fn file(spec: &ModelSpec, weight: f32) -> Vec<u8> {
    let mut graph = GraphBuilder::new("tiny");
    let networks = if spec.previous.is_some() { vec![("", 2), ("low.", 1)] } else { vec![("", 1)] };
    for (at, (name, channels)) in networks.into_iter().enumerate() {
        let axes = |channels| [Axis::Dynamic("n"), Axis::Fixed(channels), Axis::Dynamic("h"), Axis::Dynamic("w")];
        let named = |value: &str| format!("{name}{value}");
        graph.input(&named("image"), &axes(channels), "");
        graph.output(&named("logits"), &axes(2), "");
        graph.constant(&named("weight"), &[2, channels, 1, 1], &vec![weight + at as f32; 2 * channels]);
        let kernel = vec![attribute::ints("kernel_shape", &[1, 1])];
        graph.node("Conv", &[&named("image"), &named("weight"), ""], &named("sums"), kernel);
        graph.node("Relu", &[&named("sums")], &named("logits"), vec![]);
    }
    graph.finish(spec, "a test", "0.0.0").unwrap()
}

fn pack() -> PackSpec {
    let network = |name: &str, spec| PackNetwork { name: name.to_owned(), spec };
    let pack = PackSpec {
        format_version: PACK_VERSION,
        name: "pack".to_owned(),
        labels: alone().labels,
        regions: Vec::new(),
        recipe: Recipe {
            locate: Some(Locate {
                network: "rough".to_owned(),
                grid: None,
                labels: vec![1],
                margin_mm: [10.0; 3],
                nothing_found: NothingFound::WholeScan,
            }),
            grid: None,
            split: None,
            parts: vec![Part { network: "fine".to_owned(), merge: None }],
        },
        networks: vec![network("rough", alone()), network("fine", cascade())],
    };
    pack.check().unwrap();
    pack
}

fn joined() -> Vec<u8> {
    let files = [file(&alone(), 1.0), file(&cascade(), 5.0)];
    join_networks(&[&files[0], &files[1]], &pack(), "a test", "0.0.0").unwrap()
}

#[test]
fn networks_come_out_as_they_went_in() {
    let bytes = joined();
    assert_eq!(read_file_spec(&bytes).unwrap(), FileSpec::Pack(Box::new(pack())));
    assert!(matches!(read_spec(&bytes), Err(OnnxError::Spec(sulcus_model::SpecError::Pack))));
    let graph = read_model(&bytes).unwrap().graph.unwrap();
    let inputs: Vec<&str> = graph.input.iter().map(|value| value.name.as_str()).collect();
    assert_eq!(inputs, ["rough.image", "fine.image", "fine.low.image"]);
    assert!(graph.node.iter().all(|node| node.op_type != "Conv" || node.input[2].is_empty()), "an absent input");
    let parts = split_pack(bytes, &pack()).unwrap();
    assert_eq!(parts.iter().map(Vec::len).collect::<Vec<_>>(), [1, 2]);
    let weights = |file: &[u8]| read_constants(file).unwrap()[0].values[0];
    let all: Vec<f32> = parts.iter().flatten().map(|file| weights(file)).collect();
    let alone: Vec<f32> =
        split_networks(file(&cascade(), 5.0), &cascade()).unwrap().iter().map(|f| weights(f)).collect();
    assert_eq!(all, [1.0, 5.0, 6.0]);
    assert_eq!(all[1..], alone);
    for file in parts.iter().flatten() {
        let graph = read_model(file).unwrap().graph.unwrap();
        assert_eq!((graph.input[0].name.as_str(), graph.output[0].name.as_str()), ("image", "logits"));
    }
    let renamed = PackSpec { name: "renamed".into(), ..pack() };
    let changed = with_pack_spec(&joined(), &renamed).unwrap();
    assert_eq!(read_file_spec(&changed).unwrap(), FileSpec::Pack(Box::new(renamed)));
}

#[test]
fn files_that_do_not_go_together_are_refused() {
    let rough = file(&alone(), 1.0);
    let refused = |files: &[&[u8]]| join_networks(files, &pack(), "", "").unwrap_err().to_string();
    assert!(refused(&[&rough]).contains("1 files for 2 networks"));
    let mut newer = ModelProto::decode(file(&cascade(), 1.0).as_slice()).unwrap();
    newer.opset_import[0].version = 21;
    let sets = refused(&[&rough, &newer.encode_to_vec()]);
    assert!(sets.contains("operator sets of ONNX (17 and 21)"), "{sets}");
    assert!(refused(&[b"\x89PNG", &rough]).contains("a PNG picture"));
    // A file whose graph is not that of its specification.
    let swapped = join_networks(&[&rough, &rough], &pack(), "", "").unwrap();
    let error = split_pack(swapped, &pack()).unwrap_err().to_string();
    assert!(error.contains("inputs"), "{error}");
}

/// Whatever is changed in a file, it is read or refused.
#[test]
fn damaged_packs_do_not_panic() {
    let file = joined();
    let (mut divided, mut refused) = (0, 0);
    for mutated in mutated(&file, 7, 5_000) {
        let Ok(FileSpec::Pack(pack)) = read_file_spec(&mutated) else { continue };
        match split_pack(mutated, &pack) {
            Ok(_) => divided += 1,
            Err(_) => refused += 1,
        }
    }
    assert!(divided > 0 && refused > 0, "{divided} divided, {refused} refused");
}
