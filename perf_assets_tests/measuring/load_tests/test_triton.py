"""A study of the real Triton server: 'make test-triton' fetches it; without it nothing here runs."""

import os
from pathlib import Path

import pytest

from perf_assets.intake.pipeline import ingest
from perf_assets.measuring.load_tests.runner import run_study
from perf_assets.measuring.load_tests.study import parse_study
from perf_assets_tests.support import sql

FOLDER = Path(os.environ.get("TRITON_FOLDER", "/nowhere"))
PROGRAM = FOLDER / "ts" / "bin" / "tritonserver"
SERVICE_S = 0.02

pytestmark = pytest.mark.skipif(not PROGRAM.exists(), reason="no Triton: 'make test-triton' fetches it")

CONFIG = """name: "sleeper"
backend: "python"
max_batch_size: 8
input [ { name: "X" data_type: TYPE_FP32 dims: [ 4 ] } ]
output [ { name: "Y" data_type: TYPE_FP32 dims: [ 4 ] } ]
"""
MODEL = f"""
import time
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def execute(self, requests):
        time.sleep({SERVICE_S})
        return [
            pb_utils.InferenceResponse(
                [pb_utils.Tensor("Y", pb_utils.get_input_tensor_by_name(request, "X").as_numpy())]
            )
            for request in requests
        ]
"""


def test_instances_take_effect_and_throughput_saturates_at_them(data, tmp_path):
    folder = tmp_path / "models" / "sleeper"
    (folder / "1").mkdir(parents=True)
    (folder / "config.pbtxt").write_text(CONFIG)
    (folder / "1" / "model.py").write_text(MODEL)
    (packages,) = (FOLDER / "venv" / "lib").glob("python3*/site-packages")
    study = parse_study(
        {
            "name": "triton",
            "server": {
                "kind": "triton",
                "program": str(PROGRAM),
                "repository": str(folder.parent),
                "arguments": [f"--backend-directory={FOLDER / 'ts' / 'backends'}"],
                "environment": {
                    "PATH": f"{FOLDER / 'venv' / 'bin'}:{os.environ['PATH']}",
                    "LD_LIBRARY_PATH": str(packages / "nvidia_pytriton.libs"),
                },
            },
            "model": {"name": "sleeper", "instances": [1, 2, 3]},
            "load": {"levels": [1, 2, 3, 4, 5, 6], "requests": 60, "warmup_requests": 6},
            "repeats": {"least": 3, "most": 5},
        }
    )
    run_study(study, data.drops / "load_tests")
    ingest(data)
    rows = sql(
        data,
        "SELECT model_instances, level, throughput_per_s, mean_in_flight, queue_us, compute_infer_us, p50_us"
        " FROM cleaned_load_levels ORDER BY ALL",
    )
    print("| instances | concurrency | per s | p50 ms | queue ms | model ms |\n|---|---|---|---|---|---|")
    for instances, level, per_s, _, queue_us, infer_us, p50_us in rows:
        numbers = f"{per_s:.1f} | {p50_us / 1e3:.1f} | {queue_us / 1e3:.1f} | {infer_us / 1e3:.1f}"
        print(f"| {instances} | {level:g} | {numbers} |")
    assert len(rows) == 18
    for instances, level, per_s, mean_in_flight, *_ in rows:
        assert mean_in_flight == pytest.approx(level, rel=0.05)
        assert per_s == pytest.approx(min(level, instances) / SERVICE_S, rel=0.25)
