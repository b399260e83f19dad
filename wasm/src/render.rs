use std::ops::Range;

use sulcus_volume::{Label, SliceView, WindowLevel};

use crate::colormap::ColorTable;
use crate::display::Frame;
use crate::settings::{LabelStyle, Shading};

/// The colours of label values.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Palette(Vec<Option<[u8; 3]>>);

impl Palette {
    /// A palette of label values with their colours.
    pub fn new(colors: impl IntoIterator<Item = (Label, [u8; 3])>) -> Self {
        let mut table = Vec::new();
        for (value, color) in colors {
            let at = usize::from(value);
            if table.len() <= at {
                table.resize(at + 1, None);
            }
            table[at] = Some(color);
        }
        Self(table)
    }

    /// The colour of a label.
    pub(crate) fn of(&self, label: Label) -> Option<[u8; 3]> {
        self.0.get(usize::from(label)).copied().flatten()
    }
}

/// One slice of labels that is drawn over the image.
#[derive(Debug)]
pub struct LabelLayer<'a> {
    /// The labels.
    pub slice: SliceView<Label>,
    /// The colours. A value without a colour is not drawn.
    pub palette: &'a Palette,
    /// The style of drawing.
    pub style: LabelStyle,
    /// The opacity of filled regions, 0 to 1.
    pub opacity: f32,
    /// The canvas columns in which the layer is drawn.
    pub columns: Range<usize>,
}

/// One slice of values that is drawn over the image in colours.
#[derive(Debug)]
pub struct MapLayer<'a> {
    /// The values. Those below the window are not drawn.
    pub slice: SliceView<f32>,
    /// The values of the first and the last colour.
    pub window: WindowLevel,
    /// The colours.
    pub colors: &'a ColorTable,
    /// The opacity, 0 to 1.
    pub opacity: f32,
}

/// The content of one canvas: a slice of the image with labels and crosshair.
#[derive(Debug)]
pub struct PlaneView<'a> {
    /// The canvas and the place of the slice on it.
    pub frame: Frame,
    /// The image slice, or three of red, green and blue; none without an image.
    pub image: Vec<SliceView<f32>>,
    /// The intensity window.
    pub window: WindowLevel,
    /// The colours of the window, from its low to its high end.
    pub colors: &'a ColorTable,
    /// The interpolation between voxel centres.
    pub shading: Shading,
    /// The map over the image, if there is one.
    pub map: Option<MapLayer<'a>>,
    /// The label layers from bottom to top.
    pub layers: Vec<LabelLayer<'a>>,
    /// The column and row of the crosshair.
    pub crosshair: Option<[usize; 2]>,
    /// The width of the crosshair lines in canvas pixels. Outlines are twice as wide.
    pub line: usize,
}

const CROSSHAIR: [u8; 3] = [125, 220, 255];
const CROSSHAIR_OPACITY: f32 = 0.75;
/// The gap on each side of the crosshair's centre, in line widths, which keeps the voxel under it visible.
const CROSSHAIR_GAP: f64 = 7.0;

/// Renders a plane.
///
/// # Shapes
/// The result is `[canvas height, canvas width, 4]`: opaque RGBA with 8 bits per channel.
pub fn render(view: &PlaneView) -> Vec<u8> {
    let [width, height] = view.frame.canvas;
    let mut pixels = [0, 0, 0, 255].repeat(width * height);
    for (component, slice) in view.image.iter().enumerate() {
        let paint = if view.image.len() == 3 { Paint::Component(component) } else { Paint::All };
        draw_values(view, slice, view.window, view.colors, paint, &mut pixels);
    }
    if let Some(map) = &view.map {
        draw_values(view, &map.slice, map.window, map.colors, Paint::Above(alpha(map.opacity)), &mut pixels);
    }
    for layer in &view.layers {
        draw_labels(view, layer, &mut pixels);
    }
    if let Some(cell) = view.crosshair {
        draw_crosshair(view, cell, &mut pixels);
    }
    pixels
}

/// The two slice pixels that a canvas pixel is interpolated between along one axis, and the weight of the second.
#[derive(Clone, Copy)]
struct Neighbours {
    first: usize,
    second: usize,
    weight: f32,
}

impl PlaneView<'_> {
    /// For each visible canvas pixel of the frame along an axis: the slice pixels that it is interpolated between.
    fn neighbours(&self, axis: usize) -> Vec<Neighbours> {
        let last = self.frame.cells[axis] - 1;
        let neighbours = |i: usize| {
            let cell = self.frame.cell(axis, i as f64 + 0.5);
            match self.shading {
                Shading::Voxels => {
                    let first = (cell as usize).min(last);
                    Neighbours { first, second: first, weight: 0.0 }
                }
                Shading::Smooth => {
                    let at = (cell - 0.5).clamp(0.0, last as f64);
                    let first = at as usize;
                    Neighbours { first, second: (first + 1).min(last), weight: (at - first as f64) as f32 }
                }
            }
        };
        self.frame.visible(axis).map(neighbours).collect()
    }

    /// For each visible canvas pixel of the frame along an axis: the slice pixel that contains it.
    fn cells(&self, axis: usize) -> Vec<usize> {
        let last = self.frame.cells[axis] - 1;
        let cell = |i: usize| (self.frame.cell(axis, i as f64 + 0.5) as usize).min(last);
        self.frame.visible(axis).map(cell).collect()
    }

    /// The offset of a canvas pixel in the pixel data.
    fn offset(&self, x: usize, y: usize) -> usize {
        (y * self.frame.canvas[0] + x) * 4
    }

    fn fits<T>(&self, slice: &SliceView<T>) -> bool {
        [slice.width, slice.height] == self.frame.cells && slice.data.len() == slice.width * slice.height
    }
}

/// An opacity in 256ths, which blends without floating-point numbers.
fn alpha(opacity: f32) -> u32 {
    (opacity.clamp(0.0, 1.0) * 256.0).round() as u32
}

fn blend(pixel: &mut [u8], color: [u8; 3], alpha: u32) {
    for (below, above) in pixel.iter_mut().zip(color) {
        *below = ((u32::from(*below) * (256 - alpha) + u32::from(above) * alpha + 128) >> 8) as u8;
    }
}

/// What a value does to a pixel.
#[derive(Clone, Copy)]
enum Paint {
    /// Its colour replaces the pixel.
    All,
    /// Its red, green or blue replaces that of the pixel.
    Component(usize),
    /// Its colour is blended with the pixel with an opacity in 256ths, if the value is not below the window.
    Above(u32),
}

/// Draws a slice of values in colours.
fn draw_values(
    view: &PlaneView,
    slice: &SliceView<f32>,
    window: WindowLevel,
    colors: &ColorTable,
    paint: Paint,
    pixels: &mut [u8],
) {
    if !view.fits(slice) {
        return;
    }
    let (columns, rows) = (view.neighbours(0), view.neighbours(1));
    let (left, top) = (view.frame.visible(0).start, view.frame.visible(1).start);
    let mix = |a: f32, b: f32, weight: f32| if weight > 0.0 { a + (b - a) * weight } else { a };
    // As [`WindowLevel::grey`], without a division and a rounding function for each pixel. NaN gets the first colour.
    let (low, scale) = (window.low, 255.0 / (window.high - window.low));
    let grey = |value: f32| ((value - low) * scale + 0.5) as u8;
    for (y, row) in rows.iter().enumerate() {
        let line = |row: usize| &slice.data[row * slice.width..][..slice.width];
        let (upper, lower) = (line(row.first), line(row.second));
        let out = &mut pixels[view.offset(left, top + y)..][..columns.len() * 4];
        for (column, pixel) in columns.iter().zip(out.as_chunks_mut::<4>().0) {
            let above = mix(upper[column.first], upper[column.second], column.weight);
            let below = mix(lower[column.first], lower[column.second], column.weight);
            let value = mix(above, below, row.weight);
            let color = colors[usize::from(grey(value))];
            match paint {
                Paint::All => pixel[..3].copy_from_slice(&color),
                Paint::Component(component) => pixel[component] = color[component],
                Paint::Above(alpha) if value >= low => blend(&mut pixel[..3], color, alpha),
                Paint::Above(_) => {}
            }
        }
    }
}

fn draw_labels(view: &PlaneView, layer: &LabelLayer, pixels: &mut [u8]) {
    if layer.style == LabelStyle::Hidden || !view.fits(&layer.slice) {
        return;
    }
    let (columns, rows) = (view.cells(0), view.cells(1));
    if columns.is_empty() || rows.is_empty() {
        return;
    }
    let (left, top) = (view.frame.visible(0).start, view.frame.visible(1).start);
    let (width, height) = (columns.len(), rows.len());
    // The label of each visible canvas pixel. Outlines look at several pixels around each.
    let mut labels: Vec<Label> = Vec::with_capacity(width * height);
    for row in &rows {
        let line = &layer.slice.data[row * layer.slice.width..][..layer.slice.width];
        labels.extend(columns.iter().map(|column| line[*column]));
    }
    let reach = 2 * view.line;
    // Whether the pixels beside a pixel have its label. A structure may continue beyond the edge of the grid, so its outline is
    // open there.
    let mut uniform: Vec<bool> = Vec::new();
    if layer.style == LabelStyle::Outline {
        for line in labels.chunks_exact(width) {
            uniform.extend(line.iter().enumerate().map(|(x, own)| {
                line[x.saturating_sub(reach)] == *own && line[(x + reach).min(width - 1)] == *own
            }));
        }
    }
    let on_edge = |x: usize, y: usize, own: Label| {
        let [above, here, below] =
            [y.saturating_sub(reach), y, (y + reach).min(height - 1)].map(|y| y * width + x);
        !(uniform[here] && labels[above] == own && uniform[above] && labels[below] == own && uniform[below])
    };
    let drawn = layer.columns.start.saturating_sub(left)..layer.columns.end.saturating_sub(left).min(width);
    let alpha = alpha(if layer.style == LabelStyle::Filled { layer.opacity } else { 1.0 });
    for y in 0..height {
        let line = &labels[y * width..][..width];
        let out = &mut pixels[view.offset(left, top + y)..][..width * 4];
        for (x, pixel) in out.as_chunks_mut::<4>().0.iter_mut().enumerate().take(drawn.end).skip(drawn.start) {
            let Some(color) = layer.palette.of(line[x]) else { continue };
            if layer.style == LabelStyle::Filled || on_edge(x, y, line[x]) {
                blend(&mut pixel[..3], color, alpha);
            }
        }
    }
}

fn draw_crosshair(view: &PlaneView, cell: [usize; 2], pixels: &mut [u8]) {
    let frame = view.frame;
    let middle = frame.center_of(cell);
    let gap = CROSSHAIR_GAP * view.line as f64;
    let half = view.line as isize / 2;
    for axis in 0..2 {
        let across = 1 - axis;
        // The line runs along `axis`; `position` is its coordinate on the other axis.
        let position = middle[across].floor() as isize - half;
        let sides = (position..position + view.line as isize).filter_map(|side| usize::try_from(side).ok());
        let sides: Vec<usize> = sides.filter(|side| frame.visible(across).contains(side)).collect();
        for along in frame.visible(axis) {
            if (along as f64 + 0.5 - middle[axis]).abs() < gap {
                continue;
            }
            for side in &sides {
                let (x, y) = if axis == 0 { (along, *side) } else { (*side, along) };
                let offset = view.offset(x, y);
                blend(&mut pixels[offset..offset + 3], CROSSHAIR, alpha(CROSSHAIR_OPACITY));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use super::*;
    use crate::colormap::Colormap;

    const ORANGE: [u8; 3] = [230, 159, 0];
    static GREY: LazyLock<ColorTable> = LazyLock::new(|| Colormap::Grey.table());

    fn slice<T>(width: usize, height: usize, data: Vec<T>) -> SliceView<T> {
        SliceView { width, height, pixel_mm: [1.0, 1.0], edges: ['R', 'L', 'A', 'P'], data }
    }

    /// A slice of 2 × 2 pixels, each 4 × 4 canvas pixels, in the middle of a canvas that is two pixels wider.
    fn view(image: Vec<f32>) -> PlaneView<'static> {
        PlaneView {
            frame: Frame { canvas: [10, 8], start: [1, 0], size: [8, 8], cells: [2, 2], flipped: false },
            image: vec![slice(2, 2, image)],
            window: WindowLevel { low: 0.0, high: 255.0 },
            colors: &GREY,
            shading: Shading::Voxels,
            map: None,
            layers: Vec::new(),
            crosshair: None,
            line: 1,
        }
    }

    fn at(pixels: &[u8], x: usize, y: usize) -> [u8; 4] {
        pixels[(y * 10 + x) * 4..][..4].try_into().unwrap()
    }

    #[test]
    fn voxel_shading_draws_boxes_on_black() {
        let pixels = render(&view(vec![10.0, 20.0, 30.0, 40.0]));
        assert_eq!(pixels.len(), 10 * 8 * 4);
        let grey = |v: u8| [v, v, v, 255];
        assert_eq!((at(&pixels, 0, 0), at(&pixels, 9, 7)), (grey(0), grey(0)));
        assert_eq!((at(&pixels, 1, 0), at(&pixels, 4, 3)), (grey(10), grey(10)));
        assert_eq!((at(&pixels, 5, 3), at(&pixels, 4, 4), at(&pixels, 8, 7)), (grey(20), grey(30), grey(40)));
    }

    #[test]
    fn smooth_shading_is_linear_between_centres_and_constant_outside() {
        let mut smooth = view(vec![0.0, 80.0, 0.0, 80.0]);
        smooth.shading = Shading::Smooth;
        let pixels = render(&smooth);
        // The centres are at canvas columns 3.0 and 7.0. The middle of pixel 3 is at 3.5, one eighth of the way.
        let row: Vec<u8> = (1..9).map(|x| at(&pixels, x, 4)[0]).collect();
        assert_eq!(row, [0, 0, 10, 30, 50, 70, 80, 80]);
    }

    #[test]
    fn nan_is_black_and_does_not_affect_its_neighbours() {
        let pixels = render(&view(vec![f32::NAN, 20.0, 30.0, f32::INFINITY]));
        assert_eq!((at(&pixels, 1, 0)[0], at(&pixels, 5, 0)[0], at(&pixels, 8, 7)[0]), (0, 20, 255));
    }

    #[test]
    fn map_is_blended_where_its_values_reach_the_window() {
        let mut mapped = view(vec![100.0; 4]);
        let values = slice(2, 2, vec![0.5, 0.49, 1.0, f32::NAN]);
        let window = WindowLevel { low: 0.5, high: 1.0 };
        mapped.map = Some(MapLayer { slice: values, window, colors: &GREY, opacity: 0.5 });
        let pixels = render(&mapped);
        let seen = [(1, 0), (8, 0), (1, 7), (8, 7)].map(|(x, y)| at(&pixels, x, y)[0]);
        assert_eq!(seen, [50, 100, 178, 100]);
    }

    #[test]
    fn filled_label_is_blended_with_the_image() {
        let palette = Palette::new(vec![(3, ORANGE)]);
        let mut with_mask = view(vec![100.0; 4]);
        let labels = slice(2, 2, vec![3, 0, 9, 0]);
        with_mask.layers.push(LabelLayer {
            slice: labels,
            palette: &palette,
            style: LabelStyle::Filled,
            opacity: 0.5,
            columns: 0..10,
        });
        let pixels = render(&with_mask);
        assert_eq!(at(&pixels, 1, 0), [165, 130, 50, 255]);
        assert_eq!(at(&pixels, 5, 0), [100, 100, 100, 255]);
        assert_eq!(at(&pixels, 1, 7), [100, 100, 100, 255], "value 9 has no colour");
    }

    #[test]
    fn outline_is_opaque_inside_the_region_and_open_at_the_edge_of_the_grid() {
        let palette = Palette::new(vec![(1, ORANGE)]);
        let mut outlined = view(vec![100.0; 4]);
        let labels = slice(2, 2, vec![1, 0, 0, 0]);
        outlined.layers.push(LabelLayer {
            slice: labels,
            palette: &palette,
            style: LabelStyle::Outline,
            opacity: 0.1,
            columns: 0..10,
        });
        let pixels = render(&outlined);
        let inked = |x, y| at(&pixels, x, y)[..3] == ORANGE;
        let rows: Vec<String> =
            (0..5).map(|y| (1..6).map(|x| if inked(x, y) { '#' } else { '.' }).collect()).collect();
        assert_eq!(rows, ["..##.", "..##.", "####.", "####.", "....."]);
    }

    #[test]
    fn crosshair_has_a_gap_at_its_centre() {
        let mut crossed = view(vec![0.0; 4]);
        crossed.frame = Frame { canvas: [40, 40], start: [0, 0], size: [40, 40], cells: [4, 4], flipped: false };
        crossed.image.clear();
        crossed.crosshair = Some([1, 2]);
        let pixels = render(&crossed);
        let lit = |x: usize, y: usize| pixels[(y * 40 + x) * 4] > 0;
        // The middle of column 1 is at 15, that of row 2 at 25.
        assert!(lit(15, 0) && lit(15, 39) && lit(0, 25) && lit(39, 25));
        assert!(!lit(15, 25) && !lit(15, 20) && !lit(20, 25) && !lit(3, 3));
    }

    #[test]
    fn slices_larger_than_the_canvas_are_cut_and_flipped_ones_mirrored() {
        let mut large = view(vec![10.0, 20.0, 30.0, 40.0]);
        large.frame = Frame { canvas: [10, 8], start: [-6, -12], size: [16, 16], cells: [2, 2], flipped: false };
        let pixels = render(&large);
        // The second column begins at pixel 2, the second row above the canvas.
        assert_eq!((at(&pixels, 1, 0)[0], at(&pixels, 2, 0)[0], at(&pixels, 9, 3)[0]), (30, 40, 40));
        assert_eq!(at(&pixels, 2, 4)[0], 0, "below the slice");
        let mut flipped = view(vec![10.0, 20.0, 30.0, 40.0]);
        flipped.frame.flipped = true;
        let pixels = render(&flipped);
        assert_eq!((at(&pixels, 1, 0)[0], at(&pixels, 8, 0)[0], at(&pixels, 1, 7)[0]), (20, 10, 40));
    }

    #[test]
    fn layer_is_drawn_only_in_its_columns() {
        let palette = Palette::new(vec![(1, ORANGE)]);
        let mut half = view(vec![100.0; 4]);
        let slice = slice(2, 2, vec![1; 4]);
        half.layers.push(LabelLayer {
            slice,
            palette: &palette,
            style: LabelStyle::Filled,
            opacity: 1.0,
            columns: 5..9,
        });
        let pixels = render(&half);
        assert_eq!((&at(&pixels, 4, 2)[..3], &at(&pixels, 5, 2)[..3]), (&[100; 3][..], &ORANGE[..]));
    }
}
