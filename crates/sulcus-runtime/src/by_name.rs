//! Volumes as JSON, for all that says them to programs.

use serde::{Serialize, Serializer};

use crate::LabelVolume;

/// For `#[serde(serialize_with)]`: `{"Anterior": {"value": 1, "voxels": 10, "ml": 0.01}}`, in the order given; a region has
/// `values` in place of `value`.
///
/// # Errors
/// Those of the serializer.
pub fn serialize_labels<S: Serializer>(labels: &[LabelVolume], to: S) -> Result<S::Ok, S::Error> {
    #[derive(Serialize)]
    struct Amount<'a> {
        /// Of a label.
        #[serde(skip_serializing_if = "Option::is_none")]
        value: Option<u16>,
        /// Of a region.
        #[serde(skip_serializing_if = "Option::is_none")]
        values: Option<&'a [u16]>,
        voxels: usize,
        ml: f64,
    }
    to.collect_map(labels.iter().map(|label| {
        let (value, values) = match label.values.as_slice() {
            [value] => (Some(*value), None),
            values => (None, Some(values)),
        };
        (&label.name, Amount { value, values, voxels: label.voxels, ml: label.ml })
    }))
}
