"""The logs that the starts of one run left are joined as the training went."""

import json

import pytest

from xcit_dense.look.training_curves import find_scalar_logs, read_run


def write_log(work_dir, stamp, lines):
    path = work_dir / stamp / "vis_data" / "scalars.json"
    path.parent.mkdir(parents=True)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def training(first, last, loss):
    return [{"loss": loss, "lr": loss, "iter": at} for at in range(first, last + 1, 10)]


def evaluation(value):
    return [{"mIoU": value, "step": 1}]


def at(records):
    return [record.iteration for record in records]


def joined_of(work_dir, *starts):
    paths = [write_log(work_dir, f"2024010{day}_000000", lines) for day, lines in enumerate(starts)]
    log, counting = read_run(find_scalar_logs(work_dir))
    return log, [paths.index(path) for path in counting]


def test_what_was_done_again_counts_once(tmp_path):
    """Killed after 50, resumed from a checkpoint of 30."""
    first = training(10, 30, 2.0) + evaluation(1) + training(40, 50, 2.0) + evaluation(2)
    log, counting = joined_of(tmp_path, first, training(40, 60, 1.0) + evaluation(3))
    assert counting == [0, 1]
    assert at(log.losses) == at(log.others) == [10, 20, 30, 40, 50, 60]
    assert [record.values["loss"] for record in log.losses] == [2, 2, 2, 1, 1, 1]
    assert [(each.iteration, each.values["mIoU"]) for each in log.evaluations] == [(30, 1), (60, 3)]


def test_a_resumed_run_that_evaluates_first_stands_where_it_was_resumed(tmp_path):
    second = evaluation(2) + training(40, 50, 1.0)
    log, _ = joined_of(tmp_path, training(10, 30, 2.0) + evaluation(1), second)
    assert [(each.iteration, each.values["mIoU"]) for each in log.evaluations] == [(30, 1), (30, 2)]


def test_a_run_that_began_anew_hides_those_before(tmp_path):
    second = training(10, 20, 1.0)
    log, counting = joined_of(tmp_path, training(10, 50, 2.0), second, training(30, 40, 1.0))
    assert counting == [1, 2]
    assert [(each.iteration, each.values["loss"]) for each in log.losses] == [
        (10, 1), (20, 1), (30, 1), (40, 1),
    ]  # fmt: skip


def test_starts_without_training_do_not_count_beside_others(tmp_path):
    log, counting = joined_of(tmp_path, evaluation(1), training(10, 20, 1.0), evaluation(2), [])
    assert counting == [1]
    assert at(log.losses) == [10, 20]
    assert not log.evaluations


def test_the_newest_evaluation_counts_where_nothing_trained(tmp_path):
    log, counting = joined_of(tmp_path, evaluation(1), evaluation(2), [])
    assert counting == [1]
    assert log.evaluations[0].values == {"mIoU": 2}


def test_nothing_but_empty_logs_is_an_error(tmp_path):
    with pytest.raises(ValueError, match=r"scalars\.json has no whole record: nothing was logged"):
        joined_of(tmp_path, [], [])


@pytest.mark.parametrize("below", ["", "vis_data", "vis_data/scalars.json"])
def test_a_single_start_can_be_named(tmp_path, below):
    write_log(tmp_path, "20240101_000000", evaluation(1))
    wanted = write_log(tmp_path, "20240102_000000", evaluation(2))
    write_log(tmp_path, "20240103_000000", evaluation(3))
    assert find_scalar_logs(tmp_path / "20240102_000000" / below) == [wanted]
