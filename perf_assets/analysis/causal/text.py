"""A causal graph in words: what it claims, how sure it is, and what it does not say. Computes nothing."""

from __future__ import annotations

from perf_assets.analysis.causal.effects import ADJUSTMENT, RANDOMISED, Effect
from perf_assets.analysis.causal.frame import FLAG, SETTING
from perf_assets.analysis.causal.graph import DIRECTED, CausalGraph, Edge

_MOST_NAMED = 8


def describe(found: CausalGraph) -> str:
    """The graph as a few paragraphs of plain text."""
    if found.why_empty:
        return f"{found.settings.graph}: no graph. {_capital(found.why_empty)}. {_set_aside(found)}".strip()
    parts = [_basis(found), _claims(found), _absences(found), _checks(found), _limits(found)]
    return "\n\n".join(part for part in parts if part)


def _basis(found: CausalGraph) -> str:
    frame, settings = found.frame, found.settings
    how = (
        "The settings were assigned in random order, so their effects are those of an experiment"
        if settings.randomised
        else "The runs are taken as they were found (observational): nobody dealt out the settings at random"
    )
    left = (
        f" {frame.superseded} earlier attempts and excluded runs were left out." if frame.superseded else ""
    )
    return (
        f"{settings.graph}: {len(frame.rows)} runs, {len(frame.settings)} settings and"
        f" {len(frame.names) - len(frame.settings)} measured columns. {how}.{left}"
    )


def _claims(found: CausalGraph) -> str:
    lines = []
    for sure, title in ((True, "Confirmed"), (False, "Uncertain")):
        edges = [edge for edge in found.drawn if edge.confirmed is sure]
        if sure and not edges:
            lines.append("No edge is confirmed.")
        for target in dict.fromkeys(edge.target for edge in edges):
            to = [edge for edge in edges if edge.target == target]
            lines.append(f"{title}: {target} depends on {'; '.join(_edge(found, edge) for edge in to)}.")
    lines.append(
        f"Confirmed means that PC and the score search both found it in at least {found.settings.stable:.0%} of"
        f" {found.settings.half_samples} random halves of the runs."
        if found.has_pc
        else "Nothing can be confirmed: PC, the second search, needs the extra perf-assets[causal]."
    )
    return "\n".join(lines)


def _edge(found: CausalGraph, edge: Edge) -> str:
    direction = "" if edge.kind == DIRECTED else ", direction unknown"
    size = f": {_size(found, edge.size)}" if edge.size and edge.size.effect is not None else ""
    return f"{edge.source} (in {edge.frequency:.0%} of the halves{direction}{size})"


def _size(found: CausalGraph, effect: Effect) -> str:
    unit = found.unit(effect.target)
    return f"{effect.contrast} {_number(effect.effect)} {unit} [{_number(effect.lower)}, {_number(effect.upper)}]"


def _number(value: float | None) -> str:
    return "?" if value is None else f"{value:+.3g}"


def _absences(found: CausalGraph) -> str:
    """Outcomes first: settings that neither search links to them."""
    linked = {frozenset((edge.source, edge.target)) for edge in found.edges}
    lines = []
    for target in found.frame.names[::-1]:
        if found.frame.kinds[target] == SETTING:
            continue
        absent = [name for name in found.frame.settings if frozenset((name, target)) not in linked]
        unknown = [name for name in absent if not _adjusted(found, name, target)]
        small = [name for name in absent if _moves(found, name, target)]
        silent = [name for name in absent if name not in unknown and name not in small]
        if silent:
            bounds = [f"{name} {_bound(found, name, target)}" for name in silent]
            verb = "shows" if len(silent) == 1 else "show"
            lines.append(
                f"{_list(silent)} {verb} no effect on {target}; what the data still allows: {_list(bounds)}."
            )
        if unknown:
            lines.append(f"{_list(unknown)} on {target}: no edge, and too few comparable runs to tell.")
        for name in small:
            sizes = [one for one in _adjusted(found, name, target) if _excludes_zero(one)]
            largest = max(sizes, key=lambda one: abs(one.effect or 0.0))
            lines.append(
                f"{name} has no edge to {target}, though its adjusted effect is not 0"
                f" ({_size(found, largest)}): it may act through other columns, or be below the floor."
            )
    return "\n".join(lines)


def _bound(found: CausalGraph, source: str, target: str) -> str:
    """The widest of the intervals of a setting's effects."""
    widest = max(_adjusted(found, source, target), key=lambda one: (one.upper or 0.0) - (one.lower or 0.0))
    return f"{_number(widest.lower)} to {_number(widest.upper)} {found.unit(target)}"


def _adjusted(found: CausalGraph, source: str, target: str) -> list[Effect]:
    return [
        one
        for one in found.effects
        if (one.source, one.target, one.method) == (source, target, ADJUSTMENT) and one.effect is not None
    ]


def _moves(found: CausalGraph, source: str, target: str) -> bool:
    return any(_excludes_zero(one) for one in _adjusted(found, source, target))


def _excludes_zero(effect: Effect) -> bool:
    return effect.lower is not None and effect.upper is not None and not effect.lower <= 0 <= effect.upper


def _checks(found: CausalGraph) -> str:
    second = [one for one in found.effects if one.method == "double_ml" and one.effect is not None]
    placebo = [one for one in found.effects if one.method == "placebo" and one.effect is not None]
    tried = [one for one in found.effects if one.method == RANDOMISED and one.effect is not None]
    lines = []
    if second:
        agree = sum(one.verdict == "agrees" for one in second)
        lines.append(f"Double machine learning agrees with {agree} of {len(second)} effects.")
    if placebo:
        zero = sum(one.verdict == "covers 0" for one in placebo)
        lines.append(
            f"After the levels were shuffled, {zero} of {len(placebo)} intervals cover 0, as they must."
        )
    if tried:
        agree = sum(one.verdict.startswith("agrees") for one in tried)
        differ = [one for one in tried if one.verdict.startswith("differs")]
        lines.append(
            f"The randomised runs themselves bear out {agree} of {len(tried)} statements on effects"
            + (f", and contradict {len(differ)}." if differ else ".")
        )
    return " ".join(lines)


def _limits(found: CausalGraph) -> str:
    untried = [f"{cause} on {effect}" for cause, effect in found.untried]
    nothing = (
        f"The data cannot speak about {_list(untried)}: they are never known together, or one does not vary then. "
        if untried
        else ""
    )
    flags = [name for name in found.frame.names if found.frame.kinds[name] == FLAG]
    ended = "Runs that died count in the outcomes, and nowhere as measurements. " if flags else ""
    return (
        f"{nothing}{ended}{_set_aside(found)} The order of the tiers is assumed, not found; a cause that no column"
        " records can hide behind any edge; thresholds and the larger of two costs can hide an edge."
        " What was found holds for the levels that were tried, not beyond."
    ).strip()


def _set_aside(found: CausalGraph) -> str:
    reasons: dict[str, list[str]] = {}
    for name, why in found.frame.set_aside.items():
        if why not in ("no such column", "never measured", "never stated"):
            reasons.setdefault(why, []).append(name)
    if not reasons:
        return ""
    return "Set aside: " + "; ".join(f"{', '.join(names)} ({why})" for why, names in reasons.items()) + "."


def _list(names: list[str]) -> str:
    shown = names[:_MOST_NAMED]
    rest = f" and {len(names) - len(shown)} more" if len(names) > len(shown) else ""
    if rest or len(shown) == 1:
        return ", ".join(shown) + rest
    return f"{', '.join(shown[:-1])} and {shown[-1]}"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
