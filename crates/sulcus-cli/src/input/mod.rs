//! What commands read: cases from the paths that the user gives, scans and masks of every format, label tables.

pub(crate) mod cases;
pub(crate) mod label_file;
pub(crate) mod scans;
