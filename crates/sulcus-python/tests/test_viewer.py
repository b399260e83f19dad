"""The viewer of notebooks without a browser: what it sends, and what it makes of the answers."""

from __future__ import annotations

import builtins
import gzip
import sys
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

import sulcus
from sulcus import _viewer

from conftest import CASE, MODEL

TRUTH = CASE.with_name("truth.nii.gz")


class Browser:
    """A view that notes what it gets."""

    def __init__(self, viewer: sulcus.Viewer) -> None:
        self.viewer = viewer
        self.got: list[tuple[dict[str, Any], list[bytes]]] = []
        viewer.widget.send = lambda message, buffers=None: self.got.append((message, list(buffers or [])))

    def says(self, message: dict[str, Any], *buffers: bytes) -> None:
        self.viewer._receive(self.viewer.widget, message, list(buffers))

    def calls(self) -> list[tuple[str, list[Any]]]:
        return [(message["method"], message["parameters"]) for message, _ in self.got if message["kind"] == "call"]

    def files(self, call: int) -> dict[str, list[tuple[str, bytes]]]:
        message, buffers = [got for got in self.got if got[0]["kind"] == "call"][call]
        return {
            role: [(part["name"], buffers[part["buffer"]]) for part in parts]
            for role, parts in message["parameters"][0].items()
        }


@pytest.fixture()
def browser() -> Browser:
    pytest.importorskip("anywidget")
    return Browser(sulcus.Viewer())


def test_page_contains_the_viewer_and_permits_no_network(browser: Browser) -> None:
    browser.says({"kind": "page", "id": "p"})
    (message, (page,)), = browser.got
    assert message == {"kind": "reply", "id": "p"}
    assert page.startswith(b"<!DOCTYPE html>") and b"default-src 'none'; script-src 'sha256-" in page
    assert b"sulcus-viewer" in browser.viewer.widget._esm.encode()


def test_files_are_sent_when_the_viewer_is_shown(browser: Browser, image: nibabel.Nifti1Image) -> None:
    affine = image.affine
    mask = np.asarray(nibabel.load(TRUTH).dataobj)
    browser.viewer.load(CASE, mask=(mask, affine), labels={1: "Anterior", 2: "Posterior"})
    assert browser.got == []
    browser.says({"kind": "begin", "id": "a"})
    assert [method for method, _ in browser.calls()] == ["load", "setLabels"]
    sent = browser.files(0)
    assert sent["image"] == [("image.nii.gz", CASE.read_bytes())]
    (name, content), = sent["mask"]
    made = nibabel.Nifti1Image.from_bytes(gzip.decompress(content))
    assert name == "mask.nii.gz" and np.array_equal(np.asarray(made.dataobj), mask)
    assert np.allclose(made.affine, affine) and b"Posterior" in made.header.extensions[0].get_content()

    browser.viewer.load(image)
    (_, content), = browser.files(2)["image"]
    made = nibabel.Nifti1Image.from_bytes(gzip.decompress(content))
    assert np.array_equal(made.get_fdata(dtype=np.float32), image.get_fdata(dtype=np.float32))


def test_folders_and_lists_of_files(browser: Browser, tmp_path: Path) -> None:
    for name in ("b.dcm", "a.dcm", ".hidden"):
        (tmp_path / name).write_bytes(name.encode())
    browser.viewer.load(tmp_path, mask=[tmp_path / "b.dcm", str(tmp_path / "a.dcm")])
    browser.says({"kind": "begin", "id": "a"})
    sent = browser.files(0)
    assert sent["image"] == [("a.dcm", b"a.dcm"), ("b.dcm", b"b.dcm")]
    assert [name for name, _ in sent["mask"]] == ["b.dcm", "a.dcm"]


def test_another_view_gets_what_is_open_with_the_corrections(browser: Browser) -> None:
    browser.viewer.load(CASE, mask=TRUTH)
    browser.says({"kind": "begin", "id": "a"})
    browser.says({"kind": "mask"}, TRUTH.read_bytes())
    browser.got.clear()
    browser.says({"kind": "begin", "id": "b"})
    message = browser.got[1][0]
    assert (message["method"], message["view"]) == ("load", "b")
    assert browser.files(0)["mask"] == [("mask.nii.gz", TRUTH.read_bytes())]


def test_answers_events_and_masks(browser: Browser, tmp_path: Path) -> None:
    viewer = browser.viewer
    heard: list[Any] = []
    viewer.on("location", heard.append)
    going, picture, refused = viewer.go_to(label=1), viewer.screenshot(), viewer.set_state({"opacity": 80})
    browser.says({"kind": "begin", "id": "a"})
    assert browser.calls() == [("goTo", [{"label": 1}]), ("screenshot", []), ("setState", [{"opacity": 80}])]
    numbers = [message["id"] for message, _ in browser.got if message["kind"] == "call"]
    assert not going.done()
    browser.says({"kind": "answer", "id": numbers[0], "result": {"ras": [1, 2, 3]}})
    browser.says({"kind": "answer", "id": numbers[1]}, b"png")
    browser.says({"kind": "answer", "id": numbers[2], "error": "no such thing"})
    browser.says({"kind": "answer", "id": numbers[0], "result": "of another view"})
    assert (going.result(0), picture.result(0)) == ({"ras": [1, 2, 3]}, b"png")
    with pytest.raises(sulcus.SulcusError, match="no such thing"):
        refused.result(0)

    browser.says({"kind": "event", "type": "location", "detail": {"voxel": [1, 2, 3]}})
    assert (viewer.location, heard) == ({"voxel": [1, 2, 3]}, [{"voxel": [1, 2, 3]}])
    assert viewer.mask is None and viewer.measurements == [] and viewer.error is None
    with pytest.raises(sulcus.SulcusError, match="no mask"):
        viewer.save_mask(tmp_path / "mask.nii.gz")
    browser.says({"kind": "mask"}, TRUTH.read_bytes())
    truth = nibabel.load(TRUTH)
    assert viewer.mask is not None and np.array_equal(viewer.mask, np.asarray(truth.dataobj))
    assert np.allclose(viewer.mask_affine, truth.affine)
    viewer.save_mask(tmp_path / "mask.nii.gz")
    assert (tmp_path / "mask.nii.gz").read_bytes() == TRUTH.read_bytes()


def test_segmentation_is_shown_with_its_names(browser: Browser) -> None:
    segmentation = sulcus.Segmenter(MODEL, engine="tract").segment(nibabel.load(CASE))
    browser.viewer.load(CASE, mask=segmentation)
    browser.says({"kind": "begin", "id": "a"})
    (_, content), = browser.files(0)["mask"]
    made = nibabel.Nifti1Image.from_bytes(gzip.decompress(content))
    assert np.array_equal(np.asarray(made.dataobj), segmentation.labels)
    assert b"Anterior" in made.header.extensions[0].get_content()


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (np.full((2, 2, 2), 0.5), "whole numbers; this is no mask"),
        (np.full((2, 2, 2), np.nan), "from 0 to 65535, found nan"),
        (np.full((2, 2, 2), -1), "found -1 to -1"),
        (np.full((2, 2, 2), 70000), "found 70000"),
        (np.zeros((2, 2)), r"three axes \(x, y, z\), found shape \(2, 2\)"),
        (np.zeros((2, 2, 2), dtype=complex), "found dtype complex128"),
    ],
)
def test_what_is_no_mask_is_refused(browser: Browser, mask: np.ndarray, message: str) -> None:
    with pytest.raises(sulcus.InputError, match=message):
        browser.viewer.load(mask=(mask, np.eye(4)))


def test_other_input_is_refused(browser: Browser, tmp_path: Path) -> None:
    viewer = browser.viewer
    with pytest.raises(sulcus.InputError, match="image: expected a path"):
        viewer.load(5)  # type: ignore[arg-type]
    with pytest.raises(sulcus.InputError, match="image: expected a path"):
        viewer.load([1, 2, 3])  # type: ignore[list-item]
    with pytest.raises(sulcus.InputError, match=r"image: No such file.*gone\.nii"):
        viewer.load(tmp_path / "gone.nii")
    with pytest.raises(sulcus.InputError, match="name an image"):
        viewer.load()
    with pytest.raises(sulcus.InputError, match="name a position or a label"):
        viewer.go_to()


def test_without_anywidget_the_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    _viewer._widget_class.cache_clear()
    monkeypatch.delitem(sys.modules, "anywidget", raising=False)
    usual = builtins.__import__

    def without(name: str, *more: Any, **named: Any) -> Any:
        if name == "anywidget":
            raise ImportError(name)
        return usual(name, *more, **named)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(sulcus.SulcusError, match=r'pip install "sulcus\[jupyter\]"'):
        sulcus.view()
