"""Compares rules of the vote on rendered scenes: HM of base and novel in 21 conditions.

    python -m experiments.vote_study --workdir=runs/votes
    python -m experiments.vote_study --workdir=runs/votes_quick --seeds=0,1 --only='*shots','32*'

The same command resumes. Rules: as released (a frame's vote is its confidence, the last bit
decides between equals), ties by frames (`model.ties=frames`, the default), votes by frames
(`model.votes=frames`). Every run learns prompts and fusion on 2 to 16 clips of 16 base classes,
from features of frames that are encoded once: unlike `experiments.train` it neither flips nor
crops. Writes runs.json, and votes and tokens (.md, .csv, .json) into the workdir: HM, and what the
video tokens are.
"""

import fnmatch
from pathlib import Path

import jax
from absl import flags

import vtd_jax
from experiments.common import cli
from experiments.common.number_lists import whole_numbers
from experiments.vote_study import runs as files
from experiments.vote_study import table as tables
from experiments.vote_study.conditions import CONDITIONS, RELEASED, RULES, Condition
from experiments.vote_study.features import Encoder
from experiments.vote_study.training import config_of, measure
from vtd_jax.backend import describe_devices
from vtd_jax.console.progress import Progress
from vtd_jax.errors import UserError
from vtd_jax.locks import locked_outputs
from vtd_jax.output_checks import Output, check_outputs
from vtd_jax.scenes.sets import rendering_pool
from vtd_jax.terminal import say
from vtd_jax.train import from_config

_WORKDIR = flags.DEFINE_string("workdir", None, "folder of the results", required=True)
_SEEDS = flags.DEFINE_list(
    "seeds", [f"{seed}" for seed in range(400, 408)], "seeds of classes, clips and training"
)
_ONLY = flags.DEFINE_list("only", [], "patterns of conditions, with * and ?; default: all")
_STEM, _TOKENS = "votes", "tokens"


def chosen(patterns: list[str]) -> list[Condition]:
    """The conditions that match a pattern; all without one."""
    found = [
        one
        for one in CONDITIONS
        if not patterns or any(fnmatch.fnmatchcase(one.name, pattern) for pattern in patterns)
    ]
    if not found:
        names = "; ".join(one.name for one in CONDITIONS)
        raise UserError(f"--only={','.join(patterns)}: matches none of {names}")
    return found


def main() -> str:
    """Runs what is not there yet, and writes the table."""
    expected = f"different whole numbers, at most {tables.MOST_SEEDS} of them"
    seeds = whole_numbers("seeds", _SEEDS.value, expected)
    if len(seeds) > tables.MOST_SEEDS:
        raise UserError(f"--seeds: {len(seeds)} numbers, expected {expected}")
    conditions, workdir = chosen(_ONLY.value), Path(_WORKDIR.value)
    if workdir.exists() and not workdir.is_dir():
        raise UserError(f"--workdir={workdir}: is a file, expected a folder")
    ends = (".md", ".csv", ".json")
    names = [files.FILE, *(f"{stem}{end}" for stem in (_STEM, _TOKENS) for end in ends)]
    outputs = [Output("--workdir", workdir / name, belongs=True) for name in names]
    check_outputs([Output("--workdir", workdir, folder=True, whole=True), *outputs], [])
    with locked_outputs([("--workdir", workdir, True)]):
        made = {
            "device": describe_devices(jax.local_devices()[:1]),
            "versions": f"vtd_jax {vtd_jax.__version__}, jax {jax.__version__}",
        }
        finished = run_all(workdir / files.FILE, made, seeds, conditions)
        kept = {one.name for one in conditions}
        shown = [run for run in finished if run["seed"] in seeds and run["condition"] in kept]
        table = tables.study_table(shown, made)
        table.save(workdir, _STEM)
        tokens = tables.tokens_table(shown)
        tokens.save(workdir, _TOKENS)
    table.show()
    for line in table.about_lines():
        say(line)
    tokens.show()
    return f"wrote {workdir / _STEM}.md, .csv, .json, the same of {_TOKENS}, and {files.FILE}"


def run_all(
    path: Path, made: dict[str, str], seeds: tuple[int, ...], conditions: list[Condition]
) -> list[files.Run]:
    """Makes the runs that are not in the file, and keeps it up to date; returns all that it has."""
    finished = files.begun(path, made)
    keys = {files.key_of(run) for run in finished}
    # rows that differ in shots or frames only have the same videos: one behind the other
    by_scenes = sorted(conditions, key=lambda one: sorted(map(str, one.scenes.items())))
    jobs = [
        (seed, condition, [r for r in RULES if (condition.name, r, r, seed) not in keys])
        for seed in seeds
        for condition in by_scenes
    ]
    jobs = [job for job in jobs if job[2]]
    total = sum(len(rules) for _, _, rules in jobs)
    if not total:
        return finished
    path.parent.mkdir(parents=True, exist_ok=True)
    with rendering_pool() as pool, Progress("studying", total, "run") as progress:
        encoder = Encoder(from_config.build_model(config_of(RELEASED, 0)), pool)
        done, last, seen = 0, None, {}
        for seed, condition, rules in jobs:
            scene_set = condition.scene_set(seed)
            if scene_set != last:
                last, seen = scene_set, encoder.encode(scene_set)
            for rule in rules:
                found = measure(rule, condition, seed, seen, scene_set.names())
                of = {"condition": condition.name, "rule": rule, "seed": seed}
                finished += [
                    files.Run(**of, evaluated=name, **one._asdict()) for name, one in found.items()
                ]
                done += 1
                progress.update(done)
            files.write_study(path, made, finished)
    return finished


if __name__ == "__main__":
    cli.run(main, __doc__, device=True, resumes="the same command resumes with what is finished")
