//! The cross-correlation behind the forward pass and the input gradient: this file sets it up, [`execute`] computes it.

mod execute;

use super::pack::{PaddedLayout, WeightStrides, pack_weights};
use super::shape::ConvShape;
use crate::scratch::{LANES, Scratch};

/// One axis of a [`PhaseCorrelation`].
#[derive(Debug, Clone, PartialEq, Eq)]
struct Axis {
    /// The number of outputs along the axis.
    count: usize,
    /// The step in the padded input from one output to the next. Along W it is always 1, because the column phases are
    /// stored separately.
    in_step: usize,
    /// The index of the first output.
    out_first: usize,
    /// The step from one output to the next.
    out_step: usize,
    /// The taps that contribute: kernel index and offset in the padded input.
    taps: Vec<(usize, usize)>,
}

/// The cross-correlation for the outputs of one phase, which use the same taps.
struct PhaseCorrelation {
    axes: [Axis; 3],
    /// The number of taps per tap row.
    taps: usize,
    /// Packed weights, `[panel][tap row][channel][tap][16]`.
    weights: Scratch,
    tap_rows: Vec<TapRow>,
}

/// One or three neighbouring taps along W that share their inputs.
struct TapRow {
    /// The offsets along D and H in the padded input.
    offset: [usize; 2],
    /// The offset of its first tap in a padded row, in floats.
    column: usize,
    /// The offset of its weights in a panel, in floats.
    weights: usize,
}

/// A forward pass or an input gradient with packed weights, ready to run.
pub(super) struct Correlation {
    padded: PaddedLayout,
    channels: usize,
    outputs: usize,
    /// D, H and W of the output.
    out_size: [usize; 3],
    /// The initial value of the accumulators, `[panel][16]`: the bias.
    initial: Vec<f32>,
    phases: Vec<PhaseCorrelation>,
}

impl Correlation {
    /// The forward pass.
    pub(super) fn forward(shape: &ConvShape, weight: &[f32], bias: Option<&[f32]>) -> Self {
        let output = shape.output_size();
        let axes = std::array::from_fn(|axis| Axis {
            count: output[axis],
            in_step: if axis == 2 { 1 } else { shape.stride[axis] },
            out_first: 0,
            out_step: 1,
            taps: (0..shape.kernel[axis]).map(|tap| (tap, tap)).collect(),
        });
        let strides = WeightStrides { lane: shape.inputs * shape.taps(), channel: shape.taps() };
        let mut initial = vec![0.0; shape.outputs.next_multiple_of(LANES)];
        if let Some(bias) = bias {
            initial[..shape.outputs].copy_from_slice(bias);
        }
        let mut correlation = Self {
            padded: PaddedLayout::forward(shape),
            channels: shape.inputs,
            outputs: shape.outputs,
            out_size: output,
            initial,
            phases: Vec::new(),
        };
        correlation.push(shape, axes, weight, strides);
        correlation
    }

    /// The input gradient: one cross-correlation per phase of the stride, since inputs that are a stride apart use the same
    /// taps.
    pub(super) fn input_gradient(shape: &ConvShape, weight: &[f32]) -> Self {
        let output = shape.output_size();
        let phases: [Vec<Axis>; 3] = std::array::from_fn(|axis| gradient_phases(shape, axis));
        let padding = shape.kernel.map(|edge| edge / 2);
        let padded_size = std::array::from_fn(|axis| {
            let reads = phases[axis].iter().map(|phase| {
                let last_tap = phase.taps.iter().map(|&(_, offset)| offset).max().unwrap_or(0);
                phase.count + last_tap
            });
            reads.max().unwrap_or(0).max(padding[axis] + output[axis])
        });
        let mut correlation = Self {
            padded: PaddedLayout::single_phase(shape.outputs, output, padding, padded_size),
            channels: shape.outputs,
            outputs: shape.inputs,
            out_size: shape.size,
            initial: vec![0.0; shape.inputs.next_multiple_of(LANES)],
            phases: Vec::new(),
        };
        let strides = WeightStrides { lane: shape.taps(), channel: shape.inputs * shape.taps() };
        for d in &phases[0] {
            for h in &phases[1] {
                for w in &phases[2] {
                    correlation.push(shape, [d.clone(), h.clone(), w.clone()], weight, strides);
                }
            }
        }
        correlation
    }

    /// Adds the outputs of one phase.
    fn push(&mut self, shape: &ConvShape, axes: [Axis; 3], weight: &[f32], strides: WeightStrides) {
        let [d, h, w] = &axes;
        // Three neighbouring taps form one tap row. Other taps, and taps in different column phases, are rows of one.
        let position = |&(_, offset): &(usize, usize)| self.padded.offset([0, 0, offset]);
        let neighbours = w.taps.len() == 3 && w.taps.is_sorted_by(|a, b| position(b) == position(a) + 1);
        let taps = if neighbours { 3 } else { 1 };
        let (mut kernel, mut tap_rows) = (Vec::new(), Vec::new());
        for &(kd, d) in &d.taps {
            for &(kh, h) in &h.taps {
                for group in w.taps.chunks(taps) {
                    let Some(&(_, first)) = group.first() else { continue };
                    let column = self.padded.offset([0, 0, first]);
                    tap_rows.push(TapRow {
                        offset: [d, h],
                        column,
                        weights: kernel.len() * self.channels * LANES,
                    });
                    kernel.extend(group.iter().map(|(kw, _)| (kd * shape.kernel[1] + kh) * shape.kernel[2] + kw));
                }
            }
        }
        let weights = pack_weights(weight, strides, self.outputs, self.channels, &kernel, taps);
        self.phases.push(PhaseCorrelation { axes, taps, weights, tap_rows });
    }

    /// The offset of an output in its channel.
    fn output_offset(&self, axes: &[Axis; 3], at: [usize; 3]) -> usize {
        let [d, h, w] = std::array::from_fn(|axis| axes[axis].out_first + at[axis] * axes[axis].out_step);
        (d * self.out_size[1] + h) * self.out_size[2] + w
    }
}

/// The outputs of the input gradient along one axis, by phase.
///
/// With padding `p` and stride `s`, the forward pass multiplies input `x` by tap `k = x + p - s·o` for output `o`. For
/// `x = s·q + r` this gives `o = q + (r + p - k) / s`, for the taps `k` for which the division is exact.
fn gradient_phases(shape: &ConvShape, axis: usize) -> Vec<Axis> {
    let (size, kernel, stride) = (shape.size[axis], shape.kernel[axis], shape.stride[axis]);
    let padding = kernel / 2;
    (0..stride.min(size))
        .map(|first| {
            let first_tap = (first + padding) % stride;
            // The padded layout begins with `padding` zeros, which is at least as far as the last tap reaches back.
            let mut taps: Vec<_> = (first_tap..kernel)
                .step_by(stride)
                .map(|tap| (tap, (first + padding + stride * padding - tap) / stride))
                .collect();
            taps.reverse();
            let count = (size - first).div_ceil(stride);
            Axis { count, in_step: 1, out_first: first, out_step: stride, taps }
        })
        .collect()
}
