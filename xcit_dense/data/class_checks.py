"""Checks of class names: as a list, among data sets, against heads and against categories."""

from collections import Counter
from collections.abc import Iterator
from difflib import get_close_matches

import numpy as np

from xcit_dense.data.data_sets import Data, DataSet
from xcit_dense.errors import Finding, listed
from xcit_dense.mm.config import dicts_in, model_scope, trained_part, type_name
from xcit_dense.swap import rules


def classes_are_names(data: Data) -> Iterator[Finding]:
    """``metainfo.classes`` is a list of names, each once, and mm reads it."""
    for data_set in data.sets:
        where, told = f"{data_set.path}.metainfo", data_set.told_classes
        names, own = data_set.class_names, data_set.names_of_kind
        if told is None:
            if other := [key for key in data_set.node.get("metainfo") or {} if key == "CLASSES"]:
                text = f"{where} has {other[0]!r}, which nothing reads: the default names count"
                yield Finding(text, "write metainfo=dict(classes=(...))")
            elif data_set.is_of_label_maps and own is None:
                text = f"{where} has no classes, and {data_set.kind.__name__} none of its own"
                yield Finding(f"{text}: nothing can be evaluated", "metainfo=dict(classes=(...))")
        elif isinstance(told, str) and names is None:
            text = f"{where}.classes={told!r} is one text, and no file"
            yield Finding(text, f"write a tuple, for a single class too: classes=({told!r},)")
        elif not names or len(set(names)) < len(names):
            text = f"{where}.classes={told!r:.200} must be names, one or more, each once"
            yield Finding(text, "write a tuple of different texts")
        elif data_set.is_of_label_maps and own and (others := [n for n in names if n not in own]):
            kind = data_set.kind.__name__
            yield Finding(
                f"{where}.classes has {listed(others)}, and {kind} has {len(own)} classes of its "
                "own and takes some of these only",
                "type='BaseSegDataset' takes classes of your own; see its reduce_zero_label, "
                "img_suffix and seg_map_suffix too",
            )


def classes_agree(data: Data) -> Iterator[Finding]:
    """All data sets have the classes of the first one, which is a trained data set."""
    first, *others = [each for each in data.sets if each.class_names] or [None]
    for data_set in others:
        names, given = first.class_names, data_set.class_names
        is_told = (first.told_classes or data_set.told_classes) is not None
        # trackers are judged by data sets of another class; some models are given names as texts
        is_alike = data_set.kind is first.kind and not data_set.node.get("return_classes")
        if names == given or not is_told or not is_alike:
            continue
        how = f"{len(names)} and {len(given)} of them"
        for label, (one, other) in enumerate(zip(names, given, strict=False)):
            if one != other:
                how = f"label {label} is {one!r} and {other!r}"
                break
        yield Finding(
            f"{first.path} and {data_set.path} have different classes, {how}",
            "give all data sets the same metainfo",
        )


def heads_have_classes_of_data(data: Data) -> Iterator[Finding]:
    """``num_classes`` of every head is the number of class names of the training data."""
    trained = next(iter(data.of("train")), None)
    names = trained and trained.class_names
    if not names or trained.node.get("return_classes") or not isinstance(data.cfg.model, dict):
        return
    is_told = trained.told_classes is not None
    model, path = trained_part(data.cfg.model)
    nodes = [place for place in dicts_in(model, path) if ".backbone" not in place[0]]
    things = [node["num_things_classes"] for _, node in nodes if node.get("num_stuff_classes")]
    for path, node in nodes:
        both = node.get("num_things_classes", 0) + node.get("num_stuff_classes", 0)
        key = "num_things_classes + num_stuff_classes" if both else "num_classes"
        count = both or node.get(key)
        has_others = type_name(node) in rules.HEADS_OF_OTHER_CLASSES or path.endswith("rpn_head")
        if has_others or not count or count in (len(names), *things):
            continue
        # what a data set has by default it may replace, and in mmseg more outputs do no harm
        harms = count < len(names) or model_scope(data.cfg) != "mmseg"
        yield Finding(
            f"{path}.{key} = {count}, but the training data have {len(names)} class names",
            "make the two agree: num_classes of every head, and metainfo=dict(classes=...) of the "
            "data sets",
            is_wrong=is_told and harms,
        )


def classes_are_categories(data_set: DataSet) -> Iterator[Finding]:
    """Each class is one category of the annotation file; those left over are named."""
    names, file, told = data_set.class_names, data_set.file, data_set.told_classes
    if not names:
        return
    counts = Counter(category["name"] for category in data_set.content["categories"])
    categories, unused = list(counts), [name for name in counts if name not in names]
    lacking = [name for name in names if name not in counts]
    if lacking:
        text = f"{file}: {len(lacking)} of the {len(names)} classes are no category of it: "
        text += f"{listed(list(map(repr, lacking)))}; its categories that are no class: "
        text += f"{listed(unused, 20) or 'none'}; all objects of these would be lost"
        near = {name: match for name in lacking if (match := _nearest(name, unused))}
        meant = ", ".join(f"{match!r} for {name!r}" for name, match in near.items())
        remedy = "write in metainfo.classes what the file has, or take these classes out"
        if told is None and data_set.split != "train":
            remedy = "give it the same metainfo as the training data"
        elif told is None:
            remedy = (
                f"name them: metainfo=dict(classes=({', '.join(map(repr, categories[:20]))},)) in "
                f"every data set, and num_classes={len(categories)} in every head"
            )
        elif meant:
            remedy = f"is it {meant}? metainfo.classes has to be as the file writes it"
        yield Finding(text, remedy)
        return
    if twice := [name for name in names if counts[name] > 1]:
        yield Finding(
            f"{file}: {listed(list(map(repr, twice)))} is the name of several categories",
            "keep one, and give its id to the objects of all, as xcit-dense new-config does",
        )
        return
    if data_set.split == "train" and sorted(names, key=categories.index) != names:
        text = (
            f"{file}: its categories have another order than metainfo.classes, which labels follow"
        )
        remedy = (
            "nothing to do, unless a model was trained by mmdet's own tools: its follow the file"
        )
        yield Finding(text, remedy, is_wrong=False)
    objects = data_set.objects
    if unused:
        lost = f"{(objects.label < 0).sum()} of {len(objects.label)} objects are left out"
        text = f"{file}: categories that are no class: {listed(unused, 20)}; {lost}"
        yield Finding(text, "none if that is meant, else add them to metainfo.classes", False)
    found = np.bincount(objects.label[objects.is_used], minlength=len(names))
    empty = [name for name, count in zip(names, found, strict=True) if not count]
    if data_set.split == "train" and objects.is_used.any() and empty and told:
        text = f"{file}: classes without an object to learn from: {listed(empty, 20)}"
        yield Finding(text, "take them out of metainfo.classes and num_classes", is_wrong=False)


def _nearest(name: str, others: list[str]) -> str | None:
    """The name that was meant, if one is nearly the same."""
    plain = {other.casefold().strip(): other for other in others}
    close = get_close_matches(name.casefold().strip(), plain, n=1, cutoff=0.7)
    return plain[close[0]] if close else None
