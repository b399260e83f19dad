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

    pub(crate) fn nifti(self) -> NiftiType {
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

    /// The type that `datatype` names, if its values are single numbers and `bitpix` agrees.
    pub(crate) fn from_header(datatype: i16, bitpix: i16) -> Result<Self, Problem> {
        const COMPLEX: &str = "save its magnitude as float32";
        const COLOUR: &str = "it is a colour picture, not a scan: give the scan itself, or save one channel of it";
        let unsupported = |name, hint| Err(Problem::UnsupportedType { name, hint });
        let fields = nifti::NiftiHeader { datatype, ..Default::default() };
        let voxel_type = match fields.data_type().ok() {
            Some(NiftiType::Uint8) => Self::Uint8,
            Some(NiftiType::Int8) => Self::Int8,
            Some(NiftiType::Uint16) => Self::Uint16,
            Some(NiftiType::Int16) => Self::Int16,
            Some(NiftiType::Uint32) => Self::Uint32,
            Some(NiftiType::Int32) => Self::Int32,
            Some(NiftiType::Uint64) => Self::Uint64,
            Some(NiftiType::Int64) => Self::Int64,
            Some(NiftiType::Float32) => Self::Float32,
            Some(NiftiType::Float64) => Self::Float64,
            Some(NiftiType::Float128) => return unsupported("float128", "save it as float64 or float32"),
            Some(NiftiType::Complex64) => return unsupported("complex64", COMPLEX),
            Some(NiftiType::Complex128) => return unsupported("complex128", COMPLEX),
            Some(NiftiType::Complex256) => return unsupported("complex256", COMPLEX),
            Some(NiftiType::Rgb24) => return unsupported("RGB", COLOUR),
            Some(NiftiType::Rgba32) => return unsupported("RGBA", COLOUR),
            None => {
                return Err(Problem::Header {
                    action: "read",
                    expected: "a voxel type that NIfTI-1 knows (datatype)".into(),
                    found: format!("code {datatype}"),
                    hint: "the header is damaged, or the type is one bit a voxel: save the volume as uint8",
                });
            }
        };
        let bits = voxel_type.bytes() * 8;
        if usize::try_from(bitpix).ok() != Some(bits) {
            return Err(Problem::Header {
                action: "read",
                expected: format!("{bits} bits a voxel for {} (bitpix)", voxel_type.name()),
                found: bitpix.to_string(),
                hint: "the header is damaged: one of datatype and bitpix is wrong, so get the file again",
            });
        }
        Ok(voxel_type)
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
    pub(crate) fn from_header(slope: f32, intercept: f32) -> Result<Option<Self>, Problem> {
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
        let scale = Self { slope: f64::from(slope), intercept: f64::from(intercept) };
        Ok((scale.slope != 1.0 || scale.intercept != 0.0).then_some(scale))
    }

    pub(crate) fn apply(self, stored: f64) -> f64 {
        stored * self.slope + self.intercept
    }
}

/// A number as files store it.
pub(crate) trait Stored: Copy {
    /// The values in `bytes`; a rest that is no whole value is left out.
    fn values<const BIG: bool>(bytes: &[u8]) -> impl ExactSizeIterator<Item = Self> + Clone;
    fn to_f64(self) -> f64;
    /// The nearest single-precision number, without a detour that would round twice.
    fn to_f32(self) -> f32;
    /// The label that the value is, if it is a whole number from 0 to 65535.
    fn to_label(self) -> Option<Label>;
    /// The smallest and largest of whole numbers and their sum, if that is exact and the type's are such; at most
    /// [`EXACT_VALUES`] of them. `None` for types whose values are measured one by one in double precision.
    fn measure(_values: impl Iterator<Item = Self> + Clone) -> Option<[f64; 3]> {
        None
    }
}

/// So many values of a whole-number type of up to 32 bits add up without overflow in the type that is used for it.
pub(crate) const EXACT_VALUES: usize = 1 << 14;

macro_rules! stored {
    ($t:ty, label($v:ident) $label:expr $(, sum $sum:ty)?) => {
        impl Stored for $t {
            fn values<const BIG: bool>(bytes: &[u8]) -> impl ExactSizeIterator<Item = Self> + Clone {
                let (chunks, _) = bytes.as_chunks::<{ size_of::<$t>() }>();
                chunks.iter().map(|c| if BIG { <$t>::from_be_bytes(*c) } else { <$t>::from_le_bytes(*c) })
            }
            fn to_f64(self) -> f64 {
                self as f64
            }
            fn to_f32(self) -> f32 {
                self as f32
            }
            fn to_label(self) -> Option<Label> {
                let $v = self;
                $label
            }
            $(fn measure(values: impl Iterator<Item = Self> + Clone) -> Option<[f64; 3]> {
                let min = values.clone().fold(<$t>::MAX, |a, b| a.min(b));
                let max = values.clone().fold(<$t>::MIN, |a, b| a.max(b));
                let sum = values.map(<$sum>::from).sum::<$sum>();
                Some([min as f64, max as f64, sum as f64])
            })?
        }
    };
}
stored!(u8, label(v) Some(Label::from(v)), sum i32);
stored!(i8, label(v) Label::try_from(v).ok(), sum i32);
stored!(u16, label(v) Some(v), sum i32);
stored!(i16, label(v) Label::try_from(v).ok(), sum i32);
stored!(u32, label(v) Label::try_from(v).ok(), sum i64);
stored!(i32, label(v) Label::try_from(v).ok(), sum i64);
stored!(u64, label(v) Label::try_from(v).ok());
stored!(i64, label(v) Label::try_from(v).ok());
stored!(f32, label(v)(f32::from(v as Label) == v).then_some(v as Label));
stored!(f64, label(v)(f64::from(v as Label) == v).then_some(v as Label));

/// Runs a generic function on the Rust type of a [`VoxelType`] and the byte order:
/// `with_stored!(voxel_type, big_endian, f(arguments))` calls `f::<T, BIG>(arguments)`.
macro_rules! with_stored {
    ($voxel_type:expr, $big:expr, $f:ident($($arg:expr),*)) => {{
        use $crate::voxels::VoxelType as V;
        match ($voxel_type, $big) {
            (V::Uint8, _) => $f::<u8, false>($($arg),*),
            (V::Int8, _) => $f::<i8, false>($($arg),*),
            (V::Uint16, false) => $f::<u16, false>($($arg),*),
            (V::Uint16, true) => $f::<u16, true>($($arg),*),
            (V::Int16, false) => $f::<i16, false>($($arg),*),
            (V::Int16, true) => $f::<i16, true>($($arg),*),
            (V::Uint32, false) => $f::<u32, false>($($arg),*),
            (V::Uint32, true) => $f::<u32, true>($($arg),*),
            (V::Int32, false) => $f::<i32, false>($($arg),*),
            (V::Int32, true) => $f::<i32, true>($($arg),*),
            (V::Uint64, false) => $f::<u64, false>($($arg),*),
            (V::Uint64, true) => $f::<u64, true>($($arg),*),
            (V::Int64, false) => $f::<i64, false>($($arg),*),
            (V::Int64, true) => $f::<i64, true>($($arg),*),
            (V::Float32, false) => $f::<f32, false>($($arg),*),
            (V::Float32, true) => $f::<f32, true>($($arg),*),
            (V::Float64, false) => $f::<f64, false>($($arg),*),
            (V::Float64, true) => $f::<f64, true>($($arg),*),
        }
    }};
}
pub(crate) use with_stored;

/// Stored values as the numbers they mean, in single precision.
pub(crate) fn to_f32(
    bytes: &[u8],
    voxel_type: VoxelType,
    big: bool,
    scale: Option<Scale>,
) -> Result<Vec<f32>, Problem> {
    fn run<T: Stored, const BIG: bool>(bytes: &[u8], scale: Option<Scale>) -> Result<Vec<f32>, Problem> {
        let values = T::values::<BIG>(bytes);
        let mut out = reserve(values.len())?;
        match scale {
            None => out.extend(values.map(T::to_f32)),
            Some(scale) => out.extend(values.map(|v| scale.apply(v.to_f64()) as f32)),
        }
        Ok(out)
    }
    with_stored!(voxel_type, big, run(bytes, scale))
}

/// Stored values as labels: whole numbers from 0 to 65535.
pub(crate) fn to_labels(
    bytes: &[u8],
    voxel_type: VoxelType,
    big: bool,
    scale: Option<Scale>,
) -> Result<Vec<Label>, Problem> {
    fn run<T: Stored, const BIG: bool>(bytes: &[u8], scale: Option<Scale>) -> Result<Vec<Label>, Problem> {
        let values = T::values::<BIG>(bytes);
        match scale {
            None => collect_labels(values, T::to_label, T::to_f64),
            Some(scale) => collect_labels(values.map(|v| scale.apply(v.to_f64())), scaled_label, |v| v),
        }
    }
    with_stored!(voxel_type, big, run(bytes, scale))
}

fn collect_labels<T: Copy>(
    values: impl ExactSizeIterator<Item = T> + Clone,
    label: impl Fn(T) -> Option<Label>,
    number: impl Fn(T) -> f64,
) -> Result<Vec<Label>, Problem> {
    let mut out = reserve(values.len())?;
    let mut wrong = 0;
    out.extend(values.clone().map(|v| {
        let label = label(v);
        wrong += usize::from(label.is_none());
        label.unwrap_or_default()
    }));
    match values.into_iter().find(|v| wrong > 0 && label(*v).is_none()) {
        Some(example) => Err(Problem::LabelValue { example: number(example), count: wrong }),
        None => Ok(out),
    }
}

/// The label that a scaled value is. It may miss the whole number by the rounding of the slope, which headers hold in
/// single precision: 255 · (1/255) is 1.00000006.
fn scaled_label(value: f64) -> Option<Label> {
    const SLOPE_ROUNDING: f64 = f32::EPSILON as f64;
    let whole = value.round();
    ((value - whole).abs() <= SLOPE_ROUNDING * whole.max(1.0)).then(|| whole.to_label()).flatten()
}

fn reserve<T>(n: usize) -> Result<Vec<T>, Problem> {
    let mut out = Vec::new();
    let bytes = n.saturating_mul(size_of::<T>()) as u64;
    out.try_reserve_exact(n).map_err(|_| Problem::Memory { action: "read the voxels", bytes })?;
    Ok(out)
}
