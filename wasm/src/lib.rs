//! The browser viewer: a scan, a predicted mask and a reference mask in three planes, in anatomical orientation.
//!
//! The viewer reads files, extracts slices, renders them, and computes the volume, the intensities and the scores of each label. It
//! does not run a model: no scan is preprocessed or segmented in the browser.
//!
//! All computation is in Rust and compiled to WebAssembly. The page (`page/viewer.js`) passes files and events in and draws
//! the pixels that it gets; it keeps no state of its own. [`Scene`] holds the state, [`render`](render()) turns a slice into pixels, and
//! [`Viewer`] is the interface for JavaScript. The crate also compiles natively, where its tests run.
//!
//! Positions on screen are indices on the *display grid*: towards the patient's left, posterior and inferior, whatever the
//! order of axes in the file (see [`Plane`](sulcus_volume::Plane)).
//!
//! ```
//! use sulcus_viewer::{Role, Scene};
//! use sulcus_volume::Plane;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let scan = std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/data/case/image.nii.gz"))?;
//! let mut scene = Scene::default();
//! assert_eq!(scene.load(&scan, "image.nii.gz", None)?, Role::Image);
//! let rgba = scene.draw(Plane::Axial, [320, 240], 1);
//! assert_eq!(rgba.len(), 320 * 240 * 4);
//! # Ok(())
//! # }
//! ```

mod bindings;
mod colormap;
mod compare;
mod display;
mod file_names;
mod label_heuristic;
mod label_stats;
mod render;
mod scene;
mod settings;
mod slab;

pub use bindings::Viewer;
pub use colormap::{ColorTable, Colormap};
pub use compare::{Difference, differences};
pub use display::{Camera, Cursor, DisplayGrid, Fit, Frame};
pub use file_names::{names_a_map, role_from_name};
pub use label_heuristic::looks_like_label_map;
pub use label_stats::{CountedLabels, Intensity, LabelStats, intensities, label_stats};
pub use render::{LabelLayer, MapLayer, Palette, PlaneView, render};
pub use scene::Scene;
pub use settings::{Comparison, LabelStyle, MapSettings, Projection, Role, Shading, ViewSettings};
pub use slab::{project, slab_slices};
