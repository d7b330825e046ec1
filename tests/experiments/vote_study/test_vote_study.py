"""The study of vote rules: its conditions, its test, its table, and a small study made twice."""

import json

import numpy as np
import pytest

from experiments.vote_study import __main__ as study
from experiments.vote_study import runs as files
from experiments.vote_study import training
from experiments.vote_study.conditions import CONDITIONS, RELEASED, RULES, Condition
from experiments.vote_study.table import by_row, sign_flips, study_table, summary, tokens_table
from vtd_jax.errors import UserError
from vtd_jax.evaluate.metrics import harmonic_mean

MADE = {"device": "cpu", "versions": "some"}
NAMES = [one.name for one in CONDITIONS]


def run(condition, rule, seed, hm, **others):
    figures = dict.fromkeys(files.FIGURES, 0.5) | {"HM": hm} | others
    return files.Run(condition=condition, rule=rule, evaluated=rule, seed=seed, **figures)


def made_up():
    """Two rows and four seeds: frames win by 2 and lose by 1."""
    found = []
    for seed, released in enumerate((0.80, 0.82, 0.84, 0.86)):
        for condition, gain in ((NAMES[0], -0.01), (NAMES[4], 0.02)):
            found.append(run(condition, RELEASED, seed, released, token_right=0.5))
            found.append(
                run(
                    condition,
                    "votes by frames",
                    seed,
                    released + gain,
                    token_right=0.75,
                    both_right=0.25,
                )
            )
    return found


def test_conditions_are_those_that_the_readme_promises():
    scenes = [one.scene_set(3) for one in CONDITIONS]
    assert len(set(NAMES)) == len(CONDITIONS) == 21
    assert {0.0, 0.125, 0.25, 0.5, 0.625, 0.75, 0.875} <= {one.irrelevant for one in scenes}
    assert {one.kind for one in scenes} == {"mixture", "one", "others", "empty", "corrupt"}
    assert {one.shift for one in scenes} == {0.0, 0.6, 1.0}
    assert {one.shots for one in CONDITIONS} == {2, 4, 8, 16}
    assert {one.frames for one in CONDITIONS} == {4, 8, 16, 32}
    assert all(one.frames <= each.length for one, each in zip(CONDITIONS, scenes, strict=True))
    assert [training.config_of(rule, 5).model.votes for rule in RULES] == [
        "confidence",
        "confidence",
        "frames",
    ]


@pytest.mark.parametrize(
    "differences, p",
    [
        ([1.0] * 8, 2 / 256),
        ([1.0, -1.0], 1.0),
        ([3.0, 1.0, -1.0], 6 / 8),
        ([0.0, 0.0], 1.0),
        # 0.1 + 0.2 is not 0.3, but as far from 0
        ([0.1, 0.2, -0.3], 1.0),
    ],
)
def test_the_paired_test_over_seeds(differences, p):
    assert sign_flips(differences) == pytest.approx(p)
    assert sign_flips([-one for one in differences]) == pytest.approx(p)


def test_too_many_seeds_for_the_exact_test():
    with pytest.raises(UserError, match="21 seeds: expected at most 20"):
        sign_flips([1.0] * 21)


def test_the_table_has_gains_and_the_worst_row():
    rows = by_row(made_up(), "HM")
    seeds, worst, row = summary(rows, "votes by frames")
    np.testing.assert_allclose(seeds, [0.005] * 4)
    deviation = np.std([0.80, 0.82, 0.84, 0.86], ddof=1)
    assert (worst, row) == (pytest.approx(-0.01 / deviation), NAMES[0])
    table = study_table(made_up(), MADE)
    assert [one["votes by frames"] for one in table.rows] == ["-1.0", "+2.0", "+0.5"]
    assert [one[RELEASED] for one in table.rows] == ["83.0 ± 2.6", "83.0 ± 2.6", "83.0"]
    assert table.about["votes by frames"] == (
        "+0.50 HM in the mean of rows, better on 4 of 4 seeds, p = 0.12 (exact paired test over "
        "seeds); worst row, no irrelevant frames: -0.39 standard deviations of as released over "
        "seeds; lower in 4 of 8 single runs"
    )
    found = tokens_table(made_up()).rows
    assert [one["token is the class"] for one in found] == [0.5, 0.75]
    # of 0.5 right in all, 0.25 are among the 0.75 with the right token
    assert found[1]["right if it is"] == pytest.approx(0.25 / 0.75)
    assert found[1]["right if not"] == pytest.approx(0.25 / 0.25)


def test_a_study_without_the_release_has_nothing_to_compare():
    others = [one for one in made_up() if one["rule"] != RELEASED]
    with pytest.raises(UserError, match="no runs as released to compare with"):
        study_table(others, MADE)
    with pytest.raises(UserError, match="rows have different seeds"):
        summary(by_row(made_up()[:-2], "HM"), "votes by frames")


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda text: text[:-9], "runs.json"),
        (lambda text: text.replace('"HM":0.8,', '"HM":1.8,', 1), "<= 1"),
        (lambda text: text.replace('"seed":1', '"seed":0'), "a run is there twice"),
    ],
)
def test_a_damaged_file_is_refused(tmp_path, change, message):
    path = tmp_path / "runs.json"
    files.write_study(path, MADE, made_up())
    assert files.begun(path, MADE) == made_up()
    path.write_text(change(path.read_text()))
    with pytest.raises(UserError, match=message):
        files.begun(path, MADE)


def test_runs_of_another_version_are_not_mixed(tmp_path):
    path = tmp_path / "runs.json"
    files.write_study(path, MADE, made_up())
    with pytest.raises(UserError, match="its runs were made with another versions; give another"):
        files.begun(path, MADE | {"versions": "others"})


@pytest.mark.slow
def test_a_small_study_resumes_and_repeats(tmp_path, monkeypatch):
    # two rules, six updates: compiling takes most of the time
    rules = {rule: RULES[rule] for rule in (RELEASED, "votes by frames")}
    monkeypatch.setattr(study, "RULES", rules)
    monkeypatch.setattr(training, "UPDATES", 6)
    training._programs.cache_clear()
    small = {"classes": 8, "train": 4, "val": 4, "length": 6, "irrelevant": 0.5}
    conditions = [
        Condition(NAMES[0], small, shots=4, frames=3),
        Condition(NAMES[1], small, shots=2, frames=3),
    ]
    path = tmp_path / "runs.json"
    found = study.run_all(path, MADE, (0, 1), conditions)
    # two seeds, two rows, and every rule evaluates what every rule learnt
    assert len(found) == len({files.key_of(one) for one in found}) == 2 * 2 * len(rules) * 3
    for one in found:
        assert one["HM"] == pytest.approx(harmonic_mean([one["base"], one["novel"]]))
        # of 16 clips a half
        assert 16 * one["base"] == pytest.approx(round(16 * one["base"]))
    # of three frames, a half of them irrelevant, counts tie more often than confidence
    tokens = {
        rule: [one["tied"] for one in found if one["rule"] == one["evaluated"] == rule]
        for rule in rules
    }
    assert tokens["votes by frames"] != tokens[RELEASED]
    # what is missing is made again, the same to the bit; the rest stays as it is
    content = json.loads(path.read_text())
    lost, kept = content["runs"][-3:], content["runs"][:-3]
    kept[0]["base"] = 0.123
    path.write_text(json.dumps(content | {"runs": kept}))
    again = study.run_all(path, MADE, (0, 1), conditions)
    assert again[-3:] == lost
    assert again[0]["base"] == 0.123
    training._programs.cache_clear()
