"""The engine computes what the plain model computes, or lets the plain model do it."""

import copy
import warnings

import pytest
import torch
from small_backbone import Backbone, difference
from torch import nn

from xcit_dense.engine import Engine, FileTokenStore, NotAsBuilt, TensorSource
from xcit_dense.engine import products as engine_products
from xcit_dense.network import STRIDES

SIZES = [(1, 1), (1, 2000), (2000, 1), (17, 31), (224, 224), (333, 250)]


def engine_of(model):
    return Engine(model.trunk, model.pyramid)


@pytest.fixture(params=["one band", "many bands"])
def bands(request, monkeypatch):
    if request.param == "many bands":
        monkeypatch.setattr(engine_products, "_CPU_ELEMENTS", 2_000)


@pytest.mark.parametrize("patch_size", [8, 16])
@pytest.mark.parametrize("size", SIZES)
@torch.no_grad()
def test_it_equals_the_plain_model(patch_size, size, bands):
    model, image = Backbone(patch_size=patch_size), torch.randn(2, 3, *size)
    found, expected = engine_of(model).levels(image), model.plain(image)
    assert [level.dtype for level in found] == [torch.float32] * 4
    assert difference(found, expected) <= 2e-6


@torch.no_grad()
def test_it_is_no_further_from_float64_than_the_published_form():
    model, image = Backbone(attention="direct"), torch.randn(1, 3, 320, 480)
    exact, direct = copy.deepcopy(model).double().plain(image.double()), model.plain(image)
    for block in model.trunk.blocks:
        block.attention.form = "gram"
    found = engine_of(model).levels(image)
    for one, other, want in zip(found, direct, exact, strict=True):
        assert (one - want).abs().max() <= 1.5 * (other - want).abs().max()


@pytest.mark.parametrize("out_strides", [(4,), (8, 8), (8, 16, 32), (16, 32)])
@torch.no_grad()
def test_any_levels(out_strides, bands):
    model, image = Backbone(out_strides=out_strides), torch.randn(1, 3, 200, 130)
    assert difference(engine_of(model).levels(image), model.plain(image)) <= 2e-6


@pytest.mark.parametrize("precision", ["model", "autocast"])
@torch.no_grad()
def test_bfloat16(precision, bands):
    model, image = Backbone(), torch.randn(2, 3, 250, 330)
    exact = model.plain(image)
    if precision == "model":
        model, image = model.bfloat16(), image.bfloat16()
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "autocast"):
        found, expected = engine_of(model).levels(image), model.plain(image)
    for one, other, want in zip(found, expected, exact, strict=True):
        assert one.dtype == other.dtype
        error, of_plain = (one - want).abs().max(), (other - want).abs().max()
        assert error <= 1.5 * of_plain + torch.finfo(torch.bfloat16).eps * want.abs().max()


@pytest.mark.parametrize(
    "norm_layer",
    [
        lambda width: nn.GroupNorm(2, width),
        lambda width: nn.GroupNorm(1, width),  # a LayerNorm of maps
        nn.InstanceNorm2d,
        lambda width: nn.BatchNorm2d(width, track_running_stats=False),
    ],
)
@torch.no_grad()
def test_norms_that_look_at_whole_maps_are_left_to_the_plain_model(norm_layer):
    model = Backbone(norm_layer=norm_layer)
    assert model.by_engine(torch.randn(1, 3, 64, 64)) is None
    with pytest.raises(NotAsBuilt):
        engine_of(model)


@pytest.mark.parametrize(
    "norm_layer", [nn.SyncBatchNorm, nn.Identity, lambda width: nn.BatchNorm2d(width, affine=False)]
)
@torch.no_grad()
def test_other_norms_of_single_places(norm_layer):
    model, image = Backbone(norm_layer=norm_layer), torch.randn(1, 3, 64, 64)
    assert difference(engine_of(model).levels(image), model.plain(image)) <= 2e-6


def test_gradients_training_and_few_tokens_are_left_to_the_plain_model():
    small, large = torch.randn(1, 3, 64, 64), torch.randn(1, 3, 320, 320)
    model = Backbone()
    assert model.by_engine(small) is None
    with torch.no_grad():
        assert model.by_engine(small) is not None
        assert Backbone("auto").by_engine(small) is None
        assert Backbone("auto").by_engine(large) is not None
        assert Backbone("direct").by_engine(large) is None
        assert model.train().by_engine(small) is None


@pytest.mark.parametrize(
    "change",
    [
        lambda t: setattr(t.blocks[1].interaction.conv1, "dilation", (2, 2)),
        lambda t: setattr(t.blocks[1].interaction.conv2, "padding_mode", "circular"),
        lambda t: setattr(t.patch_embedding[1], "approximate", "tanh"),
        lambda t: setattr(t.blocks[1].ffn, "fc1", nn.Linear(32, 128, bias=False)),
        lambda t: setattr(t.blocks[1], "ffn_norm", nn.Identity()),
        lambda t: setattr(t.blocks[1], "attention", nn.Identity()),
        lambda t: t.blocks[1].half(),
        lambda t: t.compile(),
    ],
)
def test_a_changed_part_is_noticed(change):
    model = Backbone()
    change(model.trunk)
    with pytest.raises(NotAsBuilt):
        engine_of(model)


@torch.no_grad()
def test_a_tracer_sees_plain_operators():
    model, image, other = Backbone(), torch.randn(1, 3, 64, 96), torch.randn(1, 3, 64, 96)
    expected = model(other)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # tracing warns that sizes become constants
        traced = torch.jit.trace(model, image, check_trace=False)
    assert difference(traced(other), expected) <= 2e-6
    graph = torch.fx.experimental.proxy_tensor.make_fx(model)(image)
    assert "mkldnn" not in graph.code
    assert difference(graph(other), expected) <= 2e-6


class Strips:
    """An image that is read from what only gives strips, noting the largest."""

    def __init__(self, image):
        self.image, self.most = image, 0
        self.height, self.width = image.shape[-2:]

    def read(self, first, last):
        assert 0 <= first < last <= self.height
        self.most = max(self.most, last - first)
        return self.image[:, first:last].clone()


@pytest.mark.parametrize("patch_size", [8, 16])
@torch.no_grad()
def test_any_rows_of_the_pyramid(patch_size, monkeypatch):
    monkeypatch.setattr(engine_products, "_CPU_ELEMENTS", 2_000)
    model, image = Backbone(patch_size=patch_size), torch.randn(3, 405, 130)
    expected = model.plain(image[None])
    source = Strips(image)
    features = engine_of(model).features(source)
    assert source.most < 405 / 2
    for first, last in [(0, 405), (0, 1), (37, 41), (32, 64), (100, 333), (404, 405)]:
        levels = features.levels(first, last)
        for level, want, stride in zip(levels, expected, STRIDES, strict=True):
            rows = want[:, :, first // stride : -(-last // stride)]
            assert level.shape == rows.shape
            assert (level - rows).abs().max() <= 2e-6 * want.abs().max()


@torch.no_grad()
def test_tokens_may_lie_in_files(tmp_path):
    model, image = Backbone(), TensorSource(torch.randn(3, 300, 200))
    in_memory = engine_of(model).features(image).levels(0, 300)
    engine = Engine(model.trunk, model.pyramid, store_folder=tmp_path)
    assert difference(engine.features(image).levels(0, 300), in_memory) == 0
    assert not list(tmp_path.iterdir())  # nothing is left when a process is killed


def test_a_file_holds_tokens_of_any_type(tmp_path):
    store = FileTokenStore(tmp_path, 6, 5, 3, torch.bfloat16)
    tokens = torch.randn(30, 3).bfloat16()
    store.write(2, tokens[10:])
    store.write(0, tokens[:10])
    torch.testing.assert_close(store.read(0, 6), tokens, rtol=0, atol=0)
    torch.testing.assert_close(store.read(1, 3), tokens[5:15], rtol=0, atol=0)
