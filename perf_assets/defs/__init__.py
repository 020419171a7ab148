"""The Dagster side: assets, checks, sensors, schedules, jobs. The only package that imports dagster.

An asset makes one library call and returns metadata. Nothing heavy (torch, scikit-learn, pandas, matplotlib)
is imported while these modules load.
"""
