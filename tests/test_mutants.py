"""The list of mutants fits the code, and mutants of each room are in it."""

from mutants import MUTANTS, stale


def test_every_mutant_can_be_made():
    assert [error for mutant in MUTANTS if (error := stale(mutant))] == []
    assert all(mutant.new != mutant.old for mutant in MUTANTS)


def test_there_are_mutants_of_every_room():
    assert len(MUTANTS) >= 40
    rooms = {mutant.file.split("/")[0] for mutant in MUTANTS}
    assert rooms >= {"training", "data", "tiling.py", "inference", "geo", "pseudo", "scoring", "config", "published"}
