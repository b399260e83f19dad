//! A transposed convolution computed as a 1×1 convolution.
//!
//! Where the kernel has the size of the stride, each voxel of the input makes a block of the output of its own, and no two blocks
//! overlap. So the transposed convolution is a 1×1 convolution that computes all voxels of the blocks as channels, followed by a
//! permutation that moves them to their places:
//! `[N, C, D, H, W]` → `[N, K·d·h·w, D, H, W]` → `[N·K, d, h, w, D, H, W]` → `[N·K, D, d, H, h, W, w]` → `[N, K, D·d, H·h, W·w]`.
//! (Shi et al. 2016, "Real-time single image and video super-resolution using an efficient sub-pixel convolutional neural
//! network", describe the permutation in 2-D.)

use crate::OnnxError;
use crate::builder::attribute;
use crate::messages::NodeProto;
use crate::rewriter::{GraphRewriter, Weights, ints_attribute, name_at};

/// The operator that is replaced.
const OPERATOR: &str = "ConvTranspose";

/// Replaces each transposed convolution by a 1×1 convolution and a permutation, for engines without the operator `ConvTranspose`
/// in 3-D. The logits are those of the original graph up to rounding.
///
/// The file must be one that [`GraphBuilder`](crate::GraphBuilder) wrote, with weights in single precision.
///
/// # Errors
/// [`OnnxError::NotOnnx`], [`OnnxError::Damaged`], and [`OnnxError::ConvTranspose`] for a transposed convolution whose kernel has
/// not the size of its stride, or with padding, dilations or groups.
pub fn conv_transpose_to_conv(onnx_bytes: &[u8]) -> Result<Vec<u8>, OnnxError> {
    let (mut rewriter, nodes) = GraphRewriter::new(onnx_bytes)?;
    for node in nodes {
        if node.op_type == OPERATOR {
            replace(&mut rewriter, &node)?;
        } else {
            rewriter.copy_node(node);
        }
    }
    Ok(rewriter.finish())
}

fn replace(rewriter: &mut GraphRewriter, node: &NodeProto) -> Result<(), OnnxError> {
    let refused = |reason: String| OnnxError::ConvTranspose { node: node.name.clone(), reason };
    let unreadable = |error: OnnxError| refused(error.to_string());
    let block = ints_attribute(node, "strides");
    check(node, &block).map_err(|reason| refused(reason.into()))?;
    let [value, output] = [name_at(&node.input, 0), name_at(&node.output, 0)].map(|name| name.map_err(unreadable));
    let (value, output) = (value?, output?);
    let weights = rewriter.weights(name_at(&node.input, 1).map_err(unreadable)?).map_err(unreadable)?;
    let voxels: usize = block.iter().product();
    let (weights, outputs) = pointwise_weights(&weights, &block)
        .ok_or_else(|| refused(format!("its weights have the shape {:?}", weights.shape)))?;
    let mut inputs = vec![value.to_owned(), {
        let name = format!("{output}.blocks.weight");
        rewriter.floats(name, &weights.shape, &weights.values)
    }];
    if let Some(bias) = node.input.get(2).filter(|name| !name.is_empty()) {
        let bias = rewriter.weights(bias).map_err(unreadable)?;
        let repeated: Vec<f32> =
            bias.values.iter().flat_map(|value| std::iter::repeat_n(*value, voxels)).collect();
        inputs.push(rewriter.floats(format!("{output}.blocks.bias"), &[repeated.len()], &repeated));
    }
    let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
    let attributes = vec![
        attribute::ints("kernel_shape", &vec![1; block.len()]),
        attribute::ints("strides", &vec![1; block.len()]),
        attribute::ints("pads", &vec![0; 2 * block.len()]),
    ];
    let blocks = rewriter.node("Conv", &inputs, format!("{output}.blocks"), attributes);
    permute(rewriter, &blocks, value, outputs, &block, output);
    Ok(())
}

/// Adds the nodes that move the voxels of the blocks, `[N, K·d·h·w, D, H, W]`, to their places in `output`.
fn permute(
    rewriter: &mut GraphRewriter,
    blocks: &str,
    value: &str,
    outputs: usize,
    block: &[usize],
    output: &str,
) {
    let along = || vec![attribute::int("axis", 0)];
    let edges: Vec<i64> = block.iter().map(|edge| *edge as i64).collect();
    let size = rewriter.node("Shape", &[value], format!("{output}.size"), vec![attribute::int("start", 2)]);
    let first = vec![attribute::int("start", 0), attribute::int("end", 1)];
    let batch = rewriter.node("Shape", &[value], format!("{output}.batch"), first);

    let lead = rewriter.integers(format!("{output}.lead"), &[&[-1], edges.as_slice()].concat());
    let split = rewriter.node("Concat", &[&lead, &size], format!("{output}.split.shape"), along());
    let split = rewriter.node("Reshape", &[blocks, &split], format!("{output}.split"), vec![]);
    let rank = block.len();
    let order: Vec<usize> = [0].into_iter().chain((1..=rank).flat_map(|axis| [rank + axis, axis])).collect();
    let order = vec![attribute::ints("perm", &order)];
    let placed = rewriter.node("Transpose", &[&split], format!("{output}.placed"), order);

    let factors = rewriter.integers(format!("{output}.factors"), &edges);
    let enlarged = rewriter.node("Mul", &[&size, &factors], format!("{output}.enlarged"), vec![]);
    let channels = rewriter.integers(format!("{output}.channels"), &[outputs as i64]);
    let shape = [batch.as_str(), &channels, &enlarged];
    let shape = rewriter.node("Concat", &shape, format!("{output}.shape"), along());
    rewriter.node("Reshape", &[&placed, &shape], output.to_owned(), vec![]);
}

fn check(node: &NodeProto, block: &[usize]) -> Result<(), &'static str> {
    let ints = |name| ints_attribute(node, name);
    let group = node.attribute.iter().find(|a| a.name == "group").map_or(1, |a| a.i);
    let padded =
        ["pads", "output_padding", "output_shape"].into_iter().any(|name| ints(name).iter().any(|v| *v > 0));
    if block.is_empty() || block.contains(&0) || ints("kernel_shape") != block {
        Err("its kernel does not have the size of its stride")
    } else if padded || node.attribute.iter().any(|a| a.name == "auto_pad") {
        Err("it has padding")
    } else if group != 1 || ints("dilations").iter().any(|v| *v != 1) {
        Err("it has groups or dilations")
    } else {
        Ok(())
    }
}

/// Reorders weights from `[C, K, d, h, w]` to `[K·d·h·w, C, 1, 1, 1]`. Also returns K. `None` if the kernel is not the block.
fn pointwise_weights(weights: &Weights, block: &[usize]) -> Option<(Weights, usize)> {
    let [inputs, outputs, kernel @ ..] = weights.shape.as_slice() else { return None };
    let rows = outputs * kernel.iter().product::<usize>();
    if kernel != block || rows == 0 || *inputs == 0 {
        return None;
    }
    let columns: Vec<&[f32]> = weights.values.chunks_exact(rows).collect();
    let values = (0..rows).flat_map(|row| columns.iter().filter_map(move |column| column.get(row)).copied());
    let shape = [vec![rows, *inputs], vec![1; block.len()]].concat();
    Some((Weights { shape, values: values.collect() }, *outputs))
}

#[cfg(test)]
mod tests {
    use sulcus_testing::test_spec;

    use super::*;
    use crate::{Axis, GraphBuilder};

    fn model(kernel: &[usize], stride: &[usize], pads: &[usize]) -> Vec<u8> {
        let mut graph = GraphBuilder::new("up");
        let axes = |channels| {
            [vec![Axis::Fixed(1), Axis::Fixed(channels)], vec![Axis::Dynamic("edge"); kernel.len()]].concat()
        };
        graph.input("image", &axes(2), "");
        graph.output("logits", &axes(3), "");
        let shape = [&[2, 3], kernel].concat();
        let values: Vec<f32> = (0..shape.iter().product::<usize>()).map(|i| i as f32).collect();
        graph.constant("w", &shape, &values);
        graph.constant("b", &[3], &[10.0, 20.0, 30.0]);
        let attributes = vec![
            attribute::ints("kernel_shape", kernel),
            attribute::ints("strides", stride),
            attribute::ints("pads", pads),
        ];
        graph.node(OPERATOR, &["image", "w", "b"], "logits", attributes);
        graph.finish(&test_spec(2).build(), "", "0").unwrap()
    }

    #[test]
    fn weights_and_bias_are_repeated_for_each_voxel_of_a_block() {
        let bytes = conv_transpose_to_conv(&model(&[1, 2], &[1, 2], &[0; 4])).unwrap();
        let constants = crate::read_constants(&bytes).unwrap();
        let named = |name: &str| constants.iter().find(|constant| constant.name == name).unwrap();
        // Weights 0 to 5 belong to the first input channel, 6 to 11 to the second.
        let weights = named("logits.blocks.weight");
        assert_eq!(weights.shape, [6, 2, 1, 1]);
        assert_eq!(weights.values, [0.0, 6.0, 1.0, 7.0, 2.0, 8.0, 3.0, 9.0, 4.0, 10.0, 5.0, 11.0]);
        assert_eq!(named("logits.blocks.bias").values, [10.0, 10.0, 20.0, 20.0, 30.0, 30.0]);
        let graph = crate::read_model(&bytes).unwrap().graph.unwrap();
        assert!(graph.node.iter().all(|node| node.op_type != OPERATOR));
        assert_eq!(graph.node.last().unwrap().output, ["logits"]);
    }

    #[test]
    fn overlapping_blocks_and_padding_are_refused() {
        for (kernel, stride, pads, reason) in [
            ([3, 3], [2, 2], [0; 4], "its kernel does not have the size of its stride"),
            ([2, 2], [2, 2], [0, 0, 1, 1], "it has padding"),
        ] {
            let error = conv_transpose_to_conv(&model(&kernel, &stride, &pads)).unwrap_err();
            assert!(error.to_string().contains(reason), "{error}");
        }
    }
}
