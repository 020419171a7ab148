"""A connection by ssh to the far side on a board: one question at a time, or a job's output as it comes."""

from __future__ import annotations

import contextlib
import json
import shlex
import shutil
import subprocess
import tarfile
import tempfile
import threading
from collections.abc import Collection
from pathlib import Path
from typing import IO, Any

from perf_assets.measuring.engines.board import MARK, version
from perf_assets.measuring.engines.engine import EngineError, EngineUnreachableError
from perf_assets.measuring.engines.site import Board, Site

QUESTION_TIMEOUT_S = 60.0
_LOST_CONNECTION = 255
"""Exit code of ssh itself; all others are of what ran there."""
_PIECE_BYTES = 1 << 16

# Nobody is ever asked anything, nothing is forwarded, and a board that falls silent is noticed in 15 s.
_OPTIONS = (
    *("BatchMode=yes", "ConnectTimeout=10", "ServerAliveInterval=5", "ServerAliveCountMax=3"),
    *("ClearAllForwardings=yes", "ForwardAgent=no", "ForwardX11=no", "ControlMaster=no", "RequestTTY=no"),
)

_INSTALL = (
    "install perf_assets {version} for that python (requirements/node.txt), or correct its python and setup"
)
_CURES = (
    (
        "permission denied",
        "put this user's public key into authorized_keys there; no password is ever asked for",
    ),
    ("host key verification failed", "connect once by hand with 'ssh {host}' and look at its key"),
    ("could not resolve", "correct its host"),
    ("command-line", "correct its ssh_options"),
    ("connect to host", "is it up, and its host right?"),
    ("no module named", _INSTALL),
    ("not found", "correct its python and setup"),
    ("no such file", "correct its python and setup"),
)
"""What helps, by what ssh or the board's shell says."""


class Link:
    """The way to one board of a site file."""

    def __init__(self, site: Site, device: str) -> None:
        self.board = site.board_of(device)
        self._place = f"{site.source}: [devices.{device}] on {self.board.host}"

    def ask(
        self,
        request: dict[str, Any],
        *,
        sent: Collection[Path] | None = None,
        into: IO[bytes] | None = None,
        timeout_s: float | None = QUESTION_TIMEOUT_S,
    ) -> Any:
        """Answer of the board to one request.

        Args:
            request: for :mod:`perf_assets.measuring.engines.board`.
            sent: files and folders that go with the request, by their own names.
            into: a file for what comes behind the answer; it is left at that place.
            timeout_s: of the whole call, in seconds; silence of the board is noticed in any case.

        Raises:
            EngineUnreachableError: the connection failed or broke.
            EngineError: what answers there is not what is needed, or says what is wrong.
        """
        with contextlib.ExitStack() as files:
            question = files.enter_context(tempfile.TemporaryFile())
            question.write(self.line(request))
            if sent is not None:
                with tarfile.open(fileobj=question, mode="w|") as archive:
                    for path in sent:
                        archive.add(path, path.name)
            question.seek(0)
            answered = into or files.enter_context(tempfile.TemporaryFile())
            try:
                done = subprocess.run(
                    self.command(),
                    stdin=question,
                    stdout=answered,
                    stderr=subprocess.PIPE,
                    timeout=timeout_s,
                    check=False,
                    start_new_session=True,  # an interrupt from the keyboard is for the caller alone
                )
            except subprocess.TimeoutExpired:
                raise EngineUnreachableError(f"{self._place}: no answer in {timeout_s:g} s") from None
            answered.seek(0)
            found = _read_mark(answered)
            if done.returncode != 0 or found is None:
                raise self.problem(done.returncode, done.stderr, found)
            if found != version():
                raise EngineError(
                    f"{self._place}: perf_assets is {found} there and {version()} here: install the same"
                    f" version for {self.board.python} there"
                )
            answer = json.loads(answered.readline() or b"null")
        if isinstance(answer, dict) and "error" in answer:
            raise EngineError(f"{self._place}: {answer['error']}: correct its folder, or make room there")
        return answer

    def line(self, request: dict[str, Any]) -> bytes:
        """A request as it is sent, with the board's folder in it."""
        return json.dumps({"folder": self.board.folder, **request}).encode() + b"\n"

    def command(self) -> list[str]:
        """ssh's command line that runs the far side; host and options were checked with the site file.

        Raises:
            EngineError: there is no ssh here.
        """
        if shutil.which("ssh") is None:
            raise EngineError("ssh is not installed on this machine: the package openssh-client has it")
        board = self.board
        # The request is on the standard input, and the answer alone is to be on the output.
        setup = ["{", *board.setup, "} </dev/null >&2"] if board.setup else []
        script = "\n".join([*setup, f"exec {_python(board)} -P -m perf_assets.measuring.engines.board"])
        options = [f"-o{option}" for option in (*_OPTIONS, *board.ssh_options)]
        return ["ssh", *options, "--", board.host, f"exec /bin/sh -c {shlex.quote(script)}"]

    def problem(self, code: int, said: bytes, found: str | None) -> EngineError:
        """What ssh, or the shell there, could not do, in one line with the cure.

        Args:
            code: exit code of ssh.
            said: what came on its error output.
            found: the version that had answered before; None where nothing had.
        """
        lines = [line.strip() for line in said.decode("utf-8", "replace").splitlines() if line.strip()]
        words = " ".join(lines).lower()
        helps = next((cure for sign, cure in _CURES if sign in words), "see what it says, and its setup")
        helps = helps.format(host=self.board.host, version=version())
        text = f"{self._place}: {lines[-1] if lines else f'exit code {code}'}: {helps}"
        if code == _LOST_CONNECTION:
            return EngineUnreachableError(text, had_answered=found is not None)
        return EngineError(text)


class Follower:
    """A connection that passes a job's output on into a file, until the job is over or the connection breaks."""

    def __init__(self, link: Link, request: dict[str, Any], output: Path) -> None:
        self.problem: EngineError | None = None
        """Of a connection that broke, or was never made."""
        self._link = link
        self._output = output
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - it lives as long as the connection
        self._process = subprocess.Popen(
            link.command(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            start_new_session=True,
        )
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # ssh says why itself
            self._process.stdin.write(link.line(request))
            self._process.stdin.flush()
        self._has_begun = threading.Event()
        self._thread = threading.Thread(target=self._pass_on, daemon=True)
        self._thread.start()

    def is_running(self) -> bool:
        """Does it still follow? Waits until the board has answered, or the connection has failed."""
        self._has_begun.wait(QUESTION_TIMEOUT_S)
        return self._thread.is_alive()

    def stop(self) -> None:
        """End the connection; the job does not mind."""
        self._process.terminate()
        self._thread.join(QUESTION_TIMEOUT_S)

    def _pass_on(self) -> None:
        pipe = self._process.stdout
        assert pipe is not None
        found = _read_mark(pipe)
        if found is not None:
            self._has_begun.set()
        with self._output.open("ab", buffering=0) as output:
            while piece := pipe.read1(_PIECE_BYTES) if found is not None else b"":
                output.write(piece)
        code = self._process.wait()
        if code != 0 or found is None:
            self._errors.seek(0)
            self.problem = self._link.problem(code, self._errors.read(), found)
        self._errors.close()
        pipe.close()
        if self._process.stdin:
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.close()
        self._has_begun.set()


def _python(board: Board) -> str:
    """The board's interpreter as a word of its shell."""
    if board.python.startswith("~/"):
        return f'"$HOME"/{shlex.quote(board.python[2:])}'
    return shlex.quote(board.python)


def _read_mark(answer: IO[bytes]) -> str | None:
    """Read on behind the line with the version, and return the version; None where there is no such line."""
    while line := answer.readline():
        mark, _, found = line.decode("utf-8", "replace").strip().partition(" ")
        if mark == MARK:
            return found
    return None
