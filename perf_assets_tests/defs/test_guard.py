"""Pages of other sites cannot reach the UI: what the guard refuses, and the running UI itself."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import quote

import pytest

from perf_assets.defs.guard import refusal
from perf_assets_tests.support import ROOT

MUTATION = "mutation { launchRun(executionParams: {}) { __typename } }"


def asked(method: str = "GET", path: str = "/", query: str = "", **headers: str) -> str | None:
    named = {"host": "localhost:3000"} | {name.replace("_", "-"): value for name, value in headers.items()}
    pairs = [(name.encode(), value.encode()) for name, value in named.items()]
    return refusal(
        {"type": "http", "method": method, "path": path, "query_string": query.encode(), "headers": pairs}
    )


def test_own_pages_pass():
    assert asked() is None
    assert asked("POST", "/graphql", origin="http://localhost:3000", sec_fetch_site="same-origin") is None
    assert asked("POST", "/graphql") is None, "a script without a browser"
    assert asked(host="127.0.0.1:8080") is None
    assert asked(host="[::1]:3000") is None
    assert asked(sec_fetch_site="cross-site", sec_fetch_mode="navigate") is None, "a link in a mail"


@pytest.mark.parametrize(
    "request_",
    [
        {"host": "evil.example"},
        {"host": "localhost.evil.example:3000"},
        {"host": "192.168.1.5:3000"},
        {"method": "POST", "path": "/graphql", "origin": "http://evil.example"},
        {"method": "POST", "path": "/graphql", "origin": "null"},
        {"method": "POST", "path": "/graphql", "origin": "http://localhost:9999"},
        {"method": "POST", "path": "/graphql", "sec_fetch_site": "cross-site"},
        {"path": "/graphql", "query": f"query={quote(MUTATION)}"},
        {
            "path": "/graphql",
            "query": "query=x",
            "sec_fetch_site": "cross-site",
            "sec_fetch_mode": "navigate",
        },
        {"method": "HEAD", "path": "/graphql/", "query": f"query={quote(MUTATION)}"},
    ],
)
def test_others_are_refused(request_):
    assert asked(**request_)


@pytest.fixture(scope="module")
def ui(tmp_path_factory):
    """The UI of a project folder, as ``make ui`` starts it; its address."""
    folder = tmp_path_factory.mktemp("ui")
    for name in ("dagster.yaml", "workspace.yaml"):
        shutil.copy(ROOT / name, folder / name)
    (folder / "data" / "drops").mkdir(parents=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {name: value for name, value in os.environ.items() if name != "DAGSTER_HOME"}
    with (folder / "ui.log").open("w") as log:
        process = subprocess.Popen(
            [
                "env",
                "--default-signal=INT",
                Path(sys.executable).parent / "perf-assets",
                "ui",
                "--port",
                str(port),
            ],
            cwd=folder,
            env=environment | {"PYTHONPATH": str(ROOT)},
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    address = f"http://127.0.0.1:{port}"
    try:
        deadline_s = time.monotonic() + 120
        while True:
            try:
                urllib.request.urlopen(f"{address}/server_info", timeout=5).read()
                break
            except OSError:
                assert time.monotonic() < deadline_s, (folder / "ui.log").read_text()
                time.sleep(0.3)
        yield address
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout=60)
        finally:
            if process.poll() is None:
                process.kill()


def post(address: str, query: str, **headers: str):
    request = urllib.request.Request(
        f"{address}/graphql",
        json.dumps({"query": query}).encode(),
        {"content-type": "application/json"} | headers,
    )
    return urllib.request.urlopen(request, timeout=30)


def test_the_running_ui_answers_its_own_pages_and_refuses_others(ui):
    assert json.load(post(ui, "{ version }", origin=ui))["data"]["version"]
    for attempt in (
        lambda: post(ui, "{ version }", origin="http://evil.example"),
        lambda: post(ui, "{ version }", host="evil.example"),
        lambda: urllib.request.urlopen(f"{ui}/graphql?query={quote(MUTATION)}", timeout=30),
    ):
        with pytest.raises(urllib.error.HTTPError) as caught:
            attempt()
        assert caught.value.code == 403
