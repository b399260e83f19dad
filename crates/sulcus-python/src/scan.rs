use numpy::{PyReadonlyArray3, PyUntypedArrayMethods};
use pyo3::prelude::*;
use sulcus_volume::{Geometry, Image, OrientationSource, RasFromVoxel};

use crate::error::{self, InputError, SulcusError};

/// A scan under construction. Its voxels are appended block by block, so an array of another type or memory order is
/// converted in blocks and not as a whole.
#[pyclass(module = "sulcus._sulcus")]
pub(crate) struct Scan {
    geometry: Geometry,
    channels: usize,
    values: Vec<f32>,
}

#[pymethods]
impl Scan {
    /// A scan of this shape `[x, y, z]` without voxels yet. The transform of an image without orientation is a guess.
    #[new]
    fn new(
        shape: [usize; 3],
        channels: usize,
        ras_from_voxel: [[f64; 4]; 3],
        orientation_known: bool,
    ) -> PyResult<Self> {
        let map = RasFromVoxel::new(ras_from_voxel).map_err(|e| error::volume_error(&e))?;
        // A transform from the caller counts as known, like the sform of a header.
        let source = if orientation_known { OrientationSource::Sform } else { OrientationSource::None };
        let geometry = Geometry::new(shape, map, source).map_err(|e| error::volume_error(&e))?;
        let mut values = Vec::new();
        let reserved = geometry.voxels().checked_mul(channels).and_then(|n| values.try_reserve_exact(n).ok());
        reserved.ok_or_else(|| {
            SulcusError::new_err(format!(
                "a scan of {shape:?} voxels and {channels} channel(s) does not fit in memory"
            ))
        })?;
        Ok(Self { geometry, channels, values })
    }

    /// Appends the next slices of a channel.
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
    /// Takes the image out and leaves the scan empty.
    pub(crate) fn take(&mut self) -> PyResult<Image> {
        let values = std::mem::take(&mut self.values);
        Image::new(self.geometry, self.channels, values).map_err(|e| error::volume_error(&e))
    }
}
