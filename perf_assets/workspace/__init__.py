"""The floor that everything stands on: where things lie, settings, locks, small statistics. Imports nothing
of ours."""
