"""The class that everything begins with."""

from __future__ import annotations

import json
import logging
import math
import operator
import os
from collections.abc import Callable, Sequence
from typing import Any, overload

from numpy.typing import ArrayLike

from . import _onnxruntime, _scan, _sulcus
from ._errors import InputError, ModelError, SulcusError
from ._scan import SpatialImage
from ._segmentation import Segmentation, from_native

Path = str | os.PathLike[str]
Model = Path | bytes | bytearray | memoryview
Progress = Callable[[int, int], object]

_log = logging.getLogger("sulcus")


class Segmenter:
    """One model or an ensemble, loaded and ready to segment scans.

    Threads can share one: Python's lock is not held while a scan is segmented. A process that forks (as
    `multiprocessing` does on Linux by default before Python 3.14) must make its own afterwards.

    `model`
        A file that Sulcus exported, its bytes, or several of either, whose answers are averaged.
    `engine`
        `ort` (ONNX Runtime), `tract` (built in), or `auto`: ONNX Runtime where it is found, tract otherwise.
    `device`
        `cpu`, `openvino`, `cuda`, `cuda:1`, `tensorrt`, or `auto`: CUDA where it can be used, the processor otherwise. A named
        engine or device is used or is an error.
    `threads`
        Threads for one operation of the network; all that the process may use unless said.
    `mirror`
        Also predict mirrored, and average: slower, often a little better.
    `step`
        Share of a tile by which the window advances, in (0, 1]; the model's own unless said.
    `max_memory`
        Bytes that the process may hold while a scan is segmented, not counting the arrays that the caller keeps.
    `half`
        Compute in half precision: bf16 on `openvino`, fp16 on `tensorrt`; refused on any other device. Faster; voxels at the
        borders may change.
    `allow_unchecked`
        Take a model that did not pass its check when it was exported; its masks may be wrong.
    `cache_folder`
        A folder that keeps what ONNX Runtime makes of a model for the processor, and TensorRT, which takes minutes, for a GPU, so
        that the next process starts sooner; nowhere unless said. What lies in it is trusted: keep it where others can't write.
    `ort_library`
        The ONNX Runtime library, or a folder that holds it. Unless said it is that of the environment's `onnxruntime` package,
        or where there is none, the one that `sulcus runtime install` fetched, or the system's. A process can load one.

    Raises `ModelError` for what is no model that can be used and `SulcusError` for anything else that can't be had.
    """

    def __init__(
        self,
        model: Model | Sequence[Model],
        *,
        engine: str = "auto",
        device: str = "auto",
        threads: int | None = None,
        mirror: bool = False,
        step: float | None = None,
        max_memory: int | None = None,
        half: bool = False,
        allow_unchecked: bool = False,
        cache_folder: Path | None = None,
        ort_library: Path | None = None,
    ) -> None:
        if step is not None and not (math.isfinite(step) and 0 < step <= 1):
            raise SulcusError(f"step must lie in (0, 1], found {step}")
        self._native = _sulcus.Segmenter(
            _models(model),
            {
                "engine": str(engine),
                "device": str(device),
                "threads": _at_least_one("threads", threads),
                "mirror": bool(mirror),
                "step": step,
                "max_memory": _at_least_one("max_memory", max_memory),
                "half": bool(half),
                "allow_unchecked": bool(allow_unchecked),
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
        """The engine in use, `ort` or `tract`."""
        return self._native.engine

    @property
    def device(self) -> str:
        """The device in use."""
        return self._native.device

    @property
    def notes(self) -> tuple[str, ...]:
        """What a person should know about what `auto` chose. They are logged too, to the logger `sulcus` as information."""
        return tuple(self._native.notes)

    @property
    def channels(self) -> tuple[str, ...]:
        """The names of the channels that a scan must have, in order."""
        return tuple(self._native.channels)

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes that probabilities are of, in order."""
        return tuple(self._native.classes)

    @property
    def specs(self) -> tuple[dict[str, Any], ...]:
        """What each model file says of itself."""
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
            An array of real numbers with the axes (x, y, z) of its affine, or (x, y, z, channel) for a model of several
            channels, in any order of memory; or an image of nibabel's, which brings its affine.
        `affine`
            NIfTI's 4×4 map from voxel indices to millimetres, RAS+ (right, anterior and superior are positive). Nothing
            is guessed without it.
        `probabilities`
            Also give each class's probability.
        `progress`
            Called with the number of tiles done and of tiles in all. What it raises ends the segmentation and comes out
            here. So does Ctrl-C, at the end of a tile.

        Raises `InputError` for what can't be segmented, NaN and infinite voxels among it.
        """
        header: Any = None
        if isinstance(scan, SpatialImage):
            if affine is not None:
                raise InputError("the image has an affine of its own: give an array with an affine, or the image alone")
            array, checked = _scan.from_image(scan)
            header = getattr(scan, "header", None)
            header = header.copy() if hasattr(header, "copy") else None
        elif affine is None:
            raise InputError(
                "an array needs its affine, the 4×4 map from voxel indices to RAS+ millimetres: segment(array, affine)"
            )
        else:
            array, checked = _scan.from_array(scan, affine)
        native = _scan.to_native(array, checked, self._native.channels)
        # An image whose voxels were just read from its file holds no second copy of them.
        del array
        found = self._native.segment(native, bool(probabilities), progress)
        return from_native(found, self._native, checked, header)

    def segment_file(
        self,
        image: Path,
        mask: Path,
        *,
        probabilities: bool = False,
        progress: Progress | None = None,
    ) -> Segmentation:
        """Segments a file (NIfTI, NRRD, MetaImage, or the folder of a DICOM series) and writes the mask on its grid, in the
        format that the name says (`.nii.gz`, …), just as the `sulcus` command does.

        Raises as `segment` does, and `SulcusError` when the mask can't be written.
        """
        found = self._native.segment_file(os.fsdecode(image), os.fsdecode(mask), bool(probabilities), progress)
        return from_native(found, self._native)

    def replay_golden(self) -> None:
        """Segments the small scan that each model file carries and compares the mask with the recorded one: a check of file,
        engine and machine together. Raises `ModelError` when they differ, or a file carries none."""
        self._native.replay_golden()

    def __repr__(self) -> str:
        return f"<sulcus.Segmenter on {self.engine}, {self.device}: {', '.join(self.classes)}>"


def _models(model: Model | Sequence[Model]) -> list[str | bytes]:
    one = isinstance(model, (str, bytes, bytearray, memoryview, os.PathLike))
    found: list[str | bytes] = []
    try:
        for each in [model] if one else model:  # type: ignore[union-attr]
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
