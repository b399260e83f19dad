//! The layout of the header: NIfTI-1 as in `nifti1.h` of the standard, NIfTI-2 as in `nifti2.h`.

/// The version of the format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Version {
    One,
    Two,
}

/// The fields, with the names of both versions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Key {
    SizeofHdr,
    Magic,
    EolCheck,
    Regular,
    DimInfo,
    Dim,
    IntentP,
    IntentCode,
    IntentName,
    Datatype,
    Bitpix,
    SliceStart,
    SliceEnd,
    SliceCode,
    SliceDuration,
    Pixdim,
    VoxOffset,
    SclSlope,
    SclInter,
    XyztUnits,
    CalMax,
    CalMin,
    Toffset,
    /// Only in NIfTI-1. FreeSurfer stores the length of a long axis there.
    Glmin,
    DbName,
    Descrip,
    AuxFile,
    QformCode,
    SformCode,
    Quatern,
    Qoffset,
    Srow,
}

/// The type of a field's values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Bytes,
    I16,
    I32,
    I64,
    F32,
    F64,
}

impl Kind {
    pub(crate) fn size(self) -> usize {
        match self {
            Self::Bytes => 1,
            Self::I16 => 2,
            Self::I32 | Self::F32 => 4,
            Self::I64 | Self::F64 => 8,
        }
    }
}

/// One field: its offset, and the type and number of its values.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Field {
    pub(crate) name: Key,
    pub(crate) at: usize,
    pub(crate) kind: Kind,
    pub(crate) count: usize,
}

const fn field(name: Key, at: usize, kind: Kind, count: usize) -> Field {
    Field { name, at, kind, count }
}

const ONE: &[Field] = &[
    field(Key::SizeofHdr, 0, Kind::I32, 1),
    field(Key::DbName, 14, Kind::Bytes, 18),
    field(Key::Regular, 38, Kind::Bytes, 1),
    field(Key::DimInfo, 39, Kind::Bytes, 1),
    field(Key::Dim, 40, Kind::I16, 8),
    field(Key::IntentP, 56, Kind::F32, 3),
    field(Key::IntentCode, 68, Kind::I16, 1),
    field(Key::Datatype, 70, Kind::I16, 1),
    field(Key::Bitpix, 72, Kind::I16, 1),
    field(Key::SliceStart, 74, Kind::I16, 1),
    field(Key::Pixdim, 76, Kind::F32, 8),
    field(Key::VoxOffset, 108, Kind::F32, 1),
    field(Key::SclSlope, 112, Kind::F32, 1),
    field(Key::SclInter, 116, Kind::F32, 1),
    field(Key::SliceEnd, 120, Kind::I16, 1),
    field(Key::SliceCode, 122, Kind::Bytes, 1),
    field(Key::XyztUnits, 123, Kind::Bytes, 1),
    field(Key::CalMax, 124, Kind::F32, 1),
    field(Key::CalMin, 128, Kind::F32, 1),
    field(Key::SliceDuration, 132, Kind::F32, 1),
    field(Key::Toffset, 136, Kind::F32, 1),
    field(Key::Glmin, 144, Kind::I32, 1),
    field(Key::Descrip, 148, Kind::Bytes, 80),
    field(Key::AuxFile, 228, Kind::Bytes, 24),
    field(Key::QformCode, 252, Kind::I16, 1),
    field(Key::SformCode, 254, Kind::I16, 1),
    field(Key::Quatern, 256, Kind::F32, 3),
    field(Key::Qoffset, 268, Kind::F32, 3),
    field(Key::Srow, 280, Kind::F32, 12),
    field(Key::IntentName, 328, Kind::Bytes, 16),
    field(Key::Magic, 344, Kind::Bytes, 4),
];

const TWO: &[Field] = &[
    field(Key::SizeofHdr, 0, Kind::I32, 1),
    field(Key::Magic, 4, Kind::Bytes, 4),
    field(Key::EolCheck, 8, Kind::Bytes, 4),
    field(Key::Datatype, 12, Kind::I16, 1),
    field(Key::Bitpix, 14, Kind::I16, 1),
    field(Key::Dim, 16, Kind::I64, 8),
    field(Key::IntentP, 80, Kind::F64, 3),
    field(Key::Pixdim, 104, Kind::F64, 8),
    field(Key::VoxOffset, 168, Kind::I64, 1),
    field(Key::SclSlope, 176, Kind::F64, 1),
    field(Key::SclInter, 184, Kind::F64, 1),
    field(Key::CalMax, 192, Kind::F64, 1),
    field(Key::CalMin, 200, Kind::F64, 1),
    field(Key::SliceDuration, 208, Kind::F64, 1),
    field(Key::Toffset, 216, Kind::F64, 1),
    field(Key::SliceStart, 224, Kind::I64, 1),
    field(Key::SliceEnd, 232, Kind::I64, 1),
    field(Key::Descrip, 240, Kind::Bytes, 80),
    field(Key::AuxFile, 320, Kind::Bytes, 24),
    field(Key::QformCode, 344, Kind::I32, 1),
    field(Key::SformCode, 348, Kind::I32, 1),
    field(Key::Quatern, 352, Kind::F64, 3),
    field(Key::Qoffset, 376, Kind::F64, 3),
    field(Key::Srow, 400, Kind::F64, 12),
    field(Key::SliceCode, 496, Kind::I32, 1),
    field(Key::XyztUnits, 500, Kind::I32, 1),
    field(Key::IntentCode, 504, Kind::I32, 1),
    field(Key::IntentName, 508, Kind::Bytes, 16),
    field(Key::DimInfo, 524, Kind::Bytes, 1),
];

impl Version {
    /// The size of the header, which is the value of its first field.
    pub(crate) fn header_bytes(self) -> usize {
        match self {
            Self::One => 348,
            Self::Two => 540,
        }
    }

    pub(crate) fn fields(self) -> &'static [Field] {
        match self {
            Self::One => ONE,
            Self::Two => TWO,
        }
    }

    pub(crate) fn field(self, name: Key) -> Option<Field> {
        self.fields().iter().find(|field| field.name == name).copied()
    }

    /// The smallest possible offset of the voxels in a single file: after the header and the four bytes that announce
    /// extensions.
    pub(crate) fn first_voxel(self) -> u64 {
        self.header_bytes() as u64 + 4
    }

    /// The length of the longest axis that the header can represent.
    pub(crate) fn longest_axis(self) -> usize {
        match self {
            Self::One => i16::MAX as usize,
            Self::Two => usize::try_from(i64::MAX).unwrap_or(usize::MAX),
        }
    }

    pub(crate) fn magic(self, single: bool) -> &'static [u8; 4] {
        match (self, single) {
            (Self::One, true) => b"n+1\0",
            (Self::One, false) => b"ni1\0",
            (Self::Two, true) => b"n+2\0",
            (Self::Two, false) => b"ni2\0",
        }
    }
}
