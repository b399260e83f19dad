use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use sulcus_volume::{Geometry, Image, LabelMap, Orientation, OrientationSource, RasFromVoxel, Spacing};

use crate::SpecError;

/// A small input in the model file, and the mask that every engine must compute from it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GoldenCase {
    /// Number of channels.
    pub channels: usize,
    /// Voxels along x, y, z. The axes have the model's orientation.
    pub shape: [usize; 3],
    /// Voxel size in millimetres.
    pub spacing_mm: Spacing,
    /// Values `[C, z, y, x]` in little-endian single precision, as base64.
    pub data_base64: String,
    /// [`label_hash`] of the expected mask.
    pub labels_sha256: String,
    /// Number of foreground voxels in the expected mask, which shows how far a wrong mask deviates.
    pub foreground_voxels: usize,
}

impl GoldenCase {
    /// Stores an image whose axes have the model's orientation, and its mask.
    pub fn new(image: &Image, labels: &LabelMap) -> Self {
        let bytes: Vec<u8> = image.data().iter().flat_map(|v| v.to_le_bytes()).collect();
        Self {
            channels: image.channels(),
            shape: image.geometry().shape(),
            spacing_mm: image.geometry().spacing(),
            data_base64: STANDARD.encode(bytes),
            labels_sha256: label_hash(labels),
            foreground_voxels: foreground(labels),
        }
    }

    /// Decodes the input.
    ///
    /// # Errors
    /// If the data is not base64 or does not fit the shape.
    pub fn image(&self, orientation: Orientation) -> Result<Image, SpecError> {
        let bytes = STANDARD
            .decode(&self.data_base64)
            .map_err(|e| SpecError::Invalid(format!("its golden case is not base64: {e}")))?;
        let values = bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
        let map = RasFromVoxel::aligned(orientation, self.spacing_mm);
        let geometry = Geometry::new(self.shape, map, OrientationSource::Sform)?;
        Ok(Image::new(geometry, self.channels, values)?)
    }

    /// Compares a mask with the expected one.
    ///
    /// # Errors
    /// If they differ.
    pub fn check(&self, labels: &LabelMap) -> Result<(), SpecError> {
        let found = label_hash(labels);
        if found == self.labels_sha256 {
            return Ok(());
        }
        Err(SpecError::Invalid(format!(
            "its golden case gives another mask here: {} foreground voxels instead of {}, SHA-256 {found} instead of {}; \
             this engine or the file is broken",
            foreground(labels),
            self.foreground_voxels,
            self.labels_sha256
        )))
    }
}

fn foreground(labels: &LabelMap) -> usize {
    labels.data().iter().filter(|l| **l != 0).count()
}

/// SHA-256, in hexadecimal, of the labels as 16-bit little-endian numbers in file order.
pub fn label_hash(labels: &LabelMap) -> String {
    let mut hasher = Sha256::new();
    for chunk in labels.data().chunks(4096) {
        let bytes: Vec<u8> = chunk.iter().flat_map(|l| l.to_le_bytes()).collect();
        hasher.update(bytes);
    }
    hasher.finalize().iter().map(|b| format!("{b:02x}")).collect()
}
