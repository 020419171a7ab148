"""U-Net run logs: which rows belong to which run, in every kind of disorder."""

import pytest

from perf_assets_tests.support import read_text

HEADER = "type,epoch,time,loss,dsc\n"


def command(name="run", world=1, script="unet.py", **arguments) -> str:
    words = [script, "--hpu", "--run-name", name, "--epochs", "2"]
    if world > 1:
        words += ["--distributed", "--world-size", str(world)]
    for key, value in arguments.items():
        words += [f"--{key.replace('_', '-')}", str(value)]
    return f"Command: {words!r}\n"


def rows(base: float = 10.0, ranks: int = 1, epochs: int = 2) -> list[str]:
    lines = ["loaders_init,,5.5,,\n"]
    for epoch in range(1, epochs + 1):
        lines += [f"train,{epoch},{base + rank / 10},0.9,\n" for rank in range(ranks)]
        lines.append(f"eval,{epoch},{base / 10},0.95, 0.{epoch}\n")
    return [
        *lines,
        f"total_train_time,{epochs},{base * epochs},,\n",
        f"total_eval_time,{epochs},{base / 5},,\n",
    ]


def block(base: float = 10.0, **options) -> str:
    return command(**options) + "Begin CSV\n" + HEADER + "".join(rows(base)) + "End CSV\n"


def runs(reading):
    """(status, number of rows, first train time) of every run."""
    found = []
    for run in reading.rows("cleaned_runs"):
        own = [row for row in reading.rows("cleaned_epochs") if row["run_id"] == run["run_id"]]
        train = [row["duration_s"] for row in own if row["phase"] == "train"]
        found.append((run["status"], len(own), train[0] if train else None))
    return found


def reasons(reading):
    return [(row["line_number"], row["reason"]) for row in reading.rows("rejected_lines")]


def test_one_run(tmp_path):
    reading = read_text(tmp_path, block(batch_size=128) + "\nBest validation mean DSC: 0.31\n")
    run = reading.run
    assert (run["status"], run["batch_size"], run["num_workers"], run["input_size"]) == ("ok", 128, 1, 32)
    assert (run["accuracy_pct"], run["duration_s"], run["device_raw"]) == (31.0, 20.0, "hpu")
    assert run["quality"] == []
    assert reading.records.rejected == 0


def test_false_start_before_and_after(tmp_path):
    start = command() + "Begin CSV\n" + HEADER
    reading = read_text(tmp_path, start + block(10) + start + "loaders_init,,7.0,,\n")
    assert runs(reading) == [("incomplete", 0, None), ("ok", 7, 10.0), ("incomplete", 1, None)]


def test_several_complete_runs(tmp_path):
    reading = read_text(tmp_path, block(10) + block(11) + block(12))
    assert [run[0] for run in runs(reading)] == ["superseded", "superseded", "ok"]
    assert runs(reading)[2] == ("ok", 7, 12.0)


def test_ranks_in_any_order(tmp_path):
    one = command(world=3)
    log = one + "Begin CSV\n" + one + HEADER + "Begin CSV\n" + HEADER + one + "Begin CSV\n" + HEADER
    log += "".join(rows(10, ranks=3)) + "End CSV\n"
    reading = read_text(tmp_path, log)
    assert runs(reading) == [("ok", 11, 10.0)]
    assert reading.run["num_workers"] == 3
    assert reading.run["quality"] == []


def test_rank_that_never_wrote_is_flagged(tmp_path):
    reading = read_text(
        tmp_path, (command(world=2) + "Begin CSV\n" + HEADER) * 2 + "".join(rows(10)) + "End CSV\n"
    )
    assert runs(reading) == [("ok", 7, 10.0)]
    assert reading.run["quality"] == ["ranks_missing"]


def test_two_runs_interleaved_line_by_line_are_separated(tmp_path):
    first, second = rows(10, epochs=4), rows(20, epochs=4)
    start = command() + "Begin CSV\n" + HEADER
    # The second starts when the first is at its second epoch, and ends after it.
    log = start + "".join(first[:4]) + start
    ahead = first[4:]
    for i, line in enumerate(second):
        log += line + (ahead[i] if i < len(ahead) else "End CSV\n" if i == len(ahead) else "")
    log += "End CSV\n"
    reading = read_text(tmp_path, log)
    assert runs(reading) == [("superseded", 11, 10.0), ("ok", 11, 20.0)]
    for row in reading.rows("cleaned_epochs"):
        if row["phase"] == "train":
            assert row["duration_s"] == (10.0 if row["run_id"].endswith("0") else 20.0)
    assert all("interleaved" in run["quality"] for run in reading.rows("cleaned_runs"))


def test_rank_column(tmp_path):
    log = (
        command(script="unet_local.py", world=2) * 2
        + "Begin CSV\n" * 2
        + "type,card,epoch,time,loss,dsc\n" * 2
    )
    log += "loaders_init,,,5.0,,\ntrain,1,1,10.5,0.9,\ntrain,0,1,10.0,0.9,\neval,0,1,1.0,0.9, nan\n"
    log += "total_train_time,,1,10.5,,\ntotal_eval_time,,1,1.0,,\nEnd CSV\n"
    reading = read_text(tmp_path, log)
    epochs = reading.rows("cleaned_epochs")
    assert [row["rank"] for row in epochs if row["phase"] == "train"] == [1, 0]
    assert [row["dice"] for row in epochs if row["phase"] == "eval"] == [None]
    assert reading.run["accuracy_pct"] is None


def test_prose(tmp_path):
    log = command() + "Image read time: 17.5\nInitializing loaders time: 60.0\n"
    for epoch in (1, 2):
        log += f"epoch {epoch} train time: {40 + epoch}.5\nepoch {epoch} eval time: 0.5\n"
    log += "total_train_time = 84.0 for 2 epochs\ntotal_eval_time = 84.0 for 2 epochs\n\n"
    log += "Best validation mean DSC: 0.65\n"
    reading = read_text(tmp_path, log + command() + "Initializing loaders time: 61.0\n")
    assert runs(reading) == [("ok", 7, 41.5), ("incomplete", 1, None)]
    first = reading.rows("cleaned_runs")[0]
    assert (first["accuracy_pct"], first["quality"]) == (65.0, ["eval_total_repeats_train_total"])
    (step,) = reading.rows("cleaned_counters")
    assert (step["counter"], step["value"], step["unit"]) == ("image_read_time", 17.5, "s")


def test_without_a_command(tmp_path):
    reading = read_text(tmp_path, "Begin CSV\n" + HEADER + "".join(rows()) + "End CSV\n", "mystery.txt")
    assert runs(reading) == [("ok", 7, 10.0)]
    assert (reading.run["name"], reading.run["batch_size"], reading.run["device_raw"]) == (
        "mystery",
        None,
        None,
    )


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("train,1,7", "wrong_columns"),
        ("train,1,7,0.9,,,", "wrong_columns"),
        ("train,one,7.0,0.9,", "bad_cell"),
        ("train,,7.0,0.9,", "bad_cell"),
        ("train,1,,0.9,", "bad_cell"),
        ("train,1,7.0,zero,", "bad_cell"),
        ("Command: ['unet.py', '--ep", "bad_command"),
        ("Command: __import__('os').system('true')", "bad_command"),
        ("Command: {'a': 1}", "bad_command"),
        ("Best validation mean DSC: high", "bad_cell"),
        ("slurmstepd: error: *** JOB CANCELLED ***", "unrecognised"),
    ],
)
def test_bad_lines_are_rejected_with_a_reason(tmp_path, line, reason):
    log = command() + "Begin CSV\n" + HEADER + line + "\n" + "".join(rows()) + "End CSV\n"
    reading = read_text(tmp_path, log)
    assert reasons(reading) == [(4, reason)]
    if "Command" not in line:
        assert runs(reading) == [("ok", 7, 10.0)]


def test_rows_outside_any_run_are_rejected(tmp_path):
    reading = read_text(tmp_path, block() + "train,3,9.0,0.9,\nEnd CSV\n")
    assert reasons(reading) == [(12, "outside_run"), (13, "end_without_begin")]


def test_carriage_returns_and_missing_last_end(tmp_path):
    log = (block(10) + block(11).removesuffix("End CSV\n")).replace("\n", "\r\n")
    assert [run[0] for run in runs(read_text(tmp_path, log))] == ["ok", "incomplete"]
