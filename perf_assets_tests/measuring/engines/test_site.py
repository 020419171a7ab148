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


BOARD = '[devices.alpha]\nhost = "board-1"\nfolder = "/srv/jobs"\n'


def test_boards_take_nothing_from_the_defaults_and_are_no_nodes(tmp_path):
    path = tmp_path / "cluster.toml"
    path.write_text(
        f'[defaults]\npartition = "gpu"\nsetup = ["module load a"]\n{BOARD}[devices.beta]\n[devices.tx2]\n'
        'host = "tx2"\nfolder = "~/jobs"\n'
    )
    site = load_site(path)
    assert site.board_of("alpha").setup == ()
    assert list(site.boards) == ["alpha", "tx2"]
    with pytest.raises(EngineError, match=r"\[devices.alpha\] has a host.*executor 'ssh'"):
        site.nodes_of("alpha")
    with pytest.raises(EngineError, match=r"\[devices.beta\] has no host: add host and folder"):
        site.board_of("beta")
    with pytest.raises(EngineError, match=r"\[devices.alpha\] torch_device: .* add torch_device"):
        site.torch_device("alpha")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[devices.alpha]\nfeature = 'x'\n", "unknown key 'devices.alpha.feature'"),
        ("[devices", "cluster.toml"),
        ("[devices]\n", "no table"),
        (
            f"{BOARD}constraint = 'x'\n",
            "has a host, which ssh reaches, and constraint.*leave one of them out",
        ),
        ("[devices.alpha]\nfolder = '/srv'\n", "has folder and no host: add the host"),
        ("[defaults]\nhost = 'x'\n[devices.alpha]\n", "unknown key 'defaults.host'"),
        (BOARD.replace("/srv/jobs", "jobs"), "'devices.alpha.folder'"),
        (BOARD.replace("board-1", "-oProxyCommand=x"), "'devices.alpha.host'"),
        (BOARD.replace("board-1", "a b"), "'devices.alpha.host'"),
        (BOARD + 'python = "-c"\n', "'devices.alpha.python'"),
        (BOARD + 'ssh_options = ["-F /x"]\n', "'devices.alpha.ssh_options.0'"),
        (BOARD + 'fodler = "/x"\n', "did you mean 'folder'"),
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
