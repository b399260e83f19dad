//! Writes the seeds to `corpus/TARGET/seed-NAME`, where the fuzzer finds them.

use std::path::Path;

fn main() -> std::io::Result<()> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let model = std::fs::read(here.join("../../models/hippocampus/model.onnx"))?;
    for seed in sulcus_fuzz::seeds::all(&model) {
        let folder = here.join("corpus").join(seed.target);
        std::fs::create_dir_all(&folder)?;
        std::fs::write(folder.join(format!("seed-{}", seed.name)), seed.bytes)?;
    }
    Ok(())
}
