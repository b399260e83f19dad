use std::fmt;
use std::path::{Path, PathBuf};

/// Something that is wrong, or that the user should know, about one case or about the data set as a whole.
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
    /// A finding about one file of the case with this name.
    pub fn of_case(case: &str, file: &Path, what: String) -> Self {
        Self { case: case.to_owned(), what, file: file.to_path_buf() }
    }

    pub(crate) fn of_dataset(file: &Path, what: String) -> Self {
        Self { case: String::new(), what, file: file.to_path_buf() }
    }

    /// The finding about a mask without foreground.
    pub fn no_foreground(case: &str, mask: &Path) -> Self {
        let what = "the mask has no foreground; draw the structures, if the scan shows them".into();
        Self::of_case(case, mask, what)
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
    pub(crate) fn in_case(self, case: &str) -> Finding {
        Finding { case: case.to_owned(), what: self.what, file: self.file }
    }
}
