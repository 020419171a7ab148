"""Lists of processes: those of one device at one poll become one row, for a process is no device.

What they use is added up, and each stands by itself in ``labels["processes"]``. Splitting a tool's lines into
cells belongs to its format.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from perf_assets.intake.parsing.polls.sessions import Sessions
from perf_assets.intake.parsing.records import Records
from perf_assets.intake.parsing.times import UNTOLD, Moment

MOST_POLL_S = 0.5
"""Processes that are listed so soon after each other may be of one poll."""


@dataclass
class _Device:
    line_number: int
    name: str | None
    processes: list[dict[str, Any]] = field(default_factory=list)
    labels: list[tuple[str, str]] = field(default_factory=list)


class ProcessPolls:
    """Gathers processes, and writes a row of ``cleaned_telemetry`` for each device and poll.

    ``columns`` maps a process's numbers to columns; others go to ``metrics`` under the name in
    ``metric_names``.
    """

    def __init__(self, out: Records, columns: Mapping[str, str]) -> None:
        self._out = out
        self._columns = columns
        self._sessions = Sessions()
        self._devices: dict[str, _Device] = {}
        self._last_device = ""
        self._moment: Moment | None = None

    def add(
        self,
        line_number: int,
        device_id: str,
        moment: Moment | None,
        process: dict[str, Any] | None,
        metric_names: Mapping[str, str] | None = None,
        labels: list[tuple[str, str]] | None = None,
        device_name: str | None = None,
    ) -> None:
        """Add one process (texts ``pid`` and ``type``, numbers by name), or None for a device without any.

        A row begins the next poll where its time says so. Where times do not tell, a process or a device that
        comes again does: the rows of one device stand together.
        """
        self._names = metric_names or {}
        if not self._is_of_poll(device_id, moment, process):
            self.close()
        self._moment = moment
        self._last_device = device_id
        device = self._devices.setdefault(device_id, _Device(line_number, device_name, labels=labels or []))
        if process is not None:
            device.processes.append(process)

    def _is_of_poll(self, device_id: str, moment: Moment | None, process: dict[str, Any] | None) -> bool:
        if not self._devices:
            return True
        if (moment is None) != (self._moment is None):
            return False
        if moment is not None and self._moment is not None:
            apart_s = abs((moment.at - self._moment.at).total_seconds())
            if apart_s == 0 or apart_s > MOST_POLL_S:
                return apart_s == 0
        device = self._devices.get(device_id)
        if device is None:
            return True
        if device_id != self._last_device or process is None or not device.processes:
            return False
        return all(
            (process.get("pid"), process.get("type")) != (known.get("pid"), known.get("type"))
            for known in device.processes
        )

    def close(self) -> None:
        """Write the rows of the poll that was gathered."""
        for device_id, device in self._devices.items():
            sums: dict[str, float] = {}
            for process in device.processes:
                for name, value in process.items():
                    if isinstance(value, float):
                        sums[name] = sums.get(name, 0.0) + value
            known = [
                {name: value for name, value in process.items() if value is not None}
                for process in device.processes
            ]
            at = self._moment.at if self._moment else None
            self._out.add(
                "cleaned_telemetry",
                line_number=device.line_number,
                device_id=device_id,
                device_name=device.name,
                session=self._sessions.of(device_id, at),
                polled_at=at,
                time_source=self._moment.source if self._moment else UNTOLD,
                metrics=[
                    ("processes", float(len(known))),
                    *(
                        (self._names.get(name, name), value)
                        for name, value in sums.items()
                        if name not in self._columns
                    ),
                ],
                labels=[("processes", json.dumps(known, sort_keys=True))] * bool(known) + device.labels,
                **{column: sums.get(name) for name, column in self._columns.items()},
            )
        self._devices = {}
