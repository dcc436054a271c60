"""From finished runs to rows and verdicts: every figure against one worked out by hand."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from paper_runs import EXPERIMENT, client, closed_round, evolved, plain, record, tiny, write_record

from fedsparse.errors import ConfigError
from tools.bench.paper.records import count_closed, read_record
from tools.bench.paper.report import markdown, write_report
from tools.bench.paper.summary import consensus_of, summarise
from tools.bench.paper.table import make_table
from tools.bench.paper.verdicts import judge


def test_accuracy_is_compared_with_dense_of_the_same_seeds(tmp_path: Path) -> None:
    runs = [
        plain("dense", 1.0, 0.90),
        plain("spdst", 0.05, 0.88),
        plain("spdst", 0.05, 0.92, seed=1),
    ]
    dense, spdst = make_table(tiny(tmp_path), runs).levels
    assert (dense.accuracy, dense.to_dense, dense.seeds) == (pytest.approx(90), 0.0, (0,))
    assert spdst.accuracy == pytest.approx(90)
    assert spdst.deviation == pytest.approx(2 * 2**0.5)
    assert spdst.to_dense == pytest.approx(-2)  # of seed 0 alone
    assert spdst.seeds == (0, 1)


def test_alphas_are_apart(tmp_path: Path) -> None:
    runs = [plain("spdst", 0.05, 0.5, alpha=0.1), plain("dense", 1.0, 0.9)]
    rows = make_table(tiny(tmp_path), runs).levels
    assert [(row.alpha, row.case, row.to_dense) for row in rows] == [
        (1000.0, "dense", 0.0),
        (0.1, "spdst", None),
    ]


def test_the_ratio_of_bytes_leaves_out_stage_1_and_exchanges_with_a_mask(tmp_path: Path) -> None:
    rounds = [
        closed_round(0, [client(0.05, 9, 9)], stage="sense"),
        closed_round(1, [client(0.05, 200, 300, masks=(0, 50))]),
        closed_round(2, [client(0.05, 100, 300), client(0.05, 200, 400, masks=(20, 0))]),
        closed_round(3, [client(0.05, 300, 300)]),
    ]
    (row,) = make_table(tiny(tmp_path), [record("spdst", {"0.05": 0.5}, rounds)]).levels
    assert (row.up_bytes, row.down_bytes) == (200, 300)
    assert row.up_ratio == pytest.approx(4000 / 200)
    assert row.down_ratio == pytest.approx(4000 / 300)
    assert row.ratio == pytest.approx(8000 / 500)


def test_levels_have_bytes_of_their_own(tmp_path: Path) -> None:
    rounds = [closed_round(1, [client(0.2, 800, 800), client(0.1, 400, 400)])]
    run = record("jmwst", {"0.2": 0.9, "0.1": 0.8}, rounds)
    rows = make_table(tiny(tmp_path), [run]).levels
    assert [(row.level, row.accuracy, row.ratio) for row in rows] == [
        (0.2, 90.0, 5.0),
        (0.1, 80.0, 10.0),
    ]


def test_a_method_that_always_sends_masks_has_no_ratio_without_them(tmp_path: Path) -> None:
    rounds = [closed_round(1, [client(0.05, 200, 300, masks=(30, 0))])]
    table = make_table(tiny(tmp_path), [record("spdst", {"0.05": 0.5}, rounds)])
    assert table.levels[0].ratio is None
    assert table.costs[0].job_ratio == pytest.approx(8000 / 530)


def test_the_whole_job_counts_stage_1_and_masks_against_training_rounds_of_dense(
    tmp_path: Path,
) -> None:
    rounds = [
        closed_round(0, [client(0.05, 100, 100, masks=(10, 10))], stage="sense", multiply_adds=50),
        closed_round(1, [client(0.05, 100, 100, masks=(0, 20)), client(0.05, 100, 100)]),
    ]
    runs = [record("spdst", {"0.05": 0.5}, rounds), plain("dense", 1.0, 0.9)]
    _, cost = make_table(tiny(tmp_path), runs).costs
    assert cost.job_bytes == 640
    assert cost.job_ratio == pytest.approx(2 * 2 * 4000 / 640)
    assert cost.mask_bytes == 40
    assert cost.mask_bytes_a_client_round == 20
    assert cost.multiply_adds == 150
    assert cost.compute_ratio == pytest.approx(1000 / 150)  # one round of dense: it has two
    assert cost.train_s == 1.0


@pytest.mark.parametrize(("score", "word"), [(0.8901, "holds"), (0.8899, "does not hold")])
def test_an_expectation_is_judged_by_the_mean_difference(
    tmp_path: Path, score: float, word: str
) -> None:
    runs = [plain("dense", 1.0, 0.90), plain("spdst", 0.05, score)]
    verdicts = judge(tiny(tmp_path), runs)
    assert [(one.alpha, one.word) for one in verdicts] == [(1000.0, word), (0.1, "not run yet")]
    assert verdicts[0].figure == pytest.approx(100 * score - 90)
    assert verdicts[0].limit == "at least -1 points to dense"


@pytest.mark.parametrize(
    ("limit", "words"),
    [
        ("bytes_ratio_at_least = 10.0", ["holds", "not run yet"]),
        ("bytes_ratio_at_least = 10.1", ["does not hold", "not run yet"]),
        ("job_ratio_at_least = 10.0", ["holds", "not run yet"]),
        ("job_ratio_at_least = 10.1", ["does not hold", "not run yet"]),
        ('against = "dense"\nat_most = -1.9', ["holds", "not run yet"]),
        ('against = "dense"\nat_most = -2.1\nalphas = [1000]', ["does not hold"]),
    ],
)
def test_every_kind_of_limit_is_judged(tmp_path: Path, limit: str, words: list[str]) -> None:
    text = EXPERIMENT.replace('against = "dense"\nat_least = -1.0', limit)
    runs = [plain("dense", 1.0, 0.90), plain("spdst", 0.05, 0.88)]
    assert [one.word for one in judge(tiny(tmp_path, text), runs)] == words


@pytest.mark.parametrize(
    ("others", "other", "figure"),
    [("levels = [0.2, 0.1]", {"0.2": 0.7, "0.1": 0.6}, 20), ("density = 0.05", {"0.05": 0.5}, 30)],
)
def test_a_level_is_held_against_the_same_level_or_else_the_largest(
    tmp_path: Path, others: str, other: dict[str, float], figure: float
) -> None:
    text = EXPERIMENT.replace("density = 0.05", others).replace(
        'case = "spdst"\nagainst = "dense"', 'case = "jmwst"\nlevel = 0.1\nagainst = "spdst"'
    )
    rounds = [closed_round(1, [client(0.2, 800, 800)])]
    runs = [record("jmwst", {"0.2": 0.9, "0.1": 0.8}, rounds), record("spdst", other, rounds)]
    (verdict,) = judge(tiny(tmp_path, text), runs)
    assert verdict.figure == pytest.approx(figure)
    assert verdict.alpha == 1000.0  # the only one in which both are run


def test_markdown_and_json_say_the_same(tmp_path: Path) -> None:
    experiment = tiny(tmp_path)
    runs = [plain("dense", 1.0, 0.90), plain("spdst", 0.05, 0.88)]
    write_report(tmp_path, experiment, make_table(experiment, runs), judge(experiment, runs))
    text = (tmp_path / "table.md").read_text(encoding="utf-8")
    document = json.loads((tmp_path / "table.json").read_text(encoding="utf-8"))
    assert (
        "| 1000 | spdst | 0.05 | 88.00 % | 1 | -2.00 | 0.4 / 0.4 kB | 10.0, 10.0 | 10.0 |" in text
    )
    assert "| at least -1 points to dense | -2.00 | 1 | does not hold |" in text
    assert document["levels"][1]["ratio"] == 10.0
    assert [one["verdict"] for one in document["verdicts"]] == ["does not hold", "not run yet"]


def test_without_a_finished_run_the_table_says_so(tmp_path: Path) -> None:
    experiment = tiny(tmp_path)
    text = markdown(experiment, make_table(experiment, []), judge(experiment, []))
    assert "No run is finished yet." in text


def test_the_consensus_is_that_of_the_last_round_in_which_masks_evolved() -> None:
    one = client(0.05, 10, 10)
    rounds = [
        closed_round(1, [one], consensus=evolved(0.1, 0.1)),
        closed_round(2, [one], consensus=evolved(0.8, 0.4)),
        closed_round(3, [one]),
    ]
    assert consensus_of(record("nst", {"0.05": 0.5}, rounds)) == pytest.approx(0.7)  # 30 : 10


def test_fixed_masks_agree_whatever_stage_1_did() -> None:
    rounds = [closed_round(0, [], stage="sense", consensus=evolved(0.1, 0.1)), closed_round(1, [])]
    assert consensus_of(record("spdst", {"0.05": 0.5}, rounds)) == 1.0


def test_the_summary_has_a_figure_a_method_and_null_where_none_was_run(tmp_path: Path) -> None:
    runs = [plain("dense", 1.0, 0.90), plain("spdst", 0.05, 0.88)]
    assert summarise(tiny(tmp_path), runs) == {
        "dense": 0.90,
        "spdst": 0.88,
        "jmwst": None,
        "bytes_ratio": 10.0,
        "consensus": {"dense": 1.0, "spdst": 1.0, "jmwst": None},
    }


def test_a_run_is_read_once_it_is_finished(tmp_path: Path) -> None:
    run = plain("spdst", 0.05, 0.88)
    assert read_record(tmp_path / "run", case="spdst", alpha=1000.0, seed=0) is None
    write_record(tmp_path / "run", run)
    assert read_record(tmp_path / "run", case="spdst", alpha=1000.0, seed=0) == run
    other = read_record(tmp_path / "run", case="spdst", alpha=0.1, seed=3)
    assert other == replace(run, alpha=0.1, seed=3)


SENSED = closed_round(0, [client(0.05, 9, 9)], stage="sense", accuracy={"0.05": 0.1})


def test_a_round_of_stage_1_may_come_first(tmp_path: Path) -> None:
    run = plain("spdst", 0.05, 0.88)
    write_record(tmp_path, replace(run, rounds=(SENSED, *run.rounds)))
    found = read_record(tmp_path, case="spdst", alpha=1000.0, seed=0)
    assert found is not None
    assert [one["round"] for one in found.training] == [1, 2]


@pytest.mark.parametrize(
    ("name", "text", "complaint"),
    [
        ("result.json", "{", "Expecting property name"),
        ("result.json", "{}", "rounds: expected a whole number from 1, got None"),
        ("result.json", "[]", r"the file: expected a table, got \[\]"),
        ("result.json", '{"rounds": 2, "dense_bytes": 1, "accuracy": 1}', "accuracy: expected a t"),
        ("rounds.jsonl", "", "round 1 is missing, of 2"),
        ("rounds.jsonl", "{", "round 1 is missing, of 2"),
        ("rounds.jsonl", "{}\n", "line 1: up_bytes: expected a whole number from 1, got None"),
        ("rounds.jsonl", "[]\n", r"line 1: a round: expected a table, got \[\]"),
        ("rounds.jsonl", "\0\0\n", "line 1: Expecting value"),
    ],
)
def test_a_damaged_file_is_named_with_the_way_out(
    tmp_path: Path, name: str, text: str, complaint: str
) -> None:
    write_record(tmp_path, plain("spdst", 0.05, 0.88))
    (tmp_path / name).write_text(text, encoding="utf-8")
    way_out = re.escape(f"remove {tmp_path}, and it is run again")
    with pytest.raises(ConfigError, match=rf"{name}: damaged \({complaint}.*\): {way_out}"):
        read_record(tmp_path, case="spdst", alpha=1000.0, seed=0)


@pytest.mark.parametrize(
    ("key", "value", "complaint"),
    [
        ("stage", "evaluate", "stage: expected sense or train, got 'evaluate'"),
        ("multiply_adds", 0, "multiply_adds: expected a whole number from 1, got 0"),
        ("accuracy", {"0.05": None}, "accuracy: expected a number, got None"),
        ("train_s", float("nan"), "train_s: expected a number, got nan"),
        ("clients", None, "clients: expected a list, got None"),
        ("clients", [{"level": 0.05}], "up_bytes: expected a whole number from 0, got None"),
        ("consensus", {"clients": [0.5]}, r"consensus: clients: expected 2 numbers, got \[0.5\]"),
    ],
)
def test_a_key_of_a_round_that_cannot_be_counted_is_named(
    tmp_path: Path, key: str, value: object, complaint: str
) -> None:
    run = plain("spdst", 0.05, 0.88)
    write_record(tmp_path, replace(run, rounds=(run.rounds[0], {**run.rounds[1], key: value})))
    with pytest.raises(ConfigError, match=f"line 2: {complaint}"):
        read_record(tmp_path, case="spdst", alpha=1000.0, seed=0)


@pytest.mark.parametrize(
    ("order", "complaint"),
    [
        ([1], "round 2 is missing, of 2"),
        ([2], "round 1 is missing, of 2"),
        ([2, 1], "round 1 is missing, of 2"),
        ([1, 1, 2], "round 2 is missing, of 2"),
        ([1, 2, 2], "there are too many rounds, of 2"),
        ([1, 0, 2], "round 2 is missing, of 2"),
    ],
)
def test_a_finished_run_has_every_training_round_once_and_in_order(
    tmp_path: Path, order: list[int], complaint: str
) -> None:
    run = plain("spdst", 0.05, 0.88)
    rounds = {0: SENSED, 1: run.rounds[0], 2: run.rounds[1]}
    write_record(tmp_path, replace(run, rounds=tuple(rounds[number] for number in order)))
    with pytest.raises(ConfigError, match=complaint):
        read_record(tmp_path, case="spdst", alpha=1000.0, seed=0)


def test_an_unfinished_run_counts_its_whole_lines(tmp_path: Path) -> None:
    assert count_closed(tmp_path, 2) == 0
    write_record(tmp_path, plain("spdst", 0.05, 0.88))
    path = tmp_path / "rounds.jsonl"
    path.write_text(path.read_text(encoding="utf-8") + '{"round": 3, "st', encoding="utf-8")
    assert count_closed(tmp_path, 2) == 2
    path.write_text("{}\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"rounds.jsonl: damaged \(line 1.*remove"):
        count_closed(tmp_path, 2)
