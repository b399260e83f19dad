"""What comes out."""

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
    """A structure that the model looks for: a label, or a region of several."""

    name: str
    value: int
    """Its value in the mask; a region's, where no other region lies over it."""
    values: tuple[int, ...]
    """All values that belong to it."""
    voxels: int
    """Voxels of the mask that have any of them; 0 when it was not found."""
    ml: float
    """Their volume in millilitres."""


@dataclass(frozen=True)
class Seconds:
    """Where the time went, in seconds of the wall clock."""

    preprocess: float
    """Turning, resampling and normalising the scan."""
    infer: float
    """Asking the network tile by tile, and deciding meanwhile."""
    engine: float
    """The part of `infer` during which the engine worked."""
    postprocess: float
    """What is done to the whole mask."""


@dataclass(frozen=True, eq=False)
class Segmentation:
    """A segmented scan."""

    labels: NDArray[np.uint8] | NDArray[np.uint16]
    """The mask, of the scan's shape (x, y, z) and on its grid: `uint8` where all labels of the model fit, else `uint16`."""
    affine: NDArray[np.float64]
    """The scan's: voxel indices to RAS+ millimetres."""
    structures: tuple[Structure, ...]
    """What the model looks for, with the volume of each."""
    label_names: dict[int, str]
    """The names of the values that the mask can have; 0 is the background."""
    probabilities: NDArray[np.float32] | None = field(repr=False)
    """Of each class, if they were asked for: (class, x, y, z)."""
    classes: tuple[str, ...]
    """The names of the classes along the first axis of `probabilities`."""
    tiles: int
    """Tiles that the scan was cut into."""
    seconds: Seconds
    """Where the time went."""
    peak_memory_bytes: int | None
    """The most memory that the process has held since it began, where the system says (Linux)."""
    engine: str
    """What ran the network: `ort` or `tract`."""
    device: str
    """Where it ran."""
    precision: str
    """The numbers that the network is written in: `fp32`, `fp16` or `int8`."""
    _header: Any = field(repr=False)
    _extension: tuple[int, bytes] | None = field(repr=False)

    def __repr__(self) -> str:
        shape = " × ".join(map(str, self.labels.shape))
        found = ", ".join(f"{s.name} {s.ml:.3f} ml" for s in self.structures)
        return f"<sulcus.Segmentation of {shape} voxels: {found}>"

    def to_nibabel(self) -> nibabel.Nifti1Image:
        """The mask as nibabel's image (NIfTI-2's where the scan's was), to be saved with `nibabel.save`.

        The intent is 1002 (labels), and a header extension carries names and colours as the `sulcus` command writes them.
        sform, qform, voxel sizes, units and codes of a NIfTI image that was segmented go over bit for bit; texts of its
        header, which may name the patient, do not.
        """
        from ._nifti import to_nibabel

        return to_nibabel(self.labels, self.affine, self._header, self._extension)


def from_native(
    found: _sulcus.Found,
    native: _sulcus.Segmenter,
    affine: NDArray[np.float64] | None = None,
    header: Any = None,
) -> Segmentation:
    """The public form of what the native half found."""
    probabilities = found.probabilities
    return Segmentation(
        labels=found.labels,
        affine=np.array(found.ras_from_voxel) if affine is None else affine,
        structures=tuple(
            Structure(name, value, tuple(values), voxels, ml) for name, value, values, voxels, ml in found.structures
        ),
        label_names=dict(found.names),
        probabilities=None if probabilities is None else probabilities.transpose(0, 3, 2, 1),
        classes=tuple(native.classes),
        tiles=found.tiles,
        seconds=Seconds(*found.seconds),
        peak_memory_bytes=found.peak_memory_bytes,
        engine=found.engine,
        device=found.device,
        precision=found.precision,
        _header=header,
        _extension=native.label_extension(),
    )
