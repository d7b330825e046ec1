"""The search for nearest words against its one matrix product and the plain computation."""

import dataclasses
import functools
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from experiments.benchmark.report import show
from experiments.benchmark.timing import log_wait, machine
from vtd_jax.cache import text_features
from vtd_jax.clip.weights.checkpoints import load_clip
from vtd_jax.evaluate.tables import Table
from vtd_jax.model import vocabulary
from vtd_jax.model.config import ModelConfig
from vtd_jax.model.vtd_clip import VTDCLIP
from vtd_jax.untrusted.arrays import map_array

PRODUCTS = ("product, frames × words", "product, words × frames")
_EXACT = jax.lax.Precision.HIGHEST
_ROWS = 65536

Job = Callable[[], Any]


@dataclass(frozen=True)
class Result:
    """One way to find words: seconds of every round, and megabytes besides the inputs."""

    frames: int
    way: str
    seconds: list[float]
    cpu_seconds: list[float]
    megabytes: float


def write_words(path: Path, words: int, width: int) -> np.ndarray:
    """Seeded normal rows of length near 1 in an `.npy` file, mapped."""
    out = np.lib.format.open_memmap(path, "w+", np.float32, (words, width))
    rng = np.random.default_rng(0)
    for i in range(0, words, _ROWS):
        out[i : i + _ROWS] = rng.standard_normal(
            (min(_ROWS, words - i), width), np.float32
        ) / np.sqrt(width)
    out.flush()
    return map_array(path, (words, width))


@functools.partial(jax.jit, static_argnames="equation")
def _product(x, c, equation):
    return jnp.einsum(equation, x, c, precision=_EXACT)


@functools.partial(jax.jit, static_argnames="top")
def _plain(x, c, squares, top):
    distances = squares - 2 * jnp.einsum("nd,vd->nv", x, c, precision=_EXACT)
    return distances.argmin(axis=1)[:, None] if top == 1 else jax.lax.top_k(-distances, top)[1]


def ways(x: jax.Array, c: jax.Array, mapped: np.ndarray) -> dict[str, tuple[Job, float]]:
    """Way -> job, and bytes of temporaries and results as XLA plans them."""
    squares = vocabulary.squared_norms(c).block_until_ready()

    def planned(function, *arrays, **settings):
        program = function.lower(*arrays, **settings).compile()
        return functools.partial(program, *arrays), _planned_bytes(program)

    def search(x, c, squares):
        return vocabulary.nearest(x, c, squares=squares).ids

    found = {}
    for way, equation in zip(PRODUCTS, ("nd,vd->nv", "nd,vd->vn"), strict=True):
        found[way] = planned(_product, x, c, equation=equation)
    for top in (1, 5):
        found[f"plain, top {top}"] = planned(_plain, x, c, squares, top=top)
    for top, metric in ((1, "euclidean"), (5, "euclidean"), (1, "cosine")):
        job = functools.partial(_ids, x, c, top, metric, squares=squares)
        found[f"nearest, {metric}, top {top}"] = (job, _part_bytes(x, mapped, top, metric))
    job = functools.partial(_ids, x, mapped, squares=squares)
    found["nearest, euclidean, top 1, from a file"] = (job, _part_bytes(x, mapped, 1, "euclidean"))
    found["nearest, euclidean, top 1, inside a program"] = planned(jax.jit(search), x, c, squares)
    return found


def _ids(*arguments, **settings):
    return vocabulary.nearest(*arguments, **settings).ids


def _part_bytes(x: jax.Array, mapped: np.ndarray, top: int, metric: str) -> int:
    """Bytes that the search of one part needs besides the part, as XLA plans them."""
    part = vocabulary._part(mapped, len(x))
    rows = jax.ShapeDtypeStruct((part, mapped.shape[1]), np.float32)
    norms = jax.ShapeDtypeStruct((part,), np.float32)
    best = vocabulary._nothing(len(x), top)
    search = vocabulary._search.lower(best, x, rows, norms, 0, 0, metric=metric, chunk=part)
    return _planned_bytes(search.compile())


def _planned_bytes(program: jax.stages.Compiled) -> int:
    """Temporaries and results."""
    plan = program.memory_analysis()
    return plan.temp_size_in_bytes + plan.output_size_in_bytes


def other_words(found: Mapping[str, np.ndarray]) -> dict[str, int]:
    """Way -> number of frames whose nearest words differ from the plain computation."""
    plain = {top: found[f"plain, top {top}"] for top in (1, 5)}
    ours = {way: ids for way, ids in found.items() if way.startswith("nearest, euclidean")}
    return {way: int((ids != plain[ids.shape[1]]).any(axis=1).sum()) for way, ids in ours.items()}


def measure(
    jobs: Mapping[str, tuple[Job, float]], frames: int, rounds: int
) -> tuple[list[Result], dict[str, int]]:
    """All ways in turn, `rounds` times; a warm-up round before compares their words."""
    times, found = {way: ([], []) for way in jobs}, {}
    for turn in range(rounds + 1):
        began = time.perf_counter()
        for way, (wall, cpu) in times.items():
            start, used = time.perf_counter(), time.process_time()
            out = jax.block_until_ready(jobs[way][0]())
            if turn:
                wall.append(time.perf_counter() - start)
                cpu.append(time.process_time() - used)
            elif way not in PRODUCTS:
                found[way] = np.asarray(out)
            # a product of a million words is large
            del out
        if turn == 1:
            log_wait(time.perf_counter() - began, rounds)
    results = [
        Result(frames, way, wall, cpu, jobs[way][1] / 1e6) for way, (wall, cpu) in times.items()
    ]
    return results, other_words(found)


def table(results: Sequence[Result]) -> Table:
    """A row for each way; ratios are medians over rounds, to the faster of the two products."""
    head = ("frames", "way", "seconds", "least–most")
    head += ("to the product", "of CPU time", "to plain", "beside the inputs")
    rows = []
    for row in results:
        others = {r.way: r for r in results if r.frames == row.frames}
        base = min((others[way] for way in PRODUCTS), key=lambda r: statistics.median(r.seconds))
        plain = others["plain, top 5" if "top 5" in row.way else "plain, top 1"]
        cells = [row.frames, row.way, f"{statistics.median(row.seconds):.2f}"]
        cells.append(f"{min(row.seconds):.2f}–{max(row.seconds):.2f}")
        pairs = (
            (row.seconds, base.seconds),
            (row.cpu_seconds, base.cpu_seconds),
            (row.seconds, plain.seconds),
        )
        cells += [
            f"{statistics.median(a / b for a, b in zip(ours, its, strict=True)):.2f}×"
            for ours, its in pairs
        ]
        rows.append(dict(zip(head, (*cells, f"{row.megabytes:.1f} MB"), strict=True)))
    return Table("Ways to the nearest words", head, tuple(rows))


def compare(
    words: int, width: int, frames: Sequence[int], rounds: int, encoded: int, folder: str | None
) -> dict[str, Any]:
    """Compares words, measures, prints a table for each number of frames.

    Args:
      words: of the vocabulary.
      width: of features.
      frames: at once, each measured.
      rounds: measured ones.
      encoded: words that the tiny CLIP encodes; 0 for none.
      folder: where the vocabulary's file is for a while; None for the system's default.

    Returns:
      All numbers, JSON-able.
    """
    results, wrong = [], {}
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        mapped = write_words(Path(scratch) / "words.npy", words, width)
        rows = jnp.array(mapped)
        for count in frames:
            x = jax.random.normal(jax.random.key(count), (count, width)) / width**0.5
            timed, others = measure(ways(x, rows, mapped), count, rounds)
            show(table(timed))
            results += timed
            wrong |= {f"{count} frames, {way}": differ for way, differ in others.items()}
    differing = [f"{way}: {count}" for way, count in wrong.items() if count]
    print(f"Frames with other words than the plain computation: {'; '.join(differing) or 'none'}.")
    about = machine() | {"words": words, "width": width, "rounds": rounds}
    if encoded:
        about["words/s encoded"], about["words/s read again"] = map(round, encoding_rate(encoded))
    found = [dataclasses.asdict(result) for result in results]
    return about | {"other words": wrong, "results": found}


def encoding_rate(count: int) -> tuple[float, float]:
    """Words a second that the tiny CLIP encodes, and that are read back from the cache."""
    config = ModelConfig(text_prompts=0, visual_prompts=0, visual_depth=0, fusion=False)
    model = VTDCLIP(load_clip("tiny"), config, rngs=nnx.Rngs(0))
    words = [f"word {i}" for i in range(count)]
    with tempfile.TemporaryDirectory() as folder:
        # compile before measuring
        text_features.TextCache(Path(folder) / "other").encode(model, words[: text_features.LEAST])
        cache, rates = text_features.TextCache(folder), []
        for _ in range(2):
            start = time.perf_counter()
            cache.encode(model, words)
            rates.append(count / (time.perf_counter() - start))
    return rates[0], rates[1]
