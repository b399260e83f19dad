"""`sulcus export --triton`, read with Triton's own protocol buffers and compared with the model in the same folder.

No server runs here. The test checks that the configuration is a valid `ModelConfig` that matches the graph, and that ONNX
Runtime, Triton's backend, accepts the tile of the warm-up.
"""

import json
import os
import subprocess
from pathlib import Path

import numpy
import onnx
import onnxruntime
import pytest
from google.protobuf import text_format

# Its package imports gRPC, which the messages do not need.
model_config = pytest.importorskip("tritonclient.grpc.model_config_pb2")

ROOT = Path(os.environ["SULCUS_REPO"])
SULCUS = os.environ["SULCUS_BIN"]
MODELS = {
    "hippocampus": ROOT / "models" / "hippocampus" / "model.onnx",
    "tiny": ROOT / "crates" / "sulcus-cli" / "assets" / "tiny.onnx",
}


def export(model, folder, *more):
    return subprocess.run(
        [SULCUS, "export", model, "--triton", folder, *more], capture_output=True, text=True, timeout=120
    )


@pytest.fixture(scope="module", params=MODELS)
def served(request, tmp_path_factory):
    """A model's name, its folder in the repository, its configuration and its file."""
    folder = tmp_path_factory.mktemp("repository")
    ended = export(MODELS[request.param], folder, "--triton-name", request.param)
    assert ended.returncode == 0, ended.stderr
    model = folder / request.param
    config = text_format.Parse((model / "config.pbtxt").read_text(), model_config.ModelConfig())
    return request.param, model, config, onnx.load(model / "1" / "model.onnx")


def spec_of(graph):
    return json.loads(next(entry.value for entry in graph.metadata_props if entry.key == "sulcus.spec"))


def test_names_types_and_axes_match_the_graph(served):
    name, model, config, graph = served
    assert (config.name, config.backend, config.default_model_filename) == (name, "onnxruntime", "model.onnx")
    assert config.max_batch_size > 1 and config.HasField("dynamic_batching")
    assert len(config.input) == len(config.output) == 1
    for said, value in [(config.input[0], graph.graph.input[0]), (config.output[0], graph.graph.output[0])]:
        tensor = value.type.tensor_type
        assert said.name == value.name
        assert (said.data_type, tensor.elem_type) == (model_config.TYPE_FP32, onnx.TensorProto.FLOAT)
        # Triton omits the batch axis, which must be dynamic.
        batch, *axes = tensor.shape.dim
        assert batch.dim_param
        assert list(said.dims) == [-1 if axis.dim_param else axis.dim_value for axis in axes]
    assert [version.name for version in model.iterdir() if version.is_dir()] == ["1"]


def test_the_graph_accepts_the_warm_up_tile_and_any_batch_size(served):
    _, model, config, graph = served
    (warmup,) = config.model_warmup
    (given,) = warmup.inputs.items()
    name, tile = given
    assert (name, tile.data_type, tile.zero_data) == ("image", model_config.TYPE_FP32, True)
    spec = spec_of(graph)
    assert list(tile.dims) == [len(spec["channels"]), *spec["patch"]]
    session = onnxruntime.InferenceSession(model / "1" / "model.onnx", providers=["CPUExecutionProvider"])
    single = session.run(None, {name: numpy.zeros([warmup.batch_size, *tile.dims], numpy.float32)})[0]
    assert single.shape == (1, config.output[0].dims[0], *spec["patch"])
    # Requests of several clients in one batch get the same outputs as separate requests.
    several = numpy.random.default_rng(0).normal(size=[config.max_batch_size, *tile.dims]).astype(numpy.float32)
    joined = session.run(None, {name: several})[0]
    for index in (0, config.max_batch_size - 1):
        alone = session.run(None, {name: several[index : index + 1]})[0][0]
        # Sums in another order differ in single precision.
        numpy.testing.assert_allclose(joined[index], alone, atol=1e-4)


def test_a_client_finds_the_classes_and_the_preprocessing(served):
    _, model, config, graph = served
    labels = (model / config.output[0].label_filename).read_text().splitlines()
    spec = spec_of(graph)
    assert labels == ["background", *(label["name"] for label in spec["labels"])]
    assert len(labels) == config.output[0].dims[0]
    told = json.loads(config.parameters["sulcus.spec"].string_value)
    assert "golden_case" not in told or told["golden_case"] is None
    for key in ("format_version", "channels", "labels", "orientation", "spacing", "patch", "overlap", "tiling", "activation"):
        assert told[key] == spec[key], key


@pytest.mark.parametrize("device, kind", [("auto", "KIND_AUTO"), ("cpu", "KIND_CPU"), ("cuda", "KIND_GPU"), ("tensorrt", "KIND_GPU")])
def test_devices_are_instance_groups_and_tensorrt_is_an_accelerator(tmp_path, device, kind):
    ended = export(MODELS["tiny"], tmp_path, "--triton-name", "tiny", "--triton-device", device)
    assert ended.returncode == 0, ended.stderr
    config = text_format.Parse((tmp_path / "tiny" / "config.pbtxt").read_text(), model_config.ModelConfig())
    (group,) = config.instance_group
    assert (group.count, group.kind) == (1, model_config.ModelInstanceGroup.Kind.Value(kind))
    named = [accelerator.name for accelerator in config.optimization.execution_accelerators.gpu_execution_accelerator]
    assert named == (["tensorrt"] if device == "tensorrt" else [])
