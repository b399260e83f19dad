//! The state of the viewer.

mod inspect;
mod map;
mod navigate;

use std::cell::Cell;

use sulcus_io::{VolumeMetadata, read_image_bytes_without_statistics, read_labels_bytes};
use sulcus_volume::{
    Geometry, GridUnit, Image, Label, LabelMap, LabelTable, OrientationSource, Plane, SliceView, WindowLevel,
    extract_slice,
};

use crate::colormap::Colormap;
use crate::compare::{Difference, differences};
use crate::display::{Cursor, DisplayGrid, Frame, voxel_at};
use crate::file_names::{names_a_map, role_from_name};
use crate::label_heuristic::looks_like_label_map;
use crate::label_stats::{CountedLabels, LabelStats, intensities, label_stats};
use crate::render::{LabelLayer, Palette, PlaneView, render};
use crate::settings::{Comparison, LabelStyle, Role, ViewSettings};
use crate::slab::{project, slab_slices};

/// A label map with the names from its file.
#[derive(Debug)]
struct Labels {
    counted: CountedLabels,
    source: VolumeMetadata,
    names: LabelTable,
}

impl Labels {
    fn map(&self) -> &LabelMap {
        self.counted.map()
    }
}

/// The image with the description of its file.
#[derive(Debug)]
struct Scan {
    image: Image,
    source: VolumeMetadata,
}

/// The state of the viewer: the loaded files, the position of the crosshair and the display settings.
#[derive(Debug, Default)]
pub struct Scene {
    scan: Option<Scan>,
    map: Option<Scan>,
    layers: [Option<Labels>; 2],
    /// The range of a channel of the image, once it was asked for.
    range: Cell<Option<(usize, Option<[f32; 2]>)>>,
    grid: Option<DisplayGrid>,
    cursor: Option<Cursor>,
    /// Whether the user has moved the crosshair. Until then it is set again whenever a file is loaded.
    cursor_was_moved: bool,
    stats: Vec<LabelStats>,
    /// Whether the intensities in `stats` are those of the displayed channel.
    intensities_are_current: bool,
    /// Why the labels of mask and reference cannot be compared.
    name_conflict: Option<String>,
    /// The labels that the user has hidden.
    hidden: Vec<Label>,
    /// The colours of the labels that are shown.
    palette: Palette,
    /// The display settings.
    pub settings: ViewSettings,
}

/// A mask with more distinct values is refused: it is probably a scan, and a table of its values would be useless.
const MAX_LABELS: usize = 1024;

impl Scene {
    /// Reads a file and shows it as `role`. Without a role, a file whose name says so becomes the map, a label map becomes the mask or the reference, as its name says or
    /// the reference if there is already a mask, and anything else the image. Returns the role.
    ///
    /// # Errors
    /// A sentence that says why the file cannot be read. The scene does not change.
    pub fn load(&mut self, bytes: &[u8], name: &str, role: Option<Role>) -> Result<Role, String> {
        self.load_on(bytes, name, role, None)
    }

    /// [`Scene::load`]s a NIfTI file that was made of a picture, whose grid has this unit: NIfTI cannot state that it is none of a
    /// patient.
    ///
    /// # Errors
    /// As [`Scene::load`].
    pub fn load_on(
        &mut self,
        bytes: &[u8],
        name: &str,
        role: Option<Role>,
        picture: Option<GridUnit>,
    ) -> Result<Role, String> {
        let message = |e: sulcus_io::IoError| e.to_string();
        let role = match role {
            Some(role) => role,
            None if names_a_map(name) => Role::Map,
            None => {
                let (image, source) = read_image(bytes, picture)?;
                if !source.is_label_map() && !looks_like_label_map(&image) {
                    self.show_image(image, source);
                    return Ok(Role::Image);
                }
                let free = if self.layers[0].is_none() { Role::Mask } else { Role::Truth };
                role_from_name(name).unwrap_or(free)
            }
        };
        match role.layer() {
            None => {
                let (image, source) = read_image(bytes, picture)?;
                if role == Role::Map {
                    self.show_map(image, source);
                } else {
                    self.show_image(image, source);
                }
            }
            Some(layer) => {
                let (mut map, source) = read_labels_bytes(bytes).map_err(message)?;
                if let Some(unit) = picture {
                    let (grid, data) = map.into_parts();
                    map = LabelMap::new(grid.as_picture(unit), data).map_err(|e| e.to_string())?;
                }
                let counted = CountedLabels::new(map);
                let distinct = counted.labels().count();
                if distinct > MAX_LABELS {
                    return Err(format!(
                        "cannot show this as a {}: expected at most {MAX_LABELS} different labels, found {distinct}; \
                         it is probably an image",
                        role.name()
                    ));
                }
                self.layers[layer] = Some(Labels { counted, source, names: LabelTable::default() });
                self.refresh();
            }
        }
        Ok(role)
    }

    fn show_image(&mut self, image: Image, source: VolumeMetadata) {
        self.settings.channel = 0;
        self.settings.window =
            if is_in_colour(&image) { white(&image) } else { WindowLevel::auto(image.channel(0)) };
        self.range.set(None);
        self.scan = Some(Scan { image, source });
        self.refresh();
    }

    /// The label names from a file, as JSON, which the page parses.
    pub fn label_text(&self, role: Role) -> Option<&str> {
        self.layers.get(role.layer()?)?.as_ref()?.source.label_text()
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
        let numbers = names.numbers_by_name(&mask.names, mask.counted.labels());
        // The problems name a contradiction.
        if let Some(map) = numbers.ok().and_then(|numbers| mask.map().with_numbers(&numbers)) {
            mask.counted = CountedLabels::new(map);
            mask.names = names;
        }
    }

    fn find_name_conflict(&self) -> Option<String> {
        let [Some(mask), Some(truth)] = &self.layers else { return None };
        let numbers = truth.names.numbers_by_name(&mask.names, mask.counted.labels());
        numbers.err().map(|error| format!("Mask and reference are not compared: in the mask, {error}."))
    }

    /// Closes a file.
    pub fn remove(&mut self, role: Role) {
        match role.layer() {
            None if role == Role::Map => self.map = None,
            None => {
                self.range.set(None);
                self.scan = None;
            }
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
        let mut stats = label_stats(shown[0].map(|l| &l.counted), shown[1].map(|l| &l.counted), &names);
        let name_conflict = self.find_name_conflict();
        if name_conflict.is_some() {
            stats.iter_mut().for_each(|label| (label.dice, label.iou) = (None, None));
        }
        (self.stats, self.name_conflict) = (stats, name_conflict);
        self.intensities_are_current = false;
        self.color_labels();
        let grid = self.geometry().map(DisplayGrid::new);
        if grid != std::mem::replace(&mut self.grid, grid) {
            (self.settings.camera.zoom, self.settings.camera.center) = (1.0, None);
        }
        let Some(grid) = grid else {
            (self.cursor, self.cursor_was_moved) = (None, false);
            return;
        };
        let inside = self.cursor.filter(|c| self.geometry().is_some_and(|g| voxel_at(g, *c).is_some()));
        self.cursor_was_moved &= inside.is_some();
        if !self.cursor_was_moved {
            self.cursor = self.voxel_near_centroid(None).or(Some(grid.center()));
        }
    }

    fn color_labels(&mut self) {
        let shown = self.stats.iter().filter(|label| !self.hidden.contains(&label.entry.value));
        self.palette = Palette::new(shown.map(|label| (label.entry.value, label.entry.color.0)));
    }

    /// Shows or hides a label in all layers.
    pub fn show_label(&mut self, label: Label, shown: bool) {
        self.hidden.retain(|hidden| *hidden != label);
        if !shown {
            self.hidden.push(label);
        }
        self.color_labels();
    }

    /// Whether a label is shown.
    pub fn shows_label(&self, label: Label) -> bool {
        !self.hidden.contains(&label)
    }

    /// The grid that everything is drawn on: that of the image, else of the mask, else of the reference, else of the map.
    pub fn geometry(&self) -> Option<&Geometry> {
        let labels = self.layers.iter().flatten().map(|l| l.map().geometry());
        let [scan, map] = [&self.scan, &self.map].map(|scan| scan.as_ref().map(|scan| scan.image.geometry()));
        scan.into_iter().chain(labels).chain(map).next()
    }

    /// A label layer, if it is on the displayed grid.
    fn labels(&self, layer: usize) -> Option<&Labels> {
        let labels = self.layers.get(layer)?.as_ref()?;
        self.geometry()?.check_same_grid(labels.map().geometry()).is_ok().then_some(labels)
    }

    /// One sentence for each layer that is not drawn because it is on another grid, and one if the names of mask and reference
    /// contradict each other.
    pub fn problems(&self) -> Vec<String> {
        let Some(shown) = self.geometry() else { return Vec::new() };
        let reference = if self.scan.is_some() { Role::Image } else { Role::Mask };
        let problem = |role: Role| {
            let error = shown.check_same_grid(self.geometry_of(role)?).err()?;
            Some(format!(
                "The {} is not drawn: it does not lie on the {}'s grid ({error}). \
                 Load the {0} that was made for this {1}.",
                role.name(),
                reference.name()
            ))
        };
        [Role::Mask, Role::Truth, Role::Map]
            .into_iter()
            .filter_map(problem)
            .chain(self.name_conflict.clone())
            .collect()
    }

    /// The roles of the layers that are not drawn because they lie on another grid than the image.
    pub fn misplaced(&self) -> Vec<Role> {
        let Some(scan) = &self.scan else { return Vec::new() };
        let lies_elsewhere = |role: &Role| {
            self.geometry_of(*role).is_some_and(|own| scan.image.geometry().check_same_grid(own).is_err())
        };
        [Role::Mask, Role::Truth, Role::Map].into_iter().filter(lies_elsewhere).collect()
    }

    fn geometry_of(&self, role: Role) -> Option<&Geometry> {
        match role {
            Role::Image => self.scan.as_ref().map(|scan| scan.image.geometry()),
            Role::Map => self.map.as_ref().map(|map| map.image.geometry()),
            _ => self.layers.get(role.layer()?)?.as_ref().map(|labels| labels.map().geometry()),
        }
    }

    /// Whether left and right are a guess, because the file has no orientation.
    pub fn sides_unknown(&self) -> bool {
        self.geometry().is_some_and(|g| g.source() == OrientationSource::None)
    }

    /// Whether a file is loaded for a role.
    pub fn has(&self, role: Role) -> bool {
        self.geometry_of(role).is_some()
    }

    /// The statistics of the displayed labels, in ascending order of their value.
    pub fn label_stats(&self) -> &[LabelStats] {
        &self.stats
    }

    /// Computes the intensities of the displayed labels in the displayed channel, unless that was done already.
    pub fn measure_intensities(&mut self) {
        if std::mem::replace(&mut self.intensities_are_current, true) {
            return;
        }
        let values: Vec<Label> = self.stats.iter().map(|label| label.entry.value).collect();
        let image = self.values();
        let labels = self.labels(0).or(self.labels(1)).map(|labels| labels.map().data());
        let found =
            image.zip(labels).map(|(image, labels)| intensities(image, labels, &values)).unwrap_or_default();
        let found = found.into_iter().chain(std::iter::repeat(None));
        self.stats.iter_mut().zip(found).for_each(|(label, found)| label.intensity = found);
    }

    /// The voxels of a label layer that is drawn.
    pub fn label_map(&self, role: Role) -> Option<&LabelMap> {
        self.labels(role.layer()?).map(Labels::map)
    }

    /// Adds an empty label map on the grid of the image, unless the role has one.
    pub fn add_labels(&mut self, role: Role) {
        let (Some(layer), Some(scan)) = (role.layer(), &self.scan) else { return };
        let geometry = *scan.image.geometry();
        if let (None, Ok(map)) = (&self.layers[layer], LabelMap::new(geometry, vec![0; geometry.voxels()])) {
            let source = VolumeMetadata::from(geometry);
            let counted = CountedLabels::new(map);
            self.layers[layer] = Some(Labels { counted, source, names: LabelTable::default() });
            self.refresh();
        }
    }

    /// Changes voxels of a label layer, given by their offsets. The statistics change at [`Scene::finish_painting`].
    pub fn paint(&mut self, role: Role, changes: impl IntoIterator<Item = (usize, Label)>) {
        let Some(slot) = role.layer().and_then(|layer| self.layers.get_mut(layer)) else { return };
        let Some(Labels { counted, source, names }) = slot.take() else { return };
        let (geometry, mut data) = counted.into_map().into_parts();
        for (offset, label) in changes {
            if let Some(voxel) = data.get_mut(offset) {
                *voxel = label;
            }
        }
        // The number of voxels is the same as before.
        *slot = LabelMap::new(geometry, data).ok().map(|map| Labels {
            counted: CountedLabels::uncounted(map),
            source,
            names,
        });
    }

    /// Updates what depends on the labels after [`Scene::paint`].
    pub fn finish_painting(&mut self) {
        self.layers.iter_mut().flatten().for_each(|labels| labels.counted.count());
        self.refresh();
    }

    /// The place of a plane on a canvas of width and height `canvas`; `None` without a file.
    pub fn frame(&self, plane: Plane, canvas: [usize; 2]) -> Option<Frame> {
        let grid = self.grid.filter(|_| canvas.iter().all(|n| *n > 0))?;
        Some(grid.frame(plane, canvas, &self.settings.camera))
    }

    /// Draws a plane on a canvas of width and height `canvas`, with lines `line` pixels wide.
    ///
    /// # Shapes
    /// The result is `[canvas height, canvas width, 4]`: RGBA with 8 bits per channel.
    pub fn draw(&self, plane: Plane, canvas: [usize; 2], line: usize) -> Vec<u8> {
        let (Some(grid), Some(cursor), Some(frame)) = (self.grid, self.cursor, self.frame(plane, canvas)) else {
            return [0, 0, 0, 255].repeat(canvas[0] * canvas[1]);
        };
        let slice = cursor.slice(plane);
        let settings = &self.settings;
        let slices = slab_slices(slice, grid.slices(plane), settings.slab_mm, grid.slice_mm(plane));
        let project_channel = |channel| {
            let image = &self.scan.as_ref()?.image;
            project(image.geometry(), image.channel(channel), plane, slices.clone(), settings.projection)
        };
        let image: Vec<_> = self.shown_channels().filter_map(project_channel).collect();
        let colormap = if image.len() == 3 { Colormap::Grey } else { settings.colormap };
        let (differences_palette, map_colors) = (Difference::palette(), settings.map.colormap.table());
        render(&PlaneView {
            image,
            window: settings.window,
            colors: &colormap.table(),
            shading: settings.shading,
            map: self.map_layer(plane, slice, &map_colors),
            layers: self.layers_of(plane, slice, &frame, &differences_palette),
            crosshair: settings.crosshair.then(|| cursor.pixel(plane)),
            line: line.max(1),
            frame,
        })
    }

    /// The label layers of a slice, as the comparison requires.
    fn layers_of<'a>(
        &'a self,
        plane: Plane,
        slice: usize,
        frame: &Frame,
        differences_palette: &'a Palette,
    ) -> Vec<LabelLayer<'a>> {
        let settings = &self.settings;
        let width = frame.canvas[0];
        let labels = |index: usize| -> Option<SliceView<Label>> {
            let map = self.labels(index)?.map();
            extract_slice(map.geometry(), map.data(), plane, slice)
        };
        let layer = |index: usize, style: LabelStyle, columns| {
            let slice = labels(index)?;
            Some(LabelLayer { slice, palette: &self.palette, style, opacity: settings.opacity, columns })
        };
        // Mask and reference are comparable only in the same style.
        let style = if settings.styles[0] == LabelStyle::Hidden { LabelStyle::Filled } else { settings.styles[0] };
        let comparison = if self.labels(0).is_some() && self.labels(1).is_some() {
            settings.comparison
        } else {
            Comparison::Layers
        };
        let layers = match comparison {
            Comparison::Layers => [0, 1].map(|index| layer(index, settings.styles[index], 0..width)).into(),
            Comparison::Swipe(fraction) => {
                let middle = (width as f64 * fraction.clamp(0.0, 1.0)).round() as usize;
                vec![layer(0, style, 0..middle), layer(1, style, middle..width)]
            }
            Comparison::Only(role) => vec![role.layer().and_then(|index| layer(index, style, 0..width))],
            Comparison::Difference => {
                let pair = labels(0).zip(labels(1));
                let differing = pair.map(|(mask, truth)| LabelLayer {
                    slice: differences(&mask, &truth, |label| self.palette.of(label).is_some()),
                    palette: differences_palette,
                    style: LabelStyle::Filled,
                    opacity: settings.opacity,
                    columns: 0..width,
                });
                vec![differing]
            }
        };
        layers.into_iter().flatten().collect()
    }
}

/// Reads an image, which lies on the grid of a picture with this unit if there is one.
fn read_image(bytes: &[u8], picture: Option<GridUnit>) -> Result<(Image, VolumeMetadata), String> {
    let (mut image, source) = read_image_bytes_without_statistics(bytes).map_err(|e| e.to_string())?;
    if let Some(unit) = picture {
        let channels = image.channels();
        let (grid, data) = image.into_parts();
        image = Image::new(grid.as_picture(unit), channels, data).map_err(|e| e.to_string())?;
    }
    Ok((image, source))
}

/// A picture with three channels has the colours red, green and blue.
fn is_in_colour(image: &Image) -> bool {
    image.geometry().is_picture() && image.channels() == 3
}

/// From black to the greatest value of 8 or 16 bits, as in `sulcus figure`.
fn white(image: &Image) -> WindowLevel {
    let max = image.data().iter().copied().fold(0.0, f32::max);
    let high = [255.0, 65535.0].into_iter().find(|white| max <= *white).unwrap_or(max);
    WindowLevel { low: 0.0, high }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Shading;
    use sulcus_io::{Compression, encode_image, encode_labels};
    use sulcus_volume::{Orientation, RasFromVoxel, Spacing};
    use sulcus_volume::{RasPoint, VoxelIndex};

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
        let roles = files.iter().map(|file| scene.load(file, "", None).unwrap()).collect();
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
            assert_eq!(scene.values_here(), [5000.0], "{orientation}");
            assert_eq!(scene.position().unwrap().1, RasPoint([14.0, 18.0, 22.0]));
            for plane in Plane::ALL {
                // All planes have the same scale: 24 mm on 120 pixels are 10 pixels per voxel.
                let pixels = scene.draw(plane, [120, 120], 1);
                let bright: Vec<usize> = (0..120 * 120).filter(|i| pixels[i * 4] == 255).collect();
                let [columns, rows] = scene.frame(plane, [120, 120]).unwrap().start.map(|at| at as usize);
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
        assert!(scene.load(b"no such thing", "", None).unwrap_err().contains("NIfTI"));
        assert!(scene.load(&image_file("RAS")[..900], "", Some(Role::Image)).unwrap_err().contains("cut short"));
        let error = scene.load(&image_file("RAS"), "", Some(Role::Truth));
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

    #[test]
    fn neurological_convention_mirrors_pictures_letters_keys_and_clicks() {
        let (mut scene, _) = opened(&[image_file("RAS")]);
        scene.settings.crosshair = false;
        let canvas = [120, 120];
        for plane in Plane::ALL {
            let geometry = *scene.geometry().unwrap();
            let slice = extract_slice(&geometry, &vec![(); geometry.voxels()], plane, 0).unwrap();
            assert_eq!(scene.edges(plane), Some(slice.edges));
            let radiological = scene.draw(plane, canvas, 1);
            scene.settings.camera.neurological = true;
            let mirrored: Vec<u8> = scene
                .draw(plane, canvas, 1)
                .chunks(120 * 4)
                .flat_map(|row| row.as_chunks::<4>().0.iter().rev())
                .flatten()
                .copied()
                .collect();
            scene.settings.camera.neurological = false;
            assert_eq!(mirrored == radiological, plane != Plane::Sagittal, "{plane:?}");
        }
        scene.settings.camera.neurological = true;
        assert_eq!(scene.edges(Plane::Axial), Some(['L', 'R', 'A', 'P']));
        let x = |scene: &Scene| scene.position().unwrap().1.0[0];
        let before = x(&scene);
        scene.step(Plane::Axial, [1, 0, 0]);
        assert_eq!(x(&scene), before + 2.0, "to the patient's right, which is on the right");
        scene.point_at(Plane::Coronal, canvas, [119.0, 60.0]);
        assert_eq!(x(&scene), 14.0);
    }

    #[test]
    fn canvas_positions_are_patient_positions_and_back() {
        for (orientation, neurological) in [("RAS", false), ("PIL", true)] {
            let (mut scene, _) = opened(&[image_file(orientation)]);
            scene.settings.camera.neurological = neurological;
            scene.zoom(Plane::Axial, [200, 150], 2.5, [70.0, 20.0]);
            for plane in Plane::ALL {
                let canvas = [200, 150];
                let ras = scene.ras_at(plane, canvas, [61.0, 47.5]).unwrap();
                let voxel = scene.voxel_at(plane, canvas, [61.0, 47.5]).unwrap();
                let across = scene.axis_across(plane).unwrap();
                assert!((voxel[across] - scene.position().unwrap().0.0[across] as f64).abs() < 1e-9, "{plane:?}");
                let [x, y, away] = scene.canvas_at(plane, canvas, ras).unwrap();
                assert!((x - 61.0).abs() < 1e-9 && (y - 47.5).abs() < 1e-9 && away.abs() < 1e-9, "{plane:?}");
                let frame = scene.frame(plane, canvas).unwrap();
                let cursor = scene.cursor.unwrap();
                let [x, y] = frame.center_of(cursor.pixel(plane));
                let at = scene.ras_at(plane, canvas, [x, y]).unwrap();
                let expected = scene.position().unwrap().1;
                assert!(at.0.iter().zip(expected.0).all(|(a, b)| (a - b).abs() < 1e-9), "{at:?} {expected:?}");
            }
            scene.go_to_ras(RasPoint([2.9, 5.1, 0.0]));
            assert_eq!(scene.position().unwrap().1, RasPoint([2.0, 6.0, 0.0]));
            scene.go_to_ras(RasPoint([200.0, 5.1, 0.0]));
            assert_eq!(scene.position().unwrap().1, RasPoint([2.0, 6.0, 0.0]), "outside the grid");
        }
    }

    #[test]
    fn largest_and_worst_slices_are_found() {
        let geometry = grid("RAS", OrientationSource::Sform);
        let file = |voxels: &[[usize; 3]]| {
            let mut data = vec![0; geometry.voxels()];
            voxels.iter().for_each(|v| data[geometry.offset(VoxelIndex(*v)).unwrap()] = 1);
            let map = LabelMap::new(geometry, data).unwrap();
            encode_labels(&map, &geometry.into(), &LabelTable::default(), Compression::None).unwrap()
        };
        let mask = file(&[[1, 1, 2], [1, 2, 7], [2, 2, 7], [3, 2, 7], [5, 5, 9]]);
        let truth = file(&[[1, 1, 2], [1, 2, 7], [2, 2, 7], [3, 2, 7], [5, 7, 9], [5, 8, 9]]);
        let (mut scene, _) = opened(&[mask, truth]);
        scene.go_to_largest(Plane::Axial, 1);
        assert_eq!(scene.position().unwrap().0, VoxelIndex([2, 2, 7]));
        scene.go_to_worst(Plane::Axial);
        assert_eq!(scene.position().unwrap().0, VoxelIndex([5, 7, 9]));
        scene.go_to_worst(Plane::Sagittal);
        assert_eq!(scene.position().unwrap().0.0[0], 5);
        scene.show_label(1, false);
        scene.go_to_slice(Plane::Axial, 0);
        scene.go_to_worst(Plane::Axial);
        assert_eq!(scene.slices(Plane::Axial), Some([12, 0]), "hidden labels do not count");
    }

    #[test]
    fn comparisons_draw_what_they_name() {
        let geometry = grid("RAS", OrientationSource::Sform);
        let file = |label: Label| {
            let map = LabelMap::new(geometry, vec![label; geometry.voxels()]).unwrap();
            encode_labels(&map, &geometry.into(), &LabelTable::default(), Compression::None).unwrap()
        };
        let (mut scene, _) = opened(&[file(1), file(2)]);
        scene.settings.crosshair = false;
        (scene.settings.opacity, scene.settings.styles) = (1.0, [LabelStyle::Filled; 2]);
        let middle =
            |scene: &Scene, x: usize| scene.draw(Plane::Axial, [60, 60], 1)[(30 * 60 + x) * 4..][..3].to_vec();
        let [first, second] = [0, 1].map(|i| scene.label_stats()[i].entry.color.0.to_vec());
        scene.settings.comparison = Comparison::Swipe(0.5);
        assert_eq!([middle(&scene, 28), middle(&scene, 32)], [first.clone(), second.clone()]);
        scene.settings.comparison = Comparison::Only(Role::Mask);
        assert_eq!(middle(&scene, 32), first);
        scene.settings.comparison = Comparison::Only(Role::Truth);
        assert_eq!(middle(&scene, 28), second);
        scene.settings.comparison = Comparison::Difference;
        assert_eq!(middle(&scene, 28), [213, 94, 0]);
        scene.show_label(2, false);
        assert_eq!(middle(&scene, 28), [230, 159, 0], "only the mask has a label that is shown");
        scene.remove(Role::Truth);
        assert_eq!(middle(&scene, 28), first, "one alone cannot be compared");
    }

    #[test]
    fn painted_voxels_are_drawn_and_counted() {
        let (mut scene, _) = opened(&[image_file("PIR")]);
        scene.paint(Role::Mask, [(0, 1)]);
        assert!(!scene.has(Role::Mask));
        scene.add_labels(Role::Mask);
        assert_eq!(scene.label_map(Role::Mask).unwrap().geometry(), scene.geometry().unwrap());
        let offset = scene.geometry().unwrap().offset(scene.position().unwrap().0).unwrap();
        let before = scene.draw(Plane::Axial, [50, 60], 1);
        scene.paint(Role::Mask, [(offset, 4), (usize::MAX, 3)]);
        scene.finish_painting();
        assert_ne!(scene.draw(Plane::Axial, [50, 60], 1), before);
        assert_eq!((scene.label(Role::Mask), scene.label_stats()[0].voxels), (Some(4), [Some(1), None]));
        scene.measure_intensities();
        let value = f64::from(scene.values_here()[0]);
        assert_eq!(scene.label_stats()[0].intensity, Some(crate::Intensity { mean: value, sd: 0.0 }));
    }

    #[test]
    fn picture_is_drawn_in_its_colours_and_has_no_directions() {
        // Two pixels: red is 255 and 0, green 0 and 51, blue 102 and 0.
        let map = RasFromVoxel::aligned(Orientation::LPS, Spacing::new([1.0; 3]).unwrap());
        let grid = Geometry::new([2, 1, 1], map, OrientationSource::Sform).unwrap();
        let image = Image::new(grid, 3, vec![255.0, 0.0, 0.0, 51.0, 102.0, 0.0]).unwrap();
        let like = VolumeMetadata::from(grid).with_values(sulcus_io::VoxelType::Float32, 3);
        let file = encode_image(&image, &like, Compression::None).unwrap();
        let mut scene = Scene::default();
        scene.load_on(&file, "a.png", Some(Role::Image), Some(GridUnit::Pixel)).unwrap();
        scene.settings.crosshair = false;
        scene.settings.shading = Shading::Voxels;
        scene.settings.colormap = Colormap::Hot;
        let pixels = scene.draw(Plane::Axial, [2, 1], 1);
        assert_eq!(pixels, [255, 0, 102, 255, 0, 51, 0, 255]);
        assert_eq!((scene.channels(), scene.picture_unit()), (1, Some(GridUnit::Pixel)));
        assert_eq!((scene.edges(Plane::Axial), scene.sides_unknown(), scene.range()), (None, false, None));
        scene.point_at(Plane::Axial, [2, 1], [0.5, 0.5]);
        assert_eq!(scene.values_here(), [255.0, 0.0, 102.0]);
        // The same file as a scan has three volumes.
        scene.load(&file, "a.nii", Some(Role::Image)).unwrap();
        assert_eq!((scene.channels(), scene.picture_unit()), (3, None));
        assert_eq!(scene.edges(Plane::Axial), Some(['R', 'L', 'A', 'P']));
    }

    #[test]
    fn area_of_a_label_in_a_picture_is_no_volume() {
        let mask = mask_file(&grid("LPS", OrientationSource::Sform));
        let mut scene = Scene::default();
        scene.load_on(&mask, "a.png", Some(Role::Mask), Some(GridUnit::Pixel)).unwrap();
        assert_eq!((scene.label_stats()[0].voxels[0].is_some(), scene.label_stats()[0].ml), (true, [None, None]));
    }

    #[test]
    fn values_at_offsets_are_those_under_the_crosshair() {
        let (scene, _) = opened(&[image_file("LPS")]);
        let offset = scene.geometry().unwrap().offset(scene.position().unwrap().0).unwrap() as u32;
        let values = scene.values_at(&[offset, u32::MAX]);
        assert!(values[0] == scene.values_here()[0] && values[1].is_nan());
    }

    #[test]
    fn names_of_files_decide_between_mask_and_reference() {
        let mask = mask_file(&grid("RAS", OrientationSource::Sform));
        let mut scene = Scene::default();
        assert_eq!(scene.load(&mask, "labelsTr/a.nii", None), Ok(Role::Truth));
        assert_eq!(scene.load(&mask, "a.nii", None), Ok(Role::Mask));
        assert_eq!(scene.load(&mask, "a_pred.nii", None), Ok(Role::Mask));
        assert_eq!(
            scene.load(&image_file("RAS"), "a_pred.nii", None),
            Ok(Role::Image),
            "the content decides first"
        );
    }

    #[test]
    fn header_describes_the_grid_and_the_type() {
        let (scene, _) = opened(&[image_file("LPS")]);
        let header = scene.header(Role::Image);
        let value = |name: &str| header.iter().find(|(n, _)| *n == name).unwrap().1.as_str();
        assert_eq!((value("Shape"), value("Voxel size")), ("8 × 10 × 12", "2 × 2 × 2 mm"));
        assert_eq!((value("Orientation"), value("Type"), value("Placed by")), ("LPS", "float32", "sform"));
        assert!(scene.header(Role::Mask).is_empty());
    }
}
