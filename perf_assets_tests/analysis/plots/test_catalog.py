"""The catalogue: light to import, every query runs, every figure bears an empty store."""

import io
import subprocess
import sys

import duckdb
import pytest

from perf_assets.analysis.plots import rendering
from perf_assets.analysis.plots.catalog import PLOTS
from perf_assets.analysis.plots.style import figure
from perf_assets.store.database import create_tables
from perf_assets_tests.support import ROOT

each_plot = pytest.mark.parametrize("name", PLOTS)


@pytest.fixture(scope="module")
def nothing():
    connection = duckdb.connect()
    create_tables(connection)
    return connection


def texts(fig) -> str:
    return " ".join(text.get_text() for text in fig.texts)


@each_plot
def test_a_store_without_rows_gives_a_figure_that_says_what_is_missing(nothing, name):
    frame = PLOTS[name].frame(nothing)
    assert frame.empty
    fig = PLOTS[name].draw(frame)
    assert not fig.axes
    assert "no " in texts(fig)


@each_plot
def test_a_condition_is_part_of_the_query(nothing, name):
    column = "device_name" if name == "telemetry" else "device"
    query = PLOTS[name].query(f"{column} = 'h100' OR {column} IS NULL")
    assert f"({column} = 'h100' OR {column} IS NULL)" in query
    assert "{" not in query
    assert nothing.execute(query).fetchall() == []


def test_the_catalogue_needs_no_matplotlib():
    code = (
        "import sys; from perf_assets.analysis.plots.catalog import PLOTS; "
        "print(sorted({'matplotlib', 'pandas'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_what_a_figure_reads():
    assert PLOTS["telemetry"].reads == ("source_files", "cleaned_telemetry")
    assert PLOTS["training_time"].reads == ("source_files", "cleaned_runs", "cleaned_epochs")


def test_thumbnails_are_wide_small_and_keep_their_colours():
    from PIL import Image

    fig, axes = figure(1, 2)
    for i in range(6):
        axes[0][0].plot(range(2000), [(k * (i + 3)) % 97 for k in range(2000)], color=f"C{i}")
    axes[0][1].axhspan(0, 1, color="#009E73")
    data = rendering.thumbnail(fig)
    picture = Image.open(io.BytesIO(data))
    assert len(data) <= 50_000
    assert picture.width >= 800
    assert picture.mode == "P"
    assert (0, 0x9E, 0x73) in {color for _, color in picture.convert("RGB").getcolors()}


@pytest.mark.parametrize(("ending", "begins"), [("svg", b"<?xml"), ("png", b"\x89PNG"), ("pdf", b"%PDF")])
def test_figures_are_saved_by_their_ending(tmp_path, ending, begins):
    fig, _ = figure()
    rendering.save(fig, tmp_path / "deep" / f"a.{ending}")
    assert (tmp_path / "deep" / f"a.{ending}").read_bytes().startswith(begins)
    assert [path.name for path in (tmp_path / "deep").iterdir()] == [f"a.{ending}"]
    with pytest.raises(ValueError, match="written as"):
        rendering.save(fig, tmp_path / "a.jpg")
