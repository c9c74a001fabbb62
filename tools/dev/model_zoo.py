"""The table of variants in ``docs/variants.md``, made from the model index."""

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

import torch
import yaml
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope

from xcit_dense.atomic_files import write_atomically
from xcit_dense.errors import UserError
from xcit_dense.weights.published_weights import KIND_OF_THE_RELEASE, MODEL_INDEX

HEADS = {"maskrcnn": "Mask R-CNN", "semfpn": "Semantic FPN", "upernet": "UperNet"}
BEGIN = "<!-- made by tools/make_model_zoo_table.py: begin -->"
END = "<!-- made by tools/make_model_zoo_table.py: end -->"


def read_models(root: Path) -> dict[str, dict[str, Any]]:
    """All models of a project's model index, and the ImageNet weights, by name.

    Args:
        root: folder of the project, with its ``model-index.yml``.
    """
    index = yaml.safe_load((root / "model-index.yml").read_text())
    paths = [*(root / file for file in index["Import"]), MODEL_INDEX]
    files = [yaml.safe_load(path.read_text()) for path in paths]
    return {model["Name"]: model for file in files for model in file["Models"]}


def make_table(root: Path) -> str:
    """The table in Markdown: a row for every backbone, a column for every head."""
    models = read_models(root)
    # xcit_SIZE_DEPTH_PATCH_HEAD_DATA
    with_config = [name.split("_") for name, model in models.items() if "Config" in model]
    lines = [
        f"| Backbone | ImageNet | {' | '.join(HEADS.values())} |",
        "|---" * (2 + len(HEADS)) + "|",
    ]
    for _, size, depth, patch in dict.fromkeys(tuple(name[:4]) for name in with_config):
        backbone = f"xcit_{size}_{depth}_{patch}"
        classifier = models[f"{backbone}_{KIND_OF_THE_RELEASE}"]
        cells = [
            f"XCiT-{size[0].upper()}{depth}/{patch.removeprefix('p')}",
            f"[{_metrics(classifier)}]({classifier['Weights']})",
        ]
        for head in HEADS:
            (model,) = (m for name, m in models.items() if name.startswith(f"{backbone}_{head}_"))
            millions = count_parameters(root / model["Config"]) / 1e6
            cells.append(
                f"[{_metrics(model)}](../{model['Config']}), {millions:.1f} M, "
                f"[weights]({model['Weights']})"
            )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def count_parameters(config: Path) -> int:
    """Parameters of the model of a config, buffers not counted; takes no memory for them."""
    cfg = Config.fromfile(config)
    init_default_scope(cfg.default_scope)
    with torch.device("meta"):
        model = MODELS.build(cfg.model)
    return sum(parameter.numel() for parameter in model.parameters())


def _metrics(model: dict[str, Any]) -> str:
    values = [value for result in model["Results"] for value in result["Metrics"].values()]
    return " / ".join(f"{value:.1f}" for value in values)


def put_table(text: str, table: str) -> str:
    """Replace what stands between the two markers of a text; a UserError if it lacks them."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise UserError(f"the table belongs between the lines {BEGIN} and {END}: put them in")
    return f"{before}{BEGIN}\n{table}\n{END}{after}"


def main(argv: list[str] | None = None) -> None:
    """Make the table; there are no options."""
    description = "Write the table of variants into docs/variants.md, from model-index.yml."
    ArgumentParser(description=description).parse_args(argv)
    root = Path(__file__).parents[2]
    page = root / "docs" / "variants.md"
    text = put_table(page.read_text(), make_table(root))
    write_atomically(page, lambda file: file.write(text.encode()))
