"""What devices are called and what their data sheets say: one name for everything that tools print of a
device.

Names, aliases and facts stand in ``device_catalog.toml`` beside this file; a site adds its own in
``devices.toml`` of its data folder. No measured number belongs here.
"""

from __future__ import annotations

import hashlib
import re
import tomllib
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from perf_assets.workspace.errors import PerfAssetsError

DEVICES_FILE = Path(__file__).parent / "device_catalog.toml"
KINDS = ("cpu", "gpu", "hpu", "soc")
"""Processor, graphics card, Habana accelerator, board with both on one chip."""


class CatalogError(PerfAssetsError, ValueError):
    """A catalogue file that cannot be used: the message names the file, the entry and the cure."""


@dataclass(frozen=True)
class Device:
    """Data-sheet facts of one device."""

    name: str
    peak_fp32_tflops: float
    memory_bandwidth_gbps: float
    memory_gib: float
    tdp_w: float
    integrated: bool
    launched_year: int
    source: str
    peak_fp16_tflops: float | None = None
    multiprocessors: int | None = None
    l2_cache_mib: float | None = None
    base_clock_mhz: float | None = None
    boost_clock_mhz: float | None = None

    @property
    def sustained_fp32_tflops(self) -> float:
        """Peak at the middle of base and boost clock: what power allows for long lies between them."""
        if self.base_clock_mhz is None or self.boost_clock_mhz is None:
            return self.peak_fp32_tflops
        return self.peak_fp32_tflops * (self.base_clock_mhz + self.boost_clock_mhz) / 2 / self.boost_clock_mhz


_FACTS = tuple(name for name in Device.__dataclass_fields__ if name != "name")
_NEEDED_FACTS = _FACTS[: _FACTS.index("source") + 1]
"""Facts that are given together or not at all; the others may be missing."""
_KIND_WORDS = {
    "cpu": "cpu",
    "host": "cpu",
    "gpu": "gpu",
    "cuda": "gpu",
    "rocm": "gpu",
    "hip": "gpu",
    "hpu": "hpu",
}
# Interfaces that run on devices of several kinds.
_INTERFACES = frozenset(("sycl", "alpaka", "kokkos", "opencl", "vulkan", "openmp", "mps"))
# What makers and tools put around a name, and what says nothing about which device it is.
_FILLERS = frozenset(
    (
        *("nvidia", "amd", "intel", "arm", "apple", "habana", "habanalabs", "labs", "corporation"),
        *("tesla", "geforce", "jetson", "gpu", "cpu", "processor", "accelerator", "generation"),
        *("developer", "kit", "devkit", "module", "graphics", "with"),
    )
)
_NOISE = re.compile(r"\((?:r|tm)\)|®|™|\(\d{1,3}\)|@ ?[\d.]+ ?ghz|\b\d{1,2}th gen\b|\b\d{1,3}-core\b")
_FORM_FACTOR = re.compile(r"pcie|sxm\d?|nvl|smx\d?|mxm")
_MEMORY = re.compile(r"\d{1,4}gb")
_KIND_PATTERNS = (
    (
        "cpu",
        re.compile(
            r"epyc|xeon|ryzen|threadripper|opteron|core-i\d|^i[3579]-\d|core-ultra|cortex|neoverse|graviton|altra"
        ),
    ),
    ("cpu", re.compile(r"thunderx|power\d|grace$")),
    ("soc", re.compile(r"\btx[12]\b|xavier|orin|thor|tegra|odroid|raspberry|^nano\b|^m[1-5](-|$)|gb10")),
    ("hpu", re.compile(r"gaudi|\bhl-\d")),
    (
        "gpu",
        re.compile(r"rtx|gtx|quadro|titan|radeon|instinct|^mi\d|^rx-|^[abghlkmptv]\d{1,4}[a-z]{0,2}(-|$)"),
    ),
    ("gpu", re.compile(r"^gb\d|^gh\d|^arc-|^w\d{4}")),
)


@dataclass(frozen=True)
class Catalog:
    """Names of devices by every alias, their kinds and facts."""

    aliases: dict[str, str]
    kinds: dict[str, str]
    facts: dict[str, Device]
    sha256: str
    """Of all files it was read from: tables that hold names are made again when it changes."""
    _cache: dict[str, tuple[str | None, str | None]] = field(default_factory=dict, compare=False)

    def name(self, raw: str | None) -> tuple[str | None, str | None]:
        """Device and kind behind what a log says.

        A word that names only a kind (``cuda:0``, ``gpu``) gives the kind and no device; a name that the
        catalogue does not hold is shortened by rule, and its kind told by its family where that is known.
        """
        if raw is None:
            return None, None
        if raw not in self._cache:
            self._cache[raw] = self._name(raw)
        return self._cache[raw]

    def _name(self, raw: str) -> tuple[str | None, str | None]:
        text = " ".join(raw[:200].casefold().replace("_", " ").split())
        words = [re.sub(r"[ :#-]?\d{1,3}$", "", word.strip()) for word in text.split("+")]
        if all(word in _KIND_WORDS or word in _INTERFACES or not word for word in words):
            kinds = [_KIND_WORDS[word] for word in words if word in _KIND_WORDS]
            # Where a host's processor drives an accelerator, it ran on the accelerator.
            return None, next((kind for kind in kinds if kind != "cpu"), kinds[0] if kinds else None)
        name = self.aliases.get(text.replace(" ", "-"))
        if name is None:
            short = short_name(text)
            name = self.aliases.get(short, short)
        if not name:
            return None, None
        return name, self.kinds.get(name) or next(
            (k for k, pattern in _KIND_PATTERNS if pattern.search(name)), None
        )


def short_name(text: str) -> str:
    """Shorten a product name by rule: ``NVIDIA GeForce GTX 1080 Ti (0)`` is ``gtx-1080-ti``.

    The maker, the tool's index and clocks go; a variant (form factor, memory) stays and comes last.
    """
    text = _NOISE.sub(" ", text.casefold())
    text = re.sub(r"\b(rtx|gtx|core)(\d)", r"\1 \2", text)
    text = re.sub(r"(\d)(ti|super)\b", r"\1 \2", text)
    text = re.sub(r"(\d) (gb|gib)\b", r"\1gb", text)
    words = [word for word in re.split(r"[^a-z0-9.+]+", text) if word and word not in _FILLERS]
    form = [word for word in words if _FORM_FACTOR.fullmatch(word)]
    memory = [word for word in words if _MEMORY.fullmatch(word)]
    rest = [
        word
        for word in words
        if word not in form and word not in memory and not re.fullmatch(r"hbm\d?e?", word)
    ]
    return "-".join(rest + form + memory)


@cache
def catalog(site_file: Path | None = None) -> Catalog:
    """The shipped catalogue, with a site's own entries over it.

    Raises:
        CatalogError: a file that is no TOML, an unknown key, a kind that there is not, half of the facts.
    """
    files = [DEVICES_FILE, *([site_file] if site_file is not None and site_file.exists() else [])]
    aliases: dict[str, str] = {}
    kinds: dict[str, str] = {}
    facts: dict[str, Device] = {}
    digest = hashlib.sha256()
    for file in files:
        content = file.read_bytes()
        digest.update(content)
        for name, entry in _entries(file, content).items():
            given = {key: value for key, value in entry.items() if key in _FACTS}
            if given:
                facts[name] = Device(name=name, **given)
            kinds |= {name: entry["kind"]} if "kind" in entry else {}
            aliases[name] = name
            aliases |= {alias.casefold().replace(" ", "-"): name for alias in entry.get("aliases", ())}
    return Catalog(aliases, kinds, facts, digest.hexdigest())


def _entries(file: Path, content: bytes) -> dict[str, dict]:
    try:
        entries = tomllib.loads(content.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise CatalogError(f"{file}: not TOML: {error}; see {DEVICES_FILE.name} for an example") from None
    known = {"kind", "aliases", *_FACTS}
    for name, entry in entries.items():
        where = f"{file}: [{name}]"
        if not isinstance(entry, dict):
            raise CatalogError(f"{where} is no table: write [{name}] and its keys below")
        if unknown := sorted(set(entry) - known):
            raise CatalogError(
                f"{where} has unknown keys {', '.join(unknown)}: use {', '.join(sorted(known))}"
            )
        if entry.get("kind", "gpu") not in KINDS:
            raise CatalogError(f"{where}: kind {entry['kind']!r} is none of {', '.join(KINDS)}")
        given = set(entry) & set(_FACTS)
        missing = sorted(set(_NEEDED_FACTS) - given)
        if given and missing:
            raise CatalogError(f"{where} lacks {', '.join(missing)}: give all facts or none")
    return entries


def devices() -> dict[str, Device]:
    """All devices whose facts are known, by name."""
    return catalog().facts


def device_facts(name: str) -> Device:
    """Facts of a device; of an unknown one, those of a middling accelerator or processor, which a fit then scales as
    a whole: how arithmetic, bandwidth and calls compare differs between the two by more than among either."""
    known = devices().get(name)
    if known is not None:
        return known
    source = f"not in {DEVICES_FILE.name}"
    if catalog().name(name)[1] == "cpu":
        return Device(name, 1.0, 60.0, float("inf"), 65.0, True, 2023, source)
    return Device(name, 10.0, 500.0, float("inf"), 250.0, False, 2023, source)
