use sulcus_volume::{Image, Label};

/// The maximum number of distinct values of a label map. Atlases and whole-body segmentations have about a hundred.
const MAX_LABELS: usize = 512;
/// A volume with at most this many distinct whole numbers is always a label map, since no scan has so few.
const MAX_VALUES_OF_CERTAIN_LABELS: usize = 16;
/// The minimum fraction of equal neighbours along x outside the background. Neighbours within a structure are equal; in
/// scans noise makes this rare.
const MIN_EQUAL_NEIGHBOURS: f64 = 0.5;

/// Whether a volume of unknown kind is probably a label map: few distinct whole numbers that form connected regions.
pub fn looks_like_label_map(image: &Image) -> bool {
    if image.channels() != 1 {
        return false;
    }
    let values = image.data();
    let (mut seen, mut distinct) = (vec![false; usize::from(Label::MAX) + 1], 0);
    let mut last = f32::NAN;
    for value in values.iter().copied() {
        if value == last {
            continue;
        }
        if value.fract() != 0.0 || !(0.0..=f32::from(Label::MAX)).contains(&value) {
            return false;
        }
        last = value;
        distinct += usize::from(!std::mem::replace(&mut seen[value as usize], true));
        if distinct > MAX_LABELS {
            return false;
        }
    }
    if distinct <= MAX_VALUES_OF_CERTAIN_LABELS {
        return true;
    }
    let inside = values.windows(2).filter(|pair| pair[0] != 0.0 || pair[1] != 0.0);
    let (pairs, equal) =
        inside.fold((0_usize, 0_usize), |(n, equal), pair| (n + 1, equal + usize::from(pair[0] == pair[1])));
    equal as f64 >= MIN_EQUAL_NEIGHBOURS * pairs as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use sulcus_volume::{Geometry, Orientation, OrientationSource, RasFromVoxel, Spacing};

    fn image(value: impl Fn(usize, usize) -> f32) -> Image {
        let map = RasFromVoxel::aligned(Orientation::RAS, Spacing::new([1.0; 3]).unwrap());
        let geometry = Geometry::new([20, 20, 1], map, OrientationSource::Sform).unwrap();
        Image::new(geometry, 1, (0..400).map(|i| value(i % 20, i / 20)).collect()).unwrap()
    }

    #[test]
    fn regions_of_whole_numbers_are_label_maps() {
        assert!(looks_like_label_map(&image(|x, y| (x / 4 + 5 * (y / 4)) as f32)));
        assert!(looks_like_label_map(&image(|x, y| (x + y).is_multiple_of(3) as u8 as f32)), "thin structures");
        assert!(looks_like_label_map(&image(|_, _| 0.0)), "an empty mask");
    }

    #[test]
    fn scans_are_not_label_maps_even_with_whole_numbers() {
        assert!(!looks_like_label_map(&image(|x, y| ((x * 37 + y * 91) % 200) as f32)));
        assert!(!looks_like_label_map(&image(|x, y| if x > 5 && y > 5 { 0.5 } else { 0.0 })));
        assert!(!looks_like_label_map(&image(|x, _| x as f32 - 3.0)));
        assert!(!looks_like_label_map(&image(|_, _| f32::NAN)));
    }
}
