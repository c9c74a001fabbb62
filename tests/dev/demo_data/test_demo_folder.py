"""Generated data sets are there as a whole or not at all, and are never silently replaced."""

import importlib.util
from pathlib import Path

import pytest
from dev.demo_data import Plan, write_ade20k, write_coco

PLAN = Plan(train=4, val=3, size=32)
OTHER_PLAN = Plan(train=3, val=3, size=32, seed=7)


@pytest.fixture(params=[write_coco, write_ade20k])
def write(request):
    return request.param


def content_of(folder):
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {path.relative_to(folder): path.read_bytes() for path in files}


def interrupted(scenes, description, total):
    yield next(iter(scenes))
    raise KeyboardInterrupt


def test_same_plan_gives_the_same_bytes_and_another_seed_others(write, tmp_path):
    for name, plan in (("one", PLAN), ("two", PLAN), ("other", OTHER_PLAN)):
        assert write(tmp_path / name, plan)
    assert content_of(tmp_path / "one") == content_of(tmp_path / "two")
    assert content_of(tmp_path / "one") != content_of(tmp_path / "other")


def test_same_parameters_are_kept_without_drawing(write, tmp_path):
    write(tmp_path / "data", PLAN)
    before = content_of(tmp_path / "data")
    assert not write(tmp_path / "data", PLAN, progress=interrupted)
    assert not write(tmp_path / "data", PLAN, progress=interrupted, overwrite=True)
    assert content_of(tmp_path / "data") == before


def test_other_parameters_are_refused_with_the_remedy(write, tmp_path):
    write(tmp_path / "data", PLAN)
    before = content_of(tmp_path / "data")
    with pytest.raises(FileExistsError, match=r"data holds .*seed 0 instead of 7.*--overwrite"):
        write(tmp_path / "data", OTHER_PLAN)
    assert content_of(tmp_path / "data") == before


def test_overwrite_replaces_everything(write, tmp_path):
    write(tmp_path / "data", PLAN)
    assert write(tmp_path / "data", OTHER_PLAN, overwrite=True)
    write(tmp_path / "fresh", OTHER_PLAN)
    assert content_of(tmp_path / "data") == content_of(tmp_path / "fresh")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "fresh"]


def test_foreign_folders_are_never_replaced(write, tmp_path):
    precious = tmp_path / "data" / "precious.txt"
    precious.parent.mkdir()
    precious.write_text("keep me")
    with pytest.raises(FileExistsError, match="data exists and was not made by this tool"):
        write(tmp_path / "data", PLAN, overwrite=True)
    assert precious.read_text() == "keep me"


def test_an_empty_folder_is_filled(write, tmp_path):
    (tmp_path / "data").mkdir()
    assert write(tmp_path / "data", PLAN)
    assert (tmp_path / "data" / "generated.json").is_file()


def test_an_interrupted_first_run_leaves_nothing(write, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "data", PLAN, progress=interrupted)
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_replacement_leaves_the_old_set(write, tmp_path):
    write(tmp_path / "data", PLAN)
    before = content_of(tmp_path / "data")
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "data", OTHER_PLAN, overwrite=True, progress=interrupted)
    assert [path.name for path in tmp_path.iterdir()] == ["data"]
    assert content_of(tmp_path / "data") == before


@pytest.fixture(scope="module")
def tool():
    path = Path(__file__).parents[3] / "tools" / "make_demo_data.py"
    specification = importlib.util.spec_from_file_location("make_demo_data", path)
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def test_tool_writes_keeps_and_refuses(tool, tmp_path, capsys):
    arguments = ["--out", str(tmp_path / "demo"), "--train", "3", "--val", "3", "--size", "32"]
    assert tool.main(arguments) == 0
    assert f"written: {tmp_path / 'demo' / 'coco'}" in capsys.readouterr().out
    assert tool.main(arguments) == 0
    assert f"kept, as it has the same parameters: {tmp_path}" in capsys.readouterr().out
    assert tool.main([*arguments, "--seed", "5"]) == 1
    assert "--overwrite" in capsys.readouterr().err
    assert tool.main([*arguments, "--seed", "5", "--overwrite"]) == 0
    assert sorted(path.name for path in (tmp_path / "demo").iterdir()) == ["ade20k", "coco"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--train", "-1"], "train must be at least 3"),
        (["--val", "0"], "val must be at least 3"),
        (["--size", "31"], "size must be at least 32"),
        (["--seed", "-1"], "seed may not be negative"),
        (["--size", "large"], "invalid int value"),
    ],
)
def test_tool_refuses_bad_values(tool, arguments, message, capsys):
    with pytest.raises(SystemExit):
        tool.main(arguments)
    assert message in capsys.readouterr().err
