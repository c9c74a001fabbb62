"""Reading and drawing mmengine's scalar logs."""

import json
import math

import pytest

from xcit_dense.look.training_curves import (
    Record,
    TrainingLog,
    draw_curves,
    find_scalar_logs,
    last_evaluation,
    metrics_table,
    read_training_log,
    smoothed,
)

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def training_line(iteration, loss, **more):
    terms = {"loss": loss, "loss_bbox": loss / 4, "decode.loss_ce": loss / 2}
    others = {"lr": 1e-4, "data_time": 0.1, "time": 0.5, "memory": 900, "decode.acc_seg": 50.0}
    return {**others, **terms, "epoch": 1, "iter": iteration, "step": iteration, **more}


def detection_line(epoch, mean_average_precision):
    metrics = {"coco/bbox_mAP": mean_average_precision, "coco/bbox_mAP_l": -1.0}
    return {**metrics, "data_time": 0.1, "time": 0.4, "step": epoch}


def segmentation_line(iteration, mean_overlap):
    metrics = {"aAcc": 80.0, "mIoU": mean_overlap, "mAcc": 60.0}
    return {**metrics, "data_time": 0.1, "time": 0.4, "step": iteration}


RUN = [
    training_line(10, 4.0),
    training_line(20, 3.0),
    detection_line(1, 0.1),
    training_line(30, 2.0),
    training_line(40, 1.0),
    detection_line(2, 0.3),
]


def write_log(work_dir, lines, timestamp="20240101_120000", ending=""):
    path = work_dir / timestamp / "vis_data" / "scalars.json"
    path.parent.mkdir(parents=True)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines) + ending)
    return path


def test_losses_and_evaluations_are_told_apart(tmp_path):
    log = read_training_log(write_log(tmp_path, RUN))
    assert [record.iteration for record in log.losses] == [10, 20, 30, 40]
    assert log.losses[0].values == {"loss": 4.0, "loss_bbox": 1.0, "decode.loss_ce": 2.0}
    assert log.evaluations[0].values == {"coco/bbox_mAP": 0.1, "coco/bbox_mAP_l": -1.0}


@pytest.mark.parametrize("evaluation", [detection_line(1, 0.2), segmentation_line(20, 30.0)])
def test_evaluations_are_placed_by_the_training_iteration_before_them(tmp_path, evaluation):
    lines = [training_line(10, 4.0), training_line(20, 3.0), evaluation, training_line(30, 2.0)]
    (record,) = read_training_log(write_log(tmp_path, lines)).evaluations
    assert record.iteration == 20


def test_evaluation_before_any_training_stands_at_zero(tmp_path):
    (record,) = read_training_log(write_log(tmp_path, [detection_line(3, 0.2)])).evaluations
    assert record.iteration == 0


def test_step_serves_where_iter_is_missing(tmp_path):
    log = read_training_log(write_log(tmp_path, [{"loss": 1.0, "step": 7}]))
    assert log.losses == (Record(7, {"loss": 1.0}),)


def test_values_that_are_not_numbers_are_left_out(tmp_path):
    lines = [training_line(1, 1.0, loss_names="abc"), {"mIoU": 1.0, "note": "x", "step": 1}]
    log = read_training_log(write_log(tmp_path, lines))
    assert "loss_names" not in log.losses[0].values
    assert last_evaluation(log) == {"mIoU": 1.0}


@pytest.mark.parametrize("ending", ['{"loss": 1.0, "it', "12", '{"loss"\n'])
def test_damaged_last_line_is_skipped_with_a_warning(tmp_path, ending):
    path = write_log(tmp_path, RUN, ending=ending)
    with pytest.warns(UserWarning, match=r"skipped the damaged last line \(7\)"):
        log = read_training_log(path)
    assert (len(log.losses), len(log.evaluations)) == (4, 2)


def test_damage_elsewhere_is_an_error_that_names_the_line(tmp_path):
    path = write_log(tmp_path, RUN[:2], ending="garbage\n" + json.dumps(RUN[2]) + "\n")
    with pytest.raises(ValueError, match=r"line 3 is not a JSON object: 'garbage'"):
        read_training_log(path)


def test_character_cut_in_two_is_damage_not_a_crash(tmp_path):
    path = write_log(tmp_path, RUN)
    path.write_bytes(path.read_bytes() + b'{"name": "\xc3')
    with pytest.warns(UserWarning, match="damaged last line"):
        assert len(read_training_log(path).losses) == 4


def test_missing_log_names_where_it_was_looked_for(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"looked for .*nowhere.*vis_data.scalars\.json"):
        find_scalar_logs(tmp_path / "nowhere")


def test_an_iteration_that_is_no_number_is_an_error_that_names_the_line(tmp_path):
    path = write_log(tmp_path, [RUN[0], {"loss": 1.0, "iter": None}, RUN[1]])
    with pytest.raises(ValueError, match=r"line 2: the iteration is null, expected a number"):
        read_training_log(path)


def test_a_log_of_mm_2_is_refused(tmp_path):
    lines = [{"env_info": "x", "seed": 0}, {"mode": "train", "epoch": 2, "iter": 50, "loss": 1.0}]
    with pytest.raises(ValueError, match=r"line 2 has a 'mode', as logs of mm 2, whose iterations"):
        read_training_log(write_log(tmp_path, lines))


def test_what_else_training_logged_is_kept_apart(tmp_path):
    log = read_training_log(write_log(tmp_path, RUN))
    assert [record.iteration for record in log.others] == [10, 20, 30, 40]
    others = log.others[0].values
    assert others["lr"] == 1e-4
    assert others["decode.acc_seg"] == 50
    assert not others.keys() & log.losses[0].values


def test_last_evaluation_and_its_table(tmp_path):
    metrics = last_evaluation(read_training_log(write_log(tmp_path, RUN)))
    assert metrics["coco/bbox_mAP"] == 0.3
    first, second = metrics_table({"run": metrics}).splitlines()
    assert first.split() == ["coco/bbox_mAP", "0.3000"]
    assert len(first) == len(second)


def test_no_evaluation_gives_an_empty_dict_and_says_so(tmp_path):
    metrics = last_evaluation(read_training_log(write_log(tmp_path, RUN[:2])))
    assert metrics == {}
    assert metrics_table({"run": metrics}) == "no evaluation yet"


def test_a_table_of_several_runs_has_a_column_each():
    table = metrics_table({"first": {"mIoU": 0.5}, "a second run": {"mIoU": 0.25, "aAcc": 0.75}})
    heading, first, second = table.splitlines()
    assert heading.split("  ")[-1] == "a second run"
    assert first.split() == ["mIoU", "0.5000", "0.2500"]
    assert second.split() == ["aAcc", "-", "0.7500"]
    assert len(heading) == len(first) == len(second)


def test_smoothing_keeps_constants_and_follows_steps():
    assert smoothed([2.0] * 5, window=3) == pytest.approx([2.0] * 5)
    assert smoothed([1.0, 5.0, 2.0], window=1) == [1.0, 5.0, 2.0]
    first, second, third = smoothed([0.0, 1.0, 1.0], window=2)
    assert first == 0 < second < third < 1


def test_smoothing_leaves_gaps_where_values_are_not_finite():
    means = smoothed([1.0, math.nan, math.inf, 1.0], window=4)
    assert [math.isnan(mean) for mean in means] == [False, True, True, False]
    assert means[3] == pytest.approx(1.0)


def test_smoothing_refuses_an_empty_window():
    with pytest.raises(ValueError, match="at least 1 value, not 0"):
        smoothed([1.0], window=0)


@pytest.mark.parametrize(
    "lines",
    [
        [],
        RUN[:2],
        RUN,
        RUN * 15,
        [detection_line(0, 0.2)],
        [training_line(1, math.nan), segmentation_line(1, math.nan)],
        [training_line(1, math.inf, **{f"s{term}.loss_iou": 1.0 for term in range(30)})],
    ],
    ids=["empty", "no evaluation", "both", "smoothed", "no training", "nan", "many terms"],
)
def test_picture_is_written_whole(tmp_path, lines):
    pytest.importorskip("matplotlib")
    log = read_training_log(write_log(tmp_path, lines))
    draw_curves({"run": log}, tmp_path / "pictures" / "curves.png", title="a run")
    assert [path.name for path in (tmp_path / "pictures").iterdir()] == ["curves.png"]
    assert (tmp_path / "pictures" / "curves.png").read_bytes().startswith(PNG_SIGNATURE)


def test_failed_drawing_keeps_the_old_picture(tmp_path, monkeypatch):
    figure = pytest.importorskip("matplotlib.figure")
    (tmp_path / "curves.png").write_bytes(b"old")

    def save_half(self, file, **options):
        file.write(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(figure.Figure, "savefig", save_half)
    with pytest.raises(KeyboardInterrupt):
        draw_curves({"run": TrainingLog((), ())}, tmp_path / "curves.png")
    assert [path.name for path in tmp_path.iterdir()] == ["curves.png"]
    assert (tmp_path / "curves.png").read_bytes() == b"old"


@pytest.fixture
def lines_drawn(monkeypatch):
    """The labels of the lines of the panels, and their colours, as they are saved."""
    figure = pytest.importorskip("matplotlib.figure")
    seen = {}

    def look(self, file, **options):
        for axes in self.axes:
            panel = axes.get_title().partition(" (")[0].partition(",")[0]
            lines = [line for line in axes.lines if not line.get_label().startswith("_")]
            seen[panel] = {line.get_label(): line.get_color() for line in lines}

    monkeypatch.setattr(figure.Figure, "savefig", look)
    return seen


def test_one_run_shows_everything(tmp_path, lines_drawn):
    log = read_training_log(write_log(tmp_path, RUN))
    draw_curves({"a": log}, tmp_path / "curves.png")
    assert lines_drawn["training loss"].keys() == {"loss", "loss_bbox", "decode.loss_ce"}
    assert lines_drawn["evaluation"].keys() == {"coco/bbox_mAP"}  # -1 is no result


def test_of_many_curves_the_largest_and_the_first_are_drawn(tmp_path, lines_drawn):
    terms = {f"d{number}.loss_cls": float(number) for number in range(30)}
    classes = {f"coco/{number}_precision": 0.1 for number in range(80)}
    training = {"loss": 435.0, **terms, "iter": 1, "step": 1}
    evaluation = {**classes, "coco/bbox_mAP": 0.1, "step": 1}
    log = read_training_log(write_log(tmp_path, [training, evaluation]))
    draw_curves({"a": log}, tmp_path / "curves.png")
    largest = {f"d{number}.loss_cls" for number in range(19, 30)}
    assert lines_drawn["training loss"].keys() == {"loss"} | largest
    first = {f"coco/{number}_precision" for number in range(11)}
    assert lines_drawn["evaluation"].keys() == {"coco/bbox_mAP"} | first
    draw_curves({"a": log}, tmp_path / "curves.png", names=[*terms])
    assert lines_drawn["training loss"].keys() == terms.keys()


def test_many_runs_have_colours_of_their_own(tmp_path, lines_drawn):
    log = read_training_log(write_log(tmp_path, RUN))
    draw_curves({f"run {number}": log for number in range(25)}, tmp_path / "curves.png")
    assert len(set(lines_drawn["training loss"].values())) == 25


def test_of_many_metrics_of_many_runs_the_first_are_drawn(tmp_path, lines_drawn):
    line = {**{f"class_{number}": 0.1 for number in range(80)}, "step": 1}
    log = read_training_log(write_log(tmp_path, [line]))
    draw_curves({"a": log, "b": log, "c": log}, tmp_path / "curves.png")
    assert len(lines_drawn["evaluation"]) == 12


@pytest.mark.parametrize(("count", "length"), [(1, 30), (12, 30), (60, 30), (3, 160)])
def test_the_legend_hides_nothing(tmp_path, monkeypatch, count, length):
    figure = pytest.importorskip("matplotlib.figure")
    log = read_training_log(write_log(tmp_path, RUN))
    runs = {f"{'run ' * (length // 4)}{number}": log for number in range(count)}
    checked = []

    def look(self, file, **options):
        self.draw_without_rendering()
        for axes in self.axes:
            legend, panel = axes.get_legend().get_window_extent(), axes.get_window_extent()
            assert legend.y1 < panel.y0
            assert self.bbox.y0 <= legend.y0
            assert self.bbox.x0 <= legend.x0 <= legend.x1 <= self.bbox.x1
            assert panel.height > 200
            checked.append(axes)

    monkeypatch.setattr(figure.Figure, "savefig", look)
    draw_curves(runs, tmp_path / "curves.png")
    assert len(checked) == 2


def test_several_runs_show_what_papers_report_in_a_colour_each(tmp_path, lines_drawn):
    first = read_training_log(write_log(tmp_path / "first", RUN))
    lines = [training_line(9, 2.0), segmentation_line(9, 40.0)]
    second = read_training_log(write_log(tmp_path / "second", lines))
    draw_curves({"first": first, "second": second}, tmp_path / "curves.png")
    assert lines_drawn["training loss"].keys() == {"first: loss", "second: loss"}
    assert lines_drawn["evaluation"].keys() == {"first: coco/bbox_mAP", "second: mIoU"}
    losses, metrics = lines_drawn["training loss"], lines_drawn["evaluation"]
    for run, metric in [("first", "coco/bbox_mAP"), ("second", "mIoU")]:
        assert losses[f"{run}: loss"] == metrics[f"{run}: {metric}"]
    assert len(set(losses.values())) == 2


@pytest.mark.parametrize("runs", [["a"], ["a", "b"]])
def test_what_is_asked_for_is_drawn_alone(tmp_path, lines_drawn, runs):
    log = read_training_log(write_log(tmp_path, RUN))
    draw_curves(dict.fromkeys(runs, log), tmp_path / "c.png", names=["loss_bbox"])
    assert len(lines_drawn["training loss"]) == len(runs)
    assert [*lines_drawn] == ["training loss"]


@pytest.mark.parametrize("runs", [["a"], ["a", "b"]])
def test_other_values_get_a_panel_each(tmp_path, lines_drawn, runs):
    log = read_training_log(write_log(tmp_path, RUN))
    names = ["loss", "lr", "decode.acc_seg"]
    draw_curves(dict.fromkeys(runs, log), tmp_path / "c.png", names=names)
    assert [*lines_drawn] == ["training loss", "lr", "decode.acc_seg"]
    assert [len(lines) for lines in lines_drawn.values()] == [len(runs)] * 3
    assert len(set(lines_drawn["lr"].values())) == len(runs)


def test_an_other_value_that_only_one_run_has(tmp_path, lines_drawn):
    first = read_training_log(write_log(tmp_path / "a", RUN))
    second = read_training_log(write_log(tmp_path / "b", [{"loss": 1.0, "iter": 1, "acc": 5}]))
    draw_curves({"a": first, "b": second}, tmp_path / "c.png", names=["acc"])
    assert lines_drawn["acc"].keys() == {"b: acc"}


def test_a_name_that_was_not_logged_is_an_error_that_names_the_others(tmp_path):
    log = read_training_log(write_log(tmp_path, RUN))
    with pytest.raises(ValueError, match=r"'mIoU' was not logged; there are loss, .*bbox_mAP"):
        draw_curves({"a": log}, tmp_path / "c.png", names=["mIoU"])
