//! Siemens mosaics: pictures that show the slices of a volume as tiles.

use super::csa::CsaHeader;
use super::dataset::Dataset;
use super::error::{DicomError, DicomErrorKind};
use super::instance::{Frame, PixelLayout};
use super::slice_stack::axes;
use super::tags;

/// Scanners put up to a few hundred slices into a picture.
const MAX_SLICES: usize = 1024;
/// The tolerance of the slice normal: 0.5°, as a cosine.
const MIN_COSINE: f64 = 0.999_96;

/// The tiles of a picture: `grid` × `grid` of the same size, in reading order, of which the first `slices` are used.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Mosaic {
    grid: usize,
    slices: usize,
    /// The size of a tile.
    pub(crate) rows: usize,
    pub(crate) columns: usize,
    /// The direction from one slice to the next, as the scanner states it.
    normal: [f64; 3],
    distance_mm: f64,
}

impl Mosaic {
    /// The mosaic in a file; `None` for other files. Enhanced files keep the word in ImageType after their tiles became
    /// frames.
    ///
    /// # Errors
    /// When the file does not describe its tiles, or describes them inconsistently: a wrong guess would be a volume with wrong
    /// neighbours or a wrong order of slices.
    pub(crate) fn find(set: &Dataset<'_>, layout: &PixelLayout) -> Result<Option<Self>, DicomError> {
        if layout.frames > 1 || !set.items(tags::SHARED_GROUPS).is_empty() {
            return Ok(None);
        }
        let own = set.text(tags::MOSAIC_CREATOR).as_deref() == Some("SIEMENS MR HEADER");
        let stated = set.short(tags::IMAGES_IN_MOSAIC).filter(|tiles| own && *tiles > 1).map(usize::from);
        if stated.is_none() && !set.has_value(tags::IMAGE_TYPE, "MOSAIC") {
            return Ok(None);
        }
        let what =
            stated.map_or("a mosaic".to_owned(), |tiles| format!("a mosaic of {tiles} slices in one picture"));
        let refuse = |reason: &str| refused(format!("{what}, {reason}"));
        let csa = CsaHeader::find(set).ok_or_else(|| refuse("without the CSA header that describes its tiles"))?;
        let slices = csa.numbers("NumberOfImagesInMosaic").map(|[n]| n);
        let slices = slices.filter(|n| n.fract() == 0.0 && (1.0..=MAX_SLICES as f64).contains(n));
        let slices = slices.ok_or_else(|| refuse("without a number of slices in its CSA header"))? as usize;
        if stated.is_some_and(|stated| stated != slices) {
            return Err(refuse(&format!("and of {slices} according to its CSA header")));
        }
        let normal = csa.numbers("SliceNormalVector");
        let normal = normal.ok_or_else(|| refuse("without the direction of its slices (SliceNormalVector)"))?;
        let distance = set.decimals(tags::SPACING_BETWEEN_SLICES).ok().flatten().map(|[mm]| mm);
        let distance_mm = distance
            .filter(|mm| *mm > 0.0)
            .ok_or_else(|| refuse("without the distance of its slices (SpacingBetweenSlices)"))?;
        let grid = slices.isqrt() + usize::from(slices.isqrt().pow(2) < slices);
        let (rows, columns) = (layout.rows / grid, layout.columns / grid);
        if rows * grid != layout.rows || columns * grid != layout.columns {
            let size = format!("{} × {} pixels", layout.rows, layout.columns);
            return Err(refuse(&format!("whose {size} are not {grid} × {grid} equal tiles")));
        }
        // A slice that was cut out of a mosaic by other software may keep the private attributes.
        let acquired = set.shorts(tags::ACQUISITION_MATRIX).into_iter().take(2).max().map_or(0, usize::from);
        if acquired > rows.max(columns) {
            return Err(refuse(&format!(
                "whose tiles of {rows} × {columns} pixels are smaller than the acquired matrix ({acquired} samples)"
            )));
        }
        Ok(Some(Self { grid, slices, rows, columns, normal, distance_mm }))
    }

    /// The frames of the slices, from that of the picture. The position of the picture is that of the first tile if it had the
    /// size of the picture with the same centre, so it is moved by half of the difference. From there the slices follow
    /// each other along the normal that the CSA header states, which may be opposite to the normal of the other slices of
    /// DICOM. dcm2niix and nibabel (<https://nipy.org/nibabel/dicom/dicom_mosaic.html>) do the same.
    pub(crate) fn frames(&self, picture: &Frame) -> Result<Vec<Frame>, DicomError> {
        let [row, column, normal] = axes(picture.orientation);
        let cosine: f64 = normal.iter().zip(self.normal).map(|(a, b)| a * b).sum();
        if !(MIN_COSINE..=1.0 / MIN_COSINE).contains(&cosine.abs()) {
            return Err(refused(
                "a mosaic whose slices are not perpendicular to their direction (SliceNormalVector)".into(),
            ));
        }
        let step = self.distance_mm.copysign(cosine);
        let [down, across] = picture.spacing;
        // Half of the difference in tiles, times the size of a tile.
        let moved = |pixels: usize, mm: f64| (self.grid - 1) as f64 / 2.0 * pixels as f64 * mm;
        let (along_row, along_column) = (moved(self.columns, across), moved(self.rows, down));
        let frame = |slice: usize| {
            let height = slice as f64 * step;
            let position = std::array::from_fn(|i| {
                picture.position[i] + along_row * row[i] + along_column * column[i] + height * normal[i]
            });
            Frame { position, thickness_mm: Some(self.distance_mm), ..picture.clone() }
        };
        Ok((0..self.slices).map(frame).collect())
    }

    /// The pixels of a slice, from those of the picture.
    pub(crate) fn slice(&self, picture: &[f64], slice: usize) -> Vec<f64> {
        let width = self.grid * self.columns;
        let tile_rows = picture.chunks_exact(width).skip(slice / self.grid * self.rows).take(self.rows);
        let first = slice % self.grid * self.columns;
        tile_rows.flat_map(|row| row.get(first..first + self.columns).unwrap_or_default()).copied().collect()
    }

    /// Checks that the tiles after the last slice are empty. Otherwise the number of slices is wrong.
    pub(crate) fn check_unused_tiles(&self, picture: &[f64]) -> Result<(), DicomError> {
        let mut unused = (self.slices..self.grid * self.grid).flat_map(|tile| self.slice(picture, tile));
        let first = unused.next();
        if unused.all(|value| Some(value) == first) {
            return Ok(());
        }
        Err(refused(format!("a mosaic of {} slices with pixels in further tiles", self.slices)))
    }
}

fn refused(found: String) -> DicomError {
    DicomError::new(
        DicomErrorKind::Mosaic,
        "one slice per picture, or a mosaic that describes its slices",
        found,
        "convert the series to NIfTI with dcm2niix, which separates the tiles, or export it as enhanced DICOM",
    )
}
