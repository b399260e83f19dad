"""The viewer in notebooks. Only this module imports anywidget, and only when a viewer is made."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path as FilePath
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import _sulcus
from ._errors import InputError, SulcusError
from ._scan import SpatialImage, checked_affine, from_array, from_image, to_native
from ._segmentation import Segmentation

Path = str | os.PathLike[str]
Source = Path | Sequence[Path] | SpatialImage | Segmentation | tuple[ArrayLike, ArrayLike]
"""What can be shown: a file in any format of the viewer, a folder with a DICOM series, a list of the files of one volume, a nibabel image, a
segmentation, or an array (x, y, z) with its affine (4×4, voxel indices to RAS+ millimetres)."""
Role = Literal["image", "mask", "truth", "map"]
Event = Literal["location", "window", "frame", "label", "measurement", "edit", "load", "error", "predict-progress"]
_Files = list[tuple[str, bytes]]
_MAX_BYTES = 1 << 30
"""The largest size of the files of a volume: the memory of a page is limited."""
_MAX_LABEL = 65535


class Viewer:
    """A viewer in a notebook; showing it (as the last line of a cell) opens it. Everything that it shows comes from Python, so it works without a
    network. Requires the package anywidget.

    Methods that ask the browser return a future, whose result is there once the cell is finished: a kernel does not receive anything while it runs
    a cell. They may be called before the viewer is shown.
    """

    def __init__(self, *, height: int = 600) -> None:
        """`height` is that of the viewer in pixels."""
        self._files: dict[str, _Files | None] = {}
        self._labels: dict[str, list[dict[str, Any]]] = {}
        self._waiting: dict[int, Future[Any]] = {}
        self._early: list[tuple[dict[str, Any], list[bytes]]] = []
        self._number = 0
        self._shown = False
        self._mask: bytes | None = None
        self._latest: dict[str, Any] = {}
        self._listeners: list[tuple[str, Callable[[Any], object]]] = []
        self.widget: Any = _widget_class()(height=height)
        """The widget, for layouts of ipywidgets."""
        self.widget.on_msg(self._receive)

    def _repr_mimebundle_(self, **options: Any) -> Any:
        return self.widget._repr_mimebundle_(**options)

    def load(
        self,
        image: Source | None = None,
        *,
        mask: Source | None = None,
        truth: Source | None = None,
        map: Source | None = None,
        labels: Mapping[int, str] | None = None,
    ) -> Future[dict[str, Any]]:
        """Opens files; a new image closes all others. `labels` names the labels of the mask and the truth.

        Raises `InputError` for what is no scan or mask, before anything is sent.
        """
        given = {"image": image, "mask": mask, "truth": truth, "map": map}
        files: dict[str, _Files | None] = {
            role: _read(role, source, labels) for role, source in given.items() if source is not None
        }
        if not files:
            raise InputError("name an image, a mask, a truth or a map")
        if "image" in files:
            self._files = {}
            self._labels = {}
            self._mask = None
        if "mask" in files:
            self._mask = None
        self._files.update(files)
        loaded = self._load(files)
        if labels is not None:
            if mask is not None:
                self.set_labels(labels)
            if truth is not None:
                self.set_labels(labels, role="truth")
        return loaded

    def close(self, role: Role) -> Future[dict[str, Any]]:
        """Closes a file."""
        self._files.pop(role, None)
        return self._load({role: None})

    def set_labels(
        self,
        labels: Mapping[int, str],
        *,
        role: Literal["mask", "truth"] = "mask",
        colors: Mapping[int, tuple[int, int, int]] | None = None,
    ) -> Future[list[dict[str, Any]]]:
        """Sets the names and colours (red, green, blue from 0 to 255) of labels of the mask or the truth."""
        changes: list[dict[str, Any]] = [{"value": int(value), "name": str(name)} for value, name in labels.items()]
        for change in changes:
            if colors is not None and change["value"] in colors:
                change["color"] = [int(part) for part in colors[change["value"]]]
        self._labels[role] = changes
        return self._call("setLabels", [changes, role])

    def go_to(self, position: Sequence[float] | None = None, *, label: int | None = None) -> Future[dict[str, Any]]:
        """Moves the crosshair to a position in RAS+ millimetres, or into a label."""
        if (position is None) == (label is None):
            raise InputError("name a position or a label")
        return self._call("goTo", [{"label": label} if position is None else [float(x) for x in position]])

    def get_state(self) -> Future[dict[str, Any]]:
        """The settings of the view, its position and its measurements."""
        return self._call("getState", [])

    def set_state(self, state: Mapping[str, Any]) -> Future[None]:
        """Restores a state, or sets some of its settings, such as `{"opacity": 80}`."""
        return self._call("setState", [dict(state)])

    def predict(self, model: Path, *, allow_unchecked: bool = False) -> Future[dict[str, Any]]:
        """Segments the image in the browser. The mask is then in `mask` too."""
        path = FilePath(model)
        parameters = [{"buffer": 0, "name": path.name}, {"allowUnchecked": allow_unchecked}]
        return self._call("predict", parameters, [_bytes("model", [path])[0][1]])

    def screenshot(self) -> Future[bytes]:
        """The planes that are shown, as a PNG picture."""
        return self._call("screenshot", [])

    def on(self, event: Event, listener: Callable[[Any], object]) -> None:
        """Calls a function with the details of each event."""
        self._listeners.append((event, listener))

    @property
    def location(self) -> dict[str, Any] | None:
        """What is at the crosshair: `voxel`, `ras`, `values`, `mask`, `truth`, `map`."""
        return self._latest.get("location")

    @property
    def measurements(self) -> list[dict[str, Any]]:
        """The measurements of the user, with their points in RAS+ millimetres."""
        found: list[dict[str, Any]] = self._latest.get("measurement", {}).get("measurements", [])
        return found

    @property
    def error(self) -> str | None:
        """The last message to the user."""
        message: str | None = self._latest.get("error", {}).get("message")
        return message

    @property
    def mask(self) -> NDArray[np.uint16] | None:
        """The mask that was corrected, predicted or opened in the viewer: (x, y, z); None if there is none."""
        return None if self._mask is None else _sulcus.decode_labels(self._mask)[0]

    @property
    def mask_affine(self) -> NDArray[np.float64] | None:
        """The affine of `mask`."""
        return None if self._mask is None else np.array(_sulcus.decode_labels(self._mask)[1])

    def save_mask(self, path: Path) -> None:
        """Writes `mask` as a gzipped NIfTI file, with names and colours of its labels."""
        if self._mask is None:
            raise SulcusError("no mask was corrected, predicted or opened in the viewer")
        FilePath(path).write_bytes(self._mask)

    def _load(self, files: Mapping[str, _Files | None], view: str | None = None) -> Future[dict[str, Any]]:
        buffers: list[bytes] = []
        message: dict[str, list[dict[str, Any]] | None] = {}
        for role, parts in files.items():
            message[role] = None
            if parts is not None:
                message[role] = [{"buffer": len(buffers) + i, "name": name} for i, (name, _) in enumerate(parts)]
                buffers += [content for _, content in parts]
        return self._call("load", [message], buffers, view)

    def _call(
        self, method: str, parameters: list[Any], buffers: list[bytes] | None = None, view: str | None = None
    ) -> Future[Any]:
        """Calls a method of all views, or of one."""
        self._number += 1
        future: Future[Any] = Future()
        self._waiting[self._number] = future
        message = {"kind": "call", "id": self._number, "method": method, "parameters": parameters, "view": view}
        if self._shown:
            self.widget.send(message, buffers or [])
        else:
            self._early.append((message, buffers or []))
        return future

    def _receive(self, _widget: Any, message: dict[str, Any], buffers: list[Any]) -> None:
        kind = message.get("kind")
        if kind == "page":
            self.widget.send({"kind": "reply", "id": message["id"]}, [_page()])
        elif kind == "begin":
            self._begin(message["id"])
        elif kind == "answer":
            future = self._waiting.pop(message["id"], None)
            # Of several views of a viewer the first one answers.
            if future is None:
                return
            if "error" in message:
                future.set_exception(SulcusError(message["error"]))
            else:
                future.set_result(bytes(buffers[0]) if buffers else message["result"])
        elif kind == "mask":
            self._mask = bytes(buffers[0])
        elif kind == "event":
            self._latest[message["type"]] = message["detail"]
            for event, listener in self._listeners:
                if event == message["type"]:
                    listener(message["detail"])

    def _begin(self, view: str) -> None:
        """A view was opened. The first one gets all calls so far, another one what is open now."""
        self.widget.send({"kind": "reply", "id": view}, [])
        if not self._shown:
            self._shown = True
            early, self._early = self._early, []
            for message, buffers in early:
                self.widget.send(message, buffers)
            return
        files = dict(self._files)
        if self._mask is not None:
            files["mask"] = [("mask.nii.gz", self._mask)]
        if files:
            self._load(files, view)
        for role, changes in self._labels.items():
            if role in self._files and not (role == "mask" and self._mask is not None):
                self._call("setLabels", [changes, role], view=view)


def view(
    image: Source | None = None,
    *,
    mask: Source | None = None,
    truth: Source | None = None,
    map: Source | None = None,
    labels: Mapping[int, str] | None = None,
    height: int = 600,
) -> Viewer:
    """A viewer that shows a scan and its masks, as the last line of a cell in a notebook:

        >>> sulcus.view("scan.nii.gz", mask=segmentation)

    `labels` names the labels of the mask and the truth. Requires the package anywidget (`pip install "sulcus[jupyter]"`).
    """
    viewer = Viewer(height=height)
    if any(source is not None for source in (image, mask, truth, map)):
        viewer.load(image, mask=mask, truth=truth, map=map, labels=labels)
    return viewer


@functools.cache
def _widget_class() -> Any:
    """The class of the widget, made when it is first used."""
    try:
        import anywidget
        import traitlets
    except ImportError as error:
        raise SulcusError(
            'the viewer in notebooks needs the package anywidget: install it with pip install "sulcus[jupyter]"'
        ) from error
    script = _sulcus.viewer_script() + FilePath(__file__).with_name("_viewer.js").read_text(encoding="utf-8")
    attributes = {"_esm": script, "height": traitlets.Int(600).tag(sync=True)}
    return type("SulcusViewer", (anywidget.AnyWidget,), attributes)


@functools.cache
def _page() -> bytes:
    return _sulcus.viewer_page()


def _read(role: str, source: Source, names: Mapping[int, str] | None) -> _Files:
    """The files of a volume."""
    if isinstance(source, (str, os.PathLike)):
        return _bytes(role, [FilePath(source)])
    if isinstance(source, Segmentation):
        names = source.label_names if names is None else names
        source = (source.labels, source.affine)
    if isinstance(source, SpatialImage):
        array, affine, _ = from_image(source)
    elif isinstance(source, tuple) and len(source) == 2 and not isinstance(source[0], (str, os.PathLike)):
        array, affine = from_array(*source)
    else:
        parts: list[Any] = list(source) if isinstance(source, Sequence) else []
        if parts and all(isinstance(part, (str, os.PathLike)) for part in parts):
            return _bytes(role, [FilePath(part) for part in parts])
        raise InputError(
            f"{role}: expected a path, a nibabel image, a segmentation, or an array and its affine, found {type(source).__name__}"
        )
    if role in ("mask", "truth"):
        content = _encoded_labels(role, array, affine, names or {})
    else:
        channels = [""] * (array.shape[3] if array.ndim == 4 else 1)
        content = _sulcus.encode_scan(to_native(array, affine, channels))
    return [(f"{role}.nii.gz", content)]


def _encoded_labels(
    role: str, array: NDArray[Any], affine: NDArray[np.float64], names: Mapping[int, str]
) -> bytes:
    if array.ndim == 4 and array.shape[3] == 1:
        array = array[..., 0]
    if array.ndim != 3:
        raise InputError(f"{role}: a mask has three axes (x, y, z), found shape {array.shape}")
    if array.dtype.kind not in "biuf":
        raise InputError(f"{role}: the values of a mask are whole numbers, found dtype {array.dtype}")
    # False for NaN, too.
    if array.size and not (array.min() >= 0 and array.max() <= _MAX_LABEL):
        raise InputError(f"{role}: the values of a mask are from 0 to {_MAX_LABEL}, found {array.min()} to {array.max()}")
    labels = np.require(array, np.uint16, ["F", "A"])
    if array.dtype.kind == "f" and not np.array_equal(labels, array):
        raise InputError(f"{role}: the values of a mask are whole numbers; this is no mask")
    known = [(int(value), str(name)) for value, name in names.items() if int(value) != 0]
    return _sulcus.encode_labels(labels, checked_affine(affine)[:3].tolist(), known)


def _bytes(what: str, paths: Sequence[FilePath]) -> _Files:
    """The content of files, and of all files in folders."""
    files: list[FilePath] = []
    for path in paths:
        inside = sorted(part for part in path.rglob("*") if part.is_file()) if path.is_dir() else [path]
        files += [part for part in inside if part == path or not part.name.startswith(".")]
    try:
        size = sum(path.stat().st_size for path in files)
        if size > _MAX_BYTES:
            raise InputError(f"{what}: the files have {size / 1e9:.1f} GB, a page can show at most {_MAX_BYTES / 1e9:.1f} GB")
        return [(path.name, path.read_bytes()) for path in files]
    except OSError as error:
        raise InputError(f"{what}: {error.strerror or error}: {error.filename}") from error
