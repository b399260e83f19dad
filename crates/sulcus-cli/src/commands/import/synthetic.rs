//! Inputs for the check of an imported model, which comes without scans.

use sulcus_model::{Dimensions, GoldenCase, GridAxes, ModelSpec, Normalisation, SpacingRule};
use sulcus_pipeline::{PipelineError, Tensor};
use sulcus_volume::{Geometry, Image, LabelMap, OrientationSource, RasFromVoxel, Spacing};

/// Maximum edge of a synthetic slice and block; every model file contains one.
const MAX_SLICE_EDGE: usize = 64;
const MAX_BLOCK_EDGE: usize = 32;
/// Maximum edge of a compared tile, unless the network's strides require more.
const MAX_TILE_EDGE: usize = 64;

/// A scan of waves and noise, with the model's voxel size and intensities of its channels.
///
/// # Errors
/// When the model's voxel size makes no grid.
pub(super) fn sample(spec: &ModelSpec) -> Result<GoldenCase, PipelineError> {
    let edge = |axis: usize| spec.patch.iter().rev().nth(axis).copied();
    let shape: [usize; 3] = std::array::from_fn(|axis| match spec.network.dimensions {
        Dimensions::Two => edge(axis).map_or(1, |edge| edge.min(MAX_SLICE_EDGE)),
        Dimensions::Three => edge(axis).map_or(1, |edge| edge.min(MAX_BLOCK_EDGE)),
    });
    let mm = match spec.spacing {
        SpacingRule::Nnunet(rule) => rule.mm.map(|mm| mm.unwrap_or(1.0)),
        SpacingRule::Resample { mm, .. } => mm.mm(),
        SpacingRule::Native => [1.0; 3],
    };
    // The grid's axes are axes of the file, possibly in another order.
    let (mut stored_shape, mut stored_mm) = (shape, mm);
    if let GridAxes::Stored(order) = spec.orientation {
        for (axis, stored) in order.stored_axes().into_iter().enumerate() {
            stored_shape[stored] = shape[axis];
            stored_mm[stored] = mm[axis];
        }
    }
    let map = RasFromVoxel::aligned(spec.orientation.nominal(), Spacing::new(stored_mm)?);
    let geometry = Geometry::new(stored_shape, map, OrientationSource::Sform)?;
    let mut noise = Noise(1);
    let mut values = Vec::with_capacity(geometry.voxels() * spec.channels.len());
    let [nx, ny, nz] = stored_shape;
    for (c, channel) in spec.channels.iter().enumerate() {
        let (centre, width) = match channel.normalisation {
            Normalisation::Ct { mean, sd, .. } => (mean, sd),
            Normalisation::RgbTo01 => (128.0, 30.0),
            Normalisation::None => (0.0, 1.0),
            _ => (100.0, 25.0),
        };
        for i in 0..nx * ny * nz {
            let [x, y, z] = [i % nx, i / nx % ny, i / (nx * ny)].map(|v| v as f32);
            let wave = (0.21 * x + c as f32).sin() + (0.17 * y + 0.3).cos() + (0.29 * z + 1.0).sin();
            values.push(centre + width * (wave + 0.4 * noise.next()));
        }
    }
    let voxels = geometry.voxels();
    let image = Image::new(geometry, spec.channels.len(), values)?;
    Ok(GoldenCase::new(&image, &LabelMap::new(geometry, vec![0; voxels])?))
}

/// A tile of noise as the network sees it.
///
/// # Shapes
/// `[1, C, (D,) H, W]`.
///
/// # Errors
/// When its shape is impossible.
pub(super) fn input(spec: &ModelSpec) -> Result<Tensor, PipelineError> {
    let edges = spec.patch.iter().zip(&spec.padding_multiple).map(|(edge, multiple)| {
        let multiple = (*multiple).max(1);
        (MAX_TILE_EDGE / multiple * multiple).clamp(multiple, (*edge).max(multiple))
    });
    let shape: Vec<usize> = [1, spec.input_channels()].into_iter().chain(edges).collect();
    let voxels: usize = shape.iter().skip(2).product();
    let mut noise = Noise(2);
    let of_scan = spec.channels.len() * voxels;
    // Channels of a mask are 0 or 1.
    let value =
        |(i, noise): (usize, f32)| if i < of_scan { 1.7 * noise } else { f32::from(u8::from(noise > 0.0)) };
    let values = (0..shape.iter().product()).map(|i: usize| value((i, noise.next()))).collect();
    Tensor::new(shape, values)
}

/// Uniform numbers from -1 to 1, the same on every machine.
struct Noise(u32);

impl Noise {
    fn next(&mut self) -> f32 {
        // The generator of Numerical Recipes; its high bits are the better ones.
        self.0 = self.0.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (self.0 >> 8) as f32 / (1 << 23) as f32 - 1.0
    }
}
