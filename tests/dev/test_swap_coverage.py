"""The walk over mm's configs: what it counts as what, and that nothing stops it."""

import os

import pytest
from dev import swap_coverage as coverage
from dev.swap_coverage import CHECKED, DECLINED, FAILED, Outcome

from xcit_dense.doctor import Finding, Trial
from xcit_dense.mm.config import configs_of

R18, TTA = "retinanet/retinanet_r18_fpn_1x_coco.py", "retinanet/retinanet_tta.py"
HOURGLASS = "cornernet/cornernet_hourglass104_10xb5-crop511-210e-mstest_coco.py"


def try_family(*names):
    return coverage.try_family("mmdet", "some", [configs_of("mmdet") / name for name in names])


def test_a_family_is_checked_and_what_is_declined_is_counted(tmp_path):
    (tmp_path / "mine.py").write_text("model = dict(\n")
    outcome = try_family(R18, TTA, HOURGLASS, tmp_path / "mine.py")
    assert (outcome.result, outcome.rewritten, outcome.bound) == (CHECKED, 1, 1)
    assert outcome.model == "RetinaNet, strides 8, 16, 32"
    hourglass, unreadable = outcome.declined
    assert "HourglassNet is more than a backbone" in hourglass
    assert "can not be read: SyntaxError" in unreadable
    assert try_family(TTA) is None


@pytest.mark.parametrize(
    ("swapped", "original", "result", "reason"),
    [
        (["a", "b"], ["a"], FAILED, "b"),
        (["a"], ["a", "b"], DECLINED, "the same with its own backbone: a"),
        (["a"], [], FAILED, "a"),
    ],
)
def test_a_fault_that_the_original_has_too_is_not_of_the_swap(
    monkeypatch, swapped, original, result, reason
):
    def diagnose(cfg):
        texts = swapped if cfg.model.backbone.type == "XCiT" else original
        return Trial(cfg, [Finding(text, "none") for text in texts])

    monkeypatch.setattr(coverage, "diagnose", diagnose)
    outcome = try_family(R18)
    assert (outcome.result, outcome.reason) == (result, reason)


def stand_in(package, family, paths):
    if family == "crash":
        os._exit(7)
    if family == "fails":
        raise KeyError("oops /home/me/a.py")
    if family == "whole":
        return Outcome(package, family, declined=["it is the model"], bound=1)
    return Outcome(package, family, 3, ["a|b"], 0, CHECKED, "N")


def test_the_walk_goes_on_after_a_crash_and_is_told_in_a_document(monkeypatch, tmp_path):
    families = {"mmdet": ["fails", "good", "whole"], "mmseg": ["crash", "good"]}
    monkeypatch.setattr(coverage, "try_family", stand_in)
    monkeypatch.setattr(coverage, "families_of", lambda package: dict.fromkeys(families[package]))
    record, table = tmp_path / "record.jsonl", tmp_path / "table.md"
    walked = list(coverage.walk(record))
    assert [outcome.result for outcome in walked] == [FAILED, CHECKED, DECLINED, FAILED, CHECKED]
    families["mmdet"].append("new")
    assert [outcome.family for outcome in coverage.walk(record)] == ["new"]

    other = tmp_path / "other.jsonl"
    other.write_text(record.read_text().replace('"model": "N"', '"model": "M"'))
    coverage.main(["table", str(table), f"one={record}", f"two={other}"])
    lines = table.read_text().splitlines()
    assert "| mmdet, one | 4 | 3 | 2 | 0 | 1 | 6 | 3 |" in lines
    assert "| fails | 0 of 0 |  | failed: KeyError: oops a.py |" in lines
    assert "| good (one) | 3 of 4 | N | checked |" in lines
    assert "| good (two) | 3 of 4 | M | checked |" in lines
