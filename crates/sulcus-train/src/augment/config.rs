use serde::{Deserialize, Serialize};

/// How training patches are varied. Image and mask get the same geometric change; intensities change in the image
/// alone. The order is geometry, noise, blur, brightness, shift, contrast, low resolution, inverted gamma, gamma.
///
/// Rotation and scaling act in millimetres. They stay in the H-W plane, as do blur and low resolution, where a patch
/// is a slice, where it is less than a third as deep as it is wide, or where its voxels are more than three times as
/// deep as wide (nnU-Net's rule for anisotropic patches): the planes there are too far apart to be mixed.
///
/// Factors around 1 are drawn below 1 as often as above, uniformly on either side.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Augmentation {
    /// Share of the patches that may be rotated, scaled and shifted, each with its own probability then; the rest keep
    /// their sharp voxels, as scans have at prediction.
    pub affine_probability: f64,
    /// Degrees about each axis.
    pub rotation: Chance,
    /// Factor of size, the same along all axes.
    pub scaling: Chance,
    /// Shift along each axis in shares of the patch's edge, in whole voxels.
    pub translation: Chance,
    /// Axes along which mirroring is allowed.
    pub flips: Flips,
    /// Share of the patches that are mirrored, for each of those axes.
    pub flip_probability: f64,
    /// Standard deviation of Gaussian noise, the same in all channels.
    pub noise: Chance,
    /// Standard deviation of a Gaussian blur in voxels, drawn for each channel and axis.
    pub blur: Chance,
    /// Share of the channels of a patch that are blurred, where any is.
    pub blur_channel_probability: f64,
    /// Factor of each channel's values.
    pub brightness: Chance,
    /// Shift of each channel, in its standard deviations in the patch.
    pub shift: Chance,
    /// Factor of the distance from each channel's mean.
    pub contrast: Chance,
    /// Whether contrast leaves a channel's least and greatest value where they were.
    pub contrast_keeps_range: bool,
    /// Factor of the resolution: voxels are dropped and what is left is interpolated linearly.
    pub low_resolution: Chance,
    /// Share of the channels of a patch that lose resolution, where any does.
    pub low_resolution_channel_probability: f64,
    /// Exponent of the values between a channel's least (0) and greatest (1); mean and standard deviation are kept.
    pub gamma: Chance,
    /// The same on the negative.
    pub inverted_gamma: Chance,
}

/// A change that is made to some patches, by an amount from a range.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Chance {
    /// Share of the patches.
    pub probability: f64,
    /// Least and greatest amount.
    pub range: [f64; 2],
}

/// Along which axes of a patch mirroring is allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Flips {
    /// All for a single structure, none for several: those are often told apart by the side they lie on, which a
    /// mirror image gets wrong.
    Auto,
    /// These.
    Axes(MirrorAxes),
}

/// A set of the axes of a patch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MirrorAxes {
    /// Across planes: the prepared grid's z. Without effect on slices.
    pub d: bool,
    /// Along columns: y.
    pub h: bool,
    /// Along rows: x.
    pub w: bool,
}

impl Flips {
    /// No axis.
    pub const fn none() -> Self {
        Self::Axes(MirrorAxes { d: false, h: false, w: false })
    }

    /// Every axis of a patch with so many, 2 or 3.
    pub const fn all(dimensions: usize) -> Self {
        Self::Axes(MirrorAxes { d: dimensions > 2, h: true, w: true })
    }

    /// Whether D, H and W are mirrored. What is still to be decided is not.
    pub(crate) fn along(self) -> [bool; 3] {
        match self {
            Self::Auto => [false; 3],
            Self::Axes(MirrorAxes { d, h, w }) => [d, h, w],
        }
    }

    /// The axes by their number among H, W (2) or D, H, W (3), rising.
    pub fn axes(self, dimensions: usize) -> Vec<usize> {
        let missing = 3_usize.saturating_sub(dimensions);
        (missing..3).filter(|axis| self.along()[*axis]).map(|axis| axis - missing).collect()
    }
}

impl Chance {
    /// An amount from `range` for a share `probability` of the patches.
    pub const fn new(probability: f64, range: [f64; 2]) -> Self {
        Self { probability, range }
    }

    fn check(&self, name: &str, least: f64, greatest: f64) -> Result<(), String> {
        check_share(&format!("{name}.probability"), self.probability)?;
        let [low, high] = self.range;
        let fits = |v: f64| (least..=greatest).contains(&v);
        if fits(low) && fits(high) && low <= high {
            return Ok(());
        }
        Err(format!(
            "augmentation: `{name}.range` must rise and lie in {least} to {greatest}, found {:?}",
            self.range
        ))
    }
}

fn check_share(name: &str, value: f64) -> Result<(), String> {
    if (0.0..=1.0).contains(&value) {
        Ok(())
    } else {
        Err(format!("augmentation: `{name}` must lie in 0 to 1, found {value}"))
    }
}

impl Default for Augmentation {
    fn default() -> Self {
        Self::light()
    }
}

impl Augmentation {
    /// Patches as they are.
    pub const fn none() -> Self {
        const NEVER: Chance = Chance::new(0.0, [0.0; 2]);
        const NEVER_FACTOR: Chance = Chance::new(0.0, [1.0; 2]);
        Self {
            affine_probability: 0.0,
            rotation: NEVER,
            scaling: NEVER_FACTOR,
            translation: NEVER,
            flips: Flips::none(),
            flip_probability: 0.0,
            noise: NEVER,
            blur: NEVER,
            blur_channel_probability: 0.0,
            brightness: NEVER_FACTOR,
            shift: NEVER,
            contrast: NEVER_FACTOR,
            contrast_keeps_range: true,
            low_resolution: NEVER_FACTOR,
            low_resolution_channel_probability: 0.0,
            gamma: NEVER_FACTOR,
            inverted_gamma: NEVER_FACTOR,
        }
    }

    /// A little of everything that a slice-wise network of a short training needs: four of five patches turned by up
    /// to 10°, shifted and scaled by up to a tenth, and all of them tinted by up to a fifth.
    pub const fn light() -> Self {
        Self {
            affine_probability: 0.8,
            rotation: Chance::new(1.0, [-10.0, 10.0]),
            scaling: Chance::new(1.0, [0.9, 1.1]),
            translation: Chance::new(1.0, [-0.1, 0.1]),
            flips: Flips::Auto,
            flip_probability: 0.5,
            shift: Chance::new(1.0, [-0.2, 0.2]),
            contrast: Chance::new(1.0, [0.8, 1.2]),
            contrast_keeps_range: false,
            ..Self::none()
        }
    }

    /// nnU-Net's (Isensee et al. 2021, Nature Methods 18, supplementary note 4), as its version 2 applies them.
    ///
    /// Two differences. Slices turn by ± 30° as volumes do, where nnU-Net turns square ones by ± 180°: upside down, a
    /// structure that is told from another by its place gets the other's name, as with mirroring. And mirroring is
    /// left to [`Flips::Auto`] for the same reason.
    pub const fn nnunet() -> Self {
        Self {
            affine_probability: 1.0,
            rotation: Chance::new(0.2, [-30.0, 30.0]),
            scaling: Chance::new(0.2, [0.7, 1.4]),
            translation: Chance::new(0.0, [0.0; 2]),
            flips: Flips::Auto,
            flip_probability: 0.5,
            // nnU-Net calls this a variance and uses it as a standard deviation.
            noise: Chance::new(0.1, [0.0, 0.1]),
            blur: Chance::new(0.2, [0.5, 1.0]),
            blur_channel_probability: 0.5,
            brightness: Chance::new(0.15, [0.75, 1.25]),
            shift: Chance::new(0.0, [0.0; 2]),
            contrast: Chance::new(0.15, [0.75, 1.25]),
            contrast_keeps_range: true,
            low_resolution: Chance::new(0.25, [0.5, 1.0]),
            low_resolution_channel_probability: 0.5,
            gamma: Chance::new(0.3, [0.7, 1.5]),
            inverted_gamma: Chance::new(0.1, [0.7, 1.5]),
        }
    }

    /// Checks the ranges.
    pub(crate) fn check(&self) -> Result<(), String> {
        check_share("affine_probability", self.affine_probability)?;
        check_share("flip_probability", self.flip_probability)?;
        check_share("blur_channel_probability", self.blur_channel_probability)?;
        check_share("low_resolution_channel_probability", self.low_resolution_channel_probability)?;
        self.rotation.check("rotation", -180.0, 180.0)?;
        self.scaling.check("scaling", 0.1, 10.0)?;
        self.translation.check("translation", -1.0, 1.0)?;
        self.noise.check("noise", 0.0, 10.0)?;
        self.blur.check("blur", 0.0, 10.0)?;
        self.brightness.check("brightness", 0.0, 10.0)?;
        self.shift.check("shift", -10.0, 10.0)?;
        self.contrast.check("contrast", 0.0, 10.0)?;
        self.low_resolution.check("low_resolution", 0.05, 1.0)?;
        self.gamma.check("gamma", 0.1, 10.0)?;
        self.inverted_gamma.check("inverted_gamma", 0.1, 10.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_that_make_no_sense_are_named() {
        let check = |change: fn(&mut Augmentation)| {
            let mut odd = Augmentation::nnunet();
            change(&mut odd);
            odd.check().unwrap_err()
        };
        insta::assert_snapshot!(check(|a| a.translation.range = [-0.1, -0.2]), @"augmentation: `translation.range` must rise and lie in -1 to 1, found [-0.1, -0.2]");
        insta::assert_snapshot!(check(|a| a.contrast.range[1] = f64::NAN), @"augmentation: `contrast.range` must rise and lie in 0 to 10, found [0.75, NaN]");
        insta::assert_snapshot!(check(|a| a.scaling.range[0] = 0.0), @"augmentation: `scaling.range` must rise and lie in 0.1 to 10, found [0.0, 1.4]");
        insta::assert_snapshot!(check(|a| a.gamma.probability = 1.1), @"augmentation: `gamma.probability` must lie in 0 to 1, found 1.1");
        insta::assert_snapshot!(check(|a| a.flip_probability = -0.5), @"augmentation: `flip_probability` must lie in 0 to 1, found -0.5");
        for fine in [Augmentation::none(), Augmentation::light(), Augmentation::nnunet()] {
            fine.check().unwrap();
        }
    }

    #[test]
    fn every_number_can_be_set_in_json() {
        let mut augmentation = Augmentation::nnunet();
        augmentation.flips = Flips::Axes(MirrorAxes { w: true, ..MirrorAxes::default() });
        let json = serde_json::to_string(&augmentation).unwrap();
        assert_eq!(serde_json::from_str::<Augmentation>(&json).unwrap(), augmentation);
        // What is left out is the default's; an axis that is left out is not mirrored.
        let part = r#"{"flips": {"axes": {"h": true}}, "noise": {"probability": 0.5, "range": [0, 1]}}"#;
        let read: Augmentation = serde_json::from_str(part).unwrap();
        assert_eq!(read.flips.along(), [false, true, false]);
        assert_eq!(read.noise, Chance::new(0.5, [0.0, 1.0]));
        assert_eq!(read.rotation, Augmentation::default().rotation);
        assert!(serde_json::from_str::<Augmentation>(r#"{"nois": 1}"#).is_err());
    }

    #[test]
    fn axes_are_numbered_as_the_models_are() {
        assert_eq!(Flips::all(3).axes(3), [0, 1, 2]);
        assert_eq!(Flips::all(2).axes(2), [0, 1]);
        assert_eq!(Flips::Axes(MirrorAxes { w: true, ..MirrorAxes::default() }).axes(2), [1]);
        assert_eq!(Flips::Auto.axes(3), [] as [usize; 0]);
    }
}
