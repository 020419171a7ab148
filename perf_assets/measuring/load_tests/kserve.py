"""KServe v2 endpoints, gRPC and HTTP: readiness, metadata, statistics, and senders of inference requests.

Answers are checked: outputs of other shapes than the model's metadata promise are errors, not answers.
"""

from __future__ import annotations

import http.client
import json
from typing import Any
from urllib.parse import urlsplit

from perf_assets.measuring.load_tests.http_post import Connection
from perf_assets.measuring.load_tests.requests import LoadError, RequestError, Sender, ServerGoneError
from perf_assets.measuring.load_tests.tensors import Tensor, grpc_request, http_body

_ASK_S = 10.0
_COMPONENTS = ("success", "fail", "queue", "compute_input", "compute_infer", "compute_output")
INSTALL = "install it with 'pip install perf-assets[load]'"


def grpc_packages() -> tuple[Any, Any, Any]:
    """grpc and tritonclient's protocol modules.

    Raises:
        LoadError: they are not installed.
    """
    try:
        import grpc
        from tritonclient.grpc import service_pb2, service_pb2_grpc
    except ImportError as error:
        raise LoadError(f"load over gRPC needs {error.name or 'tritonclient'}: {INSTALL}") from None
    return grpc, service_pb2, service_pb2_grpc


class GrpcEndpoint:
    """A model of a KServe v2 server, over gRPC."""

    def __init__(self, address: str, model: str, timeout_s: float) -> None:
        self._grpc, self._pb2, services = grpc_packages()
        self.address = address
        self.model = model
        self._timeout_s = timeout_s
        options = [
            ("grpc.max_receive_message_length", -1),
            ("grpc.max_send_message_length", -1),
            ("grpc.use_local_subchannel_pool", 1),
            # A server that was started again at the same port must be found at once.
            ("grpc.initial_reconnect_backoff_ms", 100),
            ("grpc.max_reconnect_backoff_ms", 500),
        ]
        self._channel = self._grpc.insecure_channel(address, options=options)
        self._stub = services.GRPCInferenceServiceStub(self._channel)
        self.requests: list[Any] = []
        self._shapes: dict[str, list[int]] = {}

    def is_ready(self) -> bool:
        """Is the server ready, and the model on it?"""
        try:
            return (
                self._stub.ServerReady(self._pb2.ServerReadyRequest(), timeout=_ASK_S).ready
                and self._stub.ModelReady(self._pb2.ModelReadyRequest(name=self.model), timeout=_ASK_S).ready
            )
        except self._grpc.RpcError:
            return False

    def metadata(self) -> dict[str, Any]:
        """Inputs and outputs with name, datatype and shape."""
        from google.protobuf import json_format

        answer = self._ask("ModelMetadata", self._pb2.ModelMetadataRequest(name=self.model))
        found = json_format.MessageToDict(answer, preserving_proto_field_name=True)
        for each in (*found.get("inputs", ()), *found.get("outputs", ())):
            each["shape"] = [int(size) for size in each.get("shape", ())]
        return found

    def prepare(self, entries: list[list[Tensor]]) -> None:
        """Build the requests that senders take turns with."""
        self._shapes = {each["name"]: each["shape"] for each in self.metadata().get("outputs", ())}
        self.requests = [grpc_request(self._pb2, self.model, tensors) for tensors in entries]

    def statistics(self) -> dict[str, float] | None:
        """See :class:`perf_assets.measuring.load_tests.requests.Endpoint`."""
        try:
            answer = self._stub.ModelStatistics(
                self._pb2.ModelStatisticsRequest(name=self.model), timeout=_ASK_S
            )
        except self._grpc.RpcError:
            return None
        counts: dict[str, float] = {}
        for each in answer.model_stats:
            counts["inference_count"] = counts.get("inference_count", 0) + each.inference_count
            counts["execution_count"] = counts.get("execution_count", 0) + each.execution_count
            for name in _COMPONENTS:
                duration = getattr(each.inference_stats, name)
                for field in ("count", "ns"):
                    key = f"{name}_{field}"
                    counts[key] = counts.get(key, 0) + getattr(duration, field)
        return counts or None

    def configuration(self) -> dict[str, Any] | None:
        """See :class:`perf_assets.measuring.load_tests.requests.Endpoint`."""
        from google.protobuf import json_format

        try:
            answer = self._stub.ModelConfig(self._pb2.ModelConfigRequest(name=self.model), timeout=_ASK_S)
        except self._grpc.RpcError:
            return None
        return json_format.MessageToDict(answer.config, preserving_proto_field_name=True)

    def sender(self) -> Sender:
        """See :class:`perf_assets.measuring.load_tests.requests.Endpoint`."""
        return _GrpcSender(self, self._stub.ModelInfer, self._shapes, self._timeout_s, self._grpc)

    def close(self) -> None:
        """Let the connection go."""
        self._channel.close()

    def _ask(self, method: str, request: Any) -> Any:
        try:
            return getattr(self._stub, method)(request, timeout=_ASK_S)
        except self._grpc.RpcError as error:
            raise LoadError(
                f"{self.address}: {method} of model {self.model!r} failed: {error.details()}; check server.url"
                " and model.name"
            ) from None


class _GrpcSender:
    def __init__(
        self, endpoint: GrpcEndpoint, infer: Any, shapes: dict[str, list[int]], timeout_s: float, grpc: Any
    ) -> None:
        self._endpoint = endpoint
        self._infer = infer
        self._shapes = shapes
        self._timeout_s = timeout_s
        self._grpc = grpc

    def send(self, index: int) -> None:
        requests = self._endpoint.requests
        try:
            answer = self._infer(requests[index % len(requests)], timeout=self._timeout_s)
        except self._grpc.RpcError as error:
            if error.code() == self._grpc.StatusCode.UNAVAILABLE:
                raise ServerGoneError(f"{self._endpoint.address}: {error.details()}") from None
            if error.code() == self._grpc.StatusCode.DEADLINE_EXCEEDED:
                raise RequestError(f"no answer within {self._timeout_s:g} s") from None
            raise RequestError(f"{error.code().name}: {error.details()}") from None
        for output in answer.outputs:
            _check_shape(output.name, list(output.shape), self._shapes)

    def close(self) -> None:
        """The channel is the endpoint's."""


class HttpEndpoint:
    """A model of a KServe v2 server, over HTTP with JSON bodies; each sender has its own connection."""

    def __init__(self, address: str, model: str, timeout_s: float) -> None:
        split = urlsplit(address if "//" in address else f"http://{address}")
        if split.scheme != "http" or not split.hostname:
            raise LoadError(f"server.http_url {address!r}: write it as http://HOST:PORT")
        self.address = address
        self.model = model
        self.host, self.port = split.hostname, split.port or 80
        self.prefix = split.path.rstrip("/")
        self.timeout_s = timeout_s
        self.bodies: list[bytes] = []
        self.shapes: dict[str, list[int]] = {}

    def is_ready(self) -> bool:
        """Is the server ready, and the model on it?"""
        return (
            self.get("/v2/health/ready") is not None
            and self.get(f"/v2/models/{self.model}/ready") is not None
        )

    def metadata(self) -> dict[str, Any]:
        """Inputs and outputs with name, datatype and shape.

        Raises:
            LoadError: the server does not know the model.
        """
        found = self.get(f"/v2/models/{self.model}")
        if found is None:
            raise LoadError(
                f"{self.address}: no metadata of model {self.model!r}; check server.url and model.name"
            )
        return found

    def prepare(self, entries: list[list[Tensor]]) -> None:
        """Build the requests that senders take turns with."""
        self.shapes = {each["name"]: each["shape"] for each in self.metadata().get("outputs", ())}
        self.bodies = [http_body(tensors) for tensors in entries]

    def statistics(self) -> dict[str, float] | None:
        """See :class:`perf_assets.measuring.load_tests.requests.Endpoint`."""
        found = self.get(f"/v2/models/{self.model}/stats")
        counts: dict[str, float] = {}
        for each in (found or {}).get("model_stats", ()):
            for name in ("inference_count", "execution_count"):
                counts[name] = counts.get(name, 0) + each.get(name, 0)
            for name in _COMPONENTS:
                duration = each.get("inference_stats", {}).get(name, {})
                for field in ("count", "ns"):
                    counts[f"{name}_{field}"] = counts.get(f"{name}_{field}", 0) + duration.get(field, 0)
        return counts or None

    def configuration(self) -> dict[str, Any] | None:
        """See :class:`perf_assets.measuring.load_tests.requests.Endpoint`."""
        return self.get(f"/v2/models/{self.model}/config")

    def sender(self) -> Sender:
        """See :class:`perf_assets.measuring.load_tests.requests.Endpoint`."""
        return _HttpSender(self)

    def close(self) -> None:
        """Connections are the senders'."""

    def get(self, path: str) -> dict[str, Any] | None:
        """The JSON object at a path (an empty one for an empty answer); None where there is none."""
        connection = http.client.HTTPConnection(self.host, self.port, timeout=_ASK_S)
        try:
            connection.request("GET", self.prefix + path)
            answer = connection.getresponse()
            body = answer.read()
            found = json.loads(body) if body else {}
        except (OSError, http.client.HTTPException, ValueError):
            return None
        finally:
            connection.close()
        return found if answer.status == 200 and isinstance(found, dict) else None


class _HttpSender:
    def __init__(self, endpoint: HttpEndpoint) -> None:
        self._endpoint = endpoint
        self._connection = Connection(endpoint.host, endpoint.port, endpoint.timeout_s)

    def send(self, index: int) -> None:
        endpoint = self._endpoint
        path = f"{endpoint.prefix}/v2/models/{endpoint.model}/infer"
        body = endpoint.bodies[index % len(endpoint.bodies)]
        with self._connection.posted(path, body, {"Content-Type": "application/json"}) as answer:
            content = answer.read()
        try:
            found = json.loads(content)
            if answer.status != 200:
                raise RequestError(f"HTTP {answer.status}: {str(found.get('error', ''))[:200]}")
            for output in found["outputs"]:
                _check_shape(output["name"], output["shape"], endpoint.shapes)
        except (ValueError, KeyError, TypeError, AttributeError):
            raise RequestError(f"HTTP {answer.status}: not an inference answer") from None

    def close(self) -> None:
        self._connection.close()


def _check_shape(name: str, shape: list[int], promised: dict[str, list[int]]) -> None:
    """Does an output have the shape that the metadata promise? -1 stands for any size."""
    wanted = promised.get(name)
    if wanted is None:
        raise RequestError(f"output {name!r} is none of the model's: {', '.join(promised)}")
    fits = len(wanted) == len(shape) and all(w in (-1, s) for w, s in zip(wanted, shape, strict=True))
    if not fits:
        raise RequestError(f"output {name!r} has the shape {shape}, the model's metadata promise {wanted}")
