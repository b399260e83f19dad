use std::ops::Range;

use sulcus_model::SplitRule;
use sulcus_volume::{Image, LabelMap};

use crate::{Crop, PipelineError};

/// A grid that is divided into three parts along its third axis, each with a margin.
#[derive(Debug, Clone)]
pub struct Thirds {
    shape: [usize; 3],
    /// The slices that each part sees, and those of them that it decides.
    slices: [(Range<usize>, Range<usize>); 3],
}

impl Thirds {
    /// The parts of a grid of this shape; `None` if it is not divided.
    pub fn of(rule: Option<SplitRule>, shape: [usize; 3]) -> Option<Self> {
        let SplitRule { margin, .. } = rule.filter(|rule| rule.divides(shape))?;
        let (slices, third) = (shape[2], shape[2] / 3);
        // One slice less before a part than after it, as in TotalSegmentator.
        let before = |start: usize| (start + 1).saturating_sub(margin);
        let after = |end: usize| (end + margin).min(slices);
        let part = |own: Range<usize>| (before(own.start)..after(own.end), own);
        let [(_, first), second, third] = [part(0..third), part(third..2 * third), part(2 * third..slices)];
        Some(Self { shape, slices: [(0..after(first.end), first), second, third] })
    }

    /// The image of each part. Like TotalSegmentator's, its first slice lies where that of the whole grid does.
    ///
    /// # Errors
    /// None for a grid that was read from a file.
    pub fn image(&self, part: usize, image: &Image) -> Result<Image, PipelineError> {
        let geometry = image.geometry();
        let (seen, _) = self.slices.get(part).cloned().unwrap_or_default();
        let [nx, ny, _] = self.shape;
        let crop = Crop::to_box(geometry, [0..nx, 0..ny, seen.clone()])?;
        let (_, values) = crop.image(image)?.into_parts();
        let grid = geometry.with_grid([nx, ny, seen.len()], *geometry.ras_from_voxel())?;
        Ok(Image::new(grid, image.channels(), values)?)
    }

    /// Number of parts.
    pub const COUNT: usize = 3;

    /// Puts the slices that a part decides into the mask of the whole grid.
    pub fn put(&self, part: usize, mask: &LabelMap, whole: &mut [sulcus_volume::Label]) {
        let Some((seen, own)) = self.slices.get(part) else { return };
        let [nx, ny, _] = self.shape;
        let plane = nx * ny;
        let skipped = own.start - seen.start;
        let from = mask.data().get(skipped * plane..(skipped + own.len()) * plane);
        let to = whole.get_mut(own.start * plane..own.end * plane);
        if let Some((to, from)) = to.zip(from) {
            to.copy_from_slice(from);
        }
    }
}

#[cfg(test)]
mod tests {
    use sulcus_volume::{Geometry, Orientation, OrientationSource, RasFromVoxel, Spacing};

    use super::*;

    #[test]
    fn parts_overlap_and_decide_every_slice_once() {
        let rule = SplitRule { above_voxels: 100, above_slices: 9, margin: 3 };
        for slices in 10..40 {
            let shape = [4, 3, slices];
            let map = RasFromVoxel::aligned(Orientation::RAS, Spacing::new([1.0; 3]).unwrap());
            let geometry = Geometry::new(shape, map, OrientationSource::Sform).unwrap();
            let image = Image::new(geometry, 1, (0..12 * slices).map(|v| v as f32).collect()).unwrap();
            let thirds = Thirds::of(Some(rule), shape).unwrap();
            let mut whole = vec![0; 12 * slices];
            for part in 0..Thirds::COUNT {
                let seen = thirds.image(part, &image).unwrap();
                let mask =
                    LabelMap::new(*seen.geometry(), seen.data().iter().map(|v| *v as u16).collect()).unwrap();
                thirds.put(part, &mask, &mut whole);
                let third = slices / 3;
                let expected = [0..third + 3, third - 2..2 * third + 3, 2 * third - 2..slices][part].clone();
                assert_eq!(thirds.slices[part].0, expected, "part {part} of {slices}");
            }
            assert!(whole.iter().enumerate().all(|(i, v)| i == usize::from(*v)), "{slices} slices");
        }
        assert!(Thirds::of(Some(rule), [4, 3, 9]).is_none() && Thirds::of(Some(rule), [2, 2, 20]).is_none());
        assert!(Thirds::of(None, [4, 3, 90]).is_none());
    }
}
