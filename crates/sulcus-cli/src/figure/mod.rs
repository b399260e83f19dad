//! The figure: one row for the image, one for the truth, one for the prediction, over the same slices.

pub(crate) mod canvas;

use sulcus_volume::{
    Geometry, Image, Label, LabelMap, LabelTable, OrientationSource, Plane, SliceView, WindowLevel, extract_slice,
};

use canvas::{Canvas, Color, TEXT_HEIGHT, text_width};

/// Background colour.
pub(crate) const BACKGROUND: Color = [22, 24, 29];
const TEXT: Color = [225, 228, 232];
const DIM: Color = [150, 156, 164];
/// Longer edge of a slice in pixels.
const CELL: usize = 220;
/// Longer edge where there is only one slice, such as a picture with fine structures. A smaller one is not enlarged beyond
/// [`CELL`].
const SINGLE_CELL: usize = 640;
const GAP: usize = 8;
const MARGIN: usize = 14;
/// Maximum number of slices side by side.
const MAX_COLUMNS: usize = 5;
/// Opacity of the label colour inside a structure; outlines are opaque.
const FILL: f32 = 0.4;
/// An axis is the slice axis if its voxels are larger than the smallest by this factor.
const THICK: f64 = 1.5;

/// The content of a figure. The volumes share one grid, which the caller has checked.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Figure<'a> {
    /// The heading.
    pub(crate) title: &'a str,
    /// The scan, of which the first channel is drawn; without a scan the masks are drawn on black.
    pub(crate) image: Option<&'a Image>,
    /// The reference mask.
    pub(crate) truth: Option<&'a LabelMap>,
    /// The predicted mask.
    pub(crate) prediction: Option<&'a LabelMap>,
    /// Names and colours.
    pub(crate) labels: &'a LabelTable,
}

impl Figure<'_> {
    fn geometry(&self) -> Option<&Geometry> {
        let of_mask = || self.truth.or(self.prediction).map(LabelMap::geometry);
        self.image.map(Image::geometry).or_else(of_mask)
    }

    fn masks(&self) -> impl Iterator<Item = &LabelMap> {
        self.truth.into_iter().chain(self.prediction)
    }
}

/// Draws a figure; `None` without an image and a mask.
pub(crate) fn draw(figure: &Figure<'_>) -> Option<Canvas> {
    let geometry = figure.geometry()?;
    let plane = natural_plane(geometry);
    let slices = choose_slices(figure, geometry, plane);
    let shades = figure.image.map(Shades::of);

    let mut rows: Vec<(&str, Option<&LabelMap>)> = Vec::new();
    if figure.image.is_some() {
        rows.push(("image", None));
    }
    rows.extend(figure.truth.map(|mask| ("truth", Some(mask))));
    rows.extend(figure.prediction.map(|mask| ("prediction", Some(mask))));

    let first = extract_slice(geometry, &positions(geometry), plane, *slices.first()?)?;
    let cell = cell_size(&first, if slices.len() == 1 { SINGLE_CELL } else { CELL });
    let gutter = MARGIN + text_width("prediction") + 2 * GAP;
    let header = MARGIN + 2 * (TEXT_HEIGHT + 4);
    let width = gutter + slices.len() * (cell[0] + GAP) - GAP + MARGIN;
    let legend = Legend::new(figure.labels, figure, width.saturating_sub(gutter + MARGIN));
    let height = header + rows.len() * (cell[1] + GAP) + legend.height() + MARGIN;
    let mut canvas = Canvas::new(width.max(gutter + text_width(figure.title) + MARGIN), height, BACKGROUND);

    canvas.text([gutter, MARGIN], figure.title, TEXT);
    for (row, (name, mask)) in rows.iter().enumerate() {
        let top = header + row * (cell[1] + GAP);
        canvas.text([MARGIN, top + (cell[1].saturating_sub(TEXT_HEIGHT)) / 2], name, TEXT);
        for (column, slice) in slices.iter().enumerate() {
            let corner = [gutter + column * (cell[0] + GAP), top];
            if row == 0 {
                let place = place_of(geometry, plane, *slice);
                let middle = corner[0] + cell[0].saturating_sub(text_width(&place)) / 2;
                canvas.text([middle, header - TEXT_HEIGHT - 4], &place, DIM);
            }
            canvas.fill(corner, cell, [0; 3]);
            if let Some(shades) = &shades {
                paint_image(&mut canvas, corner, cell, shades, |values| {
                    extract_slice(geometry, values, plane, *slice)
                });
            }
            if let Some(mask) = mask
                && let Some(view) = extract_slice(geometry, mask.data(), plane, *slice)
            {
                paint_labels(&mut canvas, corner, cell, &view, figure.labels);
            }
            if column == 0 {
                write_edges(&mut canvas, corner, cell, edge_letters(geometry, &first));
            }
        }
    }
    legend.write(&mut canvas, [gutter, header + rows.len() * (cell[1] + GAP)]);
    Some(canvas)
}

/// The acquisition plane of thick slices, otherwise axial.
fn natural_plane(geometry: &Geometry) -> Plane {
    let mm = geometry.spacing().mm();
    let finest = mm.iter().copied().fold(f64::INFINITY, f64::min);
    let coarsest = (0..3).max_by(|a, b| mm[*a].total_cmp(&mm[*b])).unwrap_or(2);
    if mm[coarsest] <= THICK * finest {
        return Plane::Axial;
    }
    match geometry.orientation().axes()[coarsest].ras_axis() {
        0 => Plane::Sagittal,
        1 => Plane::Coronal,
        _ => Plane::Axial,
    }
}

/// Indices of slices with foreground, evenly spaced; without foreground, of slices in the middle of the scan.
fn choose_slices(figure: &Figure<'_>, geometry: &Geometry, plane: Plane) -> Vec<usize> {
    let count = geometry.slices(plane);
    let has_label = |slice: &usize| {
        figure.masks().any(|mask| {
            extract_slice(geometry, mask.data(), plane, *slice)
                .is_some_and(|view| view.data.iter().any(|label| *label != 0))
        })
    };
    let mut candidates: Vec<usize> = (0..count).filter(has_label).collect();
    if candidates.is_empty() {
        candidates = (count / 5..(count - count / 5).max(count / 5 + 1)).collect();
    }
    let columns = MAX_COLUMNS.min(candidates.len());
    let spread = |i: usize| candidates.get((2 * i + 1) * candidates.len() / (2 * columns)).copied();
    (0..columns).filter_map(spread).collect()
}

/// A volume without values, to get the size of a slice.
fn positions(geometry: &Geometry) -> Vec<()> {
    vec![(); geometry.voxels()]
}

/// Size of a drawn slice, with the aspect ratio of its pixels in millimetres.
fn cell_size<T>(view: &SliceView<T>, longest: usize) -> [usize; 2] {
    let mm = [view.width as f64 * view.pixel_mm[0], view.height as f64 * view.pixel_mm[1]];
    let edge = view.width.max(view.height).clamp(CELL, longest);
    let scale = edge as f64 / mm[0].max(mm[1]);
    mm.map(|edge| ((edge * scale).round() as usize).max(1))
}

/// Position of the middle voxel of a slice, such as `S 12.0 mm`.
fn place_of(geometry: &Geometry, plane: Plane, slice: usize) -> String {
    let (axis, letters) = match plane {
        Plane::Axial => (2, ['S', 'I']),
        Plane::Coronal => (1, ['A', 'P']),
        Plane::Sagittal => (0, ['R', 'L']),
    };
    let size = extract_slice(geometry, &positions(geometry), plane, slice).map_or([0, 0], |v| [v.width, v.height]);
    let Some(voxel) = geometry.voxel_at(plane, slice, size[0] / 2, size[1] / 2) else {
        return String::new();
    };
    if geometry.is_picture() {
        // The pages of a stack are numbered from 1.
        return if geometry.shape()[2] > 1 { format!("page {}", voxel.0[2] + 1) } else { String::new() };
    }
    let mm = geometry.ras_from_voxel().apply(voxel.0.map(|i| i as f64)).0[axis];
    let letter = if geometry.source() == OrientationSource::None {
        '?'
    } else if mm < 0.0 {
        letters[1]
    } else {
        letters[0]
    };
    format!("{letter} {:.1} mm", mm.abs())
}

/// Direction letters at the left, right, top and bottom edge; question marks where the orientation is unknown, none for a picture.
fn edge_letters<T>(geometry: &Geometry, view: &SliceView<T>) -> [char; 4] {
    match geometry.source() {
        OrientationSource::None => ['?'; 4],
        OrientationSource::Picture => [' '; 4],
        _ => view.edges,
    }
}

fn write_edges(canvas: &mut Canvas, [x, y]: [usize; 2], [width, height]: [usize; 2], letters: [char; 4]) {
    let (w, h) = (text_width("L"), TEXT_HEIGHT);
    let places = [
        [x + 3, y + height.saturating_sub(h) / 2],
        [x + width.saturating_sub(w + 3), y + height.saturating_sub(h) / 2],
        [x + width.saturating_sub(w) / 2, y + 2],
        [x + width.saturating_sub(w) / 2, y + height.saturating_sub(h + 2)],
    ];
    for (place, letter) in places.into_iter().zip(letters) {
        let letter = letter.to_string();
        for shadow in [[place[0] + 1, place[1] + 1], [place[0].saturating_sub(1), place[1].saturating_sub(1)]] {
            canvas.text(shadow, &letter, [0; 3]);
        }
        canvas.text(place, &letter, [255, 255, 160]);
    }
}

/// The values that red, green and blue show, and their windows.
struct Shades<'a>([(&'a [f32], WindowLevel); 3]);

impl<'a> Shades<'a> {
    /// A picture of three channels has colours; of any other image the first channel is shown in grey.
    fn of(image: &'a Image) -> Self {
        /// The greatest values of 8 and 16 bits.
        const WHITE: [f32; 2] = [255.0, 65535.0];
        if image.geometry().is_picture() && image.channels() == 3 {
            let max = image.data().iter().copied().fold(0.0, f32::max);
            let high = WHITE.into_iter().find(|white| max <= *white).unwrap_or(max);
            return Self([0, 1, 2].map(|channel| (image.channel(channel), WindowLevel { low: 0.0, high })));
        }
        Self([(image.channel(0), WindowLevel::auto(image.channel(0))); 3])
    }
}

/// Draws a slice of an image, which `slice` takes from the values of a channel.
fn paint_image<'a>(
    canvas: &mut Canvas,
    corner: [usize; 2],
    cell: [usize; 2],
    Shades(shades): &Shades<'a>,
    slice: impl Fn(&'a [f32]) -> Option<SliceView<f32>>,
) {
    for (component, (values, window)) in shades.iter().enumerate() {
        if let Some(view) = slice(values) {
            paint_component(canvas, corner, cell, &view, *window, component);
        }
    }
}

/// Draws red, green or blue. Interpolates linearly between pixel centres, so that small scans do not look blocky.
fn paint_component(
    canvas: &mut Canvas,
    corner: [usize; 2],
    cell: [usize; 2],
    view: &SliceView<f32>,
    window: WindowLevel,
    component: usize,
) {
    let at = |column: usize, row: usize| {
        let value = view.data.get(row * view.width + column).copied().unwrap_or(0.0);
        f32::from(window.grey(value))
    };
    let between = |pixel: usize, pixels: usize, values: usize| {
        let place = ((pixel as f32 + 0.5) * values as f32 / pixels as f32 - 0.5).clamp(0.0, values as f32 - 1.0);
        let low = place.floor() as usize;
        (low, (low + 1).min(values - 1), place.fract())
    };
    for y in 0..cell[1] {
        let (y0, y1, fy) = between(y, cell[1], view.height);
        for x in 0..cell[0] {
            let (x0, x1, fx) = between(x, cell[0], view.width);
            let top = at(x0, y0) * (1.0 - fx) + at(x1, y0) * fx;
            let bottom = at(x0, y1) * (1.0 - fx) + at(x1, y1) * fx;
            let grey = (top * (1.0 - fy) + bottom * fy).round() as u8;
            canvas.set_component(corner[0] + x, corner[1] + y, component, grey);
        }
    }
}

/// Draws labels without interpolation, filled with low opacity and outlined.
fn paint_labels(
    canvas: &mut Canvas,
    corner: [usize; 2],
    cell: [usize; 2],
    view: &SliceView<Label>,
    labels: &LabelTable,
) {
    let at = |x: usize, y: usize| {
        let (column, row) = (x * view.width / cell[0], y * view.height / cell[1]);
        view.data.get(row * view.width + column).copied().unwrap_or(0)
    };
    for y in 0..cell[1] {
        for x in 0..cell[0] {
            let label = at(x, y);
            if label == 0 {
                continue;
            }
            let neighbours = [
                (x > 0).then(|| at(x - 1, y)),
                (x + 1 < cell[0]).then(|| at(x + 1, y)),
                (y > 0).then(|| at(x, y - 1)),
                (y + 1 < cell[1]).then(|| at(x, y + 1)),
            ];
            let outline = neighbours.into_iter().flatten().any(|other| other != label);
            let opacity = if outline { 1.0 } else { FILL };
            canvas.blend(corner[0] + x, corner[1] + y, color_of(labels, label), opacity);
        }
    }
}

/// Magenta for values that the table lacks.
fn color_of(labels: &LabelTable, label: Label) -> Color {
    labels.get(label).map_or([255, 0, 255], |entry| entry.color.0)
}

/// Coloured squares with label names, wrapped into lines.
struct Legend {
    lines: Vec<Vec<(Color, String)>>,
}

impl Legend {
    const SQUARE: usize = 12;

    /// Lists only labels that occur in a mask of the figure: tables can have a hundred.
    fn new(labels: &LabelTable, figure: &Figure<'_>, width: usize) -> Self {
        let present: std::collections::BTreeSet<Label> =
            figure.masks().flat_map(|mask| mask.counts().into_keys()).filter(|label| *label != 0).collect();
        let mut lines: Vec<Vec<(Color, String)>> = Vec::new();
        let mut room = 0;
        for label in present {
            let name = labels.get(label).map_or_else(|| format!("{label} (not in the table)"), |e| e.name.clone());
            let need = Self::step(&name);
            if need > room || lines.is_empty() {
                lines.push(Vec::new());
                room = width;
            }
            room = room.saturating_sub(need);
            if let Some(line) = lines.last_mut() {
                line.push((color_of(labels, label), name));
            }
        }
        Self { lines }
    }

    fn step(name: &str) -> usize {
        Self::SQUARE + 6 + text_width(name) + 18
    }

    fn height(&self) -> usize {
        self.lines.len() * (TEXT_HEIGHT + 4)
    }

    fn write(&self, canvas: &mut Canvas, [x, y]: [usize; 2]) {
        for (row, line) in self.lines.iter().enumerate() {
            let (mut left, top) = (x, y + row * (TEXT_HEIGHT + 4));
            for (color, name) in line {
                canvas.fill([left, top + 2], [Self::SQUARE; 2], *color);
                canvas.text([left + Self::SQUARE + 6, top], name, TEXT);
                left += Self::step(name);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use sulcus_volume::{Orientation, RasFromVoxel, Spacing};

    use super::*;

    fn geometry(shape: [usize; 3], orientation: &str, mm: [f64; 3]) -> Geometry {
        let map = RasFromVoxel::aligned(orientation.parse().unwrap(), Spacing::new(mm).unwrap());
        Geometry::new(shape, map, OrientationSource::Sform).unwrap()
    }

    fn mask(geometry: Geometry, label_at: impl Fn([usize; 3]) -> Label) -> LabelMap {
        let [nx, ny, _] = geometry.shape();
        let data = (0..geometry.voxels()).map(|i| label_at([i % nx, i / nx % ny, i / nx / ny])).collect();
        LabelMap::new(geometry, data).unwrap()
    }

    fn labels() -> LabelTable {
        LabelTable::from_names([(1, "front".to_owned()), (2, "back".to_owned())]).unwrap()
    }

    #[test]
    fn thick_slices_are_drawn_in_their_acquisition_plane() {
        assert_eq!(natural_plane(&geometry([9, 9, 9], "RAS", [1.0, 1.0, 1.2])), Plane::Axial);
        assert_eq!(natural_plane(&geometry([9, 9, 9], "RAS", [1.0, 5.0, 1.0])), Plane::Coronal);
        assert_eq!(natural_plane(&geometry([9, 9, 9], "ASR", [1.0, 1.0, 4.0])), Plane::Sagittal);
    }

    #[test]
    fn figure_does_not_depend_on_the_orientation_of_the_volume() {
        let table = labels();
        let draw_in = |code: &str| {
            let ras = geometry([12, 10, 8], "RAS", [1.0, 2.0, 1.0]);
            let truth = mask(ras, |[x, y, z]| Label::from(x < 4 && y > 3 && z > 2) * (1 + Label::from(y > 6)));
            let image = Image::new(ras, 1, (0..960).map(|i| (i % 12) as f32).collect()).unwrap();
            let to: Orientation = code.parse().unwrap();
            let (truth, image) = (truth.reoriented(to), image.reoriented(to));
            draw(&Figure {
                title: "t",
                image: Some(&image),
                truth: Some(&truth),
                prediction: None,
                labels: &table,
            })
            .unwrap()
        };
        let reference = draw_in("RAS");
        for code in ["LPI", "ASR", "SAL"] {
            assert_eq!(draw_in(code), reference, "{code}");
        }
    }

    #[test]
    fn slices_contain_foreground_and_keep_the_aspect_ratio() {
        let table = labels();
        let grid = geometry([20, 20, 30], "RAS", [1.0, 2.0, 1.0]);
        let truth = mask(grid, |[x, _, z]| Label::from(x == 3 && (z == 4 || z == 9)));
        let figure = Figure { title: "", image: None, truth: Some(&truth), prediction: None, labels: &table };
        assert_eq!(choose_slices(&figure, &grid, Plane::Axial), [20, 25]);
        let view = extract_slice(&grid, truth.data(), Plane::Axial, 20).unwrap();
        assert_eq!(cell_size(&view, SINGLE_CELL), [CELL / 2, CELL]);
    }

    #[test]
    fn unknown_orientation_has_no_direction_letters() {
        let map = RasFromVoxel::aligned("LAS".parse().unwrap(), Spacing::new([1.0; 3]).unwrap());
        let grid = Geometry::new([4, 4, 4], map, OrientationSource::None).unwrap();
        let view = extract_slice(&grid, &[0_u16; 64], Plane::Axial, 0).unwrap();
        assert_eq!(edge_letters(&grid, &view), ['?'; 4]);
        assert!(place_of(&grid, Plane::Axial, 0).starts_with('?'));
    }
}
