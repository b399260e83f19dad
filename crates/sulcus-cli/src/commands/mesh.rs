//! `sulcus mesh`: writes the surfaces of labels as STL or PLY.

use std::path::{Path, PathBuf};

use serde::{Serialize, Serializer};
use sulcus_mesh::{Extent, MemoryLimit, NamedSurface, Smoothing, Space, Surface, survey, write_ply, write_stl};
use sulcus_runtime::machine_memory_bytes;
use sulcus_volume::{GridUnit, Label, LabelEntry, LabelMap, LabelTable, OrientationSource};

use crate::args::MeshArgs;
use crate::error::{CliError, Context, with_causes};
use crate::files;
use crate::input::label_file;
use crate::memory;
use crate::output::{self, Ui, human_bytes, printable};

/// What is written.
enum Output {
    /// One label.
    Stl,
    /// All labels in one file.
    Ply,
    /// A folder with an STL file for each label.
    Folder,
}

impl Output {
    fn of(path: &Path) -> Result<Self, CliError> {
        let text = path.to_string_lossy();
        if path.is_dir() || text.ends_with(std::path::is_separator) {
            return Ok(Self::Folder);
        }
        match path.extension().map(|extension| extension.to_ascii_lowercase()) {
            None => Ok(Self::Folder),
            Some(extension) if extension == "stl" => Ok(Self::Stl),
            Some(extension) if extension == "ply" => Ok(Self::Ply),
            Some(_) => Err(CliError::usage(format_args!(
                "-o must end in .stl or .ply, or be a folder: {}",
                path.display()
            ))
            .hint("for a new folder with a dot in its name, end it with /")),
        }
    }
}

/// The output of `--json`.
#[derive(Serialize)]
struct Report<'a> {
    input: String,
    output: String,
    space: &'static str,
    smooth: u32,
    #[serde(serialize_with = "by_name")]
    labels: &'a [(String, LabelReport)],
}

/// An object with the names of the labels as keys, in their order.
fn by_name<S: Serializer>(labels: &&[(String, LabelReport)], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(labels.iter().map(|(name, report)| (name, report)))
}

/// The part of the output about one label.
#[derive(Serialize)]
struct LabelReport {
    value: Label,
    file: String,
    vertices: usize,
    triangles: usize,
    area_mm2: f64,
    volume_ml: f64,
    voxels: usize,
    voxel_ml: f64,
    components: usize,
    cavities: usize,
}

pub(crate) fn run(args: &MeshArgs, ui: Ui) -> Result<(), CliError> {
    let output = Output::of(&args.output)?;
    if sulcus_io::input_files(&args.mask).iter().any(|file| files::same_file(file, &args.output)) {
        return Err(CliError::usage(format_args!(
            "the output would overwrite the mask: {}",
            args.output.display()
        ))
        .hint("write to another name"));
    }
    memory::check_volume(&args.mask, size_of::<Label>())?;
    let (mask, names) = read(args, ui)?;
    let extents = survey(&mask);
    if extents.is_empty() {
        return Err(CliError::failed(format_args!(
            "the mask has no label, so there is no surface: {}",
            args.mask.display()
        )));
    }
    let names = label_file::named_where_known(extents.keys().copied(), Some(&names));
    let chosen: Vec<(&LabelEntry, &Extent)> =
        chosen(args, &names)?.into_iter().filter_map(|entry| Some((entry, extents.get(&entry.value)?))).collect();
    if matches!(output, Output::Stl) && chosen.len() > 1 {
        let known: Vec<&str> = chosen.iter().map(|(entry, _)| entry.name.as_str()).collect();
        return Err(CliError::usage(format_args!(
            "an STL file has no labels, but {} were selected ({}): {}",
            chosen.len(),
            known.join(", "),
            args.output.display()
        ))
        .hint("select one with --label, or write a .ply file, or a folder with a file for each label"));
    }
    let folder = match output {
        Output::Folder => args.output.clone(),
        Output::Stl | Output::Ply => files::folder_of(&args.output),
    };
    files::ensure_writable(&folder)?;
    let mut work = Work { args, mask: &mask, ui, rows: Vec::new(), failed: 0 };
    match output {
        Output::Ply => work.write_one_ply(&chosen)?,
        Output::Stl => {
            for (entry, extent) in &chosen {
                work.write_stl(entry, extent, &args.output)?;
            }
        }
        Output::Folder => work.write_folder(&chosen)?,
    }
    work.report()?;
    match work.failed {
        0 => Ok(()),
        failed => Err(CliError::SomeFailed { failed, total: chosen.len(), what: "label" }),
    }
}

/// The mask, and the names that it or `--labels` has.
fn read(args: &MeshArgs, ui: Ui) -> Result<(LabelMap, LabelTable), CliError> {
    let (mask, source) = sulcus_io::read_labels(&args.mask).context("reading the mask")?;
    if mask.geometry().unit() != GridUnit::Millimetre {
        return Err(CliError::failed(format_args!(
            "surfaces enclose voxels with sizes in millimetres, but this mask is a picture: {}",
            args.mask.display()
        )));
    }
    if mask.geometry().source() == OrientationSource::None {
        ui.warn(format_args!(
            "the file does not define the orientation: left and right of the surfaces are a guess: {}",
            args.mask.display()
        ));
    }
    let own = source.label_table();
    let Some(path) = &args.labels else { return Ok((mask, own.cloned().unwrap_or_default())) };
    let names = label_file::read(path)?.table.completed_by(own.unwrap_or(&LabelTable::default()));
    let mask =
        mask.renumbered(own, &names).context(format_args!("naming the labels of {}", args.mask.display()))?;
    Ok((mask, names))
}

/// The labels of the mask that `--label` selects; all without it.
fn chosen<'a>(args: &MeshArgs, names: &'a LabelTable) -> Result<Vec<&'a LabelEntry>, CliError> {
    let mut entries: Vec<&LabelEntry> = Vec::new();
    for wanted in &args.label {
        let Some(entry) = label_file::find(names, wanted) else {
            let known: Vec<String> = names.entries().iter().map(|e| format!("{} ({})", e.name, e.value)).collect();
            return Err(CliError::failed(format_args!(
                "the mask has no voxel of a label `{wanted}`; it has {}: {}",
                known.join(", "),
                args.mask.display()
            )));
        };
        if !entries.iter().any(|other| other.value == entry.value) {
            entries.push(entry);
        }
    }
    if entries.is_empty() { Ok(names.entries().iter().collect()) } else { Ok(entries) }
}

/// The surfaces that are made, and what was written.
struct Work<'a> {
    args: &'a MeshArgs,
    mask: &'a LabelMap,
    ui: Ui,
    rows: Vec<(String, LabelReport)>,
    failed: usize,
}

impl Work<'_> {
    fn space(&self) -> Space {
        self.args.space.into()
    }

    /// `held` is the memory of the surfaces that are kept.
    fn surface(&self, extent: &Extent, held: u64) -> Result<Surface, CliError> {
        let used = (self.mask.data().len() as u64 * size_of::<Label>() as u64).saturating_add(held);
        let limit = machine_memory_bytes().map_or(MemoryLimit::NONE, |all| MemoryLimit(all.saturating_sub(used)));
        sulcus_mesh::surface(self.mask, extent, Smoothing::of_passes(self.args.smooth), limit)
            .map_err(|error| CliError::failed(with_causes(&error)))
    }

    fn add(&mut self, entry: &LabelEntry, surface: &Surface, file: &Path) {
        let measured = surface.measure();
        let report = LabelReport {
            value: entry.value,
            file: file.display().to_string(),
            vertices: surface.vertices().len(),
            triangles: surface.triangles().len(),
            area_mm2: measured.area_mm2,
            volume_ml: measured.volume_ml,
            voxels: surface.voxels(),
            voxel_ml: surface.voxel_ml(),
            components: surface.components(),
            cavities: surface.cavities(),
        };
        self.rows.push((entry.name.clone(), report));
    }

    fn write_stl(&mut self, entry: &LabelEntry, extent: &Extent, path: &Path) -> Result<(), CliError> {
        let surface = self.surface(extent, 0)?;
        let space = self.space();
        sulcus_io::write_atomically(path, |file| {
            write_stl(file, NamedSurface { surface: &surface, entry }, space)
        })
        .context("writing the surface")?;
        self.add(entry, &surface, path);
        Ok(())
    }

    fn write_one_ply(&mut self, chosen: &[(&LabelEntry, &Extent)]) -> Result<(), CliError> {
        let mut surfaces = Vec::new();
        let mut held = 0;
        for (_, extent) in chosen {
            let surface = self.surface(extent, held)?;
            held += (size_of_val(surface.vertices()) + size_of_val(surface.triangles())) as u64;
            surfaces.push(surface);
        }
        let named: Vec<NamedSurface<'_>> =
            surfaces.iter().zip(chosen).map(|(surface, (entry, _))| NamedSurface { surface, entry }).collect();
        let space = self.space();
        sulcus_io::write_atomically(&self.args.output, |file| write_ply(file, &named, space))
            .context("writing the surfaces")?;
        for NamedSurface { surface, entry } in named {
            self.add(entry, surface, &self.args.output);
        }
        Ok(())
    }

    /// A label that fails does not keep the others from being written.
    fn write_folder(&mut self, chosen: &[(&LabelEntry, &Extent)]) -> Result<(), CliError> {
        let bar = self.ui.bar(chosen.len() as u64);
        for (entry, extent) in chosen {
            bar.set_message(printable(&entry.name).into_owned());
            let path = self.args.output.join(file_name(entry));
            if let Err(error) = self.write_stl(entry, extent, &path) {
                bar.suspend(|| self.ui.error(format_args!("{}: {}", entry.name, error.message())));
                self.failed += 1;
            }
            bar.inc(1);
        }
        bar.finish_and_clear();
        Ok(())
    }

    fn report(&self) -> Result<(), CliError> {
        if self.args.json {
            return output::json(&Report {
                input: self.args.mask.display().to_string(),
                output: self.args.output.display().to_string(),
                space: self.space().name(),
                smooth: self.args.smooth,
                labels: &self.rows,
            });
        }
        if !self.rows.is_empty() {
            let head =
                ["label", "vertices", "triangles", "area mm²", "volume ml", "voxels ml", "parts", "cavities"];
            let row = |(name, row): &(String, LabelReport)| {
                vec![
                    name.clone(),
                    row.vertices.to_string(),
                    row.triangles.to_string(),
                    format!("{:.1}", row.area_mm2),
                    format!("{:.3}", row.volume_ml),
                    format!("{:.3}", row.voxel_ml),
                    row.components.to_string(),
                    row.cavities.to_string(),
                ]
            };
            let head = head.map(str::to_owned).to_vec();
            output::table(&std::iter::once(head).chain(self.rows.iter().map(row)).collect::<Vec<_>>())?;
        }
        let mut written: Vec<PathBuf> = self.rows.iter().map(|(_, row)| PathBuf::from(&row.file)).collect();
        written.dedup();
        for path in written {
            let size = path.metadata().map_or(0, |metadata| metadata.len());
            self.ui.note(format_args!("{}: {}, {} mm", path.display(), human_bytes(size), self.space().name()));
        }
        Ok(())
    }
}

/// The file of a label in a folder, such as `1_Anterior.stl`.
fn file_name(entry: &LabelEntry) -> String {
    const MAX_CHARS: usize = 60;
    let plain = |c: char| if c.is_alphanumeric() || matches!(c, '-' | '_') { c } else { '_' };
    let name: String = entry.name.chars().take(MAX_CHARS).map(plain).collect();
    format!("{}_{name}.stl", entry.value)
}

#[cfg(test)]
mod tests {
    use sulcus_volume::Rgb;

    use super::*;

    #[test]
    fn names_of_labels_become_names_of_files() {
        let file = |name: &str| file_name(&LabelEntry { value: 7, name: name.to_owned(), color: Rgb([0; 3]) });
        assert_eq!(file("Left lung/../x"), "7_Left_lung____x.stl");
        assert_eq!(file("Größe-2"), "7_Größe-2.stl");
        assert_eq!(file(&"a".repeat(500)).len(), 66);
    }
}
