use std::borrow::Cow;

use ::nifti::{Endianness, NiftiHeader as Fields};
use sulcus_volume::{Geometry, OrientationSource, VolumeError};

use super::fields::{self, HEADER_BYTES};
use super::{extension, transform};
use crate::error::Problem;
use crate::info::VolumeFormat;
use crate::sniff;
use crate::source::{Origin, Source};
use crate::stored::Stored;
use crate::voxels::{Scale, VoxelType};

/// The first byte that a voxel of a single file may have: header and the four bytes that announce extensions.
pub(crate) const FIRST_VOXEL: u64 = 352;
pub(crate) const MAGIC_SINGLE: &[u8; 4] = ::nifti::header::MAGIC_CODE_NIP1;
pub(crate) const MAGIC_PAIR: &[u8; 4] = ::nifti::header::MAGIC_CODE_NI1;

/// Axes beyond the fourth have no meaning here and must be 1.
const MAX_AXES: usize = 4;

/// A NIfTI-1 header that was checked: its fields agree with each other and place the volume in the patient.
///
/// It is kept with a volume so that what is written on the same grid says so in the same bytes.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct NiftiHeader {
    fields: Fields,
    geometry: Geometry,
    rank: usize,
    channels: usize,
    voxel_type: VoxelType,
    scale: Option<Scale>,
    vox_offset: u64,
    label_text: Option<String>,
}

impl NiftiHeader {
    /// Checks and reads the first 348 of `bytes`.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, Problem> {
        let (raw, big) = check_kind(bytes)?;
        let fields = fields::read(raw, big);
        let (rank, axes) = axes(&fields)?;
        let [x, y, z, channels] = axes;
        let voxel_type = VoxelType::from_header(fields.datatype, fields.bitpix)?;
        let (map, source) = transform::ras_from_voxel(&fields, [x, y, z])?;
        let geometry = Geometry::new([x, y, z], map, source)
            .map_err(|source| Problem::Volume { action: "read the NIfTI header", source: source.into() })?;
        let scale = Scale::from_header(fields.scl_slope, fields.scl_inter)?;
        let vox_offset = vox_offset(&fields)?;
        Ok(Self { fields, geometry, rank, channels, voxel_type, scale, vox_offset, label_text: None })
    }

    /// A header for a volume that came from no NIfTI file: its transform becomes the sform, or, where the geometry
    /// says that left and right are unknown, nothing but voxel sizes if those give the same grid.
    ///
    /// # Errors
    /// When an axis is longer than the 32767 voxels that the format can count, or single precision cannot hold the
    /// transform.
    pub(crate) fn from_geometry(geometry: &Geometry) -> Result<Self, Problem> {
        let mut fields = Fields {
            magic: *MAGIC_SINGLE,
            // Millimetres.
            xyzt_units: 2,
            qform_code: 0,
            sform_code: 0,
            endianness: Endianness::Little,
            ..Fields::default()
        };
        for (dim, n) in fields.dim.iter_mut().zip([3].into_iter().chain(geometry.shape())) {
            *dim = i16::try_from(n).map(i16::cast_unsigned).map_err(|_| long_axis(n))?;
        }
        fields.dim[4..].fill(1);
        for (pixdim, size) in fields.pixdim.iter_mut().skip(1).zip(geometry.spacing().mm()) {
            *pixdim = size as f32;
        }
        let [x, y, z] = geometry.ras_from_voxel().rows().map(|row| row.map(|v| v as f32));
        (fields.srow_x, fields.srow_y, fields.srow_z) = (x, y, z);
        let place = |fields: &Fields| -> Result<Geometry, Problem> {
            let (map, source) = transform::ras_from_voxel(fields, geometry.shape())?;
            Geometry::new(geometry.shape(), map, source)
                .map_err(|source| Problem::Volume { action: "write a NIfTI header", source: source.into() })
        };
        let unplaced = geometry.source() == OrientationSource::None;
        if !(unplaced && place(&fields).is_ok_and(|g| g.check_same_grid(geometry).is_ok())) {
            fields.sform_code = 1;
        }
        let geometry = place(&fields)?;
        let (voxel_type, vox_offset) = (VoxelType::Float32, FIRST_VOXEL);
        Ok(Self { fields, geometry, rank: 3, channels: 1, voxel_type, scale: None, vox_offset, label_text: None })
    }

    pub(crate) fn format(&self) -> VolumeFormat {
        VolumeFormat::Nifti1
    }

    /// The label names as the JSON text that the file carries, not looked at.
    pub(crate) fn label_text(&self) -> Option<&str> {
        self.label_text.as_deref()
    }

    /// The shape in file order, first axis first: x, y, z, and the fourth where the file has one.
    fn file_shape(&self) -> Vec<usize> {
        let mut shape = self.geometry.shape().to_vec();
        if self.rank >= MAX_AXES {
            shape.push(self.channels);
        }
        shape
    }

    pub(crate) fn fields(&self) -> &Fields {
        &self.fields
    }

    pub(crate) fn is_single_file(&self) -> bool {
        &self.fields.magic == MAGIC_SINGLE
    }

    /// What it says of the volume, in the terms of every format.
    pub(crate) fn into_source(self) -> Source {
        let (geometry, voxel_type) = (self.geometry, self.voxel_type);
        let (channels, file_shape) = (self.channels, self.file_shape());
        #[cfg(not(target_family = "wasm"))]
        let label_table = self.label_text.as_deref().and_then(extension::table);
        let source = Source::new(self.format(), geometry, voxel_type).with_shape(channels, file_shape);
        let source = source.with_origin(Origin::Nifti(Box::new(self)));
        #[cfg(not(target_family = "wasm"))]
        let source = source.with_label_table(label_table);
        source
    }

    /// The volume whose voxels lie in `content` where the header says; its length was checked.
    pub(crate) fn with_voxels(self, content: Cow<'_, [u8]>) -> Stored<'_> {
        let start = usize::try_from(self.vox_offset).unwrap_or(usize::MAX);
        let (big_endian, scale) = (self.fields.endianness == Endianness::Big, self.scale);
        Stored { source: self.into_source(), content, start, big_endian, scale }
    }

    /// Where the voxels begin in their file.
    pub(crate) fn vox_offset(&self) -> u64 {
        self.vox_offset
    }

    /// Bytes of all voxels. It cannot overflow: a grid has at most 2^40 voxels, a voxel 2^15 values of 8 bytes.
    pub(crate) fn voxel_bytes(&self) -> u64 {
        self.geometry.voxels() as u64 * self.channels as u64 * self.voxel_type.bytes() as u64
    }

    /// Takes the label names from what follows the header.
    pub(crate) fn read_extensions(&mut self, after_header: &[u8]) {
        self.label_text = extension::label_text(after_header, self.fields.endianness).map(str::to_owned);
    }

    /// That `found` bytes (or `at_most` that many, for data still compressed) hold header and voxels.
    pub(crate) fn check_length(&self, found: u64, at_most: bool) -> Result<(), Problem> {
        let expected = self.vox_offset.saturating_add(self.voxel_bytes());
        if expected <= found {
            return Ok(());
        }
        let shape: Vec<String> = self.file_shape().iter().map(usize::to_string).collect();
        Err(Problem::TooFewVoxels {
            shape: shape.join(" × "),
            dtype: self.voxel_type.name(),
            expected,
            found: if at_most { format!("{found} at most") } else { found.to_string() },
        })
    }
}

fn long_axis(n: usize) -> Problem {
    Problem::Header {
        action: "write",
        expected: "at most 32767 voxels along an axis, which is what NIfTI-1 can count".into(),
        found: n.to_string(),
        hint: "crop or downsample the volume first",
    }
}

/// The header's bytes, and whether they are big-endian, once size and magic say NIfTI-1.
fn check_kind(bytes: &[u8]) -> Result<(&[u8; HEADER_BYTES], bool), Problem> {
    const NIFTI_2_BYTES: i32 = 540;
    let Some(size) = bytes.first_chunk::<4>() else {
        return Err(if bytes.is_empty() { Problem::Empty } else { Problem::ShortHeader { found: bytes.len() } });
    };
    let (little, big) = (i32::from_le_bytes(*size), i32::from_be_bytes(*size));
    if little == NIFTI_2_BYTES || big == NIFTI_2_BYTES {
        return Err(Problem::Nifti2);
    }
    let is_little = little == HEADER_BYTES as i32;
    if !is_little && big != HEADER_BYTES as i32 {
        let magic = bytes.get(344..HEADER_BYTES);
        if magic == Some(MAGIC_SINGLE.as_slice()) || magic == Some(MAGIC_PAIR.as_slice()) {
            return Err(Problem::Header {
                action: "read",
                expected: "348 as the header's own size (sizeof_hdr)".into(),
                found: little.to_string(),
                hint: "the header is damaged, get the file again",
            });
        }
        return Err(sniff::not_nifti(bytes));
    }
    let Some(raw) = bytes.first_chunk::<HEADER_BYTES>() else {
        return Err(Problem::ShortHeader { found: bytes.len() });
    };
    let magic = [raw[344], raw[345], raw[346], raw[347]];
    if &magic != MAGIC_SINGLE && &magic != MAGIC_PAIR {
        // Analyze 7.5 has `smin` there, a small number and mostly 0; damage to a NIfTI magic leaves a letter of it.
        let nifti_like = magic.iter().any(u8::is_ascii_graphic);
        return Err(if nifti_like {
            Problem::Magic { found: magic.escape_ascii().to_string() }
        } else {
            Problem::Analyze
        });
    }
    Ok((raw, !is_little))
}

/// How many axes the file has, and the length of the first four; an axis that the file lacks has length 1.
fn axes(fields: &Fields) -> Result<(usize, [usize; MAX_AXES]), Problem> {
    let rank = fields.dim[0].cast_signed();
    if !(1..=7).contains(&rank) {
        return Err(Problem::Header {
            action: "read",
            expected: "1 to 7 axes (dim[0])".into(),
            found: rank.to_string(),
            hint: "the header is damaged, get the file again",
        });
    }
    let rank = usize::from(rank.cast_unsigned());
    let mut axes = [1; MAX_AXES];
    for (i, dim) in fields.dim.iter().enumerate().skip(1).take(rank) {
        let dim = dim.cast_signed();
        let n = usize::try_from(dim).ok().filter(|n| *n > 0).ok_or_else(|| Problem::Header {
            action: "read",
            expected: format!("at least one voxel along axis {i} (dim[{i}])"),
            found: dim.to_string(),
            hint: "the header is damaged, get the file again",
        })?;
        match axes.get_mut(i - 1) {
            Some(axis) => *axis = n,
            None if n == 1 => {}
            None => {
                return Err(Problem::Header {
                    action: "read",
                    expected: "at most four axes: x, y, z and channels".into(),
                    found: format!("{n} along axis {i} (dim[{i}])"),
                    hint: "split the file, or put its channels along the fourth axis",
                });
            }
        }
    }
    Ok((rank, axes))
}

fn vox_offset(fields: &Fields) -> Result<u64, Problem> {
    let offset = fields.vox_offset;
    let first = if &fields.magic == MAGIC_SINGLE { FIRST_VOXEL } else { 0 };
    let whole = offset.is_finite() && offset.fract() == 0.0 && f64::from(offset) >= first as f64;
    if !whole {
        return Err(Problem::Header {
            action: "read",
            expected: format!("voxels that begin at byte {first} or later (vox_offset)"),
            found: offset.to_string(),
            hint: "the header is damaged, get the file again",
        });
    }
    Ok(offset as u64)
}

impl From<VolumeError> for Problem {
    fn from(source: VolumeError) -> Self {
        Self::Volume { action: "put the voxels on their grid", source: source.into() }
    }
}
