"""What each term of a target is expected to cost on a device, before anything was measured."""

from __future__ import annotations

from perf_assets.analysis.predictors.features.terms_common import CONSTANT, Prior
from perf_assets.analysis.predictors.features.terms_device import device_prior
from perf_assets.analysis.predictors.features.terms_memory import memory_prior
from perf_assets.analysis.predictors.features.terms_staged import staged_energy_prior, staged_prior
from perf_assets.schema.device_catalog import device_facts


def time_prior(family: str, device: str, stage: str) -> Prior:
    """Expected ms of one unit of each term, from the device's data sheet at full speed.

    A training step passes three times over each convolution (forward, gradients of inputs and of weights) and
    some ten over the elements of normalisations and activations; inference a third of that.
    """
    facts = device_facts(device)
    passes = 3 if stage == "training" else 1
    return staged_prior(facts) if family == "host_staged" else device_prior(facts, passes)


def prior_of(target: str, family: str, device: str, stage: str) -> Prior:
    """The prior of a target's terms.

    Energy is the time's terms at half the thermal design power; where the host stages, it has terms of its
    own. A single layer costs nothing besides its terms.
    """
    if target.startswith("memory"):
        return memory_prior(target)
    facts = device_facts(device)
    if target == "energy" and family == "host_staged":
        return staged_energy_prior(facts)
    times = time_prior(family, device, stage)
    if target == "layer_latency":
        return {name: expected for name, expected in times.items() if name != CONSTANT}
    if target != "energy":
        return times
    watts = facts.tdp_w / 2
    return {name: (family, cost_ms * watts / 1000) for name, (family, cost_ms) in times.items()}
