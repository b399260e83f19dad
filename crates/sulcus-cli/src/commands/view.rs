//! `sulcus view`: the embedded viewer in the browser, on this machine alone.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use sulcus_io::{Texts, VolumeFormat};

use crate::args::ViewArgs;
use crate::error::{CliError, Context};
use crate::input::scans;
use crate::output::{self, Ui};
use crate::server::{Offer, Viewer, percent_encode};

pub(crate) fn run(args: &ViewArgs, ui: Ui) -> Result<(), CliError> {
    let named = [("image", &args.image), ("mask", &args.mask), ("truth", &args.truth)];
    if let Some(image) = &args.image {
        scans::check_series(image, args.series.as_deref())?;
    }
    let mut offers = Vec::new();
    let mut query = Vec::new();
    // What the viewer does not read itself lies here as NIfTI until the end.
    let converted = tempfile::tempdir().context("making room for converted scans")?;
    for (what, path) in named {
        let Some(path) = path else { continue };
        let path = &as_nifti(what, path, args.series.as_deref(), converted.path(), ui)?;
        let name = check(what, path)?;
        offers.push(Offer { name, path: path.clone() });
        query.push(format!("{what}=/data/{name}"));
    }
    if let Some(path) = &args.image {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        query.push(format!("image_name={}", percent_encode(&name)));
    }

    let viewer = Arc::new(Viewer::bind(args.port, offers)?);
    let stopper = Arc::clone(&viewer);
    ctrlc::set_handler(move || stopper.stop()).context("listening for Ctrl-C")?;
    let query = if query.is_empty() { String::new() } else { format!("?{}", query.join("&")) };
    let url = format!("http://{}/index.html{query}", viewer.address());
    output::line(&url)?;
    ui.note("serving on this machine alone; Ctrl-C ends it");
    if !args.no_open && !open_browser(&url) {
        ui.hint("no browser could be started: open the address above in one");
    }
    viewer.serve();
    Ok(())
}

/// What the viewer doesn't read (DICOM, NRRD, MetaImage, pairs of files) as a NIfTI file in `folder`; anything else as it
/// is.
fn as_nifti(
    what: &'static str,
    path: &Path,
    series: Option<&str>,
    folder: &Path,
    ui: Ui,
) -> Result<PathBuf, CliError> {
    let dicom = scans::is_dicom(path);
    if !dicom && path.is_dir() {
        return Err(CliError::failed(format_args!("{what}: expected a file, found a folder: {}", path.display())));
    }
    if !dicom && !is_pair(path) {
        let format = sulcus_io::read_source(path).context(what)?.format();
        if !matches!(format, Some(VolumeFormat::Nrrd | VolumeFormat::MetaImage)) {
            return Ok(path.to_path_buf());
        }
    }
    let file = folder.join(format!("{what}.nii"));
    if what == "image" {
        let volume = scans::read_stored(path, series, ui).context(what)?;
        sulcus_io::write_stored(&file, &volume, None, Texts::Drop).context(what)?;
    } else {
        let (labels, source) = sulcus_io::read_labels(path).context(what)?;
        let table = source.label_table().cloned().unwrap_or_default();
        sulcus_io::write_labels(&file, &labels, &source, &table).context(what)?;
    }
    Ok(file)
}

/// The file must be there and be a volume before a browser is opened on it. Returns its name on the server.
fn check(what: &'static str, path: &Path) -> Result<&'static str, CliError> {
    sulcus_io::read_info(path).context(format_args!("{what}"))?;
    // The viewer looks at the content, not at the ending, to see whether it is compressed.
    Ok(match what {
        "image" => "image.nii.gz",
        "mask" => "mask.nii.gz",
        _ => "truth.nii.gz",
    })
}

fn is_pair(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
    [".hdr", ".img", ".hdr.gz", ".img.gz"].iter().any(|ending| name.ends_with(ending))
}

fn open_browser(url: &str) -> bool {
    let mut command = if cfg!(target_os = "windows") {
        let mut command = Command::new("rundll32");
        command.arg("url.dll,FileProtocolHandler");
        command
    } else if cfg!(target_os = "macos") {
        Command::new("open")
    } else {
        Command::new("xdg-open")
    };
    command.arg(url).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().is_ok()
}
