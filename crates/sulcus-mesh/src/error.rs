use sulcus_volume::{GridUnit, Label};

/// Why there is no surface.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MeshError {
    /// The surface would need more memory than is allowed or available.
    #[error(
        "the surface of label {label} has {faces} voxel faces and needs {bytes} bytes of memory, but at most {limit} are \
         allowed; resample the mask to larger voxels, or crop it"
    )]
    Memory {
        /// The label.
        label: Label,
        /// The number of faces between its voxels and others.
        faces: u64,
        /// The memory that the surface needs.
        bytes: u64,
        /// The limit.
        limit: u64,
    },
    /// The operating system did not provide the memory.
    #[error("the surface of label {label} needs {bytes} bytes of memory, which the system does not provide")]
    Allocation {
        /// The label.
        label: Label,
        /// The memory that the surface needs.
        bytes: u64,
    },
    /// The grid is that of a picture, whose pixels enclose no volume.
    #[error("a surface needs voxels with sizes in millimetres, but this is a picture, whose unit is {0:?}")]
    Picture(GridUnit),
    /// The extent was made for another label map.
    #[error("the extent of label {label} is not that of this label map: make it again with `survey`")]
    OtherMap {
        /// The label.
        label: Label,
    },
}
