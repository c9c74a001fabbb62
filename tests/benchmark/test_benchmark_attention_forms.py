"""Comparing the forms of attention says for every size what auto takes there."""

from xcit_dense.benchmark.attention_forms import compare_forms
from xcit_dense.ops import choose_form


def test_every_size_has_a_ratio_and_a_choice():
    notes = []
    table = compare_forms([(32, 4)], [10, 20_000], repeats=1, note=notes.append)
    header, _, inference, training = table.splitlines()
    assert "N=10" in header and "N=20000" in header
    for row, with_gradient in ((inference, False), (training, True)):
        cells = [cell.strip() for cell in row.strip("|").split("|")][1:]
        for cell, count in zip(cells, (10, 20_000), strict=True):
            ratio, choice = cell.split()
            assert float(ratio) > 0
            assert choice == f"({choose_form(count, 32, 4, with_gradient)})"
    assert len(notes) == 2
