//! Pictures of the browser viewer: PNG, JPEG and TIFF.
//!
//! This is a WebAssembly module of its own. It runs in a worker and is loaded when a picture is opened. A picture becomes an uncompressed
//! NIfTI file in memory, which the core reads, and the unit of its grid, which NIfTI cannot state. A mask goes the other way. The first page of
//! a stack is its topmost slice, so that slices are numbered as pages.

use sulcus_io::{
    Compression, StoredVolume, Texts, VolumeFormat, VolumeMetadata, VoxelType, encode_image, encode_labels,
    encode_labels_png, encode_labels_tiff, encode_stored, read_labels_bytes, read_scan_bytes, read_stored_bytes,
};
use sulcus_volume::{Geometry, GridUnit, Image, LabelMap, LabelTable, Orientation, RasFromVoxel};
use wasm_bindgen::prelude::wasm_bindgen;

/// A picture with more different values and without names of labels is an image.
const MAX_LABELS: usize = 16;

type Error = Box<dyn std::error::Error>;

/// A picture as a NIfTI file.
#[wasm_bindgen]
#[derive(Debug)]
pub struct Picture {
    file: Vec<u8>,
    unit: GridUnit,
    is_mask: bool,
}

#[wasm_bindgen]
impl Picture {
    /// Reads a picture: as an image or as a mask if that is `Some`, else as what it looks like. An image has the colours of the file; a
    /// mask has the values, which are indices if the file has a palette.
    ///
    /// Without a wish only a file without loss, with one channel, is a mask: one that has names of labels, or a few different values.
    ///
    /// # Errors
    /// A sentence that says why the picture cannot be read.
    pub fn read(bytes: &[u8], as_mask: Option<bool>) -> Result<Self, String> {
        Self::decode(bytes, as_mask).map_err(|error| error.to_string())
    }

    /// The unit of the grid: 1 millimetres along all axes, 2 millimetres along x and y alone, 3 pixels.
    pub fn unit(&self) -> u8 {
        match self.unit {
            GridUnit::Millimetre => 1,
            GridUnit::MillimetreInPlane => 2,
            GridUnit::Pixel => 3,
        }
    }

    /// Whether it was read as a mask.
    pub fn is_mask(&self) -> bool {
        self.is_mask
    }

    /// The NIfTI file, which can be taken once.
    pub fn take_file(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.file)
    }
}

impl Picture {
    fn decode(bytes: &[u8], as_mask: Option<bool>) -> Result<Self, Error> {
        let stored = read_stored_bytes(bytes)?;
        let grid = *stored.metadata().geometry();
        let pages = grid.with_grid(grid.shape(), RasFromVoxel::aligned(Orientation::LPI, grid.spacing()))?;
        let is_mask = as_mask.unwrap_or_else(|| looks_like_mask(&stored));
        let file = if is_mask {
            drop(stored);
            let (labels, metadata) = read_labels_bytes(bytes)?;
            let labels = LabelMap::new(pages, labels.into_parts().1)?;
            let no_names = LabelTable::default();
            let names = metadata.label_table().unwrap_or(&no_names);
            encode_labels(&labels, &metadata.on_grid(&pages)?, names, Compression::None)?
        } else if stored.metadata().image_channels() == stored.metadata().channels() {
            let volume = StoredVolume::new(stored.metadata().on_grid(&pages)?, stored.bytes())?;
            encode_stored(&volume, None, Texts::Drop, Compression::None)?
        } else {
            drop(stored);
            let scan = read_scan_bytes(bytes)?;
            let image = Image::new(pages, scan.image.channels(), scan.image.into_parts().1)?;
            encode_image(&image, &scan.metadata.on_grid(&pages)?, Compression::None)?
        };
        Ok(Self { file, unit: grid.unit(), is_mask })
    }
}

/// Whether the values are probably labels.
fn looks_like_mask(stored: &StoredVolume<'_>) -> bool {
    let metadata = stored.metadata();
    if metadata.format() == Some(VolumeFormat::Jpeg) || metadata.channels() != 1 {
        return false;
    }
    if metadata.label_table().is_some() {
        return true;
    }
    let bytes = stored.bytes();
    match metadata.voxel_type() {
        VoxelType::Uint8 => has_few_values(bytes.iter().map(|byte| usize::from(*byte))),
        VoxelType::Uint16 => {
            has_few_values(bytes.as_chunks::<2>().0.iter().map(|word| usize::from(u16::from_le_bytes(*word))))
        }
        _ => false,
    }
}

fn has_few_values(mut values: impl Iterator<Item = usize>) -> bool {
    let (mut seen, mut different) = (vec![false; 1 << 16], 0);
    values.all(|value| {
        different += usize::from(seen.get_mut(value).is_some_and(|seen| !std::mem::replace(seen, true)));
        different <= MAX_LABELS
    })
}

/// A mask, as an uncompressed NIfTI file, as a picture: a PNG whose indices are the labels, with their colours and names, or a TIFF with
/// a page for each slice. The grid has the `unit` of [`Picture::unit`].
///
/// # Errors
/// A sentence that says why the mask cannot be read, or not be written as a picture.
#[wasm_bindgen]
pub fn mask_picture(mask: &[u8], unit: u8) -> Result<Vec<u8>, String> {
    let unit = match unit {
        1 => GridUnit::Millimetre,
        2 => GridUnit::MillimetreInPlane,
        _ => GridUnit::Pixel,
    };
    encode(mask, unit).map_err(|error| error.to_string())
}

fn encode(mask: &[u8], unit: GridUnit) -> Result<Vec<u8>, Error> {
    let (labels, metadata) = read_labels_bytes(mask)?;
    let (grid, values) = labels.into_parts();
    let grid = Geometry::of_picture(grid.shape(), grid.spacing(), unit)?;
    let labels = LabelMap::new(grid, values)?;
    let (like, no_names) = (VolumeMetadata::from(grid), LabelTable::default());
    Ok(match grid.shape() {
        [_, _, 1] => encode_labels_png(&labels, &like, metadata.label_table().unwrap_or(&no_names))?,
        _ => encode_labels_tiff(&labels, &like)?,
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use sulcus_io::{read_image_bytes_without_statistics, read_labels, read_scan, write_labels, write_stored};
    use sulcus_volume::{LabelEntry, Rgb, Spacing};

    use super::*;

    fn retina(name: &str) -> std::path::PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/retina/data").join(name)
    }

    fn read(path: &Path, as_mask: Option<bool>) -> Picture {
        Picture::read(&std::fs::read(path).unwrap(), as_mask).unwrap()
    }

    #[test]
    fn colours_of_a_photograph_are_those_that_the_other_commands_read() {
        let path = retina("images/Image_01L.jpg");
        let mut found = read(&path, None);
        assert!(!found.is_mask() && found.unit() == 3);
        let (image, _) = read_image_bytes_without_statistics(&found.take_file()).unwrap();
        let expected = read_scan(&path).unwrap().image;
        assert_eq!((image.channels(), image.data()), (3, expected.data()));
    }

    #[test]
    fn indexed_mask_keeps_its_values_and_names_and_is_written_again() {
        let path = retina("masks/Image_01L.png");
        let mut found = read(&path, None);
        assert!(found.is_mask());
        let nifti = found.take_file();
        let (labels, metadata) = read_labels_bytes(&nifti).unwrap();
        let (expected, source) = read_labels(&path).unwrap();
        assert_eq!((labels.data(), metadata.label_table()), (expected.data(), source.label_table()));
        let written = mask_picture(&nifti, found.unit()).unwrap();
        let (again, again_source) = read_labels_bytes(&written).unwrap();
        assert_eq!((again.data(), again.geometry()), (expected.data(), expected.geometry()));
        assert_eq!(again_source.format(), Some(VolumeFormat::Png));
        assert_eq!(again_source.label_table(), source.label_table());
        // As an image it has the colours of its palette.
        let (image, _) = read_image_bytes_without_statistics(&read(&path, Some(false)).take_file()).unwrap();
        assert_eq!(image.data(), read_scan(&path).unwrap().image.data());
    }

    #[test]
    fn pages_of_sixteen_bits_and_the_size_of_a_pixel_stay() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("stack.tif");
        let grid =
            Geometry::of_picture([7, 5, 3], Spacing::new([0.5, 0.5, 1.0]).unwrap(), GridUnit::MillimetreInPlane);
        let grid = grid.unwrap();
        let like = VolumeMetadata::from(grid).with_values(VoxelType::Uint16, 1);
        let words: Vec<u8> = (0..grid.voxels()).flat_map(|i| (600 * i as u16).to_le_bytes()).collect();
        write_stored(&path, &StoredVolume::new(like.clone(), words).unwrap(), None, Texts::Drop).unwrap();
        let mut found = read(&path, None);
        let expected = read_scan(&path).unwrap();
        assert_eq!(found.unit, expected.image.geometry().unit());
        let (values, metadata) = read_image_bytes_without_statistics(&found.take_file()).unwrap();
        assert_eq!(values.data(), expected.image.data());
        assert_eq!(metadata.geometry().spacing(), expected.image.geometry().spacing());
        assert_eq!(
            (metadata.voxel_type(), metadata.geometry().orientation()),
            (VoxelType::Uint16, Orientation::LPI)
        );

        let labels = LabelMap::new(grid, (0..grid.voxels()).map(|i| (i / 40) as u16).collect()).unwrap();
        let entry = LabelEntry { value: 2, name: "cell".into(), color: Rgb([1, 2, 3]) };
        let table = LabelTable::new(vec![entry]).unwrap();
        let path = folder.path().join("mask.tif");
        write_labels(&path, &labels, &like, &table).unwrap();
        let mut mask = read(&path, None);
        assert!(mask.is_mask());
        let written = mask_picture(&mask.take_file(), mask.unit()).unwrap();
        let (again, source) = read_labels_bytes(&written).unwrap();
        assert_eq!((again.data(), source.format()), (labels.data(), Some(VolumeFormat::Tiff)));
    }

    #[test]
    fn what_a_picture_is_does_not_depend_on_chance() {
        let folder = tempfile::tempdir().unwrap();
        let spacing = Spacing::new([1.0; 3]).unwrap();
        let grid = Geometry::of_picture([64, 4, 1], spacing, GridUnit::Pixel).unwrap();
        let like = VolumeMetadata::from(grid).with_values(VoxelType::Uint8, 1);
        for (different, is_mask) in [(2, true), (MAX_LABELS, true), (MAX_LABELS + 1, false), (200, false)] {
            let path = folder.path().join(format!("{different}.png"));
            let values: Vec<u8> = (0..256).map(|i| (i % different) as u8).collect();
            write_stored(&path, &StoredVolume::new(like.clone(), values).unwrap(), None, Texts::Drop).unwrap();
            assert_eq!(read(&path, None).is_mask(), is_mask, "{different} values");
            assert!(read(&path, Some(true)).is_mask());
        }
    }

    #[test]
    fn masks_in_colours_and_damaged_files_are_refused() {
        let photograph = std::fs::read(retina("images/Image_01L.jpg")).unwrap();
        let refused = |bytes: &[u8], as_mask| Picture::read(bytes, as_mask).unwrap_err();
        assert!(refused(&photograph, Some(true)).contains("fourth axis"), "{}", refused(&photograph, Some(true)));
        assert!(refused(&photograph[..2000], None).contains("JPEG"));
        assert!(refused(b"\x89PNG\r\n\x1a\n", None).contains("PNG"));
        assert!(refused(b"", None).contains("empty"));
    }
}
