"""A small sweep and the launch config that names it."""

# A point in about a second: what is tested here is the way, not the number.
SWEEP = """
name = "small"
networks = ["lenet5"]
vary = "batch_size"
smallest = 2
largest = 4
devices = ["cpu"]
[options]
passes = ["latency"]
[options.protocol]
warmup_max_s = 0.2
min_time_s = {seconds}
max_time_s = {seconds}
max_blocks = 100000
"""


def run_config(project, **options) -> dict:
    config = {"sweep": str(project / "small.toml"), **options}
    return {"ops": {"device_profiles": {"config": config}}}
