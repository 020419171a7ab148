"""A small KServe v2 server, gRPC and HTTP, over a model that only takes time; real perf_analyzer accepts it.

    python -m perf_assets.measuring.load_tests.serving.kserve_server --instances 2 --service-ms 20

It prints one JSON line with its ports when it is ready, and serves until SIGTERM, or until its parent is gone.
The protocol: Open Inference Protocol (KServe v2), with Triton's extensions ``statistics`` and
``model_configuration``.
"""

from __future__ import annotations

import argparse
import json
import signal
import socket
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from perf_assets.measuring.load_tests.serving.served_model import Behaviour, RequestFailedError, ServedModel

MODEL = "timed"
INPUT, OUTPUT, WIDTH = "INPUT0", "OUTPUT0", 16
LARGEST_BATCH = 1024
MOST_IN_FLIGHT = 1024
_LOOPBACK = "127.0.0.1"


class PortTakenError(Exception):
    """Another program listens there."""


def metadata() -> dict[str, Any]:
    """The model's metadata as HTTP tells it."""
    return {
        "name": MODEL,
        "versions": ["1"],
        "platform": "python",
        "inputs": [{"name": INPUT, "datatype": "FP32", "shape": [-1, WIDTH]}],
        "outputs": [{"name": OUTPUT, "datatype": "FP32", "shape": [-1, WIDTH]}],
    }


def configuration(instances: int) -> dict[str, Any]:
    """The model's configuration, in the names of Triton's model_config.proto."""
    return {
        "name": MODEL,
        "platform": "python",
        "max_batch_size": LARGEST_BATCH,
        "input": [{"name": INPUT, "data_type": "TYPE_FP32", "dims": [WIDTH]}],
        "output": [{"name": OUTPUT, "data_type": "TYPE_FP32", "dims": [WIDTH]}],
        "instance_group": [{"name": f"{MODEL}_0", "kind": "KIND_CPU", "count": instances}],
    }


def statistics_json(model: ServedModel) -> dict[str, Any]:
    """The model's statistics as HTTP tells them."""
    counts = model.statistics()

    def duration(total_ns: int, count: int | None = None) -> dict[str, int]:
        return {"count": counts.success_count if count is None else count, "ns": total_ns}

    return {
        "name": MODEL,
        "version": "1",
        "inference_count": counts.inference_count,
        "execution_count": counts.execution_count,
        "inference_stats": {
            "success": duration(counts.success_ns),
            "fail": duration(0, counts.fail_count),
            "queue": duration(counts.queue_ns),
            "compute_input": duration(0),
            "compute_infer": duration(counts.infer_ns),
            "compute_output": duration(0),
        },
    }


def serve_grpc(model: ServedModel, port: int) -> tuple[Any, int]:
    """Start the gRPC server; returns it and its port.

    Raises:
        PortTakenError: the port is taken.
    """
    import grpc
    from google.protobuf import json_format
    from tritonclient.grpc import service_pb2, service_pb2_grpc

    class Servicer(service_pb2_grpc.GRPCInferenceServiceServicer):
        """KServe v2 over gRPC; names and cases are the protocol's."""

        def ServerLive(self, request: Any, context: Any) -> Any:  # noqa: N802
            return service_pb2.ServerLiveResponse(live=True)

        def ServerReady(self, request: Any, context: Any) -> Any:  # noqa: N802
            return service_pb2.ServerReadyResponse(ready=True)

        def ModelReady(self, request: Any, context: Any) -> Any:  # noqa: N802
            return service_pb2.ModelReadyResponse(ready=request.name == MODEL)

        def ServerMetadata(self, request: Any, context: Any) -> Any:  # noqa: N802
            return service_pb2.ServerMetadataResponse(
                name="perf_assets", version="2", extensions=["statistics", "model_configuration"]
            )

        def ModelMetadata(self, request: Any, context: Any) -> Any:  # noqa: N802
            self._known(request.name, context)
            return json_format.ParseDict(metadata(), service_pb2.ModelMetadataResponse())

        def ModelConfig(self, request: Any, context: Any) -> Any:  # noqa: N802
            self._known(request.name, context)
            config = configuration(model.behaviour.instances)
            return json_format.ParseDict({"config": config}, service_pb2.ModelConfigResponse())

        def ModelStatistics(self, request: Any, context: Any) -> Any:  # noqa: N802
            return json_format.ParseDict(
                {"model_stats": [statistics_json(model)]}, service_pb2.ModelStatisticsResponse()
            )

        def ModelInfer(self, request: Any, context: Any) -> Any:  # noqa: N802
            self._known(request.model_name, context)
            samples = request.inputs[0].shape[0] if request.inputs else 1
            try:
                model.infer(samples)
            except RequestFailedError as error:
                context.abort(grpc.StatusCode.INTERNAL, str(error))
            response = service_pb2.ModelInferResponse(model_name=MODEL, model_version="1", id=request.id)
            width = WIDTH + 1 if model.behaviour.wrong_shape else WIDTH
            response.outputs.add(name=OUTPUT, datatype="FP32", shape=[samples, width])
            response.raw_output_contents.append(bytes(4 * samples * width))
            return response

        def _known(self, name: str, context: Any) -> None:
            if name != MODEL:
                context.abort(grpc.StatusCode.NOT_FOUND, f"unknown model {name!r}: this server has {MODEL!r}")

    server = grpc.server(
        ThreadPoolExecutor(MOST_IN_FLIGHT), options=[("grpc.so_reuseport", 0)], maximum_concurrent_rpcs=None
    )
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(Servicer(), server)
    try:
        bound = server.add_insecure_port(f"{_LOOPBACK}:{port}")
    except RuntimeError:
        bound = 0
    if bound == 0:
        raise PortTakenError(f"port {port} is taken: choose another, or 0 for a free one")
    server.start()
    return server, bound


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    model: ServedModel

    def do_GET(self) -> None:
        answers = {
            "/v2/health/live": dict,
            "/v2/health/ready": dict,
            "/v2": lambda: {"name": "perf_assets", "extensions": ["statistics", "model_configuration"]},
            f"/v2/models/{MODEL}": metadata,
            f"/v2/models/{MODEL}/ready": dict,
            f"/v2/models/{MODEL}/config": lambda: configuration(self.model.behaviour.instances),
            f"/v2/models/{MODEL}/stats": lambda: {"model_stats": [statistics_json(self.model)]},
        }
        if self.path not in answers:
            self._answer(404, {"error": f"no {self.path} here"})
        else:
            self._answer(200, answers[self.path]())

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.path != f"/v2/models/{MODEL}/infer":
            self._answer(404, {"error": f"no {self.path} here"})
            return
        try:
            # With the binary extension the tensors follow the JSON.
            header = int(self.headers.get("Inference-Header-Content-Length", len(body)))
            samples = int(json.loads(body[:header])["inputs"][0]["shape"][0])
            self.model.infer(samples)
        except RequestFailedError as error:
            self._answer(500, {"error": str(error)})
            return
        except (ValueError, KeyError, IndexError, TypeError):
            self._answer(400, {"error": "not an inference request: inputs with name, datatype, shape, data"})
            return
        width = WIDTH + 1 if self.model.behaviour.wrong_shape else WIDTH
        output = {
            "name": OUTPUT,
            "datatype": "FP32",
            "shape": [samples, width],
            "data": [0.0] * samples * width,
        }
        self._answer(200, {"model_name": MODEL, "model_version": "1", "outputs": [output]})

    def _answer(self, status: int, content: dict[str, Any]) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Requests are not worth a line each."""


class LoopbackServer(ThreadingHTTPServer):
    """An HTTP server on this machine's loopback address alone, a thread a connection."""

    daemon_threads = True
    request_queue_size = MOST_IN_FLIGHT
    allow_reuse_port = False

    def get_request(self) -> tuple[socket.socket, Any]:
        """Accept; answers are small and must not wait to be gathered."""
        connection, address = super().get_request()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection, address


def serve_http(handler: type[BaseHTTPRequestHandler], port: int) -> LoopbackServer:
    """Start an HTTP server in a thread.

    Raises:
        PortTakenError: the port is taken.
    """
    try:
        server = LoopbackServer((_LOOPBACK, port), handler)
    except OSError:
        raise PortTakenError(f"port {port} is taken: choose another, or 0 for a free one") from None
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def behaviour_arguments(parser: argparse.ArgumentParser) -> None:
    """Options for everything that a model can do."""
    for each in fields(Behaviour):
        option, default = f"--{each.name.replace('_', '-')}", each.default
        if isinstance(default, bool):
            parser.add_argument(option, action="store_true")
        else:
            parser.add_argument(option, type=type(default), default=default)


def behaviour_of(options: argparse.Namespace) -> Behaviour:
    """The behaviour that the options ask for."""
    return Behaviour(**{each.name: getattr(options, each.name) for each in fields(Behaviour)})


def tell_and_wait(ports: dict[str, int]) -> None:
    """Print the ports as one JSON line, and wait for SIGTERM or SIGINT."""
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    print(json.dumps(ports), flush=True)
    ended.wait()


def main(arguments: list[str] | None = None) -> int:
    """Run the server; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m perf_assets.measuring.load_tests.serving.kserve_server")
    parser.add_argument("--grpc-port", type=int, default=0)
    parser.add_argument("--http-port", type=int, default=0)
    behaviour_arguments(parser)
    options = parser.parse_args(arguments)
    model = ServedModel(behaviour_of(options))
    handler = type("Handler", (_Handler,), {"model": model})
    try:
        http = serve_http(handler, options.http_port)
        grpc_server, grpc_port = serve_grpc(model, options.grpc_port)
    except PortTakenError as error:
        print(error, file=sys.stderr)
        return 4
    tell_and_wait({"grpc_port": grpc_port, "http_port": http.server_address[1]})
    grpc_server.stop(None)
    return 0


if __name__ == "__main__":
    sys.exit(main())
