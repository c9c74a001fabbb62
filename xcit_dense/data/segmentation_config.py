"""The config of a segmentor for folders of images and masks, and the files that it needs."""

from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from math import ceil
from statistics import median

from xcit_dense.data.mask_classes import Classes, Names, find_classes, write_label_map
from xcit_dense.data.mask_folder import MaskFolder
from xcit_dense.data.new_config import NewConfig, Request, divide, filled, quoted, relative, writer
from xcit_dense.data.schedule import SEGMENTATION, propose_schedule
from xcit_dense.errors import UserError
from xcit_dense.mm.data import IGNORED_LABEL
from xcit_dense.network.architectures import ARCHS

HEADS = ("upernet", "semfpn", "mask2former")
_RATES = {"mask2former": 1e-4}  # of recipes; those of others have SEGMENTATION's
_LARGEST_CROP = 512  # of the recipes
_COARSEST_STRIDE = 32

_TEMPLATE = """\
# {title}
_base_ = "xcit_dense::{base}/xcit_small_12_p16_{base}_ade20k.py"
data_root = {data_root}
{metainfo}
weights = {weights}
model = dict(
    data_preprocessor=dict(size=({short}, {short})),
    backbone=dict({backbone}),
{heads}
)
resize = dict(type="Resize", scale=({long}, {short}), keep_ratio=True)
train_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="LoadAnnotations"),
    dict(resize, type="RandomResize", ratio_range=(0.5, 2.0)),
    dict(type="RandomCrop", crop_size=({short}, {short}), cat_max_ratio=0.75),
    dict(type="RandomFlip", prob=0.5),
    dict(type="PhotoMetricDistortion"),
    dict(type="PackSegInputs"),
]
test_pipeline = [train_pipeline[0], resize, train_pipeline[1], train_pipeline[-1]]
suffixes = dict(img_suffix={img_suffix}, seg_map_suffix={map_suffix})
own_data = dict(suffixes, type="BaseSegDataset", data_root=data_root, metainfo=metainfo)
train_prefix = dict(img_path={images[0]}, seg_map_path={maps[0]})
train_data = dict(ann_file={lists[0]}, data_prefix=train_prefix, pipeline=train_pipeline)
val_prefix = dict(img_path={images[1]}, seg_map_path={maps[1]})
val_data = dict(ann_file={lists[1]}, data_prefix=val_prefix, pipeline=test_pipeline)
train_dataloader = dict(batch_size={request.batch_size}, dataset=dict(train_data, **own_data))
val_dataloader = test_dataloader = dict(dataset=dict(val_data, **own_data))
train_cfg = dict(max_iters={max_iters}, val_interval={val_interval})
optim_wrapper = dict(optimizer=dict(lr={rate!r}))
auto_scale_lr = dict(base_batch_size={batch_size})
warm_up = dict(type="LinearLR", start_factor=1e-6, by_epoch=False, end={warm_up})
param_scheduler = [warm_up, dict(type="PolyLR", by_epoch=False, begin={warm_up}, end={max_iters})]
saving = dict(interval={val_interval}, max_keep_ckpts=3, save_best="mIoU")
default_hooks = dict(logger=dict(interval={log_interval}), checkpoint=saving)
"""


def segmentation_config(
    request: Request,
    folders: Sequence[MaskFolder],
    names: Names | None = None,
    ignored: str | None = None,
) -> NewConfig:
    """The config of a segmentor for one folder of masks, or for two, to train and to validate.

    Beside it go ``NAME_train.txt`` and ``NAME_val.txt``, the images of each split, and
    ``NAME_masks``, label maps, where mmseg cannot read the masks as they are: numbers other than
    0, 1, ... and 255, colours, images with several suffixes.

    The head, of ``HEADS``, is UperNet if none is asked for. Crops are squares of the shorter side
    of ``scale``, which is that of most images, at most 512. ``names`` and ``ignored`` are as for
    ``find_classes``.

    Raises:
        UserError: data or options cannot be used.
    """
    head = request.head or "upernet"
    if head == "upernet" and request.batch_size * request.gpus < 2:
        raise UserError(
            "--batch-size 1: UperNet normalizes one value an image, over 2 images a step or more"
        )
    notes = [note for folder in folders for note in folder.notes]
    classes = find_classes(folders, names, ignored)
    if len(folders) == 1:
        names_of_images = [image for image, _ in folders[0].pairs]
        parts = divide(names_of_images, request, notes)
        folders = [folders[0].part(numbers) for numbers in parts]
    notes += _notes_of_classes(classes, folders)

    contents = [content for folder in folders for content in folder.contents]
    shorter = median(min(content.image_size) for content in contents)
    side = min(ceil(shorter / _COARSEST_STRIDE) * _COARSEST_STRIDE, _LARGEST_CROP)
    long, short = request.scale or (4 * side, side)
    notes.append(f"scale: images fit into {long}x{short}, crops have {short}x{short}")
    if shorter > 1.5 * short:
        notes.append(
            f"mind: images shrink from {shorter:.0f} to {short} pixels on their shorter side: a "
            "larger --scale keeps more, for more memory"
        )
    recipe = SEGMENTATION._replace(rate=_RATES.get(head, SEGMENTATION.rate))
    schedule = propose_schedule(recipe, len(folders[0].pairs), request, notes)

    suffixes = folders[0].suffixes | folders[1].suffixes
    maps = [folder.masks for folder in folders]
    files, map_root = {}, request.beside("masks")
    if len(suffixes) > 1 or not all(map(classes.fit, contents)):
        if any(root.is_relative_to(map_root) for root in maps):
            raise UserError(f"label maps would go to {map_root}, with your masks: name another -o")
        suffixes, maps = {("", ".png")}, [map_root / "train", map_root / "val"]
        for folder, where in zip(folders, maps, strict=True):
            for (image, mask), content in zip(folder.pairs, folder.contents, strict=True):
                write = partial(write_label_map, folder.masks / mask, content, classes)
                files[where / f"{image}.png"] = write
        notes.append(f"label maps are written into {map_root}")
    ((img_suffix, map_suffix),) = suffixes
    lists = [request.beside("train.txt"), request.beside("val.txt")]
    for folder, path in zip(folders, lists, strict=True):
        files[path] = writer("\n".join(name.removesuffix(img_suffix) for name, _ in folder.pairs))
    images = [folder.images for folder in folders]
    root, places = relative([*images, *maps, *lists], images + [each.masks for each in folders])
    text = filled(
        _TEMPLATE,
        head,
        request,
        classes.names,
        notes,
        data_root=root,
        images=places[:2],
        maps=places[2:4],
        lists=places[4:],
        img_suffix=quoted(img_suffix),
        map_suffix=quoted(map_suffix),
        heads=_head_lines(head, request.arch, len(classes.names)),
        long=long,
        short=short,
        max_iters=max(schedule["epochs"] * schedule["iterations"], schedule["warm_up"] + 1),
        val_interval=schedule["interval"] * schedule["iterations"],
        **schedule,
    )
    return NewConfig(text, files, notes)


def _notes_of_classes(classes: Classes, folders: Sequence[MaskFolder]) -> Iterator[str]:
    """Every class with its value and its share of the pixels, and what is left out."""
    counts = [Counter(), Counter()]
    for count, folder in zip(counts, folders, strict=True):
        for content in folder.contents:
            labels = classes.labels_of(content).tolist()
            for label, number in zip(labels, content.pixels.tolist(), strict=True):
                count[label] += number
    shown = classes.shown()

    def told(label: int, name: str) -> str:
        shares = (f"{count[label] / count.total():.1%}" for count in counts)
        return f"{name} ({shown.get(label, 'no value')}; {', '.join(shares)})"

    told_classes = ", ".join(told(label, name) for label, name in enumerate(classes.names))
    yield f"classes (in the masks; pixels to train and to validate on): {told_classes}"
    if IGNORED_LABEL in shown:
        yield told(IGNORED_LABEL, "left out; a name for every value makes it a class")
    if shown.get(0) == "0":
        yield f"0 is the class {classes.names[0]!r}: --ignore-label 0 leaves it out"
    for what, count in zip(("to train on", "to validate on"), counts, strict=True):
        absent = [name for label, name in enumerate(classes.names) if not count[label]]
        if absent:
            yield f"mind: no pixel {what}: {', '.join(absent)}: try another --seed"


def _head_lines(head: str, arch: str, num_classes: int) -> str:
    """The lines inside of ``model`` below the backbone: widths, narrow of nano_12, and classes."""
    channels, classes = ARCHS[arch].embed_dims, f"num_classes={num_classes}"
    four = f"in_channels=[{channels}] * 4"
    loss = f", loss_cls=dict(class_weight=[1.0] * {num_classes} + [0.1])"
    lines = [f"decode_head=dict({four}, {classes}{loss if head == 'mask2former' else ''}),"]
    if head == "semfpn":
        lines.append(f"neck=dict({four}, out_channels={channels}),")
    if head == "upernet":
        lines.append(f"auxiliary_head=dict(in_channels={channels}, {classes}),")
    if head == "upernet" and arch == "nano_12":
        lines = [line.replace(classes, f"channels=64, {classes}") for line in lines]
    return "\n".join(f"    {line}" for line in lines)
