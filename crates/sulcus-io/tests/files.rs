//! Files: missing files, folders, pairs, permissions, and atomic writing.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

#[macro_use]
extern crate sulcus_harness;

use std::fs;
use std::io;
use std::path::Path;

use sulcus_io::{read_info, read_labels, read_metadata, read_scan, write_atomically};
use sulcus_testing::{NiftiFile, gzip};

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

#[track_caller]
fn refused(path: &Path, expected: &str) {
    let error = read_info(path).unwrap_err().to_string();
    assert_eq!(error, format!("{expected}: {}", path.display()));
    assert_eq!(read_labels(path).unwrap_err().to_string(), error);
}

#[test]
fn missing_files_folders_and_empty_files_are_refused() {
    let folder = folder();
    let here = |name: &str| folder.path().join(name);
    refused(&here("no.nii"), "cannot read the volume: there is no such file; check the path");
    refused(
        &here("no/no.nii"),
        "cannot read the volume: its folder does not exist; create it or correct the path",
    );
    refused(folder.path(), "cannot read the volume: expected a file, found a folder; name a file in it");
    fs::write(here("empty.nii.gz"), []).unwrap();
    refused(
        &here("empty.nii.gz"),
        "cannot read a volume: the file is empty (0 bytes); it was not copied or written to its end, get it again",
    );
}

#[test]
fn metadata_are_read_without_voxels() {
    let folder = folder();
    let here = |name: &str| folder.path().join(name);
    let whole = NiftiFile::default().bytes();
    fs::write(here("cut.nii"), &whole[..352]).unwrap();
    fs::write(here("whole.nii.gz"), gzip(&whole, true)).unwrap();
    for name in ["cut.nii", "whole.nii.gz"] {
        let header = read_metadata(&here(name)).unwrap();
        assert_eq!((header.geometry().shape(), header.channels()), ([2, 3, 4], 1), "{name}");
    }
    fs::write(here("alone.img"), [0; 24]).unwrap();
    assert!(read_metadata(&here("alone.img")).unwrap_err().to_string().contains("alone.hdr"));
    assert!(read_metadata(&here("no.nii")).is_err());
}

#[test]
fn error_messages_end_with_the_path() {
    let folder = folder();
    let path = folder.path().join("cut.nii");
    fs::write(&path, &NiftiFile::default().bytes()[..360]).unwrap();
    refused(
        &path,
        "cannot read the voxels: the header announces shape 2 × 3 × 4 of uint8, 376 bytes with what comes before them, but the file holds 360; it was cut short or its header is wrong, get it again",
    );
    let error = read_info(&path).unwrap_err();
    assert_eq!(error.path(), Some(path.as_path()));
}

#[test]
fn gzip_is_detected_from_content() {
    let folder = folder();
    let bytes = NiftiFile::default().bytes();
    for (name, content) in [("a.nii", gzip(&bytes, false)), ("b.nii.gz", bytes.clone()), ("c.dat", bytes)] {
        let path = folder.path().join(name);
        fs::write(&path, content).unwrap();
        assert_eq!(read_scan(&path).unwrap().image.data()[23], 23.0, "{name}");
    }
}

#[test]
fn either_file_of_a_pair_opens_both() {
    let pair = NiftiFile { magic: *b"ni1\0", vox_offset: 0.0, ..NiftiFile::default() };
    let names = [("a.hdr", "a.img"), ("B.HDR", "B.IMG"), ("c.hdr.gz", "c.img.gz"), ("d.hdr", "d.img.gz")];
    let folder = folder();
    for (header, voxels) in names.map(|(a, b)| (folder.path().join(a), folder.path().join(b))) {
        let packed = |path: &Path, bytes: Vec<u8>| {
            let gz = path.extension().is_some_and(|e| e == "gz");
            fs::write(path, if gz { gzip(&bytes, false) } else { bytes }).unwrap();
        };
        packed(&header, pair.header());
        packed(&voxels, pair.voxels.clone());
        for path in [&header, &voxels] {
            assert_eq!(read_scan(path).unwrap().image.data()[23], 23.0, "{}", path.display());
        }
    }
}

#[test]
fn missing_file_of_a_pair_is_named() {
    let folder = folder();
    let (header, voxels) = (folder.path().join("a.hdr"), folder.path().join("b.img"));
    fs::write(&header, NiftiFile { magic: *b"ni1\0", ..NiftiFile::default() }.header()).unwrap();
    fs::write(&voxels, [0; 24]).unwrap();
    refused(
        &header,
        "cannot read a volume: the second file of the pair is missing, expected a.img or a.img.gz beside a.hdr; copy both files",
    );
    refused(
        &voxels,
        "cannot read a volume: the second file of the pair is missing, expected b.hdr or b.hdr.gz beside b.img; copy both files",
    );
    // The voxel file is too short, so the error names it.
    fs::write(folder.path().join("a.img"), [0; 20]).unwrap();
    let error = read_info(&header).unwrap_err();
    assert_eq!(error.path(), Some(folder.path().join("a.img").as_path()));
}

#[test]
fn failed_write_keeps_the_old_file() {
    let folder = folder();
    let path = folder.path().join("out.txt");
    write_atomically(&path, |file| file.write_all(b"first")).unwrap();
    let error = write_atomically(&path, |file| {
        file.write_all(b"half of the sec")?;
        Err(io::Error::from(io::ErrorKind::StorageFull))
    });
    assert_eq!(
        error.unwrap_err().to_string(),
        format!(
            "cannot write the file: the disk is full; free some space or use another disk: {}",
            path.display()
        )
    );
    assert_eq!(fs::read(&path).unwrap(), b"first");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "the temporary file was left behind");
    write_atomically(&path, |file| file.write_all(b"second")).unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"second");
}

#[test]
fn writing_to_a_missing_folder_or_onto_a_folder_is_refused() {
    let folder = folder();
    let fails = |path: &Path| write_atomically(path, |file| file.write_all(b"x")).unwrap_err().to_string();
    let nowhere = folder.path().join("no/out.nii");
    assert_eq!(
        fails(&nowhere),
        format!(
            "cannot write the file: its folder does not exist; create it or correct the path: {}",
            nowhere.display()
        )
    );
    assert_eq!(
        fails(folder.path()),
        format!(
            "cannot write the file: expected a file, found a folder; name a file in it: {}",
            folder.path().display()
        )
    );
}

#[cfg(unix)]
#[test]
fn new_files_have_default_permissions() {
    use std::os::unix::fs::PermissionsExt;
    let folder = folder();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let (ordinary, ours) = (folder.path().join("a"), folder.path().join("b"));
    fs::write(&ordinary, "x").unwrap();
    write_atomically(&ours, |file| file.write_all(b"x")).unwrap();
    assert_eq!(mode(&ours), mode(&ordinary));
}

#[cfg(unix)]
#[test]
fn read_only_folder_is_refused() {
    use std::os::unix::fs::PermissionsExt;
    let folder = folder();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o555)).unwrap();
    let path = folder.path().join("out.nii");
    let result = write_atomically(&path, |file| file.write_all(b"x"));
    let may_write_anywhere = fs::write(folder.path().join("probe"), "x").is_ok();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    if may_write_anywhere {
        sulcus_harness::skip("this user may write to any folder");
    }
    assert_eq!(
        result.unwrap_err().to_string(),
        format!(
            "cannot write the file: permission denied; ask for access, or use a folder of your own: {}",
            path.display()
        )
    );
}

#[cfg(target_os = "linux")]
#[test]
fn devices_are_written_directly() {
    use std::os::unix::fs::FileTypeExt;
    let full = Path::new("/dev/full");
    assert_eq!(
        write_atomically(full, |file| file.write_all(&[0; 1 << 16])).unwrap_err().to_string(),
        "cannot write the file: the disk is full; free some space or use another disk: /dev/full"
    );
    assert!(fs::metadata(full).unwrap().file_type().is_char_device());
}

sulcus_harness::main!();
