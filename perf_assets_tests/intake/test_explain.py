import pytest

from perf_assets.intake.explain import explain
from perf_assets.intake.parsing import registry
from perf_assets_tests.intake.formats.test_every_format import FORMAT_OF
from perf_assets_tests.support import source_of


def write(tmp_path, text: str | bytes, name: str = "log.txt"):
    path = tmp_path / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def test_a_file_that_is_read(tmp_path):
    text = "device,GPU use (%)\ncard0,5\ncard0,x\n"
    answer = explain(write(tmp_path, text))
    assert answer.format == "rocm_smi_csv"
    assert answer.verdict == "rocm_smi_csv reads it: 1 lines used, 1 rejected"
    assert answer.findings[0].first_rejection.line == 3
    assert "line 3" in answer.cure


def test_a_file_that_lacks_a_sign(tmp_path):
    answer = explain(write(tmp_path, "\n\ndevice,foo\ncard0\n"))
    assert (answer.format, answer.findings[0].format) == (None, "rocm_smi_csv")
    assert answer.findings[0].found == [("device", 3)]
    assert "GPU use (%)" in answer.findings[0].missed
    assert "rocm_smi_csv" in answer.cure
    assert answer.findings[0].first_rejection.line == 4
    assert len(answer.findings) == sum(name not in registry.directory_members() for name in registry.FORMATS)


def test_a_header_far_below(tmp_path):
    text = "a line of a shell\n" * 60 + "device,GPU use (%)\ncard0,5\n"
    answer = explain(write(tmp_path, text))
    assert answer.format is None
    assert "first 40 lines" in answer.cure
    assert "line 61" in answer.findings[0].missed


def test_two_claimants(tmp_path, monkeypatch):
    for name in ("livealloc", "dcgmi_dmon"):
        monkeypatch.setattr(registry.parser(name), "sniff", lambda head: True)
    answer = explain(write(tmp_path, "anything\n"))
    assert answer.format is None
    assert "livealloc and dcgmi_dmon both claim it" in answer.verdict


@pytest.mark.parametrize(
    ("content", "word"),
    [(b"", "empty"), (b"\n \n", "empty"), (b"ab\0cd" * 9, "binary"), (b"\x1f\x8b\x08broken", "gzip")],
)
def test_what_is_no_log(tmp_path, content, word):
    answer = explain(write(tmp_path, content))
    assert (answer.format, word in answer.verdict, bool(answer.cure)) == (None, True, True)


def test_nothing_like_any_format(tmp_path):
    answer = explain(write(tmp_path, "lorem ipsum\n"))
    assert "adding-a-format" in answer.cure
    assert not any(finding.found for finding in answer.findings)


def test_no_file_and_folders(tmp_path):
    with pytest.raises(FileNotFoundError):
        explain(tmp_path / "no")
    with pytest.raises(IsADirectoryError):
        explain(tmp_path)


@pytest.mark.parametrize(
    "unit", [unit for unit, name in FORMAT_OF.items() if name], ids=lambda unit: unit.name
)
def test_every_example_has_the_signs_of_its_format(unit):
    text = source_of(unit).head().text
    missing = [
        group for group in registry.parser(FORMAT_OF[unit]).SIGNS if not any(sign in text for sign in group)
    ]
    assert missing == []
    assert explain(unit).format == FORMAT_OF[unit]
