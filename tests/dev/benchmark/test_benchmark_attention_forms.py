"""Comparing the forms of attention says for every size what auto takes there."""

from dev.benchmark.attention_forms import compare_forms

from xcit_dense.engine import pays


def test_every_size_has_a_ratio_and_a_choice():
    notes = []
    table = compare_forms([(32, 4)], [10, 400], repeats=1, note=notes.append)
    header, _, inference, training = table.splitlines()
    assert "N=10" in header and "N=400" in header
    for row, is_training in ((inference, False), (training, True)):
        cells = [cell.strip() for cell in row.strip("|").split("|")][1:]
        for cell, count in zip(cells, (10, 400), strict=True):
            ratio, choice = cell.split()
            assert float(ratio) > 0
            expected = "engine" if not is_training and pays(count, 32) else "direct"
            assert choice == f"({expected})"
    assert len(notes) == 2
