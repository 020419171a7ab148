"""The measurement protocol on synthetic machines whose true median and contention are known."""

import math
import statistics
import subprocess
import sys

import numpy as np
import pytest

from perf_assets.analysis.comparisons.paired import compare
from perf_assets.measuring.profiling import protocol
from perf_assets.measuring.profiling.protocol import Block, Settings, measure
from perf_assets.measuring.profiling.timers import HostTimer
from perf_assets_tests.measuring.profiling.synthetic import SyntheticTimer, noisy

TRIALS = 1000
BLOCKS = 60
NO_WARMUP = {"steady_tolerance": 10.0, "steady_blocks": 1, "warmup_max_s": 1.0}
FIXED_LENGTH = Settings(max_blocks=BLOCKS, target_width=0.0, max_time_s=1e9, **NO_WARMUP)


def drifting(rng):
    """The machine slows down by 3 % while it is measured; the truth is the median over the whole run."""
    slope = 0.03 / BLOCKS
    return lambda i: Block(1, noisy(rng) * (1 + slope * i)), 10.0 * (1 + slope * (BLOCKS + 1) / 2)


def bimodal(rng):
    """Three in ten steps take half as long again (another kernel, another core)."""
    # The median is where the fast mode reaches 5/7 of its own share.
    true_ms = 10.0 * math.exp(0.03 * statistics.NormalDist().inv_cdf(0.5 / 0.7))
    return lambda _: Block(1, noisy(rng) * (1.5 if rng.random() < 0.3 else 1.0)), true_ms


def throttled(rng):
    """In bursts the clock falls to 60 %, and the meter says so; the truth is the machine at its clock."""
    state = {"slow": False}

    def block(_):
        state["slow"] = rng.random() < (0.8 if state["slow"] else 0.05)
        share = 0.6 if state["slow"] else 1.0
        return Block(1, noisy(rng) / share, sm_clock_share=share)

    return block, 10.0


def stopping_early(rng):
    """Steady noise, with the rule that stops as soon as the interval is narrow."""
    return lambda _: Block(1, noisy(rng)), 10.0


@pytest.mark.parametrize("scenario", [drifting, bimodal, throttled, stopping_early])
def test_interval_covers_the_true_median(scenario):
    settings = (
        Settings(target_width=0.01, min_time_s=0, **NO_WARMUP) if scenario is stopping_early else FIXED_LENGTH
    )
    covered = 0
    for seed in range(TRIALS):
        block, true_ms = scenario(np.random.default_rng(seed))
        found = measure(lambda: None, SyntheticTimer(block), settings).summary
        covered += found["latency_low_ms"] <= true_ms <= found["latency_high_ms"]
    print(f"{scenario.__name__}: {covered / TRIALS:.1%}")
    assert 0.93 <= covered / TRIALS <= 0.97


def pairs(rng, ratio):
    """Two steps on a machine that drifts by a third and hiccups, with 4 % noise of their own."""
    which = {"ratio": 1.0}

    def block(i):
        drift = 1 + 0.3 * math.sin(i / 25)
        hiccup = 3.0 if rng.random() < 0.03 else 1.0
        return Block(1, noisy(rng, 10 * which["ratio"] * drift * hiccup, 0.04))

    timer = SyntheticTimer(block)
    return compare(lambda: which.update(ratio=1.0), lambda: which.update(ratio=ratio), timer)


def test_equal_steps_are_not_called_different():
    verdicts = [pairs(np.random.default_rng(seed), 1.0).verdict for seed in range(TRIALS)]
    wrong = sum(verdict in ("faster", "slower") for verdict in verdicts) / TRIALS
    print(f"A/A called different: {wrong:.1%}, same: {verdicts.count('same') / TRIALS:.1%}")
    assert wrong <= 0.01


@pytest.mark.parametrize(("ratio", "verdict"), [(0.9, "faster"), (1.1, "slower")])
def test_ten_percent_is_found(ratio, verdict):
    results = [pairs(np.random.default_rng(seed), ratio) for seed in range(TRIALS)]
    found = sum(result.verdict == verdict for result in results) / TRIALS
    print(f"{ratio}: found {found:.1%}")
    assert found >= 0.95
    assert np.median([result.ratio for result in results]) == pytest.approx(ratio, rel=0.005)


def scheduled(rng, competing):
    """Blocks of 20 ms on two processors; the scheduler gives slices of 4 ms to whoever else wants to run."""

    daemons_per_s = rng.uniform(10, 40)  # measured on a quiet machine: 20

    def block(_):
        own_s = noisy(rng, 20.0)
        short, slices = rng.poisson(own_s * daemons_per_s), rng.poisson(own_s * competing / 0.004)
        wall_s = own_s + 0.0001 * short + 0.004 * slices * rng.uniform(0.3, 1.0)
        other = rng.gamma(2.0, 0.005) + competing * rng.uniform(0.7, 1.0) / 2
        return Block(1, wall_s, own_s, int(short + slices), other)

    return block


def test_contention_is_flagged_and_quiet_machines_are_not():
    settings = Settings(max_blocks=40, target_width=0.0)
    flagged = {0: 0, 1: 0}
    for seed in range(TRIALS):
        rng = np.random.default_rng(seed)
        for contended in flagged:
            timer = SyntheticTimer(scheduled(rng, rng.uniform(0.15, 1.0) * contended))
            flagged[contended] += measure(lambda: None, timer, settings).verdict == "contended"
    print(f"flagged: {flagged[1] / TRIALS:.1%} of contended, {flagged[0] / TRIALS:.1%} of quiet runs")
    assert flagged[1] / TRIALS >= 0.95
    assert flagged[0] / TRIALS <= 0.05


def test_real_competitors_are_noticed():
    """As many busy processes as processors: whatever else runs here, this is contention."""
    spin = [sys.executable, "-c", "while True: pass"]
    competitors = [subprocess.Popen(spin) for _ in range(HostTimer()._cpus)]
    try:
        found = measure(
            lambda: sum(range(20_000)),
            HostTimer(),
            Settings(max_time_s=1.5, target_width=0.0, max_blocks=10**6),
        )
    finally:
        for competitor in competitors:
            competitor.kill()
            competitor.wait()
    assert found.verdict == "contended", found.verdict_reason


def judged(blocks, steady=True):
    return protocol.judge(blocks, steady=steady, settings=Settings())[0]


def test_other_verdicts():
    rng = np.random.default_rng(0)
    quiet = [Block(1, noisy(rng, 100.0, 0.01), 0.1, 0, 0.0) for _ in range(40)]
    assert judged(quiet) == "stable"
    assert judged(quiet, steady=False) == "unstable"
    assert judged(quiet[:5]) == "too_short"
    assert judged([Block(1, noisy(rng, 100.0, 0.3)) for _ in range(40)]) == "unstable"
    assert judged([Block(1, 0.1, throttled=i % 5 == 0) for i in range(40)]) == "throttled"
    assert (
        judged([Block(1, 0.1, sm_clock_share=0.7 if i % 5 == 0 else 1.0) for i in range(40)]) == "throttled"
    )


def test_warm_up_waits_until_steady_and_blocks_hide_the_timer():
    """A step of 1 µs that takes ten times as long at first, on a clock that costs 0.5 µs to read."""

    class Clock:
        resolution_s = 5e-7
        calls = 0

        def time_block(self, step, steps):
            self.calls += 1
            step_s = 1e-6 * (1 + 9 * 0.5 ** (self.calls / 3))
            return Block(steps, steps * step_s + self.resolution_s)

    found = measure(lambda: None, Clock(), Settings(min_time_s=0, max_blocks=20))
    assert found.steady
    assert found.blocks[0].steps * 1e-6 >= 0.9 * 1000 * Clock.resolution_s
    assert found.summary["latency_ms"] == pytest.approx(1e-3, rel=0.11)


def test_every_block_is_kept_and_told():
    told = []
    timer = SyntheticTimer(lambda i: Block(1, 0.01 if i % 10 else 0.5))
    found = measure(
        lambda: None, timer, FIXED_LENGTH, on_block=lambda index, block: told.append((index, block))
    )
    assert [block for _, block in told] == list(found.blocks)
    assert [index for index, _ in told] == list(range(BLOCKS))
    assert found.summary["latency_max_ms"] == pytest.approx(500.0)
    assert found.stop_reason == "block_limit"


def test_interval_has_the_exact_coverage_of_order_statistics():
    """For ten values the second smallest and second largest hold the median with 97.9 %, the third with 89.1
    %."""
    mixed = [3, 8, 1, 10, 5, 7, 2, 9, 4, 6]
    low, high = protocol.median_interval(mixed)
    assert 2 <= low <= 3
    assert low + high == pytest.approx(11)
    assert protocol.median_interval([3.0, 1.0]) == (1.0, 3.0)
    wide = protocol.median_interval(mixed, 0.99)
    assert wide[0] < low
    assert wide[1] > high


def test_counts_beside_limits():
    """Warm-up and measured steps as old profilers count them: each timed alone, none left out."""
    timer = SyntheticTimer(lambda index: Block(1, 0.01))
    settings = Settings(warmup_steps=5, measured_steps=15, max_time_s=0.001, max_blocks=3)
    measured = protocol.measure(lambda: None, timer, settings)
    assert (measured.warmup_blocks, len(measured.blocks), measured.stop_reason) == (5, 15, "counted")
    assert {block.steps for block in measured.blocks} == {1}
    assert measured.verdict == "too_short"  # 0.15 s of the half second that a trusted one takes
    longer = protocol.measure(lambda: None, SyntheticTimer(lambda index: Block(1, 0.02)), settings)
    assert longer.verdict == "stable"
