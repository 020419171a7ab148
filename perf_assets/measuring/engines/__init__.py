"""Run a command somewhere: as a process of this machine, as a job of a Slurm cluster, or on a board by ssh.

Needs neither Dagster nor a database, here or there; with Slurm only a folder that both see.
"""
