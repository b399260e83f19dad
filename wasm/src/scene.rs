use sulcus_io::{read_image_bytes_without_statistics, read_labels_bytes};
use sulcus_volume::{
    Geometry, Image, Label, LabelMap, LabelTable, OrientationSource, Plane, RasPoint, VoxelIndex, WindowLevel,
    extract_slice,
};

use crate::display::voxel_at;
use crate::{Cursor, DisplayGrid, Layer, Palette, Picture, Row, Shading, Style, looks_like_labels, paint, tally};

/// What a file is shown as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The scan.
    Image,
    /// A segmentation, as predicted.
    Mask,
    /// The segmentation that it is compared with.
    Truth,
}

impl Role {
    /// In words.
    pub fn name(self) -> &'static str {
        match self {
            Self::Image => "image",
            Self::Mask => "mask",
            Self::Truth => "truth",
        }
    }

    /// Index among the two layers of labels; `None` for the image.
    fn layer(self) -> Option<usize> {
        match self {
            Self::Image => None,
            Self::Mask => Some(0),
            Self::Truth => Some(1),
        }
    }
}

/// How things are shown; the page's controls.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Look {
    /// Black and white.
    pub window: WindowLevel,
    /// Which channel of the image.
    pub channel: usize,
    /// Between voxel centres.
    pub shading: Shading,
    /// Of the mask and of the truth.
    pub styles: [Style; 2],
    /// Of filled labels, 0 to 1.
    pub opacity: f32,
    /// Whether the crosshair is drawn.
    pub crosshair: bool,
}

impl Default for Look {
    fn default() -> Self {
        Self {
            window: WindowLevel { low: 0.0, high: 1.0 },
            channel: 0,
            shading: Shading::Smooth,
            styles: [Style::Filled, Style::Outline],
            opacity: 0.45,
            crosshair: true,
        }
    }
}

/// A layer of labels with the names that its file carries.
#[derive(Debug)]
struct Labels {
    map: LabelMap,
    /// The names as the file has them, JSON, which the page reads.
    text: Option<String>,
    names: LabelTable,
}

/// The scan, what is drawn over it, and where the crosshair is.
#[derive(Debug, Default)]
pub struct Scene {
    image: Option<Image>,
    layers: [Option<Labels>; 2],
    cursor: Option<Cursor>,
    /// Whether a person has put the crosshair somewhere; until then it follows what is loaded.
    placed: bool,
    rows: Vec<Row>,
    palette: Palette,
    /// How things are shown.
    pub look: Look,
}

/// More different values than this are a scan taken for a mask, and the table of them is of no use.
const MAX_LABELS: usize = 1024;

impl Scene {
    /// Reads a file and shows it as `role`, or as what it looks like: labels become the mask, or the truth when there
    /// is a mask already.
    ///
    /// # Errors
    /// What is wrong with the file, in a sentence; the scene stays as it was.
    pub fn load(&mut self, bytes: &[u8], role: Option<Role>) -> Result<Role, String> {
        let sentence = |e: sulcus_io::IoError| e.to_string();
        let role = match role {
            Some(role) => role,
            None => {
                let image = read_image_bytes_without_statistics(bytes).map_err(sentence)?.0;
                if !looks_like_labels(&image) {
                    self.show_image(image);
                    return Ok(Role::Image);
                }
                if self.layers[0].is_none() { Role::Mask } else { Role::Truth }
            }
        };
        match role.layer() {
            None => self.show_image(read_image_bytes_without_statistics(bytes).map_err(sentence)?.0),
            Some(layer) => {
                let (map, source) = read_labels_bytes(bytes).map_err(sentence)?;
                let different = map.counts().len();
                if different > MAX_LABELS {
                    return Err(format!(
                        "cannot show this as a {}: expected at most {MAX_LABELS} different labels, found {different}; \
                         it is probably an image",
                        role.name()
                    ));
                }
                let text = source.label_text().map(str::to_owned);
                self.layers[layer] = Some(Labels { map, text, names: LabelTable::default() });
                self.refresh();
            }
        }
        Ok(role)
    }

    fn show_image(&mut self, image: Image) {
        self.look.channel = 0;
        self.look.window = WindowLevel::auto(image.channel(0));
        self.image = Some(image);
        self.refresh();
    }

    /// The names of labels that a file carries, as JSON.
    pub fn label_text(&self, role: Role) -> Option<&str> {
        self.layers.get(role.layer()?)?.as_ref()?.text.as_deref()
    }

    /// Names and colours the labels of a layer.
    pub fn name_labels(&mut self, role: Role, names: LabelTable) {
        if let Some(labels) = role.layer().and_then(|layer| self.layers.get_mut(layer)?.as_mut()) {
            labels.names = names;
            self.refresh();
        }
    }

    /// Takes a file off.
    pub fn remove(&mut self, role: Role) {
        match role.layer() {
            None => self.image = None,
            Some(layer) => self.layers[layer] = None,
        }
        self.refresh();
    }

    /// Mask becomes truth, truth becomes mask.
    pub fn swap_labels(&mut self) {
        self.layers.swap(0, 1);
        self.refresh();
    }

    /// Brings everything that follows from the files up to date.
    fn refresh(&mut self) {
        let shown = [0, 1].map(|i| self.labels(i));
        let names: Vec<&LabelTable> = shown.iter().flatten().map(|labels| &labels.names).collect();
        let rows = tally(shown[0].map(|l| &l.map), shown[1].map(|l| &l.map), &names);
        self.palette = Palette::new(rows.iter().map(|r| (r.entry.value, r.entry.color.0)));
        self.rows = rows;
        let Some(grid) = self.grid() else {
            (self.cursor, self.placed) = (None, false);
            return;
        };
        let inside = self.cursor.filter(|c| self.geometry().is_some_and(|g| voxel_at(g, *c).is_some()));
        self.placed &= inside.is_some();
        if !self.placed {
            self.cursor = self.middle_of(|label| label != 0).or(Some(grid.centre()));
        }
    }

    /// The grid that everything is drawn on: the image's, else the mask's, else the truth's.
    pub fn geometry(&self) -> Option<&Geometry> {
        let labels = self.layers.iter().flatten().map(|l| l.map.geometry());
        self.image.as_ref().map(Image::geometry).into_iter().chain(labels).next()
    }

    fn grid(&self) -> Option<DisplayGrid> {
        self.geometry().map(DisplayGrid::new)
    }

    /// A layer of labels, if it lies on the grid that is shown.
    fn labels(&self, layer: usize) -> Option<&Labels> {
        let labels = self.layers.get(layer)?.as_ref()?;
        self.geometry()?.check_same_grid(labels.map.geometry()).is_ok().then_some(labels)
    }

    /// What cannot be shown, and why: a sentence for each layer on another grid.
    pub fn problems(&self) -> Vec<String> {
        let Some(shown) = self.geometry() else { return Vec::new() };
        let reference = if self.image.is_some() { Role::Image } else { Role::Mask };
        let problem = |role: Role| {
            let labels = self.layers.get(role.layer()?)?.as_ref()?;
            let error = shown.check_same_grid(labels.map.geometry()).err()?;
            Some(format!(
                "The {} is not drawn: it does not lie on the {}'s grid ({error}). \
                 Load the {0} that was made for this {1}.",
                role.name(),
                reference.name()
            ))
        };
        [Role::Mask, Role::Truth].into_iter().filter_map(problem).collect()
    }

    /// Whether left and right are a guess, because the file shown does not say.
    pub fn sides_unknown(&self) -> bool {
        self.geometry().is_some_and(|g| g.source() == OrientationSource::None)
    }

    /// Whether a file is loaded for a role.
    pub fn has(&self, role: Role) -> bool {
        match role.layer() {
            None => self.image.is_some(),
            Some(layer) => self.layers[layer].is_some(),
        }
    }

    /// How many channels the image has; 0 without one.
    pub fn channels(&self) -> usize {
        self.image.as_ref().map_or(0, Image::channels)
    }

    /// Shows another channel, with its own window.
    pub fn set_channel(&mut self, channel: usize) {
        if let Some(image) = self.image.as_ref().filter(|image| channel < image.channels()) {
            self.look.channel = channel;
            self.look.window = WindowLevel::auto(image.channel(channel));
        }
    }

    /// The window that suits the channel shown.
    pub fn auto_window(&self) -> WindowLevel {
        self.image.as_ref().map_or(self.look.window, |image| WindowLevel::auto(image.channel(self.look.channel)))
    }

    /// Smallest and largest finite value of the channel shown.
    pub fn range(&self) -> Option<[f32; 2]> {
        let values = self.image.as_ref()?.channel(self.look.channel).iter().copied().filter(|v| v.is_finite());
        let range = values.fold([f32::INFINITY, f32::NEG_INFINITY], |[low, high], v| [low.min(v), high.max(v)]);
        (range[0] <= range[1]).then_some(range)
    }

    /// The labels that are shown, by rising value.
    pub fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// Draws a plane on a canvas of `canvas` pixels, with lines `line` pixels wide.
    ///
    /// # Shapes
    /// `[canvas height, canvas width, RGBA]`.
    pub fn draw(&self, plane: Plane, canvas: [usize; 2], line: usize) -> Vec<u8> {
        let (Some(grid), Some(cursor), true) = (self.grid(), self.cursor, canvas.iter().all(|n| *n > 0)) else {
            return [0, 0, 0, 255].repeat(canvas[0] * canvas[1]);
        };
        let slice = cursor.slice(plane);
        let look = &self.look;
        let image =
            self.image.as_ref().and_then(|i| extract_slice(i.geometry(), i.channel(look.channel), plane, slice));
        let layer = |index: usize| {
            let map = &self.labels(index)?.map;
            let slice = extract_slice(map.geometry(), map.data(), plane, slice)?;
            Some(Layer { slice, palette: &self.palette, style: look.styles[index], opacity: look.opacity })
        };
        paint(&Picture {
            canvas,
            frame: grid.frame(plane, canvas),
            image,
            window: look.window,
            shading: look.shading,
            layers: [0, 1].into_iter().filter_map(layer).collect(),
            crosshair: look.crosshair.then(|| cursor.pixel(plane)),
            line: line.max(1),
        })
    }

    /// Slices of a plane, and the one that is shown.
    pub fn slices(&self, plane: Plane) -> Option<[usize; 2]> {
        Some([self.grid()?.slices(plane), self.cursor?.slice(plane)])
    }

    /// Letters of the patient directions at the left, right, top and bottom edge of a plane.
    pub fn edges(&self, plane: Plane) -> Option<[char; 4]> {
        let geometry = self.geometry()?;
        // The letters are those of the cutting itself; units take no memory.
        extract_slice(geometry, &vec![(); geometry.voxels()], plane, 0).map(|view| view.edges)
    }

    /// Puts the crosshair under a canvas position of a plane.
    pub fn point_at(&mut self, plane: Plane, canvas: [usize; 2], at: [f64; 2]) {
        if let (Some(grid), Some(cursor), true) = (self.grid(), self.cursor, canvas.iter().all(|n| *n > 0)) {
            let cell = grid.frame(plane, canvas).cell_under(at);
            (self.cursor, self.placed) = (Some(cursor.with_pixel(plane, cell)), true);
        }
    }

    /// Moves the crosshair by columns, rows and slices of a plane.
    pub fn step(&mut self, plane: Plane, steps: [i32; 3]) {
        if let (Some(grid), Some(cursor)) = (self.grid(), self.cursor) {
            (self.cursor, self.placed) = (Some(grid.moved(cursor, plane, steps)), true);
        }
    }

    /// Puts the crosshair into a label.
    pub fn go_to(&mut self, label: Label) {
        if let Some(cursor) = self.middle_of(|l| l == label) {
            (self.cursor, self.placed) = (Some(cursor), true);
        }
    }

    /// The voxel of the first layer that has any such label which is nearest to their common middle. The order of
    /// axes in the file plays no part in it.
    fn middle_of(&self, wanted: impl Fn(Label) -> bool) -> Option<Cursor> {
        let wanted = &wanted;
        [0, 1].into_iter().find_map(|layer| {
            let map = &self.labels(layer)?.map;
            let places = || {
                (0..map.geometry().slices(Plane::Axial)).flat_map(move |slice| {
                    let view = extract_slice(map.geometry(), map.data(), Plane::Axial, slice);
                    let (width, data) = view.map_or((1, Vec::new()), |v| (v.width, v.data));
                    let place = move |i: usize| [i % width, i / width, slice];
                    data.into_iter().enumerate().filter(move |(_, l)| wanted(*l)).map(move |(i, _)| place(i))
                })
            };
            let (n, sum) = places().fold((0_usize, [0_usize; 3]), |(n, sum), place| {
                (n + 1, std::array::from_fn(|axis| sum[axis] + place[axis]))
            });
            let away = |place: &[usize; 3]| -> f64 {
                place.iter().zip(sum).map(|(at, sum)| (*at as f64 - sum as f64 / n as f64).powi(2)).sum()
            };
            places().min_by(|a, b| away(a).total_cmp(&away(b))).map(Cursor)
        })
    }

    /// The voxel under the crosshair, on the axes of the file, and its place in the patient.
    pub fn place(&self) -> Option<(VoxelIndex, RasPoint)> {
        let geometry = self.geometry()?;
        let voxel = voxel_at(geometry, self.cursor?)?;
        Some((voxel, geometry.ras_from_voxel().apply(voxel.0.map(|i| i as f64))))
    }

    /// The intensity under the crosshair.
    pub fn value(&self) -> Option<f32> {
        let image = self.image.as_ref()?;
        let offset = image.geometry().offset(self.place()?.0)?;
        image.channel(self.look.channel).get(offset).copied()
    }

    /// The label under the crosshair in the mask or the truth.
    pub fn label(&self, role: Role) -> Option<Label> {
        self.labels(role.layer()?)?.map.get(self.place()?.0).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sulcus_io::{Compression, encode_image, encode_labels};
    use sulcus_volume::{Orientation, RasFromVoxel, Spacing};

    const SHAPE: [usize; 3] = [8, 10, 12];

    fn grid(orientation: &str, source: OrientationSource) -> Geometry {
        let orientation: Orientation = orientation.parse().unwrap();
        let map = RasFromVoxel::aligned(orientation, Spacing::new([2.0; 3]).unwrap());
        Geometry::new(SHAPE, map, source).unwrap()
    }

    /// Noise that no label map has, and one bright voxel at the patient's right, front and top.
    fn image_file(orientation: &str) -> Vec<u8> {
        let geometry = grid("RAS", OrientationSource::Sform);
        let mut data: Vec<f32> = (0..geometry.voxels()).map(|i| (i * 7919 % 101) as f32).collect();
        data[geometry.offset(VoxelIndex([7, 9, 11])).unwrap()] = 5000.0;
        let image = Image::new(geometry, 1, data).unwrap().reoriented(orientation.parse().unwrap());
        encode_image(&image, &(*image.geometry()).into(), Compression::None).unwrap()
    }

    /// Label 1 in the left half, 2 in one voxel.
    fn mask_file(geometry: &Geometry) -> Vec<u8> {
        let mut data: Vec<Label> = (0..geometry.voxels()).map(|i| u16::from(i % 8 < 4)).collect();
        data[geometry.offset(VoxelIndex([6, 2, 3])).unwrap()] = 2;
        let map = LabelMap::new(*geometry, data).unwrap();
        encode_labels(&map, &(*geometry).into(), &LabelTable::default(), Compression::None).unwrap()
    }

    fn opened(files: &[Vec<u8>]) -> (Scene, Vec<Role>) {
        let mut scene = Scene::default();
        let roles = files.iter().map(|file| scene.load(file, None).unwrap()).collect();
        (scene, roles)
    }

    #[test]
    fn the_patients_right_is_on_the_left_of_the_picture_front_and_top_are_up() {
        for orientation in Orientation::all() {
            let (mut scene, _) = opened(&[image_file(&orientation.to_string())]);
            scene.look.window = WindowLevel { low: 0.0, high: 5000.0 };
            scene.look.shading = Shading::Voxels;
            scene.look.crosshair = false;
            scene.step(Plane::Axial, [-99, -99, -99]);
            assert_eq!(scene.value(), Some(5000.0), "{orientation}");
            assert_eq!(scene.place().unwrap().1, RasPoint([14.0, 18.0, 22.0]));
            for plane in Plane::ALL {
                // One scale for all: 24 mm down make 10 pixels a voxel.
                let pixels = scene.draw(plane, [120, 120], 1);
                let bright: Vec<usize> = (0..120 * 120).filter(|i| pixels[i * 4] == 255).collect();
                let [columns, rows] = scene.grid().unwrap().frame(plane, [120, 120]).start;
                assert_eq!(bright.len(), 100, "{orientation} {plane:?}");
                assert_eq!(bright.first(), Some(&(rows * 120 + columns)), "{orientation} {plane:?}");
            }
        }
    }

    #[test]
    fn files_find_their_roles_in_any_order() {
        let mask = mask_file(&grid("RAS", OrientationSource::Sform));
        let (mut scene, roles) = opened(&[mask.clone(), image_file("RAS"), mask]);
        assert_eq!(roles, [Role::Mask, Role::Image, Role::Truth]);
        assert!(scene.problems().is_empty());
        assert_eq!(scene.rows().len(), 2);
        assert_eq!((scene.rows()[0].voxels, scene.rows()[0].dice), ([Some(480), Some(480)], Some(1.0)));
        scene.remove(Role::Mask);
        scene.swap_labels();
        assert!(scene.has(Role::Mask) && !scene.has(Role::Truth));
    }

    #[test]
    fn a_mask_on_another_grid_waits_for_its_image() {
        let mask = mask_file(&grid("LAS", OrientationSource::Sform));
        let (mut scene, _) = opened(&[image_file("RAS"), mask]);
        assert!(scene.problems()[0].starts_with("The mask is not drawn"), "{:?}", scene.problems());
        assert!(scene.rows().is_empty() && scene.label(Role::Mask).is_none());
        scene.remove(Role::Image);
        assert!(scene.problems().is_empty());
        assert_eq!(scene.rows().len(), 2);
    }

    #[test]
    fn the_crosshair_goes_to_a_label_and_reads_it() {
        let (mut scene, _) = opened(&[image_file("RAS"), mask_file(&grid("RAS", OrientationSource::Sform))]);
        scene.go_to(2);
        assert_eq!(scene.place().unwrap().0, VoxelIndex([6, 2, 3]));
        assert_eq!(scene.label(Role::Mask), Some(2));
        scene.go_to(77);
        assert_eq!(scene.label(Role::Mask), Some(2), "there is no such label, so nothing moves");
    }

    #[test]
    fn a_file_that_cannot_be_read_leaves_everything_as_it_was() {
        let (mut scene, _) = opened(&[image_file("RAS")]);
        let before = scene.draw(Plane::Coronal, [50, 60], 1);
        assert!(scene.load(b"no such thing", None).unwrap_err().contains("NIfTI"));
        assert!(scene.load(&image_file("RAS")[..900], Some(Role::Image)).unwrap_err().contains("cut short"));
        let error = scene.load(&image_file("RAS"), Some(Role::Truth));
        assert_eq!(error, Ok(Role::Truth), "whole numbers are labels to who says so");
        scene.remove(Role::Truth);
        assert_eq!(scene.draw(Plane::Coronal, [50, 60], 1), before);
    }

    #[test]
    fn an_empty_scene_draws_black_and_answers() {
        let mut scene = Scene::default();
        scene.step(Plane::Axial, [1, 1, 1]);
        scene.point_at(Plane::Axial, [10, 10], [3.0, 3.0]);
        assert_eq!(scene.draw(Plane::Axial, [2, 1], 1), [0, 0, 0, 255, 0, 0, 0, 255]);
        assert_eq!((scene.slices(Plane::Axial), scene.place(), scene.range()), (None, None, None));
    }
}
