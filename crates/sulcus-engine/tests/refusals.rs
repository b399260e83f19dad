//! Graphs that the engine refuses, each with a typed error, and damaged files.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot be set up has failed"
)]

mod common;

use common::{TestGraph, changed, conv_attributes, engine, node_of, refusal, run, unet};
use sulcus_engine::{Engine, EngineError, EngineOptions, GraphProblem, NodeProblem};
use sulcus_onnx::attribute;
use sulcus_onnx::messages::{DimensionValue, ModelProto, OperatorSetIdProto, TypeValue};
use sulcus_testing::Noise;

/// One convolution and one pooling.
fn tiny() -> Vec<u8> {
    let mut graph = TestGraph::new(2, 1, 2);
    graph.conv("image", "c", [1, 2], 3, 1).pool("MaxPool", "c", "logits");
    graph.bytes()
}

fn with(change: impl FnOnce(&mut ModelProto)) -> EngineError {
    refusal(&changed(&tiny(), change))
}

fn node_problem(error: EngineError, name: &str, operator: &str) -> NodeProblem {
    match error {
        EngineError::Node { node, operator: found, reason } => {
            assert_eq!((node.as_str(), found.as_str()), (name, operator), "{reason}");
            *reason
        }
        other => panic!("{other}"),
    }
}

fn graph_problem(error: EngineError) -> GraphProblem {
    match error {
        EngineError::Graph(problem) => problem,
        other => panic!("{other}"),
    }
}

#[test]
fn the_small_graph_itself_is_accepted() {
    run(&engine(&tiny(), 1), &[1, 1, 4, 4], &[1.0; 16]).unwrap();
}

#[test]
fn unknown_operators_and_domains_are_named() {
    let error = with(|model| node_of(model, "logits").op_type = "Einsum".into());
    assert_eq!(
        error.to_string(),
        "the node `logits` (Einsum) is not supported: the engine does not know this operator"
    );
    assert_eq!(node_problem(error, "logits", "Einsum"), NodeProblem::Operator);
    let error = with(|model| node_of(model, "c").domain = "com.microsoft".into());
    assert_eq!(node_problem(error, "c", "Conv"), NodeProblem::Domain("com.microsoft".into()));
}

#[test]
fn attributes_that_change_the_result_are_named() {
    type Change = Box<dyn Fn(&mut Vec<sulcus_onnx::messages::AttributeProto>)>;
    let push = |attribute: sulcus_onnx::messages::AttributeProto| -> Change {
        Box::new(move |attributes| {
            attributes.retain(|other| other.name != attribute.name);
            attributes.push(attribute.clone());
        })
    };
    let cases: [(&str, &str, Change); 12] = [
        ("c", "group", push(attribute::int("group", 2))),
        ("c", "dilations", push(attribute::ints("dilations", &[2, 2]))),
        ("c", "pads", push(attribute::ints("pads", &[0, 0, 0, 0]))),
        ("c", "pads", push(attribute::ints("pads", &[1, 1, 1, 1, 1, 1]))),
        ("c", "strides", push(attribute::ints("strides", &[3, 3]))),
        ("c", "strides", push(attribute::ints("strides", &[1]))),
        ("c", "kernel_shape", push(attribute::ints("kernel_shape", &[5, 5]))),
        ("c", "strides", push(attribute::int("strides", 1))),
        ("c", "fused_activation", push(attribute::int("fused_activation", 1))),
        ("logits", "ceil_mode", push(attribute::int("ceil_mode", 1))),
        ("logits", "kernel_shape", push(attribute::ints("kernel_shape", &[3, 3]))),
        ("logits", "strides", push(attribute::ints("strides", &[1, 1]))),
    ];
    for (node, name, change) in cases {
        let error = with(|model| change(&mut node_of(model, node).attribute));
        let text = error.to_string();
        let operator = if node == "c" { "Conv" } else { "MaxPool" };
        let problem = node_problem(error, node, operator);
        assert!(matches!(&problem, NodeProblem::Attribute { name: found, .. } if found == name), "{name}: {text}");
    }
    let error = with(|model| {
        let attributes = &mut node_of(model, "c").attribute;
        attributes.push(attributes[0].clone());
    });
    assert!(error.to_string().contains("it occurs twice"), "{error}");
}

#[test]
fn cycles_and_missing_constants_are_named() {
    let error = with(|model| model.graph.as_mut().unwrap().initializer.retain(|tensor| tensor.name != "c.w"));
    assert_eq!(node_problem(error, "c", "Conv"), NodeProblem::Undefined("c.w".into()));
    let error = with(|model| node_of(model, "c").input[0] = "logits".into());
    assert_eq!(node_problem(error, "c", "Conv"), NodeProblem::Undefined("logits".into()));
    let error = with(|model| node_of(model, "c").input[0] = "c".into());
    assert_eq!(node_problem(error, "c", "Conv"), NodeProblem::Undefined("c".into()));
    let error = with(|model| node_of(model, "logits").output[0] = "c".into());
    assert!(matches!(node_problem(error, "logits", "MaxPool"), NodeProblem::Input { .. }));
    let error = with(|model| node_of(model, "logits").output[0] = "other".into());
    assert_eq!(graph_problem(error), GraphProblem::NoOutput("logits".into()));
    let error = with(|model| {
        let constants = &mut model.graph.as_mut().unwrap().initializer;
        constants.push(constants[0].clone());
    });
    assert_eq!(graph_problem(error), GraphProblem::DefinedTwice("c.w".into()));
}

#[test]
fn wrong_types_ranks_and_sizes_are_named() {
    let dims = |model: &mut ModelProto, change: &dyn Fn(&mut Vec<sulcus_onnx::messages::DimensionProto>)| {
        let kind = model.graph.as_mut().unwrap().input[0].r#type.as_mut().unwrap();
        let Some(TypeValue::Tensor(tensor)) = kind.value.as_mut() else { panic!("a tensor") };
        change(&mut tensor.shape.as_mut().unwrap().dim);
    };
    for change in [
        &(|dims: &mut Vec<_>| dims.truncate(3)) as &dyn Fn(&mut Vec<sulcus_onnx::messages::DimensionProto>),
        &|dims| dims.extend(vec![dims[0].clone(); 2]),
        &|dims| dims[1].value = Some(DimensionValue::Param("C".into())),
        &|dims| dims[1].value = Some(DimensionValue::Value(-1)),
        &|dims| dims[1].value = Some(DimensionValue::Value(i64::MAX)),
    ] {
        let error = with(|model| dims(model, change));
        assert_eq!(graph_problem(error), GraphProblem::InputType("image".into()));
    }
    // A 3-D input for 2-D weights.
    let error = with(|model| dims(model, &|dims| dims.push(dims[0].clone())));
    assert!(matches!(node_problem(error, "c", "Conv"), NodeProblem::Input { name, .. } if name == "c.w"));
    let error = with(|model| dims(model, &|dims| dims[1].value = Some(DimensionValue::Value(7))));
    assert!(matches!(node_problem(error, "c", "Conv"), NodeProblem::Input { name, .. } if name == "c.w"));

    let constant = |change: &dyn Fn(&mut sulcus_onnx::messages::TensorProto)| {
        graph_problem(with(|model| change(&mut model.graph.as_mut().unwrap().initializer[0])))
    };
    for problem in [
        constant(&|tensor| tensor.data_type = 11),
        constant(&|tensor| tensor.raw_data.truncate(5)),
        constant(&|tensor| tensor.dims = vec![i64::MAX, i64::MAX, 3, 3]),
        constant(&|tensor| tensor.dims = vec![-2, -1, 3, 3]),
    ] {
        assert!(matches!(problem, GraphProblem::Constant { name, .. } if name == "c.w"));
    }
    let error = with(|model| {
        model.graph.as_mut().unwrap().initializer[0].raw_data[..4].copy_from_slice(&f32::NAN.to_le_bytes());
    });
    assert!(error.to_string().contains("finite"), "{error}");
    let error = with(|model| {
        let tensor = &mut model.graph.as_mut().unwrap().initializer[0];
        tensor.data_type = 6;
    });
    assert!(
        matches!(node_problem(error, "c", "Conv"), NodeProblem::Input { found, .. } if found.contains("int32"))
    );
}

#[test]
fn graphs_with_other_inputs_outputs_or_versions_are_refused() {
    let error = with(|model| {
        let graph = model.graph.as_mut().unwrap();
        let mut other = graph.input[0].clone();
        other.name = "other".into();
        graph.input.push(other);
    });
    assert_eq!(graph_problem(error), GraphProblem::Inputs(2));
    assert_eq!(graph_problem(with(|model| model.graph.as_mut().unwrap().input.clear())), GraphProblem::Inputs(0));
    assert_eq!(
        graph_problem(with(|model| model.graph.as_mut().unwrap().output.clear())),
        GraphProblem::Outputs(0)
    );
    for version in [0, 9, 99] {
        let set = OperatorSetIdProto { domain: String::new(), version };
        let error = with(|model| model.opset_import = vec![set]);
        assert_eq!(graph_problem(error), GraphProblem::OperatorSet { found: version, first: 13, last: 24 });
    }
    assert!(matches!(refusal(b"\x89PNG"), EngineError::Model(_)));
}

#[test]
fn even_kernels_and_other_upsampling_are_refused() {
    let mut graph = TestGraph::new(2, 1, 2);
    graph.random("w", &[2, 1, 4, 4], 1.0);
    graph.node("Conv", &["image", "w"], "logits", conv_attributes(&[4, 4], 1));
    assert!(matches!(node_problem(refusal(&graph.bytes()), "logits", "Conv"), NodeProblem::Attribute { .. }));
    let mut graph = TestGraph::new(2, 1, 2);
    graph.random("w", &[1, 2, 3, 3], 1.0);
    graph.node("ConvTranspose", &["image", "w"], "logits", vec![attribute::ints("strides", &[2, 2])]);
    assert!(matches!(
        node_problem(refusal(&graph.bytes()), "logits", "ConvTranspose"),
        NodeProblem::Attribute { .. }
    ));
    let mut graph = TestGraph::new(2, 1, 2);
    graph.conv("image", "c", [1, 2], 1, 1).constant("f", &[4], &[1.0, 1.0, 1.5, 2.0]);
    graph.node("Resize", &["c", "", "f"], "logits", vec![]);
    assert!(matches!(node_problem(refusal(&graph.bytes()), "logits", "Resize"), NodeProblem::Input { .. }));
}

/// A small file must not request a large amount of memory by using its constants again and again.
#[test]
fn graphs_that_multiply_their_constants_are_refused() {
    let mut graph = TestGraph::new(2, 1, 1);
    graph.random("w", &[512, 1, 3, 3], 1.0).random("v", &[1, 512, 3, 3], 1.0);
    let mut value = "image".to_owned();
    for layer in 0..5000 {
        let (wide, next) = (format!("wide{layer}"), format!("next{layer}"));
        graph.node("Conv", &[&value, "w"], &wide, conv_attributes(&[3, 3], 1));
        graph.node("Conv", &[&wide, "v"], &next, conv_attributes(&[3, 3], 1));
        value = next;
    }
    graph.conv(&value, "logits", [1, 1], 1, 1);
    let error = refusal(&graph.bytes());
    assert!(error.to_string().contains("many times the memory of the file"), "{error}");

    let mut graph = TestGraph::new(2, 1, 1);
    graph.node("LeakyRelu", &["image"], "0", vec![]);
    for layer in 0..1 << 15 {
        graph.node("LeakyRelu", &[&layer.to_string()], &(layer + 1).to_string(), vec![]);
    }
    assert!(matches!(graph_problem(refusal(&graph.bytes())), GraphProblem::Nodes { found: 32769, most: 32768 }));
}

#[test]
fn damaged_files_never_panic() {
    let mut noise = Noise(9);
    let (mut accepted, mut refused) = (0, 0);
    for model in [tiny(), unet(2), unet(3)] {
        let shape = if model.len() > tiny().len() { 2 } else { 1 };
        for _ in 0..3000 {
            let mut damaged = model.clone();
            for _ in 0..=noise.below(3) {
                let at = noise.below(damaged.len());
                damaged[at] = noise.below(256) as u8;
            }
            if noise.below(8) == 0 {
                damaged.truncate(noise.below(damaged.len()));
            }
            match Engine::new(&damaged, &EngineOptions::default()) {
                Ok(engine) => {
                    accepted += 1;
                    // Most of them still run; whether they do depends on the damaged byte.
                    let axes = [vec![1, shape, 8, 8], vec![1, shape, 8, 8, 8]];
                    for shape in axes {
                        run(&engine, &shape, &vec![0.5; shape.iter().product()]).ok();
                    }
                }
                Err(_) => refused += 1,
            }
        }
    }
    assert!(accepted > 100 && refused > 100, "{accepted} accepted, {refused} refused");
}
