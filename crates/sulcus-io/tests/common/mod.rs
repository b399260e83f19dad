//! NIfTI files built field by field from the standard (nifti1.h), by nothing that the crate itself uses.
#![allow(dead_code, reason = "each test file uses its own part")]

/// Values of a header, at the standard's offsets when written.
#[derive(Clone, Debug)]
pub(crate) struct RawFile {
    pub(crate) big: bool,
    pub(crate) sizeof_hdr: i32,
    pub(crate) dim: [i16; 8],
    pub(crate) datatype: i16,
    pub(crate) bitpix: i16,
    pub(crate) pixdim: [f32; 8],
    pub(crate) vox_offset: f32,
    pub(crate) slope: f32,
    pub(crate) inter: f32,
    pub(crate) qform_code: i16,
    pub(crate) sform_code: i16,
    /// b, c, d, then the offset x, y, z.
    pub(crate) quatern: [f32; 6],
    pub(crate) srow: [[f32; 4]; 3],
    pub(crate) magic: [u8; 4],
    /// What follows the 348 bytes, up to the voxels.
    pub(crate) between: Vec<u8>,
    pub(crate) voxels: Vec<u8>,
}

impl RawFile {
    /// A little-endian file of 2 × 3 × 4 uint8 voxels 0…23, of 1 × 2 × 3 mm, LAS, sform.
    pub(crate) fn new() -> Self {
        Self {
            big: false,
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
        }
    }

    pub(crate) fn header(&self) -> Vec<u8> {
        let mut h = vec![0_u8; 348];
        let i16s =
            |v: &[i16]| v.iter().flat_map(|v| if self.big { v.to_be_bytes() } else { v.to_le_bytes() }).collect();
        let i32s = |v: i32| if self.big { v.to_be_bytes() } else { v.to_le_bytes() }.to_vec();
        let f32s =
            |v: &[f32]| v.iter().flat_map(|v| if self.big { v.to_be_bytes() } else { v.to_le_bytes() }).collect();
        let mut put = |at: usize, bytes: Vec<u8>| h[at..at + bytes.len()].copy_from_slice(&bytes);
        put(0, i32s(self.sizeof_hdr));
        put(38, b"r".to_vec());
        put(39, vec![0x39]);
        put(40, i16s(&self.dim));
        put(70, i16s(&[self.datatype, self.bitpix]));
        put(76, f32s(&self.pixdim));
        put(108, f32s(&[self.vox_offset, self.slope, self.inter]));
        put(123, vec![10]);
        put(124, f32s(&[255.0, 1.0]));
        put(148, b"patient name".to_vec());
        put(252, i16s(&[self.qform_code, self.sform_code]));
        put(256, f32s(&self.quatern));
        put(280, f32s(self.srow.as_flattened()));
        put(344, self.magic.to_vec());
        h
    }

    /// The same file as NIfTI-2, with the voxels after whatever lies between.
    pub(crate) fn bytes_of_version_2(&self) -> Vec<u8> {
        let mut h = vec![0_u8; 540];
        let order = |mut b: Vec<u8>| {
            if self.big {
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
        put(240, b"patient name".to_vec());
        put(344, i32s(&[self.qform_code.into(), self.sform_code.into()]));
        put(352, f64s(&self.quatern));
        put(400, f64s(self.srow.as_flattened()));
        put(500, i32s(&[10]));
        put(524, vec![0x39]);
        [h, self.between.clone(), self.voxels.clone()].concat()
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut file = self.header();
        file.extend(&self.between);
        file.extend(&self.voxels);
        file
    }
}

/// One gzip member with the three optional texts of RFC 1952 when `fancy`.
pub(crate) fn gzip(content: &[u8], fancy: bool) -> Vec<u8> {
    let flags = if fancy { 4 + 8 + 16 + 2 } else { 0 };
    let mut out = vec![0x1f, 0x8b, 8, flags, 0, 0, 0, 0, 0, 255];
    if fancy {
        out.extend(b"\x03\x00abcname.nii\0a comment\0");
        out.extend([0x12, 0x34]);
    }
    out.extend(miniz_oxide::deflate::compress_to_vec(content, 6));
    let mut checksum = libdeflater::Crc::new();
    checksum.update(content);
    out.extend(checksum.sum().to_le_bytes());
    out.extend((content.len() as u32).to_le_bytes());
    out
}

/// A deterministic source of numbers (Marsaglia's xorshift64).
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub(crate) fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }
}
