"""Segments medical scans with a model that Sulcus has trained.

    >>> import sulcus
    >>> segmenter = sulcus.Segmenter("model.onnx")
    >>> found = segmenter.segment(array, affine)        # or: segmenter.segment(nibabel.load("scan.nii.gz"))
    >>> found.labels                                    # a NumPy array on the scan's own grid
    >>> {s.name: s.ml for s in found.structures}
"""

from ._errors import InputError, ModelError, SulcusError
from ._segmentation import Seconds, Segmentation, Structure
from ._segmenter import Segmenter
from ._sulcus import __version__

__all__ = [
    "InputError",
    "ModelError",
    "Seconds",
    "Segmentation",
    "Segmenter",
    "Structure",
    "SulcusError",
    "__version__",
]
