use std::fmt;
use std::path::{Path, PathBuf};

use crate::case::Case;

/// Something that is wrong, or worth knowing, about one case or about the data set as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Finding {
    /// Name of the case; empty when the finding is about the whole data set.
    pub case: String,
    /// What was expected, what was found and what to do.
    pub what: String,
    /// The file or folder.
    pub file: PathBuf,
}

impl Finding {
    /// A finding about one file of a case.
    pub fn of_case(case: &Case, file: &Path, what: String) -> Self {
        Self { case: case.name.clone(), what, file: file.to_path_buf() }
    }

    pub(crate) fn of_dataset(file: &Path, what: String) -> Self {
        Self { case: String::new(), what, file: file.to_path_buf() }
    }

    /// The finding about a mask that is background everywhere.
    pub fn no_foreground(case: &Case) -> Self {
        let what = "the mask has no foreground; draw the structures, if the scan shows them".into();
        Self::of_case(case, &case.label, what)
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.case.is_empty() {
            write!(f, "{}: ", self.case)?;
        }
        write!(f, "{}: {}", self.what, self.file.display())
    }
}

impl std::error::Error for Finding {}

/// Something about one file, before it is known which case the file belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FileFinding {
    pub(crate) file: PathBuf,
    pub(crate) what: String,
}

impl FileFinding {
    pub(crate) fn in_case(self, case: &Case) -> Finding {
        Finding { case: case.name.clone(), what: self.what, file: self.file }
    }
}
