"""From rows of ``cleaned_runs`` to one typed frame: settings, quantities and outcomes. What cannot be used is named.

The rules, each applied to kinds of columns and never to a column by name:

- no row is left out because of its outcome; only earlier attempts of a run (``superseded``) are;
- a run that died has settings and outcomes but no quantities: what was measured until then describes no whole run;
- a setting is a category; numbers with many values are cut at quantiles; "not stated" is a value of its own;
- a positive quantity with a long right tail goes in as its logarithm;
- constant columns, copies, exact functions of others and columns that are mostly unknown are set aside, by name.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from perf_assets.analysis.causal.settings import CONFIGURATION, FLAGS, CausalSettings

SETTING, QUANTITY, FLAG = "setting", "quantity", "flag"

NOT_STATED = "not stated"
RARE = "rare values"
FEWEST_OF_A_LEVEL = 5
MOST_LEVELS = 20
MOST_NUMERIC_LEVELS = 8
SETTING_BINS = 5
FEWEST_OF_AN_OUTCOME = 10
LEAST_KNOWN_SHARE = 0.5
LONG_TAIL_SKEWNESS = 1.0
EXACT_SHARE = 1e-4
FEWEST_ROWS = 20
"""Below this no search is started: half-samples of 10 rows decide nothing."""

# A run with one of these ends is whole, or nothing is known against it.
_WHOLE = ("ok", "missing", "unknown")


@dataclass
class CausalFrame:
    """Typed columns, in tier order. Settings hold level names, quantities numbers (NaN: unknown), flags 0, 1 or NaN."""

    rows: pd.DataFrame
    kinds: dict[str, str]
    tiers: dict[str, int]
    tier_names: list[str]
    logs: frozenset[str] = frozenset()
    levels: dict[str, list[str]] = field(default_factory=dict)
    """Levels of each setting: of numbers in rising order, else the most frequent first."""
    numeric: frozenset[str] = frozenset()
    """Settings whose levels are numbers, or ranges of numbers."""
    set_aside: dict[str, str] = field(default_factory=dict)
    """Column → why it is not in the frame."""
    superseded: int = 0

    @property
    def names(self) -> list[str]:
        """Columns in order."""
        return list(self.rows.columns)

    @property
    def settings(self) -> list[str]:
        """Columns of the first tier."""
        return [name for name in self.names if self.kinds[name] == SETTING]


def build(runs: pd.DataFrame, settings: CausalSettings) -> CausalFrame:
    """Make the frame of a graph from rows of ``cleaned_runs``.

    Args:
        runs: a row a run, with ``status`` and those columns of the tiers that exist.
        settings: tiers and their columns.
    """
    status = runs["status"].astype(object)
    kept = ~status.eq("superseded")
    if "excluded" in runs:
        kept &= ~runs["excluded"].fillna(False).astype(bool)
    runs, status = runs[kept].reset_index(drop=True), status[kept].reset_index(drop=True)
    whole = status.isin(_WHOLE)
    aside: dict[str, str] = {}
    columns: dict[str, pd.Series] = {}
    kinds: dict[str, str] = {}
    tiers: dict[str, int] = {}
    numeric: set[str] = set()
    levels: dict[str, list[str]] = {}
    for position, (tier, names) in enumerate(settings.tiers.items()):
        for name in names:
            if name in FLAGS:
                column, reason = _flag(status, name)
                kind = FLAG
            elif name not in runs:
                column, reason, kind = None, "no such column", QUANTITY
            elif tier == CONFIGURATION:
                column, reason, is_number, found = _setting(runs[name])
                kind = SETTING
                if column is not None:
                    levels[name] = found
                    if is_number:
                        numeric.add(name)
            else:
                column, reason = _quantity(runs[name], whole)
                kind = QUANTITY
                if column is not None and column.nunique() == 2:
                    column, reason, kind = (
                        *_two_valued(column.eq(column.max()).astype(float).where(column.notna())),
                        FLAG,
                    )
            if column is None:
                aside[name] = reason
            else:
                columns[name], kinds[name], tiers[name] = column, kind, position
    _set_aside_copies(columns, kinds, aside)
    logs = frozenset(name for name in columns if kinds[name] == QUANTITY and _has_long_tail(columns[name]))
    _set_aside_exact(columns, kinds, tiers, aside)
    for name in logs & columns.keys():
        columns[name] = columns[name].map(np.log, na_action="ignore")
    return CausalFrame(
        pd.DataFrame(columns, index=runs.index),
        {name: kinds[name] for name in columns},
        {name: tiers[name] for name in columns},
        list(settings.tiers),
        logs & columns.keys(),
        {name: levels[name] for name in columns if name in levels},
        frozenset(numeric & columns.keys()),
        aside,
        int((~kept).sum()),
    )


def _flag(status: pd.Series, name: str) -> tuple[pd.Series | None, str]:
    """1 where a run ended so, 0 where it did not, unknown where nobody knows, or where another end forestalled it."""
    ended = status.isin(["ok", "oom", "failed"])
    flag = status.eq(name).astype(float).where(ended)
    if name == "failed":
        flag = flag.mask(status.eq("oom"))
    return _two_valued(flag)


def _two_valued(flag: pd.Series) -> tuple[pd.Series | None, str]:
    """The flag, or why it is of no use."""
    counts = flag.value_counts()
    rarer = int(counts.min()) if len(counts) > 1 else 0
    if rarer == 0:
        return None, "constant"
    if rarer < FEWEST_OF_AN_OUTCOME:
        return None, f"nearly constant: {rarer} of {int(flag.notna().sum())} runs differ"
    return flag, ""


def _setting(values: pd.Series) -> tuple[pd.Series | None, str, bool, list[str]]:
    """Levels as text, why there are none, whether they are numbers, and the levels in order."""
    known = values.notna()
    if values[known].nunique() + int(not known.all()) < 2:
        return None, "constant" if known.any() else "never stated", False, []
    if known.mean() < LEAST_KNOWN_SHARE:
        return None, f"stated in only {known.mean():.0%} of the runs", False, []
    is_number = pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values)
    if is_number and values.nunique() > MOST_NUMERIC_LEVELS:
        cut = pd.qcut(values.astype(float), SETTING_BINS, duplicates="drop")
        order = [f"{part.left:.4g} to {part.right:.4g}" for part in cut.cat.categories]
        column = pd.Series(np.array(order, dtype=object)[cut.cat.codes], index=values.index)
    elif is_number:
        order = [f"{value:.6g}" for value in sorted(values[known].unique())]
        column = values.astype(float).map(lambda value: f"{value:.6g}", na_action="ignore").astype(object)
    else:
        column = values.astype(object).map(str, na_action="ignore")
        order = list(column[known].value_counts().index)
    column = column.where(known, NOT_STATED)
    counts = column.value_counts()
    if len(order) > MOST_LEVELS and len(order) > len(values) / 2:
        return None, "nearly every run has a value of its own", False, []
    frequent = [level for level in counts.index[:MOST_LEVELS] if counts[level] >= FEWEST_OF_A_LEVEL]
    column = column.where(column.isin(frequent), RARE)
    order = [level for level in [*order, NOT_STATED, RARE] if (column == level).any()]
    if len(order) < 2:
        return None, "constant", False, []
    return column, "", is_number, order


def _quantity(values: pd.Series, whole: pd.Series) -> tuple[pd.Series | None, str]:
    try:
        numbers = values.astype(float).where(whole)
    except (TypeError, ValueError):
        return None, "not a number"
    numbers = numbers.where(np.isfinite(numbers))
    # Of the runs that ended: a tool in whose logs most runs died may still say much of the others.
    share = numbers[whole].notna().mean() if whole.any() else 0.0
    if not share:
        return None, "never measured"
    if share < LEAST_KNOWN_SHARE:
        return None, f"known of only {share:.0%} of the runs that ended"
    if numbers.nunique() < 2:
        return None, "constant"
    return numbers, ""


def _has_long_tail(values: pd.Series) -> bool:
    return bool(values.min() > 0 and values.skew() > LONG_TAIL_SKEWNESS)


def _set_aside_copies(columns: dict[str, pd.Series], kinds: dict[str, str], aside: dict[str, str]) -> None:
    """A setting that another one fixes says nothing of its own: the coarser of two goes, of copies the later."""
    settings = [name for name in columns if kinds[name] == SETTING]
    for name in settings[::-1]:
        for other in settings:
            if other == name or other in aside:
                continue
            if _fixes(columns[other], columns[name]):
                both = _fixes(columns[name], columns[other])
                if both and settings.index(other) > settings.index(name):
                    continue
                aside[name] = f"a copy of {other}" if both else f"fixed by {other}"
                break
    for name in aside.keys() & columns.keys():
        del columns[name]


def _fixes(finer: pd.Series, coarser: pd.Series) -> bool:
    return bool(coarser.groupby(finer).nunique().max() == 1)


def _set_aside_exact(
    columns: dict[str, pd.Series], kinds: dict[str, str], tiers: dict[str, int], aside: dict[str, str]
) -> None:
    """Quantities that others of their tier and the settings give exactly, such as throughput = batch / latency."""
    settings = [pd.get_dummies(columns[name], dtype=float) for name in columns if kinds[name] == SETTING]
    quantities = [name for name in columns if kinds[name] == QUANTITY]
    scaled = {
        name: columns[name].map(np.log, na_action="ignore") if columns[name].min() > 0 else columns[name]
        for name in quantities
    }
    for name in quantities:
        peers = [
            other
            for other in quantities[: quantities.index(name)]
            if other not in aside and tiers[other] == tiers[name]
        ]
        if not peers:
            continue
        table = pd.concat([*settings, *(scaled[other].to_frame() for other in peers)], axis=1)
        used = table.notna().all(axis=1) & scaled[name].notna()
        design, target = table[used].to_numpy(), scaled[name][used].to_numpy()
        without = design[:, : design.shape[1] - len(peers)]
        if len(target) < 2 * design.shape[1] + FEWEST_OF_A_LEVEL:
            continue
        if _unexplained(design, target) < EXACT_SHARE <= _unexplained(without, target):
            aside[name] = f"an exact function of {', '.join(peers)} and the settings"
            del columns[name]


def _unexplained(design: np.ndarray, target: np.ndarray) -> float:
    """Share of the target's variance that a linear fit leaves."""
    design = np.column_stack([np.ones(len(target)), design])
    spread = target.var()
    if spread == 0:
        return 1.0
    fitted = design @ np.linalg.lstsq(design, target, rcond=None)[0]
    return float((target - fitted).var() / spread)
