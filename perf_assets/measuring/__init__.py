"""What runs on the machine that is measured: networks, devices, recording, profiling, engines, sweeps. No
Dagster, no store."""
