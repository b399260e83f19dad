from collections.abc import Callable
from typing import Any, TypedDict, final

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "NativeSegmentation",
    "Scan",
    "Segmenter",
    "__version__",
    "decode_labels",
    "encode_labels",
    "encode_scan",
    "viewer_page",
    "viewer_script",
]

__version__: str

class _Options(TypedDict):
    engine: str
    device: str
    threads: int | None
    mirror: bool
    exact: bool
    step: float | None
    max_memory: int | None
    precision: str
    allow_unchecked: bool
    strict: bool
    allow_constant: bool
    cache_folder: str | None
    ort_library: str | None
    ort_packages: list[str]
    ort_data: str | None

@final
class Scan:
    def __new__(
        cls, shape: tuple[int, int, int], channels: int, ras_from_voxel: list[list[float]], orientation_known: bool
    ) -> Scan: ...
    def append(self, block: NDArray[np.float32]) -> None: ...

@final
class NativeSegmentation:
    @property
    def labels(self) -> NDArray[Any]: ...
    @property
    def probabilities(self) -> NDArray[np.float32] | None: ...
    @property
    def ras_from_voxel(self) -> list[list[float]]: ...
    @property
    def structures(self) -> list[tuple[str, int, list[int], int, float]]: ...
    @property
    def names(self) -> list[tuple[int, str]]: ...
    @property
    def report(self) -> str: ...

@final
class Segmenter:
    def __new__(cls, models: list[str | bytes], options: _Options) -> Segmenter: ...
    @property
    def engine(self) -> str: ...
    @property
    def device(self) -> str: ...
    @property
    def notes(self) -> list[str]: ...
    @property
    def channels(self) -> list[str]: ...
    @property
    def classes(self) -> list[str]: ...
    def segment(
        self, scan: Scan, probabilities: bool, progress: Callable[[int, int], object] | None
    ) -> NativeSegmentation: ...
    def segment_file(
        self, image: str, mask: str, probabilities: bool, progress: Callable[[int, int], object] | None
    ) -> NativeSegmentation: ...
    def replay_golden(self) -> None: ...
    def specs(self) -> list[str]: ...
    def label_extension(self) -> tuple[int, bytes] | None: ...

def viewer_page() -> bytes: ...
def viewer_script() -> str: ...
def encode_scan(scan: Scan) -> bytes: ...
def encode_labels(
    labels: NDArray[np.uint16], ras_from_voxel: list[list[float]], names: list[tuple[int, str]]
) -> bytes: ...
def decode_labels(bytes: bytes) -> tuple[NDArray[np.uint16], list[list[float]]]: ...
