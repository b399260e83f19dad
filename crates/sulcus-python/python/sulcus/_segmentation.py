"""The result of a segmentation."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import nibabel

    from . import _sulcus


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
    ml: float
    """The volume of these voxels in millilitres."""


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


@dataclass(frozen=True, eq=False)
class Segmentation:
    """A segmented scan."""

    labels: NDArray[np.uint8] | NDArray[np.uint16]
    """The mask, with the scan's shape (x, y, z) and grid: `uint8` if all labels of the model fit, otherwise `uint16`."""
    affine: NDArray[np.float64]
    """The scan's affine: voxel indices to RAS+ millimetres."""
    structures: tuple[Structure, ...]
    """The structures of the model with their volumes."""
    label_names: dict[int, str]
    """The names of the values that the mask can have; 0 is the background."""
    probabilities: NDArray[np.float32] | None = field(repr=False)
    """The probabilities of each class, if requested: (class, x, y, z)."""
    classes: tuple[str, ...]
    """The names of the classes along the first axis of `probabilities`."""
    tiles: int
    """The number of tiles that the scan was divided into."""
    seconds: Seconds
    """Duration of each stage."""
    peak_memory_bytes: int | None
    """Peak memory of the process, where the operating system reports it (Linux)."""
    engine: str
    """The engine that ran the network: `ort` or `tract`."""
    device: str
    """The device that it ran on."""
    precision: str
    """The precision of the network: `fp32`, `fp16`, `int8`, or `bf16` where it was requested."""
    _header: Any = field(repr=False)
    _extension: tuple[int, bytes] | None = field(repr=False)

    def __repr__(self) -> str:
        shape = " × ".join(map(str, self.labels.shape))
        volumes = ", ".join(f"{s.name} {s.ml:.3f} ml" for s in self.structures)
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
    """Converts a segmentation of the native half."""
    probabilities = native.probabilities
    return Segmentation(
        labels=native.labels,
        affine=np.array(native.ras_from_voxel) if affine is None else affine,
        structures=tuple(
            Structure(name, value, tuple(values), voxels, ml) for name, value, values, voxels, ml in native.structures
        ),
        label_names=dict(native.names),
        probabilities=None if probabilities is None else probabilities.transpose(0, 3, 2, 1),
        classes=tuple(segmenter.classes),
        tiles=native.tiles,
        seconds=Seconds(*native.seconds),
        peak_memory_bytes=native.peak_memory_bytes,
        engine=native.engine,
        device=native.device,
        precision=native.precision,
        _header=header,
        _extension=segmenter.label_extension(),
    )
