use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use sulcus_volume::{Geometry, Image, LabelMap, Orientation, OrientationSource, RasFromVoxel, Spacing};

use crate::SpecError;

/// A small input that travels with the model, and the answer that every engine must give to it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GoldenCase {
    /// Channels.
    pub channels: usize,
    /// Voxels along x, y, z, on axes of the model's orientation.
    pub shape: [usize; 3],
    /// Voxel size.
    pub spacing_mm: Spacing,
    /// `[C, z, y, x]` values, little-endian single precision, base64.
    pub data_base64: String,
    /// [`label_hash`] of the mask.
    pub labels_sha256: String,
    /// Foreground voxels of the mask: what a person can compare when the hash differs.
    pub foreground_voxels: usize,
}

impl GoldenCase {
    /// Packs an image whose axes run along the model's orientation, and the mask it gives.
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

    /// Unpacks the input.
    ///
    /// # Errors
    /// When the data is not base64 or does not fit the shape.
    pub fn image(&self, orientation: Orientation) -> Result<Image, SpecError> {
        let bytes = STANDARD
            .decode(&self.data_base64)
            .map_err(|e| SpecError::Invalid(format!("its golden case is not base64: {e}")))?;
        let values = bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
        let map = RasFromVoxel::aligned(orientation, self.spacing_mm);
        let geometry = Geometry::new(self.shape, map, OrientationSource::Sform)?;
        Ok(Image::new(geometry, self.channels, values)?)
    }

    /// Compares a mask with the recorded answer.
    ///
    /// # Errors
    /// When they differ.
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
