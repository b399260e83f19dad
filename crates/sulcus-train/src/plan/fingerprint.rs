use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use sulcus_model::Region;
use sulcus_pipeline::nonzero_box;
use sulcus_volume::{Image, Label, LabelMap, LabelTable, Orientation};

use crate::CaseFacts;
use crate::survey::Range;

/// What plans are made from: shapes, spacings, intensities and structures of the training cases.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fingerprint {
    /// Number of cases.
    pub cases: usize,
    /// Voxels along right, anterior, superior.
    pub shape: Range,
    /// Voxel size along right, anterior, superior, in millimetres.
    pub spacing_mm: Range,
    /// Orientation codes of the files.
    pub orientations: Vec<String>,
    /// Median share of a scan that the bounding box of its non-zero voxels fills; 1 when there is no margin of zeros.
    pub crop_ratio: f64,
    /// Intensities inside the structures, channel by channel.
    pub channels: Vec<ChannelIntensities>,
    /// The labels.
    pub labels: Vec<LabelVolumes>,
    /// The regions, where the structures are unions of labels.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub regions: Vec<RegionVolumes>,
}

/// One channel's intensities in the foreground of all cases.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChannelIntensities {
    /// Name of the channel.
    pub name: String,
    /// Nothing when no case has foreground.
    pub foreground: Option<Intensities>,
}

/// Intensities as a distribution. Least and greatest are exact; the others are taken over at most 10,000 voxels a
/// case, so that one large structure does not decide for all.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Intensities {
    /// Mean.
    pub mean: f64,
    /// Standard deviation.
    pub sd: f64,
    /// Median.
    pub median: f64,
    /// Least.
    pub min: f64,
    /// Greatest.
    pub max: f64,
    /// The 0.5th percentile.
    pub percentile_00_5: f64,
    /// The 99.5th percentile.
    pub percentile_99_5: f64,
}

/// How large a structure is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LabelVolumes {
    /// Its value in the masks.
    pub value: Label,
    /// Its name.
    pub name: String,
    /// Cases that have it.
    pub cases: usize,
    /// Voxels of it in all cases.
    pub voxels: usize,
    /// Least, median and greatest volume in millilitres, over the cases that have it.
    pub ml: [f64; 3],
}

/// How large a region is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RegionVolumes {
    /// Its values in the masks.
    pub values: Vec<Label>,
    /// Its name.
    pub name: String,
    /// Cases that have any of them.
    pub cases: usize,
    /// Voxels of them in all cases.
    pub voxels: usize,
    /// Least, median and greatest volume in millilitres, over the cases that have it.
    pub ml: [f64; 3],
}

/// What one case adds to a fingerprint beyond shape, spacing and labels.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct CaseMeasures {
    /// Share of the scan that the bounding box of its non-zero voxels fills.
    pub crop_ratio: f64,
    /// Voxels of that box along the axes of the file.
    pub crop_shape: [usize; 3],
    /// Intensities in the foreground, channel by channel.
    pub foreground: Vec<ForegroundSample>,
    /// The 0.5th, 5th, 50th, 95th and 99.5th percentiles of all finite voxels, channel by channel, over at most 100,000
    /// of them, evenly picked in the order of the file; zeros when there is none.
    pub percentiles: Vec<[f64; 5]>,
}

/// Voxels of one channel inside a case's structures.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ForegroundSample {
    /// At most 10,000 of them, evenly picked in the order of the file.
    pub values: Vec<f32>,
    /// Least and greatest of all of them; nothing when there is no foreground.
    pub range: Option<[f32; 2]>,
}

/// Voxels that are kept of a case's foreground.
const SAMPLED: usize = 10_000;

impl CaseMeasures {
    /// Of a scan and its mask on the same grid; voxels of the value `ignore` are no foreground.
    pub(crate) fn of(image: &Image, labels: &LabelMap, ignore: Option<Label>) -> Self {
        let is_inside = |label: Label| label != 0 && Some(label) != ignore;
        let inside: Vec<usize> =
            labels.data().iter().enumerate().filter(|(_, l)| is_inside(**l)).map(|(index, _)| index).collect();
        let picked = inside.len().min(SAMPLED);
        let foreground = (0..image.channels()).map(|channel| {
            let values = image.channel(channel);
            let at = |index: &usize| values.get(*index).copied();
            let range = inside.iter().filter_map(at).fold(None, |range: Option<[f32; 2]>, v| {
                Some(range.map_or([v; 2], |[low, high]| [low.min(v), high.max(v)]))
            });
            let sample = (0..picked).filter_map(|i| inside.get(i * inside.len() / picked)).filter_map(at);
            ForegroundSample { values: sample.collect(), range }
        });
        // An image of zeros has no box; it counts as full.
        let crop_shape =
            nonzero_box(image).map_or(image.geometry().shape(), |ranges| ranges.map(|range| range.len()));
        let inside: usize = crop_shape.iter().product();
        Self {
            crop_ratio: inside as f64 / image.geometry().voxels() as f64,
            crop_shape,
            foreground: foreground.collect(),
            percentiles: (0..image.channels()).map(|channel| percentiles(image.channel(channel))).collect(),
        }
    }
}

fn percentiles(values: &[f32]) -> [f64; 5] {
    /// So many of a channel's voxels are sorted.
    const PICKED: usize = 100_000;
    let step = values.len().div_ceil(PICKED).max(1);
    let picked = values.iter().step_by(step).map(|v| f64::from(*v)).filter(|v| v.is_finite());
    let picked = sorted(picked.collect());
    [0.005, 0.05, 0.5, 0.95, 0.995].map(|share| quantile(&picked, share))
}

impl Fingerprint {
    /// Puts the cases together.
    pub fn new(channels: &[String], labels: &LabelTable, regions: &[Region], facts: &[CaseFacts]) -> Self {
        let along: Vec<_> = facts.iter().map(|f| f.along(Orientation::RAS)).collect();
        let orientations: BTreeSet<String> = facts.iter().map(|f| f.orientation.to_string()).collect();
        let ratios: Vec<f64> = facts.iter().map(|f| f.measures.crop_ratio).collect();
        let channel = |(index, name): (usize, &String)| ChannelIntensities {
            name: name.clone(),
            foreground: intensities(facts.iter().filter_map(|f| f.measures.foreground.get(index))),
        };
        Self {
            cases: facts.len(),
            shape: Range::of(along.iter().map(|(shape, _)| shape.map(|n| n as f64))),
            spacing_mm: Range::of(along.iter().map(|(_, spacing)| *spacing)),
            orientations: orientations.into_iter().collect(),
            crop_ratio: if ratios.is_empty() { 1.0 } else { quantile(&sorted(ratios), 0.5) },
            channels: channels.iter().enumerate().map(channel).collect(),
            labels: labels.entries().iter().map(|entry| volumes(entry.value, &entry.name, facts)).collect(),
            regions: regions.iter().map(|region| region_volumes(region, facts)).collect(),
        }
    }
}

/// The distribution of all samples together; nothing when there is no value.
pub(crate) fn intensities<'a>(samples: impl Iterator<Item = &'a ForegroundSample>) -> Option<Intensities> {
    let mut values = Vec::new();
    let (mut min, mut max) = (f64::INFINITY, f64::NEG_INFINITY);
    for sample in samples {
        values.extend(sample.values.iter().map(|v| f64::from(*v)));
        if let Some([low, high]) = sample.range {
            (min, max) = (min.min(f64::from(low)), max.max(f64::from(high)));
        }
    }
    if values.is_empty() {
        return None;
    }
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let sd = (values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n).sqrt();
    let values = sorted(values);
    let at = |share| quantile(&values, share);
    Some(Intensities {
        mean,
        sd,
        median: at(0.5),
        min,
        max,
        percentile_00_5: at(0.005),
        percentile_99_5: at(0.995),
    })
}

/// How large a structure is over the cases.
pub(crate) fn volumes(value: Label, name: &str, facts: &[CaseFacts]) -> LabelVolumes {
    let ml = sorted(facts.iter().filter_map(|f| f.ml(value)).collect());
    LabelVolumes {
        value,
        name: name.to_owned(),
        cases: ml.len(),
        voxels: facts.iter().filter_map(|f| f.label_voxels.get(&value)).sum(),
        ml: [0.0, 0.5, 1.0].map(|share| quantile(&ml, share)),
    }
}

/// How large a region is over the cases.
pub(crate) fn region_volumes(region: &Region, facts: &[CaseFacts]) -> RegionVolumes {
    let voxels = |f: &CaseFacts| region.values.iter().filter_map(|value| f.label_voxels.get(value)).sum::<usize>();
    let ml = |f: &CaseFacts| -> f64 { region.values.iter().filter_map(|value| f.ml(*value)).sum() };
    let found = || facts.iter().filter(|f| voxels(f) > 0);
    let ml = sorted(found().map(ml).collect());
    RegionVolumes {
        values: region.values.clone(),
        name: region.name.clone(),
        cases: ml.len(),
        voxels: found().map(voxels).sum(),
        ml: [0.0, 0.5, 1.0].map(|share| quantile(&ml, share)),
    }
}

fn sorted(mut values: Vec<f64>) -> Vec<f64> {
    values.sort_unstable_by(f64::total_cmp);
    values
}

/// Of sorted values, linear between ranks as numpy's default; 0 when there is none.
pub(crate) fn quantile(sorted: &[f64], share: f64) -> f64 {
    let rank = share * sorted.len().saturating_sub(1) as f64;
    let at = |rank: f64| sorted.get(rank as usize).copied().unwrap_or_default();
    let (below, above) = (at(rank.floor()), at(rank.ceil()));
    below + (above - below) * rank.fract()
}

#[cfg(test)]
mod tests {
    use sulcus_volume::{Geometry, OrientationSource, RasFromVoxel, Spacing};

    use super::*;

    fn case() -> (Image, LabelMap) {
        const SHAPE: [usize; 3] = [10, 20, 30];
        let map = RasFromVoxel::aligned(Orientation::RAS, Spacing::new([1.0, 1.0, 2.0]).unwrap());
        let geometry = Geometry::new(SHAPE, map, OrientationSource::Sform).unwrap();
        let mut values = vec![0.0; 6000];
        // A box of 4 × 10 × 15 voxels in the first channel, one voxel beside it in the second.
        for (x, y, z) in (3..7).flat_map(|x| (5..15).flat_map(move |y| (10..25).map(move |z| (x, y, z)))) {
            values[(z * 20 + y) * 10 + x] = (z * 10 + y) as f32;
        }
        let mut second = vec![0.0; 6000];
        second[(12 * 20 + 5) * 10 + 8] = 1.0;
        let labels = values.iter().map(|v| u16::from(*v > 200.0)).collect();
        values.extend(second);
        (Image::new(geometry, 2, values).unwrap(), LabelMap::new(geometry, labels).unwrap())
    }

    #[test]
    fn the_box_holds_every_channels_non_zero_voxels() {
        let (image, labels) = case();
        let measures = CaseMeasures::of(&image, &labels, None);
        assert_eq!(measures.crop_ratio, 6.0 * 10.0 * 15.0 / 6000.0);
        let inside = labels.data().iter().filter(|l| **l != 0).count();
        assert_eq!(measures.foreground[0].values.len(), inside);
        assert_eq!(measures.foreground[0].range, Some([201.0, 254.0]));
        let empty = LabelMap::new(*image.geometry(), vec![0; 6000]).unwrap();
        assert_eq!(CaseMeasures::of(&image, &empty, None).foreground[1], ForegroundSample::default());
    }

    #[test]
    fn distributions_and_volumes_are_those_of_all_cases() {
        let (image, labels) = case();
        let measures = CaseMeasures::of(&image, &labels, None);
        let voxels = labels.counts();
        let facts = |seconds: f32| CaseFacts {
            name: "a".into(),
            shape: [10, 20, 30],
            spacing: Spacing::new([1.0, 1.0, 2.0]).unwrap(),
            orientation: Orientation::RAS,
            channels: 2,
            intensity: [0.0, 254.0],
            label_voxels: voxels.iter().filter(|(l, _)| **l != 0).map(|(l, n)| (*l, *n)).collect(),
            sha256: String::new(),
            measures: CaseMeasures {
                foreground: vec![ForegroundSample {
                    values: (0..1001).map(|i| i as f32 * seconds).collect(),
                    range: Some([-5.0, 5000.0 * seconds]),
                }],
                ..measures.clone()
            },
        };
        let table = LabelTable::from_names([(1, "Box".to_owned()), (7, "Absent".to_owned())]).unwrap();
        let names = ["CT".to_owned(), "MRI".to_owned()];
        let fingerprint = Fingerprint::new(&names, &table, &[], &[facts(1.0), facts(1.0), facts(1.0)]);
        let ct = fingerprint.channels[0].foreground.unwrap();
        assert_eq!((ct.mean, ct.median, ct.min, ct.max), (500.0, 500.0, -5.0, 5000.0));
        assert!((ct.percentile_00_5 - 5.0).abs() < 0.5 && (ct.percentile_99_5 - 995.0).abs() < 0.5, "{ct:?}");
        // Of 0 … n evenly: the square root of n (n + 2) / 12.
        assert!((ct.sd - (1000.0 * 1002.0 / 12.0_f64).sqrt()).abs() < 1e-9);
        assert_eq!(fingerprint.channels[1].foreground, None);
        let count = voxels[&1];
        assert_eq!((fingerprint.labels[0].cases, fingerprint.labels[0].voxels), (3, 3 * count));
        assert_eq!(fingerprint.labels[0].ml, [count as f64 * 0.002; 3]);
        assert_eq!((fingerprint.labels[1].cases, fingerprint.labels[1].ml), (0, [0.0; 3]));
        let json = serde_json::to_string(&fingerprint).unwrap();
        assert_eq!(serde_json::from_str::<Fingerprint>(&json).unwrap(), fingerprint);
    }

    #[test]
    fn quantiles_are_numpys() {
        assert_eq!(quantile(&[1.0, 2.0, 4.0, 8.0], 0.5), 3.0);
        assert_eq!(quantile(&[1.0, 2.0, 4.0, 8.0], 0.75), 5.0);
        assert_eq!((quantile(&[3.0], 0.995), quantile(&[], 0.5)), (3.0, 0.0));
    }
}
