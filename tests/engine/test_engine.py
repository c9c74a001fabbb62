"""The engine computes what the plain model computes, or lets the plain model do it."""

import copy
import warnings

import pytest
import torch
from torch import nn

from xcit_dense.engine import Engine, NotAsBuilt, TensorSource, TokenStore, levels_by_engine
from xcit_dense.engine import products as engine_products
from xcit_dense.network import Pyramid, Trunk, resolve_arch

ARCH = dict(embed_dims=32, depth=4, num_heads=4, eta=0.5)
SIZES = [(1, 1), (1, 5000), (5000, 1), (17, 31), (224, 224), (333, 250)]


def build(patch_size=16, norm_layer=nn.BatchNorm2d, out_strides=(4, 8, 16, 32), attention="gram"):
    arch = resolve_arch(ARCH, num_levels=len(out_strides))
    trunk = Trunk(arch, patch_size, norm_layer=norm_layer, attention=attention).eval()
    pyramid = Pyramid(32, patch_size, norm_layer, out_strides).eval()
    for module in (*trunk.modules(), *pyramid.modules()):
        if isinstance(module, nn.BatchNorm2d) and module.track_running_stats:
            nn.init.normal_(module.running_mean, std=0.3)
            nn.init.uniform_(module.running_var, 0.5, 2)
        if isinstance(module, nn.BatchNorm2d) and module.affine:
            nn.init.uniform_(module.weight, -1, 1)
            nn.init.normal_(module.bias)
    for name, parameter in trunk.named_parameters():
        if "scale" in name or "temperature" in name:
            nn.init.uniform_(parameter, 0.3, 1)
    return trunk, pyramid


@torch.no_grad()
def plain(trunk, pyramid, image):
    return pyramid(trunk(image), image.shape[-2:])


def assert_same(found, expected, tolerance=2e-6):
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert one.shape == other.shape
        assert one.dtype == other.dtype
        assert (one - other).abs().max() <= tolerance * other.abs().max()


@pytest.fixture(params=["one band", "many bands"])
def bands(request, monkeypatch):
    if request.param == "many bands":
        monkeypatch.setattr(engine_products, "_CPU_ELEMENTS", 2_000)


@pytest.mark.parametrize("patch_size", [8, 16])
@pytest.mark.parametrize("size", SIZES)
def test_it_equals_the_plain_model(patch_size, size, bands):
    model, image = build(patch_size), torch.randn(2, 3, *size)
    assert_same(Engine(*model).levels(image), plain(*model, image))


def test_it_is_no_further_from_float64_than_the_published_form():
    trunk, pyramid = build(attention="direct")
    image = torch.randn(1, 3, 320, 480)
    exact = plain(copy.deepcopy(trunk).double(), copy.deepcopy(pyramid).double(), image.double())
    direct = plain(trunk, pyramid, image)
    for block in trunk.blocks:
        block.attention.form = "gram"
    found = Engine(trunk, pyramid).levels(image)
    for one, other, want in zip(found, direct, exact, strict=True):
        assert (one - want).abs().max() <= 1.5 * (other - want).abs().max()


@pytest.mark.parametrize("out_strides", [(4,), (8, 8), (8, 16, 32), (16, 32)])
def test_any_levels(out_strides, bands):
    model, image = build(out_strides=out_strides), torch.randn(1, 3, 200, 130)
    assert_same(Engine(*model).levels(image), plain(*model, image))


@pytest.mark.parametrize("precision", ["model", "autocast"])
def test_bfloat16(precision, bands):
    trunk, pyramid = build()
    image = torch.randn(2, 3, 250, 330)
    exact = plain(trunk, pyramid, image)
    if precision == "model":
        trunk, pyramid, image = trunk.bfloat16(), pyramid.bfloat16(), image.bfloat16()
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "autocast"):
        found, expected = Engine(trunk, pyramid).levels(image), plain(trunk, pyramid, image)
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
def test_norms_that_look_at_whole_maps_are_left_to_the_plain_model(norm_layer):
    model = build(norm_layer=norm_layer)
    with torch.no_grad():
        assert levels_by_engine(*model, torch.randn(1, 3, 64, 64)) is None
    with pytest.raises(NotAsBuilt):
        Engine(*model)


@pytest.mark.parametrize(
    "norm_layer", [nn.SyncBatchNorm, nn.Identity, lambda width: nn.BatchNorm2d(width, affine=False)]
)
def test_other_norms_of_single_places(norm_layer):
    model = build(norm_layer=lambda width: norm_layer(width))
    for module in (*model[0].modules(), *model[1].modules()):
        if isinstance(module, nn.SyncBatchNorm):
            nn.init.normal_(module.running_mean)
    image = torch.randn(1, 3, 64, 64)
    assert_same(Engine(*model).levels(image), plain(*model, image))


def test_gradients_training_and_few_tokens_are_left_to_the_plain_model():
    image = torch.randn(1, 3, 64, 64)
    model = build()
    assert levels_by_engine(*model, image) is None
    with torch.no_grad():
        assert levels_by_engine(*model, image) is not None
        assert levels_by_engine(*build(attention="auto"), image) is None
        assert levels_by_engine(*build(attention="auto"), torch.randn(1, 3, 320, 320)) is not None
        assert levels_by_engine(*build(attention="direct"), torch.randn(1, 3, 320, 320)) is None
        model[0].train()
        assert levels_by_engine(*model, image) is None


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
    trunk, pyramid = build()
    change(trunk)
    with pytest.raises(NotAsBuilt):
        Engine(trunk, pyramid)


@torch.no_grad()
def test_a_tracer_sees_plain_operators():
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.trunk, self.pyramid = build()

        def forward(self, image):
            levels = levels_by_engine(self.trunk, self.pyramid, image)
            return levels or self.pyramid(self.trunk(image), image.shape[-2:])

    model, image, other = Model().eval(), torch.randn(1, 3, 64, 96), torch.randn(1, 3, 64, 96)
    expected = model(other)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # tracing warns that sizes become constants
        traced = torch.jit.trace(model, image, check_trace=False)
    assert_same(traced(other), expected)
    graph = torch.fx.experimental.proxy_tensor.make_fx(model)(image)
    assert "mkldnn" not in graph.code
    assert_same(graph(other), expected)


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
    model, image = build(patch_size), torch.randn(3, 405, 130)
    expected = plain(*model, image[None])
    source = Strips(image)
    features = Engine(*model).features(source)
    assert source.most < 405 / 2
    for first, last in [(0, 405), (0, 1), (37, 41), (32, 64), (100, 333), (404, 405)]:
        for level, want in zip(features.levels(first, last), expected, strict=True):
            stride = -(-405 // want.shape[2])
            stride = min((4, 8, 16, 32), key=lambda s: abs(s - stride))
            rows = want[:, :, first // stride : -(-last // stride)]
            assert level.shape == rows.shape
            assert (level - rows).abs().max() <= 2e-6 * want.abs().max()


@torch.no_grad()
def test_tokens_may_lie_anywhere():
    """A store that gives and takes copies of its rows, as one in a file would."""

    class Elsewhere(TokenStore):
        def read(self, first, last):
            return super().read(first, last).clone()

        def write(self, first, tokens):
            start = first * self.width
            self.tokens[start : start + len(tokens)] = tokens

    model, image = build(), torch.randn(3, 300, 200)
    engine = Engine(*model)
    engine._new_store = lambda height, width: Elsewhere(height, width, 32, torch.float32, "cpu")
    taps = [
        level.read_all(stores)
        for level, stores in zip(
            engine.level_runners, engine.taps([TensorSource(image)]), strict=True
        )
    ]
    for tap, want in zip(taps, plain(*model, image[None]), strict=True):
        level = tap[..., : want.shape[2], : want.shape[3]]
        assert (level - want).abs().max() <= 2e-6 * want.abs().max()
