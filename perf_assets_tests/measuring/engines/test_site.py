"""cluster.toml: what it sets, and errors that name the key."""

import pytest

from perf_assets.measuring.engines.engine import EngineError
from perf_assets.measuring.engines.site import load_site
from perf_assets_tests.support import ROOT


def test_defaults_and_setup(tmp_path):
    path = tmp_path / "cluster.toml"
    path.write_text(
        '[defaults]\nsetup = ["module load a"]\nmemory_gib = 8\n[devices.alpha]\nsetup = ["module load '
        'b"]\n'
        'constraint = "gpualpha"\n'
    )
    nodes = load_site(path).nodes_of("alpha")
    assert nodes.setup == ("module load a", "module load b")
    assert (nodes.constraint, nodes.memory_gib, nodes.gres) == ("gpualpha", 8, "gpu:1")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[devices.alpha]\nfeature = 'x'\n", "unknown key 'devices.alpha.feature'"),
        ("[devices", "cluster.toml"),
    ],
)
def test_errors_name_file_and_key(tmp_path, text, message):
    path = tmp_path / "cluster.toml"
    path.write_text(text)
    with pytest.raises(EngineError, match=message):
        load_site(path)


def test_missing_file_names_the_example(tmp_path):
    with pytest.raises(EngineError, match=r"cluster\.example\.toml"):
        load_site(tmp_path / "cluster.toml")


def test_shipped_example_is_valid():
    site = load_site(ROOT / "cluster.example.toml")
    assert site.nodes_of("l40s").constraint == "gpul40s"
