//! What errors of the operating system mean.

use std::io::{self, ErrorKind};
use std::path::Path;

use crate::error::IoErrorKind;

/// Describes an error of the operating system and what to do about it.
pub(crate) fn io_error_kind(action: &'static str, path: &Path, cause: io::Error) -> IoErrorKind {
    let reason = match cause.kind() {
        ErrorKind::NotFound => {
            let folder = path.parent().filter(|p| !p.as_os_str().is_empty());
            match folder {
                Some(folder) if !folder.exists() => {
                    "its folder does not exist; create it or correct the path".into()
                }
                _ => "there is no such file; check the path".into(),
            }
        }
        ErrorKind::PermissionDenied => "permission denied; ask for access, or use a folder of your own".into(),
        ErrorKind::StorageFull => "the disk is full; free some space or use another disk".into(),
        ErrorKind::ReadOnlyFilesystem => "the disk is read-only; use another one".into(),
        ErrorKind::QuotaExceeded => "your disk quota is used up; free some space".into(),
        _ => cause.to_string(),
    };
    IoErrorKind::System { action, reason, cause }
}
