"""The class `Segmenter` and the types of its options."""

from __future__ import annotations

import json
import logging
import math
import operator
import os
import warnings
from collections.abc import Callable, Sequence
from typing import Any, Literal, overload

from numpy.typing import ArrayLike

from . import _onnxruntime, _scan, _sulcus
from ._errors import InputError, ModelError, SulcusError
from ._scan import SpatialImage
from ._segmentation import Segmentation, from_native

Path = str | os.PathLike[str]
Model = Path | bytes | bytearray | memoryview
Progress = Callable[[int, int], object]

Engine = Literal["auto", "native", "ort", "tract"]
"""`ort` is ONNX Runtime; `native` and `tract` are built in, the first for the models of Sulcus. `auto` is `native` on processors with AVX2;
for models that it does not run, and on GPUs, ONNX Runtime if it is found, otherwise `tract`."""
Device = Literal[
    "auto",
    "cpu",
    "openvino",
    "cuda",
    "cuda:0",
    "cuda:1",
    "cuda:2",
    "cuda:3",
    "cuda:4",
    "cuda:5",
    "cuda:6",
    "cuda:7",
    "tensorrt",
    "tensorrt:0",
    "tensorrt:1",
    "tensorrt:2",
    "tensorrt:3",
    "tensorrt:4",
    "tensorrt:5",
    "tensorrt:6",
    "tensorrt:7",
]
"""`auto` is CUDA if it is available, otherwise the CPU. Numbers above 7 work too; type checkers do not know them."""
Precision = Literal["native", "bf16", "fp16"]
"""`native` is the model's own precision. `bf16` needs the engine `native` and AVX512-BF16, or the device `openvino`; `fp16` needs
`tensorrt`."""

_log = logging.getLogger("sulcus")


class Segmenter:
    """One model or an ensemble, loaded and ready to segment scans.

    Threads can share a segmenter, because the GIL is released while a scan is segmented. A process that was forked (the
    default of `multiprocessing` on Linux before Python 3.14) must create its own.

    `model`
        A model file, the bytes of one, or a sequence of these. Several models are averaged.
    `engine`
        The engine: `native`, `ort`, `tract` or `auto`. A named engine is used, or an error is raised.
    `device`
        The device: `cpu`, `openvino`, `cuda`, `cuda:1`, `tensorrt` or `auto`. A named device is used, or an error is raised.
    `precision`
        The precision that the device computes in: `bf16` in the engine `native` or on `openvino`, `fp16` on `tensorrt`, or `native`, the
        model's own.
        Half precision is faster, and voxels at the surface of structures may change. An unavailable one is an error.
    `threads`
        Number of threads of the engine. Defaults to all that the process may use.
    `mirror`
        Also predict mirrored scans, and average. Slower, and often a little better.
    `exact`
        Compute as nnU-Net's own predictor does on a processor, so that masks are equal to its masks; only for models imported from
        nnU-Net. nnU-Net mirrors by default: add `mirror`.
    `step`
        Step of the sliding window as a fraction of a tile, in (0, 1]. Defaults to the model's own.
    `max_memory`
        Memory limit of the process in bytes while a scan is segmented, without the arrays of the caller. Defaults to the memory of
        the machine or its container, where the system tells (Linux).
    `cache_folder`
        A folder for the graphs that ONNX Runtime optimises for the CPU and the engines that TensorRT builds for a GPU, which
        takes minutes. The next process then starts sooner. Defaults to no cache. The files are trusted, so other users must
        not be able to write to the folder.
    `ort_library`
        The ONNX Runtime library, or the folder that contains it. Defaults to that of the `onnxruntime` package in the
        environment; without the package, to the one that `sulcus runtime install` installed, or to the system's. A process
        can load one.
    `allow_unchecked`
        Accept a model that did not pass its check when it was exported. Its masks may be wrong.
    `strict`
        Refuse a scan, with `InputError`, for which there is any warning: it differs from the scans that the model was trained on,
        or its orientation is unknown. By default the warnings are in the segmentation.
    `allow_constant`
        Accept scans in which a channel has the same value in every voxel. By default they are refused, because they show nothing.
    `half`
        Deprecated. `half=True` means `precision="fp16"` on `tensorrt` and `precision="bf16"` on any other device.

    Raises `ModelError` for a model that cannot be used, and `SulcusError` for any other option.
    """

    def __init__(
        self,
        model: Model | Sequence[Model],
        *,
        engine: Engine = "auto",
        device: Device = "auto",
        precision: Precision = "native",
        threads: int | None = None,
        mirror: bool = False,
        exact: bool = False,
        step: float | None = None,
        max_memory: int | None = None,
        cache_folder: Path | None = None,
        ort_library: Path | None = None,
        allow_unchecked: bool = False,
        strict: bool = False,
        allow_constant: bool = False,
        half: bool | None = None,
    ) -> None:
        if step is not None and not (math.isfinite(step) and 0 < step <= 1):
            raise SulcusError(f"step must lie in (0, 1], found {step}")
        if half is not None:
            precision = _precision_of_half(half, device, precision)
        self._native = _sulcus.Segmenter(
            _models(model),
            {
                "engine": str(engine),
                "device": str(device),
                "threads": _at_least_one("threads", threads),
                "mirror": bool(mirror),
                "exact": bool(exact),
                "step": step,
                "max_memory": _at_least_one("max_memory", max_memory),
                "precision": str(precision),
                "allow_unchecked": bool(allow_unchecked),
                "strict": bool(strict),
                "allow_constant": bool(allow_constant),
                "cache_folder": None if cache_folder is None else os.fsdecode(cache_folder),
                "ort_library": None if ort_library is None else os.fsdecode(ort_library),
                "ort_packages": _onnxruntime.packages(),
                "ort_data": _onnxruntime.data_folder(),
            },
        )
        for note in self.notes:
            _log.info("%s", note)

    @property
    def engine(self) -> str:
        """The engine in use: `native`, `ort` or `tract`."""
        return self._native.engine

    @property
    def device(self) -> str:
        """The device in use."""
        return self._native.device

    @property
    def notes(self) -> tuple[str, ...]:
        """Notes for the user, such as what `auto` chose. They are also logged to the logger `sulcus` at level INFO."""
        return tuple(self._native.notes)

    @property
    def channels(self) -> tuple[str, ...]:
        """The names of the channels that a scan must have, in order."""
        return tuple(self._native.channels)

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes along the first axis of the probabilities."""
        return tuple(self._native.classes)

    @property
    def specs(self) -> tuple[dict[str, Any], ...]:
        """The specification in each model file."""
        return tuple(json.loads(spec) for spec in self._native.specs())

    @overload
    def segment(
        self, scan: SpatialImage, *, probabilities: bool = False, progress: Progress | None = None
    ) -> Segmentation: ...
    @overload
    def segment(
        self, scan: ArrayLike, affine: ArrayLike, *, probabilities: bool = False, progress: Progress | None = None
    ) -> Segmentation: ...
    def segment(
        self,
        scan: SpatialImage | ArrayLike,
        affine: ArrayLike | None = None,
        *,
        probabilities: bool = False,
        progress: Progress | None = None,
    ) -> Segmentation:
        """Segments a scan.

        `scan`
            An array of real numbers with axes (x, y, z), or (x, y, z, channel) for a model of several channels, in any
            memory order. Or a nibabel image, which has its own affine.
        `affine`
            The 4×4 matrix from voxel indices to RAS+ millimetres (right, anterior and superior are positive), as in NIfTI.
            It is required for an array.
        `probabilities`
            Also compute the probabilities of each class.
        `progress`
            Called after each tile with the number of finished tiles and of all tiles. An exception from it stops the
            segmentation and is raised here. Ctrl-C does the same.

        Raises `InputError` for a scan that cannot be segmented, such as one with NaN or infinite voxels, or with the same value
        in every voxel.
        """
        header: Any = None
        orientation_known = True
        if isinstance(scan, SpatialImage):
            if affine is not None:
                raise InputError("the image has an affine of its own: pass an array with an affine, or only the image")
            array, checked, orientation_known = _scan.from_image(scan)
            header = getattr(scan, "header", None)
            header = header.copy() if hasattr(header, "copy") else None
        elif affine is None:
            raise InputError(
                "an array needs its affine, the 4×4 matrix from voxel indices to RAS+ millimetres: segment(array, affine)"
            )
        else:
            array, checked = _scan.from_array(scan, affine)
        native = _scan.to_native(array, checked, self._native.channels, orientation_known)
        # Frees the voxels of an image that was just read from its file.
        del array
        segmentation = self._native.segment(native, bool(probabilities), progress)
        return from_native(segmentation, self._native, checked, header)

    def segment_file(
        self,
        image: Path,
        mask: Path,
        *,
        probabilities: bool = False,
        progress: Progress | None = None,
    ) -> Segmentation:
        """Segments a file (NIfTI, NRRD, MetaImage, or the folder of a DICOM series) and writes the mask on the same grid, like
        the `sulcus` command. The name of the mask sets its format (`.nii.gz`, …).

        Raises the errors of `segment`, and `SulcusError` if the mask cannot be written.
        """
        segmentation = self._native.segment_file(os.fsdecode(image), os.fsdecode(mask), bool(probabilities), progress)
        return from_native(segmentation, self._native)

    def replay_golden(self) -> None:
        """Segments the small scan in each model file (its golden case) and compares the mask with the recorded one. This checks
        file, engine and machine together. Raises `ModelError` if they differ, or if a file has no golden case."""
        self._native.replay_golden()

    def __repr__(self) -> str:
        return f"<sulcus.Segmenter on {self.engine}, {self.device}: {', '.join(self.classes)}>"


def _precision_of_half(half: bool, device: str, precision: Precision) -> Precision:
    """The precision that the deprecated option `half` means."""
    warnings.warn('`half` is deprecated: use precision="bf16" or precision="fp16"', DeprecationWarning, stacklevel=3)
    if not half:
        return precision
    if precision != "native":
        raise SulcusError(f"half=True and precision={precision!r} contradict each other: leave `half` out")
    return "fp16" if str(device).startswith("tensorrt") else "bf16"


def _models(model: Model | Sequence[Model]) -> list[str | bytes]:
    is_single = isinstance(model, (str, bytes, bytearray, memoryview, os.PathLike))
    found: list[str | bytes] = []
    try:
        for each in [model] if is_single else model:  # type: ignore[union-attr]
            if isinstance(each, (bytes, bytearray, memoryview)):
                found.append(bytes(each))
            else:
                found.append(os.fsdecode(each))  # type: ignore[arg-type]
    except TypeError as error:
        raise ModelError(f"a model is a path or bytes, or a list of these: {error}") from error
    return found


def _at_least_one(name: str, value: int | None) -> int | None:
    if value is None:
        return None
    try:
        number = operator.index(value)
    except TypeError as error:
        raise SulcusError(f"{name} must be a whole number, found {value!r}") from error
    if not 1 <= number < 2**63:
        raise SulcusError(f"{name} must be a whole number from 1 on, found {number}")
    return number
