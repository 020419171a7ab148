import pytest


@pytest.fixture(autouse=True)
def _own_locks(tmp_path, monkeypatch):
    """Each test locks its own devices, so that suites running side by side do not wait for one another."""
    monkeypatch.setenv("PERF_ASSETS_LOCKS", str(tmp_path / "locks"))
