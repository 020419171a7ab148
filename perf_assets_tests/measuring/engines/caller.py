"""A process that runs one job and may be killed: engine, job name, work folder and the command as arguments."""

import sys
from pathlib import Path

from perf_assets.measuring.engines.engine import Job, run_job
from perf_assets.measuring.engines.jobs import engine_of

if __name__ == "__main__":
    run_job(engine_of(sys.argv[1]), Job(sys.argv[2], sys.argv[4:], Path(sys.argv[3]), device="alpha"))
