"""Real device logs, ingested as a whole: every expected figure comes out of SQL."""

import json
import shutil
from functools import cache

import pytest

from perf_assets.intake.pipeline import ingest
from perf_assets.store.database import open_readonly
from perf_assets.workspace.paths import DataPaths
from perf_assets_tests.support import SAMPLES, needs_samples

FOLDER = SAMPLES / "device_logs"
pytestmark = needs_samples("device_logs")
STATUS = {"dnf": "failed"}


@cache
def expected() -> dict:
    return json.loads((FOLDER / "expected.json").read_text())


def of_type(kind: str) -> list[str]:
    if not FOLDER.is_dir():
        return []
    return sorted(path for path, entry in expected().items() if entry["type"] == kind)


@pytest.fixture(scope="module")
def query(tmp_path_factory):
    """Ask the tables for one row; the drop's path is the first parameter."""
    data = DataPaths(tmp_path_factory.mktemp("samples"))
    shutil.copytree(FOLDER, data.drops)
    ingest(data)
    with open_readonly(data.database) as connection:

        def ask(sql: str, *parameters):
            row = connection.execute(sql, parameters).fetchone()
            return row[0] if row is not None and len(row) == 1 else row

        yield ask


# One file's rows of a table, whatever path of several with the same content it is asked by.
FILE = "(SELECT file_id FROM source_files WHERE path = ?)"
OK_RUN = f"(SELECT run_id FROM cleaned_runs WHERE file_id = {FILE} AND status = 'ok')"


@pytest.mark.parametrize("path", of_type("unet_run"))
class TestUnetRuns:
    def test_runs_and_lines(self, query, path):
        entry = expected()[path]
        kinds = entry["line_kinds"]
        assert query("SELECT lines FROM source_files WHERE path = ?", path) == entry["lines"]
        assert query("SELECT bytes FROM source_files WHERE path = ?", path) == entry["bytes"]
        assert query("SELECT rejected FROM source_files WHERE path = ?", path) == 0
        assert query("SELECT ignored FROM source_files WHERE path = ?", path) == sum(
            kinds.get(kind, 0) for kind in ("begin", "end", "header", "blank")
        )
        count = f"SELECT count(*) FROM cleaned_runs WHERE file_id = {FILE}"
        assert query(count, path) == entry["launches"]
        assert query(f"{count} AND status IN ('ok', 'superseded')", path) == entry["complete_runs"]
        assert query(f"{count} AND status = 'incomplete'", path) == entry["incomplete_runs"]

    def test_arguments(self, query, path):
        entry = expected()[path]
        config = json.loads(query(f"SELECT config FROM cleaned_runs WHERE run_id = {OK_RUN}", path))
        for name, value in entry["command_args"].items():
            assert config[name] == value, name
        columns = query(
            "SELECT batch_size, epochs, input_size, world_size, num_workers"
            f" FROM cleaned_runs WHERE run_id = {OK_RUN}",
            path,
        )
        names = ("batch_size", "epochs", "image_size", "world_size", "num_workers")
        assert dict(zip(names, columns, strict=True)) == entry["effective"]

    def test_last_complete_run(self, query, path):
        want = expected()[path]["last_complete_run"]
        rows = f"FROM cleaned_epochs WHERE run_id = {OK_RUN}"
        assert query(f"SELECT count(*) {rows}", path) == want["n_rows"]
        for phase in ("train", "eval", "loaders_init"):
            if f"n_{phase}" in want:
                assert query(f"SELECT count(*) {rows} AND phase = '{phase}'", path) == want[f"n_{phase}"]
        for column, phase, name in (
            ("duration_s", "train", "sum_train_time"),
            ("duration_s", "eval", "sum_eval_time"),
            ("loss", "train", "sum_train_loss"),
            ("loss", "eval", "sum_eval_loss"),
        ):
            if name in want:
                got = query(f"SELECT sum({column}) {rows} AND phase = '{phase}'", path)
                assert got == pytest.approx(want[name], abs=1e-8), name
        for name in ("loaders_init", "total_train_time", "total_eval_time"):
            got = query(f"SELECT list(duration_s ORDER BY line_number) {rows} AND phase = '{name}'", path)
            assert got == want[name]
        assert (
            query(f"SELECT list(DISTINCT epoch ORDER BY epoch) {rows} AND phase = 'train'", path)
            == want["epochs_seen"]
        )
        later = query(f"SELECT avg(duration_s) {rows} AND phase = 'train' AND epoch >= 2", path)
        assert later == pytest.approx(want["mean_train_time_epochs_2plus"], abs=1e-8)
        if "max_dsc" in want:
            assert query(f"SELECT max(dice) {rows} AND phase = 'eval'", path) == want["max_dsc"]
            nulls = query(f"SELECT count(*) {rows} AND phase = 'eval' AND dice IS NULL", path)
            assert nulls == want["n_dsc_null"]
        if want.get("best_dsc_line") is not None:
            best = query(f"SELECT accuracy_pct FROM cleaned_runs WHERE run_id = {OK_RUN}", path)
            assert best == pytest.approx(100 * want["best_dsc_line"], rel=1e-12)
        if "epoch1_train_time_max" in want:
            first = query(f"SELECT max(duration_s) {rows} AND phase = 'train' AND epoch = 1", path)
            assert first == want["epoch1_train_time_max"]


@pytest.mark.parametrize("path", of_type("hl_smi") + of_type("nvidia_smi"))
def test_poll_logs(query, path):
    entry = expected()[path]
    rows = f"FROM cleaned_telemetry WHERE file_id = {FILE}"
    sessions = f"FROM telemetry_sessions WHERE file_id = {FILE}"
    assert query("SELECT (lines, records, rejected) FROM source_files WHERE path = ?", path) == (
        entry["lines"],
        entry["n_rows"],
        0,
    )
    assert query("SELECT ignored FROM source_files WHERE path = ?", path) == entry.get(
        "header_lines", entry["lines"] - entry["n_rows"]
    )
    assert query(f"SELECT count(*) {rows}", path) == entry["n_rows"]
    assert query(f"SELECT list(DISTINCT device_id ORDER BY device_id) {rows}", path) == entry["devices"]
    for device, count in entry["rows_per_device"].items():
        assert query(f"SELECT count(*) {rows} AND device_id = ?", path, device) == count
        energy_j = query(f"SELECT sum(energy_j) {sessions} AND device_id = ?", path, device)
        assert energy_j == pytest.approx(entry["energy_j_per_device"][device], abs=6e-4)
    assert query(f"SELECT sum(energy_j) {sessions}", path) == pytest.approx(entry["energy_j_total"], abs=6e-4)
    assert query(f"SELECT count(DISTINCT session) {sessions}", path) == entry["n_sessions"]
    for name, expression in (
        ("sum_power_w", "sum(power_w)"),
        ("max_power_w", "max(power_w)"),
        ("sum_util_pct", "sum(utilization_pct)"),
        ("sum_mem_mib", "sum(memory_used_mib)"),
        ("max_mem_mib", "max(memory_used_mib)"),
    ):
        if name in entry:
            assert query(f"SELECT {expression} {rows}", path) == pytest.approx(entry[name], rel=1e-9), name
    times = query(f"SELECT min(polled_at), max(polled_at) {rows}", path)
    assert [time.isoformat(timespec="milliseconds") for time in times] == [
        entry["first_ts"],
        entry["last_ts"],
    ]
    days = query(f"SELECT list_sort(list(DISTINCT polled_at::DATE::VARCHAR)) {rows}", path)
    assert days == entry["days"]
    if "device_names" in entry:
        assert query(f"SELECT list(DISTINCT device_name) {rows}", path) == entry["device_names"]


@pytest.mark.parametrize("path", of_type("habana_mem"))
def test_memory_dumps(query, path):
    got = query(
        "SELECT map_from_entries(list((counter, value))) FROM cleaned_counters"
        f" WHERE source = 'livealloc' AND file_id = {FILE}",
        path,
    )
    want = expected()[path]["values"]
    assert set(got) == set(want)
    assert all(got[key] == value for key, value in want.items() if value not in ("", None))


@pytest.mark.parametrize("path", of_type("legacy_experiment"))
def test_legacy_experiments(query, path):
    entry = expected()[path]
    rows = f"FROM cleaned_runs WHERE file_id = {FILE}"
    assert query(f"SELECT count(*) {rows}", path) == entry["n_rows"]
    assert query(f"SELECT sum(accuracy_pct) {rows}", path) == pytest.approx(entry["sum_acc"], abs=1e-8)
    ratios = query(f"SELECT list(pruning_ratio ORDER BY pruning_ratio) {rows}", path)
    assert ratios == entry["prune_ratios"]
    raw = query(f"SELECT list(DISTINCT config->>'prune_config') {rows}", path)
    assert raw == entry["prune_config_raw"]
    for counter, name in (("memory_consumption", "memory_consumption_distinct"), ("flops", "flops_distinct")):
        values = query(
            f"SELECT list(DISTINCT value) FROM cleaned_counters WHERE counter = ? AND file_id = {FILE}",
            counter,
            path,
        )
        assert values == entry[name]


@pytest.mark.parametrize("path", of_type("prune_profile"))
def test_prune_profiles(query, path):
    entry = expected()[path]
    names = [
        "model",
        "prune_method",
        "prune_ratio",
        "batch_size",
        "num_workers",
        "platform",
        "duration_s",
        "status",
        "acc",
        "max_gpu_mem_mib",
        "mean_cpu_mhz_corrected",
        "chipset",
        "arch",
        "l1",
        "l2",
    ]
    row = query(
        "SELECT model, pruning_method, pruning_ratio, batch_size, num_workers, host, duration_s, status,"
        " accuracy_pct, memory_used_mib, (config->>'mean_cpu_mhz')::DOUBLE, config->>'chipset_name',"
        " config->>'arch', nullif(config->>'l1_size', ''), nullif(config->>'l2_size', '')"
        f" FROM cleaned_runs WHERE file_id = {FILE}",
        path,
    )
    for name, got in zip(names, row, strict=True):
        if name in entry:
            want = STATUS.get(entry[name], entry[name]) if name == "status" else entry[name] or None
            want = entry[name] if isinstance(entry[name], float) else want
            assert got == (pytest.approx(want, rel=1e-6) if isinstance(want, float) else want), name
    flagged = query(
        f"SELECT list_contains(quality, 'running_sums') FROM cleaned_runs WHERE file_id = {FILE}", path
    )
    assert flagged == entry["scalars_are_running_sums"]
    samples = query(
        "SELECT count(*), min(sampled_at), max(sampled_at), avg(metrics['vm_percent']), "
        "max(metrics['vm_total']),"
        " max(metrics['gpu_GPU_Total_Memory_1']), max(metrics['gpu_GPU_Load_1']),"
        " max(metrics['cpu_psi_total']) - min(metrics['cpu_psi_total'])"
        f" FROM cleaned_samples WHERE file_id = {FILE}",
        path,
    )
    assert samples[0] == entry["n_samples"]
    assert samples[1].isoformat(timespec="microseconds") == entry["first_ts"]
    assert samples[2].isoformat(timespec="microseconds") == entry["last_ts"]
    assert samples[3] == pytest.approx(entry["mean_vm_percent"], rel=1e-7)
    assert samples[4] == entry["vm_total"]
    assert (samples[5] is not None) == entry["has_gpu"]
    if entry["has_gpu"]:
        assert (samples[5], samples[6]) == (entry["gpu_total_mib"], entry["max_gpu_load"])
    if entry.get("cpu_psi_total_delta") is not None:
        assert samples[7] == entry["cpu_psi_total_delta"]


@pytest.mark.parametrize("path", [path for path in of_type("prune_profile") if "perf" in expected()[path]])
def test_prune_profile_counters(query, path):
    perf, nvprof = expected()[path]["perf"], expected()[path]["nvprof"]
    events = query(
        "SELECT map_from_entries(list((replace(counter, '-', '_'), value))) FROM cleaned_counters"
        f" WHERE source = 'perf' AND file_id = {FILE}",
        path,
    )
    assert len(events) == perf["n_events"]
    assert all(perf[name] == value for name, value in events.items())
    rows = f"FROM cleaned_counters WHERE source = 'nvprof' AND file_id = {FILE}"
    assert query(f"SELECT count(*), count(DISTINCT scope), count(DISTINCT counter) {rows}", path) == (
        nvprof["n_rows"],
        nvprof["n_kernels"],
        nvprof["n_metrics"],
    )
    assert query(f"SELECT device_raw FROM cleaned_runs WHERE file_id = {FILE}", path) == nvprof["device"]
    units = query(
        "SELECT map_from_entries(list((unit, n))) FROM"
        f" (SELECT coalesce(unit, '') AS unit, count(*) AS n {rows} GROUP BY 1)",
        path,
    )
    assert units == nvprof["units_of_avg"]
    rate = query(f"SELECT sum(value) {rows} AND counter = 'dram_read_throughput'", path)
    assert rate == pytest.approx(nvprof["sum_dram_read_throughput_avg_Bps"], rel=1e-9)
    executed = query(f"SELECT sum(value) {rows} AND counter = 'inst_executed'", path)
    assert executed == pytest.approx(nvprof["sum_inst_executed_avg"], abs=1)
    invocations = query(f"SELECT sum(n) FROM (SELECT max(invocations) AS n {rows} GROUP BY scope)", path)
    assert invocations == nvprof["sum_invocations"]
    flops = query(f"SELECT sum(value * invocations) {rows} AND counter = 'flop_count_sp'", path)
    assert flops == pytest.approx(nvprof["total_flop_sp"], rel=1e-9)


def test_totals(query):
    want = json.loads((FOLDER / "expected_totals.json").read_text())
    for status, count in want["prune"]["status"].items():
        got = query(
            "SELECT count(*) FROM cleaned_runs WHERE tool = 'pruning_profiler' AND status = ?",
            STATUS.get(status, status),
        )
        assert got == count, status
    assert query("SELECT count(*) FROM cleaned_samples") == want["prune"]["samples"]
    for source in ("nvprof", "perf"):
        rows = query("SELECT count(*) FROM cleaned_counters WHERE source = ?", source)
        assert rows == want["prune"][f"{source}_rows"]
    accuracy = query("SELECT sum(accuracy_pct) FROM cleaned_runs WHERE tool = 'pruning_profiler'")
    assert accuracy == pytest.approx(want["prune"]["sum_acc"], abs=1e-5)
    for kind in ("hl_smi", "nvidia_smi"):
        rows, power_w = query(
            "SELECT count(*), sum(power_w) FROM cleaned_telemetry JOIN source_files USING (file_id)"
            " WHERE format = ? AND status = 'ingested'",
            kind,
        )
        assert rows == want[kind]["rows"]
        assert power_w == pytest.approx(want[kind]["sum_power_w"], abs=1e-6)
        energy_j = query(
            "SELECT sum(energy_j) FROM telemetry_sessions JOIN source_files USING (file_id)"
            " WHERE format = ? AND status = 'ingested'",
            kind,
        )
        assert energy_j == pytest.approx(want[kind]["energy_j"], abs=1e-2)
    ok = "FROM cleaned_epochs JOIN cleaned_runs USING (run_id) WHERE status = 'ok'"
    assert query(f"SELECT count(*) {ok}") == want["unet"]["rows_last_complete_run"]
    assert query(f"SELECT count(*) {ok} AND phase = 'train'") == want["unet"]["train_rows"]
    assert query(f"SELECT count(*) {ok} AND phase = 'eval'") == want["unet"]["eval_rows"]
    complete = query(
        "SELECT count(*) FROM cleaned_runs WHERE tool = 'unet' AND status IN ('ok', 'superseded')"
    )
    assert complete == want["unet"]["complete_runs"]


def test_out_of_memory_by_platform_model_and_batch(query):
    want = json.loads((FOLDER / "expected_totals.json").read_text())["final_oom_by_platform_model_batch"]
    for name, counts in want.items():
        platform, model, batch = name.split("/")
        got = query(
            "SELECT [count(*) FILTER (runs.status = 'oom'), count(*)] FROM cleaned_runs AS runs"
            " JOIN source_files USING (file_id) WHERE contains(path, '/final/') AND host = ? AND model = ?"
            " AND batch_size = ?",
            platform,
            model,
            int(batch),
        )
        assert got == counts, name
