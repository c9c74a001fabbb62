"""All checks of the data of a config, in order, and how a command tells what they find.

A check is a function that yields each :class:`Finding`; one more is one more function, and its
place in a list at the end.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from mmengine.config import Config
from mmengine.registry import DefaultScope

from xcit_dense.data import annotation_checks, class_checks, config_checks, course_checks
from xcit_dense.data.data_sets import Data, data_sets_of
from xcit_dense.data.pixels import check_some_label_maps
from xcit_dense.errors import Finding, UserError, in_one_line
from xcit_dense.mm.annotations import hand_on, read_json, reads_masks
from xcit_dense.mm.coco_checks import DOUBTS_OF_BOXES, check_coco
from xcit_dense.mm.config import dicts_in
from xcit_dense.mm.launch import say

ALL_SPLITS = ["train", "val", "test"]


def check_config(cfg: Config) -> list[Finding]:
    """Check what a config says of its data, without looking at any file of them."""
    with DefaultScope.overwrite_default_scope(cfg.get("default_scope")):
        return _run(CONFIG_CHECKS, Data(cfg, data_sets_of(cfg, ALL_SPLITS)))


def check_data(
    cfg: Config, splits: list[str], processes: int | None = None, trains: bool = False
) -> tuple[Data, list[Finding]]:
    """Check a config and its files, but no pixels.

    Args:
        cfg: the config.
        splits: of ``train``, ``val`` and ``test``; their files must be there.
        processes: how many train together; None if that is not known.
        trains: whether training follows: mmdet is handed what was read, and a few label maps are
            looked at.

    Returns:
        The data sets with what was read of them, and what was found.
    """
    with DefaultScope.overwrite_default_scope(cfg.get("default_scope")):
        data = Data(cfg, data_sets_of(cfg, splits), processes)
        findings = _run(CONFIG_CHECKS, data) + _read(data, trains)
        for data_set in data.sets:
            if data_set.content is not None:
                of_kind = _run([annotation_checks.boxes_are_of_coco], data_set)
                if any(
                    each.is_wrong for each in of_kind
                ):  # what is at single boxes follows from it
                    findings = [each for each in findings if not _is_doubt(each, data_set.file)]
                findings += _run(COCO_CHECKS, data_set)
            elif data_set.is_of_label_maps:
                findings += _run([annotation_checks.label_maps_are_there], data_set)
                if trains and data_set.split == "train":
                    findings += _run([check_some_label_maps], data_set)
        return data, list(dict.fromkeys(findings + _run(WHOLE_CHECKS, data)))


def _run(checks: list[Callable[..., Iterator[Finding]]], subject: Any) -> list[Finding]:
    findings = []
    for check in checks:
        try:
            findings += check(subject)
        except Exception as error:  # a config of anybody's may be like none that the check knows
            text = f"{check.__name__} is not understood: {in_one_line(error)}"
            findings.append(Finding(text, is_wrong=False))
    return findings


def _is_doubt(finding: Finding, file: str) -> bool:
    of_file = finding.text.startswith(f"{file}: ")
    return of_file and any(doubt.text in finding.text for doubt in DOUBTS_OF_BOXES)


def _read(data: Data, trains: bool) -> list[Finding]:
    """Read every annotation file in COCO's format, once, and check its records."""
    of_coco = [data_set for data_set in data.sets if data_set.is_coco]
    usable, findings = {}, []
    for file in dict.fromkeys(data_set.file for data_set in of_coco):
        try:
            content = read_json(file)
        except UserError as error:
            findings.append(Finding(*str(error).rsplit(": ", 1)))
            continue
        found = check_coco(content, reads_masks(data.cfg))
        findings += [replace(finding, text=f"{file}: {finding.text}") for finding in found]
        if not any(finding.is_wrong for finding in found):
            usable[file] = content
    for data_set in of_coco:
        data_set.content = usable.get(data_set.file)
    if trains:
        readers = Counter(data_set.file for data_set in of_coco)
        readers.update(node.get("ann_file") for _, node in dicts_in(data.cfg.get("val_evaluator")))
        hand_on({file: [content] * readers[file] for file, content in usable.items()})
    return findings


def show(findings: list[Finding]) -> None:
    """Print a line for each finding.

    Raises:
        UserError: the last that is wrong.
    """
    wrong = []
    for finding in findings:
        line = "; ".join(filter(None, [finding.text, finding.remedy]))
        if finding.is_wrong:
            wrong.append(line)
        else:
            say(f"warning: {line}")
    for line in wrong[:-1]:
        say(f"error: {line}")
    if wrong:
        raise UserError(wrong[-1])


CONFIG_CHECKS = [
    class_checks.classes_are_names,
    class_checks.heads_have_classes_of_data,
    class_checks.classes_agree,
    config_checks.crops_fit_batches,
    config_checks.masks_are_loaded_and_made,
    config_checks.batches_fit_the_rate,
    course_checks.pipelines_pack,
    course_checks.rate_is_usual,
    course_checks.best_is_validated,
]
"""Take :class:`Data`, and look at no files."""

COCO_CHECKS = [
    class_checks.classes_are_categories,
    annotation_checks.boxes_are_of_coco,
    annotation_checks.something_is_learnt,
    annotation_checks.images_are_there,
    annotation_checks.filters_leave_objects,
]
"""Take a :class:`DataSet` whose annotation file can be used."""

WHOLE_CHECKS = [
    annotation_checks.no_image_is_trained_and_evaluated,
    config_checks.evaluators_read_their_data,
]
"""Take :class:`Data` whose files were read."""
