//! The built viewer (`wasm/dist`): its files as a server needs them, and as pages of one file, which open from disk and can carry the data
//! that they show.

mod npm;
mod single;

use include_dir::{Dir, include_dir};

pub use npm::{element_script, npm_package};
pub use single::{PageError, SinglePage};

static BUILT: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/../../wasm/dist");

/// The content of a file of the built viewer, such as `index.html`; `None` for other names.
pub fn file(name: &str) -> Option<&'static [u8]> {
    BUILT.get_file(name).map(include_dir::File::contents)
}
