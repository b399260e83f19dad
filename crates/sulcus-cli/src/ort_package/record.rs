//! The record of an installation: the files of ONNX Runtime with their hashes, which `sulcus doctor` compares.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{ErrorKind, Write, copy};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{Hash, Hashing};
use crate::error::{CliError, Context};

const FORMAT_VERSION: u32 = 1;

/// The content of [`InstallRecord::FILE`].
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct InstallRecord {
    format_version: u32,
    wheel: String,
    wheel_sha256: String,
    /// The SHA-256 of each unpacked file.
    files: BTreeMap<String, String>,
}

impl InstallRecord {
    /// Name of the record in the folder of the library.
    const FILE: &str = "install.json";

    pub(crate) fn new(wheel: String, hash: &Hash, files: &BTreeMap<String, Hash>) -> Self {
        let files = files.iter().map(|(name, hash)| (name.clone(), hash.to_string())).collect();
        Self { format_version: FORMAT_VERSION, wheel, wheel_sha256: hash.to_string(), files }
    }

    /// Writes the record into the folder of the library.
    ///
    /// # Errors
    /// If there is a record already, or it cannot be written.
    pub(crate) fn write(&self, folder: &Path) -> Result<(), CliError> {
        let mut text = serde_json::to_vec_pretty(self).context("describing the installation")?;
        text.push(b'\n');
        let path = folder.join(Self::FILE);
        File::create_new(&path)
            .and_then(|mut file| file.write_all(&text))
            .context(format_args!("writing {}", path.display()))
    }

    /// Compares the files in a folder with its record.
    ///
    /// # Errors
    /// A sentence that names the first file that is missing or was changed, or describes an invalid record. A folder without a
    /// record was not installed by this program and is not checked.
    pub(crate) fn check(folder: &Path) -> Result<(), String> {
        let path = folder.join(Self::FILE);
        let text = match std::fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            Err(error) => {
                return Err(format!("the record of the installation cannot be read: {error}: {}", path.display()));
            }
        };
        let invalid =
            |reason: String| format!("the record of the installation is invalid: {reason}: {}", path.display());
        let record: Self = serde_json::from_slice(&text).map_err(|e| invalid(e.to_string()))?;
        if record.format_version != FORMAT_VERSION {
            return Err(invalid(format!(
                "its format version is {}, this program knows {FORMAT_VERSION}",
                record.format_version
            )));
        }
        for (name, expected) in &record.files {
            let path = folder.join(name);
            let hash = hash_of(&path)
                .map_err(|e| format!("an installed file cannot be read: {e}: {}", path.display()))?;
            if hash.to_string() != *expected {
                return Err(format!(
                    "an installed file was changed after the installation: its SHA-256 is {hash}, expected {expected}: {}",
                    path.display()
                ));
            }
        }
        Ok(())
    }
}

fn hash_of(path: &Path) -> std::io::Result<Hash> {
    let mut hashing = Hashing::new(std::io::sink());
    copy(&mut File::open(path)?, &mut hashing)?;
    hashing.finish().map(|(hash, _)| hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_and_changed_files_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        assert_eq!(InstallRecord::check(root), Ok(()), "a folder without a record");
        let library = root.join("library.so");
        std::fs::write(&library, "code").unwrap();
        let hash = hash_of(&library).unwrap();
        let files = BTreeMap::from([("library.so".to_owned(), hash.clone())]);
        InstallRecord::new("a.whl".into(), &hash, &files).write(root).unwrap();
        assert_eq!(InstallRecord::check(root), Ok(()));
        std::fs::write(&library, "other").unwrap();
        let message = InstallRecord::check(root).unwrap_err();
        assert!(
            message.starts_with("an installed file was changed") && message.ends_with("library.so"),
            "{message}"
        );
        std::fs::remove_file(&library).unwrap();
        assert!(InstallRecord::check(root).unwrap_err().starts_with("an installed file cannot be read"));
        for (record, reason) in
            [("{", "EOF"), (r#"{"format_version":2,"wheel":"","wheel_sha256":"","files":{}}"#, "knows 1")]
        {
            std::fs::write(root.join(InstallRecord::FILE), record).unwrap();
            let message = InstallRecord::check(root).unwrap_err();
            assert!(message.contains(reason) && message.ends_with("install.json"), "{message}");
        }
    }
}
