//! Fixtures, and files that are made of them.

#![allow(dead_code, reason = "each test uses a part")]

use std::collections::BTreeMap;
use std::fs;
use std::io::{Cursor, Read, Write};
use std::path::{Path, PathBuf};

use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipArchive, ZipWriter};

/// A fixture: an archive as nnU-Net exports it. `tests/peers/nnunet_import.py` made it.
pub(crate) fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(format!("{name}.zip"))
}

/// The files of an archive by name.
pub(crate) fn unpack(archive: &[u8]) -> BTreeMap<String, Vec<u8>> {
    let mut archive = ZipArchive::new(Cursor::new(archive)).unwrap();
    let mut files = BTreeMap::new();
    for i in 0..archive.len() {
        let mut entry = archive.by_index(i).unwrap();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        files.insert(entry.name().unwrap().to_string(), bytes);
    }
    files
}

/// An archive of these files.
pub(crate) fn pack(files: &BTreeMap<String, Vec<u8>>, compression: CompressionMethod) -> Vec<u8> {
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, bytes) in files {
        writer.start_file(name.as_str(), SimpleFileOptions::default().compression_method(compression)).unwrap();
        writer.write_all(bytes).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

/// A fixture as a folder that can be changed.
pub(crate) struct Model {
    folder: tempfile::TempDir,
    inside: PathBuf,
}

impl Model {
    pub(crate) fn new(name: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let files = unpack(&fs::read(fixture(name)).unwrap());
        let mut inside = PathBuf::new();
        for (file, bytes) in files {
            let path = folder.path().join(&file);
            sulcus_testing::write_file(&path, &bytes);
            if file.ends_with("/plans.json") {
                inside = path.parent().unwrap().to_path_buf();
            }
        }
        Self { folder, inside }
    }

    /// The folder with plans.json.
    pub(crate) fn path(&self) -> &Path {
        &self.inside
    }

    /// The folder that the archive was unpacked into.
    pub(crate) fn root(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn read(&self, file: &str) -> Vec<u8> {
        fs::read(self.inside.join(file)).unwrap()
    }

    pub(crate) fn write(&self, file: &str, bytes: &[u8]) {
        sulcus_testing::write_file(&self.inside.join(file), bytes);
    }

    /// Changes a JSON file.
    pub(crate) fn edit(&self, file: &str, change: impl FnOnce(&mut serde_json::Value)) {
        let mut value = serde_json::from_slice(&self.read(file)).unwrap();
        change(&mut value);
        self.write(file, value.to_string().as_bytes());
    }

    /// Changes the files inside the checkpoint of fold 0.
    pub(crate) fn edit_checkpoint(&self, change: impl FnOnce(&mut BTreeMap<String, Vec<u8>>)) {
        let mut files = unpack(&self.read(CHECKPOINT));
        change(&mut files);
        self.write(CHECKPOINT, &pack(&files, CompressionMethod::Stored));
    }
}

pub(crate) const CHECKPOINT: &str = "fold_0/checkpoint_final.pth";
pub(crate) const PICKLE: &str = "checkpoint_final/data.pkl";

/// A pickle of protocol 2 that calls `module.name(text)`.
pub(crate) fn call(module: &str, name: &str, text: &str) -> Vec<u8> {
    let mut pickle = vec![0x80, 2];
    pickle.extend(format!("c{module}\n{name}\n").bytes());
    pickle.push(b'X');
    pickle.extend((text.len() as u32).to_le_bytes());
    pickle.extend(text.bytes());
    pickle.extend([0x85, b'R', b'.']);
    pickle
}

/// The same pseudo-random numbers on every machine.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        // Knuth's MMIX generator; its high bits are the better ones.
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) as usize) % limit.max(1)
    }
}
