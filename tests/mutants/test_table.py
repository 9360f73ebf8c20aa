"""The table of mutants fits the tree: what they change is there, and so are the tests that must catch them."""

import pytest
from table import BREAKS_IMPORT, MUTANTS

from mutants import ROOT


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_mutant_changes_one_place_and_names_a_test(mutant):
    assert (ROOT / mutant.file).read_text().count(mutant.old) == 1
    assert mutant.new != mutant.old
    file, _, function = mutant.test.partition("::")
    assert f"def {function}(" in (ROOT / file).read_text()


def test_names_are_unique_and_every_part_has_its_mutants():
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS)
    files = [mutant.file for mutant in MUTANTS]
    parts = {"theory": 10, "observables.py": 1, "networks": 4, "data": 3, "engines": 8, "cpp/": 7}
    for part, least in parts.items():
        assert sum(part in file for file in files) >= least
    assert (ROOT / BREAKS_IMPORT.file).read_text().startswith(BREAKS_IMPORT.old)
