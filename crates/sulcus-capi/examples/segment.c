/*
 * Segments a scan from C: as an array in memory, and as a file.
 *
 *     segment MODEL.onnx SCAN.nii.gz MASK.nii.gz [ENGINE [ONNX_RUNTIME_LIBRARY]]
 *
 * It also replays the model's golden case, stops a segmentation in the middle, and checks that the array and the file have
 * got the same mask. README.md in the folder above shows how to build it.
 */
#include <stdio.h>
#include <string.h>

#include "sulcus.h"

/* Leaves main's work when a call fails; what was made until then is freed there. */
#define CHECK(call)                                                                                                  \
    do {                                                                                                             \
        SulcusStatus status_ = (call);                                                                               \
        if (status_ != SULCUS_STATUS_OK) {                                                                           \
            fprintf(stderr, "error: %s (%s)\n", sulcus_last_error(), sulcus_status_text(status_));                   \
            goto done;                                                                                               \
        }                                                                                                            \
    } while (0)

/* Counts tiles, and stops after as many as it was told. */
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
        fprintf(stderr, "error: the library is of another version than its header\n");
        return 1;
    }

    /* A model, in an engine. */
    CHECK(sulcus_options_new(&options));
    CHECK(sulcus_options_add_model_file(options, model));
    CHECK(sulcus_options_set_device(options, "cpu"));
    if (argc > 4) CHECK(sulcus_options_set_engine(options, argv[4]));
    if (argc > 5) CHECK(sulcus_options_set_ort_library(options, argv[5]));
    CHECK(sulcus_segmenter_new(options, &segmenter));

    SulcusSegmenterInfo info;
    CHECK(sulcus_segmenter_info(segmenter, &info));
    printf("sulcus %s: %s in %s on %s\n", sulcus_version(), info.model_name, info.engine, info.device);
    for (size_t i = 0; i < info.notes; i++) {
        const char *note;
        CHECK(sulcus_segmenter_note(segmenter, i, &note));
        fprintf(stderr, "note: %s\n", note);
    }
    CHECK(sulcus_segmenter_replay_golden(segmenter));
    printf("golden case: the recorded mask\n");

    /* An array. A program with voxels of its own fills in the SulcusScan itself. */
    SulcusScan scan;
    CHECK(sulcus_image_read(scan_file, &image));
    CHECK(sulcus_image_scan(image, &scan));

    struct progress progress = {0, 0};
    SulcusRun run = {0};
    run.flags = SULCUS_RUN_PROBABILITIES;
    run.progress = on_progress;
    run.user_data = &progress;
    CHECK(sulcus_segment(segmenter, &scan, &run, &of_array));

    const uint16_t *labels;
    const float *probabilities;
    size_t voxels, classes, values;
    SulcusReport report;
    SulcusGrid grid;
    CHECK(sulcus_segmentation_labels(of_array, &labels, &voxels));
    CHECK(sulcus_segmentation_probabilities(of_array, &probabilities, &classes, &values));
    CHECK(sulcus_segmentation_report(of_array, &report));
    CHECK(sulcus_segmentation_grid(of_array, &grid));
    if (progress.done != report.tiles || values != classes * voxels) {
        fprintf(stderr, "error: %zu of %zu tiles were told\n", progress.done, report.tiles);
        goto done;
    }
    printf("%zu x %zu x %zu voxels of %g x %g x %g mm\n", grid.shape[0], grid.shape[1], grid.shape[2],
           grid.spacing_mm[0], grid.spacing_mm[1], grid.spacing_mm[2]);
    for (size_t i = 0; i < report.structures; i++) {
        SulcusStructure structure;
        CHECK(sulcus_segmentation_structure(of_array, i, &structure));
        printf("%s = %u: %llu voxels, %.3f ml\n", structure.name, (unsigned)structure.value,
               (unsigned long long)structure.voxels, structure.ml);
    }

    /* A file. */
    const uint16_t *file_labels;
    size_t file_voxels;
    CHECK(sulcus_segment_file(segmenter, scan_file, mask_file, NULL, &of_file));
    CHECK(sulcus_segmentation_labels(of_file, &file_labels, &file_voxels));
    if (file_voxels != voxels || memcmp(file_labels, labels, voxels * sizeof *labels) != 0) {
        fprintf(stderr, "error: the array and the file got different masks\n");
        goto done;
    }

    /* Stopped half way: nothing is made, and the segmenter is as good as before. */
    progress.stop_after = (report.tiles + 1) / 2;
    if (sulcus_segment(segmenter, &scan, &run, &stopped) != SULCUS_STATUS_CANCELLED || stopped != NULL) {
        fprintf(stderr, "error: it did not stop\n");
        goto done;
    }
    printf("stopped after %zu of %zu tiles\n", progress.done, report.tiles);
    failed = 0;

done:
    /* Freeing nothing is fine, and the order does not matter. */
    sulcus_segmentation_free(stopped);
    sulcus_segmentation_free(of_file);
    sulcus_segmentation_free(of_array);
    sulcus_image_free(image);
    sulcus_segmenter_free(segmenter);
    sulcus_options_free(options);
    return failed;
}
