"""Masks as nibabel's images. nibabel is imported here alone, and only when it is asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ._sulcus import __version__

if TYPE_CHECKING:
    import nibabel

_LABEL = 1002
"""NIFTI_INTENT_LABEL."""
_LONGEST_AXIS = 32767
"""Of NIfTI-1."""
_PLACE = (
    *("dim_info", "pixdim", "xyzt_units", "qform_code", "sform_code"),
    *("quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y", "qoffset_z", "srow_x", "srow_y", "srow_z"),
)
"""Header fields that place a volume: those that the command line copies as well. What may name the patient is none."""


def to_nibabel(
    labels: NDArray[Any],
    affine: NDArray[np.float64],
    header: Any,
    extension: tuple[int, bytes] | None,
) -> nibabel.Nifti1Image:
    """A label image on the grid of `header`, where there is one of NIfTI, or else of the affine."""
    import nibabel
    from nibabel.nifti1 import Nifti1Extension

    # Most of nibabel's functions have no types.
    kind: Any
    image: Any
    placed = isinstance(header, nibabel.Nifti1Header)
    long = max(labels.shape) > _LONGEST_AXIS
    kind = nibabel.Nifti2Image if long or isinstance(header, nibabel.Nifti2Header) else nibabel.Nifti1Image
    made = kind.header_class()
    made.set_data_dtype(labels.dtype)
    made.set_data_shape(labels.shape)
    if placed:
        for field in _PLACE:
            made[field] = header[field]
    # Where sform and qform say something else than the affine, which the caller may have changed, nibabel mends them.
    image = kind(labels, affine, made)
    if not placed:
        image.set_sform(affine, code=1)
        image.set_qform(affine, code=1)
        # Shears are beyond a qform.
        if not np.allclose(image.get_qform(), affine, rtol=1e-4, atol=1e-3):
            image.header["qform_code"] = 0
        image.header.set_xyzt_units("mm")
    image.header.set_intent(_LABEL, name="labels", allow_unknown=True)
    image.header["descrip"] = f"sulcus {__version__}"
    if extension is not None:
        image.header.extensions.append(Nifti1Extension(*extension))
    result: nibabel.Nifti1Image = image
    return result
