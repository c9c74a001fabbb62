"""The report names what is loaded, and everything that is not."""

import torch

from xcit_dense.weights import compare
from xcit_dense.weights.load_report import summarize


def tensors(*names, shape=(2,)):
    return {name: torch.zeros(shape) for name in names}


def test_a_complete_checkpoint():
    model = tensors("backbone.a", "backbone.b", "neck.a")
    report = compare(model, dict(model))
    assert report.is_complete
    assert str(report) == "3 of 3 tensors loaded (backbone 2/2, neck 1/1)"


def test_every_difference_is_named():
    model = tensors("backbone.a", "backbone.b", "neck.x.a", "neck.x.b", "head.cls")
    file = tensors("backbone.a", "old.y.a", "old.y.b") | tensors("head.cls", shape=(5, 1))
    report = compare(model, file)
    assert not report.is_complete
    assert report.num_loaded == 1
    assert str(report).splitlines() == [
        "1 of 5 tensors loaded (backbone 1/2, neck 0/2, head 0/1)",
        "  of another shape, not loaded: head.cls (5, 1), in the model (2,)",
        "  not in the checkpoint: backbone.b, neck.* (2)",
        "  not in the model: old.* (2)",
    ]


def test_a_norm_without_its_number_of_batches_lacks_nothing():
    model = tensors("norm.weight", "norm.num_batches_tracked")
    assert compare(model, tensors("norm.weight")).is_complete
    assert not compare(model, tensors("norm.num_batches_tracked")).is_complete
    # nor has a file too much that has it
    assert compare(model, model).is_complete


def test_long_lists_are_cut():
    names = [f"a{number}" for number in range(30)]
    assert summarize(names, [*names, "b"]).endswith("a10, a11, and 18 more")


def test_a_prefix_stands_for_its_names_only_where_all_are_listed():
    everything = ["a.b.c", "a.b.d", "a.e"]
    assert summarize(["a.b.c", "a.b.d"], everything) == "a.b.* (2)"
    assert summarize(["a.b.c"], everything) == "a.b.c"
    assert summarize(everything, everything) == "a.* (3)"
