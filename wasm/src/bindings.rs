//! The interface for JavaScript: thin wrappers around [`Scene`]. Structures are flat lists of numbers, which need no glue.

use sulcus_volume::{GridUnit, LabelEntry, LabelTable, Plane, RasPoint, Rgb, WindowLevel};
use wasm_bindgen::Clamped;
use wasm_bindgen::prelude::wasm_bindgen;

use crate::colormap::Colormap;
use crate::display::Fit;
use crate::label_stats::LabelStats;
use crate::scene::Scene;
use crate::settings::{Comparison, LabelStyle, Projection, Role, Shading};

/// A [`Scene`] with an interface of numbers and strings. Planes: 0 axial, 1 coronal, 2 sagittal. Roles: 0 image, 1 mask,
/// 2 reference, 3 map. Styles: 0 hidden, 1 filled, 2 outline. A value that is not known is NaN.
#[wasm_bindgen]
#[derive(Debug, Default)]
pub struct Viewer {
    scene: Scene,
}

fn plane(number: u8) -> Plane {
    match number {
        0 => Plane::Axial,
        1 => Plane::Coronal,
        _ => Plane::Sagittal,
    }
}

fn role(number: u8) -> Role {
    match number {
        0 => Role::Image,
        1 => Role::Mask,
        2 => Role::Truth,
        _ => Role::Map,
    }
}

fn or_nan(value: Option<f64>) -> f64 {
    value.unwrap_or(f64::NAN)
}

#[wasm_bindgen]
impl Viewer {
    /// An empty viewer.
    #[wasm_bindgen(constructor)]
    pub fn new() -> Self {
        Self::default()
    }

    /// Loads a file as `as_role`, or with an automatically detected role. Returns the role. `unit` is 0 for a scan and the unit of the
    /// grid of a picture: 1 millimetres along all axes, 2 millimetres along x and y alone, 3 pixels.
    ///
    /// # Errors
    /// A sentence that says why the file cannot be shown.
    pub fn load(&mut self, bytes: &[u8], name: &str, as_role: Option<u8>, unit: u8) -> Result<u8, String> {
        let unit = match unit {
            0 => None,
            1 => Some(GridUnit::Millimetre),
            2 => Some(GridUnit::MillimetreInPlane),
            _ => Some(GridUnit::Pixel),
        };
        self.scene.load_on(bytes, name, as_role.map(role), unit).map(|role| role as u8)
    }

    /// The unit of the displayed grid, as in [`Viewer::load`].
    pub fn unit(&self) -> u8 {
        self.scene.picture_unit().map_or(0, |unit| unit as u8 + 1)
    }

    /// The label names from a file, as JSON.
    pub fn label_text(&self, of_role: u8) -> Option<String> {
        self.scene.label_text(role(of_role)).map(str::to_owned)
    }

    /// Sets the names and colours of labels: one name a line; a colour is three numbers from 0 to 255.
    ///
    /// # Errors
    /// A sentence, when a value is 0 or a value or a name occurs twice.
    pub fn name_labels(&mut self, of_role: u8, values: &[u16], names: &str, colors: &[u8]) -> Result<(), String> {
        let entries = values.iter().zip(names.split('\n')).zip(colors.as_chunks::<3>().0);
        let entries = entries.map(|((value, name), color)| LabelEntry {
            value: *value,
            name: name.to_owned(),
            color: Rgb(*color),
        });
        let table = LabelTable::new(entries.collect()).map_err(|e| e.to_string())?;
        self.scene.name_labels(role(of_role), table);
        Ok(())
    }

    /// Closes a file.
    pub fn remove(&mut self, of_role: u8) {
        self.scene.remove(role(of_role));
    }

    /// Swaps mask and reference.
    pub fn swap_labels(&mut self) {
        self.scene.swap_labels();
    }

    /// Whether a file is loaded for a role.
    pub fn has(&self, of_role: u8) -> bool {
        self.scene.has(role(of_role))
    }

    /// Says which layers are not drawn, and why.
    pub fn problems(&self) -> String {
        self.scene.problems().join(" ")
    }

    /// The roles of the layers that are not drawn because they lie on another grid than the image.
    pub fn misplaced(&self) -> Vec<u8> {
        self.scene.misplaced().into_iter().map(|role| role as u8).collect()
    }

    /// Whether left and right are a guess, because the file has no orientation.
    pub fn sides_unknown(&self) -> bool {
        self.scene.sides_unknown()
    }

    /// The header of a file: a name, a tab and a value in each line.
    pub fn header(&self, of_role: u8) -> String {
        self.scene.header(role(of_role)).iter().flat_map(|(name, value)| [name, "\t", value, "\n"]).collect()
    }

    /// Draws a plane: `[height, width, 4]`, RGBA with 8 bits per channel.
    pub fn draw(&self, of_plane: u8, width: usize, height: usize, line: usize) -> Clamped<Vec<u8>> {
        Clamped(self.scene.draw(plane(of_plane), [width, height], line))
    }

    /// The number of slices of a plane and the index of the displayed one; empty when no file is loaded.
    pub fn slices(&self, of_plane: u8) -> Vec<usize> {
        self.scene.slices(plane(of_plane)).map(Vec::from).unwrap_or_default()
    }

    /// The letters at the left, right, top and bottom edge of a plane.
    pub fn edges(&self, of_plane: u8) -> String {
        self.scene.edges(plane(of_plane)).into_iter().flatten().collect()
    }

    /// Moves the crosshair to a canvas position.
    pub fn point_at(&mut self, of_plane: u8, width: usize, height: usize, x: f64, y: f64) {
        self.scene.point_at(plane(of_plane), [width, height], [x, y]);
    }

    /// Moves the crosshair by columns, rows and slices.
    pub fn step(&mut self, of_plane: u8, columns: i32, rows: i32, slices: i32) {
        self.scene.step(plane(of_plane), [columns, rows, slices]);
    }

    /// Moves the crosshair to a slice.
    pub fn go_to_slice(&mut self, of_plane: u8, slice: usize) {
        self.scene.go_to_slice(plane(of_plane), slice);
    }

    /// Moves the crosshair to a patient position.
    pub fn go_to_ras(&mut self, x: f64, y: f64, z: f64) {
        self.scene.go_to_ras(RasPoint([x, y, z]));
    }

    /// Moves the crosshair into a label.
    pub fn go_to(&mut self, label: u16) {
        self.scene.go_to(label);
    }

    /// Moves the crosshair into the slice with the largest area of a label.
    pub fn go_to_largest(&mut self, of_plane: u8, label: u16) {
        self.scene.go_to_largest(plane(of_plane), label);
    }

    /// Moves the crosshair into the slice in which mask and reference differ most.
    pub fn go_to_worst(&mut self, of_plane: u8) {
        self.scene.go_to_worst(plane(of_plane));
    }

    /// Changes the zoom by a factor, around a canvas position.
    pub fn zoom(&mut self, of_plane: u8, width: usize, height: usize, factor: f64, x: f64, y: f64) {
        self.scene.zoom(plane(of_plane), [width, height], factor, [x, y]);
    }

    /// Moves the picture by canvas pixels.
    pub fn pan(&mut self, of_plane: u8, width: usize, height: usize, x: f64, y: f64) {
        self.scene.pan(plane(of_plane), [width, height], [x, y]);
    }

    /// The zoom and, if the picture was moved, the position in the middle.
    pub fn camera(&self) -> Vec<f64> {
        let camera = self.scene.settings.camera;
        [camera.zoom].into_iter().chain(camera.center.into_iter().flatten()).collect()
    }

    /// Sets what [`Viewer::camera`] returns.
    pub fn set_camera(&mut self, values: &[f64]) {
        let camera = &mut self.scene.settings.camera;
        let center: Option<[f64; 3]> = values.get(1..4).and_then(|center| center.try_into().ok());
        if values.iter().all(|v| v.is_finite()) && values.first().is_some_and(|zoom| *zoom > 0.0) {
            (camera.zoom, camera.center) = (values[0].clamp(0.25, 40.0), center);
        }
    }

    /// The length of a canvas pixel in millimetres.
    pub fn mm_per_pixel(&self, of_plane: u8, width: usize, height: usize) -> Option<f64> {
        self.scene.mm_per_pixel(plane(of_plane), [width, height])
    }

    /// The patient position of a canvas position: RAS+ millimetres, empty without a file.
    pub fn ras_at(&self, of_plane: u8, width: usize, height: usize, x: f64, y: f64) -> Vec<f64> {
        let at = self.scene.ras_at(plane(of_plane), [width, height], [x, y]);
        at.map(|at| at.0.to_vec()).unwrap_or_default()
    }

    /// The voxel index, with fractions, of a canvas position, and the axis of the file across the slices of the plane.
    pub fn voxel_at(&self, of_plane: u8, width: usize, height: usize, x: f64, y: f64) -> Vec<f64> {
        let at = self.scene.voxel_at(plane(of_plane), [width, height], [x, y]);
        let across = self.scene.axis_across(plane(of_plane)).map(|axis| axis as f64);
        at.into_iter().flatten().chain(across).collect()
    }

    /// The canvas position of a patient position and its distance from the displayed slice in slices.
    pub fn canvas_at(&self, of_plane: u8, width: usize, height: usize, ras_mm: &[f64]) -> Vec<f64> {
        let Ok(ras) = ras_mm.try_into() else { return Vec::new() };
        let at = self.scene.canvas_at(plane(of_plane), [width, height], RasPoint(ras));
        at.map(Vec::from).unwrap_or_default()
    }

    /// The data under the crosshair: three voxel indices on the axes of the file, the position in RAS+ millimetres, the label
    /// in the mask and in the reference, and the image value, of colours three. Empty without a file.
    pub fn readout(&self) -> Vec<f64> {
        let Some((voxel, ras)) = self.scene.position() else { return Vec::new() };
        let labels = [Role::Mask, Role::Truth].map(|role| or_nan(self.scene.label(role).map(f64::from)));
        let value = self.scene.values_here().into_iter().map(f64::from);
        voxel.0.map(|i| i as f64).into_iter().chain(ras.0).chain(labels).chain(value).collect()
    }

    /// The label table: per label its value, red, green, blue, 1 if it is shown, voxels and ml in the mask, voxels and ml in the
    /// reference, Dice, IoU, and mean and SD of the image.
    pub fn labels(&mut self) -> Vec<f64> {
        self.scene.measure_intensities();
        let row = |label: &LabelStats| {
            let [r, g, b] = label.entry.color.0.map(f64::from);
            let [mask, truth] = label.voxels.map(|v| or_nan(v.map(|n| n as f64)));
            let [mask_ml, truth_ml] = label.ml.map(or_nan);
            let value = label.entry.value;
            let shown = f64::from(u8::from(self.scene.shows_label(value)));
            let [mean, sd] = label.intensity.map_or([f64::NAN; 2], |i| [i.mean, i.sd]);
            let scores = [or_nan(label.dice), or_nan(label.iou)];
            [f64::from(value), r, g, b, shown, mask, mask_ml, truth, truth_ml, scores[0], scores[1], mean, sd]
        };
        self.scene.label_stats().iter().flat_map(row).collect()
    }

    /// The names of the labels in the order of [`Viewer::labels`], one a line.
    pub fn names(&self) -> String {
        let names = self.scene.label_stats().iter().map(|label| label.entry.name.replace('\n', " "));
        names.collect::<Vec<_>>().join("\n")
    }

    /// Shows or hides a label.
    pub fn show_label(&mut self, label: u16, shown: bool) {
        self.scene.show_label(label, shown);
    }

    /// The displayed grid: its shape and the three rows of its transform from voxels to RAS+ millimetres.
    pub fn grid(&self) -> Vec<f64> {
        let Some(geometry) = self.scene.geometry() else { return Vec::new() };
        let shape = geometry.shape().map(|n| n as f64);
        shape.into_iter().chain(geometry.ras_from_voxel().rows().into_iter().flatten()).collect()
    }

    /// The voxels of a label layer, `[z, y, x]`; empty if it is not drawn.
    pub fn label_values(&self, of_role: u8) -> Vec<u16> {
        self.scene.label_map(role(of_role)).map(|map| map.data().to_vec()).unwrap_or_default()
    }

    /// Adds an empty mask or reference on the grid of the image.
    pub fn add_labels(&mut self, of_role: u8) {
        self.scene.add_labels(role(of_role));
    }

    /// Changes voxels of a label layer: pairs of an offset and a label.
    pub fn paint(&mut self, of_role: u8, changes: &[u32]) {
        let pairs = changes.as_chunks::<2>().0.iter().map(|[offset, label]| (*offset as usize, *label as u16));
        self.scene.paint(role(of_role), pairs);
    }

    /// Updates the label table after painting.
    pub fn finish_painting(&mut self) {
        self.scene.finish_painting();
    }

    /// The values of the displayed channel at some offsets; NaN without an image.
    pub fn values_at(&self, offsets: &[u32]) -> Vec<f32> {
        self.scene.values_at(offsets)
    }

    /// The smallest and largest value of the displayed channel; empty without an image.
    pub fn range(&self) -> Vec<f32> {
        self.scene.range().map(Vec::from).unwrap_or_default()
    }

    /// The intensities that are shown black and white.
    pub fn window(&self) -> Vec<f32> {
        let WindowLevel { low, high } = self.scene.settings.window;
        vec![low, high]
    }

    /// Sets the intensities that are shown black and white.
    pub fn set_window(&mut self, low: f32, high: f32) {
        if low < high {
            self.scene.settings.window = WindowLevel { low, high };
        }
    }

    /// Sets the window to percentiles, from 0 to 100.
    pub fn percentile_window(&mut self, low: f64, high: f64) {
        self.scene.settings.window = self.scene.percentile_window(low, high);
    }

    /// The colours of the window, 256 times red, green and blue.
    pub fn colors(&self) -> Vec<u8> {
        self.scene.settings.colormap.table().as_flattened().to_vec()
    }

    /// Sets the colour map by its number.
    pub fn set_colormap(&mut self, number: usize) {
        self.scene.settings.colormap = Colormap::ALL.get(number).copied().unwrap_or_default();
    }

    /// The number of channels of the map.
    pub fn map_channels(&self) -> usize {
        self.scene.map_channels()
    }

    /// The value of the map under the crosshair; NaN without one.
    pub fn map_value(&self) -> f64 {
        or_nan(self.scene.map_value().map(f64::from))
    }

    /// The channel of the map, and the values of its first and last colour.
    pub fn map_window(&self) -> Vec<f32> {
        let map = self.scene.settings.map;
        vec![map.channel as f32, map.window.low, map.window.high]
    }

    /// Shows another channel of the map, with a window that suits it.
    pub fn set_map_channel(&mut self, channel: usize) {
        self.scene.settings.map.channel = channel;
        self.scene.settings.map.window = self.scene.default_map_window();
    }

    /// Sets how the map is drawn: the number of its colour map, its window, and its opacity from 0 to 1.
    pub fn set_map(&mut self, colormap: usize, low: f32, high: f32, opacity: f32) {
        let map = &mut self.scene.settings.map;
        map.colormap = Colormap::ALL.get(colormap).copied().unwrap_or_default();
        map.opacity = opacity;
        if low < high {
            map.window = WindowLevel { low, high };
        }
    }

    /// The number of image channels.
    pub fn channels(&self) -> usize {
        self.scene.channels()
    }

    /// Shows another channel.
    pub fn set_channel(&mut self, channel: usize) {
        self.scene.set_channel(channel);
    }

    /// Sets the slab: its thickness in millimetres and the projection (0 maximum, 1 mean, 2 minimum).
    pub fn set_slab(&mut self, mm: f64, projection: u8) {
        self.scene.settings.slab_mm = mm;
        self.scene.settings.projection = match projection {
            0 => Projection::Maximum,
            1 => Projection::Mean,
            _ => Projection::Minimum,
        };
    }

    /// Sets the style of a label layer.
    pub fn set_style(&mut self, of_role: u8, style: u8) {
        let style = match style {
            0 => LabelStyle::Hidden,
            1 => LabelStyle::Filled,
            _ => LabelStyle::Outline,
        };
        let layer = usize::from(role(of_role) == Role::Truth);
        self.scene.settings.styles[layer] = style;
    }

    /// Sets the opacity of filled labels, 0 to 1.
    pub fn set_opacity(&mut self, opacity: f32) {
        self.scene.settings.opacity = opacity.clamp(0.0, 1.0);
    }

    /// Sets how mask and reference are compared: 0 both layers, 1 differences, 2 swipe at a fraction of the canvas, 3 only the
    /// mask, 4 only the reference.
    pub fn set_comparison(&mut self, comparison: u8, fraction: f64) {
        self.scene.settings.comparison = match comparison {
            0 => Comparison::Layers,
            1 => Comparison::Difference,
            2 => Comparison::Swipe(fraction),
            3 => Comparison::Only(Role::Mask),
            _ => Comparison::Only(Role::Truth),
        };
    }

    /// Sets whether intensities are interpolated linearly between voxel centres.
    pub fn set_smooth(&mut self, smooth: bool) {
        self.scene.settings.shading = if smooth { Shading::Smooth } else { Shading::Voxels };
    }

    /// Sets whether the crosshair is drawn.
    pub fn set_crosshair(&mut self, shown: bool) {
        self.scene.settings.crosshair = shown;
    }

    /// Sets whether the patient's left is on the left of axial and coronal pictures.
    pub fn set_neurological(&mut self, neurological: bool) {
        self.scene.settings.camera.neurological = neurological;
    }

    /// Sets whether one plane fills its canvas, instead of sharing the scale of all planes.
    pub fn set_single(&mut self, single: bool) {
        self.scene.settings.camera.fit = if single { Fit::OwnPlane } else { Fit::AllPlanes };
    }
}
