use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use sulcus_dataset::{
    CaseFacts, Intensities, LabelVolumes, RegionVolumes, intensities, label_volumes, region_volumes,
};
use sulcus_model::{AxisRange, Region};
use sulcus_pipeline::quantile;
use sulcus_volume::{LabelTable, Orientation};

/// The properties of the training cases from which a plan is made: shapes, spacings, intensities and structures.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Fingerprint {
    /// Number of cases.
    pub cases: usize,
    /// Voxels along right, anterior, superior.
    pub shape: AxisRange,
    /// Voxel size along right, anterior, superior, in millimetres.
    pub spacing_mm: AxisRange,
    /// Orientation codes of the files.
    pub orientations: Vec<String>,
    /// Median fraction of a scan inside the bounding box of its non-zero voxels; 1 without a margin of zeros.
    pub crop_ratio: f64,
    /// Whether all images are colour pictures of 8 bits.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub rgb: bool,
    /// Intensities in the foreground, for each channel.
    pub channels: Vec<ChannelIntensities>,
    /// The labels.
    pub labels: Vec<LabelVolumes>,
    /// The regions, if the structures are unions of labels.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub regions: Vec<RegionVolumes>,
}

/// The intensities of one channel in the foreground of all cases.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct ChannelIntensities {
    /// Name of the channel.
    pub name: String,
    /// `None` if no case has foreground.
    pub foreground: Option<Intensities>,
}

impl Fingerprint {
    /// Summarises the cases.
    pub fn new(channels: &[String], labels: &LabelTable, regions: &[Region], facts: &[CaseFacts]) -> Self {
        let along: Vec<_> = facts.iter().map(|f| f.oriented(Orientation::RAS)).collect();
        let orientations: BTreeSet<String> = facts.iter().map(|f| f.orientation.to_string()).collect();
        let mut ratios: Vec<f64> = facts.iter().map(|f| f.measures.crop_ratio).collect();
        ratios.sort_unstable_by(f64::total_cmp);
        let channel = |(index, name): (usize, &String)| ChannelIntensities {
            name: name.clone(),
            foreground: intensities(facts.iter().filter_map(|f| f.measures.foreground.get(index))),
        };
        Self {
            cases: facts.len(),
            shape: AxisRange::of(along.iter().map(|(shape, _)| shape.map(|n| n as f64))),
            spacing_mm: AxisRange::of(along.iter().map(|(_, spacing)| *spacing)),
            orientations: orientations.into_iter().collect(),
            crop_ratio: if ratios.is_empty() { 1.0 } else { quantile(&ratios, 0.5) },
            rgb: !facts.is_empty() && facts.iter().all(|f| f.rgb),
            channels: channels.iter().enumerate().map(channel).collect(),
            labels: labels.entries().iter().map(|entry| label_volumes(entry.value, &entry.name, facts)).collect(),
            regions: regions.iter().map(|region| region_volumes(region, facts)).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use sulcus_dataset::{CaseMeasures, ForegroundSample};
    use sulcus_volume::{GridUnit, Spacing};

    use super::*;

    #[test]
    fn fingerprint_combines_intensities_and_volumes_of_all_cases() {
        const VOXELS: usize = 321;
        let facts = |factor: f32| CaseFacts {
            name: "a".into(),
            shape: [10, 20, 30],
            spacing: Spacing::new([1.0, 1.0, 2.0]).unwrap(),
            unit: GridUnit::Millimetre,
            picture: false,
            rgb: false,
            orientation: Orientation::RAS,
            acquired: Orientation::LPI,
            obliquity_degrees: 0.0,
            channels: 2,
            intensity: [0.0, 254.0],
            label_voxels: [(1, VOXELS)].into(),
            sha256: String::new(),
            measures: CaseMeasures {
                foreground: vec![ForegroundSample {
                    values: (0..1001).map(|i| i as f32 * factor).collect(),
                    range: Some([-5.0, 5000.0 * factor]),
                }],
                ..CaseMeasures::default()
            },
        };
        let table = LabelTable::from_names([(1, "Box".to_owned()), (7, "Absent".to_owned())]).unwrap();
        let names = ["CT".to_owned(), "MRI".to_owned()];
        let fingerprint = Fingerprint::new(&names, &table, &[], &[facts(1.0), facts(1.0), facts(1.0)]);
        let ct = fingerprint.channels[0].foreground.unwrap();
        assert_eq!((ct.mean, ct.median, ct.min, ct.max), (500.0, 500.0, -5.0, 5000.0));
        assert!((ct.percentile_00_5 - 5.0).abs() < 0.5 && (ct.percentile_99_5 - 995.0).abs() < 0.5, "{ct:?}");
        // For 0 … n evenly: the square root of n (n + 2) / 12.
        assert!((ct.sd - (1000.0 * 1002.0 / 12.0_f64).sqrt()).abs() < 1e-9);
        assert_eq!(fingerprint.channels[1].foreground, None);
        assert_eq!((fingerprint.labels[0].cases, fingerprint.labels[0].voxels), (3, 3 * VOXELS));
        assert_eq!(fingerprint.labels[0].ml, Some([VOXELS as f64 * 0.002; 3]));
        assert_eq!((fingerprint.labels[1].cases, fingerprint.labels[1].ml), (0, Some([0.0; 3])));
        let json = serde_json::to_string(&fingerprint).unwrap();
        assert_eq!(serde_json::from_str::<Fingerprint>(&json).unwrap(), fingerprint);
    }
}
