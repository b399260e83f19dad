"""The software bills of materials are valid CycloneDX 1.6, by CycloneDX's own library."""

import json
import os
import subprocess
from pathlib import Path

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

REPO = Path(os.environ["SULCUS_REPO"])


@pytest.fixture(scope="module")
def bills() -> list[Path]:
    xtask = os.environ.get("SULCUS_XTASK")
    if xtask is None:
        pytest.skip("SULCUS_XTASK names no program: `cargo xtask test` sets it")
    printed = subprocess.run([xtask, "sbom"], check=True, capture_output=True, text=True, cwd=REPO).stdout
    return [Path(line) for line in printed.splitlines()]


def test_bills_follow_the_schema(bills: list[Path]) -> None:
    assert [bill.name for bill in bills] == [
        "sulcus-cli.cdx.json",
        "sulcus-capi.cdx.json",
        "sulcus-python.cdx.json",
    ]
    for bill in bills:
        error = JsonStrictValidator(SchemaVersion.V1_6).validate_str(bill.read_text())
        assert error is None, f"{bill.name}: {error}"


def test_every_component_is_identified_and_the_graph_is_closed(bills: list[Path]) -> None:
    for bill in bills:
        content = json.loads(bill.read_text())
        components = content["components"]
        assert len(components) > 20
        for component in components:
            assert component["name"] and component["version"] and component["purl"], component
            assert component["licenses"][0]["expression"], component
            if component["purl"].startswith("pkg:cargo/"):
                (digest,) = component["hashes"]
                assert digest["alg"] == "SHA-256" and len(digest["content"]) == 64, component
        refs = {component["bom-ref"] for component in [*components, content["metadata"]["component"]]}
        assert len(refs) == len(components) + 1
        assert {node["ref"] for node in content["dependencies"]} == refs
        reached, open_refs = set(), [content["metadata"]["component"]["bom-ref"]]
        edges = {node["ref"]: node["dependsOn"] for node in content["dependencies"]}
        while open_refs:
            ref = open_refs.pop()
            if ref not in reached:
                reached.add(ref)
                open_refs += edges[ref]
        assert reached == refs, "a component that nothing depends on"


def test_the_bill_of_the_binary_lists_its_components(bills: list[Path]) -> None:
    content = json.loads(bills[0].read_text())
    scopes = {component["name"]: component["scope"] for component in content["components"]}
    assert scopes["burn"] == scopes["tract-onnx"] == scopes["sulcus-viewer"] == "required"
    assert scopes["serde_derive"] == "excluded"
    assert not {"insta", "proptest", "pyo3"} & scopes.keys()
