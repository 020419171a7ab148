"""Arguments of command lines, as logs repeat them: names to values. What an argument means is the formats'
own."""

from __future__ import annotations

import re
from typing import Any

from perf_assets.intake.parsing.cells import integer, number


def read_arguments(words: list[str]) -> dict[str, Any]:
    """``['unet.py', '--epochs', '5', '--hpu']`` -> ``{'script': 'unet.py', 'epochs': 5, 'hpu': True}``."""
    arguments: dict[str, Any] = {"script": words[0]} if words else {}
    name = None
    for word in words[1:]:
        if word.startswith("--"):
            name, _, value = word[2:].partition("=")
            name = name.replace("-", "_")
            arguments[name] = _typed(value) if value else True
        elif name is not None and arguments[name] is True:
            arguments[name] = _typed(word)
        else:
            arguments.setdefault("positional", []).append(word)
    return arguments


def _typed(word: str) -> Any:
    try:
        value = number(word)
        return word if value is None else integer(word) if re.fullmatch(r"[+-]?\d+", word) else value
    except ValueError:
        return word
