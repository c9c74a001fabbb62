"""Label maps that train wrongly, or not at all, are named with what to do; sound ones are not."""

import numpy as np
import pytest
from PIL import Image

from xcit_dense.data.label_map_checks import check_label_maps, read_label_maps

CLASSES = ("road", "car", "tree")
LABELS = np.arange(24, dtype=np.uint8).reshape(4, 6) % 3
LEFT_OUT = np.full_like(LABELS, 255)
ENDS = "training ends where it meets one: {map}"


def check(folder, maps, reduced=False, ignored=255, are_all=True):
    """Findings of label maps; of what is no array, what a function writes."""
    for number, label_map in enumerate(maps):
        path = folder / f"{number}.png"
        label_map(path) if callable(label_map) else Image.fromarray(label_map).save(path)
    files = [str(folder / f"{number}.png") for number in range(len(maps))]
    return list(check_label_maps(read_label_maps(files), CLASSES, reduced, ignored, are_all))


def saved(array, **options):
    return lambda path: Image.fromarray(array).save(path, **options)


def palette(path):
    indices = Image.fromarray(LABELS)
    indices.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    assert indices.mode == "P"
    indices.save(path)


@pytest.mark.parametrize(
    ("label_map", "says", "remedy", "is_wrong"),
    [
        (lambda path: path.touch(), f"cannot be read; {ENDS} (",
         "PNG", True),
        (np.dstack([LABELS] * 3), "several channels; wanted is one channel with the number of the "
         f"class of each pixel; {ENDS} (3)", "xcit-dense new-config --masks", True),
        (saved(LABELS, format="JPEG"), "which changes labels along all edges: {map}", "PNG", True),
        (LABELS + 5, "with 3 classes in metainfo.classes they go from 0 to 2, or are left out"
         f"; {ENDS} (5, 6, 7)", "xcit-dense new-config --masks", True),
        (LABELS.astype(np.uint16) + 256, "no class; with 3 classes in metainfo.classes they go from"
         " 0 to 2, or are left out; " + f"{ENDS} (256, 258)", "xcit-dense new-config", True),
        (saved(LABELS.astype(np.int32) - 1, format="TIFF"), f"{ENDS} (-1)",
         "xcit-dense new-config", True),
        (LEFT_OUT, "no pixel of any class; they teach nothing: {map}", "leave", False),
    ],
)  # fmt: skip
def test_a_fault_is_named_with_its_remedy(tmp_path, label_map, says, remedy, is_wrong):
    (finding,) = check(tmp_path, [LABELS, label_map])
    assert says.format(map=tmp_path / "1.png") in finding.text
    assert finding.text.startswith("1 of 2 ")
    assert remedy in finding.remedy
    assert finding.is_wrong is is_wrong


@pytest.mark.parametrize(
    ("reduced", "maps", "says", "remedy", "is_wrong"),
    [
        (False, [LABELS // 2 * 255], "hold 0 and 255 only; 255 is left out in training, and 0 is "
         "'road': nothing else is learned", "xcit-dense new-config --masks", True),
        (True, [LABELS // 2 * 255], "and 0 is too: nothing", "new-config --masks", True),
        (False, [LABELS + 1], "they go from 0 to 2, or are left out; ",
         "reduce_zero_label=True", True),
        (True, [LABELS], "label 0 has 33% of the pixels, and the labels end at 2, the last of 3 "
         "classes counted from 0; reduce_zero_label=True leaves it out",
         "reduce_zero_label=False in all data sets, if label 0 is 'road'", False),
        (True, [LABELS % 2 * 3, LABELS % 2 * 2, LABELS % 2], "label 0 has 67% of the pixels; red",
         "reduce_zero_label=False", False),
        (True, [LABELS + 2], "they go from 1 to 3, or are left out; ", "name all", True),
        (False, [LEFT_OUT, LEFT_OUT], "2 of 2 label maps have no pixel of any class",
         "leave", True),
        (False, [LABELS % 2] * 3, "no pixel of tree is in the 3 label maps (1 of 3 classes)",
         "metainfo.classes", False),
    ],
)  # fmt: skip
def test_all_maps_together_show_what_one_cannot(tmp_path, reduced, maps, says, remedy, is_wrong):
    (finding,) = check(tmp_path, maps, reduced)
    assert says in finding.text
    assert remedy in finding.remedy
    assert finding.is_wrong is is_wrong


@pytest.mark.parametrize(
    ("reduced", "maps", "ignored"),
    [
        (False, [LABELS, LABELS], 255),
        (False, [np.where(LABELS == 1, 255, LABELS)], 255),  # one map cannot show all classes
        (False, [np.where(LABELS == 1, 77, LABELS)], 77),
        (True, [LABELS + 1], 255),
        (True, [np.array([[0, 1, 2, 3, 3, 3]] * 4, np.uint8)], 255),  # some pixels are no class
        (False, [palette], 255),  # indices are the labels
        (False, [LABELS.astype(np.uint16)], 255),
        (False, [LABELS == 1], 255),
    ],
)
def test_nothing_is_said_of_sound_maps(tmp_path, reduced, maps, ignored):
    assert not check(tmp_path, maps, reduced, ignored)


def test_what_a_few_maps_lack_others_may_have(tmp_path):
    (finding,) = check(tmp_path, [LABELS // 2 * 255], are_all=False)
    assert "hold 0 and 255 only" in finding.text and not finding.is_wrong
    (finding,) = check(tmp_path, [LEFT_OUT, LEFT_OUT], are_all=False)
    assert "no pixel of any class" in finding.text and not finding.is_wrong
    assert not check(tmp_path, [LABELS % 2] * 3, are_all=False)
    assert [each.is_wrong for each in check(tmp_path, [LABELS + 5], are_all=False)] == [True]
