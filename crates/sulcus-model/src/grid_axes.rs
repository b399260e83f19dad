use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sulcus_volume::{Geometry, Orientation, VolumeError};

/// How the axes of the preprocessed grid lie in the patient. As text: a code such as `RAS`, or `acquired`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
#[non_exhaustive]
pub enum GridAxes {
    /// Along the patient's axes: every scan is reoriented to this code.
    Anatomical(Orientation),
    /// As the scan was acquired: its slices lie along z, whichever patient axis is nearest to their normal. See
    /// [`Geometry::acquired_orientation`].
    Acquired,
}

impl GridAxes {
    const ACQUIRED: &str = "acquired";

    /// The orientation that a scan on this grid is brought to.
    pub fn orientation_for(self, geometry: &Geometry) -> Orientation {
        self.orientation(geometry.acquired_orientation())
    }

    /// As [`Self::orientation_for`], for a scan with this [acquired orientation](Geometry::acquired_orientation).
    pub fn orientation(self, acquired: Orientation) -> Orientation {
        match self {
            Self::Anatomical(orientation) => orientation,
            Self::Acquired => acquired,
        }
    }

    /// The orientation of a preprocessed grid whose scan is not known: one that [`Self::orientation_for`] leaves as it is.
    pub fn nominal(self) -> Orientation {
        self.orientation(Orientation::LPI)
    }
}

impl From<Orientation> for GridAxes {
    fn from(orientation: Orientation) -> Self {
        Self::Anatomical(orientation)
    }
}

impl fmt::Display for GridAxes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Anatomical(orientation) => orientation.fmt(f),
            Self::Acquired => f.write_str(Self::ACQUIRED),
        }
    }
}

impl FromStr for GridAxes {
    type Err = VolumeError;
    fn from_str(text: &str) -> Result<Self, VolumeError> {
        if text == Self::ACQUIRED { Ok(Self::Acquired) } else { text.parse().map(Self::Anatomical) }
    }
}

impl TryFrom<String> for GridAxes {
    type Error = VolumeError;
    fn try_from(text: String) -> Result<Self, VolumeError> {
        text.parse()
    }
}

impl From<GridAxes> for String {
    fn from(axes: GridAxes) -> Self {
        axes.to_string()
    }
}

#[cfg(test)]
mod tests {
    use sulcus_volume::{OrientationSource, RasFromVoxel, Spacing};

    use super::*;

    #[test]
    fn axes_are_read_from_their_text() {
        for text in ["RAS", "PIR", "acquired"] {
            assert_eq!(text.parse::<GridAxes>().unwrap().to_string(), text);
        }
        assert!("Acquired".parse::<GridAxes>().is_err());
    }

    #[test]
    fn nominal_orientation_is_not_changed() {
        for mm in [[1.0; 3], [0.5, 0.7, 3.0], [1.0, 1.0, 1.1]] {
            let spacing = Spacing::new(mm).unwrap();
            for axes in [GridAxes::Acquired, "ASR".parse().unwrap()] {
                let map = RasFromVoxel::aligned(axes.nominal(), spacing);
                let geometry = Geometry::new([3, 4, 5], map, OrientationSource::Sform).unwrap();
                assert_eq!(axes.orientation_for(&geometry), axes.nominal());
            }
        }
    }
}
