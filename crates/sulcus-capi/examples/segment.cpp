// Segments a scan from C++, with RAII handles, errors as exceptions, and several threads that share one segmenter.
//
//     segment MODEL.onnx SCAN.nii.gz MASK.nii.gz [ENGINE [ONNX_RUNTIME_LIBRARY]]
//
// The namespace `sulcus` is small enough to copy into a program. README.md in the folder above shows how to build.
#include <cstdio>
#include <exception>
#include <functional>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "sulcus.h"

namespace sulcus {

struct Error : std::runtime_error {
    explicit Error(SulcusStatus status) : std::runtime_error(sulcus_last_error()), status(status) {}
    SulcusStatus status;
};

inline void check(SulcusStatus status) {
    if (status != SULCUS_STATUS_OK) throw Error(status);
}

template <auto Free>
struct Freeing {
    template <typename T>
    void operator()(T *handle) const { Free(handle); }
};

using Options = std::unique_ptr<SulcusOptions, Freeing<sulcus_options_free>>;
using Image = std::unique_ptr<SulcusImage, Freeing<sulcus_image_free>>;

inline Options options() {
    SulcusOptions *made = nullptr;
    check(sulcus_options_new(&made));
    return Options(made);
}

inline Image read_image(const std::string &file) {
    SulcusImage *made = nullptr;
    check(sulcus_image_read(file.c_str(), &made));
    return Image(made);
}

// A segmented scan. Pointers from it are valid while it lives.
class Segmentation {
public:
    explicit Segmentation(SulcusSegmentation *handle) : handle_(handle) {}

    std::vector<uint16_t> labels() const {
        const uint16_t *labels = nullptr;
        size_t length = 0;
        check(sulcus_segmentation_labels(handle_.get(), &labels, &length));
        return std::vector<uint16_t>(labels, labels + length);
    }

    SulcusGrid grid() const {
        SulcusGrid grid;
        check(sulcus_segmentation_grid(handle_.get(), &grid));
        return grid;
    }

    SulcusReport report() const {
        SulcusReport report;
        report.struct_size = sizeof report;
        check(sulcus_segmentation_report(handle_.get(), &report));
        return report;
    }

    std::vector<SulcusStructure> structures() const {
        std::vector<SulcusStructure> structures(report().structures);
        for (size_t i = 0; i < structures.size(); i++) {
            structures[i].struct_size = sizeof structures[i];
            check(sulcus_segmentation_structure(handle_.get(), i, &structures[i]));
        }
        return structures;
    }

private:
    std::unique_ptr<SulcusSegmentation, Freeing<sulcus_segmentation_free>> handle_;
};

// Called after each tile. Segmenter::segment rethrows its exceptions.
using Progress = std::function<void(size_t done, size_t total)>;

// Threads may share it: its functions are const.
class Segmenter {
public:
    explicit Segmenter(const Options &options) {
        SulcusSegmenter *made = nullptr;
        check(sulcus_segmenter_new(options.get(), &made));
        handle_.reset(made);
    }

    SulcusSegmenterInfo info() const {
        SulcusSegmenterInfo info;
        info.struct_size = sizeof info;
        check(sulcus_segmenter_info(handle_.get(), &info));
        return info;
    }

    void replay_golden() const { check(sulcus_segmenter_replay_golden(handle_.get())); }

    Segmentation segment(const SulcusScan &scan, const Progress &progress = nullptr) const {
        return with_progress(progress, [&](const SulcusSegmentOptions *options, SulcusSegmentation **made) {
            return sulcus_segment(handle_.get(), &scan, options, made);
        });
    }

    Segmentation segment_file(const std::string &scan, const std::string &mask,
                              const Progress &progress = nullptr) const {
        return with_progress(progress, [&](const SulcusSegmentOptions *options, SulcusSegmentation **made) {
            return sulcus_segment_file(handle_.get(), scan.c_str(), mask.c_str(), options, made);
        });
    }

private:
    template <typename Work>
    static Segmentation with_progress(const Progress &progress, const Work &work) {
        Call call{progress, nullptr};
        SulcusSegmentOptions options{};
        options.struct_size = sizeof options;
        if (progress) {
            options.progress = on_progress;
            options.user_data = &call;
        }
        SulcusSegmentation *made = nullptr;
        SulcusStatus status = work(&options, &made);
        if (call.thrown) std::rethrow_exception(call.thrown);
        check(status);
        return Segmentation(made);
    }

    struct Call {
        const Progress &progress;
        std::exception_ptr thrown;
    };

    // No exception may pass through the library: it is stored, and the work stops.
    static int on_progress(void *user_data, size_t done, size_t total) noexcept {
        Call &call = *static_cast<Call *>(user_data);
        try {
            call.progress(done, total);
            return 0;
        } catch (...) {
            call.thrown = std::current_exception();
            return 1;
        }
    }

    std::unique_ptr<SulcusSegmenter, Freeing<sulcus_segmenter_free>> handle_;
};

}  // namespace sulcus

static void require(bool holds, const char *what) {
    if (!holds) throw std::runtime_error(what);
}

static void run(const std::vector<std::string> &arguments) {
    sulcus::Options options = sulcus::options();
    sulcus::check(sulcus_options_add_model_file(options.get(), arguments[0].c_str()));
    sulcus::check(sulcus_options_set_device(options.get(), "cpu"));
    if (arguments.size() > 3) sulcus::check(sulcus_options_set_engine(options.get(), arguments[3].c_str()));
    if (arguments.size() > 4) sulcus::check(sulcus_options_set_ort_library(options.get(), arguments[4].c_str()));
    sulcus::Segmenter segmenter(options);
    SulcusSegmenterInfo info = segmenter.info();
    std::printf("sulcus %s: %s in %s on %s\n", sulcus_version(), info.model_name, info.engine, info.device);
    segmenter.replay_golden();
    std::printf("golden case: the recorded mask\n");

    sulcus::Image image = sulcus::read_image(arguments[1]);
    SulcusScan scan;
    sulcus::check(sulcus_image_scan(image.get(), &scan));

    // The file in this thread and the array in two others, at the same time.
    std::vector<std::vector<uint16_t>> masks(2);
    std::vector<std::string> errors(masks.size());
    std::vector<std::thread> threads;
    for (size_t i = 0; i < masks.size(); i++) {
        threads.emplace_back([&, i] {
            try {
                masks[i] = segmenter.segment(scan).labels();
            } catch (const std::exception &error) {
                errors[i] = error.what();
            }
        });
    }
    std::exception_ptr thrown;
    std::unique_ptr<sulcus::Segmentation> of_file;
    try {
        of_file = std::make_unique<sulcus::Segmentation>(segmenter.segment_file(arguments[1], arguments[2]));
    } catch (...) {
        thrown = std::current_exception();
    }
    for (std::thread &thread : threads) thread.join();
    if (thrown) std::rethrow_exception(thrown);
    for (const std::string &error : errors) require(error.empty(), error.c_str());
    for (const auto &mask : masks) require(mask == of_file->labels(), "the array and the file gave different masks");

    SulcusGrid grid = of_file->grid();
    std::printf("%zu x %zu x %zu voxels of %g x %g x %g mm\n", grid.shape[0], grid.shape[1], grid.shape[2],
                grid.spacing_mm[0], grid.spacing_mm[1], grid.spacing_mm[2]);
    for (const SulcusStructure &structure : of_file->structures()) {
        std::printf("%s = %u: %llu voxels, %.3f ml\n", structure.name, static_cast<unsigned>(structure.value),
                    static_cast<unsigned long long>(structure.voxels), structure.ml);
    }

    // An exception of the callback is rethrown by segment.
    struct Enough {};
    bool stopped = false;
    size_t tiles = of_file->report().tiles, last = 0;
    try {
        segmenter.segment(scan, [&](size_t done, size_t) {
            last = done;
            if (done == (tiles + 1) / 2) throw Enough();
        });
    } catch (const Enough &) {
        stopped = true;
    }
    require(stopped, "it did not stop");
    std::printf("stopped after %zu of %zu tiles\n", last, tiles);

    // Errors are exceptions with the message of the library.
    SulcusScan short_scan = scan;
    short_scan.length -= 1;
    bool refused = false;
    try {
        segmenter.segment(short_scan);
    } catch (const sulcus::Error &error) {
        refused = error.status == SULCUS_STATUS_INVALID_ARGUMENT;
        std::printf("refused: %s\n", error.what());
    }
    require(refused, "a scan that is too short was accepted");
}

int main(int argc, char **argv) {
    if (argc < 4 || argc > 6) {
        std::fprintf(stderr, "usage: %s MODEL SCAN MASK [ENGINE [ONNX_RUNTIME_LIBRARY]]\n", argv[0]);
        return 2;
    }
    try {
        run(std::vector<std::string>(argv + 1, argv + argc));
    } catch (const std::exception &error) {
        std::fprintf(stderr, "error: %s\n", error.what());
        return 1;
    }
}
