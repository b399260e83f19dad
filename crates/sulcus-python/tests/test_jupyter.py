"""The viewer in a real JupyterLab, in headless Chromium. Skipped without the packages jupyterlab and anywidget, or without Chromium."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from conftest import CASE, MODEL

LIMIT_S = 120
TOKEN = "sulcus"
CELLS = [
    f"""
import nibabel, sulcus
truth = nibabel.load({str(CASE.with_name("truth.nii.gz"))!r})
viewer = sulcus.view({str(CASE)!r}, mask=truth, labels={{1: "Anterior", 2: "Posterior"}})
moved, picture, refused = viewer.go_to(label=2), viewer.screenshot(), viewer.go_to(label=9)
viewer
""",
    """
print("FIRST", moved.result(0)["mask"]["name"], picture.result(0)[:4], refused.exception(0), viewer.location["mask"]["name"],
      viewer.mask is None, viewer.error)
""",
    f"predicted = viewer.predict({str(MODEL)!r})",
    """
print("SECOND", [label["name"] for label in predicted.result(0)["labels"]], viewer.mask.shape, (viewer.mask == 1).sum())
""",
]


def chromium() -> str:
    names = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"]
    set_ones = [os.environ.get("CHROME"), os.environ.get("SULCUS_CHROMIUM")]
    for path in [*set_ones, *map(shutil.which, names)]:
        if path:
            return path
    pytest.skip("there is no Chromium on PATH, in CHROME or in SULCUS_CHROMIUM")


def wait_for(what: str, get: Any) -> Any:
    start = time.monotonic()
    while time.monotonic() - start < LIMIT_S:
        try:
            found = get()
        except OSError:
            found = None
        if found:
            return found
        time.sleep(0.1)
    raise AssertionError(f"waited too long for {what}")


@pytest.fixture()
def lab(tmp_path: Path) -> Iterator[str]:
    """The address of a JupyterLab with a notebook."""
    pytest.importorskip("jupyterlab")
    pytest.importorskip("anywidget")
    cells = [
        {"cell_type": "code", "id": f"c{i}", "metadata": {}, "source": cell.strip(), "outputs": [], "execution_count": None}
        for i, cell in enumerate(CELLS)
    ]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    notebook = {"cells": cells, "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5}
    work = tmp_path / "work"
    work.mkdir()
    (work / "viewer.ipynb").write_text(json.dumps(notebook))
    folders = {name: str(tmp_path / name) for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR")}
    command = [sys.executable, "-m", "jupyterlab", "--allow-root", "--no-browser", "--ServerApp.port=0", f"--IdentityProvider.token={TOKEN}"]
    command += [f"--ServerApp.root_dir={work}", "--LabApp.expose_app_in_browser=True", "--LabApp.news_url=None"]
    server = subprocess.Popen(command, env={**os.environ, **folders}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        runtime = tmp_path / "JUPYTER_RUNTIME_DIR"
        info = wait_for("JupyterLab", lambda: next(iter(runtime.glob("jpserver-*.json")), None))
        address = json.loads(info.read_text())["url"].rstrip("/")
        wait_for("JupyterLab", lambda: urllib.request.urlopen(f"{address}/api?token={TOKEN}", timeout=5).status == 200)
        yield address
    finally:
        server.terminate()
        server.wait(20)


class Page:
    """A page of Chromium, controlled by its DevTools protocol over the web socket of JupyterLab's own server library."""

    def __init__(self, socket: Any) -> None:
        self.socket = socket
        self.number = 0
        self.session: str | None = None
        self.requested: list[str] = []

    async def call(self, method: str, **parameters: Any) -> Any:
        self.number += 1
        message = {"id": self.number, "method": method, "params": parameters}
        await self.socket.write_message(json.dumps({**message, "sessionId": self.session} if self.session else message))
        while True:
            answer = json.loads(await asyncio.wait_for(self.socket.read_message(), LIMIT_S))
            if answer.get("method") == "Network.requestWillBeSent":
                self.requested.append(answer["params"]["request"]["url"])
            if answer.get("id") == self.number:
                assert "error" not in answer, (method, answer)
                return answer["result"]

    async def value(self, expression: str) -> Any:
        found = await self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in found, (expression, found["exceptionDetails"])
        return found["result"].get("value")

    async def wait_for(self, expression: str) -> None:
        start = time.monotonic()
        while not await self.value(f"(async () => Boolean({expression}))()"):
            text = await self.value("document.body.innerText")
            assert time.monotonic() - start < LIMIT_S, f"waited too long for {expression}: {text}"
            await asyncio.sleep(0.1)

    async def run_cell(self, number: int) -> None:
        """Runs a cell, and waits for its end."""
        await self.value(
            f"(() => {{ const notebook = jupyterapp.shell.currentWidget.content; notebook.activeCellIndex = {number};"
            " return jupyterapp.commands.execute('notebook:run-cell').then(() => 0); })()"
        )

    async def output(self, number: int) -> str:
        await self.run_cell(number)
        cell = f"document.querySelectorAll('.jp-CodeCell')[{number}]"
        await self.wait_for(f"{cell}?.querySelector('.jp-OutputArea-output')")
        text: str = await self.value(f"{cell}.querySelector('.jp-OutputArea').innerText")
        return text.strip()

    async def later_output(self, number: int) -> str:
        """The output of a cell once it has the results for which it does not wait."""
        start = time.monotonic()
        while "TimeoutError" in (said := await self.output(number)):
            assert time.monotonic() - start < LIMIT_S, said
            await asyncio.sleep(0.5)
        return said


async def visit(lab: str, port: int, path: str) -> None:
    from tornado.websocket import websocket_connect

    page = Page(await websocket_connect(f"ws://127.0.0.1:{port}{path}", max_message_size=1 << 28))
    target = (await page.call("Target.createTarget", url="about:blank"))["targetId"]
    page.session = (await page.call("Target.attachToTarget", targetId=target, flatten=True))["sessionId"]
    await page.call("Network.enable")
    await page.call("Page.navigate", url=f"{lab}/lab/tree/viewer.ipynb?token={TOKEN}")
    await page.wait_for("globalThis.jupyterapp?.shell?.currentWidget?.sessionContext?.session?.kernel?.status === 'idle'")
    await page.run_cell(0)
    await page.wait_for("document.querySelector('sulcus-viewer')")
    element = "document.querySelector('sulcus-viewer')"
    await page.wait_for(f"(await {element}.getLabels()).some(({{ name }}) => name === 'Posterior')")
    await page.wait_for(f"(await {element}.getState()).at[0] === 15")
    said = await page.later_output(1)
    assert said == "FIRST Posterior b'\\x89PNG' there is no label 9 Posterior True None"
    picture = os.environ.get("SULCUS_PICTURE")
    if picture:
        import base64

        shot = await page.call("Page.captureScreenshot")
        Path(picture).write_bytes(base64.b64decode(shot["data"]))
    await page.run_cell(2)
    await page.wait_for(f"(await {element}.getLabels()).some(({{ mask }}) => mask === 2083)")
    await asyncio.sleep(1)
    assert await page.output(3) == "SECOND ['Anterior', 'Posterior'] (35, 53, 36) 2083"
    # The page came from Python, not from a network.
    foreign = [url for url in page.requested if not url.startswith((lab, "data:", "blob:"))]
    assert foreign == []


def test_viewer_in_jupyterlab(lab: str, tmp_path: Path) -> None:
    profile = tmp_path / "profile"
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--remote-debugging-port=0", "--disable-dev-shm-usage"]
    flags += ["--disable-background-networking", "--disable-component-update", "--disable-sync", "--window-size=1300,1100"]
    browser = subprocess.Popen(
        [chromium(), *flags, f"--user-data-dir={profile}", "about:blank"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        wait_for("Chromium", lambda: (profile / "DevToolsActivePort").exists() and (profile / "DevToolsActivePort").stat().st_size)
        port, path = (profile / "DevToolsActivePort").read_text().split("\n")[:2]
        asyncio.run(visit(lab, int(port), path))
    finally:
        browser.terminate()
        browser.wait(20)
