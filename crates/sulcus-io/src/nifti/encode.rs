use sulcus_volume::{Image, LabelMap, LabelTable, OrientationSource};

use super::extension;
use super::fields::HEADER_BYTES;
use super::header::{FIRST_VOXEL, MAGIC_SINGLE};
use crate::error::{IoError, Problem};
use crate::gzip;
use crate::source::Source;
use crate::voxels::VoxelType;

/// Whether a file is gzipped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// `.nii`
    None,
    /// `.nii.gz`
    Gzip,
}

/// `NIFTI_INTENT_LABEL`.
const INTENT_LABEL: i16 = 1002;

/// The bytes of a label map as a NIfTI-1 file on the same grid as `like`: the sform, qform, voxel sizes, units and
/// codes of a NIfTI file bit for bit, for any other the grid as sform; little-endian, uint8 where the labels fit and uint16 otherwise, intent `NIFTI_INTENT_LABEL`,
/// names and colours of `table` in a header extension.
///
/// # Errors
/// When the labels lie on another grid than `like`, or NIfTI-1 can't count its voxels.
pub fn encode_labels(
    labels: &LabelMap,
    like: &Source,
    table: &LabelTable,
    compression: Compression,
) -> Result<Vec<u8>, IoError> {
    let same = like.geometry().check_same_grid(labels.geometry());
    same.map_err(|source| Problem::Volume {
        action: "write the mask on the grid of its input",
        source: source.into(),
    })?;
    let largest = labels.data().iter().max().copied().unwrap_or(0);
    let voxel_type = if largest <= u16::from(u8::MAX) { VoxelType::Uint8 } else { VoxelType::Uint16 };
    let extensions = extension::encode(table);
    let mut file = start_file(like, voxel_type, 1, &extensions, labels.data().len())?;
    put(&mut file, 68, INTENT_LABEL.to_le_bytes());
    put(&mut file, 328, *b"labels");
    if voxel_type == VoxelType::Uint8 {
        file.extend(labels.data().iter().map(|v| *v as u8));
    } else {
        labels.data().iter().for_each(|v| file.extend(v.to_le_bytes()));
    }
    finish(file, compression)
}

/// The bytes of an image as a float32 NIfTI-1 file on the same grid as `like`; more than one channel make it 4-D.
///
/// # Errors
/// When the image lies on another grid than `like`, or has more than 32767 channels.
pub fn encode_image(image: &Image, like: &Source, compression: Compression) -> Result<Vec<u8>, IoError> {
    let same = like.geometry().check_same_grid(image.geometry());
    same.map_err(|source| Problem::Volume {
        action: "write the image on the grid of its input",
        source: source.into(),
    })?;
    let mut file = start_file(like, VoxelType::Float32, image.channels(), &[0; 4], image.data().len())?;
    image.data().iter().for_each(|v| file.extend(v.to_le_bytes()));
    finish(file, compression)
}

fn put<const N: usize>(file: &mut [u8], at: usize, bytes: [u8; N]) {
    if let Some(field) = file.get_mut(at..at + N) {
        field.copy_from_slice(&bytes);
    }
}

/// A little-endian header and what comes before the voxels, with room for them. What a reader takes as the patient's
/// (description, names of other files, dates) isn't copied.
fn start_file(
    like: &Source,
    voxel_type: VoxelType,
    channels: usize,
    extensions: &[u8],
    values: usize,
) -> Result<Vec<u8>, Problem> {
    let header = like.nifti_header()?;
    let fields = header.fields();
    let first_voxel = (HEADER_BYTES + extensions.len()).max(FIRST_VOXEL as usize);
    let bytes = first_voxel.saturating_add(values.saturating_mul(voxel_type.bytes()));
    let mut file = Vec::new();
    let memory = |_| Problem::Memory { action: "write the volume", bytes: bytes as u64 };
    file.try_reserve_exact(bytes).map_err(memory)?;
    file.resize(first_voxel, 0);

    put(&mut file, 0, (HEADER_BYTES as i32).to_le_bytes());
    put(&mut file, 38, *b"r");
    put(&mut file, 39, [fields.dim_info]);
    let [x, y, z] = like.geometry().shape();
    let rank = if channels == 1 { 3 } else { 4 };
    for (i, n) in [rank, x, y, z, channels, 1, 1, 1].into_iter().enumerate() {
        let n = i16::try_from(n).map_err(|_| Problem::Header {
            action: "write",
            expected: "at most 32767 values along an axis, which is what NIfTI-1 can count".into(),
            found: n.to_string(),
            hint: "split the volume",
        })?;
        put(&mut file, 40 + 2 * i, n.to_le_bytes());
    }
    put(&mut file, 70, (voxel_type.nifti() as i16).to_le_bytes());
    put(&mut file, 72, (voxel_type.bytes() as i16 * 8).to_le_bytes());
    put_floats(&mut file, 76, &fields.pixdim);
    if like.geometry().source() == OrientationSource::None {
        // Nothing but these places the volume, and a picture's missing axes had size 1; as axes of length 1 they
        // would get the size that pixdim happens to hold.
        (1 + usize::from(fields.dim[0])..4).for_each(|i| put_floats(&mut file, 76 + 4 * i, &[1.0]));
    }
    put_floats(&mut file, 108, &[first_voxel as f32, 1.0, 0.0]);
    put(&mut file, 123, [fields.xyzt_units]);
    let version = concat!("sulcus ", env!("CARGO_PKG_VERSION")).bytes();
    file.iter_mut().skip(148).take(79).zip(version).for_each(|(byte, letter)| *byte = letter);
    put(&mut file, 252, fields.qform_code.to_le_bytes());
    put(&mut file, 254, fields.sform_code.to_le_bytes());
    let quaternion = [fields.quatern_b, fields.quatern_c, fields.quatern_d];
    put_floats(&mut file, 256, &quaternion);
    put_floats(&mut file, 268, &[fields.quatern_x, fields.quatern_y, fields.quatern_z]);
    put_floats(&mut file, 280, &fields.srow_x);
    put_floats(&mut file, 296, &fields.srow_y);
    put_floats(&mut file, 312, &fields.srow_z);
    put(&mut file, 344, *MAGIC_SINGLE);
    file.iter_mut().skip(HEADER_BYTES).zip(extensions).for_each(|(byte, new)| *byte = *new);
    Ok(file)
}

fn put_floats(file: &mut [u8], at: usize, values: &[f32]) {
    for (i, value) in values.iter().enumerate() {
        put(file, at + 4 * i, value.to_le_bytes());
    }
}

fn finish(file: Vec<u8>, compression: Compression) -> Result<Vec<u8>, IoError> {
    match compression {
        Compression::None => Ok(file),
        Compression::Gzip => Ok(gzip::deflate(&file)?),
    }
}
