use nifti::NiftiType;
use sulcus_volume::Label;

use crate::error::Problem;

/// The type of a value in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum VoxelType {
    /// 8 bits, no sign.
    Uint8,
    /// 8 bits.
    Int8,
    /// 16 bits, no sign.
    Uint16,
    /// 16 bits.
    Int16,
    /// 32 bits, no sign.
    Uint32,
    /// 32 bits.
    Int32,
    /// 64 bits, no sign.
    Uint64,
    /// 64 bits.
    Int64,
    /// Single precision.
    Float32,
    /// Double precision.
    Float64,
}

impl VoxelType {
    /// nibabel's and NumPy's name, such as `uint8`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Uint8 => "uint8",
            Self::Int8 => "int8",
            Self::Uint16 => "uint16",
            Self::Int16 => "int16",
            Self::Uint32 => "uint32",
            Self::Int32 => "int32",
            Self::Uint64 => "uint64",
            Self::Int64 => "int64",
            Self::Float32 => "float32",
            Self::Float64 => "float64",
        }
    }

    /// Bytes of a value.
    pub fn bytes(self) -> usize {
        self.nifti().size_of()
    }

    fn nifti(self) -> NiftiType {
        match self {
            Self::Uint8 => NiftiType::Uint8,
            Self::Int8 => NiftiType::Int8,
            Self::Uint16 => NiftiType::Uint16,
            Self::Int16 => NiftiType::Int16,
            Self::Uint32 => NiftiType::Uint32,
            Self::Int32 => NiftiType::Int32,
            Self::Uint64 => NiftiType::Uint64,
            Self::Int64 => NiftiType::Int64,
            Self::Float32 => NiftiType::Float32,
            Self::Float64 => NiftiType::Float64,
        }
    }

    /// The standard's `datatype`.
    pub(crate) fn nifti_code(self) -> i16 {
        self.nifti() as i16
    }

    /// The type that `datatype` names, if its values are single numbers. What `bitpix` says follows from it, and counts
    /// for nothing where it differs, as in nibabel.
    pub(crate) fn from_nifti(datatype: i64) -> Result<Self, Problem> {
        const COMPLEX: &str = "save its magnitude as float32";
        const COLOUR: &str = "it is a colour picture, not a scan: give the scan itself, or save one channel of it";
        let unsupported = |name, hint| Err(Problem::UnsupportedType { name, hint });
        let known = i16::try_from(datatype)
            .ok()
            .and_then(|datatype| nifti::NiftiHeader { datatype, ..Default::default() }.data_type().ok());
        match known {
            Some(NiftiType::Uint8) => Ok(Self::Uint8),
            Some(NiftiType::Int8) => Ok(Self::Int8),
            Some(NiftiType::Uint16) => Ok(Self::Uint16),
            Some(NiftiType::Int16) => Ok(Self::Int16),
            Some(NiftiType::Uint32) => Ok(Self::Uint32),
            Some(NiftiType::Int32) => Ok(Self::Int32),
            Some(NiftiType::Uint64) => Ok(Self::Uint64),
            Some(NiftiType::Int64) => Ok(Self::Int64),
            Some(NiftiType::Float32) => Ok(Self::Float32),
            Some(NiftiType::Float64) => Ok(Self::Float64),
            Some(NiftiType::Float128) => unsupported("float128", "save it as float64 or float32"),
            Some(NiftiType::Complex64) => unsupported("complex64", COMPLEX),
            Some(NiftiType::Complex128) => unsupported("complex128", COMPLEX),
            Some(NiftiType::Complex256) => unsupported("complex256", COMPLEX),
            Some(NiftiType::Rgb24) => unsupported("RGB", COLOUR),
            Some(NiftiType::Rgba32) => unsupported("RGBA", COLOUR),
            None => Err(Problem::Header {
                action: "read",
                expected: "a voxel type that NIfTI knows (datatype)".into(),
                found: format!("code {datatype}"),
                hint: "the header is damaged, or the type is one bit a voxel: save the volume as uint8",
            }),
        }
    }
}

/// What stored values mean: `slope · stored + intercept`. A scale that changes nothing isn't one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Scale {
    pub(crate) slope: f64,
    pub(crate) intercept: f64,
}

impl Scale {
    /// nibabel's rule: a slope that is 0 or not finite means unscaled; an intercept then has no meaning.
    pub(crate) fn from_header(slope: f64, intercept: f64) -> Result<Option<Self>, Problem> {
        if slope == 0.0 || !slope.is_finite() {
            return Ok(None);
        }
        if !intercept.is_finite() {
            return Err(Problem::Header {
                action: "read",
                expected: format!("a finite intercept (scl_inter) with the slope {slope}"),
                found: intercept.to_string(),
                hint: "the header is damaged: set scl_inter (0 in most files) before using it",
            });
        }
        let scale = Self { slope, intercept };
        Ok((scale.slope != 1.0 || scale.intercept != 0.0).then_some(scale))
    }

    pub(crate) fn apply(self, stored: f64) -> f64 {
        stored * self.slope + self.intercept
    }
}

/// Values that are handled at a time: few enough for the processor's nearest cache.
pub(crate) const BLOCK: usize = 1024;

/// Hands the values of `bytes` on, in double precision and after scaling, in blocks of [`BLOCK`] and a last shorter
/// one. Everything that looks at voxels is written once, for these blocks, whatever the type in the file.
pub(crate) fn each_block(
    bytes: &[u8],
    voxel_type: VoxelType,
    big: bool,
    scale: Option<Scale>,
    f: &mut dyn FnMut(&[f64]),
) {
    let mut values = [0.0; BLOCK];
    let mut turned = [0; BLOCK * 8];
    for block in bytes.chunks(BLOCK * voxel_type.bytes()) {
        let little = if big { turn(block, voxel_type.bytes(), &mut turned) } else { block };
        let n = block.len() / voxel_type.bytes();
        let Some(values) = values.get_mut(..n) else { continue };
        to_f64(little, voxel_type, values);
        if let Some(scale) = scale {
            values.iter_mut().for_each(|v| *v = scale.apply(*v));
        }
        f(values);
    }
}

/// A big-endian block in the other byte order.
fn turn<'a>(block: &[u8], value_bytes: usize, out: &'a mut [u8]) -> &'a [u8] {
    let Some(out) = out.get_mut(..block.len()) else { return &[] };
    out.copy_from_slice(block);
    reverse_each(out, value_bytes);
    out
}

/// Turns the byte order of each value.
pub(crate) fn reverse_each(bytes: &mut [u8], value_bytes: usize) {
    fn all<const N: usize>(bytes: &mut [u8]) {
        bytes.as_chunks_mut::<N>().0.iter_mut().for_each(|value| value.reverse());
    }
    match value_bytes {
        2 => all::<2>(bytes),
        4 => all::<4>(bytes),
        8 => all::<8>(bytes),
        _ => {}
    }
}

/// Little-endian stored values in double precision, which holds all but 64-bit integers beyond 2^53 exactly, and those
/// as NumPy does.
fn to_f64(bytes: &[u8], voxel_type: VoxelType, out: &mut [f64]) {
    macro_rules! convert {
        ($t:ty) => {{
            let (values, _) = bytes.as_chunks::<{ size_of::<$t>() }>();
            out.iter_mut().zip(values).for_each(|(out, v)| *out = <$t>::from_le_bytes(*v) as f64);
        }};
    }
    match voxel_type {
        VoxelType::Uint8 => convert!(u8),
        VoxelType::Int8 => convert!(i8),
        VoxelType::Uint16 => convert!(u16),
        VoxelType::Int16 => convert!(i16),
        VoxelType::Uint32 => convert!(u32),
        VoxelType::Int32 => convert!(i32),
        VoxelType::Uint64 => convert!(u64),
        VoxelType::Int64 => convert!(i64),
        VoxelType::Float32 => convert!(f32),
        VoxelType::Float64 => convert!(f64),
    }
}

/// Turns values into labels: whole numbers from 0 to 65535.
pub(crate) struct LabelReader {
    labels: Vec<Label>,
    slack: f64,
    wrong: usize,
    example: f64,
}

impl LabelReader {
    /// Scaled values may miss whole numbers by the rounding of the slope, which headers hold in single precision:
    /// 255 · (1/255) is 1.00000006.
    const SLOPE_ROUNDING: f64 = f32::EPSILON as f64;

    pub(crate) fn new(n: usize, scaled: bool) -> Result<Self, Problem> {
        let slack = if scaled { Self::SLOPE_ROUNDING } else { 0.0 };
        Ok(Self { labels: reserve(n)?, slack, wrong: 0, example: 0.0 })
    }

    pub(crate) fn read(&mut self, values: &[f64]) {
        let slack = self.slack;
        // A cast saturates, and makes 0 of NaN: what was no label differs from what it becomes.
        let label = |v: f64| (v + 0.5) as Label;
        let is_label = |v: f64| (v - f64::from(label(v))).abs() <= slack * v.clamp(1.0, f64::from(Label::MAX));
        self.labels.extend(values.iter().map(|v| label(*v)));
        let wrong = values.iter().filter(|v| !is_label(**v)).count();
        if wrong > 0 && self.wrong == 0 {
            self.example = values.iter().copied().find(|v| !is_label(*v)).unwrap_or_default();
        }
        self.wrong += wrong;
    }

    pub(crate) fn finish(self) -> Result<Vec<Label>, Problem> {
        if self.wrong > 0 {
            return Err(Problem::LabelValue { example: self.example, count: self.wrong });
        }
        Ok(self.labels)
    }
}

/// An empty vector with room for `n` values, or an error where the memory for them is not to be had.
pub(crate) fn reserve<T>(n: usize) -> Result<Vec<T>, Problem> {
    let mut out = Vec::new();
    let bytes = n.saturating_mul(size_of::<T>()) as u64;
    out.try_reserve_exact(n).map_err(|_| Problem::Memory { action: "read the voxels", bytes })?;
    Ok(out)
}
