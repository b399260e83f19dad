use std::borrow::Cow;

use sulcus_volume::{Geometry, OrientationSource, VolumeError};

use super::fields::Fields;
use super::kind;
use super::layout::{Key, Version};
use super::{extension, transform};
use crate::error::Problem;
use crate::info::VolumeFormat;
use crate::source::{Origin, Source, Unit, shape_text};
use crate::stored::StoredVolume;
use crate::voxels::{Scale, VoxelType};

/// A header that was checked: its fields agree with each other and place the volume in the patient.
///
/// It is kept with a volume so that what is written on the same grid says so in the same bytes.
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
    /// Checks and reads the header that `bytes` begin with.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, Problem> {
        let (fields, big_endian) = kind::read(bytes)?;
        let shape = shape(&fields)?;
        let axis = |i: usize| shape.get(i).copied().unwrap_or(1);
        let grid = [axis(0), axis(1), axis(2)];
        let voxel_type = VoxelType::from_nifti(fields.int(Key::Datatype, 0))?;
        let (map, source) = transform::ras_from_voxel(&fields, grid)?;
        let geometry = Geometry::new(grid, map, source)
            .map_err(|source| Problem::Volume { action: "read the NIfTI header", source: source.into() })?;
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

    /// A header for a volume that came from no NIfTI file: its transform becomes the sform, and the qform as well
    /// where a rotation with voxel sizes says the same; or, where the geometry says that left and right are unknown,
    /// nothing but voxel sizes if those give the same grid. NIfTI-2 where NIfTI-1 cannot count the voxels.
    ///
    /// # Errors
    /// When the format's numbers cannot hold the transform.
    pub(crate) fn from_geometry(geometry: &Geometry) -> Result<Self, Problem> {
        let shape = geometry.shape().to_vec();
        let short = shape.iter().all(|n| *n <= Version::One.longest_axis());
        let mut fields = Fields::blank(if short { Version::One } else { Version::Two });
        // Millimetres.
        fields.set_int(Key::XyztUnits, 0, 2);
        fields.set_floats(Key::Pixdim, 0, &[1.0; 8]);
        fields.set_floats(Key::Pixdim, 1, &geometry.spacing().mm());
        fields.set_int(Key::Dim, 0, 3);
        fields.set_floats(Key::Srow, 0, geometry.ras_from_voxel().rows().as_flattened());
        let place = |fields: &Fields| -> Result<Geometry, Problem> {
            let (map, source) = transform::ras_from_voxel(fields, geometry.shape())?;
            Geometry::new(geometry.shape(), map, source)
                .map_err(|source| Problem::Volume { action: "write a NIfTI header", source: source.into() })
        };
        let unplaced = geometry.source() == OrientationSource::None;
        if !(unplaced && place(&fields).is_ok_and(|g| g.check_same_grid(geometry).is_ok())) {
            transform::set_qform(&mut fields, geometry.ras_from_voxel());
            if !place(&fields).is_ok_and(|g| g.check_same_grid(geometry).is_ok()) {
                // Shears are beyond a qform.
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

    /// The same header for values on another grid: what it says of the fourth axis and of the values stays.
    pub(crate) fn on_grid(&self, geometry: &Geometry) -> Result<Self, Problem> {
        let mut new = Self::from_geometry(geometry)?;
        new.fields.copy(&self.fields, KEPT_ON_OTHER_GRIDS);
        let after: [f64; 8] = self.fields.floats(Key::Pixdim);
        new.fields.set_floats(Key::Pixdim, 4, after.get(4..).unwrap_or_default());
        // Millimetres, and the unit of time as it was.
        new.fields.set_int(Key::XyztUnits, 0, self.fields.int(Key::XyztUnits, 0) & 0x38 | 2);
        Ok(Self { extensions: self.extensions.clone(), ..new })
    }

    /// The unit of length that the header names; codes that the standard does not know say nothing.
    fn unit(&self) -> Unit {
        match self.fields.int(Key::XyztUnits, 0) & 7 {
            1 => Unit::Doubtful("metres"),
            3 => Unit::Doubtful("micrometres"),
            _ => Unit::Millimetre,
        }
    }

    /// The label names as the JSON text that the file carries, not looked at.
    pub(crate) fn label_text(&self) -> Option<&str> {
        self.extensions.iter().find_map(extension::label_text)
    }

    #[cfg(not(target_family = "wasm"))]
    pub(crate) fn extensions(&self) -> &[extension::Extension] {
        &self.extensions
    }

    pub(crate) fn fields(&self) -> &Fields {
        &self.fields
    }

    pub(crate) fn header_bytes(&self) -> usize {
        self.fields.version().header_bytes()
    }

    pub(crate) fn is_single_file(&self) -> bool {
        self.fields.bytes(Key::Magic) == self.fields.version().magic(true)
    }

    /// What it says of the volume, in the terms of every format.
    pub(crate) fn into_source(self) -> Source {
        let format = match self.fields.version() {
            Version::One => VolumeFormat::Nifti1,
            Version::Two => VolumeFormat::Nifti2,
        };
        let (channels, shape) = (self.channels, self.shape.clone());
        #[cfg(not(target_family = "wasm"))]
        let label_table = self.label_text().and_then(extension::table);
        let is_label_map = self.fields.int(Key::IntentCode, 0) == INTENT_LABEL;
        let source = Source::new(format, self.geometry, self.voxel_type).with_shape(channels, shape);
        let source = if is_label_map { source.of_labels() } else { source };
        let source = source.in_unit(self.unit()).with_origin(Origin::Nifti(Box::new(self)));
        #[cfg(not(target_family = "wasm"))]
        let source = source.with_label_table(label_table);
        source
    }

    /// The volume whose voxels lie in `content` where the header says; its length was checked.
    pub(crate) fn with_voxels(self, content: Cow<'_, [u8]>) -> StoredVolume<'_> {
        let start = usize::try_from(self.vox_offset).unwrap_or(usize::MAX);
        let (big_endian, scale) = (self.big_endian, self.scale);
        StoredVolume { source: self.into_source(), content, start, big_endian, scale }
    }

    pub(crate) fn voxel_type(&self) -> VoxelType {
        self.voxel_type
    }

    pub(crate) fn is_big_endian(&self) -> bool {
        self.big_endian
    }

    pub(crate) fn scale(&self) -> Option<Scale> {
        self.scale
    }

    /// Where the voxels begin in their file.
    pub(crate) fn vox_offset(&self) -> u64 {
        self.vox_offset
    }

    /// Values of all voxels and channels; [`channels`] has seen that there are not too many.
    pub(crate) fn values(&self) -> u64 {
        (self.geometry.voxels() as u64).saturating_mul(self.channels as u64)
    }

    /// Bytes of all voxels.
    pub(crate) fn voxel_bytes(&self) -> u64 {
        self.values().saturating_mul(self.voxel_type.bytes() as u64)
    }

    /// Takes the extensions from what follows the header.
    pub(crate) fn read_extensions(&mut self, after_header: &[u8]) {
        self.extensions = extension::read(after_header, self.big_endian);
    }

    /// That `found` bytes (or `at_most` that many, for data still compressed) hold header and voxels.
    pub(crate) fn check_length(&self, found: u64, at_most: bool) -> Result<(), Problem> {
        let expected = self.vox_offset.saturating_add(self.voxel_bytes());
        if expected <= found {
            return Ok(());
        }
        Err(Problem::TooFewVoxels {
            shape: shape_text(&self.shape),
            dtype: self.voxel_type.name(),
            expected,
            found: if at_most { format!("{found} at most") } else { found.to_string() },
        })
    }
}

const KEPT_ON_OTHER_GRIDS: &[Key] = &[
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
pub(crate) const INTENT_LABEL: i64 = 1002;

/// The lengths of the axes that the file has, as nibabel tells them, FreeSurfer's ways of writing down axes that are too
/// long for NIfTI-1 included.
fn shape(fields: &Fields) -> Result<Vec<usize>, Problem> {
    let rank = fields.int(Key::Dim, 0);
    let Some(rank) = usize::try_from(rank).ok().filter(|rank| (1..=7).contains(rank)) else {
        return Err(Problem::Header {
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
        usize::try_from(dim).ok().filter(|n| *n > 0).ok_or_else(|| Problem::Header {
            action: "read",
            expected: format!("at least one voxel along axis {i} (dim[{i}])"),
            found: dim.to_string(),
            hint: "the header is damaged, get the file again",
        })
    };
    (1..).zip(dims).map(length).collect()
}

/// Values a voxel: the product of all axes but the first three.
fn channels(geometry: &Geometry, shape: &[usize]) -> Result<usize, Problem> {
    const MOST_BYTES: u64 = 1 << 48;
    let product = shape.iter().skip(3).try_fold(1_usize, |product, n| product.checked_mul(*n));
    let bytes = product.and_then(|n| (geometry.voxels() as u64).checked_mul(n as u64)?.checked_mul(16));
    product.filter(|_| bytes.is_some_and(|bytes| bytes <= MOST_BYTES)).ok_or_else(|| Problem::Header {
        action: "read",
        expected: "a shape of at most 2^44 values".into(),
        found: shape_text(shape),
        hint: "the header is damaged, get the file again",
    })
}

/// Where the voxels begin, cut to a whole number as nibabel does.
fn vox_offset(fields: &Fields) -> Result<u64, Problem> {
    let offset = fields.float(Key::VoxOffset, 0);
    let single = fields.bytes(Key::Magic) == fields.version().magic(true);
    let first = if single { fields.version().first_voxel() } else { 0 };
    if offset.is_finite() && offset >= first as f64 && offset < (1_u64 << 53) as f64 {
        return Ok(offset as u64);
    }
    Err(Problem::Header {
        action: "read",
        expected: format!("voxels that begin at byte {first} or later (vox_offset)"),
        found: offset.to_string(),
        hint: "the header is damaged, get the file again",
    })
}

impl From<VolumeError> for Problem {
    fn from(source: VolumeError) -> Self {
        Self::Volume { action: "put the voxels on their grid", source: source.into() }
    }
}
