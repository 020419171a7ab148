"""Run a command somewhere: as a process of this machine, or as a job of a Slurm cluster.

Needs neither Dagster nor a database, here or on the node; only a folder that both see.
"""
