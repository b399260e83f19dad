//! Files with several networks, divided into files of their own.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot be set up has failed")]

mod common;

use common::mutated;
use prost::Message;
use sulcus_model::{MaskUse, ModelSpec, NnunetResampling, PreviousNetwork, StageConfig};
use sulcus_onnx::messages::{GraphProto, ModelProto};
use sulcus_onnx::{
    Axis, GraphBuilder, attribute, read_constants, read_model, read_spec, split_networks, with_spec,
};
use sulcus_testing::test_spec;

fn spec() -> ModelSpec {
    let stage = StageConfig { channels: 2, convolutions: 1, kernel: vec![1, 1], stride: vec![1, 1] };
    let alone = test_spec(2).name("tiny").stages(vec![stage]).labels(&[(1, "Anterior")]).build();
    let mask = MaskUse::InputChannels { labels: vec![1], resampling: NnunetResampling::DEFAULT_LOGITS };
    let previous = PreviousNetwork { name: "low".into(), spec: alone.clone(), mask };
    let mut spec = ModelSpec { previous: Some(Box::new(previous)), ..alone };
    spec.format_version = spec.min_format_version();
    spec.check().unwrap();
    spec
}

fn cascade() -> Vec<u8> {
    let mut graph = GraphBuilder::new("tiny");
    for (name, channels, weight) in [("", 2, 0.5), ("low.", 1, 3.0)] {
        let axes = |channels| [Axis::Dynamic("n"), Axis::Fixed(channels), Axis::Dynamic("h"), Axis::Dynamic("w")];
        let named = |value: &str| format!("{name}{value}");
        graph.input(&named("image"), &axes(channels), "");
        graph.output(&named("logits"), &axes(2), "");
        graph.constant(&named("weight"), &[2, channels, 1, 1], &vec![weight; 2 * channels]);
        let kernel = vec![attribute::ints("kernel_shape", &[1, 1])];
        graph.node("Conv", &[&named("image"), &named("weight")], &named("sums"), kernel);
        graph.node("Relu", &[&named("sums")], &named("logits"), vec![]);
    }
    graph.finish(&spec(), "a test", "0.0.0").unwrap()
}

#[test]
fn each_network_becomes_a_file() {
    let files = split_networks(cascade(), &spec()).unwrap();
    assert_eq!(files.len(), 2);
    for (file, weights) in files.iter().zip([vec![0.5; 4], vec![3.0; 2]]) {
        assert_eq!(read_constants(file).unwrap()[0].values, weights);
        let model = read_model(file).unwrap();
        assert_eq!(model.opset_import, read_model(&cascade()).unwrap().opset_import);
        let graph = model.graph.unwrap();
        let names = |values: &[sulcus_onnx::messages::ValueInfoProto]| {
            values.iter().map(|value| value.name.clone()).collect::<Vec<_>>()
        };
        assert_eq!((names(&graph.input), names(&graph.output)), (vec!["image".into()], vec!["logits".into()]));
        let operators: Vec<&str> = graph.node.iter().map(|node| node.op_type.as_str()).collect();
        assert_eq!(operators, ["Conv", "Relu"]);
        assert_eq!((graph.node[0].input[0].as_str(), graph.node[1].output[0].as_str()), ("image", "logits"));
    }
    // A file with one network stays as it is, whatever is in it.
    let alone = spec().previous.unwrap().spec;
    assert_eq!(split_networks(b"anything".to_vec(), &alone).unwrap(), [b"anything".to_vec()]);
}

#[test]
fn graphs_that_do_not_fit_the_specification_are_refused() {
    let refused = |change: &dyn Fn(&mut GraphProto)| {
        let mut model = ModelProto::decode(cascade().as_slice()).unwrap();
        change(model.graph.as_mut().unwrap());
        split_networks(model.encode_to_vec(), &spec()).unwrap_err().to_string()
    };
    let shared = refused(&|graph| graph.node[2].input[1] = "weight".into());
    assert!(shared.contains("shares the value `weight`"), "{shared}");
    let crossed = refused(&|graph| graph.node[0].input[0] = "low.image".into());
    assert!(crossed.contains("shares the value `low.image`"), "{crossed}");
    let missing = refused(&|graph| graph.output.truncate(1));
    assert!(missing.contains("outputs {\"logits\"}"), "{missing}");
    let inputs = refused(&|graph| graph.input[1].name = "other".into());
    assert!(inputs.contains("inputs"), "{inputs}");
    let stray = refused(&|graph| {
        let mut node = graph.node[0].clone();
        node.output = vec!["unused".into()];
        node.name = "unused".into();
        graph.node.push(node);
    });
    assert!(stray.contains("`unused` belongs to no network"), "{stray}");
    // Metadata of a training (field 20), which the parts would lose.
    let unknown = [cascade(), vec![0xa2, 0x01, 0x03, 0x18, 0x82, 0x01]].concat();
    assert!(split_networks(unknown, &spec()).unwrap_err().to_string().contains("fields"));
}

/// Whatever is changed in a file, it is read or refused.
#[test]
fn damaged_files_do_not_panic() {
    let file = with_spec(&cascade(), &spec()).unwrap();
    let (mut divided, mut refused) = (0, 0);
    for mutated in mutated(&file, 1, 5_000) {
        let Ok(spec) = read_spec(&mutated) else { continue };
        match split_networks(mutated, &spec) {
            Ok(_) => divided += 1,
            Err(_) => refused += 1,
        }
    }
    assert!(divided > 0 && refused > 0, "{divided} divided, {refused} refused");
}
