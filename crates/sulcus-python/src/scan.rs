use numpy::{PyReadonlyArray3, PyUntypedArrayMethods};
use pyo3::prelude::*;
use sulcus_volume::{Geometry, Image, OrientationSource, RasFromVoxel};

use crate::error::{self, InputError, SulcusError};

/// A scan in the making. Its voxels come block by block, so that an array of another type or order is never copied as a
/// whole before it is copied here.
#[pyclass(module = "sulcus._sulcus")]
pub(crate) struct Scan {
    geometry: Geometry,
    channels: usize,
    values: Vec<f32>,
}

#[pymethods]
impl Scan {
    /// An empty grid of so many voxels along x, y and z.
    #[new]
    fn new(shape: [usize; 3], channels: usize, ras_from_voxel: [[f64; 4]; 3]) -> PyResult<Self> {
        let map = RasFromVoxel::new(ras_from_voxel).map_err(|e| error::of_volume(&e))?;
        // Whoever gives a transform vouches for it, as a header's sform does.
        let geometry = Geometry::new(shape, map, OrientationSource::Sform).map_err(|e| error::of_volume(&e))?;
        let mut values = Vec::new();
        let room = geometry.voxels().checked_mul(channels).and_then(|n| values.try_reserve_exact(n).ok());
        room.ok_or_else(|| {
            SulcusError::new_err(format!(
                "a scan of {shape:?} voxels and {channels} channel(s) does not fit in memory"
            ))
        })?;
        Ok(Self { geometry, channels, values })
    }

    /// Adds the next slices of a channel.
    ///
    /// # Shapes
    /// `[x, y, z]`, first axis fastest.
    fn append(&mut self, block: PyReadonlyArray3<'_, f32>) -> PyResult<()> {
        if !block.is_fortran_contiguous() {
            return Err(InputError::new_err("a block of voxels must have its first axis fastest"));
        }
        self.values.extend_from_slice(block.as_slice()?);
        Ok(())
    }
}

impl Scan {
    /// The image, which leaves nothing behind.
    pub(crate) fn take(&mut self) -> PyResult<Image> {
        let values = std::mem::take(&mut self.values);
        Image::new(self.geometry, self.channels, values).map_err(|e| error::of_volume(&e))
    }
}
