//! The files, read back byte by byte.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

use sulcus_mesh::{MemoryLimit, NamedSurface, Smoothing, Space, Surface, surface, survey, write_ply, write_stl};
use sulcus_volume::{Geometry, LabelEntry, LabelMap, OrientationSource, RasFromVoxel, Rgb};

fn surfaces() -> Vec<Surface> {
    let rows = [[1.0, 0.0, 0.0, 10.0], [0.0, 2.0, 0.0, 20.0], [0.0, 0.0, 3.0, -30.0]];
    let grid = Geometry::new([3, 1, 1], RasFromVoxel::new(rows).unwrap(), OrientationSource::Sform).unwrap();
    let map = LabelMap::new(grid, vec![1, 0, 4]).unwrap();
    let made = |extent| surface(&map, extent, Smoothing::NONE, MemoryLimit::NONE).unwrap();
    survey(&map).values().map(made).collect()
}

fn entry(value: u16, name: &str) -> LabelEntry {
    LabelEntry { value, name: name.to_owned(), color: Rgb([value as u8, 20, 30]) }
}

fn numbers(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
}

#[test]
fn stl_has_the_space_normals_and_corners_of_each_triangle() {
    let surfaces = surfaces();
    let entry = entry(1, "Left\nhippocampus SPACE=LPS");
    let mut files = Vec::new();
    for space in [Space::Ras, Space::Lps] {
        let mut file = Vec::new();
        write_stl(&mut file, NamedSurface { surface: &surfaces[0], entry: &entry }, space).unwrap();
        files.push(file);
    }
    let [ras, lps] = &files[..] else { panic!("two files") };
    let header = |file: &[u8]| String::from_utf8(file[..80].to_vec()).unwrap();
    assert_eq!(header(ras).trim_end(), "Sulcus SPACE=RAS UNIT=mm LABEL=1 NAME=Left hippocampus SPACE LPS");
    assert!(header(lps).contains("SPACE=LPS") && !header(ras).contains("SPACE=LPS"));
    assert_eq!((ras.len(), ras[80..84].to_vec()), (84 + 12 * 50, 12_u32.to_le_bytes().to_vec()));
    for (record, triangle) in ras[84..].chunks(50).zip(surfaces[0].triangles()) {
        let found = numbers(&record[..48]);
        let corners: Vec<f32> = triangle.iter().flat_map(|i| surfaces[0].vertices()[*i as usize]).collect();
        assert_eq!(found[3..], corners);
        assert_eq!(found[..3].iter().map(|n| n * n).sum::<f32>(), 1.0, "faces of a box");
        // The centre of the voxel is at (10, 20, -30).
        let outward: f32 = (0..3).map(|i| found[i] * (found[3 + i] - [10.0, 20.0, -30.0][i])).sum();
        assert!(outward > 0.0 && record[48..] == [0, 0]);
    }
    for (ras, lps) in ras[84..].chunks(50).zip(lps[84..].chunks(50)) {
        for (ras, lps) in numbers(&ras[..48]).chunks(3).zip(numbers(&lps[..48]).chunks(3)) {
            assert_eq!([-ras[0], -ras[1], ras[2]], lps);
        }
    }
}

#[test]
fn long_names_are_cut_between_characters() {
    let surfaces = surfaces();
    for length in 20..40 {
        let mut file = Vec::new();
        let entry = entry(1, &"ä".repeat(length));
        write_stl(&mut file, NamedSurface { surface: &surfaces[0], entry: &entry }, Space::Ras).unwrap();
        assert!(String::from_utf8(file[..80].to_vec()).is_ok(), "{length}");
        assert_eq!(file.len(), 84 + 12 * 50);
    }
}

#[test]
fn ply_has_all_labels_with_names_and_colours() {
    let surfaces = surfaces();
    let entries = [entry(1, "One"), entry(4, "Four\r\nend_header")];
    let named: Vec<NamedSurface<'_>> =
        surfaces.iter().zip(&entries).map(|(surface, entry)| NamedSurface { surface, entry }).collect();
    let mut file = Vec::new();
    write_ply(&mut file, &named, Space::Ras).unwrap();
    let end = file.windows(11).position(|w| w == b"end_header\n").unwrap();
    // The name of the second label contains the words, but not as a line.
    let end = file[end + 11..].windows(11).position(|w| w == b"end_header\n").map_or(end, |more| end + 11 + more);
    let header = std::str::from_utf8(&file[..end]).unwrap();
    assert_eq!(
        header.lines().collect::<Vec<_>>(),
        [
            "ply",
            "format binary_little_endian 1.0",
            "comment Sulcus",
            "comment SPACE=RAS",
            "comment UNIT=mm",
            "comment LABEL=1 VERTICES=8 TRIANGLES=12 NAME=One",
            "comment LABEL=4 VERTICES=8 TRIANGLES=12 NAME=Four  end_header",
            "element vertex 16",
            "property float x",
            "property float y",
            "property float z",
            "property uchar red",
            "property uchar green",
            "property uchar blue",
            "element face 24",
            "property list uchar int vertex_indices",
        ]
    );
    let (vertices, faces) = file[end + 11..].split_at(16 * 15);
    assert_eq!(faces.len(), 24 * 13);
    for (i, record) in vertices.chunks(15).enumerate() {
        assert_eq!(numbers(&record[..12]), surfaces[i / 8].vertices()[i % 8]);
        assert_eq!(record[12..], [[1, 20, 30], [4, 20, 30]][i / 8]);
    }
    for (i, record) in faces.chunks(13).enumerate() {
        let found: Vec<u32> =
            record[1..].as_chunks::<4>().0.iter().map(|b| u32::from_le_bytes(*b) - 8 * (i / 12) as u32).collect();
        assert_eq!((record[0], found), (3, surfaces[i / 12].triangles()[i % 12].to_vec()));
    }
}
