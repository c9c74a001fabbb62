"""Label maps that train wrongly, or not at all, are named with what to do; sound ones are not."""

import numpy as np
import pytest
from mmcv.transforms import LoadImageFromFile
from PIL import Image

from xcit_dense.data.label_map_checks import check_label_maps, read_label_maps

CLASSES = ("road", "car", "tree")
LABELS = np.arange(24, dtype=np.uint8).reshape(4, 6) % 3
LEFT_OUT = np.full_like(LABELS, 255)


def make(folder, *maps):
    """Pairs of grey images and label maps; of what is no array, what a function writes."""
    pairs = []
    for number, label_map in enumerate(maps):
        pair = folder / f"{number}.jpg", folder / f"{number}.png"
        Image.new("RGB", (6, 4), "grey").save(pair[0])
        if callable(label_map):
            label_map(*pair)
        else:
            Image.fromarray(label_map).save(pair[1])
        pairs.append(pair)
    return pairs


def saved(array, **options):
    return lambda image, label_map: Image.fromarray(array).save(label_map, **options)


def turned(image, label_map):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (6, 4), "grey").save(image, exif=exif)
    Image.fromarray(LABELS).save(label_map)


def without_image(image, label_map):
    Image.fromarray(LABELS).save(label_map)
    image.unlink()


def palette(image, label_map):
    indices = Image.fromarray(LABELS)
    indices.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    assert indices.mode == "P"
    indices.save(label_map)


@pytest.mark.parametrize(
    ("label_map", "says", "remedy", "is_wrong"),
    [
        (lambda *pair: None, "have no label map{image}; training ends", "seg_map_suffix", True),
        (without_image, "have no image{map};", "img_suffix", True),
        (lambda _, path: path.write_bytes(b""), "cannot be read{map};", "PNG", True),
        (lambda _, path: path.write_bytes(b"GIF89a--"), "cannot be read{map}", "PNG", True),
        (LABELS[:3], "another size than the image{map} (3 x 6 pixels, its image 4 x 6)",
         "NEAREST", True),
        (turned, "and their label map is not{image} (4 x 6 pixels, its image 6 x 4)",
         "color_ignore_orientation", True),
        (np.dstack([LABELS] * 3), "several channels; wanted is one channel with the number of the "
         "class of each pixel{map} (3)", "xcit-dense new-config --masks", True),
        (np.dstack([LABELS] * 2), "several channels", "xcit-dense new-config --masks", True),
        (saved(LABELS, format="JPEG"), "JPEG's compression{map}; it changes labels", "PNG", True),
        (LABELS[:1], "one pixel wide or high{map} (1 x 6)", "leave", True),
        (LABELS + 5, "with 3 classes in metainfo.classes they go from 0 to 2, or are left out"
         "{map} (5, 6, 7); training ends", "xcit-dense new-config --masks", True),
        (LABELS.astype(np.uint16) + 256, "no class; with 3 classes in metainfo.classes they go from"
         " 0 to 2, or are left out{map} (256, 258)", "xcit-dense new-config", True),
        (saved(LABELS.astype(np.int32) - 1, format="TIFF"), "left out{map} (-1)",
         "xcit-dense new-config", True),
        (LEFT_OUT, "without a pixel of any class{map}; they teach nothing", "leave", False),
    ],
)  # fmt: skip
def test_a_fault_is_named_with_its_remedy(tmp_path, label_map, says, remedy, is_wrong):
    pairs = make(tmp_path, LABELS, label_map)
    (finding,) = check_label_maps(pairs, CLASSES, reduce_zero_label=False)
    assert (
        says.format(image=f", such as {pairs[1][0]}", map=f", such as {pairs[1][1]}")
        in finding.text
    )
    assert finding.text.startswith("1 of 2 ")
    assert remedy in finding.remedy
    assert finding.is_wrong is is_wrong


@pytest.mark.parametrize(
    ("reduced", "maps", "says", "remedy", "is_wrong"),
    [
        (False, [LABELS // 2 * 255], "hold 0 and 255 only; 255 is left out in training, and 0 is "
         "'road': nothing else is learned", "xcit-dense new-config --masks", True),
        (True, [LABELS // 2 * 255], "and 0 is too: nothing", "new-config --masks", True),
        (False, [LABELS + 1], "they go from 0 to 2, or are left out{map} (3)",
         "reduce_zero_label=True", True),
        (True, [LABELS], "label 0 has 33% of the pixels, and the labels end at 2, the last of 3 "
         "classes counted from 0; reduce_zero_label=True leaves it out",
         "reduce_zero_label=False in all data sets, if label 0 is 'road'", False),
        (True, [LABELS % 2 * 3, LABELS % 2 * 2, LABELS % 2], "label 0 has 67% of the pixels; red",
         "reduce_zero_label=False", False),
        (True, [LABELS + 2], "they go from 1 to 3, or are left out{map} (4)", "name all", True),
        (False, [LEFT_OUT, LEFT_OUT], "2 of 2 pairs of image and label map have a label map witho",
         "leave", True),
        (False, [LABELS % 2] * 3, "no pixel of tree is in the 3 label maps (1 of 3 classes)",
         "metainfo.classes", False),
    ],
)  # fmt: skip
def test_all_maps_together_show_what_one_cannot(tmp_path, reduced, maps, says, remedy, is_wrong):
    pairs = make(tmp_path, *maps)
    (finding,) = check_label_maps(pairs, CLASSES, reduced)
    assert says.format(map=f", such as {pairs[0][1]}") in finding.text
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
    assert not list(check_label_maps(make(tmp_path, *maps), CLASSES, reduced, ignored))


def test_a_loader_that_turns_no_image_wants_maps_as_images_are_stored(tmp_path):
    pairs = make(tmp_path, turned)
    maps = read_label_maps(pairs, LoadImageFromFile(color_type="color_ignore_orientation"))
    assert not list(check_label_maps(pairs, CLASSES, False, maps=maps))
    assert maps[0].counts[:4].tolist() == [8, 8, 8, 0]
