"""What a detector is trained on is said once, and nothing to learn from is an error."""

from types import SimpleNamespace

import pytest
from mmengine.dataset import BaseDataset, RepeatDataset

from xcit_dense.errors import UserError
from xcit_dense.mm import object_count_hook
from xcit_dense.mm.object_count_hook import ObjectCountHook


def data_set(*images):
    """A data set whose images have objects of these labels; negative ones are crowds."""
    dataset = BaseDataset(metainfo={"classes": ("car", "van", "bus")}, lazy_init=True)
    dataset.load_data_list = lambda: [
        {
            "instances": [
                {"bbox_label": abs(label), "ignore_flag": int(label < 0)} for label in image
            ]
        }
        for image in images
    ]
    dataset.full_init()
    return dataset


def lines_of(dataset, monkeypatch):
    lines = []
    monkeypatch.setattr(
        object_count_hook,
        "print_log",
        lambda line, logger: lines.append(line),
    )
    loader = SimpleNamespace(dataset=dataset)
    ObjectCountHook().before_train(SimpleNamespace(train_dataloader=loader))
    return lines


def test_objects_are_counted_by_class(monkeypatch):
    wrapped = SimpleNamespace(dataset=RepeatDataset(data_set([0, 0, 2], [-2], []), times=2))
    (counts,) = lines_of(wrapped, monkeypatch)
    for said in ("6 images", "6 objects", "2 more", "car 4", "van 0", "bus 2"):
        assert said in counts


@pytest.mark.parametrize("images", [([-1],), ([], [])])
def test_nothing_to_learn_from_is_an_error(monkeypatch, images):
    with pytest.raises(UserError, match=f"no object .* {len(images)} images"):
        lines_of(data_set(*images), monkeypatch)


def test_label_maps_are_passed_over(monkeypatch):
    dataset = BaseDataset(lazy_init=True)
    dataset.load_data_list = lambda: [{"seg_map_path": "a.png"}]
    dataset.full_init()
    assert lines_of(dataset, monkeypatch) == []
