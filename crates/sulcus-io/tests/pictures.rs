//! Pictures: exact values against files made here, limits, and masks as PNG.
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

use std::io::Cursor;
use std::path::Path;

use png::{BitDepth, ColorType};
use sulcus_io::{
    VolumeFormat, VoxelType, announced, read_image_bytes_without_statistics, read_info_bytes, read_labels,
    read_labels_bytes, read_metadata, read_scan, read_scan_bytes, read_stored, read_stored_bytes, write_image,
    write_labels, write_stored,
};
use sulcus_volume::{
    Geometry, GridUnit, Image, LabelEntry, LabelMap, LabelTable, OrientationSource, Rgb, Spacing,
};
use tiff::encoder::{TiffEncoder, colortype};
use tiff::tags::{ResolutionUnit, Tag};

/// A PNG with these stored bytes.
fn png(
    size: [u32; 2],
    color: ColorType,
    depth: BitDepth,
    data: &[u8],
    set: impl Fn(&mut png::Encoder<'_, &mut Vec<u8>>),
) -> Vec<u8> {
    let mut out = Vec::new();
    let mut encoder = png::Encoder::new(&mut out, size[0], size[1]);
    encoder.set_color(color);
    encoder.set_depth(depth);
    set(&mut encoder);
    let mut writer = encoder.write_header().unwrap();
    writer.write_image_data(data).unwrap();
    writer.finish().unwrap();
    out
}

fn plain(size: [u32; 2], color: ColorType, depth: BitDepth, data: &[u8]) -> Vec<u8> {
    png(size, color, depth, data, |_| ())
}

/// A baseline JPEG of 8 × 8 pixels of one colour, whose components have these values: with a JFIF segment of 72 dots per inch, or,
/// if the components are red, green and blue, with Adobe's.
fn jpeg(components: &[u8], rgb: bool) -> Vec<u8> {
    let n = components.len() as u8;
    let segment =
        |marker: u8, body: &[u8]| [&[0xff, marker][..], &(body.len() as u16 + 2).to_be_bytes(), body].concat();
    let application = if rgb {
        segment(0xee, b"Adobe\0\x64\0\0\0\0\0")
    } else {
        segment(0xe0, b"JFIF\0\x01\x02\x01\0\x48\0\x48\0\0")
    };
    // All factors are 8: then the first coefficient is the value less 128.
    let quantization = segment(0xdb, &[&[0][..], &[8; 64]].concat());
    let of_frame = (1..=n).flat_map(|id| [id, 0x11, 0]).collect::<Vec<u8>>();
    let frame = segment(0xc0, &[&[8, 0, 8, 0, 8, n][..], &of_frame].concat());
    // Twelve codes of four bits for the first coefficient, one of one bit for the end of a block.
    let mut first = vec![0, 0, 0, 0, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    first.extend(0..12);
    let mut others = vec![0x10, 1];
    others.extend([0; 16]);
    let of_scan = (1..=n).flat_map(|id| [id, 0]).collect::<Vec<u8>>();
    let scan = segment(0xda, &[&[n][..], &of_scan, &[0, 63, 0]].concat());
    let mut bits = String::new();
    for value in components {
        let level = i32::from(*value) - 128;
        let size = 32 - level.unsigned_abs().leading_zeros();
        let amplitude = if level < 0 { level + (1 << size) - 1 } else { level };
        bits += &format!("{size:04b}");
        if size > 0 {
            bits += &format!("{amplitude:0width$b}", width = size as usize);
        }
        bits += "0";
    }
    while !bits.len().is_multiple_of(8) {
        bits.push('1');
    }
    let mut data = Vec::new();
    for byte in bits.as_bytes().chunks(8) {
        let byte = u8::from_str_radix(std::str::from_utf8(byte).unwrap(), 2).unwrap();
        data.push(byte);
        if byte == 0xff {
            data.push(0);
        }
    }
    let tables = [segment(0xc4, &first), segment(0xc4, &others)].concat();
    [&[0xff, 0xd8][..], &application, &quantization, &frame, &tables, &scan, &data, &[0xff, 0xd9]].concat()
}

fn error(bytes: &[u8]) -> String {
    read_scan_bytes(bytes).unwrap_err().to_string()
}

/// A TIFF with one page for each element of `pages`.
fn tiff<C: colortype::ColorType>(size: [u32; 2], pages: &[Vec<C::Inner>], description: &str) -> Vec<u8>
where
    [C::Inner]: tiff::encoder::TiffValue,
{
    let mut out = Cursor::new(Vec::new());
    let mut encoder = TiffEncoder::new(&mut out).unwrap();
    for page in pages {
        let mut image = encoder.new_image::<C>(size[0], size[1]).unwrap();
        if !description.is_empty() {
            image.encoder().write_tag(Tag::ImageDescription, description).unwrap();
            image.resolution(ResolutionUnit::None, tiff::encoder::Rational { n: 2, d: 1 });
        }
        image.write_data(page).unwrap();
    }
    out.into_inner()
}

#[test]
fn grey_png_of_8_and_16_bits_keeps_its_values() {
    let scan =
        read_scan_bytes(&plain([3, 2], ColorType::Grayscale, BitDepth::Eight, &[0, 1, 2, 253, 254, 255])).unwrap();
    assert_eq!(scan.image.data(), [0.0, 1.0, 2.0, 253.0, 254.0, 255.0]);
    assert_eq!((scan.image.geometry().shape(), scan.image.channels()), ([3, 2, 1], 1));
    assert_eq!((scan.info.format, scan.info.dtype), (Some(VolumeFormat::Png), "uint8"));
    let words = [0_u16, 1, 256, 65535].map(u16::to_be_bytes).concat();
    let scan = read_scan_bytes(&plain([2, 2], ColorType::Grayscale, BitDepth::Sixteen, &words)).unwrap();
    assert_eq!((scan.image.data(), scan.info.dtype), ([0.0, 1.0, 256.0, 65535.0].as_slice(), "uint16"));
}

#[test]
fn png_of_fewer_bits_is_not_scaled() {
    let bits = plain([3, 2], ColorType::Grayscale, BitDepth::One, &[0b1010_0000, 0b0100_0000]);
    assert_eq!(read_labels_bytes(&bits).unwrap().0.data(), [1, 0, 1, 0, 1, 0]);
    let nibbles = plain([3, 1], ColorType::Grayscale, BitDepth::Four, &[0x1f, 0x70]);
    assert_eq!(read_scan_bytes(&nibbles).unwrap().image.data(), [1.0, 15.0, 7.0]);
}

#[test]
fn rgb_becomes_three_channels() {
    let scan = read_scan_bytes(&plain([2, 1], ColorType::Rgb, BitDepth::Eight, &[1, 2, 3, 4, 5, 6])).unwrap();
    assert_eq!(scan.image.channels(), 3);
    assert_eq!(scan.image.data(), [1.0, 4.0, 2.0, 5.0, 3.0, 6.0]);
    assert_eq!(scan.info.shape, [2, 1, 1, 3]);
    let words = [1_u16, 256, 513, 4, 5, 60000].map(u16::to_be_bytes).concat();
    let scan = read_scan_bytes(&plain([2, 1], ColorType::Rgb, BitDepth::Sixteen, &words)).unwrap();
    assert_eq!(scan.image.data(), [1.0, 4.0, 256.0, 5.0, 513.0, 60000.0]);
}

#[test]
fn opaque_alpha_is_left_out_and_transparency_refused() {
    let opaque = plain([2, 1], ColorType::Rgba, BitDepth::Eight, &[1, 2, 3, 255, 4, 5, 6, 255]);
    assert_eq!(read_scan_bytes(&opaque).unwrap().image.data(), [1.0, 4.0, 2.0, 5.0, 3.0, 6.0]);
    let grey = plain([2, 1], ColorType::GrayscaleAlpha, BitDepth::Eight, &[7, 255, 8, 255]);
    assert_eq!(read_scan_bytes(&grey).unwrap().image.data(), [7.0, 8.0]);
    let transparent = plain([2, 1], ColorType::Rgba, BitDepth::Eight, &[1, 2, 3, 255, 4, 5, 6, 254]);
    assert_eq!(
        error(&transparent),
        "cannot read the PNG picture: it has transparent pixels, whose colours programs show differently; save it without an alpha \
         channel, on the background that it is to have"
    );
}

#[test]
fn palette_is_labels_of_a_mask_and_colours_of_an_image() {
    let palette = [0, 0, 0, 10, 20, 30, 40, 50, 60];
    let indexed = |trns: &'static [u8]| {
        png([2, 2], ColorType::Indexed, BitDepth::Two, &[0b0001_0000, 0b1001_0000], |encoder| {
            encoder.set_palette(palette.to_vec());
            if !trns.is_empty() {
                encoder.set_trns(trns);
            }
        })
    };
    let bytes = indexed(&[]);
    let (labels, metadata) = read_labels_bytes(&bytes).unwrap();
    assert_eq!((labels.data(), metadata.channels(), metadata.image_channels()), ([0, 1, 2, 1].as_slice(), 1, 3));
    let image = read_scan_bytes(&bytes).unwrap().image;
    assert_eq!(image.data(), [0.0, 10.0, 40.0, 10.0, 0.0, 20.0, 50.0, 20.0, 0.0, 30.0, 60.0, 30.0]);
    // Transparent colours do not change indices.
    let transparent = indexed(&[0, 255, 255]);
    assert_eq!(read_labels_bytes(&transparent).unwrap().0, labels);
    assert!(error(&transparent).contains("transparent"));
    // An index without a colour.
    let short = png([2, 1], ColorType::Indexed, BitDepth::Eight, &[0, 3], |e| e.set_palette(palette.to_vec()));
    assert!(error(&short).contains("a pixel has the index 3, but the palette has 3 colours"), "{}", error(&short));
}

#[test]
fn pictures_have_pixels_unless_the_file_states_their_size() {
    let with = |per_metre: u32| {
        png([2, 1], ColorType::Grayscale, BitDepth::Eight, &[1, 2], |encoder| {
            let unit = png::Unit::Meter;
            encoder.set_pixel_dims(Some(png::PixelDimensions { xppu: per_metre, yppu: per_metre, unit }));
        })
    };
    let grid = |bytes: &[u8]| *read_scan_bytes(bytes).unwrap().image.geometry();
    let unstated = grid(&plain([2, 1], ColorType::Grayscale, BitDepth::Eight, &[1, 2]));
    assert_eq!((unstated.unit(), unstated.source()), (GridUnit::Pixel, OrientationSource::Picture));
    // 72 dots per inch is the density of a screen.
    assert_eq!(grid(&with(2835)), unstated);
    let stated = grid(&with(10_000));
    assert_eq!((stated.unit(), stated.spacing().mm()), (GridUnit::MillimetreInPlane, [0.1, 0.1, 1.0]));
    let info = |bytes: &[u8]| serde_json::to_value(read_info_bytes(bytes).unwrap()).unwrap();
    let of_pixels = info(&with(2835));
    assert_eq!((of_pixels.get("spacing_mm"), &of_pixels["orientation_source"]), (None, &"picture".into()));
    assert_eq!(info(&with(10_000))["spacing_mm"], serde_json::json!([0.1, 0.1, 1.0]));
}

#[test]
fn header_that_announces_too_much_is_refused_before_memory_is_allocated() {
    // 100,000 × 100,000 pixels in a file of a few bytes.
    let mut bytes = plain([2, 1], ColorType::Rgb, BitDepth::Sixteen, &[0; 12]);
    let size = 100_000_u32.to_be_bytes();
    bytes[16..24].copy_from_slice(&[size, size].concat());
    let crc = crc32(&bytes[12..29]);
    bytes[29..33].copy_from_slice(&crc.to_be_bytes());
    let message = error(&bytes);
    assert!(message.contains("shape 100000 × 100000 × 1 × 3 of uint16, 60000000000 bytes"), "{message}");
    assert!(message.contains("compressed data"), "{message}");
    assert_eq!(announced(&bytes).unwrap_err().to_string(), message);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("huge.png");
    std::fs::write(&file, &bytes).unwrap();
    assert!(read_scan(&file).unwrap_err().to_string().starts_with(&message));
    // What the header announces can be compared with a limit without reading.
    assert_eq!(read_metadata(&file).unwrap().geometry().shape(), [100_000, 100_000, 1]);
    let (geometry, memory) = announced(&plain([40, 30], ColorType::Rgb, BitDepth::Eight, &[9; 3600])).unwrap();
    assert_eq!((geometry.shape(), memory), ([40, 30, 1], 3600 * 5));
}

fn crc32(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 };
        }
    }
    !crc
}

#[test]
fn truncated_and_damaged_files_are_errors() {
    let noise: Vec<u8> = (0..3 * 64 * 64_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let files = [
        plain([64, 64], ColorType::Rgb, BitDepth::Eight, &noise),
        tiff::<colortype::RGB8>([64, 64], std::slice::from_ref(&noise), ""),
        jpeg(&[9], false),
    ];
    for bytes in files {
        assert!(read_scan_bytes(&bytes).is_ok());
        for end in (1..bytes.len()).step_by(bytes.len() / 97 + 1) {
            match read_scan_bytes(&bytes[..end]) {
                // Only what follows the last pixel may be missing.
                Ok(_) => assert!(end + 16 >= bytes.len(), "{end} of {}", bytes.len()),
                Err(error) => assert!(error.to_string().starts_with("cannot "), "{error}"),
            }
        }
    }
}

#[test]
fn tiff_of_8_16_and_32_bits_keeps_its_values() {
    let bytes = tiff::<colortype::Gray8>([3, 1], &[vec![0, 7, 255]], "");
    let scan = read_scan_bytes(&bytes).unwrap();
    assert_eq!((scan.image.data(), scan.info.format), ([0.0, 7.0, 255.0].as_slice(), Some(VolumeFormat::Tiff)));
    let words = tiff::<colortype::Gray16>([2, 1], &[vec![1, 65535]], "");
    assert_eq!(read_scan_bytes(&words).unwrap().image.data(), [1.0, 65535.0]);
    let signed = tiff::<colortype::GrayI16>([2, 1], &[vec![-1024, 3071]], "");
    assert_eq!(read_scan_bytes(&signed).unwrap().image.data(), [-1024.0, 3071.0]);
    let float = tiff::<colortype::Gray32Float>([2, 1], &[vec![0.25, -1e30]], "");
    assert_eq!(read_scan_bytes(&float).unwrap().image.data(), [0.25, -1e30]);
    let rgb = tiff::<colortype::RGB16>([2, 1], &[vec![1, 2, 3, 4, 5, 600]], "");
    assert_eq!(read_scan_bytes(&rgb).unwrap().image.data(), [1.0, 4.0, 2.0, 5.0, 3.0, 600.0]);
}

#[test]
fn pages_of_a_tiff_are_slices() {
    let bytes = tiff::<colortype::Gray8>([2, 2], &[vec![1, 2, 3, 4], vec![5, 6, 7, 8], vec![9, 10, 11, 12]], "");
    let image = read_scan_bytes(&bytes).unwrap().image;
    assert_eq!((image.geometry().shape(), image.geometry().unit()), ([2, 2, 3], GridUnit::Pixel));
    assert_eq!(image.data(), (1..=12).map(|v| v as f32).collect::<Vec<_>>());
}

#[test]
fn channels_and_voxel_size_of_imagej_are_read() {
    // Two channels of two slices; the channels of a slice follow each other.
    let pages = [vec![1, 2], vec![3, 4], vec![5, 6], vec![7, 8]];
    let text = "ImageJ=1.54f\nimages=4\nchannels=2\nslices=2\nunit=mm\nspacing=2.5\n";
    let scan = read_scan_bytes(&tiff::<colortype::Gray8>([2, 1], &pages, text)).unwrap();
    assert_eq!((scan.image.geometry().shape(), scan.image.channels()), ([2, 1, 2], 2));
    assert_eq!(scan.image.data(), [1.0, 2.0, 5.0, 6.0, 3.0, 4.0, 7.0, 8.0]);
    let geometry = scan.image.geometry();
    assert_eq!((geometry.unit(), geometry.spacing().mm()), (GridUnit::Millimetre, [0.5, 0.5, 2.5]));
    // 2 × 1 × 2 voxels of 0.625 mm³.
    assert_eq!(geometry.ml(4), Some(0.0025));
}

#[test]
fn pages_that_differ_are_refused() {
    let mut out = Cursor::new(Vec::new());
    let mut encoder = TiffEncoder::new(&mut out).unwrap();
    encoder.write_image::<colortype::Gray8>(2, 1, &[1, 2]).unwrap();
    encoder.write_image::<colortype::Gray8>(1, 1, &[3]).unwrap();
    let message = error(&out.into_inner());
    assert!(message.contains("its pages differ: the first has 2 × 1 pixels, page 2 has 1 × 1"), "{message}");
}

#[test]
fn jpeg_is_read_in_grey_and_colours() {
    for value in [0, 1, 127, 128, 200, 255] {
        let grey = read_scan_bytes(&jpeg(&[value], false)).unwrap();
        assert_eq!((grey.image.geometry().shape(), grey.image.channels()), ([8, 8, 1], 1));
        assert!(grey.image.data().iter().all(|v| *v == f32::from(value)), "{value}: {:?}", grey.image.data());
        assert_eq!(grey.info.format, Some(VolumeFormat::Jpeg));
        // 72 dots per inch are no size.
        assert_eq!(grey.image.geometry().unit(), GridUnit::Pixel);
    }
    let colours = |bytes: &[u8]| [0, 1, 2].map(|c| read_scan_bytes(bytes).unwrap().image.channel(c)[9]);
    assert_eq!(colours(&jpeg(&[10, 100, 250], true)), [10.0, 100.0, 250.0]);
    // Luminance and chrominance: R = Y + 1.402 (Cr - 128), G = Y - 0.714 (Cr - 128).
    assert_eq!(colours(&jpeg(&[100, 128, 178], false)), [170.0, 64.0, 100.0]);
}

#[test]
fn cmyk_turned_and_12_bit_jpeg_are_refused() {
    assert_eq!(
        error(&jpeg(&[1, 2, 3, 4], true)),
        "cannot read the JPEG picture: its colours are inks (CMYK), not red, green and blue; save it in RGB"
    );
    let grey = jpeg(&[9], false);
    let frame = grey.windows(2).position(|pair| pair == [0xff, 0xc0]).unwrap();
    let mut deep = grey.clone();
    deep[frame + 4] = 12;
    assert!(error(&deep).contains("it has 12 bits per value, expected 8"));
    let mut arithmetic = grey.clone();
    arithmetic[frame + 1] = 0xc9;
    assert!(error(&arithmetic).contains("arithmetic"));
    // An EXIF segment with orientation 6 after the start of the image.
    let exif = b"\xff\xe1\x00\x22Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0";
    let turned = [&grey[..2], exif.as_slice(), &grey[2..]].concat();
    let message = error(&turned);
    assert!(message.contains("EXIF orientation is 6") && message.contains("save it upright"), "{message}");
}

fn mask() -> (LabelMap, LabelTable) {
    let grid = Geometry::of_picture([3, 2, 1], Spacing::new([1.0; 3]).unwrap(), GridUnit::Pixel).unwrap();
    let entry = |value, name: &str, color| LabelEntry { value, name: name.into(), color: Rgb(color) };
    let table =
        LabelTable::new(vec![entry(1, "Vessel", [200, 0, 0]), entry(4, "Papille – Ω", [0, 9, 250])]).unwrap();
    (LabelMap::new(grid, vec![0, 1, 4, 4, 1, 0]).unwrap(), table)
}

#[test]
fn mask_as_png_keeps_labels_names_and_colours() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("mask.png");
    let (labels, table) = mask();
    write_labels(&file, &labels, &(*labels.geometry()).into(), &table).unwrap();
    let (read, metadata) = read_labels(&file).unwrap();
    assert_eq!((read.data(), metadata.label_table()), (labels.data(), Some(&table)));
    assert!(metadata.is_label_map());
    let reader = png::Decoder::new(Cursor::new(std::fs::read(&file).unwrap())).read_info().unwrap();
    assert_eq!(reader.info().color_type, ColorType::Indexed);
    let palette = reader.info().palette.clone().unwrap();
    assert_eq!((&palette[..6], &palette[12..]), ([0, 0, 0, 200, 0, 0].as_slice(), [0, 9, 250].as_slice()));
    // Writing what was read does not change the file.
    let copy = folder.path().join("copy.png");
    let stored = read_stored(&file).unwrap();
    write_stored(&copy, &stored, metadata.label_table(), sulcus_io::Texts::Drop).unwrap();
    assert_eq!(std::fs::read(&file).unwrap(), std::fs::read(&copy).unwrap());
}

#[test]
fn labels_above_255_are_grey_values_of_16_bits() {
    let folder = tempfile::tempdir().unwrap();
    let (labels, table) = mask();
    let labels = LabelMap::new(*labels.geometry(), vec![0, 300, 65535, 1, 2, 3]).unwrap();
    for name in ["mask.png", "mask.tif"] {
        let file = folder.path().join(name);
        write_labels(&file, &labels, &(*labels.geometry()).into(), &table).unwrap();
        assert_eq!(read_labels(&file).unwrap().0.data(), labels.data(), "{name}");
    }
}

#[test]
fn stack_is_written_as_tiff_and_refused_as_png() {
    let folder = tempfile::tempdir().unwrap();
    let spacing = Spacing::new([0.1, 0.2, 1.0]).unwrap();
    let grid = Geometry::of_picture([3, 2, 2], spacing, GridUnit::Pixel).unwrap();
    let labels = LabelMap::new(grid, (0..12).collect()).unwrap();
    let write = |name: &str| {
        let file = folder.path().join(name);
        write_labels(&file, &labels, &grid.into(), &LabelTable::default()).map(|()| file)
    };
    assert_eq!(read_labels(&write("mask.tif").unwrap()).unwrap().0.data(), labels.data());
    let message = |name: &str| write(name).unwrap_err().to_string();
    assert!(message("mask.png").contains("it holds one picture, found 2 slices; name the output .tif"));
    assert!(message("mask.jpg").contains("JPEG changes values"));
    assert!(!folder.path().join("mask.png").exists());
}

#[test]
fn images_are_written_without_loss_or_refused() {
    let folder = tempfile::tempdir().unwrap();
    let spacing = Spacing::new([0.05, 0.1, 1.0]).unwrap();
    let grid = Geometry::of_picture([2, 1, 1], spacing, GridUnit::MillimetreInPlane).unwrap();
    let image = Image::new(grid, 3, vec![0.0, 1.0, 2.0, 300.0, 4.0, 65535.0]).unwrap();
    for name in ["image.png", "image.tif"] {
        let file = folder.path().join(name);
        write_image(&file, &image, &grid.into()).unwrap();
        let read = read_scan(&file).unwrap().image;
        assert_eq!((read.data(), read.channels()), (image.data(), 3), "{name}");
        let found = read.geometry();
        assert_eq!(found.unit(), GridUnit::MillimetreInPlane);
        assert!(found.spacing().mm().iter().zip([0.05, 0.1, 1.0]).all(|(a, b)| (a - b).abs() < 1e-9), "{name}");
    }
    let fraction = Image::new(grid, 1, vec![0.5, 1.0]).unwrap();
    let write = |name: &str| write_image(&folder.path().join(name), &fraction, &grid.into());
    assert!(write("half.png").unwrap_err().to_string().contains("found the value 0.5; name the output .tif"));
    write("half.tif").unwrap();
    assert_eq!(read_scan(&folder.path().join("half.tif")).unwrap().image.data(), [0.5, 1.0]);
}

#[test]
fn names_of_pictures_are_those_of_volumes() {
    for name in ["a.png", "A.PNG", "a.jpg", "a.jpeg", "a.tif", "a.TIFF"] {
        assert!(sulcus_io::is_volume_file(Path::new(name)), "{name}");
        assert_eq!(sulcus_io::case_name(Path::new(name)).map(|n| n.to_ascii_lowercase()).as_deref(), Some("a"));
    }
    assert_eq!(sulcus_io::mask_ending(Path::new("x/a.JPG")), ".png");
    assert_eq!(sulcus_io::mask_ending(Path::new("a.tiff")), ".tif");
    assert_eq!(sulcus_io::mask_ending(Path::new("a.mha")), ".nii.gz");
    // JPEG is not among the formats that can be written.
    let (labels, table) = mask();
    let message =
        write_labels(Path::new("a.bmp"), &labels, &(*labels.geometry()).into(), &table).unwrap_err().to_string();
    assert!(message.contains(".png, .tif or .tiff") && !message.contains("jpg"), "{message}");
}

#[test]
fn image_without_statistics_has_the_same_values() {
    let bytes = plain([2, 1], ColorType::Rgb, BitDepth::Eight, &[1, 2, 3, 4, 5, 6]);
    let (image, metadata) = read_image_bytes_without_statistics(&bytes).unwrap();
    assert_eq!(
        (image.data(), metadata.voxel_type()),
        ([1.0, 4.0, 2.0, 5.0, 3.0, 6.0].as_slice(), VoxelType::Uint8)
    );
}

/// A TIFF of 20 × 18 RGB pixels in four uncompressed tiles of 16 × 16, which extend beyond its edges.
fn tiled_tiff(value: impl Fn(usize, usize, usize) -> u8) -> Vec<u8> {
    const WIDTH: usize = 20;
    const HEIGHT: usize = 18;
    const EDGE: usize = 16;
    const TILE: usize = EDGE * EDGE * 3;
    let mut data = Vec::new();
    for tile in 0..4 {
        let (left, top) = (tile % 2 * EDGE, tile / 2 * EDGE);
        for (y, x) in (0..EDGE).flat_map(|y| (0..EDGE).map(move |x| (y + top, x + left))) {
            data.extend((0..3).map(|c| if x < WIDTH && y < HEIGHT { value(x, y, c) } else { 99 }));
        }
    }
    let start = 8 + data.len();
    let (short, long) = (3_u16, 4_u16);
    let entries = 11_u16;
    // Bits per sample, offsets and sizes of the tiles come after the directory.
    let extra = (start + 2 + 12 * usize::from(entries) + 4) as u32;
    let tags: [(u16, u16, u32, u32); 11] = [
        (256, short, 1, WIDTH as u32),
        (257, short, 1, HEIGHT as u32),
        (258, short, 3, extra),
        (259, short, 1, 1),
        (262, short, 1, 2),
        (277, short, 1, 3),
        (284, short, 1, 1),
        (322, short, 1, EDGE as u32),
        (323, short, 1, EDGE as u32),
        (324, long, 4, extra + 6),
        (325, long, 4, extra + 22),
    ];
    let mut bytes = b"II*\0".to_vec();
    bytes.extend((start as u32).to_le_bytes());
    bytes.extend(&data);
    bytes.extend(entries.to_le_bytes());
    for (tag, kind, count, value) in tags {
        bytes.extend(tag.to_le_bytes().into_iter().chain(kind.to_le_bytes()));
        bytes.extend(count.to_le_bytes().into_iter().chain(value.to_le_bytes()));
    }
    bytes.extend(0_u32.to_le_bytes());
    bytes.extend([8_u16; 3].iter().flat_map(|bits| bits.to_le_bytes()));
    bytes.extend((0..4).flat_map(|tile| (8 + tile * TILE as u32).to_le_bytes()));
    bytes.extend([TILE as u32; 4].iter().flat_map(|size| size.to_le_bytes()));
    bytes
}

#[test]
fn tiles_of_a_tiff_are_put_side_by_side() {
    let value = |x: usize, y: usize, c: usize| (x * 5 + y * 3 + c * 50) as u8;
    let bytes = tiled_tiff(value);
    let expected: Vec<f32> =
        (0..3).flat_map(|c| (0..18).flat_map(move |y| (0..20).map(move |x| f32::from(value(x, y, c))))).collect();
    let scan = read_scan_bytes(&bytes).unwrap();
    assert_eq!((scan.image.geometry().shape(), scan.image.channels()), ([20, 18, 1], 3));
    assert_eq!(scan.image.data(), expected);
    assert_eq!((scan.info.min, scan.info.max), (Some(0.0), Some(f64::from(value(19, 17, 2)))));
    let stored: Vec<f32> = read_stored_bytes(&bytes).unwrap().bytes().iter().map(|v| f32::from(*v)).collect();
    assert_eq!(stored, expected);
    let cut = error(&bytes[..bytes.len() - 40]);
    assert!(cut.contains("TIFF"), "{cut}");
}
