"""Labels that go by the names of a config's classes, whatever the order in the annotation file."""

import logging
from collections.abc import Sequence
from typing import Any

from mmengine.logging import print_log

from xcit_dense.errors import UserError


def number_labels_by_name() -> None:
    """Let label i of mmdet's data sets and metrics in COCO's format be class i of the config.

    mmdet takes the categories in the order of the annotation file instead, and calls them by the
    names in the order of ``metainfo.classes``: where the two differ, names are swapped, and so are
    labels where two files of one data set differ. Here these are said, and a class that is no
    category of a file is an error.

    Raises:
        UserError: (when a file is read) a class is no category, or two categories have its name.
    """
    from mmdet.datasets.api_wrappers import COCO

    COCO.get_cat_ids = _category_ids


def _category_ids(
    coco: Any,
    cat_names: Sequence[str] = (),
    sup_names: Sequence[str] = (),
    cat_ids: Sequence[int] = (),
) -> list[int]:
    """In place of ``COCO.get_cat_ids``: of several names in their order."""
    found = coco.getCatIds(cat_names, sup_names, cat_ids)
    if isinstance(cat_names, str) or len(cat_names) == 0:
        return found
    categories = [(category["name"], category["id"]) for category in coco.loadCats(found)]
    names = [name for name, _ in categories]
    all_names = ", ".join(str(each["name"]) for each in coco.dataset["categories"])
    for name in cat_names:
        if names.count(name) != 1:
            ids = [number for other, number in categories if other == name]
            reason = f"is that of several categories, {ids}" if ids else "is no category"
            raise UserError(
                f"the class {name!r} of metainfo.classes {reason} of the annotation file, which "
                f"has {all_names}: change the one or the other"
            )
    if names != list(cat_names):
        print_log(
            f"the categories of the annotation file ({', '.join(names)}) stand in another order "
            f"than metainfo.classes ({', '.join(cat_names)}), which labels follow here; a model "
            "that was trained by mmdet's own tools has the order of its file",
            logger="current",
            level=logging.WARNING,
        )
    return [number for name in cat_names for other, number in categories if other == name]
