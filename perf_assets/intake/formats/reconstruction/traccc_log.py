"""traccc logs: timing tables of the sequential examples and of the throughput tests, all generations.

* 2022: seconds as floats, ``name  value``, header misspelt or left out;
* until 2024: ``          Seeding (cuda)  16 ms`` under ``==>Elapsed times...``; ``Time totals:`` and
  ``Throughput:``;
* 2024: options as ``Name : value`` under ``>>> ... Options <<<``;
* since 2025: the same behind a logger's prefix, the first row of each table glued to its header.

``cleaned_stages`` holds one row a stage and device; counts ("created (cuda) 6151 seeds") go to
``cleaned_counters``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from perf_assets.intake.parsing.cells import grouped_number, number
from perf_assets.intake.parsing.load_levels import config_of, path_facts
from perf_assets.intake.parsing.records import Line, Records
from perf_assets.intake.parsing.source import Head, Source

VERSION = 3
SIGNS = (("==> El", "==>El", "Time totals:", "Throughput:", "_time", "Example ", "bus: "),)
RULES = {"total_ms": 1000.0, "duration_s": 0.001}

LONGEST_LINE = 4000

_N = r"([\d.]+(?:e[+-]?\d+)?)"
_GROUPED = r"([\d,]+(?:\.\d+)?)"
_DEVICE = r"(?:\s*\((?P<device>cpu|cuda|sycl|alpaka|kokkos|futhark|hip)\))?"

_PREFIX = re.compile(
    r"(?P<time>\d{1,2}:\d{2}:\d{2}(?: [AP]M)?)\s+(?P<logger>[\w.:\-]+)\s+"
    r"(?P<level>VERBOSE|DEBUG|INFO|WARNING|ERROR|FATAL)(?:\s+(?P<message>.*))?\Z",
    re.ASCII,
)
_ELAPSED = re.compile(r"==> ?El(?:apsed|pased) time ?s?\s*(?:\.\.\.)?\s*(?P<rest>.*)\Z")
_TOTALS = re.compile(r"Time totals:\s*(?P<rest>.*)\Z")
_THROUGHPUT = re.compile(r"Throughput:\s*(?P<rest>.*)\Z")
_STATISTICS = re.compile(r"==> ?Statistics ?(?:\.\.\.)?\s*\Z")

_MS_ROW = re.compile(rf"(?P<stage>[A-Za-z][\w ,/&+\-]*?){_DEVICE}\s\s*{_N}\s*ms\Z", re.ASCII)
_RATE_ROW = re.compile(
    rf"(?P<stage>[A-Za-z][\w ,/&+\-]*?){_DEVICE}\s\s*{_N}\s*ms/event,\s*{_N}\s*events/s\Z", re.ASCII
)
# Names of the 2022 tables; anything else with a bare number behind it could be any log's line.
_SECONDS_ROW = re.compile(
    rf"(?P<stage>wall time|(?:file|hit) reading|\w+_time|clusterization and sp formation){_DEVICE}\s+{_N}\Z",
    re.ASCII,
)
_SECONDS_NAMES = re.compile(
    r"^[ \t]*(?:clusterization|spacepoint_formation|seeding|tr_par_esti)_time(?: \(\w+\))?[ \t]+[\d.]+",
    re.MULTILINE,
)

# What was made of what: created, found, resolved, fitted, ...
_MADE = re.compile(
    rf"- (?P<verb>[a-z]+)\s+(?:\((?P<device>\w+)\)\s+)?{_GROUPED}\s+(?P<what>[A-Za-z][\w ]*)\Z", re.ASCII
)
_READ = re.compile(
    rf"- read\s+{_GROUPED}\s+(?P<what>[A-Za-z][\w ]*?)(?:\s+from\s+{_GROUPED}\s+(?P<where>[A-Za-z][\w"
    rf" ]*))?\Z",
    re.ASCII,
)
_TOTAL = re.compile(rf"(?P<what>Reconstructed track parameters|[\w ()]+ [Rr]ate):\s+{_GROUPED}\Z", re.ASCII)
_ASSIGNED = re.compile(rf"(?P<what>\w+) = {_GROUPED}\Z", re.ASCII)
_DUPLICATES = re.compile(rf"(?:WARNING:?\s+)?{_GROUPED} duplicate cells found in (?P<file>.+)\Z")
_USING = re.compile(r"Using (?P<api>\w+) device: (?P<device>.+?)(?: \[.*\])?\Z")
_ON_DEVICE = re.compile(r"Running (?:.{1,100} )?on device: (?P<device>.+?)(?: \[.*\])?\Z")
_RUNNING = re.compile(r"Running (?P<command>.+)\Z")
_OPTION = re.compile(r"[├└|`+\-]*[├└]\s*(?P<name>[^:]{1,80}):\s+(?P<value>.{1,300})\Z")
_OPTIONS_HEAD = re.compile(r"(?P<section>[\w \-]+) Options:\Z|>>> (?P<framed>[\w \-]+) Options <<<\Z")
_PLAIN_OPTION = re.compile(r"(?P<name>[A-Za-z].{0,79}?)\s*:(?:\s+(?P<value>.{1,300}))?\Z")
_ERROR = re.compile(
    r"terminate called .+|what\(\): .+|.*\bCUDA error\b.*|.*[Oo]ut of memory.*|Segmentation fault.*"
    r"|Aborted.*|Killed\Z"
)
_HEADING = re.compile(r"#{1,6} (?P<title>.+)\Z")
_MARKER = re.compile(
    r"===>>>.*<<<===\Z|```.*\Z|\.\.\.\Z|.*\[[=> .#\-]*\]\s*\d{1,3}%.*\Z|(?:Warm-up|Event) processing\s*\Z",
    re.ASCII,
)

_MISSPELT = {"meaurements": "measurements"}

# A run goes through these in order; what belongs to an earlier phase begins the next run.
PREAMBLE, STATISTICS, TIMING, RATES = range(4)

_LOGGED = r"^[ \t]*(?:\d{1,2}:\d{2}:\d{2}(?: [AP]M)?[ \t]+\S+[ \t]+(?:INFO|WARNING)[ \t]+)?"
_SNIFF_HEADER = re.compile(r"==> ?El(?:apsed|pased) times? ?\.\.\.")
_SNIFF_TABLE = re.compile(_LOGGED + r"(?:Time totals:|Throughput:)\s", re.MULTILINE)
_SNIFF_ROW = re.compile(r"(?:  \d+|/event, \S+ events/s| ms)[ \t]*\r?$", re.MULTILINE)
# Only traccc tells the place of its device so; a run that died may have left no more than that.
_SNIFF_DEVICE = re.compile(_LOGGED + r"Using \w+ device: .+ \[id: \d+, bus: \d+, device: \d+\]", re.MULTILINE)
_SNIFF_STAGE = re.compile(r"(?:Event|Warm-up) processing|ms/event")
_SNIFF_LOGGER = re.compile(
    r"^\d{1,2}:\d{2}:\d{2}(?: [AP]M)?\s+(?:Throughput|Seq|Seeding|CudaSeq|SyclSeq|AlpakaSeq"
    r"|Truth)\w*Example\w*\s+"
    r"(?:INFO|WARNING)\b",
    re.MULTILINE,
)


def sniff(head: Head) -> bool:
    """Does it hold a timing table, a logger of the examples, their device, or names of the 2022 tables?"""
    text = head.text
    return bool(
        _SNIFF_HEADER.search(text)
        or _SECONDS_NAMES.search(text)
        or _SNIFF_LOGGER.search(text)
        or _SNIFF_DEVICE.search(text)
        or (_SNIFF_TABLE.search(text) and _SNIFF_ROW.search(text) and _SNIFF_STAGE.search(text))
    )


def parse(source: Source, out: Records) -> None:
    """Read the source, fill the records."""
    log = _Log()
    for line in out.lines(source, longest=LONGEST_LINE):
        text = line.text.strip()
        if prefix := _PREFIX.match(text):
            log.run.see(prefix["time"], prefix["logger"])
            text = (prefix["message"] or "").strip()
        if not text or _MARKER.match(text):
            line.ignore()
            continue
        try:
            log.read(line, text)
        except ValueError as error:
            line.reject("bad_number", str(error))
    for run in log.runs:
        run.emit(source, out)


@dataclass
class _Stage:
    total_ms: float | None = None
    per_event_ms: float | None = None
    events_per_s: float | None = None


@dataclass
class _Run:
    """What was read of one run."""

    phase: int = PREAMBLE
    stages: dict[tuple[str, str | None], _Stage] = field(default_factory=dict)
    counters: list[dict[str, Any]] = field(default_factory=list)
    options: dict[str, str] = field(default_factory=dict)
    section: str | None = None
    devices: list[str] = field(default_factory=list)
    apis: set[str] = field(default_factory=set)
    tables: set[str] = field(default_factory=set)
    errors: list[str] = field(default_factory=list)
    title: str | None = None
    command: str | None = None
    logger: str | None = None
    first_time: str | None = None
    last_time: str | None = None
    is_seen: bool = False

    def see(self, time: str, logger: str) -> None:
        """Note the prefix of a line. It has no date, so it goes to config as it is."""
        self.is_seen = True
        self.first_time = self.first_time or time
        self.last_time = time
        if not logger.endswith("Options"):
            self.logger = self.logger or logger

    def option(self, name: str, value: str) -> None:
        """Note an option; one of another section that has the same name goes by both."""
        if self.options.get(name, value) != value:
            name = f"{self.section}: {name}"
        self.options[name] = value

    def emit(self, source: Source, out: Records) -> None:
        """Write the run and its rows."""
        if not (self.stages or self.counters or self.tables or self.is_seen or self.options or self.errors):
            return
        facts = path_facts(source.path)
        name, device, device_from_path = self._device(facts)
        flags = self.flags()
        wall = self.stages.get(("Wall time", None)) or self.stages.get(("wall time", None))
        event = self.stages.get(("Event processing", None), _Stage())
        if not device_from_path:
            facts.pop("device_raw", None)
        run_id = out.run(
            tool="traccc",
            workload="reconstruction",
            name=name or source.path.stem,
            status=self._status(flags),
            device_raw=device,
            device_count=1 if self.devices else None,
            duration_s=wall.total_ms / 1000 if wall and wall.total_ms is not None else None,
            latency_ms=event.per_event_ms,
            latency_statistic="mean" if event.per_event_ms is not None else None,
            throughput_per_s=event.events_per_s,
            quality=flags,
            command=self.command,
            config=config_of(facts, ("device_raw",))
            | {
                "options": self.options or None,
                "errors": self.errors[:20] or None,
                "logger": self.logger,
                "apis": sorted(self.apis) or None,
                "first_time": self.first_time,
                "last_time": self.last_time,
            },
        )
        for (stage, stage_device), values in self.stages.items():
            out.add("cleaned_stages", run_id=run_id, stage=stage, device=stage_device, **vars(values))
        for counter in self.counters:
            out.add("cleaned_counters", run_id=run_id, source="traccc", **counter)

    def _device(self, facts: dict[str, Any]) -> tuple[str | None, str | None, bool]:
        """Name of the run, the device it ran on, and whether only the path says so."""
        name = self.title
        if name is None and self.command:
            program = self.command.split()[0]
            name = program.rpartition("/")[2] if "/" in program or "traccc" in program else self.command
        kinds = {device for _, device in self.stages if device}
        accelerators = kinds - {"cpu"}
        if self.devices:
            return name, self.devices[0], False
        if kinds:
            return name, "+".join(sorted(accelerators or kinds)), False
        return name, facts.get("device_raw"), True

    def _status(self, flags: set[str]) -> str:
        if not flags:
            return "ok"
        if any("out of memory" in error.lower() or "memory_allocation" in error for error in self.errors):
            return "oom"
        return "failed" if self.errors else "incomplete"

    def flags(self) -> set[str]:
        """Sequential examples end with the wall time, throughput tests with the rate of event processing."""
        if not self.stages:
            return {"stage_table_cut_off"} if self.tables - {"statistics"} else {"no_results"}
        stages = {stage.lower() for stage, _ in self.stages}
        is_cut_off = False
        if "totals" in self.tables or "rates" in self.tables:
            event = self.stages.get(("Event processing", None))
            is_cut_off = event is None or event.events_per_s is None
        elif stages & {"file reading", "hit reading"}:
            is_cut_off = "wall time" not in stages
        return {"stage_table_cut_off"} if is_cut_off else set()


class _Log:
    """The runs of a log, and how a line finds its place in them."""

    def __init__(self) -> None:
        self.runs = [_Run()]

    @property
    def run(self) -> _Run:
        return self.runs[-1]

    def enter(self, phase: int, table: str | None = None) -> _Run:
        """The run that something of this phase belongs to: the current one, or a new one.

        ``table`` is given by the header of a table: a run has each once.
        """
        if self.run.phase > phase or table in self.run.tables:
            self.runs.append(_Run())
        self.run.phase = phase
        self.run.is_seen = self.run.is_seen or phase != PREAMBLE
        if table is not None:
            self.run.tables.add(table)
        return self.run

    def read(self, line: Line, text: str) -> None:
        """Read one line without its prefix."""
        if _ERROR.match(text):
            self.run.errors.append(text[:500])
            line.use()
        elif not (self._table_line(line, text) or self._count_line(line, text)):
            self._preamble_line(line, text)

    def _table_line(self, line: Line, text: str) -> bool:
        for pattern, phase, table in (
            (_ELAPSED, TIMING, "elapsed"),
            (_TOTALS, TIMING, "totals"),
            (_THROUGHPUT, RATES, "rates"),
        ):
            if match := pattern.match(text):
                self.enter(phase, table)
                line.ignore()
                if match["rest"] and not self._row(line, match["rest"].strip()):
                    line.reject("cut_off", "the row behind the header is cut off")
                return True
        if _STATISTICS.match(text):
            self.enter(STATISTICS, "statistics")
            line.ignore()
            return True
        return self._row(line, text)

    def _row(self, line: Line, text: str) -> bool:
        if match := _RATE_ROW.match(text):
            stage = self._stage(match, RATES, "per_event_ms")
            stage.per_event_ms, stage.events_per_s = number(match[3]), number(match[4])
        elif match := _MS_ROW.match(text):
            self._stage(match, TIMING, "total_ms").total_ms = number(match[3])
        elif match := _SECONDS_ROW.match(text):
            seconds = number(match[3])
            self._stage(match, TIMING, "total_ms").total_ms = None if seconds is None else seconds * 1000
        else:
            return False
        line.use()
        return True

    def _stage(self, match: re.Match[str], phase: int, column: str) -> _Stage:
        """The stage of a row. A stage that has its value already belongs to the next run."""
        for cell in match.groups()[2:]:
            number(cell)
        key = (" ".join(match["stage"].split()), match["device"])
        run = self.enter(phase)
        known = run.stages.get(key)
        if known is not None and getattr(known, column) is not None:
            self.runs.append(_Run(phase=phase, is_seen=True))
            run = self.run
        return run.stages.setdefault(key, _Stage())

    def _count_line(self, line: Line, text: str) -> bool:
        if match := _READ.match(text):
            self._count(STATISTICS, "process", match["what"], match[1])
            if match["where"]:
                self._count(STATISTICS, "process", match["where"], match[3])
        elif match := _MADE.match(text):
            what = match["what"] if match["verb"] == "created" else f"{match['verb']} {match['what']}"
            self._count(STATISTICS, match["device"] or "process", what, match[3])
        elif match := _DUPLICATES.match(text):
            self._count(None, match["file"].rpartition("/")[2][:200], "duplicate cells", match[1])
        elif (match := _TOTAL.match(text)) or (match := _ASSIGNED.match(text)):
            self._count(STATISTICS, "process", match["what"], match[2])
        else:
            return False
        line.use()
        return True

    def _count(self, phase: int | None, scope: str, what: str, cell: str) -> None:
        value = grouped_number(cell)
        run = self.run if phase is None else self.enter(phase)
        counter = " ".join(what.split())
        run.counters.append(
            {"scope": scope, "counter": _MISSPELT.get(counter, counter), "value": value, "unit": ""}
        )

    def _preamble_line(self, line: Line, text: str) -> None:
        if match := _ON_DEVICE.match(text):
            self._device(match["device"])
            line.use()
        elif match := _USING.match(text):
            self._device(match["device"]).apis.add(match["api"].lower())
            line.use()
        elif match := _RUNNING.match(text):
            run = self.enter(PREAMBLE)
            run.command = run.command or match["command"]
            run.is_seen = True
            line.use()
        elif match := _HEADING.match(text):
            self.enter(PREAMBLE).title = match["title"]
            line.use()
        elif match := _OPTIONS_HEAD.match(text):
            self.enter(PREAMBLE).section = match["section"] or match["framed"]
            line.ignore()
        elif self.run.phase == PREAMBLE and self.run.section is not None and text == "None":
            line.ignore()
        elif (match := _OPTION.match(text)) or (
            self.run.section is not None
            and self.run.phase == PREAMBLE
            and (match := _PLAIN_OPTION.match(text))
        ):
            self.enter(PREAMBLE).option(match["name"].strip(), (match["value"] or "").strip())
            line.use()

    def _device(self, device: str) -> _Run:
        """The run that says on which device it is: a new one where the current has results, or another
        device."""
        # A warning stream may put the line into the table of a run that has named no device yet.
        is_inside = self.run.phase != PREAMBLE and not self.run.devices and bool(self.run.flags())
        run = self.run if is_inside else self.enter(PREAMBLE)
        if run.devices and device not in run.devices:
            self.runs.append(_Run())
            run = self.run
        if device not in run.devices:
            run.devices.append(device)
        run.is_seen = True
        return run
