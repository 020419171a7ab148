"""Fitted predictors on disk, loading them, and questions of capacity."""
