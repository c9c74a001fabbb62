# %% [markdown]
# # From your ResNet config to XCiT predictions
#
# You have an mmdet config with a ResNet in it. Here it gets an XCiT, is trained, predicts, and
# shows what it attends to. Run it from the repository's folder, cell by cell in an editor that
# knows `# %%`, or as a whole:
#
#     .venv/openmmlab/bin/python docs/tutorial.py
#
# The config is `docs/tutorial_resnet.py`: mmdet's Mask R-CNN with a ResNet-50, for five classes of
# generated shapes. Yours may be any config of mmdet or mmsegmentation. On two CPU cores that had
# other work too, the whole took 17 minutes and reached box / mask AP 0.681 / 0.751.

# %%
import os
import sys
from pathlib import Path

import cv2
from mmengine.config import Config
from mmengine.runner import Runner

import xcit_dense
from xcit_dense.cli import attention, browse, curves
from xcit_dense.mm.data import set_data_root
from xcit_dense.predict import Predictor

QUICK = "TUTORIAL_QUICK" in os.environ  # a few seconds instead of minutes; learns nothing
FOLDER = Path(os.environ.get("TUTORIAL_FOLDER", "work_dirs/tutorial"))
RESNET_CONFIG = Path("docs/tutorial_resnet.py")
if not RESNET_CONFIG.is_file():
    raise SystemExit(f"{RESNET_CONFIG} is not in {Path.cwd()}: run this in the repository's folder")

# %% [markdown]
# ## Data
# Generated shapes in COCO's format stand for your data. `data_root` is the only thing to change.

# %%
sys.path.append("tools")  # what makes the shapes is not installed with the package
from dev.demo_data import Plan, write_coco  # noqa: E402

write_coco(FOLDER / "data", Plan(train=6, val=3, size=64) if QUICK else Plan())
resnet = Config.fromfile(RESNET_CONFIG)
set_data_root(resnet, f"{FOLDER}/data")

# %% [markdown]
# ## Swap the backbone
# One call. What it changes beyond the backbone, and why, is logged: widths, optimizer, parameters
# without weight decay, imports. `xcit-dense swap` does the same to a file.
#
# For real images, take `arch="small_12", patch_size=16` and published weights. The small network
# here learns the shapes from nothing, which a larger learning rate helps.

# %%
arch = dict(embed_dims=96, depth=6, num_heads=4, eta=0.1)
if QUICK:
    arch.update(embed_dims=16, depth=4)
xcit = xcit_dense.swap_backbone(resnet, arch=arch, patch_size=8)
xcit.optim_wrapper.optimizer.lr = 1e-3
xcit.work_dir = str(FOLDER)
if QUICK:
    xcit.train_cfg.update(max_epochs=1, val_interval=1)
xcit.dump(FOLDER / "xcit.py")
print(f"{resnet.model.backbone.type} -> {xcit.model.backbone.type}")

# %% [markdown]
# ## Look at what the model is fed
# Images after all augmentations, with their boxes and masks. Most mistakes in data show here.

# %%
browse.main([f"{FOLDER}/xcit.py", "--number", "4", "--out", f"{FOLDER}/fed"])

# %% [markdown]
# ## Train
# As any config of mmdet: `xcit-dense train`, or from Python.

# %%
Runner.from_cfg(xcit).train()
curves.main([str(FOLDER)])

# %% [markdown]
# ## Predict
# Two lines: a predictor, and a call with a file or with pixels. The rest draws.

# %%
checkpoint = (FOLDER / "last_checkpoint").read_text()
predictor = Predictor(f"{FOLDER}/xcit.py", checkpoint)

(FOLDER / "predictions").mkdir(exist_ok=True)
for path in sorted((FOLDER / "data/val2017").iterdir())[:4]:
    found = predictor(path).above(0.3)
    names = [predictor.categories.names[label] for label in found.labels]
    print(path.name, ", ".join(names) or "nothing")
    picture = predictor.draw(cv2.imread(str(path)), found)
    cv2.imwrite(str(FOLDER / "predictions" / path.name), picture)

# %% [markdown]
# ## Look at attention
# For two blocks: which places drive the attention of each head, and its matrix of channels.
# `docs/look.md` says what the maps mean.

# %%
attention.main(
    [
        f"{FOLDER}/xcit.py",
        checkpoint,
        str(path),
        "--blocks",
        "0",
        str(arch["depth"] - 1),
        "--out",
        f"{FOLDER}/attention.png",
    ]
)
print(f"pictures: {FOLDER}/fed, {FOLDER}/curves.png, {FOLDER}/predictions, {FOLDER}/attention.png")
