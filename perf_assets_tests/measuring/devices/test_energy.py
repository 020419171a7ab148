"""Energy from bad meters: lag, held and repeated values, gaps, wrap and reset; and the NVML path on a
fake."""

import time
import types

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perf_assets.measuring.devices import energy
from perf_assets.measuring.devices.energy import account
from perf_assets.measuring.devices.nvml import NvmlReader
from perf_assets.measuring.devices.power import PowerReading, PowerUnavailableError
from perf_assets.measuring.devices.rapl import RaplReader
from perf_assets_tests.measuring.profiling.synthetic import PowerTrace

IDLE_S, WORK_S = 2.0, 8.0


def polled(trace, rng, *, gap_s=0.0, duplicates=False):
    """Polls every 50 ms with jitter from idle to idle."""
    times_s = np.arange(0.0, IDLE_S + WORK_S + energy.SETTLE_S + 0.05, 0.05)
    times_s[1:-1] += rng.uniform(-0.02, 0.02, len(times_s) - 2)
    if gap_s:
        hole = IDLE_S + rng.uniform(1.5, WORK_S - 1.5 - gap_s)
        times_s = times_s[(times_s < hole) | (times_s > hole + gap_s)]
    readings = [
        PowerReading(t, trace.shown_power_w(t), trace.shown_counter_j(t)) for t in map(float, times_s)
    ]
    if duplicates:
        readings += [readings[i] for i in rng.integers(0, len(readings), 60)]
        rng.shuffle(readings)
    return readings


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    averaging_s=st.sampled_from([0.025, 0.1, 1.0]),
    update_s=st.sampled_from([0.02, 0.1]),
    gap_s=st.sampled_from([0.0, 0.4, 0.8]),
    duplicates=st.booleans(),
    wraps=st.booleans(),
)
def test_energy_is_within_one_percent(seed, averaging_s, update_s, gap_s, duplicates, wraps):
    rng = np.random.default_rng(seed)
    trace = PowerTrace(
        IDLE_S,
        IDLE_S + WORK_S,
        averaging_s=averaging_s,
        update_s=update_s,
        range_j=4000.0 if wraps else None,
        counter_start_j=rng.uniform(0, 4000),
        phase_s=rng.uniform(0, update_s),
    )
    readings = polled(trace, rng, gap_s=gap_s, duplicates=duplicates)
    end_s = IDLE_S + WORK_S + energy.SETTLE_S
    found = account(readings, (0.0, IDLE_S), (IDLE_S, IDLE_S + WORK_S), end_s, 100, 4000.0 if wraps else None)
    true_j = trace.energy_j(IDLE_S, IDLE_S + WORK_S)
    assert found["counter_energy_j"] == pytest.approx(true_j, rel=0.01)
    # A meter that does not average knows nothing of the swings that a hole in its polls hides.
    blind = gap_s > 0 and averaging_s < 1
    assert found["trapezoid_energy_j"] == pytest.approx(true_j, rel=0.02 if blind else 0.01)
    assert found["energy_j"] == pytest.approx(true_j / 100, rel=0.01)
    assert found["net_energy_j"] == pytest.approx((true_j - 60.0 * WORK_S) / 100, rel=0.015)
    assert found["idle_power_w"] == pytest.approx(60.0, rel=0.02)
    assert found["quality"] == []


def readings(*rows):
    return [PowerReading(at_s, power_w, counter_j) for at_s, power_w, counter_j in rows]


def test_a_reset_counter_is_not_energy():
    rows = readings((0, 50.0, 900.0), (5, 50.0, 950.0), (6, 50.0, 3.0), (10, 50.0, 200.0))
    assert energy.counter_energy_j(rows, 0, 10) is None
    assert energy.counter_energy_j(rows, 0, 10, counter_range_j=1000.0) == pytest.approx(300.0)
    found = account(rows, (0, 1), (1, 9), 10, 1)
    assert found["energy_source"] == "trapezoid"
    assert found["counter_energy_j"] is None


def test_nothing_read_is_null_and_never_zero():
    stood_still = readings(*((t, None, 5000.0) for t in range(20)))
    for rows in ([], stood_still):
        found = account(rows, (0, 2), (2, 10), 12, 10)
        assert found["energy_j"] is found["mean_power_w"] is found["energy_source"] is None
        assert found["energy_reason"] == "the device's counter and power stood still or are missing"


def test_short_windows_and_disagreement_are_said():
    steady = readings(*((t, 100.0, 100.0 * t) for t in range(20)))
    assert "less than 5 s" in account(steady, (0, 2), (2, 4), 6, 10)["energy_reason"]
    assert "polling_gap" in account(steady[::5], (0, 2), (2, 10), 12, 10)["quality"]
    assert account(steady, (0, 2), (2, 10), 12, 8)["energy_j"] == pytest.approx(100.0)
    wrong = readings(*((t, 150.0, 100.0 * t) for t in range(20)))
    assert "energy_suspect" in account(wrong, (0, 2), (2, 10), 12, 10)["quality"]


class FakeNvml(types.ModuleType):
    """Stands in for the pynvml module of nvidia-ml-py: one GPU whose load is switched by the work itself."""

    NVML_CLOCK_SM = 1
    NVML_TEMPERATURE_GPU = 0

    class NVMLError(Exception):
        pass

    def __init__(self, now_s, *, has_counter=True):
        super().__init__("pynvml")
        self._now_s, self._has_counter = now_s, has_counter
        self._used_j, self._since_s, self.power_w = 0.0, now_s(), 70.0

    def work(self, busy):
        now_s = self._now_s()
        self._used_j += self.power_w * (now_s - self._since_s)
        self._since_s, self.power_w = now_s, 400.0 if busy else 70.0

    def nvmlInit(self):  # noqa: N802
        pass

    def nvmlDeviceGetHandleByUUID(self, uuid):  # noqa: N802
        if uuid != "GPU-1234":
            raise self.NVMLError("Not Found")
        return uuid

    def nvmlDeviceGetMaxClockInfo(self, device, kind):  # noqa: N802
        return 1980

    def nvmlDeviceGetClockInfo(self, device, kind):  # noqa: N802
        return 1700

    def nvmlDeviceGetTemperature(self, device, kind):  # noqa: N802
        raise self.NVMLError("Not Supported")

    def nvmlDeviceGetPowerUsage(self, device):  # noqa: N802
        return int(self.power_w * 1000)

    def nvmlDeviceGetTotalEnergyConsumption(self, device):  # noqa: N802
        if not self._has_counter:
            raise self.NVMLError("Not Supported")
        return int((self._used_j + self.power_w * (self._now_s() - self._since_s)) * 1000)

    def nvmlDeviceGetCurrentClocksThrottleReasons(self, device):  # noqa: N802
        return 0x4 | 0x1


@pytest.mark.parametrize("has_counter", [True, False])
def test_the_whole_path_on_a_fake_gpu(has_counter):
    """Twenty times faster than real time: 400 W while working, 70 W while not."""

    def now_s():
        return time.perf_counter() * 20

    def sleep(duration_s):
        time.sleep(duration_s / 20)

    nvml = FakeNvml(now_s, has_counter=has_counter)
    reader = NvmlReader("1234", nvml)

    def step():
        nvml.work(True)
        sleep(0.5)
        nvml.work(False)

    polls = []
    found = energy.measure_energy(
        step, reader, now_s=now_s, sleep=sleep, on_reading=polls.append, poll_s=0.001
    )
    assert found["energy_source"] == ("counter" if has_counter else "trapezoid")
    assert (found["counter_energy_j"] is None) == (not has_counter)
    assert found["idle_power_w"] == pytest.approx(70.0, rel=0.05)
    # Each step is at least half a second at 400 W; how much longer is the scheduler's business.
    assert found["energy_j"] * found["steps"] == pytest.approx(400.0 * found["window_s"], rel=0.1)
    assert polls[0].temperature_c is None
    assert polls[0].throttle_reasons == ("sw_power_cap",)
    assert polls[0].sm_clock_mhz == 1700


def test_no_gpu_and_no_rapl_are_reasons(tmp_path):
    with pytest.raises(PowerUnavailableError, match="Not Found"):
        NvmlReader("nobody", FakeNvml(time.perf_counter))
    with pytest.raises(PowerUnavailableError, match="has no intel-rapl package"):
        RaplReader(tmp_path)


def test_rapl_packages_wrap_one_by_one(tmp_path):
    for index, start_uj in enumerate((900_000, 100_000)):
        zone = tmp_path / f"intel-rapl:{index}"
        zone.mkdir()
        (zone / "max_energy_range_uj").write_text("999999\n")
        (zone / "energy_uj").write_text(f"{start_uj}\n")
    (tmp_path / "intel-rapl:0:0").mkdir()  # a part of package 0, which must not count twice
    reader = RaplReader(tmp_path)
    assert reader.read(0.0).counter_j == 0
    (tmp_path / "intel-rapl:0" / "energy_uj").write_text("200000\n")
    (tmp_path / "intel-rapl:1" / "energy_uj").write_text("600000\n")
    assert reader.read(1.0).counter_j == pytest.approx(0.3 + 0.5)
