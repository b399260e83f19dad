//! Writes PNG: masks with a palette, images in grey or RGB.

use png::{BitDepth, ColorType, Encoder, EncodingError, PixelDimensions, Unit};
use sulcus_volume::{GridUnit, Label, LabelTable};

use super::PictureFormat;
use super::output::{Output, Unsigned, interleaved};
use super::png::LABELS_KEYWORD;
use crate::error::IoErrorKind;
use crate::format::{VolumeToEncode, label_text};

const FORMAT: PictureFormat = PictureFormat::Png;

/// A mask becomes indices of a palette with the colours of the labels, or grey values of 16 bits if a label exceeds 255. An
/// image becomes grey or RGB, of 8 bits if its values fit.
pub(super) fn encode(volume: &VolumeToEncode<'_>) -> Result<Vec<u8>, IoErrorKind> {
    let output = Output::new(volume)?;
    let refused = |what: String, hint| IoErrorKind::PictureOutput { format: FORMAT.name(), what, hint };
    let geometry = output.metadata().geometry();
    let [width, height, slices] = geometry.shape();
    if slices > 1 {
        return Err(refused(
            format!("it holds one picture, found {slices} slices"),
            "name the output .tif, .nii.gz or .nrrd, which hold a stack",
        ));
    }
    let channels = output.channels();
    let [width, height] = match [width, height].map(u32::try_from) {
        [Ok(width), Ok(height)] => [width, height],
        _ => return Err(refused("it is too large".into(), "name the output .nii.gz")),
    };
    let color = match (channels, &output.labels) {
        (1, Some(_)) => ColorType::Indexed,
        (1, None) => ColorType::Grayscale,
        (3, None) => ColorType::Rgb,
        (n, _) => {
            return Err(refused(
                format!("it holds one channel or three, found {n}"),
                "name the output .nii.gz or .nrrd, which hold any number of channels",
            ));
        }
    };
    let values = output.unsigned(FORMAT)?;
    let mut out = Vec::new();
    let mut encoder = Encoder::new(&mut out, width, height);
    let (bytes, depth) = match values {
        Unsigned::Bytes(bytes) if channels == 1 => (bytes, BitDepth::Eight),
        Unsigned::Bytes(bytes) => (interleaved(&bytes, channels).into(), BitDepth::Eight),
        Unsigned::Words(words) => {
            let words = if channels == 1 { words } else { interleaved(&words, channels) };
            (words.iter().flat_map(|word| word.to_be_bytes()).collect::<Vec<u8>>().into(), BitDepth::Sixteen)
        }
    };
    let color =
        if depth == BitDepth::Sixteen && color == ColorType::Indexed { ColorType::Grayscale } else { color };
    encoder.set_color(color);
    encoder.set_depth(depth);
    if let Some(table) = &output.labels {
        if color == ColorType::Indexed {
            encoder.set_palette(palette(&output, table, Output::greatest_label(&bytes, table))?);
        }
        if let Some(text) = label_text::of_table(table) {
            encoder.add_itxt_chunk(LABELS_KEYWORD.into(), text).map_err(failed)?;
        }
    }
    if geometry.unit() != GridUnit::Pixel && geometry.is_picture() {
        let per_metre = geometry.spacing().mm().map(|mm| (1000.0 / mm).round() as u32);
        let [xppu, yppu, _] = per_metre;
        encoder.set_pixel_dims(Some(PixelDimensions { xppu, yppu, unit: Unit::Meter }));
    }
    let mut writer = encoder.write_header().map_err(failed)?;
    writer.write_image_data(&bytes).map_err(failed)?;
    writer.finish().map_err(failed)?;
    Ok(out)
}

/// The colours of the labels up to `greatest`: those of the table, else those of the file that the mask was read from.
fn palette(output: &Output<'_>, table: &LabelTable, greatest: usize) -> Result<Vec<u8>, IoErrorKind> {
    let names = (1..=Label::from(u8::MAX)).map(|value| (value, format!("Label {value}")));
    let others = LabelTable::from_names(names)?;
    let own = output.metadata().palette().unwrap_or_default();
    let color = |value: usize| {
        let label = Label::try_from(value).unwrap_or_default();
        let named = table.get(label).map(|entry| entry.color);
        let color =
            named.or_else(|| own.get(value).copied()).or_else(|| others.get(label).map(|entry| entry.color));
        // The background is black.
        color.map_or([0; 3], |color| color.0)
    };
    Ok((0..=greatest).flat_map(color).collect())
}

fn failed(error: EncodingError) -> IoErrorKind {
    let hint = "name the output .nii.gz";
    IoErrorKind::PictureOutput { format: FORMAT.name(), what: error.to_string(), hint }
}
