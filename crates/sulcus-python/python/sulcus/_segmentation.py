"""The result of a segmentation."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ._warning import ScanWarning

if TYPE_CHECKING:
    import nibabel

    from . import _sulcus

_log = logging.getLogger("sulcus")


@dataclass(frozen=True)
class Structure:
    """A structure of the model (a label, or a region of several labels) and its volume in the mask."""

    name: str
    value: int
    """The structure's value in the mask. A region has it where no other region overlaps."""
    values: tuple[int, ...]
    """All label values that belong to the structure."""
    voxels: int
    """The number of voxels with any of these values; 0 if the structure was not found."""
    ml: float | None
    """The volume of these voxels in millilitres; None in a picture, whose pixels have no volume."""


@dataclass(frozen=True)
class Seconds:
    """Duration of each stage, in seconds (wall clock)."""

    preprocess: float
    """Reorienting, resampling and normalising the scan."""
    infer: float
    """Predicting tiles, blending them and choosing labels."""
    engine: float
    """The part of `infer` inside the engine."""
    postprocess: float
    """Postprocessing the mask."""


@dataclass(frozen=True)
class Report:
    """What is reported about a segmentation besides its mask."""

    engine: str
    """The engine that ran the network: `native`, `ort` or `tract`."""
    device: str
    """The device that it ran on."""
    precision: str
    """The precision of the network: `fp32`, `fp16`, `int8`, or `bf16` where it was requested."""
    seconds: Seconds
    """Duration of each stage."""
    tiles: int
    """The number of tiles that the scan was divided into."""
    peak_memory_bytes: int | None
    """Peak memory of the process, where the operating system reports it (Linux)."""
    warnings: tuple[ScanWarning, ...]
    """Reasons to doubt the mask. They are also logged to the logger `sulcus` at level WARNING."""
    structures: tuple[Structure, ...]
    """The structures of the model with their volumes."""
    json: str = field(repr=False)
    """The report as a JSON object, with the fields of `sulcus predict --json`."""


@dataclass(frozen=True, eq=False)
class Segmentation:
    """A segmented scan."""

    labels: NDArray[np.uint8] | NDArray[np.uint16]
    """The mask, with the scan's shape (x, y, z) and grid: `uint8` if all labels of the model fit, otherwise `uint16`."""
    affine: NDArray[np.float64]
    """The scan's affine: voxel indices to RAS+ millimetres."""
    report: Report
    """What is reported besides the mask. Its fields are also attributes of this object."""
    label_names: dict[int, str]
    """The names of the values that the mask can have; 0 is the background."""
    probabilities: NDArray[np.float32] | None = field(repr=False)
    """The probabilities of each class, if requested: (class, x, y, z)."""
    classes: tuple[str, ...]
    """The names of the classes along the first axis of `probabilities`."""
    _header: Any = field(repr=False)
    _extension: tuple[int, bytes] | None = field(repr=False)

    @property
    def structures(self) -> tuple[Structure, ...]:
        """The structures of the model with their volumes."""
        return self.report.structures

    @property
    def warnings(self) -> tuple[ScanWarning, ...]:
        """Reasons to doubt the mask."""
        return self.report.warnings

    @property
    def tiles(self) -> int:
        """The number of tiles that the scan was divided into."""
        return self.report.tiles

    @property
    def seconds(self) -> Seconds:
        """Duration of each stage."""
        return self.report.seconds

    @property
    def peak_memory_bytes(self) -> int | None:
        """Peak memory of the process, where the operating system reports it (Linux)."""
        return self.report.peak_memory_bytes

    @property
    def engine(self) -> str:
        """The engine that ran the network: `native`, `ort` or `tract`."""
        return self.report.engine

    @property
    def device(self) -> str:
        """The device that it ran on."""
        return self.report.device

    @property
    def precision(self) -> str:
        """The precision of the network: `fp32`, `fp16`, `int8`, or `bf16` where it was requested."""
        return self.report.precision

    def __repr__(self) -> str:
        shape = " × ".join(map(str, self.labels.shape))
        volumes = ", ".join(
            f"{s.name} {s.voxels} pixels" if s.ml is None else f"{s.name} {s.ml:.3f} ml" for s in self.structures
        )
        return f"<sulcus.Segmentation of {shape} voxels: {volumes}>"

    def to_nibabel(self) -> nibabel.Nifti1Image:
        """The mask as an image for `nibabel.save`: NIfTI-2 if the scan was NIfTI-2, otherwise NIfTI-1.

        The intent is 1002 (labels), and a header extension has the names and colours, as in masks of the `sulcus` command.
        sform, qform, voxel sizes, units and codes of a segmented NIfTI image are copied bit for bit. Texts of its header are
        not copied, because they may name the patient.
        """
        from ._nifti import to_nibabel

        return to_nibabel(self.labels, self.affine, self._header, self._extension)


def from_native(
    native: _sulcus.NativeSegmentation,
    segmenter: _sulcus.Segmenter,
    affine: NDArray[np.float64] | None = None,
    header: Any = None,
) -> Segmentation:
    """Converts a segmentation of the native half, and logs its warnings."""
    probabilities = native.probabilities
    report = _report(native)
    for warning in report.warnings:
        _log.warning("%s", warning)
    return Segmentation(
        labels=native.labels,
        affine=np.array(native.ras_from_voxel) if affine is None else affine,
        report=report,
        label_names=dict(native.names),
        probabilities=None if probabilities is None else probabilities.transpose(0, 3, 2, 1),
        classes=tuple(segmenter.classes),
        _header=header,
        _extension=segmenter.label_extension(),
    )


def _report(native: _sulcus.NativeSegmentation) -> Report:
    found = json.loads(native.report)
    seconds = found["seconds"]
    return Report(
        engine=found["engine"],
        device=found["device"],
        precision=found["precision"],
        seconds=Seconds(*(seconds[stage] for stage in ("preprocess", "infer", "engine", "postprocess"))),
        tiles=found["tiles"],
        peak_memory_bytes=found.get("peak_memory_bytes"),
        warnings=ScanWarning._from_json(found.get("warnings", [])),
        structures=tuple(
            Structure(name, value, tuple(values), voxels, ml) for name, value, values, voxels, ml in native.structures
        ),
        json=native.report,
    )
