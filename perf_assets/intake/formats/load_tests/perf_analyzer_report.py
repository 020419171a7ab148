"""perf_analyzer's text report: what it prints on stdout while it sweeps the load.

A block a level (client, server, composing models, GPUs), then a summary with one line a level. Reports reach
us with bullets of Markdown pages, wrapped lines, summaries before their blocks, and several runs in one file. A command
that was kept names the model and the batch size of what follows.
"""

from __future__ import annotations

import re
from typing import Any

from perf_assets.intake.parsing.load_levels import (
    CONCURRENCY,
    REQUEST_RATE,
    SUMMARY_RULES,
    LoadTest,
    config_of,
    path_facts,
    percentile_values,
)
from perf_assets.intake.parsing.perf_analyzer_text import Block, BlockReader, measurement
from perf_assets.intake.parsing.records import Line, Records
from perf_assets.intake.parsing.source import Head, Source

VERSION = 4
SIGNS = (
    (
        "Request concurrency:",
        "Request Rate:",
        "Inferences/Second vs. Client",
        "*** Measurement Settings ***",
    ),
    (
        "infer/sec",
        "Failed to obtain stable measurement",
        "rror: ",
    ),
)
RULES = SUMMARY_RULES | {
    "utilization": 0.01,
    "composing_queue_us": "queue times of the composing models, added up",
}

LONGEST_LINE = 4000

_BLOCK = re.compile(
    r"Request concurrency: (?P<concurrency>\d+)\Z|Request Rate: (?P<rate>[\d.e+]+) inference"
    r" requests? per seconds?\Z",
    re.ASCII,
)
_SUMMARY = re.compile(
    r"(?P<mode>Concurrency|Request Rate): (?P<level>[\d.e+]+), (?:throughput: )?"
    r"(?P<throughput>[\d.e+]+) infer/sec, "
    r"latency (?P<latency>[\d.]+) usec\Z",
    re.ASCII,
)
_COMMAND = re.compile(r".{0,200}?\b(?P<command>perf_(?:analyzer|client) .{0,4000}?-.+)\Z", re.ASCII)
_MODEL = re.compile(r"\s(?:-m|--model-name)[ =]\s*([\w./-]{1,200})", re.ASCII)
_BATCH = re.compile(r"\s(?:-b|--batch-size)[ =]\s*(\d{1,9})(?!\S)", re.ASCII)
_SUMMARY_HEAD = re.compile(r"Inferences/Second vs\. Client (?P<what>.+?) Batch Latency\Z")
_UNSTABLE = re.compile(
    r"Failed to obtain stable measurement within \d+ measurement windows for (?P<mode>concurrency"
    r"|request rate) "
    r"(?P<level>[\d.e+]+)\.",
    re.IGNORECASE | re.ASCII,
)
_FAILED_HERE = re.compile(r"Failed to obtain stable measurement\.")
_ERROR = re.compile(
    r"(?:(?:Thread \[\d+\] had |Perf Analyzer )?[Ee]rror: |Failed to (?:maintain requested inference load"
    r"|retrieve results from inference request)).+",
    re.ASCII,
)
_PASS = re.compile(r"Pass \[\d+\] throughput: .+")
_SETTINGS = re.compile(r"\*{3} Measurement Settings \*{3}\Z|Successfully read data for .+\Z")
_SETTING = re.compile(
    r"(?P<name>Batch size|Service Kind|Measurement window|Latency limit|Concurrency limit|Request Rate limit"
    r"|Measurement request count|Sequence batch size|Stabilizing using|Using|Detected|Minimum number"
    r" of samples"
    r"|Sending)(?::| )(?P<value>.+)\Z"
)
_BULLET = re.compile(r"\A\* +")

_START = re.compile(
    r"^[ \t*]*(?:Request concurrency: \d+|Request Rate: [\d.]+ inference requests? per seconds?"
    r"|Inferences/Second vs\. Client .+ Batch Latency|\*{3} Measurement Settings \*{3})[ \t]*\r?$"
    r"|^Failed to obtain stable measurement within \d+ measurement windows for",
    re.MULTILINE,
)
_OUTCOME = re.compile(r"infer/sec|Failed to obtain stable measurement|[Ee]rror: ")


def sniff(head: Head) -> bool:
    """Does a block, a summary or the settings begin in it, and is there a measurement or a failure?"""
    return bool(_START.search(head.text)) and bool(_OUTCOME.search(head.text))


def parse(source: Source, out: Records) -> None:
    """Read the source, fill the records."""
    report = _Report()
    wrapped = ""
    for line in out.lines(source, longest=LONGEST_LINE):
        text = _without_bullets(line.text)
        if wrapped:
            text, wrapped = f"{wrapped} {text}", ""
        if text.endswith(("+", "\\")) and len(text) < LONGEST_LINE:
            # A wrapped sum or command goes on on the next line; this one is part of it.
            line.use()
            wrapped = text.rstrip("\\ ")
        elif not text:
            line.ignore()
        else:
            report.read(line, text)
    report.finish()
    for run in report.runs:
        run.emit(source, out)


def _without_bullets(text: str) -> str:
    """The text without Markdown bullets (wrapping may leave one in the middle of a sum) and outer white
    space."""
    return _BULLET.sub("", text.strip()).replace(" * usec", " usec") if "*" in text else text.strip()


class _Run:
    """The blocks of one sweep."""

    def __init__(self) -> None:
        self.blocks: dict[tuple[str, float], Block] = {}
        self.config: dict[str, Any] = {}
        self.command: str | None = None
        self.batch_size: int | None = None
        self.has_summary = False
        self.errors: list[str] = []

    def emit(self, source: Source, out: Records) -> None:
        """Write the run, and one more for each composing model."""
        if not self.blocks and not self.errors:
            return
        facts = path_facts(source.path)
        model, batch = (pattern.search(self.command or "") for pattern in (_MODEL, _BATCH))
        if self.batch_size is None and batch:
            self.batch_size = int(batch[1])
        if self.batch_size is not None:
            facts["batch_size"] = self.batch_size
        if model:
            facts.pop("model", None)
        columns = ("model", "batch_size", "device_raw")
        config = (
            config_of({name: facts[name] for name in facts if name != "batch_size"}, columns) | self.config
        )
        if self.batch_size is None and "batch_size" in facts:
            config["from_path"] = sorted([*config.get("from_path", []), "batch_size"])
        test = LoadTest()
        parts: dict[tuple[str, str], LoadTest] = {}
        for block in self.blocks.values():
            self._add_level(test, block)
            for key, part in block.composing.items():
                parts.setdefault(key, LoadTest(is_part=True))
                self._add_level(parts[key], part)
        if not test.gpus:
            test.flags.add("gpu_columns_missing")
        shared = {name: facts.get(name) for name in columns} | {"command": self.command}
        if model:
            shared["model"] = model[1]
        if self.errors:
            config["errors"] = self.errors[:20]
        run_id = test.emit(out, config, tool="perf_analyzer", name=source.path.stem, **shared)
        for (model, version), part in parts.items():
            part.emit(
                out,
                {"ensemble_part": True, "model_version": version or None},
                tool="perf_analyzer",
                name=f"{model} of {source.path.stem}",
                parent_run_id=run_id,
                **shared | {"model": model},
            )

    @staticmethod
    def _add_level(test: LoadTest, block: Block) -> None:
        values = dict(block.values)
        # An ensemble's queue term is the sum over its steps; an inner ensemble's term repeats that of its own
        # steps.
        queues_us = [
            part.values["queue_us"]
            for part in block.composing.values()
            if part.values.get("queue_us") is not None and "compute_us" not in part.values
        ]
        if queues_us:
            values["composing_queue_us"] = sum(queues_us)
        test.add_level(block.mode, block.level, **values, **percentile_values(block.percentiles_us))
        for gpu_uuid, readings in block.gpus.items():
            test.add_gpu(block.level, gpu_uuid, **readings)
        for name, value, unit in block.counts:
            test.count(f"{block.mode} {block.level:g}", name, value, unit)


class _Report:
    """Where the reading stands: the run, the block, and the section of it."""

    def __init__(self) -> None:
        self.runs = [_Run()]
        self.reader: BlockReader | None = None
        self.summary_what = ""

    def read(self, line: Line, text: str) -> None:
        """Read one logical line; ``line`` is the last physical one of it."""
        for step in (self._starts, self._block_line, self._setting):
            try:
                if step(line, text):
                    return
            except ValueError as error:
                line.reject("bad_number", str(error))
                return

    def finish(self) -> None:
        """Put the last block into its run."""
        self._place_block()

    # What begins or ends something ---------------------------------------------------------------------

    def _starts(self, line: Line, text: str) -> bool:
        if match := _BLOCK.match(text):
            self._place_block()
            mode = CONCURRENCY if match["concurrency"] else REQUEST_RATE
            self.reader = BlockReader(Block(mode, measurement(match["concurrency"] or match["rate"])))
            line.use()
        elif match := _SUMMARY.match(text):
            self._place_block()
            self._summary_line(match)
            line.use()
        elif match := _SUMMARY_HEAD.match(text):
            self._place_block()
            self.summary_what = match["what"]
            line.ignore()
        elif match := _UNSTABLE.search(text):
            self._unstable(
                CONCURRENCY if match["mode"].lower() == CONCURRENCY else REQUEST_RATE,
                measurement(match["level"]),
            )
            line.use()
        elif _FAILED_HERE.match(text) and self.reader is not None:
            self.reader.block.values["stable"] = False
            line.use()
        elif match := _ERROR.match(text):
            self.runs[-1].errors.append(text[:500])
            line.use()
        elif _SETTINGS.match(text):
            self._next_run()
            line.ignore()
        elif match := _COMMAND.match(text):
            self._next_run()
            self.runs[-1].command = match["command"]
            line.use()
        else:
            return False
        return True

    def _next_run(self) -> None:
        self._place_block()
        if self.runs[-1].blocks or self.runs[-1].errors:
            self.runs.append(_Run())

    def _place_block(self) -> None:
        """Add the block that was read to its run: a level that is there already begins the next run."""
        if self.reader is None:
            return
        block, self.reader = self.reader.block, None
        run = self.runs[-1]
        known = run.blocks.get((block.mode, block.level))
        if known is not None and known.is_summary and known.agrees_with(block):
            block.percentiles_us = known.percentiles_us | block.percentiles_us
            block.values = known.values | block.values
        elif known is not None or (run.has_summary and run.blocks):
            run = _Run()
            self.runs.append(run)
        run.blocks[block.mode, block.level] = block

    def _summary_line(self, match: re.Match[str]) -> None:
        """A summary repeats what the blocks say; where there is no such block it is all that we know."""
        mode = CONCURRENCY if match["mode"] == "Concurrency" else REQUEST_RATE
        summary = Block(mode, measurement(match["level"]))
        summary.is_summary = True
        summary.values["throughput_per_s"] = measurement(match["throughput"])
        latency_us = measurement(match["latency"])
        if self.summary_what.startswith("p"):
            summary.percentiles_us[self.summary_what] = latency_us
        else:
            summary.values["avg_us"] = latency_us
        run = self.runs[-1]
        known = run.blocks.get((summary.mode, summary.level))
        if known is not None and not known.agrees_with(summary):
            run, known = _Run(), None
            self.runs.append(run)
        if known is None:
            run.blocks[summary.mode, summary.level] = summary
        run.has_summary = True

    def _unstable(self, mode: str, level: float) -> None:
        """Mark the level that ended the sweep, which may have no block of its own."""
        block = self.reader.block if self.reader else None
        if block is None or (block.mode, block.level) != (mode, level):
            self._place_block()
            stub = Block(mode, level)
            stub.is_summary = True
            block = self.runs[-1].blocks.setdefault((mode, level), stub)
        block.values["stable"] = False

    # Lines inside a block ------------------------------------------------------------------------------

    def _block_line(self, line: Line, text: str) -> bool:
        if self.reader is None:
            return False
        if _PASS.match(text):
            line.ignore()
            return True
        fate = self.reader.read(text)
        if fate == "record":
            line.use()
        elif fate == "ignored":
            line.ignore()
        return fate is not None

    # Settings before a run -----------------------------------------------------------------------------

    def _setting(self, line: Line, text: str) -> bool:
        match = _SETTING.match(text)
        if match is None or self.reader is not None:
            return False
        run = self.runs[-1]
        name, value = match["name"].lower().replace(" ", "_"), match["value"].strip()
        if name == "batch_size":
            batch_size = measurement(value)
            run.batch_size = int(batch_size) if batch_size < 2**31 else None
        elif name in ("using", "detected", "sending"):
            run.config.setdefault("settings", []).append(text)
        else:
            run.config[name] = value
        line.use()
        return True
