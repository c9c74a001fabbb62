"""Labels that go by the names of a config's classes, whatever the order in the annotation file."""

import logging
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from mmengine.logging import print_log

from xcit_dense.errors import UserError


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
            raise UserError(
                f"{source}: the class {name!r} must be the name of one category, not of the ids "
                f"{ids[name]}; there are {found}: change metainfo.classes or the file"
            )
    return [ids[name][0] for name in names]


def number_labels_by_name() -> None:
    """Let label i of mmdet's data sets and metrics in COCO's format be class i of the config.

    mmdet takes the categories in the order of the annotation file instead, and calls them by the
    names in the order of ``metainfo.classes``: where the two differ, names are swapped, and so are
    labels where two files of one data set differ.

    Raises:
        UserError: (when a file is read) as :func:`ids_of_classes`.
    """
    from mmdet.datasets.api_wrappers import COCO

    COCO.get_cat_ids = _category_ids


def _category_ids(coco: Any, cat_names: Sequence[str] = (), *others: Any, **more: Any) -> list[int]:
    """In place of ``COCO.get_cat_ids``: of several names in their order."""
    found = coco.getCatIds(cat_names, *others, **more)
    if isinstance(cat_names, str) or len(cat_names) == 0:
        return found
    ids = ids_of_classes(cat_names, coco.dataset["categories"], "the annotation file")
    if ids != found:
        print_log(
            f"metainfo.classes ({', '.join(cat_names)}) has another order than the annotation "
            "file, and labels follow it; a model that was trained by mmdet's own tools has the "
            "order of its file",
            logger="current",
            level=logging.WARNING,
        )
    return ids
