"""What torch's own means do to any module of the model takes effect, whatever runs the model."""

import copy

import pytest
import torch
from small_backbone import IMAGE, Backbone, difference, double, loss_of
from torch import nn
from torch.nn.utils import parametrize, prune

FORMS = pytest.mark.parametrize("attention", ["auto", "gram", "direct"])
AUTO_AND_GRAM = pytest.mark.parametrize("attention", ["auto", "gram"])


@pytest.fixture(autouse=True)
def fast_way_of_small_tensors(monkeypatch):
    """Linear layers take oneDNN's way, which a few tokens would not."""
    monkeypatch.setattr("xcit_dense.network.calling._SMALLEST_FOR_ONEDNN", 0)


def build(attention="gram", **options):
    torch.manual_seed(0)
    return Backbone(attention, **options)


def plain(model, image):
    """The levels without the engine and without anything computed again."""
    with torch.enable_grad(), torch.autograd.graph.save_on_cpu():
        for block in model.trunk.blocks:
            block.keep_less = False
        return [level.detach() for level in model.plain(image)]


def assert_same_gradients(found, expected):
    for name, want in expected.items():
        error = (found[name] - want).abs().max()
        assert error <= 1e-4 * want.abs().max() + 1e-7, name


MODULES = dict(build().named_modules())
CALLED = [name for name in MODULES if name and not name.endswith(("trunk.blocks", "levels"))]
# of the blocks, which are alike, the last
ONCE = [name for name in CALLED if "blocks" not in name or "blocks.3" in name]
WEIGHTED = [
    name for name in ONCE if isinstance(MODULES[name], nn.Linear | nn.Conv2d | nn.ConvTranspose2d)
]
LINEAR = [name for name in ONCE if isinstance(MODULES[name], nn.Linear)]


@torch.no_grad()
def test_untouched_it_is_run_by_the_engine():
    model = build()
    assert difference(model.by_engine(IMAGE), plain(model, IMAGE)) < 2e-6


@FORMS
@pytest.mark.parametrize("training", [True, False])
def test_a_hook_on_any_module_fires(attention, training):
    model, fired = build(attention).train(training), []
    for name in CALLED:
        module = model.get_submodule(name)
        module.register_forward_hook(lambda *_, name=name: fired.append(name))
    with torch.set_grad_enabled(training):
        model(IMAGE)
    assert set(fired) == set(CALLED)


@pytest.mark.parametrize("name", ONCE)
@torch.no_grad()
def test_what_a_hook_returns_is_used(name):
    model = build()
    before = model(IMAGE)
    model.get_submodule(name).register_forward_hook(lambda _, __, out: double(out))
    found = model(IMAGE)
    assert difference(found, plain(model, IMAGE)) < 2e-6
    assert difference(found, before) > 1e-5


@torch.no_grad()
def test_global_hooks_see_every_module():
    model, seen = build(), set()
    handle = nn.modules.module.register_module_forward_hook(lambda module, *_: seen.add(module))
    try:
        model(IMAGE)
    finally:
        handle.remove()
    assert seen >= {model.get_submodule(name) for name in CALLED}


class Adapted(nn.Module):
    """A low-rank adapter around a layer, as PEFT makes them."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer
        self.down, self.up = nn.Linear(layer.in_features, 2), nn.Linear(2, layer.out_features)

    weight = property(lambda self: self.layer.weight)
    bias = property(lambda self: self.layer.bias)

    def forward(self, tokens):
        return self.layer(tokens) + self.up(self.down(tokens))


@FORMS
@pytest.mark.parametrize("name", LINEAR)
def test_an_adapter_around_any_linear_layer_acts_and_learns(attention, name):
    model = build(attention)
    before = model(IMAGE)
    adapted = Adapted(model.get_submodule(name))
    model.set_submodule(name, adapted)
    with torch.no_grad():
        assert difference(model(IMAGE), before) > 1e-4
    loss_of(model.train()(IMAGE)).backward()
    assert adapted.up.weight.grad.any()


class Doubled(nn.Module):
    def forward(self, weight):
        return 2 * weight


@pytest.mark.parametrize("name", WEIGHTED)
@pytest.mark.parametrize("change", ["parametrized", "pruned", "forward replaced", "subclass"])
@torch.no_grad()
def test_a_changed_layer_is_computed_as_changed(name, change):
    model = build()
    before = model(IMAGE)
    layer = model.get_submodule(name)
    if change == "parametrized":
        parametrize.register_parametrization(layer, "weight", Doubled())
    elif change == "pruned":
        prune.l1_unstructured(layer, "weight", amount=0.7)
    elif change == "forward replaced":
        forward = layer.forward
        layer.forward = lambda tokens: 2 * forward(tokens)
    else:
        kind = type(layer)
        layer.__class__ = type("Twice", (kind,), {"forward": lambda s, t: 2 * kind.forward(s, t)})
    found = model(IMAGE)
    assert difference(found, plain(model, IMAGE)) < 2e-6
    # what goes into a batch norm of other statistics may come out of it small, but not the same
    assert difference(found, before) > 1e-5


class Wrapped(nn.Module):
    """Around a module, with nothing of its attributes."""

    def __init__(self, module):
        super().__init__()
        self.module = module

    def forward(self, *inputs):
        return double(self.module(*inputs))


@FORMS
@pytest.mark.parametrize("name", [name for name in ONCE if ".levels.2" not in name])
def test_a_wrapper_around_any_module_acts(attention, name):
    model = build(attention)
    with torch.no_grad():
        before = model(IMAGE)
    model.set_submodule(name, Wrapped(model.get_submodule(name)))
    with torch.no_grad():
        found = model(IMAGE)
    again = [level.detach() for level in model(IMAGE)]
    assert difference(found, again) < 2e-6
    assert difference(found, before) > 1e-5


@torch.no_grad()
def test_weights_changed_behind_autograds_back_are_seen():
    """As mmengine's EMAHook and mmdet's MeanTeacherHook change them."""
    model = build()
    model(IMAGE)
    for parameter in model.parameters():
        parameter.data.mul_(1.1)
    fresh = build()
    fresh.load_state_dict(model.state_dict())
    assert difference(model(IMAGE), fresh(IMAGE)) == 0


@torch.no_grad()
def test_a_model_of_inference_mode_runs_outside_of_it():
    with torch.inference_mode():
        model = build()
        expected = model(IMAGE)
    assert difference(model(IMAGE), expected) == 0


@FORMS
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:torch.quantize_per_tensor")
@torch.no_grad()
def test_linear_layers_can_be_quantized(attention):
    model = build(attention)
    expected = model(IMAGE)
    quantized = torch.ao.quantization.quantize_dynamic(copy.deepcopy(model), {nn.Linear})
    dynamic = torch.ao.nn.quantized.dynamic.Linear
    assert sum(isinstance(module, dynamic) for module in quantized.modules()) == 4 * len(LINEAR)
    assert 1e-5 < difference(quantized(IMAGE), expected) < 0.05


@AUTO_AND_GRAM
def test_functional_calls_and_per_sample_gradients(attention):
    model = build(attention)
    parameters, buffers = dict(model.named_parameters()), dict(model.named_buffers())

    def loss(parameters, image):
        return loss_of(torch.func.functional_call(model, (parameters, buffers), (image[None],)))

    of_samples = torch.func.vmap(torch.func.grad(loss), (None, 0))(parameters, IMAGE)
    for index, image in enumerate(IMAGE):
        grads = torch.autograd.grad(loss_of(model(image[None])), list(parameters.values()))
        of_sample = {name: grad[index] for name, grad in of_samples.items()}
        assert_same_gradients(of_sample, dict(zip(parameters, grads, strict=True)))
    with torch.no_grad():
        other = {name: 1.1 * tensor for name, tensor in parameters.items()}
        found = torch.func.functional_call(model, (other, buffers), (IMAGE,))
        model.load_state_dict(other, strict=False)
        assert difference(found, model(IMAGE)) == 0


@AUTO_AND_GRAM
def test_gradients_of_gradients(attention):
    model = build(attention).double()
    image = IMAGE[:1, :, :16, :32].double().requires_grad_()
    direction = torch.randn_like(image)

    def slope(image):
        (grad,) = torch.autograd.grad(loss_of(model(image)), image, create_graph=True)
        return (grad * direction).sum()

    (found,) = torch.autograd.grad(slope(image), image)
    ahead, behind = (slope(image + step * direction) for step in (1e-4, -1e-4))
    expected = (ahead - behind) / 2e-4
    torch.testing.assert_close((found * direction).sum(), expected, rtol=1e-4, atol=0)


@pytest.mark.parametrize("training", [True, False])
def test_shapes_without_data(training):
    model = build().to("meta").train(training)
    shapes = [tuple(level.shape) for level in model(torch.empty(2, 3, 70, 90, device="meta"))]
    assert shapes == [(2, 32, 18, 23), (2, 32, 9, 12), (2, 32, 5, 6), (2, 32, 3, 3)]


@torch.no_grad()
def test_an_exported_model_takes_other_sizes_and_batches():
    model, free = build("auto"), torch.export.Dim.AUTO
    exported = torch.export.export(
        model, (IMAGE,), dynamic_shapes=dict(image={0: free, 2: free, 3: free})
    )
    other = torch.randn(3, 3, 160, 128)
    assert difference(exported.module()(other), model(other)) < 2e-6


@pytest.mark.parametrize(("with_cp", "attention"), [(False, "gram"), (True, "auto")])
def test_compiled_training_equals_plain_training(with_cp, attention):
    torch._dynamo.reset()
    model = build(attention, with_cp=with_cp).train()
    twin = copy.deepcopy(model)
    compiled = torch.compile(twin, fullgraph=True, dynamic=False, backend="aot_eager")
    for run in (compiled, model):
        loss_of(run(IMAGE)).backward()
    found, expected = (
        {name: parameter.grad for name, parameter in one.named_parameters()}
        for one in (twin, model)
    )
    assert_same_gradients(found, expected)
    torch.testing.assert_close(dict(twin.named_buffers()), dict(model.named_buffers()))
