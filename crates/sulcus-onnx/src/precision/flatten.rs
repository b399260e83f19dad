//! A convolution over blocks as one over slices.
//!
//! Engines have fast 8-bit kernels for slices; those for blocks are no faster than single precision. A kernel of depth
//! k sees, for each slice of the output, k neighbouring slices of the input: put side by side as channels they make a
//! convolution over slices with the same products and sums. And the slices of a block, one above the other with the
//! padding that lies between them anyway, are one tall slice. So the block is padded, its shifted copies are stacked as
//! channels, `[N, C, D, H, W]` is read as `[N, kC, D·H, W]`, and the rows that belong to no slice are cut off the
//! answer. In 8 bits the copies cost little.

use crate::OnnxError;
use crate::builder::attribute;
use crate::messages::{AttributeProto, NodeProto};
use crate::precision::rewrite::{Rewrite, Weights, setting};

/// The axes of `[N, C, D, H, W]`.
const DEPTH: i64 = 2;
const HEIGHT: i64 = 3;
const WIDTH: i64 = 4;

/// A convolution over blocks, whose output slices have whole numbers of rows when stacked.
pub(super) struct Blocks {
    kernel: [usize; 3],
    stride: [usize; 3],
}

/// The block as one tall slice.
pub(super) struct Flat {
    /// The slice, in the stored numbers.
    pub(super) value: String,
    /// Kernel, strides and padding over it.
    pub(super) attributes: Vec<AttributeProto>,
    /// How many slices the output has, as a value of the graph.
    depth: String,
    /// Rows at the end of each slice that belong to none.
    surplus: usize,
}

impl Blocks {
    /// What a node asks for, if it can be brought into this form.
    pub(super) fn of(node: &NodeProto) -> Option<Self> {
        let triple = |name: &str| <[usize; 3]>::try_from(setting(node, name)).ok();
        let (kernel, stride) = (triple("kernel_shape")?, triple("strides")?);
        let odd = kernel.iter().all(|edge| edge % 2 == 1) && stride.iter().all(|s| *s > 0);
        let half = kernel.map(|edge| edge / 2);
        let centred = setting(node, "pads") == [half, half].concat();
        let [_, rows, _] = half;
        let [_, step, _] = stride;
        (odd && centred && (2 * rows).is_multiple_of(step)).then_some(Self { kernel, stride })
    }

    /// `[out, C, k, h, w]` as `[out, kC, h, w]`, in the order in which the shifted copies are stacked.
    pub(super) fn reorder(&self, weights: &Weights) -> Weights {
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

    /// Writes the nodes that flatten `bytes`, a block of stored numbers in which the constant `zero` stands for 0.
    /// `name` is the convolution's.
    pub(super) fn flatten(
        &self,
        to: &mut Rewrite,
        bytes: &str,
        zero: &str,
        name: &str,
    ) -> Result<Flat, OnnxError> {
        let [depth, height, width] = self.kernel;
        let [pad_depth, pad_rows, pad_columns] = self.kernel.map(|edge| edge / 2);
        let [step, row_step, column_step] = self.stride;
        let mut value = bytes.to_owned();
        if pad_depth + pad_rows > 0 {
            let (d, h) = (pad_depth as i64, pad_rows as i64);
            let pads = to.integers(format!("{name}.pads"), &[0, 0, d, h, 0, 0, 0, d, h, 0]);
            value = to.node("Pad", &[&value, &pads, zero], format!("{name}.padded"), vec![]);
        }
        if depth > 1 || step > 1 {
            let axis = to.integers("axis.depth".into(), &[DEPTH]);
            let steps = to.integers(format!("step.{step}"), &[step as i64]);
            let mut copies = Vec::with_capacity(depth);
            for slice in 0..depth {
                let start = to.integers(format!("start.{slice}"), &[slice as i64]);
                // The last copy goes to the end; those before it end as much earlier as they start.
                let end = match depth - 1 - slice {
                    0 => i64::MAX,
                    missing => -(missing as i64),
                };
                let end = to.integers(format!("end.{end}"), &[end]);
                let inputs = [value.as_str(), &start, &end, &axis, &steps];
                copies.push(to.node("Slice", &inputs, format!("{name}.slice.{slice}"), vec![]));
            }
            value = match copies.as_slice() {
                [one] => one.clone(),
                all => {
                    let all: Vec<&str> = all.iter().map(String::as_str).collect();
                    to.node("Concat", &all, format!("{name}.stacked"), vec![attribute::int("axis", 1)])
                }
            };
        }
        let depth = length(to, &value, DEPTH, format!("{name}.depth"));
        let columns = length(to, &value, WIDTH, format!("{name}.columns"));
        let lead = to.integers("lead.slices".into(), &[0, 0, -1]);
        let along = vec![attribute::int("axis", 0)];
        let shape = to.node("Concat", &[&lead, &columns], format!("{name}.tall.shape"), along);
        let value = to.node("Reshape", &[&value, &shape], format!("{name}.tall"), vec![]);
        let attributes = vec![
            attribute::ints("kernel_shape", &[height, width]),
            attribute::ints("strides", &[row_step, column_step]),
            // All rows of padding at the end make the output's rows a whole number of slices.
            attribute::ints("pads", &[0, pad_columns, 2 * pad_rows, pad_columns]),
        ];
        Ok(Flat { value, attributes, depth, surplus: 2 * pad_rows / row_step })
    }
}

impl Flat {
    /// Writes the nodes that make `bytes`, the convolution's answer in stored numbers, a block again.
    pub(super) fn unflatten(self, to: &mut Rewrite, bytes: &str, name: &str) -> String {
        let columns = length(to, bytes, HEIGHT, format!("{name}.block.columns"));
        let lead = to.integers("lead.block".into(), &[0, 0]);
        let rows = to.integers("rows.block".into(), &[-1]);
        let along = vec![attribute::int("axis", 0)];
        let shape = [lead.as_str(), &self.depth, &rows, &columns];
        let shape = to.node("Concat", &shape, format!("{name}.block.shape"), along);
        let block = to.node("Reshape", &[bytes, &shape], format!("{name}.block"), vec![]);
        if self.surplus == 0 {
            return block;
        }
        let start = to.integers("start.0".into(), &[0]);
        let end = -(self.surplus as i64);
        let end = to.integers(format!("end.{end}"), &[end]);
        let axis = to.integers("axis.height".into(), &[HEIGHT]);
        to.node("Slice", &[&block, &start, &end, &axis], format!("{name}.rows"), vec![])
    }
}

/// The length of one axis at run time, as a list of one.
fn length(to: &mut Rewrite, value: &str, axis: i64, output: String) -> String {
    let range = vec![attribute::int("start", axis), attribute::int("end", axis + 1)];
    to.node("Shape", &[value], output, range)
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
    fn only_centred_kernels_whose_slices_stack_are_flattened() {
        assert!(Blocks::of(&node([3; 3], [2; 3], [1; 3])).is_some());
        assert!(Blocks::of(&node([1, 3, 3], [1, 2, 2], [0, 1, 1])).is_some());
        assert!(Blocks::of(&node([2; 3], [1; 3], [1; 3])).is_none(), "an even kernel");
        assert!(Blocks::of(&node([3; 3], [1; 3], [0; 3])).is_none(), "other padding");
        assert!(Blocks::of(&node([3; 3], [1, 3, 1], [1; 3])).is_none(), "two rows are no multiple of three");
    }

    #[test]
    fn slices_of_a_kernel_become_channels() {
        let blocks =
            Blocks::of(&node([3, 1, 1], [1; 3], [1, 0, 0])).unwrap_or(Blocks { kernel: [0; 3], stride: [0; 3] });
        // One output, two channels of three slices.
        let weights = Weights { shape: vec![1, 2, 3, 1, 1], values: vec![1.0, 2.0, 3.0, 10.0, 20.0, 30.0] };
        let flat = blocks.reorder(&weights);
        assert_eq!(flat.shape, [1, 6, 1, 1]);
        assert_eq!(flat.values, [1.0, 10.0, 2.0, 20.0, 3.0, 30.0]);
    }
}
