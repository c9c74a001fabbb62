"""The model index and the configs tell of the same models, and the table of variants of both."""

import re
from pathlib import Path

import pytest
import yaml
from dev import model_zoo
from mmengine.config import Config

from xcit_dense.weights.published_weights import MODEL_INDEX

PROJECT = Path(__file__).parents[2]
CONFIGS = PROJECT / "configs"
RELEASE = "https://dl.fbaipublicfiles.com/xcit/"
RELEASED_AS = {
    "maskrcnn": "coco/maskrcnn_xcit_{}.pth",
    "semfpn": "ade/sem_fpn_xcit_{}.pth",
    "upernet": "ade/upernet_xcit_{}.pth",
}
DENSE = {name: model for name, model in model_zoo.read_models(PROJECT).items() if "Config" in model}


def imported():
    index = yaml.safe_load((PROJECT / "model-index.yml").read_text())
    return [*(PROJECT / file for file in index["Import"]), MODEL_INDEX]


def test_every_config_with_published_weights_has_an_entry_and_every_entry_a_config():
    sizes = ["tiny_12", "small_12", "small_24", "medium_24"]
    configs = {
        f"configs/{path.relative_to(CONFIGS)}"
        for head in RELEASED_AS
        for size in sizes
        for path in CONFIGS.glob(f"{head}/xcit_{size}_p*_{head}_*.py")
    }
    assert {model["Config"] for model in DENSE.values()} == configs
    assert len(configs) == 8 * len(RELEASED_AS)


def test_every_metafile_is_in_the_index():
    assert {path for path in imported() if CONFIGS in path.parents} == set(
        CONFIGS.glob("*/metafile.yml")
    )


@pytest.mark.parametrize("path", imported(), ids=lambda path: str(path.relative_to(PROJECT)))
def test_every_model_is_of_a_collection_and_says_that_its_link_was_not_followed(path):
    content = yaml.safe_load(path.read_text())
    (collection,) = content["Collections"]
    assert collection["Paper"]["URL"] == "https://arxiv.org/abs/2106.09681"
    assert collection["README"].startswith("https://github.com/facebookresearch/xcit/")
    for model in content["Models"]:
        assert model["In Collection"] == collection["Name"]
        assert model["Metadata"]["Weights Verified"] is False
        assert model["Weights"].startswith(RELEASE)
        assert all(result["Metrics"] for result in model["Results"])


def test_every_name_and_every_file_is_there_once():
    models = [model for path in imported() for model in yaml.safe_load(path.read_text())["Models"]]
    for key in ("Name", "Weights"):
        assert len({model[key] for model in models}) == len(models)


@pytest.mark.parametrize(("name", "model"), DENSE.items(), ids=DENSE)
def test_an_entry_says_what_its_config_does(name, model):
    config = PROJECT / model["Config"]
    assert name == config.stem
    backbone, (head, _) = name.split("_", 1)[1].rsplit("_", 2)[0], name.split("_")[-2:]
    assert config.parent.name == head
    assert model["Weights"] == RELEASE + RELEASED_AS[head].format(backbone)

    cfg, metadata = Config.fromfile(config), model["Metadata"]
    assert metadata["Batch Size"] == cfg.auto_scale_lr.base_batch_size
    if head == "maskrcnn":
        assert metadata["Epochs"] == cfg.train_cfg.max_epochs
        assert [list(result["Metrics"]) for result in model["Results"]] == [["box AP"], ["mask AP"]]
    else:
        assert metadata["Iterations"] == cfg.train_cfg.max_iters
        height, width = cfg.model.data_preprocessor.size
        assert metadata["Crop Size"] == f"{height}x{width}"
        assert [list(result["Metrics"]) for result in model["Results"]] == [["mIoU"]]


def test_the_table_of_the_readme_is_current(monkeypatch):
    """Parameters are counted for one model only: each has to be built."""
    text = (PROJECT / "docs/variants.md").read_text()
    config = "configs/upernet/xcit_small_12_p16_upernet_ade20k.py"
    assert f"(../{config}), {model_zoo.count_parameters(PROJECT / config) / 1e6:.1f} M" in text
    monkeypatch.setattr(model_zoo, "count_parameters", lambda config: 0)
    table = model_zoo.put_table(text, model_zoo.make_table(PROJECT))
    assert table == re.sub(r"\d+\.\d M", "0.0 M", text), "run tools/make_model_zoo_table.py"
