"""Logs of runs are joined as their trainings went, and drawn so that what matters is seen."""

import json
import math

import pytest
from matplotlib.figure import Figure

from xcit_dense.cli import curves
from xcit_dense.errors import UserError
from xcit_dense.look.curves import draw_curves, read_run


def training(first, last, loss, **more):
    return [{"loss": loss, "lr": 1e-4, "iter": at, **more} for at in range(first, last + 1, 10)]


def evaluation(value):
    return [{"coco/bbox_mAP": value, "coco/bbox_mAP_l": -1.0, "time": 0.4, "step": 1}]


def write_log(work_dir, lines, stamp="20240101_000000", ending=""):
    path = work_dir / stamp / "vis_data" / "scalars.json"
    path.parent.mkdir(parents=True)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines) + ending)
    return path


STOPPED = training(10, 30, 2.0) + evaluation(0.1) + training(40, 50, 2.0) + evaluation(0.2)


@pytest.mark.parametrize(
    ("starts", "losses", "metrics"),
    [
        pytest.param(
            [STOPPED], {at: 2 for at in range(10, 51, 10)}, {30: 0.1, 50: 0.2}, id="one start"
        ),
        pytest.param(
            [STOPPED, training(40, 60, 1.0) + evaluation(0.3)],
            {10: 2, 20: 2, 30: 2, 40: 1, 50: 1, 60: 1}, {30: 0.1, 60: 0.3},
            id="what was done again counts once",
        ),
        pytest.param(
            [training(10, 30, 2.0), evaluation(0.2) + training(40, 40, 1.0)],
            {10: 2, 20: 2, 30: 2, 40: 1}, {30: 0.2},
            id="an evaluation before training stands where the run was resumed",
        ),
        pytest.param(
            [STOPPED, training(10, 20, 1.0)], {10: 1, 20: 1}, {},
            id="a run that began anew hides those before",
        ),
        pytest.param(
            [evaluation(0.1), evaluation(0.2), []], {}, {0: 0.2},
            id="the newest evaluation counts where nothing trained",
        ),
    ],
)  # fmt: skip
def test_starts_of_a_run_are_joined(tmp_path, starts, losses, metrics):
    for day, lines in enumerate(starts):
        write_log(tmp_path, lines, f"2024010{day}_000000")
    run = read_run(tmp_path)
    assert run.training.get("loss", {}) == losses
    assert run.training.get("lr", {}).keys() == losses.keys()
    assert run.metrics.get("coco/bbox_mAP", {}) == metrics
    assert "time" not in run.metrics
    assert run.last_evaluation().get("coco/bbox_mAP") == (
        metrics[max(metrics)] if metrics else None
    )


@pytest.mark.parametrize("below", ["", "vis_data/scalars.json"])
def test_a_single_start_can_be_named(tmp_path, below):
    for day in (1, 2, 3):
        write_log(tmp_path, evaluation(day), f"2024010{day}_000000")
    assert read_run(tmp_path / "20240102_000000" / below).last_evaluation()["coco/bbox_mAP"] == 2


@pytest.mark.parametrize("ending", [b'{"loss": 1.0, "it', b"12", b"garbage\n", b'{"name": "\xc3'])
def test_a_damaged_line_is_left_out_with_a_warning(tmp_path, ending):
    path = write_log(tmp_path, STOPPED)
    path.write_bytes(path.read_bytes() + ending)
    with pytest.warns(UserWarning, match=r"scalars\.json: .*line 8.*damaged"):
        assert len(read_run(path).training["loss"]) == 5


def test_a_log_of_mm_2_is_refused(tmp_path):
    path = write_log(tmp_path, [{"seed": 1}, {"mode": "train", "loss": 1.0, "iter": 5}])
    with pytest.raises(UserError, match=r"scalars\.json.*mm 2"):
        read_run(path)


def test_a_run_without_a_log_says_what_was_looked_for(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere.*scalars\.json.*--work-dir"):
        read_run(tmp_path / "nowhere")
    with pytest.raises(UserError, match="nothing was logged yet"):
        read_run(write_log(tmp_path, []))


@pytest.fixture
def drawn(monkeypatch):
    """The lines of each panel by their labels, as they are saved."""
    panels = {}

    def look(figure, file, **options):
        figure.draw_without_rendering()
        for axes in (axes for axes in figure.axes if axes.get_title()):
            panels[axes.get_title()] = {line.get_label(): line for line in axes.lines}
            assert axes.get_window_extent().height > 200
            if legend := axes.get_legend():
                assert legend.get_window_extent().y1 < axes.get_window_extent().y0
                assert legend.get_window_extent().y0 > -5

    monkeypatch.setattr(Figure, "savefig", look)
    return panels


def test_the_main_metrics_and_the_largest_losses_are_drawn(tmp_path, drawn):
    terms = {f"d{number}.loss_cls": float(number) for number in range(30)}
    metrics = {
        f"coco/{kind}_mAP{end}": 0.1 for kind in ("bbox", "segm") for end in ("", "_50", "_s")
    }
    run = read_run(write_log(tmp_path, [*training(10, 50, 435.0, **terms), {**metrics, "step": 1}]))
    draw_curves({"a": run}, tmp_path / "curves.png")
    assert drawn["evaluation"].keys() == {"coco/bbox_mAP", "coco/segm_mAP"}
    losses = drawn["training"]
    assert losses.keys() == {"loss"} | {f"d{number}.loss_cls" for number in range(21, 30)}


def test_what_is_named_gets_a_panel_each_with_the_runs_that_have_it(tmp_path, drawn):
    first = read_run(write_log(tmp_path / "a", STOPPED))
    second = read_run(write_log(tmp_path / "b", training(10, 20, 1.0, acc=5)))
    names = ["loss", "lr", "acc", "coco/bbox_mAP_l"]
    draw_curves({"a": first, "b": second}, tmp_path / "c.png", names)
    assert [*drawn] == names
    assert drawn["loss"].keys() == {"a", "b"}
    assert drawn["loss"]["a"].get_color() != drawn["loss"]["b"].get_color()
    assert drawn["acc"].keys() == {"b"}
    assert drawn["acc"]["b"].get_color() == drawn["loss"]["b"].get_color()
    drawn.clear()
    draw_curves({"a": first, "b": second}, tmp_path / "c.png")
    assert [*drawn] == ["loss", "coco/bbox_mAP"]


@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_the_picture_lies_beside_the_log_also_of_losses_that_are_not_finite(tmp_path, loss):
    write_log(tmp_path, training(10, 50, loss))
    curves.main([str(tmp_path)])
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_the_command_prints_the_last_evaluation_of_each_run(tmp_path, capsys):
    runs = [write_log(tmp_path / name, STOPPED) for name in "ab"]
    runs.append(write_log(tmp_path / "c", training(10, 20, 1.0)))
    curves.main([*map(str, runs), "-o", str(tmp_path / "new" / "all.png")])
    assert (tmp_path / "new" / "all.png").is_file()
    *lines, _ = capsys.readouterr().out.splitlines()
    last = ["coco/bbox_mAP 0.2000", "coco/bbox_mAP_l -1.0000"]
    expected = [f"{runs[0]}:", *last, f"{runs[1]}:", *last, f"{runs[2]}: no evaluation yet"]
    assert [" ".join(line.split()) for line in lines] == expected


def test_what_cannot_be_drawn_is_an_error_of_the_user(tmp_path, capsys):
    run = str(write_log(tmp_path, STOPPED))
    with pytest.raises(UserError, match=r"mIoU.*loss"):
        curves.main([run, "--keys", "mIoU"])
    with pytest.raises(OSError, match=r"\.py'"):
        curves.main([run, "-o", f"{__file__}/c.png"])
    with pytest.raises(SystemExit, match="2"):
        curves.main([run, "-o", "c.xyz"])
    assert "c.xyz: a picture's name ends in one of .eps" in capsys.readouterr().err
