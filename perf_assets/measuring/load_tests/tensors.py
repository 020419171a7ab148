"""Input tensors of inference requests: drawn at random, or from a file, and their two forms on the wire.

Files are perf_analyzer's input JSON (``{"data": [{NAME: {"content": [...], "shape": [...]}}]}``), ``.npy`` (one
tensor) or CSV of numbers (one tensor, a row a line). All are checked against the model's metadata.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from perf_assets.measuring.load_tests.requests import LoadError

DTYPES = {
    "BOOL": np.bool_,
    "UINT8": np.uint8,
    "UINT16": np.uint16,
    "UINT32": np.uint32,
    "UINT64": np.uint64,
    "INT8": np.int8,
    "INT16": np.int16,
    "INT32": np.int32,
    "INT64": np.int64,
    "FP16": np.float16,
    "FP32": np.float32,
    "FP64": np.float64,
}
"""KServe v2's names of number types."""


@dataclass(frozen=True)
class Tensor:
    """One input of one request."""

    name: str
    datatype: str
    values: np.ndarray


def random_entry(
    inputs: Sequence[Mapping[str, Any]],
    batch_size: int,
    shapes: Mapping[str, Sequence[int]],
    *,
    is_batched: bool,
    seed: int = 0,
) -> list[Tensor]:
    """One request of random numbers.

    Args:
        inputs: the model's inputs: name, datatype and shape, -1 for sizes that may vary.
        batch_size: first size of each input of a batched model.
        shapes: the other sizes of inputs that vary, by name.
        is_batched: the first size is the batch.
        seed: of the numbers.

    Raises:
        LoadError: a size that varies is not told.
    """
    draw = np.random.default_rng(seed)
    tensors = []
    for each in inputs:
        name, datatype, shape = each["name"], each["datatype"], list(each["shape"])
        if is_batched and shape and shape[0] == -1:
            shape[0] = batch_size
        if name in shapes:
            told = list(shapes[name])
            shape = [*shape[: len(shape) - len(told)], *told]
        if any(size < 0 for size in shape):
            raise LoadError(
                f"input {name!r} of the model has the shape {shape}, where -1 may be any size: write its sizes"
                f" into the study as [model.shapes] {name} = [...], or name a file with model.input"
            )
        numbers = draw.random(shape) * (100 if datatype.startswith(("INT", "UINT")) else 1)
        tensors.append(Tensor(name, datatype, numbers.astype(_dtype(name, datatype))))
    return tensors


def read_entries(path: Path, inputs: Sequence[Mapping[str, Any]]) -> list[list[Tensor]]:
    """The requests that a file holds, checked against the model's inputs.

    Raises:
        LoadError: it cannot be read, or does not fit the model; the message says where and what helps.
    """
    by_name = {each["name"]: each for each in inputs}
    if path.suffix == ".npy" or path.suffix == ".csv":
        if len(by_name) != 1:
            raise LoadError(
                f"{path}: holds one tensor, the model has the inputs {', '.join(by_name)}: use JSON"
            )
        try:
            values = (
                np.load(path, allow_pickle=False)
                if path.suffix == ".npy"
                else np.loadtxt(path, delimiter=",", ndmin=2, comments=None)
            )
        except (OSError, ValueError) as error:
            raise LoadError(f"{path}: cannot be read: {error}") from None
        [(name, each)] = by_name.items()
        return [[_fitting(path, name, each, values)]]
    return [
        [
            _fitting(path, name, _known(path, name, by_name), _content(path, place, name, tensor, by_name))
            for name, tensor in entry.items()
        ]
        for place, entry in enumerate(json_entries(path, set(by_name)))
    ]


def json_entries(path: Path, names: set[str]) -> list[dict[str, Any]]:
    """The entries of an input JSON, each with a tensor for every input.

    Raises:
        LoadError: it is none.
    """
    try:
        data = json.loads(path.read_text())["data"]
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8 text"
        raise LoadError(f"{path}: cannot be read ({reason}): name an input file") from None
    except (ValueError, KeyError, TypeError):
        raise LoadError(
            f'{path}: no input JSON: write {{"data": [{{NAME: {{"content": [...]}}}}]}}'
        ) from None
    if not isinstance(data, list) or not data or not all(isinstance(entry, dict) for entry in data):
        raise LoadError(f"{path}: 'data' is not a list of objects with a tensor for each input")
    for place, entry in enumerate(data):
        if missing := names - entry.keys():
            raise LoadError(
                f"{path}: data[{place}] has no tensor for {', '.join(sorted(missing))}; it has"
                f" {', '.join(map(str, entry)) or 'none'}: make the file again for this model"
            )
    return data


def _known(path: Path, name: str, by_name: Mapping[str, Mapping[str, Any]]) -> Mapping[str, Any]:
    if name not in by_name:
        raise LoadError(
            f"{path}: tensor {name!r} is no input of the model, which has {', '.join(by_name)}: make the file"
            " again for this model"
        )
    return by_name[name]


def _content(
    path: Path, place: int, name: str, tensor: Any, by_name: Mapping[str, Mapping[str, Any]]
) -> np.ndarray:
    told = _known(path, name, by_name)
    content, shape = tensor, None
    if isinstance(tensor, dict):
        content, shape = tensor.get("content"), tensor.get("shape")
        if "b64" in tensor:
            raw = base64.b64decode(tensor["b64"])
            content = np.frombuffer(raw, _dtype(name, told["datatype"]))
    try:
        values = np.asarray(content)
        if shape is None:
            sizes = list(told["shape"])
            shape = sizes if sizes.count(-1) <= 1 else values.shape
        return values.reshape(shape)
    except (ValueError, TypeError):
        raise LoadError(
            f"{path}: data[{place}] {name}: {np.size(content)} values do not fill the shape {shape}"
        ) from None


def _fitting(path: Path, name: str, told: Mapping[str, Any], values: np.ndarray) -> Tensor:
    wanted = list(told["shape"])
    shape = list(values.shape)
    # A tensor of one sample may leave the batch out.
    if len(shape) == len(wanted) - 1 and wanted[0] == -1 and all(map(_fits, wanted[1:], shape)):
        values = values[None]
        shape = list(values.shape)
    if len(shape) != len(wanted) or not all(map(_fits, wanted, shape)):
        raise LoadError(f"{path}: tensor {name!r} has the shape {shape}, the model wants {wanted}")
    try:
        cast = values.astype(_dtype(name, told["datatype"]))
    except (ValueError, TypeError):
        raise LoadError(f"{path}: tensor {name!r} holds what is no {told['datatype']}") from None
    return Tensor(name, told["datatype"], np.ascontiguousarray(cast))


def _fits(wanted: int, size: int) -> bool:
    return wanted in (-1, size)


def _dtype(name: str, datatype: str) -> Any:
    if datatype not in DTYPES:
        raise LoadError(
            f"input {name!r} is of the type {datatype}: only numbers are sent ({', '.join(DTYPES)})"
        )
    return DTYPES[datatype]


def grpc_request(service_pb2: Any, model: str, tensors: Sequence[Tensor]) -> Any:
    """A ``ModelInferRequest`` with raw contents, little-endian in row-major order."""
    request = service_pb2.ModelInferRequest(model_name=model)
    for tensor in tensors:
        request.inputs.add(name=tensor.name, datatype=tensor.datatype, shape=tensor.values.shape)
        request.raw_input_contents.append(tensor.values.tobytes())
    return request


def http_body(tensors: Sequence[Tensor]) -> bytes:
    """The JSON body of an inference request."""
    inputs = [
        {
            "name": tensor.name,
            "datatype": tensor.datatype,
            "shape": list(tensor.values.shape),
            "data": tensor.values.ravel().tolist(),
        }
        for tensor in tensors
    ]
    return json.dumps({"inputs": inputs}).encode()
