use std::path::{Path, PathBuf};

/// The root of the repository.
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// A file of the bundled scans, such as `case/image.nii.gz`.
pub fn bundled(path: &str) -> PathBuf {
    repository().join("examples/data").join(path)
}

/// The bundled scan that is not part of any training.
pub fn bundled_scan() -> PathBuf {
    bundled("case/image.nii.gz")
}

/// The reference mask of [`bundled_scan`].
pub fn bundled_truth() -> PathBuf {
    bundled("case/truth.nii.gz")
}

/// A file or folder of the larger development data. If it does not exist, that part of the
/// test counts as skipped; the target must run under `sulcus_harness`.
pub fn shared_data(name: &str) -> Option<PathBuf> {
    let path = repository().join("../shared/data").join(name);
    if path.exists() {
        return Some(path);
    }
    sulcus_harness::skip_part(format_args!("{name} is not on this machine"));
    None
}

/// Writes a file, with the folders that it is in.
pub fn write_file(path: &Path, bytes: &[u8]) {
    std::fs::create_dir_all(path.parent().expect("a file is in a folder")).expect("the folders can be made");
    std::fs::write(path, bytes).expect("the file can be written");
}
