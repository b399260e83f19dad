use sha2::{Digest, Sha256};

use crate::case::Case;
use crate::finding::FileFinding;

/// SHA-256 of all files of a case, in hexadecimal.
pub(crate) fn hash_files(case: &Case) -> Result<String, FileFinding> {
    let mut sha = Sha256::new();
    // Header and voxels may be two files.
    for file in case.images.iter().chain([&case.label]).flat_map(|path| sulcus_io::input_files(path)) {
        let bytes = std::fs::read(&file).map_err(|e| FileFinding { file: file.clone(), what: e.to_string() })?;
        sha.update((bytes.len() as u64).to_le_bytes());
        sha.update(bytes);
    }
    Ok(hex(&sha.finalize()))
}

/// Lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}
