//! The voxel types of NIfTI (`datatype`).

use crate::error::IoErrorKind;
use crate::voxels::VoxelType;

/// The codes of the supported types.
const SUPPORTED: [(i16, VoxelType); 10] = [
    (2, VoxelType::Uint8),
    (4, VoxelType::Int16),
    (8, VoxelType::Int32),
    (16, VoxelType::Float32),
    (64, VoxelType::Float64),
    (256, VoxelType::Int8),
    (512, VoxelType::Uint16),
    (768, VoxelType::Uint32),
    (1024, VoxelType::Int64),
    (1280, VoxelType::Uint64),
];

const COMPLEX: &str = "save its magnitude as float32";
/// The command is run by `tests/python/test_nifti_colours.py`.
const COLOUR: &str = "it is a colour image: give the scan that the colours were made from, or separate red, green and blue into three \
    channels along a fourth axis with nibabel: `python -c \"import sys, nibabel as n, numpy as np; i = n.load(sys.argv[1]); \
    a = np.asarray(i.dataobj); n.save(n.Nifti1Image(np.stack([a[c] for c in 'RGB'], -1), i.affine), sys.argv[2])\" IN OUT`; if the \
    picture is grey, `a['R']` instead of `np.stack([a[c] for c in 'RGB'], -1)` gives its only channel";

/// Codes of types that are not supported: name, what to do.
const UNSUPPORTED: [(i16, &str, &str); 6] = [
    (32, "complex64", COMPLEX),
    (128, "RGB", COLOUR),
    (1536, "float128", "save it as float64 or float32"),
    (1792, "complex128", COMPLEX),
    (2048, "complex256", COMPLEX),
    (2304, "RGBA", COLOUR),
];

/// The code of a type.
pub(super) fn code(voxel_type: VoxelType) -> i16 {
    SUPPORTED.iter().find(|(_, known)| *known == voxel_type).map_or(0, |(code, _)| *code)
}

/// The type with this code. As in nibabel, `bitpix` follows from it and is ignored if it differs.
pub(super) fn voxel_type(code: i64) -> Result<VoxelType, IoErrorKind> {
    if let Some((_, voxel_type)) = SUPPORTED.iter().find(|(known, _)| i64::from(*known) == code) {
        return Ok(*voxel_type);
    }
    if let Some((_, name, hint)) = UNSUPPORTED.iter().find(|(known, ..)| i64::from(*known) == code) {
        return Err(IoErrorKind::UnsupportedType { name, hint });
    }
    Err(IoErrorKind::Header {
        action: "read",
        expected: "a voxel type that NIfTI knows (datatype)".into(),
        found: format!("code {code}"),
        hint: "the header is damaged, or the type has one bit per voxel: save the volume as uint8",
    })
}
