"""What weight decay is, and is not, applied to."""

from mmengine.config import Config

from xcit_dense.openmmlab.backbone import XCiT
from xcit_dense.openmmlab.doctor.finding import Finding
from xcit_dense.openmmlab.doctor.trial_model import TrialModel

_SPARED = ("temperature", "layer_scale")


def optimizer_findings(trial: TrialModel, cfg: Config) -> list[Finding]:
    """Keys of ``paramwise_cfg`` that match no parameter, and decay where XCiT wants none."""
    wrapper = cfg.get("optim_wrapper") or {}
    paramwise = wrapper.get("paramwise_cfg") or {}
    keys = paramwise.get("custom_keys") or {}
    prefix = trial.path.removeprefix("model").removeprefix(".")
    names = [f"{prefix}.{name}".removeprefix(".") for name, _ in trial.model.named_parameters()]
    findings = [
        Finding(
            f"optim_wrapper.paramwise_cfg.custom_keys: {key!r} matches no parameter",
            "take it out, or mend its name: what it was to do is not done",
        )
        for key in keys
        if not any(key in name for name in names)
    ]
    decay = (wrapper.get("optimizer") or {}).get("weight_decay", 0)
    if decay and any(isinstance(module, XCiT) for module in trial.model.modules()):
        findings += [
            Finding(
                f"optim_wrapper: the {key} of XCiT is decayed",
                f"paramwise_cfg=dict(custom_keys=dict({key}=dict(decay_mult=0.0)))",
                is_wrong=False,
            )
            for key in _SPARED
            if keys.get(key, {}).get("decay_mult") != 0
        ]
    return findings
