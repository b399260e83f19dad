//! The forward pass.

use super::tile::{
    TILE_REGISTERS, multiply_tile, panels_per_block, repeat_voxels, return_panel_buffer, store_tile,
    take_panel_buffer, tile_height,
};
use super::{ConvTranspose, Slab};
use crate::simd::{Kernel, Simd, copy};

/// The forward pass of one slab.
pub(super) struct Forward<'a> {
    pub(super) layer: &'a ConvTranspose,
    pub(super) slab: Slab,
    /// The input from the slab's sample on.
    pub(super) x: &'a [f32],
    pub(super) packed: &'a [u64],
    pub(super) bias: &'a [f32],
    /// The slab of each output channel.
    pub(super) y: Vec<&'a mut [f32]>,
}

impl Kernel for Forward<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let width = TILE_REGISTERS * S::LANES;
        let columns = self.slab.planes * self.layer.plane() * self.layer.stride[2];
        let block_len = panels_per_block(self.layer.inputs, width).min(columns.div_ceil(width)) * width;
        let len = (self.layer.inputs + tile_height::<S>()) * block_len;
        let mut panels = take_panel_buffer(len);
        let scratch = &mut panels[..len];
        if S::HAS_32_REGISTERS {
            self.tiles::<S, 8>(simd, scratch)
        } else {
            self.tiles::<S, 4>(simd, scratch)
        }
        return_panel_buffer(panels);
    }
}

impl Forward<'_> {
    #[inline(always)]
    fn tiles<S: Simd, const HEIGHT: usize>(mut self, simd: S, scratch: &mut [f32]) {
        let layer = self.layer;
        let [sd, sh, sw] = layer.stride;
        let width = TILE_REGISTERS * S::LANES;
        let columns = self.slab.planes * layer.plane() * sw;
        let first = self.slab.start * layer.plane();
        let panel_len = layer.inputs * width;
        let block_len = scratch.len() / (layer.inputs + HEIGHT);
        let (panels, out) = scratch.split_at_mut(layer.inputs * block_len);
        let mut runs = Vec::new();
        for block in (0..columns).step_by(block_len) {
            let count = block_len.min(columns - block);
            for input in 0..layer.inputs {
                let from = input * layer.voxels() + first + block / sw;
                let x = &self.x[from..from + count / sw];
                for (x, panel) in x.chunks(width / sw).zip(panels.chunks_exact_mut(panel_len)) {
                    repeat_voxels(x, sw, &mut panel[input * width..][..x.len() * sw]);
                }
            }
            layer.find_runs(block, count, &mut runs);
            for (at, weights) in self.packed.chunks_exact(HEIGHT * layer.inputs).enumerate() {
                let rows = at * HEIGHT..layer.rows().min((at + 1) * HEIGHT);
                let mut bias = [[simd.splat(0.0); TILE_REGISTERS]; HEIGHT];
                for (bias, row) in bias.iter_mut().zip(rows.clone()) {
                    *bias = [simd.splat(self.bias[row / (sd * sh)]); TILE_REGISTERS];
                }
                for (panel, values) in panels.chunks_exact(panel_len).take(count.div_ceil(width)).enumerate() {
                    let sums = multiply_tile(simd, weights, simd.chunks(values).0, bias);
                    store_tile(simd, &sums, out, panel, block_len);
                }
                for (row, out) in rows.zip(out.chunks_exact(block_len)) {
                    let y = &mut self.y[row / (sd * sh)][layer.row_offset(row)..];
                    for run in &runs {
                        copy(simd, &out[run.at..run.at + run.len], &mut y[run.to..run.to + run.len]);
                    }
                }
            }
        }
    }
}
