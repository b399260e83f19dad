//! The interface for JavaScript: thin wrappers around [`Scene`].

use sulcus_volume::{LabelEntry, LabelTable, Plane, Rgb, WindowLevel};
use wasm_bindgen::Clamped;
use wasm_bindgen::prelude::wasm_bindgen;

use crate::label_stats::LabelStats;
use crate::scene::Scene;
use crate::settings::{LabelStyle, Role, Shading};

/// One row of the label table. Unknown values are undefined in JavaScript.
#[wasm_bindgen(getter_with_clone)]
#[derive(Debug, Clone)]
pub struct LabelRow {
    /// The value of the label.
    pub value: u16,
    /// The name of the label.
    pub name: String,
    /// The colour as `rgb(r, g, b)`.
    pub color: String,
    /// The number of voxels in the mask.
    pub mask_voxels: Option<f64>,
    /// The volume in the mask in millilitres.
    pub mask_ml: Option<f64>,
    /// The number of voxels in the reference.
    pub truth_voxels: Option<f64>,
    /// The volume in the reference in millilitres.
    pub truth_ml: Option<f64>,
    /// The Dice of mask and reference.
    pub dice: Option<f64>,
}

impl From<&LabelStats> for LabelRow {
    fn from(stats: &LabelStats) -> Self {
        let [r, g, b] = stats.entry.color.0;
        let [mask_voxels, truth_voxels] = stats.voxels.map(|v| v.map(|n| n as f64));
        let [mask_ml, truth_ml] = stats.ml;
        Self {
            value: stats.entry.value,
            name: stats.entry.name.clone(),
            color: format!("rgb({r}, {g}, {b})"),
            mask_voxels,
            mask_ml,
            truth_voxels,
            truth_ml,
            dice: stats.dice,
        }
    }
}

/// The data under the crosshair.
#[wasm_bindgen(getter_with_clone)]
#[derive(Debug, Clone)]
pub struct Readout {
    /// The voxel index on the axes of the file.
    pub voxel: Vec<u32>,
    /// The position in the patient in RAS+ millimetres.
    pub ras_mm: Vec<f64>,
    /// The image value.
    pub value: Option<f32>,
    /// The name of the label in the mask; empty for the background.
    pub mask: Option<String>,
    /// The name of the label in the reference; empty for the background.
    pub truth: Option<String>,
}

/// A [`Scene`] with an interface of numbers and strings. Planes: 0 axial, 1 coronal, 2 sagittal. Roles: 0 image, 1 mask,
/// 2 reference. Styles: 0 hidden, 1 filled, 2 outline.
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
        _ => Role::Truth,
    }
}

#[wasm_bindgen]
impl Viewer {
    /// An empty viewer.
    #[wasm_bindgen(constructor)]
    pub fn new() -> Self {
        Self::default()
    }

    /// Loads a file as `as_role`, or with an automatically detected role. Returns the role.
    ///
    /// # Errors
    /// A sentence that says why the file cannot be shown.
    pub fn load(&mut self, bytes: &[u8], as_role: Option<u8>) -> Result<u8, String> {
        self.scene.load(bytes, as_role.map(role)).map(|role| role as u8)
    }

    /// The label names from a file, as JSON.
    pub fn label_text(&self, of_role: u8) -> Option<String> {
        self.scene.label_text(role(of_role)).map(str::to_owned)
    }

    /// Sets the names and colours of labels; a colour is three numbers from 0 to 255.
    ///
    /// # Errors
    /// A sentence, when a value is 0 or a value or a name occurs twice.
    pub fn name_labels(
        &mut self,
        of_role: u8,
        values: Vec<u16>,
        names: Vec<String>,
        colors: &[u8],
    ) -> Result<(), String> {
        let entries = values.into_iter().zip(names).zip(colors.as_chunks::<3>().0);
        let entries = entries.map(|((value, name), color)| LabelEntry { value, name, color: Rgb(*color) });
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

    /// Whether left and right are a guess, because the file has no orientation.
    pub fn sides_unknown(&self) -> bool {
        self.scene.sides_unknown()
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

    /// Moves the crosshair into a label.
    pub fn go_to(&mut self, label: u16) {
        self.scene.go_to(label);
    }

    /// The data under the crosshair.
    pub fn readout(&self) -> Option<Readout> {
        let (voxel, ras) = self.scene.position()?;
        let name = |of_role| {
            let label = self.scene.label(of_role)?;
            let stats = self.scene.label_stats().iter().find(|stats| stats.entry.value == label);
            Some(stats.map(|stats| stats.entry.name.clone()).unwrap_or_default())
        };
        Some(Readout {
            voxel: voxel.0.map(|i| i as u32).to_vec(),
            ras_mm: ras.0.to_vec(),
            value: self.scene.value(),
            mask: name(Role::Mask),
            truth: name(Role::Truth),
        })
    }

    /// The label table.
    pub fn labels(&self) -> Vec<LabelRow> {
        self.scene.label_stats().iter().map(LabelRow::from).collect()
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

    /// Sets the window automatically.
    pub fn auto_window(&mut self) {
        self.scene.settings.window = self.scene.auto_window();
    }

    /// The number of image channels.
    pub fn channels(&self) -> usize {
        self.scene.channels()
    }

    /// Shows another channel.
    pub fn set_channel(&mut self, channel: usize) {
        self.scene.set_channel(channel);
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

    /// Sets whether intensities are interpolated linearly between voxel centres.
    pub fn set_smooth(&mut self, smooth: bool) {
        self.scene.settings.shading = if smooth { Shading::Smooth } else { Shading::Voxels };
    }

    /// Sets whether the crosshair is drawn.
    pub fn set_crosshair(&mut self, shown: bool) {
        self.scene.settings.crosshair = shown;
    }
}
