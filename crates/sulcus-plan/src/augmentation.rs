use serde::{Deserialize, Serialize};

/// Random transforms of training patches. Image and mask get the same spatial transform; intensity transforms change only
/// the image. The order is spatial, noise, blur, brightness, shift, contrast, low resolution, inverted gamma, gamma.
///
/// Rotation and scaling act in millimetres. Rotation, scaling, blur and low resolution stay in the H-W plane if a patch is
/// a slice, if it is less than a third as deep as wide, or if its voxels are more than three times as deep as wide
/// (nnU-Net's rule for anisotropic patches): the planes are then too far apart to be mixed.
///
/// Factors around 1 are drawn below 1 as often as above 1, uniformly on each side.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct Augmentation {
    /// Fraction of the patches that may be rotated, scaled and translated, each with its own probability. The other patches
    /// are not interpolated, as at prediction.
    pub affine_probability: f64,
    /// Angle about each axis, in degrees.
    pub rotation: RandomRange,
    /// Scale factor, the same for all axes.
    pub scaling: RandomRange,
    /// Translation along each axis as a fraction of the patch's edge, rounded to voxels.
    pub translation: RandomRange,
    /// Axes along which mirroring is allowed.
    pub flips: Flips,
    /// Fraction of the patches that are mirrored, for each of those axes.
    pub flip_probability: f64,
    /// Standard deviation of Gaussian noise, the same in all channels.
    pub noise: RandomRange,
    /// Standard deviation of a Gaussian blur in voxels, drawn for each channel and axis.
    pub blur: RandomRange,
    /// Fraction of the channels that are blurred, in a blurred patch.
    pub blur_channel_probability: f64,
    /// Factor of each channel's values.
    pub brightness: RandomRange,
    /// Offset of each channel, in standard deviations of the channel in the patch.
    pub shift: RandomRange,
    /// Factor of the distance from each channel's mean.
    pub contrast: RandomRange,
    /// Whether the contrast transform keeps a channel's minimum and maximum.
    pub contrast_keeps_range: bool,
    /// Factor of the resolution: the patch is downsampled (nearest) and upsampled (linear).
    pub low_resolution: RandomRange,
    /// Fraction of the channels that lose resolution, in a patch of low resolution.
    pub low_resolution_channel_probability: f64,
    /// Exponent of a channel's values, scaled to 0 to 1; mean and standard deviation are kept.
    pub gamma: RandomRange,
    /// The same for the inverted image.
    pub inverted_gamma: RandomRange,
}

/// A transform that is applied to some patches, with an amount from a range.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RandomRange {
    /// Fraction of the patches.
    pub probability: f64,
    /// Minimum and maximum amount.
    pub range: [f64; 2],
}

/// The axes along which patches are mirrored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Flips {
    /// All axes for a single structure, none for several: several structures are often distinguished by their side, which
    /// mirroring exchanges.
    Auto,
    /// These axes.
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
    /// No axes.
    pub const fn none() -> Self {
        Self::Axes(MirrorAxes { d: false, h: false, w: false })
    }

    /// All axes of a patch with 2 or 3 dimensions.
    pub const fn all(dimensions: usize) -> Self {
        Self::Axes(MirrorAxes { d: dimensions > 2, h: true, w: true })
    }

    /// Whether D, H and W are mirrored; none for [`Flips::Auto`].
    pub fn along(self) -> [bool; 3] {
        match self {
            Self::Auto => [false; 3],
            Self::Axes(MirrorAxes { d, h, w }) => [d, h, w],
        }
    }

    /// The axes as ascending indices into (H, W) or (D, H, W).
    pub fn axes(self, dimensions: usize) -> Vec<usize> {
        let missing = 3_usize.saturating_sub(dimensions);
        (missing..3).filter(|axis| self.along()[*axis]).map(|axis| axis - missing).collect()
    }
}

impl RandomRange {
    /// An amount from `range` for the fraction `probability` of the patches.
    pub const fn new(probability: f64, range: [f64; 2]) -> Self {
        Self { probability, range }
    }

    fn check(&self, name: &str, min: f64, max: f64) -> Result<(), String> {
        check_fraction(&format!("{name}.probability"), self.probability)?;
        let [low, high] = self.range;
        let fits = |v: f64| (min..=max).contains(&v);
        if fits(low) && fits(high) && low <= high {
            return Ok(());
        }
        Err(format!("augmentation: `{name}.range` must rise and lie in {min} to {max}, found {:?}", self.range))
    }
}

fn check_fraction(name: &str, value: f64) -> Result<(), String> {
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
    /// Changes some settings and returns the augmentation.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    /// No transforms.
    pub const fn none() -> Self {
        const NEVER: RandomRange = RandomRange::new(0.0, [0.0; 2]);
        const NEVER_FACTOR: RandomRange = RandomRange::new(0.0, [1.0; 2]);
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

    /// Light augmentation for short trainings: four of five patches are rotated by up to 10° and translated and scaled by
    /// up to 10 %; brightness and contrast of all patches change by up to 20 %.
    pub const fn light() -> Self {
        Self {
            affine_probability: 0.8,
            rotation: RandomRange::new(1.0, [-10.0, 10.0]),
            scaling: RandomRange::new(1.0, [0.9, 1.1]),
            translation: RandomRange::new(1.0, [-0.1, 0.1]),
            flips: Flips::Auto,
            flip_probability: 0.5,
            shift: RandomRange::new(1.0, [-0.2, 0.2]),
            contrast: RandomRange::new(1.0, [0.8, 1.2]),
            contrast_keeps_range: false,
            ..Self::none()
        }
    }

    /// nnU-Net's augmentation (Isensee et al. 2021, Nature Methods 18, supplementary note 4), as its version 2 applies them.
    ///
    /// Two differences. Slices rotate by ± 30° as volumes do, while nnU-Net rotates square slices by ± 180°: upside down,
    /// structures that are distinguished by their position would exchange labels. For the same reason mirroring is
    /// [`Flips::Auto`].
    pub const fn nnunet() -> Self {
        Self {
            affine_probability: 1.0,
            rotation: RandomRange::new(0.2, [-30.0, 30.0]),
            scaling: RandomRange::new(0.2, [0.7, 1.4]),
            translation: RandomRange::new(0.0, [0.0; 2]),
            flips: Flips::Auto,
            flip_probability: 0.5,
            // nnU-Net names this a variance, but uses it as a standard deviation.
            noise: RandomRange::new(0.1, [0.0, 0.1]),
            blur: RandomRange::new(0.2, [0.5, 1.0]),
            blur_channel_probability: 0.5,
            brightness: RandomRange::new(0.15, [0.75, 1.25]),
            shift: RandomRange::new(0.0, [0.0; 2]),
            contrast: RandomRange::new(0.15, [0.75, 1.25]),
            contrast_keeps_range: true,
            low_resolution: RandomRange::new(0.25, [0.5, 1.0]),
            low_resolution_channel_probability: 0.5,
            gamma: RandomRange::new(0.3, [0.7, 1.5]),
            inverted_gamma: RandomRange::new(0.1, [0.7, 1.5]),
        }
    }

    /// Checks all ranges.
    ///
    /// # Errors
    /// With the first invalid range.
    pub fn check(&self) -> Result<(), String> {
        check_fraction("affine_probability", self.affine_probability)?;
        check_fraction("flip_probability", self.flip_probability)?;
        check_fraction("blur_channel_probability", self.blur_channel_probability)?;
        check_fraction("low_resolution_channel_probability", self.low_resolution_channel_probability)?;
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
    fn invalid_ranges_are_named() {
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
    fn partial_json_is_completed_by_the_defaults() {
        let mut augmentation = Augmentation::nnunet();
        augmentation.flips = Flips::Axes(MirrorAxes { w: true, ..MirrorAxes::default() });
        let json = serde_json::to_string(&augmentation).unwrap();
        assert_eq!(serde_json::from_str::<Augmentation>(&json).unwrap(), augmentation);
        // Missing fields have their defaults; a missing axis is not mirrored.
        let part = r#"{"flips": {"axes": {"h": true}}, "noise": {"probability": 0.5, "range": [0, 1]}}"#;
        let read: Augmentation = serde_json::from_str(part).unwrap();
        assert_eq!(read.flips.along(), [false, true, false]);
        assert_eq!(read.noise, RandomRange::new(0.5, [0.0, 1.0]));
        assert_eq!(read.rotation, Augmentation::default().rotation);
        assert!(serde_json::from_str::<Augmentation>(r#"{"nois": 1}"#).is_err());
    }

    #[test]
    fn axes_have_the_indices_of_a_model_file() {
        assert_eq!(Flips::all(3).axes(3), [0, 1, 2]);
        assert_eq!(Flips::all(2).axes(2), [0, 1]);
        assert_eq!(Flips::Axes(MirrorAxes { w: true, ..MirrorAxes::default() }).axes(2), [1]);
        assert_eq!(Flips::Auto.axes(3), [] as [usize; 0]);
    }
}
