"""Run logs of the U-Net training scripts (``unet.py`` on Gaudi, ``unet_local.py`` on GPUs), all three
generations.

A launch writes ``Command: [...]``, ``Begin CSV``, a header, a row for each phase, ``End CSV``; the oldest
generation writes prose instead. Every rank appends to the same file without a lock, and so does a second
launch with the same name. So rows are not cut out between markers: each is given to the launch that expects
it next. The last launch that ended is ``ok``, earlier ones are ``superseded``, the others ``incomplete``.
"""

from __future__ import annotations

import ast
import re
import shlex
from collections import Counter
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from perf_assets.intake.parsing.arguments import read_arguments
from perf_assets.intake.parsing.cells import integer, number
from perf_assets.intake.parsing.records import Line, Records
from perf_assets.intake.parsing.source import Head, Source

VERSION = 2
SIGNS = (("Begin CSV", "Command: ["), ("type,epoch,time,loss", "type,card,epoch", "loaders_init", " time: "))
_DEFAULT = "the script's default where its command names none"
RULES = {"accuracy_pct": 100.0, "device_count": "as many as ranks"} | dict.fromkeys(
    ("batch_size", "epochs", "input_size", "num_workers", "world_size"), _DEFAULT
)

PHASES = ("loaders_init", "train", "eval", "total_train_time", "total_eval_time")
HEADERS = ("type,epoch,time,loss,dsc", "type,card,epoch,time,loss,dsc")
MAX_COMMAND_CHARACTERS = 64 * 1024

# What the scripts assume when an argument is not given.
_DEFAULTS = {"batch_size": 64, "epochs": 25, "image_size": 32, "world_size": 1, "num_workers": 1}

_PROSE_EPOCH = re.compile(r"epoch (\d{1,9}) (train|eval) time: (\S+)\Z", re.ASCII)
_PROSE_TOTAL = re.compile(r"(total_train_time|total_eval_time) = (\S+) for (\d{1,9}) epochs\Z", re.ASCII)
_PROSE_LOADERS = re.compile(r"Initializing loaders time: (\S+)\Z")
_PROSE_STEP = re.compile(r"([A-Z][a-z]+(?: [a-z]+){1,4}): (\S+)\Z")
# What is left of a launch that died, where its errors were kept in the same file.
_ERROR = re.compile(
    r"(?:[\w.]{1,80}(?:Error|Exception)|RuntimeError|Killed|Aborted|Segmentation fault)\b(?:: .*|"
    r" \(core dumped\))?\Z"
)
_LAUNCH = re.compile(r"Command: \['[^']{0,500}unet\w*\.py'")
_BEST = re.compile(r"Best validation mean DSC: (\S+)\Z")


def sniff(head: Head) -> bool:
    """A ``Begin CSV`` with the scripts' header, a ``Command:`` list beside their prose, or a launch of the
    scripts."""
    lines = [line.strip() for line in head.lines]
    if any(map(_LAUNCH.match, lines)):
        return True
    if "Begin CSV" in lines:
        return any(header in lines for header in HEADERS) or any(_is_row(line) for line in lines)
    commands = any(line.startswith("Command: [") for line in lines)
    return commands and any(
        pattern.match(line) for line in lines for pattern in (_PROSE_EPOCH, _PROSE_TOTAL, _PROSE_LOADERS)
    )


def _is_row(line: str) -> bool:
    cells = line.split(",")
    return len(cells) in (5, 6) and cells[0] in PHASES


@dataclass
class _Row:
    line_number: int
    phase: str
    epoch: int | None
    rank: int | None
    duration_s: float | None
    loss: float | None
    dice: float | None


@dataclass
class _Launch:
    """One start of the script: what it was told, and the rows that are its own."""

    arguments: dict[str, Any] = field(default_factory=dict)
    command: str | None = None
    commands: int = 0
    begins: int = 0
    rows: list[_Row] = field(default_factory=list)
    loader_steps: list[tuple[str, float]] = field(default_factory=list)
    seen: Counter[tuple[str, int | None]] = field(default_factory=Counter)
    last_epoch: int = 0
    best_dice: float | None = None
    end_order: int | None = None
    flags: set[str] = field(default_factory=set)
    errors: list[str] = field(default_factory=list)
    is_ambiguous: bool = False

    @property
    def world_size(self) -> int:
        value = self.arguments.get("world_size", 1)
        return value if isinstance(value, int) and value > 0 else 1

    @property
    def has_totals(self) -> bool:
        return bool(self.seen["total_eval_time", None] or self.seen["total_train_time", None])

    @property
    def is_touched(self) -> bool:
        return bool(self.rows or self.loader_steps)

    def expects(self, phase: str, epoch: int | None) -> bool:
        """Could this row be the next one of this launch, every rank writing each epoch once?"""
        if phase.startswith("total_"):
            # The totals' epoch is the number of epochs.
            return epoch == self.last_epoch and not self.seen[phase, None]
        if self.has_totals:
            return False
        if phase == "loaders_init":
            return not self.last_epoch and self.seen[phase, None] < self.world_size
        if epoch is None or self.seen[phase, epoch] >= self.world_size:
            return False
        return epoch in (self.last_epoch, self.last_epoch + 1)

    def add(self, row: _Row) -> None:
        is_total = row.phase.startswith("total_")
        self.rows.append(row)
        self.seen[row.phase, None if is_total else row.epoch] += 1
        if not is_total and row.epoch is not None:
            self.last_epoch = max(self.last_epoch, row.epoch)


class _Log:
    """The launches of one file, as its lines come."""

    def __init__(self) -> None:
        self.launches: list[_Launch] = []
        self.ended = 0

    @property
    def open(self) -> list[_Launch]:
        """Launches that have not ended, the latest first."""
        return [launch for launch in reversed(self.launches) if launch.end_order is None]

    def on_command(self, arguments: dict[str, Any], command: str | None) -> None:
        """Each rank writes its command: the first of them starts a launch."""
        latest = self.open[0] if self.open else None
        if (
            latest is None
            or latest.is_touched
            or not 0 < latest.commands < latest.world_size
            or latest.arguments != arguments
        ):
            latest = _Launch(arguments, command)
            self.launches.append(latest)
        latest.commands += 1

    def on_begin(self) -> None:
        """Each rank opens its table; without a command before it, this is all we learn of a launch."""
        for launch in reversed(self.open):
            if launch.begins < launch.commands:
                launch.begins += 1
                return
        self.launches.append(_Launch(begins=1))

    def on_row(self, row: _Row) -> bool:
        """Give a row to the launch that expects it. False where there is none to give it to."""
        launches = self.open
        if not launches:
            return False
        expecting = [launch for launch in launches if launch.expects(row.phase, row.epoch)]
        if not expecting:
            launches[0].flags.add("unexpected_order")
        chosen = expecting[0] if expecting else launches[0]
        for other in launches:
            # An older launch that still writes shows that two ran at once; a false start stays silent.
            if other is not chosen and other.is_touched and launches.index(chosen) > launches.index(other):
                other.flags.add("interleaved")
                chosen.flags.add("interleaved")
        if sum(launch.is_touched for launch in expecting) > 1:
            for launch in expecting:
                launch.is_ambiguous = True
        chosen.add(row)
        return True

    def on_end(self) -> bool:
        """One launch ended: the one with its totals, or else the latest that wrote anything."""
        launches = self.open
        if not launches:
            return False
        done = next((launch for launch in launches if launch.has_totals), None)
        chosen = done or next((launch for launch in launches if launch.rows), launches[0])
        chosen.end_order = self.ended
        self.ended += 1
        return True

    def on_best(self, dice: float | None) -> bool:
        """The best score stands inside the table before its end, or after it."""
        launch = next((launch for launch in self.open if launch.has_totals), None)
        if launch is None:
            ended = [launch for launch in self.launches if launch.end_order is not None]
            launch = max(ended, key=lambda each: each.end_order or 0) if ended else None
        if launch is None:
            return False
        launch.best_dice = dice
        return True


def parse(source: Source, out: Records) -> None:
    """Runs, their phases (``cleaned_epochs``) and, of the prose generation, the loaders' steps (counters)."""
    log = _Log()
    for line in out.lines(source):
        _read_line(line, log)
    last_end = max(
        (launch.end_order for launch in log.launches if launch.end_order is not None), default=None
    )
    for launch in log.launches:
        if launch.end_order is None:
            status = _unfinished(launch)
        else:
            status = "ok" if launch.end_order == last_end else "superseded"
        _write(launch, status, source.path, out)


def _unfinished(launch: _Launch) -> str:
    """The status of a launch that did not end: what its errors say."""
    if any("out of memory" in error.lower() for error in launch.errors):
        return "oom"
    return "failed" if launch.errors else "incomplete"


def _read_line(line: Line, log: _Log) -> None:
    text = line.text.strip()
    if not text or text in HEADERS:
        line.ignore()
    elif text == "Begin CSV":
        log.on_begin()
        line.ignore()
    elif text == "End CSV":
        if log.on_end():
            line.ignore()
        else:
            line.reject("end_without_begin", "End CSV, but no run is open")
    elif text.startswith("Command:"):
        _read_command(line, text, log)
    elif text.split(",", 1)[0] in PHASES:
        _read_row(line, text, log)
    elif log.open and _ERROR.match(text):
        log.open[0].errors.append(text[:500])
        line.use()
    elif match := _BEST.match(text):
        _use(line, match, 1, log.on_best, "a best score, but no run that it could be of")
    else:
        _read_prose(line, text, log)


def _use(line: Line, match: re.Match[str], group: int, action: Any, refusal: str) -> None:
    try:
        value = number(match.group(group))
    except ValueError as error:
        line.reject("bad_cell", str(error))
        return
    if action(value):
        line.use()
    else:
        line.reject("outside_run", refusal)


def _read_command(line: Line, text: str, log: _Log) -> None:
    try:
        words = ast.literal_eval(text.removeprefix("Command:").strip()[:MAX_COMMAND_CHARACTERS])
        if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
            raise ValueError("not a list of texts")
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        log.on_command({}, None)
        line.reject("bad_command", "not a list of arguments: cut off, or two writers mixed")
        return
    log.on_command(read_arguments(words), shlex.join(words))
    line.use()


def _read_row(line: Line, text: str, log: _Log) -> None:
    cells = text.split(",")
    if len(cells) == 6:
        phase, rank, epoch, duration, loss, dice = cells
    elif len(cells) == 5:
        (phase, epoch, duration, loss, dice), rank = cells, ""
    else:
        line.reject("wrong_columns", f"{len(cells)} cells, not 5 or 6: cut off, or two writers mixed")
        return
    try:
        row = _Row(
            line.number, phase, integer(epoch), integer(rank), number(duration), number(loss), number(dice)
        )
        if row.duration_s is None or (row.epoch is None) != (phase == "loaders_init"):
            raise ValueError(f"{phase} with the epoch {epoch!r} and the time {duration!r}")
    except ValueError as error:
        line.reject("bad_cell", str(error))
        return
    _give(line, row, log)


def _give(line: Line, row: _Row, log: _Log) -> None:
    if log.on_row(row):
        line.use()
    else:
        line.reject("outside_run", "a row, but no run is open")


def _read_prose(line: Line, text: str, log: _Log) -> None:
    try:
        if match := _PROSE_EPOCH.match(text):
            epoch, phase, duration = match.groups()
            row = _Row(line.number, phase, int(epoch), None, number(duration), None, None)
        elif match := _PROSE_TOTAL.match(text):
            phase, duration, epochs = match.groups()
            row = _Row(line.number, phase, int(epochs), None, number(duration), None, None)
        elif match := _PROSE_LOADERS.match(text):
            row = _Row(line.number, "loaders_init", None, None, number(match.group(1)), None, None)
        elif (match := _PROSE_STEP.match(text)) and log.open:
            value = number(match.group(2))
            if value is None:
                raise ValueError(f"{text!r} has no value")
            log.open[0].loader_steps.append((match.group(1), value))
            line.use()
            return
        else:
            return
    except ValueError as error:
        line.reject("bad_cell", str(error))
        return
    _give(line, row, log)
    if row.phase == "total_eval_time" and line.fate == "record":
        log.on_end()  # prose has no other end


def _write(launch: _Launch, status: str, path: PurePosixPath, out: Records) -> None:
    arguments = launch.arguments
    script = str(arguments.get("script", ""))
    assumed = {}
    if PurePosixPath(script).name.startswith("unet"):
        assumed = {name: value for name, value in _DEFAULTS.items() if name not in arguments}
        if "num_workers" in assumed and arguments.get("distributed"):
            assumed["num_workers"] = launch.world_size
    known = {
        name: value
        for name, value in (assumed | arguments).items()
        if name in _DEFAULTS and isinstance(value, int) and not isinstance(value, bool)
    }
    totals = {row.phase: row.duration_s for row in launch.rows if row.phase.startswith("total_")}
    scores = [row.dice for row in launch.rows if row.phase == "eval" and row.dice is not None]
    best = launch.best_dice if launch.best_dice is not None else max(scores, default=None)
    train_rows = sum(row.phase == "train" for row in launch.rows)
    flags = launch.flags
    if launch.is_ambiguous and "interleaved" in flags:
        flags.add("interleaved_ambiguous")
    if launch.end_order is not None and train_rows != launch.world_size * launch.last_epoch:
        flags.add("ranks_missing")
    if len(totals) == 2 and len(set(totals.values())) == 1:
        flags.add("eval_total_repeats_train_total")
    name = arguments.get("run_name")
    run_id = out.run(
        tool="unet",
        workload="training",
        name=str(name) if name is not None else path.stem,
        status=status,
        model="unet",
        dataset=str(arguments["cache_path"]) if "cache_path" in arguments else None,
        device_raw="hpu" if arguments.get("hpu") else "gpu" if script else None,
        device_count=launch.world_size if script else None,
        world_size=known.get("world_size"),
        batch_size=known.get("batch_size"),
        input_size=known.get("image_size"),
        num_workers=known.get("num_workers"),
        epochs=known.get("epochs"),
        stage="training",
        accuracy_pct=None if best is None else 100 * best,
        duration_s=totals.get("total_train_time"),
        quality=flags,
        command=launch.command,
        config=arguments
        | {
            "assumed_defaults": sorted(assumed) or None,
            "best_dice": launch.best_dice,
            "errors": launch.errors or None,
        },
    )
    for row in launch.rows:
        out.add("cleaned_epochs", run_id=run_id, **vars(row))
    for step, value in launch.loader_steps:
        out.add(
            "cleaned_counters",
            run_id=run_id,
            source="unet",
            scope="loaders",
            counter=step.lower().replace(" ", "_"),
            value=value,
            unit="s" if step.endswith("time") else None,
        )
