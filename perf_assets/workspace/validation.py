"""One way to check what people write into files: a pydantic model in, the model or one line that says the
cure out."""

from __future__ import annotations

import difflib
import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

_SHOWN_PROBLEMS = 3


class InvalidInputError(ValueError):
    """A file or a set of options that cannot be used: the message names it, the key and the cure, in one
    line."""


class StrictModel(BaseModel):
    """A frozen model that refuses keys it does not know."""

    model_config = ConfigDict(extra="forbid", frozen=True)


Model = TypeVar("Model", bound=BaseModel)


def validated(model: type[Model], fields: Mapping[str, Any], where: str) -> Model:
    """Make a model of what a file says. Numbers must be numbers: "8" and true are no whole numbers.

    Raises:
        InvalidInputError: an unknown or missing key, a wrong type, a combination that cannot be.
    """
    try:
        return model.model_validate_json(json.dumps(dict(fields), default=str), strict=True)
    except ValidationError as error:
        # A key that is not known is most often the one that is missing, mistyped: it comes first.
        found = sorted(error.errors(include_url=False), key=lambda each: each["type"] != "extra_forbidden")
        problems = [_problem(model, each) for each in found]
        more = f"; and {len(problems) - _SHOWN_PROBLEMS} more" if len(problems) > _SHOWN_PROBLEMS else ""
        raise InvalidInputError(f"{where}: {'; '.join(problems[:_SHOWN_PROBLEMS])}{more}") from None


def read_toml(path: Path, example: str) -> dict[str, Any]:
    """Read a TOML file; ``example`` names a file to look at when it cannot be read.

    Raises:
        InvalidInputError: it is missing, unreadable or no TOML.
    """
    try:
        return tomllib.loads(path.read_text())
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8 text"
        raise InvalidInputError(
            f"{path}: cannot be read ({reason}): name a TOML file like {example}"
        ) from None
    except tomllib.TOMLDecodeError as error:
        raise InvalidInputError(f"{path}: not TOML: {error}; {example} is an example") from None


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object from a file.

    Raises:
        InvalidInputError: it is missing, unreadable or no JSON object.
    """
    try:
        fields = json.loads(path.read_text())
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8 text"
        raise InvalidInputError(f"{path}: cannot be read ({reason}): name a JSON file") from None
    except json.JSONDecodeError as error:
        raise InvalidInputError(f"{path}: not JSON: {error}") from None
    if not isinstance(fields, dict):
        raise InvalidInputError(f'{path}: not a JSON object: write {{"key": value, ...}}')
    return fields


def one_of(name: str, value: str, allowed: tuple[str, ...]) -> None:
    """Refuse a value that is not allowed.

    Raises:
        ValueError: it is not; the message lists what is, nearest first where one is near.
    """
    if value not in allowed:
        raise ValueError(f"unknown {name} {value!r}: {_choice(value, allowed)}")


def _problem(model: type[BaseModel], error: Any) -> str:
    place = [str(part) for part in error["loc"]]
    key = ".".join(place)
    if error["type"] == "extra_forbidden":
        return f"unknown key {key!r}: {_choice(place[-1], _keys_at(model, place[:-1]))}"
    if error["type"] == "missing":
        return f"key {key!r} is missing: add it"
    if error["type"] in ("value_error", "assertion_error"):
        text = str(error["msg"]).partition(", ")[2]
        return f"{key}: {text}" if key and key not in text else text
    return f"key {key!r}: {error['msg'][0].lower()}{error['msg'][1:]}, not {_short(error['input'])}"


def _keys_at(model: type[BaseModel], place: list[str]) -> tuple[str, ...]:
    """Names of the fields of the model that a place in a document belongs to."""
    found: Any = model
    for part in place:
        field = (
            found.model_fields.get(part) if isinstance(found, type) and issubclass(found, BaseModel) else None
        )
        if field is not None:
            found = _model_in(field.annotation)
    return tuple(found.model_fields) if isinstance(found, type) and issubclass(found, BaseModel) else ()


def _model_in(annotation: Any) -> Any:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for each in getattr(annotation, "__args__", ()) if (found := _model_in(each))), None)


def _choice(value: str, allowed: tuple[str, ...]) -> str:
    near = difflib.get_close_matches(value, allowed, n=1)
    return (
        f"did you mean {near[0]!r}? Use one of {', '.join(allowed)}"
        if near
        else f"use one of {', '.join(allowed)}"
    )


def _short(value: Any) -> str:
    text = json.dumps(value, default=str)
    return text if len(text) <= 60 else f"{text[:57]}..."
