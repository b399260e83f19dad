//! Writes the npm package `sulcus-viewer` into a folder; `cargo xtask npm` calls it.

use std::error::Error;
use std::fs;
use std::path::Path;

fn main() -> Result<(), Box<dyn Error>> {
    let folder = std::env::args_os().nth(1).ok_or("name the folder of the package")?;
    for (path, content) in sulcus_page::npm_package()? {
        let path = Path::new(&folder).join(path);
        fs::create_dir_all(path.parent().unwrap_or(Path::new(".")))?;
        fs::write(path, content)?;
    }
    Ok(())
}
