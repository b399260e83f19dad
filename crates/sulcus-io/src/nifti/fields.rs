use ::nifti::{Endianness, NiftiHeader as Fields};

/// Bytes of a NIfTI-1 header.
pub(crate) const HEADER_BYTES: usize = 348;

/// The fields of a header, each at its place in the standard's `nifti1.h`, whose byte order and kind were checked. The
/// nifti crate's own reader guesses the byte order from the rank; it is known here. Fields that have no use here, such
/// as texts, which may name the patient, keep their defaults.
pub(crate) fn read(raw: &[u8; HEADER_BYTES], big: bool) -> Fields {
    let raw = Raw { raw, big };
    Fields {
        endianness: if big { Endianness::Big } else { Endianness::Little },
        dim_info: raw.byte(39),
        dim: std::array::from_fn(|i| raw.i16(40 + 2 * i).cast_unsigned()),
        datatype: raw.i16(70),
        bitpix: raw.i16(72),
        pixdim: raw.f32s(76),
        vox_offset: raw.f32(108),
        scl_slope: raw.f32(112),
        scl_inter: raw.f32(116),
        xyzt_units: raw.byte(123),
        qform_code: raw.i16(252),
        sform_code: raw.i16(254),
        quatern_b: raw.f32(256),
        quatern_c: raw.f32(260),
        quatern_d: raw.f32(264),
        quatern_x: raw.f32(268),
        quatern_y: raw.f32(272),
        quatern_z: raw.f32(276),
        srow_x: raw.f32s(280),
        srow_y: raw.f32s(296),
        srow_z: raw.f32s(312),
        magic: raw.bytes(344),
        ..Fields::default()
    }
}

struct Raw<'a> {
    raw: &'a [u8; HEADER_BYTES],
    big: bool,
}

impl Raw<'_> {
    fn bytes<const N: usize>(&self, at: usize) -> [u8; N] {
        // Every place above lies inside the header.
        self.raw.get(at..).and_then(|rest| rest.first_chunk()).copied().unwrap_or([0; N])
    }

    fn byte(&self, at: usize) -> u8 {
        let [byte] = self.bytes(at);
        byte
    }

    fn i16(&self, at: usize) -> i16 {
        let bytes = self.bytes(at);
        if self.big { i16::from_be_bytes(bytes) } else { i16::from_le_bytes(bytes) }
    }

    fn f32(&self, at: usize) -> f32 {
        let bytes = self.bytes(at);
        f32::from_bits(if self.big { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) })
    }

    fn f32s<const N: usize>(&self, at: usize) -> [f32; N] {
        std::array::from_fn(|i| self.f32(at + 4 * i))
    }
}
