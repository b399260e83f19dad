//! A task of TotalSegmentator over HTTP.

use sulcus_io::Compression;
use sulcus_pipeline::Numerics;
use sulcus_runtime::{Engine, SegmentOptions, Segmenter};
use sulcus_serve::Options;

use crate::client::{get, segment};
use crate::server::Running;

#[test]
fn pack_gives_the_masks_of_the_runtime_and_of_totalsegmentator() {
    let folder = sulcus_testing::repository().join("crates/sulcus-nnunet/tests/fixtures/totalsegmentator");
    let sent = std::fs::read(folder.join("scan.nii.gz")).unwrap();
    let scan = sulcus_io::read_scan(&folder.join("scan.nii.gz")).unwrap();
    let (theirs, _) = sulcus_io::read_labels(&folder.join("headneck_muscles.nii.gz")).unwrap();
    for numerics in [Numerics::Float32, Numerics::Nnunet] {
        let builder = Segmenter::builder().engine(Engine::Native).numerics(numerics);
        let build = || builder.clone().model(folder.join("headneck_muscles.onnx")).build().unwrap();
        let found = build().segment(&scan.image, SegmentOptions::default()).unwrap();
        let expected =
            sulcus_io::encode_labels(&found.labels, &scan.metadata, &found.table, Compression::Gzip).unwrap();
        let running = Running::start(build(), Options::default());
        let response = segment(running.address, &sent, &[]);
        assert_eq!(response.status, 200, "{}", response.text());
        assert!(response.body == expected, "{numerics:?}");
        let (mask, source) = sulcus_io::read_labels_bytes(&response.body).unwrap();
        assert_eq!(source.label_table().unwrap().entries().len(), 23);
        let different = mask.data().iter().zip(theirs.data()).filter(|(a, b)| a != b).count();
        assert_eq!(different == 0, numerics == Numerics::Nnunet, "{different} voxels differ");

        let result: serde_json::Value = serde_json::from_str(response.header("sulcus-result").unwrap()).unwrap();
        let steps: Vec<_> = result["steps"].as_array().unwrap().iter().map(|step| &step["network"]).collect();
        assert_eq!(steps, ["dataset_298", "dataset_778", "dataset_779"]);
        assert_eq!(result.get("numerics").is_some(), numerics == Numerics::Nnunet, "{result}");
        let model = get(running.address, "/v1/model");
        assert!(model.text().contains("sternocleidomastoid_right"), "{}", model.text());
    }
}
