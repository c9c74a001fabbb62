"""The README's table of variants, made from the model index: ``tools/make_model_zoo_table.py``."""

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

import torch
import yaml
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope

from xcit_dense.atomic_files import write_atomically
from xcit_dense.weights.published_weights import KIND_OF_THE_RELEASE

HEADS = {"maskrcnn": "Mask R-CNN", "semfpn": "Semantic FPN", "upernet": "UperNet"}
BEGIN = "<!-- made by tools/make_model_zoo_table.py: begin -->"
END = "<!-- made by tools/make_model_zoo_table.py: end -->"


def read_models(root: Path) -> dict[str, dict[str, Any]]:
    """All models of a project's model index, by name, in the order of the files.

    Args:
        root: folder of the project, with its ``model-index.yml``.

    Raises:
        ValueError: two models have the same name.
    """
    index = yaml.safe_load((root / "model-index.yml").read_text(encoding="utf-8"))
    models = {}
    for file in index["Import"]:
        for model in yaml.safe_load((root / file).read_text(encoding="utf-8"))["Models"]:
            if model["Name"] in models:
                raise ValueError(f"{file}: there is another model with the name {model['Name']}")
            models[model["Name"]] = model
    return models


def count_parameters(config: Path) -> int:
    """Parameters of the model of a config, buffers not counted; takes no memory for them."""
    cfg = Config.fromfile(config)
    init_default_scope(cfg.default_scope)
    with torch.device("meta"):
        model = MODELS.build(cfg.model)
    return sum(parameter.numel() for parameter in model.parameters())


def make_table(root: Path) -> str:
    """The table in Markdown: a row for every backbone, a column for every head."""
    models = read_models(root)
    dense = {name: model for name, model in models.items() if "Config" in model}
    backbones = dict.fromkeys("_".join(name.split("_")[:4]) for name in dense)
    lines = [
        f"| Backbone | ImageNet | {' | '.join(HEADS.values())} |",
        "|---" * (2 + len(HEADS)) + "|",
    ]
    for backbone in backbones:
        of_backbone = {name.split("_")[4]: model for name, model in dense.items()
                       if name.startswith(backbone + "_")}  # fmt: skip
        cells = [_title(backbone), _imagenet_cell(models[f"{backbone}_{KIND_OF_THE_RELEASE}"])]
        cells += [_dense_cell(of_backbone[head], root) for head in HEADS]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _title(backbone: str) -> str:
    """``xcit_tiny_12_p16`` is XCiT-T12/16."""
    _, size, depth, patch_size = backbone.split("_")
    return f"XCiT-{size[0].upper()}{depth}/{patch_size.removeprefix('p')}"


def _imagenet_cell(model: dict[str, Any]) -> str:
    return f"[{_metrics(model)}]({model['Weights']})"


def _dense_cell(model: dict[str, Any], root: Path) -> str:
    millions = count_parameters(root / model["Config"]) / 1e6
    return (
        f"[{_metrics(model)}]({model['Config']}), {millions:.1f} M, [weights]({model['Weights']})"
    )


def _metrics(model: dict[str, Any]) -> str:
    values = [value for result in model["Results"] for value in result["Metrics"].values()]
    return " / ".join(f"{value:.1f}" for value in values)


def put_table(text: str, table: str) -> str:
    """Replace what stands between the two markers of a text.

    Raises:
        ValueError: the text lacks the markers.
    """
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the table belongs between the lines {BEGIN} and {END}: put them in")
    return f"{before}{BEGIN}\n{table}\n{END}{after}"


def main(argv: list[str] | None = None) -> None:
    """Make the table as the arguments say (``sys.argv`` if None)."""
    parser = ArgumentParser(
        description="Write the table of variants into README.md, from model-index.yml. Numbers of "
        "parameters are counted in the models that the configs build."
    )
    parser.add_argument(
        "--root", type=Path, default=Path(), metavar="DIR", help="the project's folder (.)"
    )
    root = parser.parse_args(argv).root
    readme = root / "README.md"
    text = put_table(readme.read_text(encoding="utf-8"), make_table(root))
    write_atomically(readme, lambda file: file.write(text.encode()))
