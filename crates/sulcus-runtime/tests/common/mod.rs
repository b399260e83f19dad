//! Two tiny U-Nets, scans for them, and the ONNX Runtime for tests.
#![allow(dead_code, reason = "each test binary uses its own part")]

use sulcus_model::{ModelSpec, Normalisation, Tiling};
use sulcus_onnx::{Axis, GraphBuilder, attribute};
use sulcus_runtime::ort::{NamedLibrary, OnnxRuntime, OrtLibrary, OrtSearch, find_onnx_runtime, python_prefixes};
use sulcus_runtime::{Device, Engine, Segmenter, SegmenterBuilder};
use sulcus_testing::{Noise, test_spec};
use sulcus_volume::{Geometry, Image, LabelTable, OrientationSource, RasFromVoxel, Spacing};

/// The places where the test machine has ONNX Runtime, searched like on the command line.
pub(crate) fn search() -> OrtSearch {
    let named = ["SULCUS_ORT_LIB", "ORT_DYLIB_PATH"].into_iter().filter_map(|variable| {
        let path = std::env::var_os(variable)?;
        Some(NamedLibrary { origin: format!("${variable}"), path: path.into() })
    });
    let folders = std::env::var_os("PATH").unwrap_or_default();
    OrtSearch {
        named: named.collect(),
        python_prefixes: python_prefixes(std::env::split_paths(&folders)),
        ..OrtSearch::local()
    }
}

/// ONNX Runtime. If there is none, the test is skipped.
pub(crate) fn onnx_runtime() -> OnnxRuntime {
    find_onnx_runtime(&OrtLibrary::Search(search())).unwrap().0.unwrap_or_else(|| sulcus_harness::skip(NO_ORT))
}

/// Whether this machine has ONNX Runtime. If not, that part of the test counts as skipped.
pub(crate) fn has_onnx_runtime() -> bool {
    let has = find_onnx_runtime(&OrtLibrary::Search(search())).unwrap().0.is_some();
    if !has {
        sulcus_harness::skip_part(NO_ORT);
    }
    has
}

const NO_ORT: &str = "there is no ONNX Runtime; set SULCUS_ORT_LIB";

/// A builder for each engine of this machine. A missing engine counts as a skipped part.
pub(crate) fn builders() -> Vec<SegmenterBuilder> {
    let mut builders = [Engine::Tract, Engine::Native].map(|engine| Segmenter::builder().engine(engine)).to_vec();
    if has_onnx_runtime() {
        let library = OrtLibrary::Search(search());
        builders.push(Segmenter::builder().engine(Engine::Ort).device(Device::Cpu).ort_library(library));
    }
    builders
}

pub(crate) fn labels() -> LabelTable {
    LabelTable::from_names([(1, "Middle".to_owned()), (2, "Bright".to_owned())]).unwrap()
}

/// The specification of a tiny network over `axes` axes: two stages, halved once.
pub(crate) fn spec(axes: u8) -> ModelSpec {
    let spec = test_spec(axes)
        .name("self-test")
        .normalisation(Normalisation::MinMax)
        .labels(&[(1, "Middle"), (2, "Bright")])
        .mirrored();
    if axes == 2 {
        spec.patch(&[16, 16], Tiling::Whole).build()
    } else {
        spec.strided().patch(&[8, 12, 12], Tiling::Patch).build()
    }
}

/// A U-Net whose skip connection passes the intensity x in [0, 1] to the head, where a voxel is `Middle` above 0.4 and
/// `Bright` above 0.75; every other weight is noise of a few percent, so that each operation affects the logits.
pub(crate) fn graph(spec: &ModelSpec, seed: u64) -> GraphBuilder {
    let n = spec.network.dimensions.count();
    let flat = n == 2;
    let space = if flat { &["H", "W"][..] } else { &["D", "H", "W"][..] };
    let axes = |channels: usize| -> Vec<Axis<'_>> {
        let fixed = [Axis::Dynamic("N"), Axis::Fixed(channels)];
        fixed.into_iter().chain(space.iter().map(|a| Axis::Dynamic(a))).collect()
    };
    let mut noise = Noise(seed);
    let mut g = GraphBuilder::new("self-test");
    g.input("image", &axes(1), "");
    g.output("logits", &axes(3), "");

    let kernel = |edge: usize| vec![edge; n];
    let conv = |stride: usize| {
        vec![
            attribute::ints("kernel_shape", &kernel(3)),
            attribute::ints("pads", &vec![1; 2 * n]),
            attribute::ints("strides", &vec![stride; n]),
        ]
    };
    let (taps, centre) = (3_usize.pow(n as u32), 3_usize.pow(n as u32) / 2);
    let halves = 2_usize.pow(n as u32);

    let mut first = noise.take(4 * taps, 0.1);
    first[..taps].fill(0.0);
    first[centre] = 1.0;
    g.constant("e.w", &[&[4, 1][..], &kernel(3)].concat(), &first);
    g.constant("e.b", &[4], &[0.0, 0.05, -0.05, 0.1]);
    g.node("Conv", &["image", "e.w", "e.b"], "e.conv", conv(1));
    g.node("Relu", &["e.conv"], "e", vec![]);

    g.constant("d.w", &[&[8, 4][..], &kernel(3)].concat(), &noise.take(8 * 4 * taps, 0.1));
    g.constant("d.b", &[8], &noise.take(8, 0.1));
    if flat {
        let pool = vec![attribute::ints("kernel_shape", &kernel(2)), attribute::ints("strides", &kernel(2))];
        g.node("MaxPool", &["e"], "d.in", pool);
        g.node("Conv", &["d.in", "d.w", "d.b"], "d.conv", conv(1));
        for (name, low) in [("scale", 0.5), ("bias", 0.0), ("mean", 0.0), ("var", 0.8)] {
            let values: Vec<f32> = noise.take(8, 0.1).iter().map(|v| low + v.abs()).collect();
            g.constant(&format!("d.{name}"), &[8], &values);
        }
        g.node("BatchNormalization", &["d.conv", "d.scale", "d.bias", "d.mean", "d.var"], "d.norm", vec![]);
        g.node("Relu", &["d.norm"], "d", vec![]);
    } else {
        g.node("Conv", &["e", "d.w", "d.b"], "d.conv", conv(2));
        g.constant("d.scale", &[8], &noise.take(8, 0.2));
        g.constant("d.bias", &[8], &noise.take(8, 0.2));
        let epsilon = vec![attribute::float("epsilon", 1e-5)];
        g.node("InstanceNormalization", &["d.conv", "d.scale", "d.bias"], "d.norm", epsilon);
        g.node("LeakyRelu", &["d.norm"], "d", vec![attribute::float("alpha", 0.01)]);
    }

    g.constant("u.w", &[&[8, 4][..], &kernel(2)].concat(), &noise.take(8 * 4 * halves, 0.2));
    g.constant("u.b", &[4], &noise.take(4, 0.1));
    let up = vec![attribute::ints("kernel_shape", &kernel(2)), attribute::ints("strides", &kernel(2))];
    g.node("ConvTranspose", &["d", "u.w", "u.b"], "u", up);
    g.node("Concat", &["e", "u"], "joined", vec![attribute::int("axis", 1)]);

    let mut head = noise.take(3 * 8, 0.2);
    for (class, slope) in [(0, 0.0), (1, 20.0), (2, 40.0)] {
        head[class * 8] = slope;
    }
    g.constant("h.w", &[&[3, 8][..], &kernel(1)].concat(), &head);
    g.constant("h.b", &[3], &[0.0, -8.0, -23.0]);
    g.node("Conv", &["joined", "h.w", "h.b"], "logits", vec![attribute::ints("kernel_shape", &kernel(1))]);
    g
}

/// The bytes of a tiny model.
pub(crate) fn model(axes: u8) -> Vec<u8> {
    let spec = spec(axes);
    graph(&spec, 7).finish(&spec, "", "test").unwrap()
}

pub(crate) fn geometry(shape: [usize; 3], orientation: &str, mm: [f64; 3]) -> Geometry {
    let map = RasFromVoxel::aligned(orientation.parse().unwrap(), Spacing::new(mm).unwrap());
    Geometry::new(shape, map, OrientationSource::Sform).unwrap()
}

/// A scan of noise between 0 and 100.
pub(crate) fn noise_scan(shape: [usize; 3], seed: u64) -> Image {
    let values = Noise(seed).take(shape.iter().product(), 50.0).iter().map(|v| v + 50.0).collect();
    Image::new(geometry(shape, "RAS", [1.0, 1.0, 1.5]), 1, values).unwrap()
}

/// A scan of three levels far from the thresholds: a dark background, a `Middle` box, and in it a `Bright` box of 2×2×2
/// voxels.
pub(crate) fn box_scan() -> Image {
    let shape = [12, 10, 4];
    let mut noise = Noise(3);
    let mut values = Vec::new();
    for z in 0..shape[2] {
        for y in 0..shape[1] {
            for x in 0..shape[0] {
                let inside = |low: usize, high: usize| [x, y].iter().all(|v| (low..high).contains(v));
                let level = match (inside(4, 6) && (1..3).contains(&z), inside(2, 8)) {
                    (true, _) => 97.0,
                    (false, true) => 57.0,
                    (false, false) => 3.0,
                };
                values.push(level + 3.0 * noise.next());
            }
        }
    }
    Image::new(geometry(shape, "RAS", [1.0, 1.0, 1.5]), 1, values).unwrap()
}

/// A NIfTI-1 file of an image: sform, single precision.
pub(crate) fn encoded(image: &Image) -> Vec<u8> {
    let rows = image.geometry().ras_from_voxel().rows().map(|row| row.map(|v| v as f32));
    sulcus_testing::nifti(&image.geometry().shape().map(|edge| edge as i16), image.data(), Some(rows))
}
