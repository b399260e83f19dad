//! A page in one file with what it shows.

use std::io::{Read, Seek};
use std::path::Path;

use sulcus_page::SinglePage;

use super::{files_of_scan, further_files, private_folder};
use crate::args::ViewArgs;
use crate::error::{CliError, Context};
use crate::files;
use crate::output::{Ui, human_bytes};

/// Writes the page with the files that the arguments name. `cohort` is the folder of a cohort, if there is one.
pub(super) fn run(path: &Path, cohort: Option<&Path>, args: &ViewArgs, ui: Ui) -> Result<(), CliError> {
    if !path
        .extension()
        .is_some_and(|ending| ["html", "htm"].iter().any(|known| ending.eq_ignore_ascii_case(known)))
    {
        return Err(CliError::usage(format_args!(
            "the page is HTML, so --save must end in .html: {}",
            path.display()
        )));
    }
    if let Some(folder) = cohort {
        return Err(CliError::usage(format_args!(
            "--save writes a page with one scan, but this is a folder of scans: {}",
            folder.display()
        ))
        .hint("save a page for each case, or leave --save out to review the folder in the browser"));
    }
    let inputs = [&args.image, &args.mask, &args.truth, &args.map, &args.view, &args.model];
    if let Some(input) = inputs.into_iter().flatten().find(|input| files::same_file(input, path)) {
        return Err(CliError::usage(format_args!(
            "the page would overwrite a file that it shows: {}",
            input.display()
        ))
        .hint("write to another name"));
    }
    files::ensure_writable(&files::folder_of(path))?;
    let private = private_folder()?;
    let mut page = SinglePage::default();
    let mut query = Vec::new();
    let mut shown = files_of_scan(args, private.path(), ui)?;
    shown.extend(further_files(args)?);
    for mut file in shown {
        query.extend(file.query());
        let name = format_args!("{}: {}", file.what, file.path.display());
        let mut bytes = Vec::new();
        file.content.rewind().and_then(|()| file.content.read_to_end(&mut bytes)).context(name)?;
        page.add(format!("data/{}", file.name), bytes)
            .context(name)
            .map_err(|error| error.hint("leave --save out to see the scan in the browser"))?;
    }
    page.set_query(query.join("&"));
    let carries_data = !query.is_empty();
    sulcus_io::write_atomically(path, |file| page.write(file)).context("writing the page")?;
    let bytes = std::fs::metadata(path).context(format_args!("page: {}", path.display()))?.len();
    let contents = if carries_data { "; it contains the files that it shows" } else { "" };
    ui.note(format_args!("page: {} ({}){contents}", path.display(), human_bytes(bytes)));
    Ok(())
}
