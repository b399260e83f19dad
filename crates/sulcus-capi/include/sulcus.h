/*
 * Sulcus: segments medical scans with a model that `sulcus` exported.
 *
 * Made by cbindgen from crates/sulcus-capi/src; change the sources, not this file. README.md beside the folder shows how
 * to build and link. What holds for every function:
 *
 * Errors. What can fail returns a SulcusStatus, 0 being success. The sentence for people is in sulcus_last_error(), which
 * each thread has for itself. Nothing is printed, except by Rust itself when a bug of the library is caught, which comes
 * back as SULCUS_STATUS_PANIC. No exception and no panic crosses this border.
 *
 * Pointers. A null pointer where one is needed is an error, as is one that is not aligned for what it points to. What is
 * passed in is borrowed for the call alone; the library copies what it keeps. What is handed out is either a handle, to be
 * given back to the function of its name that ends in _free, or belongs to the handle that it was asked of and lives as long.
 * A call that makes a handle sets it to null first, so that it is null after a failure.
 *
 * Text. Strings end with a zero byte and are UTF-8. Paths are UTF-8 on Windows, and the system's own bytes elsewhere.
 *
 * Threads. Functions that take a handle as a pointer to const may be called with the same handle from several threads at
 * once; the others, and those that free, need it for themselves.
 *
 * Surroundings. No environment variable changes what the library does. A process holds one ONNX Runtime: the first one that
 * was loaded stays until the process ends, for every segmenter.
 */


#ifndef SULCUS_H
#define SULCUS_H

#include <stddef.h>
#include <stdint.h>

/**
 * The version of this interface. It is raised when a function or a struct changes so that a program has to be compiled
 * again; new functions don't raise it.
 */
#define SULCUS_ABI_VERSION 1

/**
 * The axes of the patient that a world has: right, anterior, superior are positive (NIfTI, this library).
 */
#define SULCUS_WORLD_RAS 0

/**
 * Left, posterior, superior are positive (DICOM, ITK).
 */
#define SULCUS_WORLD_LPS 1

/**
 * In `SulcusRun.flags`: also give each class's probability.
 */
#define SULCUS_RUN_PROBABILITIES 1

/**
 * How a call ended. 0 is success; new numbers may come, so treat those that you don't know as failures.
 */
enum SulcusStatus
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
    /**
     * All was done.
     */
    SULCUS_STATUS_OK = 0,
    /**
     * An argument can't be used: a null pointer, a wrong rank or length, a transform without inverse, an unknown name.
     */
    SULCUS_STATUS_INVALID_ARGUMENT = 1,
    /**
     * A model can't be used: no such file, not a model, of a newer format, or several that don't fit each other.
     */
    SULCUS_STATUS_MODEL = 2,
    /**
     * The engine can't be had, or doesn't take the model.
     */
    SULCUS_STATUS_ENGINE = 3,
    /**
     * The device that was named can't be had, or not in half precision.
     */
    SULCUS_STATUS_DEVICE = 4,
    /**
     * The scan doesn't suit the model, or holds voxels that are NaN or infinite.
     */
    SULCUS_STATUS_SCAN = 5,
    /**
     * A file can't be read or written.
     */
    SULCUS_STATUS_FILE = 6,
    /**
     * The scan can't be segmented within the memory limit.
     */
    SULCUS_STATUS_MEMORY_LIMIT = 7,
    /**
     * The progress callback asked to stop.
     */
    SULCUS_STATUS_CANCELLED = 8,
    /**
     * The engine failed at work, or its answer is unusable.
     */
    SULCUS_STATUS_INFERENCE = 9,
    /**
     * The model carries no golden case, or gives another mask than the one recorded.
     */
    SULCUS_STATUS_GOLDEN_CASE = 10,
    /**
     * There is no such thing: probabilities that were not asked for, or an index beyond the last.
     */
    SULCUS_STATUS_NOT_AVAILABLE = 11,
    /**
     * There is not enough memory.
     */
    SULCUS_STATUS_OUT_OF_MEMORY = 12,
    /**
     * A bug in the library, which was caught. The handles of this call should be freed and not used any more.
     */
    SULCUS_STATUS_PANIC = 13,
    /**
     * Anything else.
     */
    SULCUS_STATUS_FAILED = 14,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum SulcusStatus SulcusStatus;
#else
typedef int32_t SulcusStatus;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/**
 * A scan that was read from a file. Made by `sulcus_image_read`, freed by `sulcus_image_free`.
 */
typedef struct SulcusImage SulcusImage;

/**
 * What a segmenter is to be made of. Made by `sulcus_options_new`, freed by `sulcus_options_free`; one thread at a time.
 */
typedef struct SulcusOptions SulcusOptions;

/**
 * A segmented scan. Made by `sulcus_segment` and `sulcus_segment_file`, freed by `sulcus_segmentation_free`; it needs its
 * segmenter no more.
 */
typedef struct SulcusSegmentation SulcusSegmentation;

/**
 * One or more models, loaded and ready. Made by `sulcus_segmenter_new`, freed by `sulcus_segmenter_free`. Several threads
 * may segment with it at once; how many of their tiles run at a time is the engine's affair.
 */
typedef struct SulcusSegmenter SulcusSegmenter;

/**
 * What a segmenter is. Its texts belong to the segmenter and live as long.
 */
typedef struct SulcusSegmenterInfo {
    /**
     * What people call the model; of several the first one's.
     */
    const char *model_name;
    /**
     * What runs the network: `ort` or `tract`.
     */
    const char *engine;
    /**
     * Where it runs, such as `cpu` or `cuda:0`.
     */
    const char *device;
    /**
     * Models that are averaged.
     */
    size_t models;
    /**
     * Channels that a scan must have; `sulcus_segmenter_channel` names them.
     */
    size_t channels;
    /**
     * Sentences that a person should read; `sulcus_segmenter_note` gives them.
     */
    size_t notes;
} SulcusSegmenterInfo;

/**
 * A scan in the caller's memory, which a call only reads.
 */
typedef struct SulcusScan {
    /**
     * The intensities, first axis fastest: voxel (x, y, z) of channel c is at ((c * nz + z) * ny + y) * nx + x.
     */
    const float *voxels;
    /**
     * Their number: the product of the shape.
     */
    size_t length;
    /**
     * The edges x, y, z and, with rank 4, the number of channels.
     */
    const size_t *shape;
    /**
     * 3, or 4 with channels.
     */
    size_t rank;
    /**
     * Where voxels lie in the patient: the 4x4 matrix from voxel indices to millimetres, right, anterior and superior being
     * positive, as 16 numbers row by row; the last row is 0 0 0 1. `sulcus_ras_from_directions` makes one.
     */
    const double *ras_from_voxel;
} SulcusScan;

/**
 * A grid in the patient.
 */
typedef struct SulcusGrid {
    /**
     * Voxels along x, y, z.
     */
    size_t shape[3];
    /**
     * Voxel sizes along the three axes.
     */
    double spacing_mm[3];
    /**
     * The 4x4 matrix from voxel indices to RAS millimetres, row by row.
     */
    double ras_from_voxel[16];
    /**
     * 0 where the file did not say how it lies in the patient, so that left and right are a guess; 1 otherwise.
     */
    uint32_t orientation_known;
} SulcusGrid;

/**
 * Is told of each tile done, in the thread that called `sulcus_segment` or `sulcus_segment_file`. 0 goes on, anything else
 * stops with SULCUS_STATUS_CANCELLED. It must return: no exception and no longjmp may leave it. It may call functions of
 * this library.
 */
typedef int (*SulcusProgress)(void *user_data, size_t tiles_done, size_t tiles_total);

/**
 * What is wanted of one segmentation. All zero (`SulcusRun run = {0}`) is the same as none.
 */
typedef struct SulcusRun {
    /**
     * SULCUS_RUN_PROBABILITIES, or 0.
     */
    uint32_t flags;
    /**
     * What the process may hold during this segmentation, in place of the segmenter's own limit; 0 keeps that one.
     */
    uint64_t max_memory;
    /**
     * Is told how far it is; null for nobody.
     */
    SulcusProgress progress;
    /**
     * Given to `progress` as it is.
     */
    void *user_data;
} SulcusRun;

/**
 * How much of a mask a structure takes. Its pointers belong to the segmentation and live as long.
 */
typedef struct SulcusStructure {
    /**
     * Its name.
     */
    const char *name;
    /**
     * All label values that belong to it: those of a region, or the one.
     */
    const uint16_t *values;
    /**
     * Their number.
     */
    size_t values_length;
    /**
     * Its value in the mask; a region's, where no other region lies over it.
     */
    uint16_t value;
    /**
     * Voxels that have any of the values.
     */
    uint64_t voxels;
    /**
     * Their volume in millilitres.
     */
    double ml;
} SulcusStructure;

/**
 * What ran where, and where the time went. Its texts belong to the segmentation and live as long.
 */
typedef struct SulcusReport {
    /**
     * What ran the network: `ort` or `tract`.
     */
    const char *engine;
    /**
     * Where it ran, such as `cpu` or `cuda:0`.
     */
    const char *device;
    /**
     * The numbers that the network is written in, such as `fp32`; of an ensemble of several kinds all, as `fp32+int8`.
     */
    const char *precision;
    /**
     * Structures that `sulcus_segmentation_structure` gives.
     */
    size_t structures;
    /**
     * Tiles that the scan was cut into.
     */
    size_t tiles;
    /**
     * The most memory that the process has held up to then, in bytes; 0 where the system doesn't say.
     */
    uint64_t peak_memory_bytes;
    /**
     * Turning, resampling and normalising the scan, in seconds of the wall clock.
     */
    double preprocess_seconds;
    /**
     * Asking the network tile by tile, blending and deciding.
     */
    double infer_seconds;
    /**
     * The part of that during which the engine worked.
     */
    double engine_seconds;
    /**
     * What is done to the whole mask.
     */
    double postprocess_seconds;
} SulcusReport;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/**
 * The `SULCUS_ABI_VERSION` of the library that was loaded; compare it with the header's, as a program that loads the
 * library at run time should.
 *
 * Any thread may call it.
 */
uint32_t sulcus_abi_version(void);

/**
 * The version of the kit, such as `0.1.0`.
 *
 * The text is the library's and stays for good; any thread may call it.
 */
const char *sulcus_version(void);

/**
 * What a status means, in a few words; `sulcus_last_error` says more. A number that is no status gives a text too.
 *
 * The text is the library's and stays for good; any thread may call it.
 */
const char *sulcus_status_text(int32_t status);

/**
 * What went wrong in this thread's last call that failed, a sentence for people in UTF-8; an empty text when none has.
 * It carries no patient data but the paths that it was given.
 *
 * The text is the library's: it stays until the next failure in this thread, or the thread's end, so copy what is needed
 * longer. Any thread may call it and sees its own errors alone. Calls that succeed leave it as it is: look at the status
 * first.
 */
const char *sulcus_last_error(void);

/**
 * Makes options with nothing in them: no model, engine and device `auto`, all threads, no mirroring, each model's own
 * step, no memory limit.
 *
 * `options` is filled in; the caller frees it with `sulcus_options_free`. Any thread may call it.
 *
 * # Safety
 * `options` points to room for a pointer.
 */
SulcusStatus sulcus_options_new(struct SulcusOptions **options);

/**
 * Frees options; null is nothing. Segmenters that were made with them live on.
 *
 * # Safety
 * `options` is null or from `sulcus_options_new`, was not freed before, and no other thread uses it.
 */
void sulcus_options_free(struct SulcusOptions *options);

/**
 * Adds a model file. Several models are averaged, as the folds of a cross-validation are; they must agree on channels and
 * labels. The file is read by `sulcus_segmenter_new`.
 *
 * The path is copied. One thread at a time may use the options.
 *
 * # Safety
 * `options` is from `sulcus_options_new`; `model` is a text that ends with a zero byte.
 */
SulcusStatus sulcus_options_add_model_file(struct SulcusOptions *options,
                                           const char *model);

/**
 * Adds a model that is in memory: the bytes of its file, which are copied.
 *
 * One thread at a time may use the options.
 *
 * # Safety
 * `options` is from `sulcus_options_new`; `bytes` points to `length` bytes.
 */
SulcusStatus sulcus_options_add_model_bytes(struct SulcusOptions *options, const uint8_t *bytes, size_t length);

/**
 * What runs the network: `auto` (ONNX Runtime where it is found, the embedded engine otherwise), `ort` or `tract`. What
 * was taken, `sulcus_segmenter_info` says.
 *
 * The name is copied. One thread at a time may use the options.
 *
 * # Safety
 * `options` is from `sulcus_options_new`; `engine` is a text that ends with a zero byte.
 */
SulcusStatus sulcus_options_set_engine(struct SulcusOptions *options,
                                       const char *engine);

/**
 * Where it runs: `auto`, `cpu`, `openvino`, `cuda`, `cuda:N`, `tensorrt` or `tensorrt:N`. A device that is named is used, or
 * `sulcus_segmenter_new` says why not: nothing falls back.
 *
 * The name is copied. One thread at a time may use the options.
 *
 * # Safety
 * `options` is from `sulcus_options_new`; `device` is a text that ends with a zero byte.
 */
SulcusStatus sulcus_options_set_device(struct SulcusOptions *options,
                                       const char *device);

/**
 * Threads for the network, at least 1; all that the process may use unless this is called.
 *
 * One thread at a time may use the options.
 *
 * # Safety
 * `options` is from `sulcus_options_new`.
 */
SulcusStatus sulcus_options_set_threads(struct SulcusOptions *options, size_t threads);

/**
 * Whether it also predicts mirrored along the axes that the model was trained for, and averages: slower, often a little
 * better. 0 is no, anything else yes.
 *
 * One thread at a time may use the options.
 *
 * # Safety
 * `options` is from `sulcus_options_new`.
 */
SulcusStatus sulcus_options_set_mirror(struct SulcusOptions *options,
                                       int mirror);

/**
 * By what share of a tile the window advances, more than 0 and at most 1; the model's own unless this is called.
 *
 * One thread at a time may use the options.
 *
 * # Safety
 * `options` is from `sulcus_options_new`.
 */
SulcusStatus sulcus_options_set_step(struct SulcusOptions *options, double step);

/**
 * What the process may hold, in bytes, everything else in it included; no limit unless this is called. It is kept by
 * working on a part of a scan at a time, which takes longer and gives the same mask; a scan that needs more is refused.
 * The caller's own copy of the scan's voxels is memory of the process that the library does not count.
 *
 * One thread at a time may use the options.
 *
 * # Safety
 * `options` is from `sulcus_options_new`.
 */
SulcusStatus sulcus_options_set_max_memory(struct SulcusOptions *options,
                                           uint64_t bytes);

/**
 * Whether it computes in half precision: bf16 on `openvino`, fp16 on `tensorrt`. Faster; voxels at the borders may change.
 * Any other device is then an error of `sulcus_segmenter_new`. 0 is no, anything else yes.
 *
 * One thread at a time may use the options.
 *
 * # Safety
 * `options` is from `sulcus_options_new`.
 */
SulcusStatus sulcus_options_set_half(struct SulcusOptions *options,
                                     int half);

/**
 * Whether models are taken that did not pass their check when they were exported, whose masks may be wrong. Unless this is
 * called, `sulcus_segmenter_new` refuses them. 0 is no, anything else yes.
 *
 * One thread at a time may use the options.
 *
 * # Safety
 * `options` is from `sulcus_options_new`.
 */
SulcusStatus sulcus_options_set_allow_unchecked(struct SulcusOptions *options,
                                                int allow);

/**
 * A folder that keeps what ONNX Runtime makes of a model for the processor, and TensorRT, which takes minutes, for a GPU,
 * so that the next process starts sooner; nowhere unless this is called. It is made when there is none. What lies in it
 * is trusted: keep it where others can't write.
 *
 * The path is copied. One thread at a time may use the options.
 *
 * # Safety
 * `options` is from `sulcus_options_new`; `folder` is a text that ends with a zero byte.
 */
SulcusStatus sulcus_options_set_cache_folder(struct SulcusOptions *options,
                                             const char *folder);

/**
 * The ONNX Runtime library, or a folder that holds it: version 1.22 or newer. Unless this is called it is looked for beside
 * the executable and in the system's folders; no environment variable is asked. A process holds one: naming another than
 * the one that is loaded is an error of `sulcus_segmenter_new`.
 *
 * The path is copied. One thread at a time may use the options.
 *
 * # Safety
 * `options` is from `sulcus_options_new`; `library` is a text that ends with a zero byte.
 */
SulcusStatus sulcus_options_set_ort_library(struct SulcusOptions *options,
                                            const char *library);

/**
 * Reads the models and gets the engine ready, which may take seconds.
 *
 * `segmenter` is filled in; the caller frees it with `sulcus_segmenter_free`. The options are copied: they may be used
 * again, changed or freed. Any thread may call it.
 *
 * # Safety
 * `options` is from `sulcus_options_new`; `segmenter` points to room for a pointer.
 */
SulcusStatus sulcus_segmenter_new(const struct SulcusOptions *options,
                                  struct SulcusSegmenter **segmenter);

/**
 * Frees a segmenter; null is nothing. Segmentations that it made live on.
 *
 * # Safety
 * `segmenter` is null or from `sulcus_segmenter_new`, was not freed before, and no other thread uses it.
 */
void sulcus_segmenter_free(struct SulcusSegmenter *segmenter);

/**
 * Fills in what a segmenter is, and what engine and device were taken.
 *
 * The texts belong to the segmenter. Several threads may ask at once.
 *
 * # Safety
 * `segmenter` is from `sulcus_segmenter_new`; `info` points to room for a `SulcusSegmenterInfo`.
 */
SulcusStatus sulcus_segmenter_info(const struct SulcusSegmenter *segmenter, struct SulcusSegmenterInfo *info);

/**
 * Fills in the name of a channel that scans must have, such as `MRI`, in their order from 0.
 *
 * The text belongs to the segmenter. Several threads may ask at once.
 *
 * # Safety
 * `segmenter` is from `sulcus_segmenter_new`; `name` points to room for a pointer.
 */
SulcusStatus sulcus_segmenter_channel(const struct SulcusSegmenter *segmenter, size_t index, const char **name);

/**
 * Fills in a sentence about what `auto` chose, from 0: for people, and worth showing.
 *
 * The text belongs to the segmenter. Several threads may ask at once.
 *
 * # Safety
 * `segmenter` is from `sulcus_segmenter_new`; `note` points to room for a pointer.
 */
SulcusStatus sulcus_segmenter_note(const struct SulcusSegmenter *segmenter, size_t index, const char **note);

/**
 * Segments the small scan that each model carries and compares the mask with the one that is recorded: a check of the file,
 * the engine and this machine together.
 *
 * Several threads may call it at once.
 *
 * # Safety
 * `segmenter` is from `sulcus_segmenter_new`.
 */
SulcusStatus sulcus_segmenter_replay_golden(const struct SulcusSegmenter *segmenter);

/**
 * Makes the matrix of a `SulcusScan` from what DICOM and ITK say: voxel sizes, the directions of the axes and where the
 * first voxel lies.
 *
 * `spacing_mm` has 3 numbers, `origin_mm` 3, `directions` 9: a 3x3 matrix row by row, whose columns are the directions of
 * the axes x, y, z, each of length 1 (ITK's GetDirection). `world` says what origin and directions count as positive:
 * SULCUS_WORLD_RAS or SULCUS_WORLD_LPS. Room for the 16 numbers of `ras_from_voxel` is the caller's. Any thread may call it.
 *
 * # Safety
 * The pointers point to as many numbers as said.
 */
SulcusStatus sulcus_ras_from_directions(const double *spacing_mm,
                                        const double *directions,
                                        const double *origin_mm,
                                        uint32_t world,
                                        double *ras_from_voxel);

/**
 * Reads a scan from a NIfTI, NRRD or MetaImage file, as `sulcus_segment_file` does: intensities after slope and intercept,
 * a channel for each index of the fourth axis.
 *
 * `image` is filled in; the caller frees it with `sulcus_image_free`. Any thread may call it.
 *
 * # Safety
 * `file` is a text that ends with a zero byte; `image` points to room for a pointer.
 */
SulcusStatus sulcus_image_read(const char *file,
                               struct SulcusImage **image);

/**
 * Frees an image; null is nothing.
 *
 * # Safety
 * `image` is null or from `sulcus_image_read`, was not freed before, and no other thread uses it or a `SulcusScan` of it.
 */
void sulcus_image_free(struct SulcusImage *image);

/**
 * Fills in the image's voxels and where they lie, as `sulcus_segment` takes them.
 *
 * What the scan's pointers point to belongs to the image and lives as long. Several threads may ask at once.
 *
 * # Safety
 * `image` is from `sulcus_image_read`; `scan` points to room for a `SulcusScan`.
 */
SulcusStatus sulcus_image_scan(const struct SulcusImage *image, struct SulcusScan *scan);

/**
 * Fills in the image's grid.
 *
 * `grid` is the caller's. Several threads may ask at once.
 *
 * # Safety
 * `image` is from `sulcus_image_read`; `grid` points to room for a `SulcusGrid`.
 */
SulcusStatus sulcus_image_grid(const struct SulcusImage *image, struct SulcusGrid *grid);

/**
 * Segments a scan that is in memory. `run` may be null.
 *
 * `segmentation` is filled in; the caller frees it with `sulcus_segmentation_free`. The scan is copied and may be changed
 * afterwards. Several threads may segment with one segmenter at once.
 *
 * A scan smaller than the model's patch is padded; one that is not finite everywhere is refused, as nobody knows what its
 * NaN and infinite voxels mean.
 *
 * # Safety
 * `segmenter` is from `sulcus_segmenter_new`; `scan` points to one whose pointers point to as much as it says;
 * `segmentation` points to room for a pointer.
 */
SulcusStatus sulcus_segment(const struct SulcusSegmenter *segmenter,
                            const struct SulcusScan *scan,
                            const struct SulcusRun *run,
                            struct SulcusSegmentation **segmentation);

/**
 * Segments a file and writes the mask, on the same grid and with the names of the labels: NIfTI, NRRD or MetaImage, by
 * their names. The mask is written under a temporary name and renamed, so that there is none after a failure; it can't
 * overwrite the scan. `run` may be null.
 *
 * `segmentation` is filled in and the caller frees it with `sulcus_segmentation_free`; it may be null, when nobody wants it.
 * Several threads may segment with one segmenter at once.
 *
 * # Safety
 * `segmenter` is from `sulcus_segmenter_new`; the paths are texts that end with a zero byte; `segmentation` is null or
 * points to room for a pointer.
 */
SulcusStatus sulcus_segment_file(const struct SulcusSegmenter *segmenter,
                                 const char *scan,
                                 const char *mask,
                                 const struct SulcusRun *run,
                                 struct SulcusSegmentation **segmentation);

/**
 * Frees a segmentation; null is nothing.
 *
 * # Safety
 * `segmentation` is null or from this library, was not freed before, and no other thread uses it or what belongs to it.
 */
void sulcus_segmentation_free(struct SulcusSegmentation *segmentation);

/**
 * Fills in the mask: a label value for each voxel of the scan's own grid, first axis fastest; 0 is the background.
 *
 * The labels belong to the segmentation and live as long. Several threads may ask at once.
 *
 * # Safety
 * `segmentation` is from this library; the other pointers point to room for what is filled in.
 */
SulcusStatus sulcus_segmentation_labels(const struct SulcusSegmentation *segmentation,
                                        const uint16_t **labels,
                                        size_t *length);

/**
 * Fills in the grid that mask and probabilities lie on: the scan's own.
 *
 * `grid` is the caller's. Several threads may ask at once.
 *
 * # Safety
 * `segmentation` is from this library; `grid` points to room for a `SulcusGrid`.
 */
SulcusStatus sulcus_segmentation_grid(const struct SulcusSegmentation *segmentation, struct SulcusGrid *grid);

/**
 * Fills in each class's probability, which has to be asked for with SULCUS_RUN_PROBABILITIES: that of class k for voxel
 * (x, y, z) is at ((k * nz + z) * ny + y) * nx + x. Class 0 is the background and the labels follow by rising value; a
 * model with one sigmoid output or with regions has no class for the background.
 *
 * The values belong to the segmentation and live as long. Several threads may ask at once.
 *
 * # Safety
 * `segmentation` is from this library; the other pointers point to room for what is filled in.
 */
SulcusStatus sulcus_segmentation_probabilities(const struct SulcusSegmentation *segmentation,
                                               const float **probabilities,
                                               size_t *classes,
                                               size_t *length);

/**
 * Fills in a structure that the model knows and how much of it was found, from 0, by rising label value or in the order of
 * its regions; `sulcus_segmentation_report` says how many there are.
 *
 * The pointers belong to the segmentation. Several threads may ask at once.
 *
 * # Safety
 * `segmentation` is from this library; `structure` points to room for a `SulcusStructure`.
 */
SulcusStatus sulcus_segmentation_structure(const struct SulcusSegmentation *segmentation,
                                           size_t index,
                                           struct SulcusStructure *structure);

/**
 * Fills in what ran where, and where the time went.
 *
 * The texts belong to the segmentation. Several threads may ask at once.
 *
 * # Safety
 * `segmentation` is from this library; `report` points to room for a `SulcusReport`.
 */
SulcusStatus sulcus_segmentation_report(const struct SulcusSegmentation *segmentation,
                                        struct SulcusReport *report);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* SULCUS_H */
