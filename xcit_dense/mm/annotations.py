"""Reading annotation files in COCO's format: checked before compiled code, labels by name."""

import gc
import inspect
import json
import logging
import os.path as osp
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from functools import cache, partialmethod, wraps
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.logging import print_log

from xcit_dense.errors import UserError, in_one_line
from xcit_dense.mm.coco_checks import check_coco
from xcit_dense.mm.config import dicts_in, model_scope


def read_annotations_safely(cfg: Config) -> None:
    """Let mmdet's data sets and metrics check files in COCO's format, and number labels by name.

    pycocotools and OpenCV believe what a file says: sizes, polygons or run lengths that are out of
    range crash the process or fill the memory. mmdet takes the categories in the order of the file
    and calls them by the names in the order of ``metainfo.classes``: where the two differ, names
    are swapped, and so are labels where two files of one data set differ. With this, label i is
    class i, also in the table that ``CocoMetric(classwise=True)`` makes.

    Args:
        cfg: the config, of mmdet, else nothing is done; masks are checked only where it reads them.

    Raises:
        UserError: (when a file is read) as ``check_coco`` and :func:`ids_of_classes`.
    """
    if model_scope(cfg) != "mmdet":
        return
    from mmdet.datasets.api_wrappers import COCO, COCOeval, COCOevalMP

    for evaluation in (COCOeval, COCOevalMP):
        evaluation.evaluate = _in_order_of_classes(inspect.unwrap(evaluation.evaluate))
    COCO.__init__ = _taking_what_is_read(inspect.unwrap(COCO.__init__))
    COCO.createIndex = partialmethod(_create_checked_index, with_masks=reads_masks(cfg))
    COCO.get_cat_ids = _category_ids


def reads_masks(cfg: Config) -> bool:
    """Whether a data set or a metric of a config reads masks."""
    parts = [value for key, value in cfg.items() if key.endswith(("_dataloader", "_evaluator"))]
    return any(
        node.get("with_mask") or "segm" in (node.get("metric") or ()) for _, node in dicts_in(parts)
    )


_HANDED_ON: dict[str, list[dict]] = {}


def hand_on(contents: Mapping[str, Sequence[dict]]) -> None:
    """Give mmdet the checked content of files when it asks for them, once for each time in a list.

    What an earlier call gave is forgotten.
    """
    _HANDED_ON.clear()
    _HANDED_ON.update((osp.abspath(file), list(given)) for file, given in contents.items())


@contextmanager
def _naming(file: str | Path) -> Iterator[None]:
    try:
        yield
    except UserError as error:
        raise UserError(f"{file}: {error}") from error
    except (ValueError, AssertionError, LookupError, TypeError, RecursionError) as error:
        is_text = not isinstance(error, UnicodeDecodeError)
        remedy = "export it anew in COCO's format" if is_text else "save it as UTF-8"
        raise UserError(
            f"{file}: is no annotation file in COCO's format ({in_one_line(error)}): {remedy}"
        ) from error


def read_json(file: str | Path) -> Any:
    """Read an annotation file.

    Raises:
        UserError: it is no JSON in UTF-8.
        OSError: it cannot be read.
    """
    gc.disable()  # it would walk through all objects that were read, again and again
    try:
        with _naming(file), open(file, encoding="utf-8-sig") as opened:
            return json.load(opened, parse_float=_Numbers().__getitem__)
    finally:
        gc.enable()


class _Numbers(dict[str, float]):
    """Numbers by their text, each once: with few digits they recur, and fill half of the memory."""

    def __missing__(self, text: str) -> float:
        number = float(text)
        if len(self) < 1 << 18:
            self[text] = number
        return number


def _taking_what_is_read(init: Callable[..., None]) -> Callable[..., None]:
    @wraps(init)
    def read(coco: Any, annotation_file: str | None = None) -> None:
        coco.annotation_file = annotation_file
        waiting = _HANDED_ON.get(osp.abspath(annotation_file or ""))
        coco.was_checked = bool(waiting)
        content = waiting.pop() if waiting else annotation_file and read_json(annotation_file)
        # it says that it makes an index, and that it has
        with _naming(annotation_file or ""), redirect_stdout(None):
            init(coco)
            if annotation_file:
                coco.dataset = content
                coco.createIndex()
                coco.img_ann_map, coco.cat_img_map = coco.imgToAnns, coco.catToImgs

    return read


def _create_checked_index(coco: Any, with_masks: bool) -> None:
    """In place of mmdet's ``COCO.createIndex``, which is that of pycocotools."""
    from pycocotools.coco import COCO

    for finding in () if coco.was_checked else check_coco(coco.dataset, with_masks):
        if finding.is_wrong:
            raise UserError(f"{finding.text}: {finding.remedy}")
        _warn_once(f"{coco.annotation_file}: {finding.text}")
    COCO.createIndex(coco)


@cache
def _warn_once(line: str) -> None:
    print_log(line, logger="current", level=logging.WARNING)


def ids_of_classes(
    names: Sequence[str], categories: Sequence[Mapping[str, Any]], source: object
) -> list[Any]:
    """The id of the category of each class, in the order of the classes.

    Args:
        names: of the classes.
        categories: of a data set in COCO's format.
        source: whose they are, for the message.

    Raises:
        UserError: a class is no category, or several categories have its name.
    """
    ids = defaultdict(list)
    for category in categories:
        ids[category["name"]].append(category["id"])
    for name in names:
        if len(ids[name]) != 1:
            found = ", ".join(str(category["name"]) for category in categories)
            wrong = f"two categories {ids[name]} have" if ids[name] else "no category has"
            raise UserError(
                f"{source}: {wrong} the name of the class {name!r}; there are {found}: change "
                "metainfo.classes or the file"
            )
    return [ids[name][0] for name in names]


def _category_ids(coco: Any, cat_names: Sequence[str] = (), *others: Any, **more: Any) -> list[int]:
    """In place of ``COCO.get_cat_ids``: of several names in their order."""
    found = coco.getCatIds(cat_names, *others, **more)
    if isinstance(cat_names, str) and cat_names:
        raise UserError(
            f"metainfo.classes={cat_names!r} is one text, and no file: write a tuple, for a single "
            f"class too: classes=({cat_names!r},)"
        )
    if len(cat_names) == 0:
        return found
    ids = ids_of_classes(cat_names, coco.dataset["categories"], coco.annotation_file)
    if coco.was_checked:
        return ids
    if ids != found:
        _warn_once(
            f"metainfo.classes ({', '.join(cat_names)}) has another order than the annotation "
            "file, and labels follow it; a model that was trained by mmdet's own tools has the "
            "order of its file"
        )
    left_out = [c["name"] for c in coco.dataset["categories"] if c["name"] not in cat_names]
    if left_out:
        _warn_once(
            f"categories that are no class of metainfo.classes are left out: {', '.join(left_out)}"
        )
    return ids


def _in_order_of_classes(evaluate: Callable[[Any], None]) -> Callable[[Any], None]:
    """Keep the order of the categories, by which mmdet's ``classwise`` names what it reads.

    pycocotools sorts them by their ids.
    """

    @wraps(evaluate)
    def in_order(evaluation: Any) -> None:
        wanted = [*dict.fromkeys(evaluation.params.catIds)]
        evaluate(evaluation)
        parameters, found = evaluation.params, evaluation.evalImgs
        if parameters.useCats:
            size = len(found) // len(wanted)
            places = map([*parameters.catIds].index, wanted)
            evaluation.evalImgs = [
                each for place in places for each in found[place * size : (place + 1) * size]
            ]
            parameters.catIds = evaluation._paramsEval.catIds = wanted

    return in_order
