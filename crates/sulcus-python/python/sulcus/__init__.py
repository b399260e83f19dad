"""Segments medical scans with a model from Sulcus.

    >>> import sulcus
    >>> segmenter = sulcus.Segmenter("model.onnx")
    >>> segmentation = segmenter.segment(array, affine)     # or: segmenter.segment(nibabel.load("scan.nii.gz"))
    >>> segmentation.labels                                 # a NumPy array on the scan's own grid
    >>> {s.name: s.ml for s in segmentation.structures}
    >>> sulcus.view("scan.nii.gz", mask=segmentation)       # in a notebook
"""

from ._errors import InputError, ModelError, SulcusError
from ._segmentation import Report, Seconds, Segmentation, Structure
from ._segmenter import Device, Engine, Precision, Segmenter
from ._sulcus import __version__
from ._viewer import Viewer, view
from ._warning import ScanWarning

__all__ = [
    "Device",
    "Engine",
    "InputError",
    "ModelError",
    "Precision",
    "Report",
    "ScanWarning",
    "Seconds",
    "Segmentation",
    "Segmenter",
    "Structure",
    "SulcusError",
    "Viewer",
    "__version__",
    "view",
]
