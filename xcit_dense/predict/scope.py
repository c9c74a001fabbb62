"""Which library a config belongs to."""

from mmengine.config import Config

from xcit_dense.mm.config import innermost_dataset, type_name


def scope_of(cfg: Config) -> str:
    """The scope that a config names, else mmseg if its test pipeline is mmseg's, else mmdet."""
    if cfg.get("default_scope"):
        return cfg.default_scope
    pipeline = tested_dataset(cfg).get("pipeline") or []
    return "mmseg" if any(type_name(step) == "PackSegInputs" for step in pipeline) else "mmdet"


def tested_dataset(cfg: Config) -> dict:
    """The data set with the test pipeline; empty where there is none."""
    return innermost_dataset((cfg.get("test_dataloader") or {}).get("dataset") or {})
