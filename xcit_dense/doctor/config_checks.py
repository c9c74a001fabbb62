"""Checks of what a config says of the model that it makes, without running it."""

from collections.abc import Iterator, Sequence

from mmengine.fileio import list_from_file
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DATASETS, OPTIMIZERS
from torch import nn

from xcit_dense.doctor.trial import Finding, Trial, failure
from xcit_dense.mm import rules
from xcit_dense.mm.backbone import XCiT
from xcit_dense.mm.config import dicts_in, innermost_dataset, model_scope, type_name

_NOT_DECAYED = ("temperature", "layer_scale")
_OPTIMIZER_SETTINGS = ("constructor", "optimizer", "paramwise_cfg")


def custom_keys_match(trial: Trial) -> Iterator[Finding]:
    """Each of the optimizer's ``custom_keys`` is part of the name of a parameter."""
    paramwise = (trial.cfg.get("optim_wrapper") or {}).get("paramwise_cfg") or {}
    prefixes = ["student.", "teacher."] if trial.prefix == "student." else [trial.prefix]
    parameters = [name for name, _ in trial.model.named_parameters()]
    names = [f"{prefix}{name}" for prefix in prefixes for name in parameters]
    for key in paramwise.get("custom_keys") or {}:
        if any(key in name for name in names):
            continue
        remedy = "take it out, or mend its name: what it was to do is not done"
        # mm's own recipes have some for parts that their transformers do without
        is_wrong = key not in rules.TRANSFORMER_KEYS or bool(_parameters_of_xcit(trial))
        if trial.prefix == "detector." and not key.startswith(trial.prefix):
            remedy = "none is needed if it is for the tracker around the detector: not built here"
            is_wrong = False
        text = f"optim_wrapper.paramwise_cfg.custom_keys: {key!r} matches no parameter"
        yield Finding(text, remedy, is_wrong)


def optimizer_spares_xcit(trial: Trial) -> Iterator[Finding]:
    """The optimizer can be built, and has no weight decay for XCiT's temperatures and scales."""
    settings = trial.cfg.get("optim_wrapper") or {}
    optimizer = settings.get("optimizer")
    if not optimizer or type_name(optimizer) == "ZeroRedundancyOptimizer":  # is built distributed
        return
    part = trial.prefix.removesuffix(".")  # its parameters are called as in the whole model
    model = nn.ModuleDict({part: trial.model}) if part else trial.model
    plain = {key: settings[key] for key in _OPTIMIZER_SETTINGS if key in settings}
    try:
        if isinstance(optimizer.type, str) and OPTIMIZERS.get(optimizer.type) is None:
            raise ValueError(f"{optimizer.type} is no optimizer that is registered")
        # without mixed precision, which wants a GPU
        built = build_optim_wrapper(model, {"type": "OptimWrapper", **plain}).optimizer
    except Exception as error:
        yield failure("building the optimizer", error)
        return
    decayed = {
        id(parameter)
        for group in built.param_groups
        if group.get("weight_decay")
        for parameter in group["params"]
    }
    of_xcit = _parameters_of_xcit(trial)
    for key in _NOT_DECAYED:
        if any(key in name and id(parameter) in decayed for name, parameter in of_xcit):
            remedy = f"paramwise_cfg=dict(custom_keys=dict({key}=dict(decay_mult=0.0)))"
            yield Finding(f"optim_wrapper: the {key} of XCiT is decayed", remedy, is_wrong=False)


def _parameters_of_xcit(trial: Trial) -> list[tuple[str, nn.Parameter]]:
    backbones = [module for module in trial.model.modules() if isinstance(module, XCiT)]
    return [named for backbone in backbones for named in backbone.named_parameters()]


def heads_have_classes_of_data(trial: Trial) -> Iterator[Finding]:
    """``num_classes`` of every head is the number of class names of the training data."""
    dataset = innermost_dataset((trial.cfg.get("train_dataloader") or {}).get("dataset") or {})
    told = (dataset.get("metainfo") or {}).get("classes")
    names = _class_names(dataset) if told is None else told
    if isinstance(names, str):
        try:
            names = list_from_file(names)  # as mm does
        except FileNotFoundError:
            text = f"metainfo.classes={names!r} of the training data is one text, and no file"
            remedy = f"write a tuple, for a single class too: classes=({names!r},)"
            yield Finding(text, remedy)
            return
    nodes = [place for place in dicts_in(trial.config, trial.path) if ".backbone" not in place[0]]
    things = [node["num_things_classes"] for _, node in nodes if node.get("num_stuff_classes")]
    for path, node in nodes:
        if type_name(node) in rules.HEADS_OF_OTHER_CLASSES or path.endswith("rpn_head"):
            continue
        both = node.get("num_things_classes", 0) + node.get("num_stuff_classes", 0)
        key = "num_things_classes + num_stuff_classes" if both else "num_classes"
        count = both or node.get(key)
        if names and count and count not in (len(names), *things):
            # what a data set has by default it may replace, and in mmseg more outputs do no harm
            harms = count < len(names) or model_scope(trial.cfg) != "mmseg"
            yield Finding(
                f"{path}.{key} = {count}, but the training data have {len(names)} class names",
                "make the two agree: num_classes of every head, and metainfo=dict(classes=...) of "
                "the data sets",
                is_wrong=told is not None and harms,
            )


def _class_names(dataset: dict) -> Sequence[str] | None:
    """Those that the class of a data set has by default."""
    kind = dataset.get("type")
    with DATASETS.switch_scope_and_registry(None) as data_sets:
        kind = data_sets.get(kind) if isinstance(kind, str) else kind
    return getattr(kind, "METAINFO", {}).get("classes")


CHECKS = [custom_keys_match, optimizer_spares_xcit, heads_have_classes_of_data]
"""In order."""
