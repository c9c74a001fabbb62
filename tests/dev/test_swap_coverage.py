"""The walk over mm's configs: what it counts as what, and that nothing stops it."""

import json
import os
import time
from dataclasses import asdict, replace

import pytest
from dev.swap_coverage import command as check_swap_coverage
from dev.swap_coverage import families as coverage
from dev.swap_coverage import walk as coverage_walk
from dev.swap_coverage.families import (
    CHECKED,
    DECLINED,
    FAILED,
    FamilyOutcome,
    families_of,
    try_family,
)

from xcit_dense.doctor import Finding, Trial
from xcit_dense.swap.config_source import configs_of


def test_every_folder_of_configs_is_a_family_and_parts_are_not():
    detection, segmentation = families_of("mmdet"), families_of("mmseg")
    assert {"retinanet", "mask_rcnn", "dino"} <= detection.keys()
    assert {"pspnet", "segformer"} <= segmentation.keys()
    assert not {"_base_", "common"} & detection.keys()


def paths(family, *names):
    return [configs_of("mmdet") / family / name for name in names]


def test_a_family_is_checked_and_what_is_declined_is_counted(tmp_path):
    (tmp_path / "mine.py").write_text(
        'custom_imports = dict(imports=["mmpretrain.models"], allow_failed_imports=False)\n'
    )
    some = [
        *paths("retinanet", "retinanet_r18_fpn_1x_coco.py", "retinanet_tta.py"),
        *paths("cornernet", "cornernet_hourglass104_10xb5-crop511-210e-mstest_coco.py"),
        tmp_path / "mine.py",
    ]
    outcome = try_family("mmdet", "retinanet", some)
    assert (outcome.result, outcome.rewritten) == (CHECKED, 1)
    assert outcome.config == "retinanet_r18_fpn_1x_coco.py"
    assert outcome.model == "RetinaNet, strides 8, 16, 32"
    assert outcome.has_backbone
    assert outcome.bound == 1
    bound, unreadable = outcome.declined
    assert bound.startswith("model.backbone: HourglassNet is more than a backbone")
    assert unreadable == "the config can not be read without mmpretrain"


def test_a_folder_without_models_is_no_family():
    assert try_family("mmdet", "retinanet", paths("retinanet", "retinanet_tta.py")) is None


def sick(*texts, losses=None):
    findings = [Finding(text, "none") for text in texts]
    return Trial(None, findings, losses=losses or {})


@pytest.mark.parametrize(
    ("swapped", "original", "result"),
    [
        (["a", "b"], ["a"], FAILED),
        (["a"], ["a", "b"], DECLINED),
        (["a"], [], FAILED),
    ],
)
def test_a_fault_that_the_original_has_too_is_not_of_the_swap(
    monkeypatch, swapped, original, result
):
    def diagnose(cfg):
        return sick(*(swapped if cfg.model.backbone.type == "XCiT" else original))

    monkeypatch.setattr(coverage, "diagnose", diagnose)
    outcome = try_family("mmdet", "retinanet", paths("retinanet", "retinanet_r18_fpn_1x_coco.py"))
    assert outcome.result == result
    assert outcome.reason == (
        "b" if "b" in swapped else "a" if result == FAILED else "the same with its own backbone: a"
    )


def test_a_family_of_models_that_are_their_backbones_has_none_to_swap():
    name = "cornernet_hourglass104_10xb5-crop511-210e-mstest_coco.py"
    outcome = try_family("mmdet", "cornernet", paths("cornernet", name))
    assert (outcome.result, outcome.has_backbone) == (DECLINED, False)


def test_folders_of_a_machine_are_not_told(monkeypatch):
    text = "fails: no file '/home/me/lib/configs/a.py' at https://a.b/c"
    monkeypatch.setattr(coverage, "diagnose", lambda cfg: sick(text))
    outcome = try_family("mmdet", "retinanet", paths("retinanet", "retinanet_r18_fpn_1x_coco.py"))
    assert outcome.reason.endswith("fails: no file 'a.py' at https://a.b/c")


def test_an_unexpected_error_is_a_failure(monkeypatch):
    def plan_swap(*args):
        raise KeyError("oops")

    monkeypatch.setattr(coverage, "plan_swap", plan_swap)
    outcome = try_family("mmdet", "retinanet", paths("retinanet", "retinanet_r18_fpn_1x_coco.py"))
    assert (outcome.result, outcome.reason) == (FAILED, "KeyError: 'oops'")


def test_the_walk_goes_on_after_a_crash_and_a_standstill_and_can_be_resumed(monkeypatch, tmp_path):
    def try_family(package, family, paths):
        if family == "crash":
            os._exit(7)
        if family == "stands":
            time.sleep(60)
        return None if family == "empty" else FamilyOutcome(package, family, result=CHECKED)

    families = {"mmdet": {"crash": [], "empty": [], "good": []}, "mmseg": {"stands": []}}
    monkeypatch.setattr(coverage_walk, "try_family", try_family)
    monkeypatch.setattr(coverage_walk, "families_of", families.get)
    record = tmp_path / "record.jsonl"
    walked = list(coverage_walk.walk(record, seconds=1.0))
    assert [(o.family, o.result, o.reason) for o in walked] == [
        ("crash", FAILED, "the process ended with code 7"),
        ("good", CHECKED, ""),
        ("stands", FAILED, "took longer than 1 seconds"),
    ]
    assert coverage_walk.read_record(record) == walked

    families["mmdet"]["new"] = []
    assert [o.family for o in coverage_walk.walk(record, seconds=1.0)] == ["new"]


def test_the_document_says_once_what_is_the_same_on_both_stacks(tmp_path):
    good = FamilyOutcome("mmdet", "good", rewritten=3, result=CHECKED, model="Net, strides 8")
    split = FamilyOutcome("mmdet", "split", 1, {"no": 2}, result=DECLINED, reason="a|b")
    whole = FamilyOutcome("mmdet", "whole", declined={"it is the model": 2}, bound=2)
    records = {"one": [good, split, whole], "two": [good, replace(split, result=FAILED), whole]}
    arguments = []
    for name, outcomes in records.items():
        lines = [json.dumps(asdict(outcome)) for outcome in outcomes]
        (tmp_path / name).write_text("\n".join(lines))
        arguments.append(f"{name}={tmp_path / name}")
    check_swap_coverage.main(["table", str(tmp_path / "table.md"), *arguments])
    lines = (tmp_path / "table.md").read_text().splitlines()
    assert "| mmdet, one | 3 | 2 | 1 (50%) | 1 | 0 | 4 | 4 |" in lines
    assert "| mmdet, two | 3 | 2 | 1 (50%) | 0 | 1 | 4 | 4 |" in lines
    assert "| good | 3 of 3 | Net, strides 8 | checked |" in lines
    assert "| split | 1 of 3 |  | one: declined: a/b; two: failed: a/b |" in lines
