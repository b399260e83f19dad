//! What the pages of a TIFF are: slices of a stack, or channels.
//!
//! TIFF itself does not say. ImageJ, Fiji and programs that write for them do, in the description of the first page:
//!
//! ```text
//! ImageJ=1.54f
//! images=6
//! channels=2
//! slices=3
//! unit=micron
//! spacing=2.0
//! ```

use super::PictureFormat;
use crate::error::IoErrorKind;

/// The meaning of the pages of a file.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct PageOrder {
    /// The number of channels; the pages of one slice follow each other.
    pub(super) channels: usize,
    pub(super) slices: usize,
    /// The unit of lengths in millimetres, if the description states one.
    pub(super) unit_mm: Option<f64>,
    /// Whether the description says that lengths are in pixels.
    pub(super) in_pixels: bool,
    /// The distance of the slices in this unit.
    spacing: Option<f64>,
}

impl PageOrder {
    /// Reads the description of a file with this number of pages. Without one of ImageJ, the pages are slices.
    pub(super) fn of_description(description: &str, pages: usize) -> Result<Self, IoErrorKind> {
        const SAVE: &str = "save one stack with its channels as a TIFF of ImageJ, or as NIfTI or NRRD";
        let refused = |what: String| Err(PictureFormat::Tiff.refused(what, SAVE));
        let plain = Self { channels: 1, slices: pages, unit_mm: None, in_pixels: false, spacing: None };
        if description.contains("<OME") && pages > 1 {
            return refused("it is an OME-TIFF of several pages, which may be slices, channels or times".into());
        }
        if !description.starts_with("ImageJ=") {
            return Ok(plain);
        }
        let value = |key: &str| {
            description
                .lines()
                .find_map(|line| line.split_once('=').filter(|(k, _)| *k == key).map(|(_, v)| v.trim()))
        };
        let number = |key: &str| value(key).and_then(|v| v.parse::<usize>().ok());
        let images = number("images").unwrap_or(pages);
        if images != pages {
            return refused(format!("its description announces {images} images, it has {pages} pages"));
        }
        if let Some(frames) = number("frames").filter(|n| *n > 1) {
            return refused(format!("it has {frames} points in time"));
        }
        let channels = number("channels").unwrap_or(1).max(1);
        if !pages.is_multiple_of(channels) {
            return refused(format!("its description announces {channels} channels, it has {pages} pages"));
        }
        let unit = value("unit").unwrap_or("pixel");
        let unit_mm = match unit {
            "mm" => Some(1.0),
            "cm" => Some(10.0),
            "micron" | "microns" | "um" | "µm" | "μm" | "\\u00B5m" => Some(1e-3),
            "nm" => Some(1e-6),
            "inch" | "in" => Some(25.4),
            _ => None,
        };
        let spacing = value("spacing").and_then(|v| v.parse().ok()).filter(|v: &f64| v.is_finite() && *v > 0.0);
        Ok(Self { channels, slices: pages / channels, unit_mm, in_pixels: unit_mm.is_none(), spacing })
    }

    /// The distance of the slices in millimetres.
    pub(super) fn slice_mm(&self) -> Option<f64> {
        Some(self.unit_mm? * self.spacing?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn description_of_imagej_tells_slices_from_channels() {
        let text = "ImageJ=1.54f\nimages=6\nchannels=2\nslices=3\nunit=micron\nspacing=2.0\nloop=false\n";
        let order = PageOrder::of_description(text, 6).unwrap();
        assert_eq!((order.channels, order.slices, order.slice_mm()), (2, 3, Some(0.002)));
        let plain = PageOrder::of_description("a scan", 6).unwrap();
        assert_eq!((plain.channels, plain.slices, plain.slice_mm(), plain.in_pixels), (1, 6, None, false));
        assert!(PageOrder::of_description("ImageJ=1.54f\nimages=2\nslices=2", 2).unwrap().in_pixels);
    }

    #[test]
    fn pages_of_unclear_meaning_are_refused() {
        let refused = |text: &str, pages| PageOrder::of_description(text, pages).unwrap_err().to_string();
        assert!(refused("ImageJ=1.54f\nimages=9000", 1).contains("announces 9000 images, it has 1 pages"));
        assert!(refused("ImageJ=1.54f\nimages=4\nframes=4", 4).contains("4 points in time"));
        assert!(refused("ImageJ=1.54f\nimages=4\nchannels=3", 4).contains("3 channels"));
        assert!(refused("<?xml version=\"1.0\"?><OME xmlns=\"x\">", 2).contains("OME-TIFF"));
        assert!(PageOrder::of_description("<OME>", 1).is_ok());
    }
}
