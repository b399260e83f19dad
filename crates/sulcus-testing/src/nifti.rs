use libdeflater::{CompressionLvl, Compressor, Crc};

/// A NIfTI file, built field by field from the standard (`nifti1.h`, `nifti2.h`), independently of the code under test.
#[derive(Clone, Debug)]
pub struct NiftiFile {
    /// Whether all fields and voxels are big-endian. The voxels are given in the byte order of the file.
    pub big_endian: bool,
    /// `sizeof_hdr`.
    pub sizeof_hdr: i32,
    /// `dim`: the number of axes and their lengths.
    pub dim: [i16; 8],
    /// `datatype`.
    pub datatype: i16,
    /// `bitpix`.
    pub bitpix: i16,
    /// `pixdim`: the voxel sizes.
    pub pixdim: [f32; 8],
    /// `vox_offset`: the offset of the voxels.
    pub vox_offset: f32,
    /// `scl_slope`.
    pub slope: f32,
    /// `scl_inter`.
    pub inter: f32,
    /// `qform_code`.
    pub qform_code: i16,
    /// `sform_code`.
    pub sform_code: i16,
    /// `quatern_b`, `_c` and `_d`, then `qoffset_x`, `_y` and `_z`.
    pub quatern: [f32; 6],
    /// `srow_x`, `srow_y` and `srow_z`.
    pub srow: [[f32; 4]; 3],
    /// `magic`.
    pub magic: [u8; 4],
    /// The bytes between the header and the voxels.
    pub between: Vec<u8>,
    /// The bytes of the voxels.
    pub voxels: Vec<u8>,
    /// Whether `dim_info`, `xyzt_units` (mm and s), `cal_max`, `cal_min` and `descrip` have values.
    pub optional_fields: bool,
}

impl Default for NiftiFile {
    /// A little-endian file with 2 × 3 × 4 uint8 voxels 0…23 of 1 × 2 × 3 mm; the sform is LAS.
    fn default() -> Self {
        Self {
            big_endian: false,
            sizeof_hdr: 348,
            dim: [3, 2, 3, 4, 1, 1, 1, 1],
            datatype: 2,
            bitpix: 8,
            pixdim: [1.0, 1.0, 2.0, 3.0, 1.0, 1.0, 1.0, 1.0],
            vox_offset: 352.0,
            slope: 1.0,
            inter: 0.0,
            qform_code: 0,
            sform_code: 1,
            quatern: [0.0; 6],
            srow: [[-1.0, 0.0, 0.0, 10.0], [0.0, 2.0, 0.0, -20.0], [0.0, 0.0, 3.0, 30.0]],
            magic: *b"n+1\0",
            between: vec![0; 4],
            voxels: (0..24).collect(),
            optional_fields: true,
        }
    }
}

impl NiftiFile {
    /// The 348 bytes of the NIfTI-1 header.
    pub fn header(&self) -> Vec<u8> {
        let mut h = vec![0_u8; 348];
        let i16s = |v: &[i16]| {
            v.iter().flat_map(|v| if self.big_endian { v.to_be_bytes() } else { v.to_le_bytes() }).collect()
        };
        let i32s = |v: i32| if self.big_endian { v.to_be_bytes() } else { v.to_le_bytes() }.to_vec();
        let f32s = |v: &[f32]| {
            v.iter().flat_map(|v| if self.big_endian { v.to_be_bytes() } else { v.to_le_bytes() }).collect()
        };
        let mut put = |at: usize, bytes: Vec<u8>| h[at..at + bytes.len()].copy_from_slice(&bytes);
        put(0, i32s(self.sizeof_hdr));
        if self.optional_fields {
            put(38, b"r".to_vec());
            put(39, vec![0x39]);
            put(123, vec![10]);
            put(124, f32s(&[255.0, 1.0]));
            put(148, b"patient name".to_vec());
        }
        put(40, i16s(&self.dim));
        put(70, i16s(&[self.datatype, self.bitpix]));
        put(76, f32s(&self.pixdim));
        put(108, f32s(&[self.vox_offset, self.slope, self.inter]));
        put(252, i16s(&[self.qform_code, self.sform_code]));
        put(256, f32s(&self.quatern));
        put(280, f32s(self.srow.as_flattened()));
        put(344, self.magic.to_vec());
        h
    }

    /// The same volume as a NIfTI-2 file.
    pub fn bytes_version_2(&self) -> Vec<u8> {
        let mut h = vec![0_u8; 540];
        let order = |mut b: Vec<u8>| {
            if self.big_endian {
                b.reverse();
            }
            b
        };
        let i16s = |v: &[i16]| v.iter().flat_map(|v| order(v.to_le_bytes().into())).collect::<Vec<_>>();
        let i32s = |v: &[i32]| v.iter().flat_map(|v| order(v.to_le_bytes().into())).collect::<Vec<_>>();
        let i64s = |v: &[i64]| v.iter().flat_map(|v| order(v.to_le_bytes().into())).collect::<Vec<_>>();
        let f64s =
            |v: &[f32]| v.iter().flat_map(|v| order(f64::from(*v).to_le_bytes().into())).collect::<Vec<_>>();
        let mut put = |at: usize, bytes: Vec<u8>| h[at..at + bytes.len()].copy_from_slice(&bytes);
        put(0, i32s(&[540]));
        put(4, if self.magic == *b"ni1\0" { b"ni2\0" } else { b"n+2\0" }.to_vec());
        put(8, b"\r\n\x1a\n".to_vec());
        put(12, i16s(&[self.datatype, self.bitpix]));
        put(16, i64s(&self.dim.map(i64::from)));
        put(104, f64s(&self.pixdim));
        put(168, i64s(&[if self.magic == *b"ni1\0" { 0 } else { 540 + self.between.len() as i64 }]));
        put(176, f64s(&[self.slope, self.inter]));
        if self.optional_fields {
            put(240, b"patient name".to_vec());
            put(500, i32s(&[10]));
            put(524, vec![0x39]);
        }
        put(344, i32s(&[self.qform_code.into(), self.sform_code.into()]));
        put(352, f64s(&self.quatern));
        put(400, f64s(self.srow.as_flattened()));
        [h, self.between.clone(), self.voxels.clone()].concat()
    }

    /// The whole NIfTI-1 file.
    pub fn bytes(&self) -> Vec<u8> {
        let mut file = self.header();
        file.extend(&self.between);
        file.extend(&self.voxels);
        file
    }
}

/// A NIfTI-1 file with float32 voxels of 1 mm and only the required header fields. Without an sform the position in the patient
/// is unknown.
pub fn nifti(shape: &[i16], values: &[f32], sform: Option<[[f32; 4]; 3]>) -> Vec<u8> {
    let mut dim = [1; 8];
    dim[0] = shape.len() as i16;
    dim[1..=shape.len()].copy_from_slice(shape);
    NiftiFile {
        dim,
        datatype: 16,
        bitpix: 32,
        pixdim: [1.0; 8],
        slope: 0.0,
        sform_code: i16::from(sform.is_some()),
        srow: sform.unwrap_or_default(),
        voxels: values.iter().flat_map(|v| v.to_le_bytes()).collect(),
        optional_fields: false,
        ..NiftiFile::default()
    }
    .bytes()
}

/// One gzip member, with all optional header fields of RFC 1952 if `all_fields` is set.
pub fn gzip(content: &[u8], all_fields: bool) -> Vec<u8> {
    let flags = if all_fields { 4 + 8 + 16 + 2 } else { 0 };
    let mut out = vec![0x1f, 0x8b, 8, flags, 0, 0, 0, 0, 0, 255];
    if all_fields {
        out.extend(b"\x03\x00abcname.nii\0a comment\0");
        out.extend([0x12, 0x34]);
    }
    let mut compressor = Compressor::new(CompressionLvl::default());
    let mut deflated = vec![0; compressor.deflate_compress_bound(content.len())];
    let length = compressor.deflate_compress(content, &mut deflated).unwrap();
    out.extend(&deflated[..length]);
    let mut checksum = Crc::new();
    checksum.update(content);
    out.extend(checksum.sum().to_le_bytes());
    out.extend((content.len() as u32).to_le_bytes());
    out
}
