"""All checks of the data of a config, in order, and how a command tells what they find.

A check is a function that yields each :class:`Finding`; one more is one more function, and its
place in a list at the end.
"""

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

from mmengine.config import Config
from mmengine.registry import DefaultScope

from xcit_dense.data import annotation_checks, class_checks, config_checks
from xcit_dense.data.data_sets import Data, data_sets_of
from xcit_dense.errors import Finding, UserError, in_one_line
from xcit_dense.mm.annotations import hand_on, read_json, reads_masks
from xcit_dense.mm.coco_checks import check_coco
from xcit_dense.mm.config import dicts_in
from xcit_dense.mm.launch import say

ALL_SPLITS = ["train", "val", "test"]


def check_config(cfg: Config, processes: int | None = None) -> list[Finding]:
    """Check what a config says of its data, without looking at any file of them."""
    with DefaultScope.overwrite_default_scope(cfg.get("default_scope")):
        data = Data(cfg, data_sets_of(cfg, ALL_SPLITS), processes)
        return _run(CONFIG_CHECKS, data)


def check_data(
    cfg: Config, splits: list[str], processes: int | None = None, hands_on: bool = False
) -> tuple[Data, list[Finding]]:
    """Check a config and its files, but no pixels.

    Args:
        cfg: the config.
        splits: of ``train``, ``val`` and ``test``; their files must be there.
        processes: how many train together; None if that is not known.
        hands_on: whether mmdet reads the files afterwards, and should not do so anew.

    Returns:
        The data sets with what was read of them, and what was found.
    """
    with DefaultScope.overwrite_default_scope(cfg.get("default_scope")):
        data = Data(cfg, data_sets_of(cfg, splits), processes)
        findings = _run(CONFIG_CHECKS, data) + _read(data, hands_on)
        for data_set in data.sets:
            if data_set.content is not None:
                findings += _run(COCO_CHECKS, data_set)
            elif data_set.is_of_label_maps:
                findings += _run(LABEL_MAP_CHECKS, data_set)
        return data, _once(findings + _run(WHOLE_CHECKS, data))


def _run(checks: list[Callable[..., Iterator[Finding]]], subject: Any) -> list[Finding]:
    findings = []
    for check in checks:
        try:
            findings += check(subject)
        except Exception as error:  # a config of anybody's may be like none that the check knows
            text = f"{check.__name__} is not understood: {in_one_line(error)}"
            findings.append(Finding(text, is_wrong=False))
    return _once(findings)


def _once(findings: list[Finding]) -> list[Finding]:
    return list(dict.fromkeys(findings))


def _read(data: Data, hands_on: bool) -> list[Finding]:
    """Read every annotation file in COCO's format, once, and check its records."""
    read: dict[str, tuple[dict | None, list[Finding]]] = {}
    readers = Counter(data_set.file for data_set in data.sets if data_set.is_coco)
    for _, metric in dicts_in(data.cfg.get("val_evaluator")):
        readers[metric.get("ann_file")] += 1
    for data_set in data.sets:
        file = data_set.file
        if not data_set.is_coco:
            continue
        if file not in read:
            read[file] = _read_file(file, reads_masks(data.cfg))
        data_set.content = read[file][0]
    if hands_on:
        usable = {file: content for file, (content, _) in read.items() if content is not None}
        hand_on({file: [content] * readers[file] for file, content in usable.items()})
    return [finding for _, findings in read.values() for finding in findings]


def _read_file(file: str, with_masks: bool) -> tuple[dict | None, list[Finding]]:
    try:
        content = read_json(file)
    except UserError as error:
        return None, [Finding(str(error), "export it anew in COCO's format")]
    findings = [
        dataclasses.replace(finding, text=f"{file}: {finding.text}")
        for finding in check_coco(content, with_masks)
    ]
    return None if any(finding.is_wrong for finding in findings) else content, findings


def show(findings: list[Finding]) -> None:
    """Print a line for each finding.

    Raises:
        UserError: the last that is wrong.
    """
    lines = ["; ".join(filter(None, [finding.text, finding.remedy])) for finding in findings]
    for finding, line in zip(findings, lines, strict=True):
        if not finding.is_wrong:
            say(f"warning: {line}")
    wrong = [line for finding, line in zip(findings, lines, strict=True) if finding.is_wrong]
    for line in wrong[:-1]:
        say(f"error: {line}")
    if wrong:
        raise UserError(wrong[-1])


CONFIG_CHECKS = [
    class_checks.classes_are_names,
    class_checks.heads_have_classes_of_data,
    class_checks.classes_agree,
    config_checks.zero_labels_agree,
    config_checks.crops_fit_batches,
    config_checks.padding_is_small,
    config_checks.masks_are_loaded_and_made,
    config_checks.batches_fit_the_rate,
]
"""Take :class:`Data`, and look at no files."""

COCO_CHECKS = [
    class_checks.classes_are_categories,
    annotation_checks.there_are_objects,
    annotation_checks.boxes_are_of_coco,
    annotation_checks.something_is_learnt,
    annotation_checks.nothing_is_there_twice,
    annotation_checks.images_are_there,
    annotation_checks.filters_leave_objects,
]
"""Take a :class:`DataSet` whose annotation file can be used."""

LABEL_MAP_CHECKS = [annotation_checks.label_maps_are_there]
"""Take a :class:`DataSet` of mmseg."""

WHOLE_CHECKS = [
    annotation_checks.no_image_is_trained_and_evaluated,
    config_checks.evaluators_read_their_data,
    config_checks.batches_can_be_filled,
    config_checks.intervals_fit_the_training,
]
"""Take :class:`Data` whose files were read."""
