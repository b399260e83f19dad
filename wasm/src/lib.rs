//! The browser viewer: a scan, a mask and a truth in three planes, in true orientation.
//!
//! Everything heavy is here, in Rust: decoding, cutting, painting, counting. The page (`page/viewer.js`) moves
//! files and events in and pixels out, and holds no state of its own. [`Scene`] is the state, [`paint`] turns a
//! slice into pixels, [`Viewer`] is what JavaScript sees. The crate also compiles natively, where its tests run.
//!
//! Positions on screen are counted on the *display grid*: columns towards the patient's left, then posterior, then
//! inferior, whatever the order of axes in the file (see [`Plane`](sulcus_volume::Plane)).

mod bindings;
mod display;
mod guess;
mod paint;
mod scene;
mod tally;

pub use bindings::{LabelRow, Readout, Viewer};
pub use display::{Cursor, DisplayGrid, Frame};
pub use guess::looks_like_labels;
pub use paint::{Layer, Palette, Picture, Shading, Style, paint};
pub use scene::{Look, Role, Scene};
pub use tally::{Row, tally};
