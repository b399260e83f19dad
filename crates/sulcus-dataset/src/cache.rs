use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use sulcus_model::{ModelSpec, SpecError};
use sulcus_pipeline::{PipelineError, Preprocessed, PreprocessedLabels};
use sulcus_volume::Label;

use crate::hash::hex;

/// Version of the file format and of the preprocessing. Files of another version are not used.
const FORMAT_VERSION: u32 = 2;
/// The first bytes of a file.
const MAGIC: [u8; 8] = *b"SULCPREP";
/// A header has a few hundred bytes; a longer one is damage.
const MAX_HEADER_BYTES: u32 = 1 << 16;

/// Identifies a prepared case: a hash over its files and over every setting of the preprocessing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheKey(String);

impl CacheKey {
    /// `files_sha256` is the hash of the case's files ([`CaseFacts::sha256`](crate::CaseFacts::sha256)), `ignore` the
    /// label value of voxels without an annotation.
    ///
    /// # Errors
    /// When a number of the specification is not finite.
    pub fn new(files_sha256: &str, spec: &ModelSpec, ignore: Option<Label>) -> Result<Self, PipelineError> {
        let values: Vec<_> = spec.labels.entries().iter().map(|e| e.value).collect();
        let preparing = (
            FORMAT_VERSION,
            files_sha256,
            &spec.channels,
            values,
            ignore,
            spec.orientation,
            spec.spacing,
            spec.crop,
        );
        let json = serde_json::to_vec(&preparing)
            .map_err(|e| SpecError::Invalid(format!("it cannot be written as JSON: {e}")))?;
        Ok(Self(hex(&Sha256::digest(json))))
    }

    fn file(&self, folder: &Path) -> PathBuf {
        folder.join(format!("{}.prepared", self.0))
    }
}

/// The JSON header of a cache file. The file holds, in this order: the magic, the header's length (u32, little-endian),
/// the header, `C·z·y·x` image values (f32, little-endian) and `z·y·x` classes (u8).
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    format_version: u32,
    key: String,
    /// Along x, y, z.
    shape: [usize; 3],
    channels: usize,
    /// Hash of values and classes.
    sha256: String,
}

/// Reads a prepared case from the folder `cache`, or calls `prepare` and writes the result there. Without a folder it
/// calls `prepare`. A damaged or outdated file is replaced; a file that cannot be written is only logged as a warning.
///
/// # Errors
/// When `prepare` fails.
pub fn load_or_prepare<E>(
    cache: Option<&Path>,
    key: &CacheKey,
    prepare: impl FnOnce() -> Result<(Preprocessed, PreprocessedLabels), E>,
) -> Result<(Preprocessed, PreprocessedLabels), E> {
    let Some(folder) = cache else { return prepare() };
    let file = key.file(folder);
    match read(&file, key) {
        Ok(case) => return Ok(case),
        Err(ReadFailure::Absent) => {}
        Err(ReadFailure::Broken(what)) => {
            tracing::warn!(
                "a prepared case in the cache cannot be used and is made anew: {what}: {}",
                file.display()
            );
        }
    }
    let (image, labels) = prepare()?;
    if let Err(what) = write(&file, key, &image, &labels) {
        tracing::warn!("a prepared case could not be put into the cache: {what}");
    }
    Ok((image, labels))
}

enum ReadFailure {
    Absent,
    Broken(String),
}

impl From<io::Error> for ReadFailure {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::NotFound { Self::Absent } else { Self::Broken(error.to_string()) }
    }
}

impl From<PipelineError> for ReadFailure {
    fn from(error: PipelineError) -> Self {
        Self::Broken(error.to_string())
    }
}

fn read(file: &Path, key: &CacheKey) -> Result<(Preprocessed, PreprocessedLabels), ReadFailure> {
    let broken = |what: String| Err(ReadFailure::Broken(what));
    let file = File::open(file)?;
    let size = file.metadata()?.len();
    let mut file = BufReader::new(file);
    let mut start = [0_u8; 12];
    file.read_exact(&mut start)?;
    let [magic, length] = [&start[..8], &start[8..]];
    let length = length.iter().rev().fold(0, |n, byte| n << 8 | u32::from(*byte));
    if magic != MAGIC || length > MAX_HEADER_BYTES {
        return broken("it does not begin as such a file".into());
    }
    let mut header = vec![0; length as usize];
    file.read_exact(&mut header)?;
    let header: Header = match serde_json::from_slice(&header) {
        Ok(header) => header,
        Err(e) => return broken(format!("its header is broken: {e}")),
    };
    if header.format_version != FORMAT_VERSION || header.key != key.0 {
        return broken(format!("it is another case's, or of another version ({})", header.format_version));
    }
    // Compare the sizes with the file's length before allocating.
    let voxels = header.shape.iter().try_fold(1_u64, |n, edge| n.checked_mul(*edge as u64));
    let values = voxels.and_then(|n| n.checked_mul(header.channels as u64)).and_then(|n| n.checked_mul(4));
    let Some((voxels, values)) = voxels.zip(values) else { return broken("its shape is impossible".into()) };
    let expected = values.checked_add(voxels).and_then(|n| n.checked_add(u64::from(length) + start.len() as u64));
    if expected != Some(size) {
        return broken(format!("it has {size} bytes, its header says otherwise"));
    }
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    if hex(&Sha256::digest(&bytes)) != header.sha256 {
        return broken("its checksum is wrong".into());
    }
    let Some((values, classes)) = bytes.split_at_checked(values as usize) else {
        return broken("it is too short".into());
    };
    let (values, _) = values.as_chunks::<4>();
    let values = values.iter().map(|v| f32::from_le_bytes(*v)).collect();
    let image = Preprocessed::from_parts(header.shape, header.channels, values)?;
    Ok((image, PreprocessedLabels::from_parts(header.shape, classes.to_vec())?))
}

fn write(file: &Path, key: &CacheKey, image: &Preprocessed, labels: &PreprocessedLabels) -> Result<(), String> {
    if image.shape() != labels.shape() {
        return Err("its image and mask have different shapes".into());
    }
    let mut bytes = Vec::with_capacity(image.data().len() * 4 + labels.classes().len());
    image.data().iter().for_each(|v| bytes.extend_from_slice(&v.to_le_bytes()));
    bytes.extend_from_slice(labels.classes());
    let header = Header {
        format_version: FORMAT_VERSION,
        key: key.0.clone(),
        shape: image.shape(),
        channels: image.channels(),
        sha256: hex(&Sha256::digest(&bytes)),
    };
    let header = serde_json::to_vec(&header).map_err(|e| e.to_string())?;
    let length = u32::try_from(header.len()).map_err(|e| e.to_string())?;
    if let Some(folder) = file.parent() {
        std::fs::create_dir_all(folder).map_err(|e| format!("{e}: {}", folder.display()))?;
    }
    sulcus_io::write_atomically(file, |out| {
        out.write_all(&MAGIC)?;
        out.write_all(&length.to_le_bytes())?;
        out.write_all(&header)?;
        out.write_all(&bytes)
    })
    .map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use sulcus_model::{
        Activation, ChannelSpec, CoarseAxis, CropRule, Dimensions, Downsampling, Encoder, NetworkSpec, Norm,
        Normalisation, OutputActivation, SpacingRule, StageConfig, Tiling, Training,
    };
    use sulcus_volume::{Interpolation, LabelTable, Spacing};

    use super::*;

    const SHAPE: [usize; 3] = [3, 4, 5];

    fn spec() -> ModelSpec {
        let stage = StageConfig { channels: 4, convolutions: 2, kernel: vec![3, 3], stride: vec![1, 1] };
        let network = NetworkSpec {
            name: "a network".into(),
            dimensions: Dimensions::Two,
            stages: vec![stage],
            norm: Norm::Batch,
            activation: Activation::Relu,
            downsampling: Downsampling::MaxPool,
            encoder: Encoder::Plain,
            deep_supervision: false,
        };
        ModelSpec {
            format_version: ModelSpec::version_for(&[]),
            name: "test".into(),
            patch: vec![4, 4],
            mirror_axes: vec![],
            padding_multiple: network.padding_multiple(),
            network,
            channels: vec![ChannelSpec { name: "MRI".into(), normalisation: Normalisation::ZScore }],
            labels: LabelTable::from_names([(1, "A".to_owned())]).unwrap(),
            regions: Vec::new(),
            activation: OutputActivation::Sigmoid,
            crop: CropRule::Whole,
            orientation: "RAS".parse().unwrap(),
            spacing: SpacingRule::Native,
            tiling: Tiling::Whole,
            tile_step: 0.5,
            postprocessing: vec![],
            training: Training::default(),
            training_scans: None,
            precision: None,
            unchecked: None,
            golden_case: None,
        }
    }

    fn case() -> (Preprocessed, PreprocessedLabels) {
        let values = (0..120).map(|i| 0.1 * i as f32 - 3.0).collect();
        let image = Preprocessed::from_parts(SHAPE, 2, values).unwrap();
        (image, PreprocessedLabels::from_parts(SHAPE, (0..60).collect()).unwrap())
    }

    /// The case, and whether it had to be prepared.
    fn load(folder: &Path, key: &CacheKey) -> ((Preprocessed, PreprocessedLabels), bool) {
        let prepared = Cell::new(false);
        let make = || {
            prepared.set(true);
            Ok::<_, PipelineError>(case())
        };
        (load_or_prepare(Some(folder), key, make).unwrap(), prepared.get())
    }

    #[test]
    fn case_is_prepared_once() {
        let folder = tempfile::tempdir().unwrap();
        let cache = folder.path().join("made/on/demand");
        let key = CacheKey::new("abc", &spec(), None).unwrap();
        assert_eq!(load(&cache, &key), (case(), true));
        assert_eq!(load(&cache, &key), (case(), false));
        let other = CacheKey::new("abd", &spec(), None).unwrap();
        assert_ne!(key, CacheKey::new("abc", &spec(), Some(9)).unwrap());
        assert_eq!(load(&cache, &other), (case(), true));
        assert_eq!(std::fs::read_dir(&cache).unwrap().count(), 2);
    }

    #[test]
    fn key_depends_on_every_preprocessing_setting() {
        let key = |change: fn(&mut ModelSpec)| {
            let mut spec = spec();
            change(&mut spec);
            CacheKey::new("abc", &spec, None).unwrap()
        };
        let same = key(|_| {});
        assert_eq!(same, key(|s| s.name = "another model".into()));
        assert_eq!(same, key(|s| s.tile_step = 0.25));
        assert_ne!(same, key(|s| s.crop = CropRule::Nonzero));
        assert_ne!(same, key(|s| s.orientation = "ASR".parse().unwrap()));
        assert_ne!(same, key(|s| s.channels[0].normalisation = Normalisation::MinMax));
        assert_ne!(same, key(|s| s.labels = LabelTable::from_names([(2, "A".to_owned())]).unwrap()));
        assert_ne!(
            same,
            key(|s| {
                let mm = Spacing::new([1.0; 3]).unwrap();
                s.spacing = SpacingRule::Resample {
                    mm,
                    interpolation: Interpolation::Linear,
                    coarse_axis: CoarseAxis::AsOthers,
                };
            })
        );
    }

    #[test]
    fn damaged_and_outdated_files_are_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let (key, other) =
            (CacheKey::new("abc", &spec(), None).unwrap(), CacheKey::new("abd", &spec(), None).unwrap());
        load(folder.path(), &key);
        load(folder.path(), &other);
        let file = key.file(folder.path());
        let good = std::fs::read(&file).unwrap();
        let mut damaged: Vec<Vec<u8>> = Vec::new();
        // A change of any byte is detected.
        for at in 0..good.len() {
            let mut bytes = good.clone();
            bytes[at] ^= 0x10;
            damaged.push(bytes);
        }
        damaged.extend([0, 5, 12, 40, good.len() - 1].map(|length| good[..length].to_vec()));
        damaged.push([good.as_slice(), &[0]].concat());
        damaged.push(std::fs::read(other.file(folder.path())).unwrap());
        for bytes in damaged {
            std::fs::write(&file, bytes).unwrap();
            assert_eq!(load(folder.path(), &key), (case(), true));
        }
        assert_eq!(std::fs::read(&file).unwrap(), good);
        assert_eq!(load(folder.path(), &key), (case(), false));
    }

    #[test]
    fn unwritable_cache_still_returns_prepared_cases() {
        let folder = tempfile::tempdir().unwrap();
        let in_the_way = folder.path().join("cache");
        std::fs::write(&in_the_way, "a file").unwrap();
        let key = CacheKey::new("abc", &spec(), None).unwrap();
        assert_eq!(load(&in_the_way, &key), (case(), true));
        assert_eq!(load(&in_the_way, &key), (case(), true));
    }

    #[test]
    fn failed_preparation_leaves_no_file() {
        let folder = tempfile::tempdir().unwrap();
        let key = CacheKey::new("abc", &spec(), None).unwrap();
        let failed = load_or_prepare(Some(folder.path()), &key, || Err("it failed"));
        assert!(failed.is_err());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
