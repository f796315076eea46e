"""A FaceLandmarker bundle (``.task``), made from the models that MediaPipe's wheel holds.

No wheel holds such a bundle. Its mesh model has one output of 478 points; the wheel's has six (mesh, lips, eyes,
irises), which FaceMesh joins outside of the model. Here the same join is put inside: one matrix, whose ones are read
from FaceMesh's own graph. For one region of an image, both then give the same points.
"""

from __future__ import annotations

import importlib.util
import sys
import zipfile
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from clmer_streaming.face.geometry import N_VERTICES

DETECTOR, LANDMARKS = "face_detector.tflite", "face_landmarks_detector.tflite"

_N_MESH = 468
_CONCATENATION, _FULLY_CONNECTED = 2, 9  # TFLite's numbers of the operators
_GRAPH = """
input_stream: "image"
input_stream: "roi"
input_side_packet: "with_attention"
node {
  calculator: "FaceLandmarkCpu"
  input_stream: "IMAGE:image"
  input_stream: "ROI:roi"
  input_side_packet: "WITH_ATTENTION:with_attention"
  output_stream: "LANDMARKS:landmarks"
}
"""


def write_bundle(path: Path, entries: dict[str, bytes] | None = None) -> Path:
    """Write a bundle and return its path; ``entries`` take the place of the two models."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as bundle:
        for name, content in (models() if entries is None else entries).items():
            bundle.writestr(zipfile.ZipInfo(name), content)  # a fixed date: the same bytes each time
    return path


@cache
def models() -> dict[str, bytes]:
    """Return the two models of a bundle."""
    return {
        DETECTOR: wheel_model("face_detection/face_detection_short_range.tflite"),
        LANDMARKS: _joined(wheel_model("face_landmark/face_landmark_with_attention.tflite")),
    }


def wheel_model(name: str) -> bytes:
    """Return a model file of MediaPipe's wheel."""
    return (_wheel() / "modules" / name).read_bytes()


def _wheel() -> Path:
    import mediapipe

    return Path(mediapipe.__file__).parent


def _joined(model: bytes) -> bytes:
    """Return the mesh model with its first six outputs joined to one of 478 points, (1, 1434); then the score."""
    import flatbuffers

    schema = _schema()
    plain = schema.ModelT.InitFromPackedBuf(model, 0)
    graph = plain.subgraphs[0]
    *parts, score = list(graph.outputs)
    matrix = _join_matrix()
    joint = _tensor(schema, plain, (1, 1, 1, matrix.shape[1]), b"joint")
    weights = _tensor(schema, plain, matrix.shape, b"join", matrix)
    points = _tensor(schema, plain, (1, matrix.shape[0]), b"points")
    concatenation = schema.ConcatenationOptionsT()
    concatenation.axis = 3
    graph.operators += [
        _operator(schema, plain, _CONCATENATION, (parts, joint), concatenation),
        _operator(schema, plain, _FULLY_CONNECTED, ([joint, weights, -1], points), schema.FullyConnectedOptionsT()),
    ]
    graph.outputs = [points, score]
    builder: Any = flatbuffers.Builder(len(model) + matrix.nbytes)
    builder.Finish(plain.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def _join_matrix() -> npt.NDArray[np.float32]:
    """Return (1434, 1868): which numbers of the six outputs each coordinate of the 478 points is the mean of."""
    parts = _refinements()
    sizes = [3 * _N_MESH] + [2 * len(part.indexes_mapping) for part in parts[1:]]
    columns = np.cumsum([0, *sizes])
    matrix = np.zeros((3 * N_VERTICES, columns[-1]), np.float32)
    matrix[: sizes[0], : sizes[0]] = np.eye(sizes[0])
    for part, column in zip(parts[1:], columns[1:], strict=False):
        for i, vertex in enumerate(part.indexes_mapping):
            matrix[3 * vertex : 3 * vertex + 2] = 0
            matrix[3 * vertex, column + 2 * i] = matrix[3 * vertex + 1, column + 2 * i + 1] = 1
            mean_of = part.z_refinement.assign_average.indexes_for_average
            if mean_of:
                matrix[3 * vertex + 2, [3 * other + 2 for other in mean_of]] = 1 / len(mean_of)
    return matrix


def _refinements() -> list[Any]:
    """Return how FaceMesh joins the six outputs, as its own graph says."""
    from google.protobuf import text_format
    from mediapipe.calculators.util import landmarks_refinement_calculator_pb2 as refinement
    from mediapipe.framework.calculator_pb2 import CalculatorGraphConfig
    from mediapipe.python._framework_bindings import validated_graph_config

    expanded: Any = validated_graph_config.ValidatedGraphConfig()
    expanded.initialize(graph_config=text_format.Parse(_GRAPH, CalculatorGraphConfig()))
    nodes = CalculatorGraphConfig.FromString(expanded.binary_config).node
    (join,) = [node for node in nodes if node.calculator == "LandmarksRefinementCalculator"]
    return list(join.options.Extensions[refinement.LandmarksRefinementCalculatorOptions.ext].refinement)


@cache
def _schema() -> Any:
    """Return TFLite's schema as Python, which lies in the wheel under a name that another package hides."""
    name = "tflite_schema_of_the_wheel"
    spec = importlib.util.spec_from_file_location(name, _wheel() / "tasks/metadata/schema_py_generated.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def _tensor(
    schema: Any, plain: Any, shape: tuple[int, ...], name: bytes, values: npt.NDArray[np.float32] | None = None
) -> int:
    """Add a tensor of float32 and return its number."""
    buffer = schema.BufferT()
    buffer.data = None if values is None else np.frombuffer(values.tobytes(), np.uint8)
    plain.buffers.append(buffer)
    tensor = schema.TensorT()
    tensor.shape, tensor.type, tensor.name = list(shape), schema.TensorType.FLOAT32, name
    tensor.buffer = len(plain.buffers) - 1
    tensors = plain.subgraphs[0].tensors
    tensors.append(tensor)
    return len(tensors) - 1


def _operator(schema: Any, plain: Any, code: int, wires: tuple[list[int], int], options: Any) -> Any:
    kind = schema.OperatorCodeT()
    kind.builtinCode = kind.deprecatedBuiltinCode = code
    kind.version = 1
    plain.operatorCodes.append(kind)
    operator = schema.OperatorT()
    operator.opcodeIndex = len(plain.operatorCodes) - 1
    operator.inputs, operator.outputs = wires[0], [wires[1]]
    operator.builtinOptions = options
    operator.builtinOptionsType = getattr(schema.BuiltinOptions, type(options).__name__.removesuffix("T"))
    return operator
