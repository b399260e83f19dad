use sulcus_model::CanonicalGrid;
use sulcus_volume::{Geometry, Image, LabelMap, Orientation, RasFromVoxel, Reorientation, Spacing};

use super::zoom::{linear, nearest};
use crate::nnunet::reserved;
use crate::preprocess::MAX_EDGE;
use crate::{PipelineError, Resampling};

/// The grid on which the networks of a pack see a scan ([`CanonicalGrid`]), and the way back.
#[derive(Debug, Clone)]
pub struct PackGrid {
    scan: Geometry,
    turn: Reorientation,
    /// The scan turned to right, anterior, superior.
    turned: Geometry,
    grid: Geometry,
    /// Values become whole numbers.
    truncates: bool,
}

impl PackGrid {
    /// The grid for a scan, or for the box of it that was cut out.
    ///
    /// # Errors
    /// [`PipelineError::GridTooLarge`] where the voxel size makes a grid that cannot be processed.
    pub fn new(rule: &CanonicalGrid, scan: &Geometry, is_cropped: bool) -> Result<Self, PipelineError> {
        let turn = Reorientation::between(scan.orientation(), Orientation::RAS);
        let turned = turn.geometry(scan);
        let keeps = Self { scan: *scan, turn, turned, grid: turned, truncates: is_cropped };
        let Some(to_mm) = rule.mm else { return Ok(keeps) };
        // Headers state voxel sizes in single precision.
        let from_mm = turned.spacing().mm().map(|mm| f64::from(mm as f32));
        if from_mm == to_mm {
            return Ok(keeps);
        }
        let from_shape = turned.shape();
        let zoom: [f64; 3] = std::array::from_fn(|axis| from_mm[axis] / to_mm[axis]);
        let voxels = |axis: usize| (from_shape[axis] as f64 * zoom[axis]).round_ties_even() as usize;
        let to_shape = [0, 1, 2].map(|axis| voxels(axis).max(1));
        let rows = turned.ras_from_voxel().rows().map(|[x, y, z, origin]| {
            // The origin stays. Files have these numbers in single precision.
            [x / zoom[0], y / zoom[1], z / zoom[2], origin].map(|v| f64::from(v as f32))
        });
        let grid = RasFromVoxel::new(rows).and_then(|map| turned.with_grid(to_shape, map));
        match grid {
            Ok(grid) if to_shape.iter().all(|edge| *edge <= MAX_EDGE) => {
                Ok(Self { grid, truncates: true, ..keeps })
            }
            _ => {
                let (from_mm, to_mm) = (Spacing::new(from_mm)?, Spacing::new(to_mm)?);
                let resampling = Some(Box::new(Resampling { from_mm, to_mm, from_shape, to_shape }));
                Err(PipelineError::GridTooLarge { shape: to_shape, resampling, max_edge: MAX_EDGE })
            }
        }
    }

    /// The grid.
    pub fn geometry(&self) -> &Geometry {
        &self.grid
    }

    /// The memory that a scan needs to be turned and resampled, besides its own, in bytes.
    pub fn bytes(&self, channels: usize) -> u64 {
        let of =
            |geometry: &Geometry| (geometry.voxels() as u64).saturating_mul((channels * size_of::<f32>()) as u64);
        of(&self.turned).saturating_add(of(&self.grid))
    }

    /// The scan on this grid.
    ///
    /// # Errors
    /// When it has another grid than was said, or there is not enough memory.
    pub fn image(&self, image: &Image) -> Result<Image, PipelineError> {
        self.scan.check_same_grid(image.geometry())?;
        let (from, to) = (self.turned.shape(), self.grid.shape());
        let mut values = reserved(self.grid.voxels().saturating_mul(image.channels()))?;
        let whole = |value: f64| (if self.truncates { value.trunc() } else { value }) as f32;
        for channel in 0..image.channels() {
            let turned = self.turn.apply(image.channel(channel), self.scan.shape());
            if from == to {
                values.extend(turned.into_iter().map(|value| whole(f64::from(value))));
            } else {
                values = linear(&turned, from, to, values, whole);
            }
        }
        Ok(Image::new(self.grid, image.channels(), values)?)
    }

    /// A mask of this grid on the scan's own.
    ///
    /// # Errors
    /// When it has another grid, or there is not enough memory.
    pub fn labels_back(&self, labels: &LabelMap) -> Result<LabelMap, PipelineError> {
        self.grid.check_same_grid(labels.geometry())?;
        let (from, to) = (self.grid.shape(), self.turned.shape());
        let [xs, ys, zs] = std::array::from_fn(|axis| nearest(from[axis], to[axis]));
        let [nx, ny, _] = from;
        let mut turned = reserved(self.turned.voxels())?;
        for z in &zs {
            for y in &ys {
                let row = labels.data().get((z * ny + y) * nx..).unwrap_or_default();
                turned.extend(xs.iter().map(|x| row.get(*x).copied().unwrap_or_default()));
            }
        }
        Ok(LabelMap::new(self.scan, self.turn.inverse().apply(&turned, to))?)
    }
}
