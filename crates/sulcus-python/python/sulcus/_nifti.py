"""Masks as nibabel images. Only this module imports nibabel, and only when it is needed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ._sulcus import __version__

if TYPE_CHECKING:
    import nibabel

_LABEL = 1002
"""NIFTI_INTENT_LABEL."""
_MAX_AXIS_LENGTH = 32767
"""The maximum in NIfTI-1."""
_GRID_FIELDS = (
    *("dim_info", "pixdim", "xyzt_units", "qform_code", "sform_code"),
    *("quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y", "qoffset_z", "srow_x", "srow_y", "srow_z"),
)
"""Header fields that define the grid, as copied by the command line. None of them can name the patient."""


def to_nibabel(
    labels: NDArray[Any],
    affine: NDArray[np.float64],
    header: Any,
    extension: tuple[int, bytes] | None,
) -> nibabel.Nifti1Image:
    """A label image on the grid of `header` if it is a NIfTI header, otherwise on the grid of the affine."""
    import nibabel
    from nibabel.nifti1 import Nifti1Extension

    # Most functions of nibabel are untyped.
    kind: Any
    image: Any
    has_nifti_header = isinstance(header, nibabel.Nifti1Header)
    long = max(labels.shape) > _MAX_AXIS_LENGTH
    kind = nibabel.Nifti2Image if long or isinstance(header, nibabel.Nifti2Header) else nibabel.Nifti1Image
    made = kind.header_class()
    made.set_data_dtype(labels.dtype)
    made.set_data_shape(labels.shape)
    if has_nifti_header:
        for field in _GRID_FIELDS:
            made[field] = header[field]
    # If the caller has changed the affine, nibabel updates sform and qform.
    image = kind(labels, affine, made)
    if not has_nifti_header:
        image.set_sform(affine, code=1)
        image.set_qform(affine, code=1)
        # A qform cannot represent shears.
        if not np.allclose(image.get_qform(), affine, rtol=1e-4, atol=1e-3):
            image.header["qform_code"] = 0
        image.header.set_xyzt_units("mm")
    image.header.set_intent(_LABEL, name="labels", allow_unknown=True)
    image.header["descrip"] = f"sulcus {__version__}"
    if extension is not None:
        image.header.extensions.append(Nifti1Extension(*extension))
    result: nibabel.Nifti1Image = image
    return result
