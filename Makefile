# make demo      set up, train and evaluate a small XCiT Mask R-CNN, leave pictures
# make demo-seg  the same with a UperNet
# make test      set up, run the tests
# make test-oldest  the same for network, backbone, weights and a step of both tasks, with the
#                oldest torch, torchvision and timm that setup.cfg allows
# make lint      set up, check style
# make env       set up, nothing more: then source .venv/openmmlab/bin/activate
#
# STACK=openmmlab (upstream, the default) or STACK=onedl (the maintained forks);
# PYTHON=python3.12 chooses the interpreter. Each stack has an environment of its own.

STACK ?= openmmlab
PYTHON ?= python3
PYTEST_ARGS ?= -n 2 --dist loadfile

ENV := .venv/$(STACK)
BIN := $(ENV)/bin
READY := $(ENV)/.ready
DATA := data/demo/.ready

.PHONY: demo demo-seg test test-oldest lint format env clean

demo: $(DATA)
	$(BIN)/python tools/train.py configs/demo/xcit_maskrcnn_demo.py --work-dir work_dirs/demo
	$(BIN)/python tools/test.py configs/demo/xcit_maskrcnn_demo.py "$$(cat work_dirs/demo/last_checkpoint)" \
		--work-dir work_dirs/demo --show-dir work_dirs/demo/pictures
	$(BIN)/python tools/analyze_logs.py work_dirs/demo
	@echo "pictures: work_dirs/demo/pictures (ground truth left, prediction right)"

demo-seg: $(DATA)
	$(BIN)/python tools/train.py configs/demo/xcit_upernet_demo.py --work-dir work_dirs/demo-seg
	$(BIN)/python tools/test.py configs/demo/xcit_upernet_demo.py "$$(cat work_dirs/demo-seg/last_checkpoint)" \
		--work-dir work_dirs/demo-seg --show-dir work_dirs/demo-seg/pictures
	$(BIN)/python tools/analyze_logs.py work_dirs/demo-seg
	@echo "pictures: work_dirs/demo-seg/pictures (ground truth left, prediction right)"

test: $(READY)
	$(BIN)/python -m pytest $(PYTEST_ARGS)

test-oldest: .venv/oldest/.ready
	.venv/oldest/bin/python -m pytest $(PYTEST_ARGS) tests/network tests/engine tests/weights \
		tests/mm/test_backbone.py tests/configs/test_configs.py \
		--deselect tests/network/test_kernels.py  # counts what the tested torch launches

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

env: $(READY)

clean:
	rm -rf .venv data/demo work_dirs/demo work_dirs/demo-seg

# The graphical build of OpenCV, which mmcv asks for, needs libGL; the headless one does not, and
# has all that is used here.
$(READY): setup.cfg pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "Python >= 3.10 is needed, this is " + sys.version + "; try make PYTHON=python3.12")'
	$(PYTHON) -m venv --clear $(ENV)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[$(STACK),test,dev]'
	$(BIN)/python -m pip uninstall --quiet -y opencv-python opencv-python-headless
	$(BIN)/python -m pip install --quiet --no-deps -c constraints.txt opencv-python-headless
	touch $@

.venv/oldest/.ready: setup.cfg constraints-oldest.txt
	$(PYTHON) -m venv --clear .venv/oldest
	.venv/oldest/bin/python -m pip install --quiet -c constraints-oldest.txt -e '.[openmmlab,test]'
	.venv/oldest/bin/python -m pip uninstall --quiet -y opencv-python opencv-python-headless
	.venv/oldest/bin/python -m pip install --quiet --no-deps -c constraints-oldest.txt \
		opencv-python-headless
	touch $@

$(DATA): $(READY)
	$(BIN)/python tools/make_demo_data.py --out data/demo
	touch $@
