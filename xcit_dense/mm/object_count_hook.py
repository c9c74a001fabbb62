"""A hook that says what a detector is trained on, before it is."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from mmengine.hooks import Hook
from mmengine.logging import print_log

from xcit_dense.errors import UserError


class ObjectCountHook(Hook):
    """Counts the objects of each class that are left when mmdet's data sets have filtered theirs.

    Data sets without objects, such as mmseg's, are passed over.
    """

    def before_train(self, runner: Any) -> None:
        """Log the counts, of classes without objects too.

        Raises:
            UserError: there are no objects, so that nothing would be learnt.
        """
        dataset = runner.train_dataloader.dataset
        while not hasattr(dataset, "get_data_info"):  # of mmdet's MultiImageMixDataset
            if not hasattr(dataset, "dataset"):
                return
            dataset = dataset.dataset
        infos = [dataset.get_data_info(index) for index in range(len(dataset))]
        objects = [info["instances"] for info in infos if "instances" in info]
        if infos and not objects:
            return
        names = dataset.metainfo.get("classes") or ()
        used = Counter(each["bbox_label"] for image in objects for each in image if _is_used(each))
        if not used:
            raise UserError(
                f"the training data have no object to learn from, in {len(infos)} images: all are "
                "crowds, of no extent, of other classes than metainfo.classes, or filtered out"
            )
        crowds = sum(not _is_used(each) for image in objects for each in image)
        print_log(
            f"training on {len(infos)} images with {sum(used.values())} objects "
            f"({crowds} more are ignored as crowds): {_listed(used, names)}",
            logger="current",
        )


def _is_used(instance: dict) -> bool:
    return not instance.get("ignore_flag")


def _listed(counts: Counter, names: Sequence[str]) -> str:
    labels = sorted({*counts, *range(len(names))})
    named = [names[label] if label < len(names) else f"class {label}" for label in labels]
    return ", ".join(f"{name} {counts[label]}" for name, label in zip(named, labels, strict=True))
