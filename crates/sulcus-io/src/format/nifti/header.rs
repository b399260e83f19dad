use sulcus_volume::{Geometry, GridUnit, OrientationSource};

use super::fields::Fields;
use super::layout::{Key, Version};
use super::{datatype, extension, transform, version};
use crate::error::IoErrorKind;
use crate::text::shape_text;
use crate::voxels::{Scale, VoxelType};

/// A checked NIfTI header: its fields agree with each other and place the volume in the patient.
///
/// It stays with a volume, so that results on the same grid get identical header fields.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct NiftiHeader {
    fields: Fields,
    big_endian: bool,
    geometry: Geometry,
    shape: Vec<usize>,
    channels: usize,
    voxel_type: VoxelType,
    scale: Option<Scale>,
    vox_offset: u64,
    extensions: Vec<extension::Extension>,
}

impl NiftiHeader {
    /// Parses and checks the header at the start of `bytes`.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, IoErrorKind> {
        let (fields, big_endian) = version::read(bytes)?;
        let shape = shape(&fields)?;
        let axis = |i: usize| shape.get(i).copied().unwrap_or(1);
        let grid = [axis(0), axis(1), axis(2)];
        let voxel_type = datatype::voxel_type(fields.int(Key::Datatype, 0))?;
        let (map, source) = transform::ras_from_voxel(&fields, grid)?;
        let geometry = Geometry::new(grid, map, source)
            .map_err(|cause| IoErrorKind::Volume { action: "read the NIfTI header", cause: cause.into() })?;
        let channels = channels(&geometry, &shape)?;
        let scale = Scale::from_header(fields.float(Key::SclSlope, 0), fields.float(Key::SclInter, 0))?;
        let vox_offset = vox_offset(&fields)?;
        Ok(Self {
            fields,
            big_endian,
            geometry,
            shape,
            channels,
            voxel_type,
            scale,
            vox_offset,
            extensions: Vec::new(),
        })
    }

    /// A header for a volume that was not read from a NIfTI file. Its transform becomes the sform, and the qform as well if
    /// a rotation with voxel sizes can represent it. If left and right are unknown, only the voxel sizes are set, provided
    /// that they give the same grid. The version is NIfTI-2 if an axis is too long for NIfTI-1.
    ///
    /// # Errors
    /// When the header cannot represent the transform.
    pub(crate) fn from_geometry(geometry: &Geometry) -> Result<Self, IoErrorKind> {
        let shape = geometry.shape().to_vec();
        let short = shape.iter().all(|n| *n <= Version::One.longest_axis());
        let mut fields = Fields::blank(if short { Version::One } else { Version::Two });
        // Millimetres, or no unit.
        fields.set_int(Key::XyztUnits, 0, if geometry.unit() == GridUnit::Pixel { 0 } else { 2 });
        fields.set_floats(Key::Pixdim, 0, &[1.0; 8]);
        fields.set_floats(Key::Pixdim, 1, &geometry.spacing().mm());
        fields.set_int(Key::Dim, 0, 3);
        fields.set_floats(Key::Srow, 0, geometry.ras_from_voxel().rows().as_flattened());
        let place = |fields: &Fields| -> Result<Geometry, IoErrorKind> {
            let (map, source) = transform::ras_from_voxel(fields, geometry.shape())?;
            Geometry::new(geometry.shape(), map, source)
                .map_err(|cause| IoErrorKind::Volume { action: "write a NIfTI header", cause: cause.into() })
        };
        let unknown_position = geometry.source() == OrientationSource::None;
        if !(unknown_position && place(&fields).is_ok_and(|g| g.check_same_grid(geometry).is_ok())) {
            transform::set_qform(&mut fields, geometry.ras_from_voxel());
            if !place(&fields).is_ok_and(|g| g.check_same_grid(geometry).is_ok()) {
                // A qform cannot represent shears.
                fields.set_int(Key::QformCode, 0, 0);
            }
            fields.set_int(Key::SformCode, 0, 1);
        }
        let geometry = place(&fields)?;
        let vox_offset = fields.version().first_voxel();
        Ok(Self {
            fields,
            big_endian: false,
            geometry,
            shape,
            channels: 1,
            voxel_type: VoxelType::Float32,
            scale: None,
            vox_offset,
            extensions: Vec::new(),
        })
    }

    /// The same header for values on another grid. The fields about the fourth axis and the values stay.
    pub(crate) fn on_grid(&self, geometry: &Geometry) -> Result<Self, IoErrorKind> {
        let mut new = Self::from_geometry(geometry)?;
        new.fields.copy(&self.fields, FIELDS_INDEPENDENT_OF_GRID);
        let after: [f64; 8] = self.fields.floats(Key::Pixdim);
        new.fields.set_floats(Key::Pixdim, 4, after.get(4..).unwrap_or_default());
        // Millimetres, and the unit of time unchanged.
        new.fields.set_int(Key::XyztUnits, 0, self.fields.int(Key::XyztUnits, 0) & 0x38 | 2);
        Ok(Self { extensions: self.extensions.clone(), ..new })
    }

    /// The label names as the unparsed JSON text in the file.
    pub(crate) fn label_text(&self) -> Option<&str> {
        self.extensions.iter().find_map(extension::text_of_labels)
    }

    pub(super) fn extensions(&self) -> &[extension::Extension] {
        &self.extensions
    }

    pub(super) fn fields(&self) -> &Fields {
        &self.fields
    }

    pub(super) fn version(&self) -> Version {
        self.fields.version()
    }

    pub(super) fn header_bytes(&self) -> usize {
        self.version().header_bytes()
    }

    pub(super) fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    /// The lengths of all axes in the file.
    pub(super) fn shape(&self) -> &[usize] {
        &self.shape
    }

    pub(super) fn channels(&self) -> usize {
        self.channels
    }

    /// Whether the intent of the values is labels.
    pub(super) fn is_label_map(&self) -> bool {
        self.fields.int(Key::IntentCode, 0) == INTENT_LABEL
    }

    pub(super) fn is_single_file(&self) -> bool {
        self.fields.bytes(Key::Magic) == self.fields.version().magic(true)
    }

    pub(super) fn voxel_type(&self) -> VoxelType {
        self.voxel_type
    }

    pub(super) fn is_big_endian(&self) -> bool {
        self.big_endian
    }

    pub(super) fn scale(&self) -> Option<Scale> {
        self.scale
    }

    /// The offset of the first voxel in its file.
    pub(super) fn vox_offset(&self) -> u64 {
        self.vox_offset
    }

    /// The number of values in all channels. [`channels`] has checked that it does not overflow.
    pub(super) fn values(&self) -> u64 {
        (self.geometry.voxels() as u64).saturating_mul(self.channels as u64)
    }

    /// The size of all values in bytes.
    pub(super) fn voxel_bytes(&self) -> u64 {
        self.values().saturating_mul(self.voxel_type.bytes() as u64)
    }

    /// The size of the uncompressed file up to the last voxel.
    pub(super) fn file_bytes(&self) -> u64 {
        self.vox_offset.saturating_add(self.voxel_bytes())
    }

    /// Reads the extensions from the bytes after the header.
    pub(super) fn read_extensions(&mut self, after_header: &[u8]) {
        self.extensions = extension::read(after_header, self.big_endian);
    }

    /// Checks that a file of `found` bytes contains the voxels. `at_most` says that `found` is an upper limit, for data that
    /// is still compressed.
    pub(super) fn check_file_bytes(&self, found: u64, at_most: bool) -> Result<(), IoErrorKind> {
        let expected = self.file_bytes();
        if expected <= found {
            return Ok(());
        }
        Err(IoErrorKind::TooFewVoxels {
            shape: shape_text(&self.shape),
            dtype: self.voxel_type.name(),
            expected,
            found: if at_most { format!("{found} at most") } else { found.to_string() },
        })
    }
}

const FIELDS_INDEPENDENT_OF_GRID: &[Key] = &[
    Key::IntentP,
    Key::IntentCode,
    Key::IntentName,
    Key::CalMax,
    Key::CalMin,
    Key::Toffset,
    Key::DbName,
    Key::Descrip,
    Key::AuxFile,
];

/// `NIFTI_INTENT_LABEL`.
pub(super) const INTENT_LABEL: i64 = 1002;

/// The lengths of the axes in the file. As in nibabel, this includes FreeSurfer's conventions for axes that are too long
/// for NIfTI-1.
fn shape(fields: &Fields) -> Result<Vec<usize>, IoErrorKind> {
    let rank = fields.int(Key::Dim, 0);
    let Some(rank) = usize::try_from(rank).ok().filter(|rank| (1..=7).contains(rank)) else {
        return Err(IoErrorKind::Header {
            action: "read",
            expected: "1 to 7 axes (dim[0])".into(),
            found: rank.to_string(),
            hint: "the header is damaged, get the file again",
        });
    };
    let mut dims: Vec<i64> = (1..=rank).map(|i| fields.int(Key::Dim, i)).collect();
    if fields.version() == Version::One {
        match dims.get_mut(..3) {
            Some([x @ -1, 1, 1]) => *x = fields.int(Key::Glmin, 0),
            Some(surface @ [27307, 1, 6]) => surface.copy_from_slice(&[163_842, 1, 1]),
            _ => {}
        }
    }
    let length = |(i, dim): (usize, i64)| {
        usize::try_from(dim).ok().filter(|n| *n > 0).ok_or_else(|| IoErrorKind::Header {
            action: "read",
            expected: format!("at least one voxel along axis {i} (dim[{i}])"),
            found: dim.to_string(),
            hint: "the header is damaged, get the file again",
        })
    };
    (1..).zip(dims).map(length).collect()
}

/// The number of values per voxel: the product of all axes after the third.
fn channels(geometry: &Geometry, shape: &[usize]) -> Result<usize, IoErrorKind> {
    const MAX_BYTES: u64 = 1 << 48;
    let product = shape.iter().skip(3).try_fold(1_usize, |product, n| product.checked_mul(*n));
    let bytes = product.and_then(|n| (geometry.voxels() as u64).checked_mul(n as u64)?.checked_mul(16));
    product.filter(|_| bytes.is_some_and(|bytes| bytes <= MAX_BYTES)).ok_or_else(|| IoErrorKind::Header {
        action: "read",
        expected: "a shape of at most 2^44 values".into(),
        found: shape_text(shape),
        hint: "the header is damaged, get the file again",
    })
}

/// The offset of the first voxel, truncated to an integer as in nibabel.
fn vox_offset(fields: &Fields) -> Result<u64, IoErrorKind> {
    let offset = fields.float(Key::VoxOffset, 0);
    let single = fields.bytes(Key::Magic) == fields.version().magic(true);
    let first = if single { fields.version().first_voxel() } else { 0 };
    if offset.is_finite() && offset >= first as f64 && offset < (1_u64 << 53) as f64 {
        return Ok(offset as u64);
    }
    Err(IoErrorKind::Header {
        action: "read",
        expected: format!("voxels that begin at byte {first} or later (vox_offset)"),
        found: offset.to_string(),
        hint: "the header is damaged, get the file again",
    })
}
