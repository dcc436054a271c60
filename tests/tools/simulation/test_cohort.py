from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tools.simulation.cohort import Population

LEVELS = (1.0, 0.75, 0.5)


def test_levels_are_dealt_in_their_shares() -> None:
    population = Population.enlist(100, LEVELS, (4, 3, 3), seed=0)
    assert Counter(population.levels) == {1.0: 40, 0.75: 30, 0.5: 30}
    assert population.levels != Population.enlist(100, LEVELS, (4, 3, 3), seed=1).levels


def test_without_shares_everyone_has_the_largest() -> None:
    assert set(Population.enlist(7, LEVELS, (), seed=0).levels) == {1.0}


@given(round_id=st.integers(0, 10_000), seed=st.integers(0, 100))
def test_a_cohort_has_every_level_in_its_share(round_id: int, seed: int) -> None:
    population = Population.enlist(100, LEVELS, (4, 3, 3), seed=seed)
    cohort = population.cohort(round_id, 10)
    assert len(set(cohort)) == 10
    assert Counter(population.levels[one] for one in cohort) == {1.0: 4, 0.75: 3, 0.5: 3}
    assert cohort == population.cohort(round_id, 10)


def test_a_level_of_few_clients_has_its_share_of_all_rounds() -> None:
    population = Population.enlist(30, LEVELS, (27, 2, 1), seed=2)
    cohorts = [population.cohort(round_id, 5) for round_id in range(600)]
    assert {len(set(cohort)) for cohort in cohorts} == {5}
    places = Counter(population.levels[one] for cohort in cohorts for one in cohort)
    assert places[0.75] == pytest.approx(600 * 5 * 2 / 30, abs=40)
    assert places[0.5] == pytest.approx(600 * 5 * 1 / 30, abs=30)


def test_stage_1_is_for_the_largest_level_as_far_as_it_goes() -> None:
    population = Population.enlist(20, LEVELS, (4, 3, 3), seed=0)
    levels = Counter(population.levels[one] for one in population.cohort(0, 10, largest_first=True))
    assert levels == {1.0: 8, 0.75: 2}


def test_everyone_is_drawn_in_the_long_run() -> None:
    population = Population.enlist(20, (1.0,), (), seed=3)
    drawn = Counter(one for round_id in range(400) for one in population.cohort(round_id, 5))
    assert len(drawn) == 20
    assert min(drawn.values()) == pytest.approx(100, abs=40)
