/*
 * Segments a scan from C: as an array in memory, and as a file.
 *
 *     segment MODEL.onnx SCAN.nii.gz MASK.nii.gz [ENGINE [ONNX_RUNTIME_LIBRARY]]
 *
 * It also replays the model's golden case, stops a segmentation in the middle, and checks that the array and the file give
 * the same mask. README.md in the folder above shows how to build it.
 */
#include <stdio.h>
#include <string.h>

#include "sulcus.h"

/* Jumps to the clean-up code when a call fails. */
#define CHECK(call)                                                                                                  \
    do {                                                                                                             \
        SulcusStatus status_ = (call);                                                                               \
        if (status_ != SULCUS_STATUS_OK) {                                                                           \
            fprintf(stderr, "error: %s (%s)\n", sulcus_last_error(), sulcus_status_text(status_));                   \
            goto done;                                                                                               \
        }                                                                                                            \
    } while (0)

/* Counts tiles, and stops after a given number. */
struct progress {
    size_t done, stop_after;
};

static int on_progress(void *user_data, size_t tiles_done, size_t tiles_total) {
    struct progress *progress = user_data;
    (void)tiles_total;
    progress->done = tiles_done;
    return tiles_done == progress->stop_after;
}

int main(int argc, char **argv) {
    if (argc < 4 || argc > 6) {
        fprintf(stderr, "usage: %s MODEL SCAN MASK [ENGINE [ONNX_RUNTIME_LIBRARY]]\n", argv[0]);
        return 2;
    }
    const char *model = argv[1], *scan_file = argv[2], *mask_file = argv[3];
    int failed = 1;
    SulcusOptions *options = NULL;
    SulcusSegmenter *segmenter = NULL;
    SulcusImage *image = NULL;
    SulcusSegmentation *of_array = NULL, *of_file = NULL, *stopped = NULL;

    if (sulcus_abi_version() != SULCUS_ABI_VERSION) {
        fprintf(stderr, "error: the library and the header have different versions\n");
        return 1;
    }

    /* Load a model. */
    CHECK(sulcus_options_new(&options));
    CHECK(sulcus_options_add_model_file(options, model));
    CHECK(sulcus_options_set_device(options, "cpu"));
    if (argc > 4) CHECK(sulcus_options_set_engine(options, argv[4]));
    if (argc > 5) CHECK(sulcus_options_set_ort_library(options, argv[5]));
    CHECK(sulcus_segmenter_new(options, &segmenter));

    SulcusSegmenterInfo info;
    info.struct_size = sizeof info;
    CHECK(sulcus_segmenter_info(segmenter, &info));
    printf("sulcus %s: %s in %s on %s\n", sulcus_version(), info.model_name, info.engine, info.device);
    for (size_t i = 0; i < info.notes; i++) {
        const char *note;
        CHECK(sulcus_segmenter_note(segmenter, i, &note));
        fprintf(stderr, "note: %s\n", note);
    }
    CHECK(sulcus_segmenter_replay_golden(segmenter));
    printf("golden case: the recorded mask\n");

    /* Segment an array. A program with its own voxels fills in the SulcusScan itself. */
    SulcusScan scan;
    CHECK(sulcus_image_read(scan_file, &image));
    CHECK(sulcus_image_scan(image, &scan));

    struct progress progress = {0, 0};
    SulcusSegmentOptions segment_options = {0};
    segment_options.struct_size = sizeof segment_options;
    segment_options.flags = SULCUS_SEGMENT_PROBABILITIES;
    segment_options.progress = on_progress;
    segment_options.user_data = &progress;
    CHECK(sulcus_segment(segmenter, &scan, &segment_options, &of_array));

    const uint16_t *labels;
    const float *probabilities;
    size_t voxels, classes, values;
    SulcusReport report;
    SulcusGrid grid;
    CHECK(sulcus_segmentation_labels(of_array, &labels, &voxels));
    CHECK(sulcus_segmentation_probabilities(of_array, &probabilities, &classes, &values));
    report.struct_size = sizeof report;
    CHECK(sulcus_segmentation_report(of_array, &report));
    CHECK(sulcus_segmentation_grid(of_array, &grid));
    if (progress.done != report.tiles || values != classes * voxels) {
        fprintf(stderr, "error: the callback counted %zu of %zu tiles\n", progress.done, report.tiles);
        goto done;
    }
    printf("%zu x %zu x %zu voxels of %g x %g x %g mm\n", grid.shape[0], grid.shape[1], grid.shape[2],
           grid.spacing_mm[0], grid.spacing_mm[1], grid.spacing_mm[2]);
    for (size_t i = 0; i < report.warnings; i++) {
        SulcusWarning warning;
        warning.struct_size = sizeof warning;
        CHECK(sulcus_segmentation_warning(of_array, i, &warning));
        fprintf(stderr, "warning: %s (%s)\n", warning.message, warning.kind);
    }
    for (size_t i = 0; i < report.structures; i++) {
        SulcusStructure structure;
        structure.struct_size = sizeof structure;
        CHECK(sulcus_segmentation_structure(of_array, i, &structure));
        printf("%s = %u: %llu voxels, %.3f ml\n", structure.name, (unsigned)structure.value,
               (unsigned long long)structure.voxels, structure.ml);
    }

    /* Segment a file. */
    const uint16_t *file_labels;
    size_t file_voxels;
    CHECK(sulcus_segment_file(segmenter, scan_file, mask_file, NULL, &of_file));
    CHECK(sulcus_segmentation_labels(of_file, &file_labels, &file_voxels));
    if (file_voxels != voxels || memcmp(file_labels, labels, voxels * sizeof *labels) != 0) {
        fprintf(stderr, "error: the array and the file gave different masks\n");
        goto done;
    }

    /* Stop half way: there is no segmentation, and the segmenter stays usable. */
    progress.stop_after = (report.tiles + 1) / 2;
    if (sulcus_segment(segmenter, &scan, &segment_options, &stopped) != SULCUS_STATUS_CANCELLED || stopped != NULL) {
        fprintf(stderr, "error: it did not stop\n");
        goto done;
    }
    printf("stopped after %zu of %zu tiles\n", progress.done, report.tiles);
    failed = 0;

done:
    /* Null may be freed, and the order does not matter. */
    sulcus_segmentation_free(stopped);
    sulcus_segmentation_free(of_file);
    sulcus_segmentation_free(of_array);
    sulcus_image_free(image);
    sulcus_segmenter_free(segmenter);
    sulcus_options_free(options);
    return failed;
}
