use sulcus_volume::{Label, SliceView, WindowLevel};

use crate::Frame;

/// How a layer of labels is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// Each region as a see-through colour.
    Filled,
    /// The edge of each region, opaque.
    Outline,
    /// Not at all.
    Hidden,
}

/// How intensities between voxel centres are shown. Labels are never mixed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shading {
    /// Each voxel as a box of one grey.
    Voxels,
    /// Linear between voxel centres.
    Smooth,
}

/// The colours of label values.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Palette(Vec<Option<[u8; 3]>>);

impl Palette {
    /// From values with their colours.
    pub fn new(colours: impl IntoIterator<Item = (Label, [u8; 3])>) -> Self {
        let mut table = Vec::new();
        for (value, colour) in colours {
            let at = usize::from(value);
            if table.len() <= at {
                table.resize(at + 1, None);
            }
            table[at] = Some(colour);
        }
        Self(table)
    }

    fn of(&self, label: Label) -> Option<[u8; 3]> {
        self.0.get(usize::from(label)).copied().flatten()
    }
}

/// One slice of labels over the picture.
#[derive(Debug)]
pub struct Layer<'a> {
    /// The labels.
    pub slice: SliceView<Label>,
    /// Their colours; a value without one is not shown.
    pub palette: &'a Palette,
    /// How they are shown.
    pub style: Style,
    /// Of filled regions, 0 to 1.
    pub opacity: f32,
}

/// Everything that goes on one canvas.
#[derive(Debug)]
pub struct Picture<'a> {
    /// Size of the canvas in pixels, across and down.
    pub canvas: [usize; 2],
    /// Where the slice lies on it.
    pub frame: Frame,
    /// The intensities, if a scan is loaded.
    pub image: Option<SliceView<f32>>,
    /// Black and white.
    pub window: WindowLevel,
    /// Between voxel centres.
    pub shading: Shading,
    /// From the bottom to the top.
    pub layers: Vec<Layer<'a>>,
    /// Column and row of the crosshair.
    pub crosshair: Option<[usize; 2]>,
    /// Width of the crosshair in canvas pixels; outlines are twice as wide.
    pub line: usize,
}

const CROSSHAIR: [u8; 3] = [125, 220, 255];
const CROSSHAIR_OPACITY: f32 = 0.75;
/// Free pixels on each side of the crosshair's middle, in line widths, so that it does not cover what it points at.
const CROSSHAIR_GAP: f64 = 7.0;

/// Paints a picture.
///
/// # Shapes
/// The result is `[canvas height, canvas width, RGBA]`, 8 bits each, opaque.
pub fn paint(picture: &Picture) -> Vec<u8> {
    let [width, height] = picture.canvas;
    let mut pixels = [0, 0, 0, 255].repeat(width * height);
    if let Some(image) = &picture.image {
        paint_grey(picture, image, &mut pixels);
    }
    for layer in &picture.layers {
        paint_labels(picture, layer, &mut pixels);
    }
    if let Some(cell) = picture.crosshair {
        paint_crosshair(picture, cell, &mut pixels);
    }
    pixels
}

/// Two neighbouring cells along an axis and the share of the second, for one canvas pixel.
#[derive(Clone, Copy)]
struct Between {
    first: usize,
    second: usize,
    share: f32,
}

impl Picture<'_> {
    /// For each canvas pixel of the frame along an axis: the cells it lies between.
    fn between(&self, axis: usize) -> Vec<Between> {
        let (frame, last) = (&self.frame, self.frame.cells[axis] - 1);
        let cell = |i: usize| frame.cell(axis, (frame.start[axis] + i) as f64 + 0.5);
        (0..frame.size[axis])
            .map(|i| match self.shading {
                Shading::Voxels => {
                    let first = (cell(i) as usize).min(last);
                    Between { first, second: first, share: 0.0 }
                }
                Shading::Smooth => {
                    let at = (cell(i) - 0.5).clamp(0.0, last as f64);
                    let first = at as usize;
                    Between { first, second: (first + 1).min(last), share: (at - first as f64) as f32 }
                }
            })
            .collect()
    }

    /// For each canvas pixel of the frame along an axis: the cell it lies in.
    fn cells(&self, axis: usize) -> Vec<usize> {
        let last = self.frame.cells[axis] - 1;
        let start = self.frame.start[axis];
        let cell = |i: usize| self.frame.cell(axis, (start + i) as f64 + 0.5) as usize;
        (0..self.frame.size[axis]).map(|i| cell(i).min(last)).collect()
    }

    /// Offset in the pixels of a canvas position inside the frame, counted from the frame's corner.
    fn offset(&self, x: usize, y: usize) -> usize {
        ((self.frame.start[1] + y) * self.canvas[0] + self.frame.start[0] + x) * 4
    }

    fn fits<T>(&self, slice: &SliceView<T>) -> bool {
        [slice.width, slice.height] == self.frame.cells && slice.data.len() == slice.width * slice.height
    }
}

fn blend(pixels: &mut [u8], offset: usize, colour: [u8; 3], opacity: f32) {
    let Some(under) = pixels.get_mut(offset..offset + 3) else {
        return;
    };
    for (below, above) in under.iter_mut().zip(colour) {
        let mixed = f32::from(*below) * (1.0 - opacity) + f32::from(above) * opacity;
        *below = mixed.round() as u8;
    }
}

fn paint_grey(picture: &Picture, image: &SliceView<f32>, pixels: &mut [u8]) {
    if !picture.fits(image) {
        return;
    }
    let (columns, rows) = (picture.between(0), picture.between(1));
    let mix = |a: f32, b: f32, share: f32| if share > 0.0 { a + (b - a) * share } else { a };
    for (y, row) in rows.iter().enumerate() {
        let line = |row: usize| &image.data[row * image.width..][..image.width];
        let (upper, lower) = (line(row.first), line(row.second));
        for (x, column) in columns.iter().enumerate() {
            let above = mix(upper[column.first], upper[column.second], column.share);
            let below = mix(lower[column.first], lower[column.second], column.share);
            let grey = picture.window.grey(mix(above, below, row.share));
            let offset = picture.offset(x, y);
            pixels[offset..offset + 3].fill(grey);
        }
    }
}

fn paint_labels(picture: &Picture, layer: &Layer, pixels: &mut [u8]) {
    if layer.style == Style::Hidden || !picture.fits(&layer.slice) {
        return;
    }
    let (columns, rows) = (picture.cells(0), picture.cells(1));
    let label = |x: usize, y: usize| layer.slice.data[rows[y] * layer.slice.width + columns[x]];
    let (last_x, last_y) = (columns.len() - 1, rows.len() - 1);
    let reach = 2 * picture.line;
    // The same structure goes on beyond the edge of the grid, so its outline is open there.
    let on_edge = |x: usize, y: usize, own: Label| {
        let (left, right) = (x.saturating_sub(reach), (x + reach).min(last_x));
        let (top, bottom) = (y.saturating_sub(reach), (y + reach).min(last_y));
        [(left, y), (right, y), (x, top), (x, bottom), (left, top), (right, top), (left, bottom), (right, bottom)]
            .into_iter()
            .any(|(x, y)| label(x, y) != own)
    };
    for y in 0..rows.len() {
        for x in 0..columns.len() {
            let own = label(x, y);
            let Some(colour) = layer.palette.of(own) else { continue };
            match layer.style {
                Style::Filled => blend(pixels, picture.offset(x, y), colour, layer.opacity),
                Style::Outline if on_edge(x, y, own) => blend(pixels, picture.offset(x, y), colour, 1.0),
                _ => {}
            }
        }
    }
}

fn paint_crosshair(picture: &Picture, cell: [usize; 2], pixels: &mut [u8]) {
    let frame = picture.frame;
    let middle = frame.middle_of(cell);
    let gap = CROSSHAIR_GAP * picture.line as f64;
    let half = picture.line / 2;
    for axis in 0..2 {
        let across = 1 - axis;
        // The line runs along `axis` at the place of the middle on the other one.
        let place = (middle[across] as usize - frame.start[across]).saturating_sub(half);
        for along in 0..frame.size[axis] {
            let away = (frame.start[axis] + along) as f64 + 0.5 - middle[axis];
            if away.abs() < gap {
                continue;
            }
            for width in 0..picture.line {
                let side = (place + width).min(frame.size[across] - 1);
                let (x, y) = if axis == 0 { (along, side) } else { (side, along) };
                blend(pixels, picture.offset(x, y), CROSSHAIR, CROSSHAIR_OPACITY);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ORANGE: [u8; 3] = [230, 159, 0];

    fn slice<T>(width: usize, height: usize, data: Vec<T>) -> SliceView<T> {
        SliceView { width, height, pixel_mm: [1.0, 1.0], edges: ['R', 'L', 'A', 'P'], data }
    }

    /// A slice of 2 × 2 cells, four canvas pixels each, in the middle of a canvas two pixels wider.
    fn picture(image: Vec<f32>) -> Picture<'static> {
        Picture {
            canvas: [10, 8],
            frame: Frame { start: [1, 0], size: [8, 8], cells: [2, 2] },
            image: Some(slice(2, 2, image)),
            window: WindowLevel { low: 0.0, high: 255.0 },
            shading: Shading::Voxels,
            layers: Vec::new(),
            crosshair: None,
            line: 1,
        }
    }

    fn at(pixels: &[u8], x: usize, y: usize) -> [u8; 4] {
        pixels[(y * 10 + x) * 4..][..4].try_into().unwrap()
    }

    #[test]
    fn cells_are_boxes_of_one_grey_on_black() {
        let pixels = paint(&picture(vec![10.0, 20.0, 30.0, 40.0]));
        assert_eq!(pixels.len(), 10 * 8 * 4);
        let grey = |v: u8| [v, v, v, 255];
        assert_eq!((at(&pixels, 0, 0), at(&pixels, 9, 7)), (grey(0), grey(0)));
        assert_eq!((at(&pixels, 1, 0), at(&pixels, 4, 3)), (grey(10), grey(10)));
        assert_eq!((at(&pixels, 5, 3), at(&pixels, 4, 4), at(&pixels, 8, 7)), (grey(20), grey(30), grey(40)));
    }

    #[test]
    fn smooth_shading_is_linear_between_centres_and_flat_outside_them() {
        let mut smooth = picture(vec![0.0, 80.0, 0.0, 80.0]);
        smooth.shading = Shading::Smooth;
        let pixels = paint(&smooth);
        // Centres lie at canvas columns 3.0 and 7.0; pixel 3 has its middle at 3.5, an eighth of the way.
        let row: Vec<u8> = (1..9).map(|x| at(&pixels, x, 4)[0]).collect();
        assert_eq!(row, [0, 0, 10, 30, 50, 70, 80, 80]);
    }

    #[test]
    fn a_value_that_is_not_a_number_is_black_and_spoils_no_neighbour_box() {
        let pixels = paint(&picture(vec![f32::NAN, 20.0, 30.0, f32::INFINITY]));
        assert_eq!((at(&pixels, 1, 0)[0], at(&pixels, 5, 0)[0], at(&pixels, 8, 7)[0]), (0, 20, 255));
    }

    #[test]
    fn a_filled_label_mixes_its_colour_with_what_is_below() {
        let palette = Palette::new(vec![(3, ORANGE)]);
        let mut with_mask = picture(vec![100.0; 4]);
        let labels = slice(2, 2, vec![3, 0, 9, 0]);
        with_mask.layers.push(Layer { slice: labels, palette: &palette, style: Style::Filled, opacity: 0.5 });
        let pixels = paint(&with_mask);
        assert_eq!(at(&pixels, 1, 0), [165, 130, 50, 255]);
        assert_eq!(at(&pixels, 5, 0), [100, 100, 100, 255]);
        assert_eq!(at(&pixels, 1, 7), [100, 100, 100, 255], "value 9 has no colour");
    }

    #[test]
    fn an_outline_is_opaque_lies_inside_the_region_and_is_open_at_the_edge_of_the_grid() {
        let palette = Palette::new(vec![(1, ORANGE)]);
        let mut outlined = picture(vec![100.0; 4]);
        let labels = slice(2, 2, vec![1, 0, 0, 0]);
        outlined.layers.push(Layer { slice: labels, palette: &palette, style: Style::Outline, opacity: 0.1 });
        let pixels = paint(&outlined);
        let inked = |x, y| at(&pixels, x, y)[..3] == ORANGE;
        let rows: Vec<String> =
            (0..5).map(|y| (1..6).map(|x| if inked(x, y) { '#' } else { '.' }).collect()).collect();
        assert_eq!(rows, ["..##.", "..##.", "####.", "####.", "....."]);
    }

    #[test]
    fn the_crosshair_leaves_free_what_it_points_at() {
        let mut crossed = picture(vec![0.0; 4]);
        crossed.frame = Frame { start: [0, 0], size: [40, 40], cells: [4, 4] };
        crossed.canvas = [40, 40];
        crossed.image = None;
        crossed.crosshair = Some([1, 2]);
        let pixels = paint(&crossed);
        let lit = |x: usize, y: usize| pixels[(y * 40 + x) * 4] > 0;
        // The middle of column 1 is at 15, that of row 2 at 25.
        assert!(lit(15, 0) && lit(15, 39) && lit(0, 25) && lit(39, 25));
        assert!(!lit(15, 25) && !lit(15, 20) && !lit(20, 25) && !lit(3, 3));
    }
}
