//! `sulcus view`: the embedded viewer in the browser, on this machine only, or in a file.

mod cohort;
mod save;
mod scoring;

use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde::Deserialize;
use sulcus_io::{Texts, VolumeFormat, VolumeMetadata};
use sulcus_serve::{ServeError, ViewerServer};
use sulcus_volume::{Label, LabelMap, LabelTable};
use tempfile::TempDir;

use crate::args::ViewArgs;
use crate::error::{CliError, Context, with_causes};
use crate::input::scans;
use crate::output::Ui;
use crate::{interrupt, memory, output};

/// The largest file with a view: measurements have a few hundred bytes.
const MAX_VIEW_BYTES: u64 = 16 << 20;

pub(crate) fn run(args: &ViewArgs, ui: Ui) -> Result<(), CliError> {
    if let Some(image) = &args.image {
        scans::check_series(image, args.series.as_deref())?;
    }
    let cohort = args.image.as_deref().filter(|path| path.is_dir() && !scans::is_dicom(path));
    if let Some(path) = &args.save {
        return save::run(path, cohort, args, ui);
    }
    let mut server = ViewerServer::bind(args.port, sulcus_page::file).map_err(|error| refused(&error))?;
    let private = private_folder()?;
    let serving = stop_on_signals(&server, private.path())?;

    let mut query = Vec::new();
    let mut shown = match cohort {
        Some(folder) => {
            scoring::start(cohort::share(&mut server, folder, args, ui)?);
            query.push(format!("cases=data/{}", cohort::LIST));
            Vec::new()
        }
        None => files_of_scan(args, private.path(), ui)?,
    };
    shown.extend(further_files(args)?);
    for file in shown {
        query.extend(file.query());
        server.share(file.name, file.content).context(format_args!("{}: {}", file.what, file.path.display()))?;
    }
    let query = if query.is_empty() { String::new() } else { format!("?{}", query.join("&")) };
    let url = server.url(&format!("index.html{query}"));
    // Only the page that redirects the browser to the viewer is still needed, if there is one.
    let private = (!args.no_open || cfg!(windows)).then_some(private);
    serving.store(true, Ordering::SeqCst);
    output::line(&url)?;
    ui.note("serving this machine only; Ctrl-C ends it");
    if let (false, Some(private)) = (args.no_open, &private)
        && !open_browser(&url, private.path())?
    {
        ui.hint("no browser could be started: open the address above in a browser");
    }
    server.run().context("serving")
}

/// A file that the page opens. It was checked while it was open, so whatever lies at its path later is not shown.
struct Shown {
    /// What the page takes it for: the name of a part of its address.
    what: &'static str,
    /// Its name in the page, with an ending that tells the page how to read it.
    name: String,
    content: File,
    /// Where the user's file is; the page shows its name.
    path: PathBuf,
}

impl Shown {
    /// The parts of the page's address for this file.
    fn query(&self) -> Vec<String> {
        let Self { what, name, .. } = self;
        let own_name = self.path.file_name().unwrap_or_default().to_string_lossy();
        let name_part = (own_name != *name).then(|| format!("{what}_name={}", percent_encode(&own_name)));
        [format!("{what}=data/{name}")].into_iter().chain(name_part).collect()
    }
}

/// The files of one scan, as the page reads them.
fn files_of_scan(args: &ViewArgs, private: &Path, ui: Ui) -> Result<Vec<Shown>, CliError> {
    let renumbered = match (&args.mask, &args.truth) {
        (Some(mask), Some(truth)) => numbered_as_truth(mask, truth)?,
        _ => None,
    };
    let named = [("image", &args.image), ("mask", &args.mask), ("truth", &args.truth), ("map", &args.map)];
    let mut shown = Vec::new();
    for (what, path) in named {
        let Some(path) = path else { continue };
        let converted = match &renumbered {
            Some(mask) if what == "mask" => Some(mask.write(private, path)?),
            _ => as_nifti(what, path, args.series.as_deref(), private, ui)?,
        };
        let (name, content) = open(what, path, converted.as_deref())?;
        shown.push(Shown { what, name, content, path: path.clone() });
    }
    Ok(shown)
}

/// The view and the model.
fn further_files(args: &ViewArgs) -> Result<Vec<Shown>, CliError> {
    let shown = |what, name: &str, path: &Path, content| Shown {
        what,
        name: name.to_owned(),
        content,
        path: path.to_path_buf(),
    };
    let view = args.view.as_deref().map(|path| Ok(shown("view", "view.json", path, open_view(path)?)));
    let model = args.model.as_deref().map(|path| Ok(shown("model", "model.onnx", path, open_model(path)?)));
    view.into_iter().chain(model).collect()
}

/// Opens a view that the page saved.
fn open_view(path: &Path) -> Result<File, CliError> {
    /// The start of the file; the page reads the rest.
    #[derive(Deserialize)]
    struct View {
        format: String,
        format_version: u32,
    }
    let name = format_args!("view: {}", path.display());
    let refused = |found: &dyn std::fmt::Display| {
        CliError::failed(format_args!(
            "view: expected a file of the viewer's *Save view*, {found}: {}",
            path.display()
        ))
    };
    let file = File::open(path).context(name)?;
    let mut bytes = Vec::new();
    (&file).take(MAX_VIEW_BYTES + 1).read_to_end(&mut bytes).context(name)?;
    if bytes.len() as u64 > MAX_VIEW_BYTES {
        return Err(refused(&"found more than 16 MB"));
    }
    match serde_json::from_slice(&bytes) {
        Ok(View { format, format_version: 1 }) if format == "sulcus.view" => Ok(file),
        Ok(View { format, format_version }) => Err(refused(&format_args!(
            "version 1, found `{}`, version {format_version}",
            output::printable(&format)
        ))),
        Err(error) => Err(refused(&error)),
    }
}

/// Opens the file of a model. The engine of the page runs no packs.
fn open_model(path: &Path) -> Result<File, CliError> {
    let name = format_args!("model: {}", path.display());
    // The file that is shown is the one that was checked, whatever lies at its path later.
    let mut file = File::open(path).context(name)?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).context(name)?;
    sulcus_onnx::read_spec(&bytes).context(name)?;
    Ok(file)
}

fn refused(error: &ServeError) -> CliError {
    match error {
        ServeError::Listen { address, source } => {
            CliError::failed(format_args!("cannot listen on {address}: {source}"))
                .hint("another program may use this port: choose another with --port, or leave --port out")
        }
        _ => CliError::failed(with_causes(error)),
    }
}

/// A folder that other users cannot open, for converted scans and the page that redirects the browser to the viewer.
fn private_folder() -> Result<TempDir, CliError> {
    let mut builder = tempfile::Builder::new();
    builder.prefix("sulcus-");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        builder.permissions(std::fs::Permissions::from_mode(0o700));
    }
    builder.tempdir().context("making a folder for converted scans")
}

/// The first signal ends the server, or the program if the server is not running yet; a second signal ends the program.
/// The private folder is removed in both cases. The flag is set when the server is about to run.
fn stop_on_signals(server: &ViewerServer, private: &Path) -> Result<Arc<AtomicBool>, CliError> {
    let serving = Arc::new(AtomicBool::new(false));
    let (stopper, private, running) = (server.stopper(), private.to_path_buf(), Arc::clone(&serving));
    interrupt::on_signals(move |count| {
        // If this fails, it cannot be reported, and there is nothing else to do.
        let _ = std::fs::remove_dir_all(&private);
        stopper.stop();
        if count > 1 || !running.load(Ordering::SeqCst) {
            std::process::exit(i32::from(count > 1));
        }
    })?;
    Ok(serving)
}

/// A mask whose labels have the numbers that the truth has for the same names.
struct RenumberedMask {
    labels: LabelMap,
    source: VolumeMetadata,
    names: LabelTable,
}

impl RenumberedMask {
    /// Writes the mask as NIfTI, or of a picture as a picture: only that has a grid of pixels.
    fn write(&self, folder: &Path, path: &Path) -> Result<PathBuf, CliError> {
        let is_picture = self.source.geometry().is_picture();
        let ending = if is_picture { sulcus_io::mask_ending(path) } else { ".nii" };
        let file = converted_file("mask", ending, folder)?;
        sulcus_io::write_labels(&file, &self.labels, &self.source, &self.names).context("mask")?;
        Ok(file)
    }
}

/// The viewer compares numbers. Where mask and truth have names for their labels, the names decide; `None` where the numbers
/// agree already.
fn numbered_as_truth(mask: &Path, truth: &Path) -> Result<Option<RenumberedMask>, CliError> {
    for path in [mask, truth] {
        memory::check_volume(path, 2 * size_of::<Label>())?;
    }
    // What cannot be read is reported when it is opened.
    let Ok((labels, source)) = sulcus_io::read_labels(mask) else { return Ok(None) };
    let Some(own) = source.label_table() else { return Ok(None) };
    let Ok((_, of_truth)) = sulcus_io::read_labels(truth) else { return Ok(None) };
    let Some(reference) = of_truth.label_table() else { return Ok(None) };
    let names = reference.completed_by(own);
    let doing = || format!("comparing the labels of {} and {}", mask.display(), truth.display());
    let numbers = names.numbers_by_name(own, labels.counts().into_keys()).context(doing())?;
    Ok(labels.with_numbers(&numbers).map(|labels| RenumberedMask { labels, source, names }))
}

/// Opens a file to be shown, or the file into which it was converted. It must be a volume. Returns its name on the server and
/// the open file; this file is served even if another file gets its path later.
fn open(what: &'static str, path: &Path, converted: Option<&Path>) -> Result<(String, File), CliError> {
    let path = converted.unwrap_or(path);
    let name = check(what, path)?;
    let file = File::open(path).context(format_args!("{what}: {}", path.display()))?;
    if cfg!(unix)
        && let Some(path) = converted
    {
        // The open file remains readable, and the system deletes it when this program ends, for whatever reason.
        std::fs::remove_file(path).context(format_args!("{what}: {}", path.display()))?;
    }
    Ok((name, file))
}

/// Converts a file that the viewer does not read as one file (DICOM, NRRD, MetaImage, pairs of files) to a NIfTI file in `folder`;
/// `None` for NIfTI and pictures.
fn as_nifti(
    what: &'static str,
    path: &Path,
    series: Option<&str>,
    folder: &Path,
    ui: Ui,
) -> Result<Option<PathBuf>, CliError> {
    let dicom = scans::is_dicom(path);
    if !dicom && path.is_dir() {
        return Err(CliError::failed(format_args!("{what}: expected a file, found a folder: {}", path.display())));
    }
    if !dicom && !is_pair(path) {
        let format = sulcus_io::read_metadata(path).context(what)?.format();
        // The page knows that a picture is none of a patient, which NIfTI cannot state.
        if format.is_some_and(|format| picture_ending(format).is_some()) {
            if matches!(what, "mask" | "truth") {
                memory::check_volume(path, size_of::<Label>())?;
                sulcus_io::read_labels(path).context(what)?;
            }
            return Ok(None);
        }
        if matches!(format, Some(VolumeFormat::Nifti1 | VolumeFormat::Nifti2)) {
            return Ok(None);
        }
    }
    memory::check_volume(path, if what == "image" { 0 } else { size_of::<Label>() })?;
    let file = converted_file(what, ".nii", folder)?;
    if matches!(what, "image" | "map") {
        let volume = scans::read_stored(path, series.filter(|_| what == "image"), ui).context(what)?;
        sulcus_io::write_stored(&file, &volume, None, Texts::Drop).context(what)?;
    } else {
        let (labels, source) = sulcus_io::read_labels(path).context(what)?;
        let table = source.label_table().cloned().unwrap_or_default();
        sulcus_io::write_labels(&file, &labels, &source, &table).context(what)?;
    }
    Ok(Some(file))
}

/// A new file in `folder` for what is converted.
fn converted_file(what: &str, ending: &str, folder: &Path) -> Result<PathBuf, CliError> {
    let file = folder.join(format!("{what}{ending}"));
    private_file(&file).context(format_args!("making a file for a converted scan: {}", file.display()))?;
    Ok(file)
}

/// A new file that only its owner can read. Writing over it keeps its permissions.
fn private_file(path: &Path) -> std::io::Result<File> {
    let mut options = File::options();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

/// The file must exist and be a volume before a browser is opened. Returns its name on the server.
fn check(what: &'static str, path: &Path) -> Result<String, CliError> {
    sulcus_io::read_info(path).context(format_args!("{what}"))?;
    let format = sulcus_io::read_metadata(path).context(what)?.format();
    // The viewer detects compression by the content, not by the file name.
    Ok(format!("{what}{}", format.and_then(picture_ending).unwrap_or(".nii.gz")))
}

fn picture_ending(format: VolumeFormat) -> Option<&'static str> {
    match format {
        VolumeFormat::Png => Some(".png"),
        VolumeFormat::Jpeg => Some(".jpg"),
        VolumeFormat::Tiff => Some(".tif"),
        _ => None,
    }
}

fn is_pair(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
    [".hdr", ".img", ".hdr.gz", ".img.gz"].iter().any(|ending| name.ends_with(ending))
}

/// Opens a browser with a page in the private folder, which redirects to the address: every user of a machine can read
/// the arguments of a program, and the address contains the token.
fn open_browser(url: &str, private: &Path) -> Result<bool, CliError> {
    let page = private.join("viewer.html");
    let url = url.replace('&', "&amp;");
    let text = format!(
        "<!DOCTYPE html><meta charset=\"utf-8\"><meta name=\"referrer\" content=\"no-referrer\">\
         <meta http-equiv=\"refresh\" content=\"0; url={url}\"><title>Sulcus viewer</title>\
         <a href=\"{url}\">Sulcus viewer</a>\n"
    );
    private_file(&page)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .context(format_args!("writing {}", page.display()))?;
    let mut command = if cfg!(target_os = "windows") {
        let mut command = Command::new("rundll32");
        command.arg("url.dll,FileProtocolHandler");
        command
    } else if cfg!(target_os = "macos") {
        Command::new("open")
    } else {
        Command::new("xdg-open")
    };
    command.arg(&page).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    Ok(command.spawn().is_ok())
}

/// Text that is escaped for the query of a URL.
fn percent_encode(text: &str) -> String {
    let keep = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'~' | b'/');
    text.bytes().map(|b| if keep(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip_through_the_query() {
        assert_eq!(percent_encode("a b&c=ü.nii"), "a%20b%26c%3D%C3%BC.nii");
    }
}
