use sulcus_io::{read_image_bytes_without_statistics, read_labels_bytes};
use sulcus_volume::{
    Geometry, Image, Label, LabelMap, LabelTable, OrientationSource, Plane, RasPoint, VoxelIndex, WindowLevel,
    extract_slice,
};

use crate::display::{Cursor, DisplayGrid, voxel_at};
use crate::label_heuristic::looks_like_label_map;
use crate::label_stats::{LabelStats, label_stats};
use crate::render::{LabelLayer, Palette, PlaneView, render};
use crate::settings::{Role, ViewSettings};

/// A label map with the names from its file.
#[derive(Debug)]
struct Labels {
    map: LabelMap,
    /// The names as JSON, as they are in the file. The page parses them.
    text: Option<String>,
    names: LabelTable,
}

/// The state of the viewer: the loaded files, the position of the crosshair and the display settings.
#[derive(Debug, Default)]
pub struct Scene {
    image: Option<Image>,
    layers: [Option<Labels>; 2],
    cursor: Option<Cursor>,
    /// Whether the user has moved the crosshair. Until then it is set again whenever a file is loaded.
    cursor_was_moved: bool,
    stats: Vec<LabelStats>,
    /// Why the labels of mask and reference cannot be compared.
    name_conflict: Option<String>,
    palette: Palette,
    /// The display settings.
    pub settings: ViewSettings,
}

/// A mask with more distinct values is refused: it is probably a scan, and a table of its values would be useless.
const MAX_LABELS: usize = 1024;

impl Scene {
    /// Reads a file and shows it as `role`. Without a role, a label map becomes the mask, or the reference if there is already a
    /// mask, and anything else the image. Returns the role.
    ///
    /// # Errors
    /// A sentence that says why the file cannot be read. The scene does not change.
    pub fn load(&mut self, bytes: &[u8], role: Option<Role>) -> Result<Role, String> {
        let message = |e: sulcus_io::IoError| e.to_string();
        let role = match role {
            Some(role) => role,
            None => {
                let image = read_image_bytes_without_statistics(bytes).map_err(message)?.0;
                if !looks_like_label_map(&image) {
                    self.show_image(image);
                    return Ok(Role::Image);
                }
                if self.layers[0].is_none() { Role::Mask } else { Role::Truth }
            }
        };
        match role.layer() {
            None => self.show_image(read_image_bytes_without_statistics(bytes).map_err(message)?.0),
            Some(layer) => {
                let (map, source) = read_labels_bytes(bytes).map_err(message)?;
                let distinct = map.counts().len();
                if distinct > MAX_LABELS {
                    return Err(format!(
                        "cannot show this as a {}: expected at most {MAX_LABELS} different labels, found {distinct}; \
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
        self.settings.channel = 0;
        self.settings.window = WindowLevel::auto(image.channel(0));
        self.image = Some(image);
        self.refresh();
    }

    /// The label names from a file, as JSON.
    pub fn label_text(&self, role: Role) -> Option<&str> {
        self.layers.get(role.layer()?)?.as_ref()?.text.as_deref()
    }

    /// Sets the names and colours of the labels of a layer. Once mask and reference have names, the mask gets the numbers that
    /// the reference has for its names, as programs number structures in different orders.
    pub fn name_labels(&mut self, role: Role, names: LabelTable) {
        if let Some(labels) = role.layer().and_then(|layer| self.layers.get_mut(layer)?.as_mut()) {
            labels.names = names;
            self.number_mask_as_reference();
            self.refresh();
        }
    }

    fn number_mask_as_reference(&mut self) {
        let [Some(mask), Some(truth)] = &mut self.layers else { return };
        let names = truth.names.completed_by(&mask.names);
        let numbers = names.numbers_by_name(&mask.names, mask.map.counts().into_keys());
        // The problems name a contradiction.
        if let Some(map) = numbers.ok().and_then(|numbers| mask.map.with_numbers(&numbers)) {
            mask.map = map;
            mask.names = names;
        }
    }

    fn find_name_conflict(&self) -> Option<String> {
        let [Some(mask), Some(truth)] = &self.layers else { return None };
        let numbers = truth.names.numbers_by_name(&mask.names, mask.map.counts().into_keys());
        numbers.err().map(|error| format!("Mask and reference are not compared: in the mask, {error}."))
    }

    /// Closes a file.
    pub fn remove(&mut self, role: Role) {
        match role.layer() {
            None => self.image = None,
            Some(layer) => self.layers[layer] = None,
        }
        self.refresh();
    }

    /// Swaps mask and reference.
    pub fn swap_labels(&mut self) {
        self.layers.swap(0, 1);
        self.refresh();
    }

    /// Updates everything that depends on the loaded files.
    fn refresh(&mut self) {
        let shown = [0, 1].map(|i| self.labels(i));
        let names: Vec<&LabelTable> = shown.iter().flatten().map(|labels| &labels.names).collect();
        let mut stats = label_stats(shown[0].map(|l| &l.map), shown[1].map(|l| &l.map), &names);
        let name_conflict = self.find_name_conflict();
        if name_conflict.is_some() {
            stats.iter_mut().for_each(|label| label.dice = None);
        }
        self.palette = Palette::new(stats.iter().map(|r| (r.entry.value, r.entry.color.0)));
        (self.stats, self.name_conflict) = (stats, name_conflict);
        let Some(grid) = self.grid() else {
            (self.cursor, self.cursor_was_moved) = (None, false);
            return;
        };
        let inside = self.cursor.filter(|c| self.geometry().is_some_and(|g| voxel_at(g, *c).is_some()));
        self.cursor_was_moved &= inside.is_some();
        if !self.cursor_was_moved {
            self.cursor = self.voxel_near_centroid(|label| label != 0).or(Some(grid.center()));
        }
    }

    /// The grid that everything is drawn on: that of the image, else of the mask, else of the reference.
    pub fn geometry(&self) -> Option<&Geometry> {
        let labels = self.layers.iter().flatten().map(|l| l.map.geometry());
        self.image.as_ref().map(Image::geometry).into_iter().chain(labels).next()
    }

    fn grid(&self) -> Option<DisplayGrid> {
        self.geometry().map(DisplayGrid::new)
    }

    /// A label layer, if it is on the displayed grid.
    fn labels(&self, layer: usize) -> Option<&Labels> {
        let labels = self.layers.get(layer)?.as_ref()?;
        self.geometry()?.check_same_grid(labels.map.geometry()).is_ok().then_some(labels)
    }

    /// One sentence for each layer that is not drawn because it is on another grid, and one if the names of mask and reference
    /// contradict each other.
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
        [Role::Mask, Role::Truth].into_iter().filter_map(problem).chain(self.name_conflict.clone()).collect()
    }

    /// Whether left and right are a guess, because the file has no orientation.
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

    /// The number of image channels; 0 without an image.
    pub fn channels(&self) -> usize {
        self.image.as_ref().map_or(0, Image::channels)
    }

    /// Shows another channel and sets the window for it.
    pub fn set_channel(&mut self, channel: usize) {
        if let Some(image) = self.image.as_ref().filter(|image| channel < image.channels()) {
            self.settings.channel = channel;
            self.settings.window = WindowLevel::auto(image.channel(channel));
        }
    }

    /// The automatic window for the displayed channel.
    pub fn auto_window(&self) -> WindowLevel {
        self.image
            .as_ref()
            .map_or(self.settings.window, |image| WindowLevel::auto(image.channel(self.settings.channel)))
    }

    /// The smallest and largest finite value of the displayed channel.
    pub fn range(&self) -> Option<[f32; 2]> {
        let values = self.image.as_ref()?.channel(self.settings.channel).iter().copied().filter(|v| v.is_finite());
        let range = values.fold([f32::INFINITY, f32::NEG_INFINITY], |[low, high], v| [low.min(v), high.max(v)]);
        (range[0] <= range[1]).then_some(range)
    }

    /// The statistics of the displayed labels, in ascending order of their value.
    pub fn label_stats(&self) -> &[LabelStats] {
        &self.stats
    }

    /// Draws a plane on a canvas of width and height `canvas`, with lines `line` pixels wide.
    ///
    /// # Shapes
    /// The result is `[canvas height, canvas width, 4]`: RGBA with 8 bits per channel.
    pub fn draw(&self, plane: Plane, canvas: [usize; 2], line: usize) -> Vec<u8> {
        let (Some(grid), Some(cursor), true) = (self.grid(), self.cursor, canvas.iter().all(|n| *n > 0)) else {
            return [0, 0, 0, 255].repeat(canvas[0] * canvas[1]);
        };
        let slice = cursor.slice(plane);
        let settings = &self.settings;
        let image = self
            .image
            .as_ref()
            .and_then(|i| extract_slice(i.geometry(), i.channel(settings.channel), plane, slice));
        let layer = |index: usize| {
            let map = &self.labels(index)?.map;
            let slice = extract_slice(map.geometry(), map.data(), plane, slice)?;
            Some(LabelLayer {
                slice,
                palette: &self.palette,
                style: settings.styles[index],
                opacity: settings.opacity,
            })
        };
        render(&PlaneView {
            canvas,
            frame: grid.frame(plane, canvas),
            image,
            window: settings.window,
            shading: settings.shading,
            layers: [0, 1].into_iter().filter_map(layer).collect(),
            crosshair: settings.crosshair.then(|| cursor.pixel(plane)),
            line: line.max(1),
        })
    }

    /// The number of slices of a plane and the index of the displayed one.
    pub fn slices(&self, plane: Plane) -> Option<[usize; 2]> {
        Some([self.grid()?.slices(plane), self.cursor?.slice(plane)])
    }

    /// The letters of the patient directions at the left, right, top and bottom edge of a plane.
    pub fn edges(&self, plane: Plane) -> Option<[char; 4]> {
        let geometry = self.geometry()?;
        // `extract_slice` determines the letters; a slice of unit values takes no memory.
        extract_slice(geometry, &vec![(); geometry.voxels()], plane, 0).map(|view| view.edges)
    }

    /// Moves the crosshair to a canvas position in a plane.
    pub fn point_at(&mut self, plane: Plane, canvas: [usize; 2], at: [f64; 2]) {
        if let (Some(grid), Some(cursor), true) = (self.grid(), self.cursor, canvas.iter().all(|n| *n > 0)) {
            let cell = grid.frame(plane, canvas).cell_under(at);
            (self.cursor, self.cursor_was_moved) = (Some(cursor.with_pixel(plane, cell)), true);
        }
    }

    /// Moves the crosshair by columns, rows and slices of a plane.
    pub fn step(&mut self, plane: Plane, steps: [i32; 3]) {
        if let (Some(grid), Some(cursor)) = (self.grid(), self.cursor) {
            (self.cursor, self.cursor_was_moved) = (Some(grid.moved(cursor, plane, steps)), true);
        }
    }

    /// Moves the crosshair into a label.
    pub fn go_to(&mut self, label: Label) {
        if let Some(cursor) = self.voxel_near_centroid(|l| l == label) {
            (self.cursor, self.cursor_was_moved) = (Some(cursor), true);
        }
    }

    /// The voxel with a wanted label that is closest to the centroid of all such voxels, in the first layer that has any. The
    /// result does not depend on the order of axes in the file.
    fn voxel_near_centroid(&self, wanted: impl Fn(Label) -> bool) -> Option<Cursor> {
        let wanted = &wanted;
        [0, 1].into_iter().find_map(|layer| {
            let map = &self.labels(layer)?.map;
            let positions = || {
                (0..map.geometry().slices(Plane::Axial)).flat_map(move |slice| {
                    let view = extract_slice(map.geometry(), map.data(), Plane::Axial, slice);
                    let (width, data) = view.map_or((1, Vec::new()), |v| (v.width, v.data));
                    let position = move |i: usize| [i % width, i / width, slice];
                    data.into_iter().enumerate().filter(move |(_, l)| wanted(*l)).map(move |(i, _)| position(i))
                })
            };
            let (n, sum) = positions().fold((0_usize, [0_usize; 3]), |(n, sum), position| {
                (n + 1, std::array::from_fn(|axis| sum[axis] + position[axis]))
            });
            let squared_distance = |position: &[usize; 3]| -> f64 {
                position.iter().zip(sum).map(|(at, sum)| (*at as f64 - sum as f64 / n as f64).powi(2)).sum()
            };
            positions().min_by(|a, b| squared_distance(a).total_cmp(&squared_distance(b))).map(Cursor)
        })
    }

    /// The voxel under the crosshair, as an index on the axes of the file, and its position in the patient.
    pub fn position(&self) -> Option<(VoxelIndex, RasPoint)> {
        let geometry = self.geometry()?;
        let voxel = voxel_at(geometry, self.cursor?)?;
        Some((voxel, geometry.ras_from_voxel().apply(voxel.0.map(|i| i as f64))))
    }

    /// The image value under the crosshair.
    pub fn value(&self) -> Option<f32> {
        let image = self.image.as_ref()?;
        let offset = image.geometry().offset(self.position()?.0)?;
        image.channel(self.settings.channel).get(offset).copied()
    }

    /// The label under the crosshair in the mask or the reference.
    pub fn label(&self, role: Role) -> Option<Label> {
        self.labels(role.layer()?)?.map.get(self.position()?.0).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Shading;
    use sulcus_io::{Compression, encode_image, encode_labels};
    use sulcus_volume::{Orientation, RasFromVoxel, Spacing};

    const SHAPE: [usize; 3] = [8, 10, 12];

    fn grid(orientation: &str, source: OrientationSource) -> Geometry {
        let orientation: Orientation = orientation.parse().unwrap();
        let map = RasFromVoxel::aligned(orientation, Spacing::new([2.0; 3]).unwrap());
        Geometry::new(SHAPE, map, source).unwrap()
    }

    /// Noise, and one bright voxel at the right, anterior and superior corner.
    fn image_file(orientation: &str) -> Vec<u8> {
        let geometry = grid("RAS", OrientationSource::Sform);
        let mut data: Vec<f32> = (0..geometry.voxels()).map(|i| (i * 7919 % 101) as f32).collect();
        data[geometry.offset(VoxelIndex([7, 9, 11])).unwrap()] = 5000.0;
        let image = Image::new(geometry, 1, data).unwrap().reoriented(orientation.parse().unwrap());
        encode_image(&image, &(*image.geometry()).into(), Compression::None).unwrap()
    }

    /// Label 1 in the left half and label 2 in one voxel.
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
    fn planes_are_in_radiological_orientation_for_every_file_orientation() {
        for orientation in Orientation::all() {
            let (mut scene, _) = opened(&[image_file(&orientation.to_string())]);
            scene.settings.window = WindowLevel { low: 0.0, high: 5000.0 };
            scene.settings.shading = Shading::Voxels;
            scene.settings.crosshair = false;
            scene.step(Plane::Axial, [-99, -99, -99]);
            assert_eq!(scene.value(), Some(5000.0), "{orientation}");
            assert_eq!(scene.position().unwrap().1, RasPoint([14.0, 18.0, 22.0]));
            for plane in Plane::ALL {
                // All planes have the same scale: 24 mm on 120 pixels are 10 pixels per voxel.
                let pixels = scene.draw(plane, [120, 120], 1);
                let bright: Vec<usize> = (0..120 * 120).filter(|i| pixels[i * 4] == 255).collect();
                let [columns, rows] = scene.grid().unwrap().frame(plane, [120, 120]).start;
                assert_eq!(bright.len(), 100, "{orientation} {plane:?}");
                assert_eq!(bright.first(), Some(&(rows * 120 + columns)), "{orientation} {plane:?}");
            }
        }
    }

    #[test]
    fn roles_are_detected_in_any_order() {
        let mask = mask_file(&grid("RAS", OrientationSource::Sform));
        let (mut scene, roles) = opened(&[mask.clone(), image_file("RAS"), mask]);
        assert_eq!(roles, [Role::Mask, Role::Image, Role::Truth]);
        assert!(scene.problems().is_empty());
        assert_eq!(scene.label_stats().len(), 2);
        assert_eq!(
            (scene.label_stats()[0].voxels, scene.label_stats()[0].dice),
            ([Some(480), Some(480)], Some(1.0))
        );
        scene.remove(Role::Mask);
        scene.swap_labels();
        assert!(scene.has(Role::Mask) && !scene.has(Role::Truth));
    }

    #[test]
    fn names_decide_which_labels_are_compared() {
        let mask = mask_file(&grid("RAS", OrientationSource::Sform));
        let (mut scene, _) = opened(&[mask.clone(), mask]);
        let table = |names: [&str; 2]| LabelTable::from_names((1..).zip(names.map(str::to_owned))).unwrap();
        scene.name_labels(Role::Mask, table(["Posterior", "Anterior"]));
        scene.name_labels(Role::Truth, table(["Anterior", "Posterior"]));
        let dice: Vec<_> = scene.label_stats().iter().map(|label| label.dice).collect();
        assert_eq!((dice, scene.problems().len()), (vec![Some(0.0), Some(0.0)], 0));
        assert_eq!(scene.label_stats()[1].entry.name, "Posterior");
        assert_eq!(scene.label_stats()[1].voxels, [Some(480), Some(1)]);

        scene.name_labels(Role::Truth, table(["Liver", "Posterior"]));
        assert!(scene.problems()[0].contains("label 1 is named `Anterior`, but `Liver` is expected"));
        assert!(scene.label_stats().iter().all(|label| label.dice.is_none()));
    }

    #[test]
    fn mask_on_another_grid_is_not_drawn() {
        let mask = mask_file(&grid("LAS", OrientationSource::Sform));
        let (mut scene, _) = opened(&[image_file("RAS"), mask]);
        assert!(scene.problems()[0].starts_with("The mask is not drawn"), "{:?}", scene.problems());
        assert!(scene.label_stats().is_empty() && scene.label(Role::Mask).is_none());
        scene.remove(Role::Image);
        assert!(scene.problems().is_empty());
        assert_eq!(scene.label_stats().len(), 2);
    }

    #[test]
    fn go_to_moves_the_crosshair_into_the_label() {
        let (mut scene, _) = opened(&[image_file("RAS"), mask_file(&grid("RAS", OrientationSource::Sform))]);
        scene.go_to(2);
        assert_eq!(scene.position().unwrap().0, VoxelIndex([6, 2, 3]));
        assert_eq!(scene.label(Role::Mask), Some(2));
        scene.go_to(77);
        assert_eq!(scene.label(Role::Mask), Some(2), "an absent label does not move the crosshair");
    }

    #[test]
    fn unreadable_file_does_not_change_the_scene() {
        let (mut scene, _) = opened(&[image_file("RAS")]);
        let before = scene.draw(Plane::Coronal, [50, 60], 1);
        assert!(scene.load(b"no such thing", None).unwrap_err().contains("NIfTI"));
        assert!(scene.load(&image_file("RAS")[..900], Some(Role::Image)).unwrap_err().contains("cut short"));
        let error = scene.load(&image_file("RAS"), Some(Role::Truth));
        assert_eq!(error, Ok(Role::Truth), "whole numbers are labels if the role says so");
        scene.remove(Role::Truth);
        assert_eq!(scene.draw(Plane::Coronal, [50, 60], 1), before);
    }

    #[test]
    fn empty_scene_draws_black() {
        let mut scene = Scene::default();
        scene.step(Plane::Axial, [1, 1, 1]);
        scene.point_at(Plane::Axial, [10, 10], [3.0, 3.0]);
        assert_eq!(scene.draw(Plane::Axial, [2, 1], 1), [0, 0, 0, 255, 0, 0, 0, 255]);
        assert_eq!((scene.slices(Plane::Axial), scene.position(), scene.range()), (None, None, None));
    }
}
