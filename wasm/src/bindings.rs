//! What JavaScript sees. Nothing is decided here.

use sulcus_volume::{LabelEntry, LabelTable, Plane, Rgb, WindowLevel};
use wasm_bindgen::Clamped;
use wasm_bindgen::prelude::wasm_bindgen;

use crate::{Role, Row, Scene, Shading, Style};

/// One row of the table of labels; what is not known is undefined.
#[wasm_bindgen(getter_with_clone)]
#[derive(Debug, Clone)]
pub struct LabelRow {
    /// The value in the file.
    pub value: u16,
    /// Its name.
    pub name: String,
    /// Its colour as `rgb(r, g, b)`.
    pub color: String,
    /// Voxels in the mask.
    pub mask_voxels: Option<f64>,
    /// Millilitres in the mask.
    pub mask_ml: Option<f64>,
    /// Voxels in the truth.
    pub truth_voxels: Option<f64>,
    /// Millilitres in the truth.
    pub truth_ml: Option<f64>,
    /// Dice of the two.
    pub dice: Option<f64>,
}

impl From<&Row> for LabelRow {
    fn from(row: &Row) -> Self {
        let [r, g, b] = row.entry.color.0;
        let [mask_voxels, truth_voxels] = row.voxels.map(|v| v.map(|n| n as f64));
        let [mask_ml, truth_ml] = row.ml;
        Self {
            value: row.entry.value,
            name: row.entry.name.clone(),
            color: format!("rgb({r}, {g}, {b})"),
            mask_voxels,
            mask_ml,
            truth_voxels,
            truth_ml,
            dice: row.dice,
        }
    }
}

/// What is under the crosshair.
#[wasm_bindgen(getter_with_clone)]
#[derive(Debug, Clone)]
pub struct Readout {
    /// Index on the axes of the file.
    pub voxel: Vec<u32>,
    /// Place in the patient in millimetres, RAS+.
    pub ras_mm: Vec<f64>,
    /// Intensity.
    pub value: Option<f32>,
    /// Name of the label in the mask; empty for the background.
    pub mask: Option<String>,
    /// Name of the label in the truth.
    pub truth: Option<String>,
}

/// The viewer: a [`Scene`] with plain numbers and strings around it. Planes are 0 axial, 1 coronal, 2 sagittal;
/// roles 0 image, 1 mask, 2 truth; styles 0 hidden, 1 filled, 2 outline.
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

    /// Opens a file as `as_role`, or as what it looks like; gives the role it has.
    ///
    /// # Errors
    /// What is wrong with the file, in a sentence.
    pub fn load(&mut self, bytes: &[u8], as_role: Option<u8>) -> Result<u8, String> {
        self.scene.load(bytes, as_role.map(role)).map(|role| role as u8)
    }

    /// The names of labels that a file carries: JSON.
    pub fn label_text(&self, of_role: u8) -> Option<String> {
        self.scene.label_text(role(of_role)).map(str::to_owned)
    }

    /// Names labels, and colours them: three numbers from 0 to 255 for each.
    ///
    /// # Errors
    /// When a value or a name occurs twice.
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

    /// Takes a file off.
    pub fn remove(&mut self, of_role: u8) {
        self.scene.remove(role(of_role));
    }

    /// Mask becomes truth, truth becomes mask.
    pub fn swap_labels(&mut self) {
        self.scene.swap_labels();
    }

    /// Whether a file is loaded for a role.
    pub fn has(&self, of_role: u8) -> bool {
        self.scene.has(role(of_role))
    }

    /// What cannot be shown, and why.
    pub fn problems(&self) -> String {
        self.scene.problems().join(" ")
    }

    /// Whether left and right are a guess.
    pub fn sides_unknown(&self) -> bool {
        self.scene.sides_unknown()
    }

    /// Pixels of a plane: RGBA, rows from the top.
    pub fn draw(&self, of_plane: u8, width: usize, height: usize, line: usize) -> Clamped<Vec<u8>> {
        Clamped(self.scene.draw(plane(of_plane), [width, height], line))
    }

    /// Slices of a plane and which is shown; empty when nothing is.
    pub fn slices(&self, of_plane: u8) -> Vec<usize> {
        self.scene.slices(plane(of_plane)).map(Vec::from).unwrap_or_default()
    }

    /// Letters at the left, right, top and bottom edge of a plane.
    pub fn edges(&self, of_plane: u8) -> String {
        self.scene.edges(plane(of_plane)).into_iter().flatten().collect()
    }

    /// Puts the crosshair under a canvas position.
    pub fn point_at(&mut self, of_plane: u8, width: usize, height: usize, x: f64, y: f64) {
        self.scene.point_at(plane(of_plane), [width, height], [x, y]);
    }

    /// Moves the crosshair by columns, rows and slices.
    pub fn step(&mut self, of_plane: u8, columns: i32, rows: i32, slices: i32) {
        self.scene.step(plane(of_plane), [columns, rows, slices]);
    }

    /// Puts the crosshair into a label.
    pub fn go_to(&mut self, label: u16) {
        self.scene.go_to(label);
    }

    /// What is under the crosshair.
    pub fn readout(&self) -> Option<Readout> {
        let (voxel, ras) = self.scene.place()?;
        let name = |of_role| {
            let label = self.scene.label(of_role)?;
            let row = self.scene.rows().iter().find(|row| row.entry.value == label);
            Some(row.map(|row| row.entry.name.clone()).unwrap_or_default())
        };
        Some(Readout {
            voxel: voxel.0.map(|i| i as u32).to_vec(),
            ras_mm: ras.0.to_vec(),
            value: self.scene.value(),
            mask: name(Role::Mask),
            truth: name(Role::Truth),
        })
    }

    /// The table of labels.
    pub fn labels(&self) -> Vec<LabelRow> {
        self.scene.rows().iter().map(LabelRow::from).collect()
    }

    /// Smallest and largest value of the image; empty without one.
    pub fn range(&self) -> Vec<f32> {
        self.scene.range().map(Vec::from).unwrap_or_default()
    }

    /// Black and white.
    pub fn window(&self) -> Vec<f32> {
        let WindowLevel { low, high } = self.scene.look.window;
        vec![low, high]
    }

    /// Sets black and white.
    pub fn set_window(&mut self, low: f32, high: f32) {
        if low < high {
            self.scene.look.window = WindowLevel { low, high };
        }
    }

    /// Sets black and white to what suits the image.
    pub fn auto_window(&mut self) {
        self.scene.look.window = self.scene.auto_window();
    }

    /// How many channels the image has.
    pub fn channels(&self) -> usize {
        self.scene.channels()
    }

    /// Shows another channel.
    pub fn set_channel(&mut self, channel: usize) {
        self.scene.set_channel(channel);
    }

    /// How a layer of labels is shown.
    pub fn set_style(&mut self, of_role: u8, style: u8) {
        let style = match style {
            0 => Style::Hidden,
            1 => Style::Filled,
            _ => Style::Outline,
        };
        let layer = usize::from(role(of_role) == Role::Truth);
        self.scene.look.styles[layer] = style;
    }

    /// Opacity of filled labels, 0 to 1.
    pub fn set_opacity(&mut self, opacity: f32) {
        self.scene.look.opacity = opacity.clamp(0.0, 1.0);
    }

    /// Whether greys are linear between voxel centres.
    pub fn set_smooth(&mut self, smooth: bool) {
        self.scene.look.shading = if smooth { Shading::Smooth } else { Shading::Voxels };
    }

    /// Whether the crosshair is drawn.
    pub fn set_crosshair(&mut self, shown: bool) {
        self.scene.look.crosshair = shown;
    }
}
