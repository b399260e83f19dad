"""Converts arrays with affines and nibabel images for the native half."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import _sulcus
from ._errors import InputError

# Slices that are converted at a time. For an array with the last axis fastest, this uses whole cache lines.
_SLICES_PER_BLOCK = 32
_UNUSABLE_UNITS = {"meter": "metres", "micron": "micrometres"}


@runtime_checkable
class SpatialImage(Protocol):
    """nibabel's spatial images, and other objects with these attributes."""

    @property
    def dataobj(self) -> Any: ...
    @property
    def affine(self) -> Any: ...


def from_image(image: SpatialImage) -> tuple[NDArray[Any], NDArray[np.float64], bool]:
    """The voxels that `nibabel.save` would write, the affine, and whether the image says how the patient lies."""
    affine = image.affine
    if affine is None:
        raise InputError("the image has no affine, so the position of its voxels in the patient is unknown; set one")
    header = getattr(image, "header", None)
    units = getattr(header, "get_xyzt_units", None)
    unit = units()[0] if units is not None else None
    if unit in _UNUSABLE_UNITS:
        raise InputError(
            f"the image's header counts in {_UNUSABLE_UNITS[unit]}, expected millimetres; programs interpret this "
            "differently, so set the affine in millimetres and the unit with header.set_xyzt_units('mm')"
        )
    orientation_known = not (
        units is not None and header is not None and header["sform_code"] == 0 and header["qform_code"] == 0
    )
    array = np.asanyarray(image.dataobj)
    # A NIfTI file may have its channels along the fifth axis, with a fourth axis of length 1.
    longer = [edge for edge in array.shape[3:] if edge != 1]
    if array.ndim > 3 and len(longer) <= 1:
        array = array.reshape((*array.shape[:3], longer[0] if longer else 1), order="F")
    return array, checked_affine(affine), orientation_known


def from_array(array: ArrayLike, affine: ArrayLike) -> tuple[NDArray[Any], NDArray[np.float64]]:
    """The array, unchanged, and the affine."""
    try:
        return np.asanyarray(array), checked_affine(affine)
    except (TypeError, ValueError, RuntimeError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"the scan cannot be converted to a NumPy array: {error}") from error


def checked_affine(affine: ArrayLike) -> NDArray[np.float64]:
    """A checked copy of a 4×4 affine."""
    try:
        found = np.asarray(affine)
    except ValueError as error:
        raise InputError(f"the affine must be a 4×4 array: {error}") from error
    if found.shape != (4, 4):
        raise InputError(
            f"the affine must be a 4×4 array that maps voxel indices to RAS+ millimetres, found shape {found.shape}"
        )
    if found.dtype.kind not in "iuf":
        raise InputError(f"the affine must hold real numbers, found dtype {found.dtype}")
    found = found.astype(np.float64)
    if not np.array_equal(found[3], [0, 0, 0, 1]):
        raise InputError(f"the affine's last row must be 0, 0, 0, 1, found {', '.join(f'{v:g}' for v in found[3])}")
    return found


def to_native(
    array: NDArray[Any], affine: NDArray[np.float64], channels: list[str], orientation_known: bool = True
) -> _sulcus.Scan:
    """Copies the scan to the native half."""
    if np.ma.isMaskedArray(array) and np.ma.is_masked(array):
        raise InputError("the array has masked voxels, whose values are unknown; fill them, for example with array.filled(0)")
    array = np.asarray(array)
    if array.dtype.kind not in "biuf":
        raise InputError(
            f"the voxels must be real numbers (bool, integer or floating point), found dtype {array.dtype}"
        )
    if array.ndim == 3:
        array = array[..., np.newaxis]
    if array.ndim != 4:
        raise InputError(
            "a scan needs three axes (x, y, z), or four (x, y, z, channel) as nibabel has them, "
            f"found shape {array.shape}"
        )
    nx, ny, nz, found = array.shape
    if found != len(channels):
        raise InputError(
            f"the model expects {len(channels)} channel(s) ({', '.join(channels)}), the scan has {found}: "
            f"channels are the last of its axes {array.shape}"
        )
    scan = _sulcus.Scan((nx, ny, nz), found, affine[:3].tolist(), orientation_known)
    # Values beyond single precision become infinite. The runtime counts and refuses them.
    with np.errstate(over="ignore", invalid="ignore"):
        for channel in range(found):
            for z in range(0, nz, _SLICES_PER_BLOCK):
                block = array[:, :, z : z + _SLICES_PER_BLOCK, channel]
                scan.append(np.require(block, np.float32, ["F", "A"]))
    return scan
