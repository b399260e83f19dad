//! The libraries inside a wheel.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, copy};
use std::path::{Path, PathBuf};

use super::{Hash, Hashing};
use crate::error::{CliError, Context};
use crate::output::human_bytes;

/// Three times the unpacked size of the package with NVIDIA's providers, in bytes.
const MAX_UNPACKED_BYTES: u64 = 4 << 30;

/// The unpacked files.
#[derive(Debug)]
pub(crate) struct Unpacked {
    /// ONNX Runtime itself.
    pub(crate) library: PathBuf,
    /// The hash of each file by name.
    pub(crate) files: BTreeMap<String, Hash>,
}

/// Unpacks the libraries of a wheel into a folder.
pub(crate) fn unpack(wheel: File, folder: &Path) -> Result<Unpacked, CliError> {
    unpack_at_most(wheel, folder, MAX_UNPACKED_BYTES)
}

fn unpack_at_most(wheel: File, folder: &Path, max_bytes: u64) -> Result<Unpacked, CliError> {
    let mut archive = zip::ZipArchive::new(wheel).context("opening the wheel")?;
    let (mut library, mut files) = (None, BTreeMap::new());
    let mut left = max_bytes;
    for index in 0..archive.len() {
        let member = archive.by_index(index).context("reading the wheel")?;
        let name = member.name().context("reading the wheel")?.into_owned();
        let Some(file) = sulcus_runtime::ort::wheel_member(&name) else { continue };
        let path = folder.join(file);
        let out = File::create_new(&path).context(format_args!("writing {}", path.display()))?;
        let mut out = Hashing::new(out);
        // The size in the member's header is not trusted.
        copy(&mut member.take(left.saturating_add(1)), &mut out)
            .context(format_args!("unpacking {}", path.display()))?;
        left = left.checked_sub(out.written()).ok_or_else(|| {
            CliError::failed(format_args!("the unpacked wheel exceeds the limit of {}", human_bytes(max_bytes)))
        })?;
        let (hash, _) = out.finish().context(format_args!("writing {}", path.display()))?;
        files.insert(file.to_owned(), hash);
        if file.contains("onnxruntime") && !file.contains("onnxruntime_providers_") {
            library = Some(path);
        }
    }
    let library = library.ok_or_else(|| {
        CliError::failed("the wheel contains no ONNX Runtime library for this system (onnxruntime/capi/libonnxruntime*)")
            .hint("give a wheel of the package onnxruntime, onnxruntime-gpu or onnxruntime-openvino that was made for this system")
    })?;
    Ok(Unpacked { library, files })
}

#[cfg(test)]
mod tests {
    use std::io::{Seek, Write};

    use zip::write::SimpleFileOptions;

    use super::*;

    fn wheel(members: &[(&str, usize)]) -> File {
        let mut writer = zip::ZipWriter::new(tempfile::tempfile().unwrap());
        for (name, bytes) in members {
            writer.start_file(*name, SimpleFileOptions::default()).unwrap();
            writer.write_all(&vec![0; *bytes]).unwrap();
        }
        let mut file = writer.finish().unwrap();
        file.rewind().unwrap();
        file
    }

    fn library() -> &'static str {
        if cfg!(windows) {
            "onnxruntime/capi/onnxruntime.dll"
        } else if cfg!(target_vendor = "apple") {
            "onnxruntime/capi/libonnxruntime.1.32.0.dylib"
        } else {
            "onnxruntime/capi/libonnxruntime.so.1.32.0"
        }
    }

    #[test]
    fn libraries_are_unpacked_with_their_hashes_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let members = [
            (library(), 1000),
            ("onnxruntime/capi/libonnxruntime_providers_shared.so", 10),
            ("onnxruntime/__init__.py", 10),
            ("../libonnxruntime.so.1", 10),
        ];
        let unpacked = unpack(wheel(&members), folder.path()).unwrap();
        assert_eq!(unpacked.library, folder.path().join(library().rsplit_once('/').unwrap().1));
        assert_eq!((unpacked.files.len(), std::fs::read_dir(folder.path()).unwrap().count()), (2, 2));
        assert_eq!(unpacked.files.values().filter(|hash| **hash == thousand_zeros_hash()).count(), 1);
    }

    fn thousand_zeros_hash() -> Hash {
        let mut hashing = Hashing::new(Vec::new());
        hashing.write_all(&[0; 1000]).unwrap();
        hashing.finish().unwrap().0
    }

    #[test]
    fn wheel_that_inflates_beyond_the_limit_is_refused() {
        let members = [("onnxruntime/capi/libonnxruntime_providers_shared.so", 600_000), (library(), 400_000)];
        let unpacked = |max| unpack_at_most(wheel(&members), tempfile::tempdir().unwrap().path(), max);
        assert_eq!(unpacked(1_000_000).unwrap().files.len(), 2);
        let CliError::Failed { message, .. } = unpacked(999_999).unwrap_err() else {
            panic!("expected a failure")
        };
        assert!(message.contains("exceeds the limit of 1000.0 kB"), "{message}");
    }
}
