//! A 3-D convolution computed as a 2-D convolution.
//!
//! Engines have fast 8-bit kernels for 2-D convolutions, while those for 3-D convolutions are no faster than single
//! precision. A 3-D kernel of depth k reads k neighbouring slices of the input for each slice of the output. Stacked as
//! channels, these slices give a 2-D convolution with the same products and sums. All slices of a volume, one below the other
//! with the padding between them, form one tall image. So the volume is padded, its k shifted copies are concatenated as
//! channels, `[N, C, D, H, W]` is reshaped to `[N, kC, D·H, W]`, and the surplus rows between the slices are removed from the
//! output. With 8-bit values the copies are cheap.

use crate::OnnxError;
use crate::builder::attribute;
use crate::messages::{AttributeProto, NodeProto};
use crate::rewriter::{GraphRewriter, Weights, ints_attribute};

/// The axes of `[N, C, D, H, W]`.
const DEPTH: i64 = 2;
const HEIGHT: i64 = 3;
const WIDTH: i64 = 4;

/// A 3-D convolution that can be computed as a 2-D one.
pub(super) struct Conv3d {
    kernel: [usize; 3],
    stride: [usize; 3],
}

/// The input volume as a tall 2-D image.
pub(super) struct FlattenedInput {
    /// The name of the quantized image.
    pub(super) value: String,
    /// The attributes of the 2-D convolution: kernel, strides and padding.
    pub(super) attributes: Vec<AttributeProto>,
    /// The name of the value with the number of output slices.
    depth: String,
    /// The number of surplus rows at the end of each output slice.
    surplus_rows: usize,
}

impl Conv3d {
    /// The convolution of a node; `None` if it is not a 3-D convolution, or not one that can be computed this way: the kernel
    /// must be odd with `same` padding, and the output slices must have a whole number of rows.
    pub(super) fn from_node(node: &NodeProto) -> Option<Self> {
        let triple = |name: &str| <[usize; 3]>::try_from(ints_attribute(node, name)).ok();
        let (kernel, stride) = (triple("kernel_shape")?, triple("strides")?);
        let odd = kernel.iter().all(|edge| edge % 2 == 1) && stride.iter().all(|s| *s > 0);
        let half = kernel.map(|edge| edge / 2);
        let centred = ints_attribute(node, "pads") == [half, half].concat();
        let [_, rows, _] = half;
        let [_, step, _] = stride;
        (odd && centred && (2 * rows).is_multiple_of(step)).then_some(Self { kernel, stride })
    }

    /// Reorders weights from `[out, C, k, h, w]` to `[out, kC, h, w]`, the order in which the shifted copies are stacked.
    pub(super) fn flatten_weights(&self, weights: &Weights) -> Weights {
        let [depth, height, width] = self.kernel;
        let plane = height * width;
        let channels = weights.shape.get(1).copied().unwrap_or_default();
        let mut values = Vec::with_capacity(weights.values.len());
        for kernel in weights.values.chunks_exact((channels * depth * plane).max(1)) {
            for slice in 0..depth {
                for channel in kernel.chunks_exact(depth * plane) {
                    values.extend(channel.iter().skip(slice * plane).take(plane));
                }
            }
        }
        let outputs = weights.shape.first().copied().unwrap_or_default();
        Weights { shape: vec![outputs, depth * channels, height, width], values }
    }

    /// Adds the nodes that flatten `quantized`, a quantized volume with the zero point `zero`. `name` is the name of the
    /// convolution.
    pub(super) fn flatten_input(
        &self,
        rewriter: &mut GraphRewriter,
        quantized: &str,
        zero: &str,
        name: &str,
    ) -> Result<FlattenedInput, OnnxError> {
        let [depth, height, width] = self.kernel;
        let [pad_depth, pad_rows, pad_columns] = self.kernel.map(|edge| edge / 2);
        let [step, row_step, column_step] = self.stride;
        let mut value = quantized.to_owned();
        if pad_depth + pad_rows > 0 {
            let (d, h) = (pad_depth as i64, pad_rows as i64);
            let pads = rewriter.integers(format!("{name}.pads"), &[0, 0, d, h, 0, 0, 0, d, h, 0]);
            value = rewriter.node("Pad", &[&value, &pads, zero], format!("{name}.padded"), vec![]);
        }
        if depth > 1 || step > 1 {
            let axis = rewriter.integers("axis.depth".into(), &[DEPTH]);
            let steps = rewriter.integers(format!("step.{step}"), &[step as i64]);
            let mut copies = Vec::with_capacity(depth);
            for slice in 0..depth {
                let start = rewriter.integers(format!("start.{slice}"), &[slice as i64]);
                // All copies have the same length: copy `slice` starts at `slice` and ends as much earlier than the last one.
                let end = match depth - 1 - slice {
                    0 => i64::MAX,
                    missing => -(missing as i64),
                };
                let end = rewriter.integers(format!("end.{end}"), &[end]);
                let inputs = [value.as_str(), &start, &end, &axis, &steps];
                copies.push(rewriter.node("Slice", &inputs, format!("{name}.slice.{slice}"), vec![]));
            }
            value = match copies.as_slice() {
                [one] => one.clone(),
                all => {
                    let all: Vec<&str> = all.iter().map(String::as_str).collect();
                    rewriter.node("Concat", &all, format!("{name}.stacked"), vec![attribute::int("axis", 1)])
                }
            };
        }
        let depth = length(rewriter, &value, DEPTH, format!("{name}.depth"));
        let columns = length(rewriter, &value, WIDTH, format!("{name}.columns"));
        let lead = rewriter.integers("lead.slices".into(), &[0, 0, -1]);
        let along = vec![attribute::int("axis", 0)];
        let shape = rewriter.node("Concat", &[&lead, &columns], format!("{name}.tall.shape"), along);
        let value = rewriter.node("Reshape", &[&value, &shape], format!("{name}.tall"), vec![]);
        let attributes = vec![
            attribute::ints("kernel_shape", &[height, width]),
            attribute::ints("strides", &[row_step, column_step]),
            // With the vertical padding at the end, the output rows are a whole number of slices.
            attribute::ints("pads", &[0, pad_columns, 2 * pad_rows, pad_columns]),
        ];
        Ok(FlattenedInput { value, attributes, depth, surplus_rows: 2 * pad_rows / row_step })
    }
}

impl FlattenedInput {
    /// Adds the nodes that reshape `quantized`, the quantized output of the 2-D convolution, to a volume.
    pub(super) fn unflatten_output(self, rewriter: &mut GraphRewriter, quantized: &str, name: &str) -> String {
        let columns = length(rewriter, quantized, HEIGHT, format!("{name}.block.columns"));
        let lead = rewriter.integers("lead.block".into(), &[0, 0]);
        let rows = rewriter.integers("rows.block".into(), &[-1]);
        let along = vec![attribute::int("axis", 0)];
        let shape = [lead.as_str(), &self.depth, &rows, &columns];
        let shape = rewriter.node("Concat", &shape, format!("{name}.block.shape"), along);
        let block = rewriter.node("Reshape", &[quantized, &shape], format!("{name}.block"), vec![]);
        if self.surplus_rows == 0 {
            return block;
        }
        let start = rewriter.integers("start.0".into(), &[0]);
        let end = -(self.surplus_rows as i64);
        let end = rewriter.integers(format!("end.{end}"), &[end]);
        let axis = rewriter.integers("axis.height".into(), &[HEIGHT]);
        rewriter.node("Slice", &[&block, &start, &end, &axis], format!("{name}.rows"), vec![])
    }
}

/// Adds a node that computes the length of an axis at run time, as a list of one number.
fn length(rewriter: &mut GraphRewriter, value: &str, axis: i64, output: String) -> String {
    let range = vec![attribute::int("start", axis), attribute::int("end", axis + 1)];
    rewriter.node("Shape", &[value], output, range)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(kernel: [usize; 3], strides: [usize; 3], pads: [usize; 3]) -> NodeProto {
        let attribute = vec![
            attribute::ints("kernel_shape", &kernel),
            attribute::ints("strides", &strides),
            attribute::ints("pads", &[pads, pads].concat()),
        ];
        NodeProto { op_type: "Conv".into(), attribute, ..NodeProto::default() }
    }

    #[test]
    fn only_odd_kernels_with_same_padding_are_supported() {
        assert!(Conv3d::from_node(&node([3; 3], [2; 3], [1; 3])).is_some());
        assert!(Conv3d::from_node(&node([1, 3, 3], [1, 2, 2], [0, 1, 1])).is_some());
        assert!(Conv3d::from_node(&node([2; 3], [1; 3], [1; 3])).is_none(), "an even kernel");
        assert!(Conv3d::from_node(&node([3; 3], [1; 3], [0; 3])).is_none(), "other padding");
        assert!(
            Conv3d::from_node(&node([3; 3], [1, 3, 1], [1; 3])).is_none(),
            "two rows are no multiple of three"
        );
    }

    #[test]
    fn flatten_weights_turns_slices_into_channels() {
        let conv = Conv3d::from_node(&node([3, 1, 1], [1; 3], [1, 0, 0])).unwrap();
        // One output, two input channels, three slices.
        let weights = Weights { shape: vec![1, 2, 3, 1, 1], values: vec![1.0, 2.0, 3.0, 10.0, 20.0, 30.0] };
        let flat = conv.flatten_weights(&weights);
        assert_eq!(flat.shape, [1, 6, 1, 1]);
        assert_eq!(flat.values, [1.0, 10.0, 2.0, 20.0, 3.0, 30.0]);
    }
}
