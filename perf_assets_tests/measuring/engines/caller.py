"""A process that runs one job and may be killed: engine, job name, work folder and the command as arguments."""

import sys
from pathlib import Path

from perf_assets.measuring.engines.engine import Job, run_job
from perf_assets.measuring.engines.local import LocalEngine
from perf_assets.measuring.engines.site import load_site
from perf_assets.measuring.engines.slurm import SlurmEngine

if __name__ == "__main__":
    engine = LocalEngine() if sys.argv[1] == "local" else SlurmEngine(load_site())
    run_job(engine, Job(sys.argv[2], sys.argv[4:], Path(sys.argv[3]), device="alpha"))
