"""Evaluations of a training run, and whether its last one has written its table."""

import dataclasses
import itertools
import json
from collections.abc import Callable, Mapping
from pathlib import Path

from experiments.common import program
from vtd_jax.cache.frame_features import FeatureStore
from vtd_jax.console.status import Line
from vtd_jax.evaluate.metrics import SplitResult
from vtd_jax.evaluate.outputs import table_step
from vtd_jax.evaluate.scores import SUFFIX
from vtd_jax.evaluate.views import evaluate
from vtd_jax.model.vtd_clip import VTDCLIP
from vtd_jax.outputs import file_stem
from vtd_jax.parallel.mesh import run_devices
from vtd_jax.parallel.processes import check_same, is_first, on_all, process_count
from vtd_jax.terminal import say, warn
from vtd_jax.train.config import CONFIG_FILE, RunConfig
from vtd_jax.video.copies.beside import changed_since
from vtd_jax.video.copies.data_copy import DataCopy, data_copies
from vtd_jax.video.copies.known import NamedCopy, known_as, read_known
from vtd_jax.video.records import Records


def score(
    config: RunConfig,
    model: VTDCLIP,
    splits: Mapping[str, Records],
    *,
    all_views: bool = True,
    check: Callable[[], None] | None = None,
    store: FeatureStore | None = None,
) -> dict[str, SplitResult]:
    """Scores splits as a config says; without `all_views`, one view of each video."""
    with Line() as line:
        return evaluate(
            model,
            splits,
            frames=config.data.frames,
            batch_size=config.evaluate.batch_size,
            temporal_views=config.evaluate.temporal_views if all_views else 1,
            spatial_views=config.evaluate.spatial_views if all_views else 1,
            workers=config.data.workers,
            devices=run_devices(config.devices),
            parallel=config.parallel,
            check=_counted(line, splits, None if store else config.evaluate.batch_size, check),
            store=store,
        )


def _counted(
    line: Line, splits: Mapping[str, Records], size: int | None, check: Callable[[], None] | None
) -> Callable[[], None]:
    """`check`, called before every batch, with the terminal's line; with a `size` of batches how
    many there are.
    """
    total = sum(-(-len(records) // size) for records in splits.values()) if size else 0
    numbers = itertools.count(1)

    def tell() -> None:
        number = next(numbers)
        told = f"batch {number}" + (f" of {total}" if total else "")
        line.show(f"evaluating {', '.join(splits)}", told, *(["compiling"] if number == 1 else []))
        if check is not None:
            check()

    line.show(f"evaluating {', '.join(splits)}", "compiling")
    return tell


def feature_store(config: RunConfig, model: VTDCLIP) -> FeatureStore | None:
    """The store of this model's frame features; None where they are not kept."""
    # visual prompts change the features; several processes would write the same files
    prompted = model.visual_prompts is not None
    if not config.evaluate.store_features or prompted or process_count() > 1:
        return None
    return FeatureStore(model, run_devices(config.devices), parallel=config.parallel)


def copies_of(splits: Mapping[str, Records]) -> dict[str, NamedCopy]:
    """Computes from the records which copy of its data every split is of.

    All processes of a run must call it.

    Raises:
      UserError: a record is damaged, or another process reads other data.
    """
    found, known = on_all(_copies, splits), on_all(read_known, program.KNOWN_COPIES)
    digests = {split: json.dumps(dataclasses.asdict(copy)) for split, copy in found.items()}
    check_same(**{f"data of split {split}": digest for split, digest in digests.items()})
    return {
        split: NamedCopy(copy, known_as(copy, splits[split].dataset, known))
        for split, copy in found.items()
    }


def show_copies(splits: Mapping[str, Records], copies: Mapping[str, NamedCopy]) -> None:
    """Prints the copy of every split, and warns of one that is other than its records' note says;
    on process 0 only.
    """
    for split, named in copies.items() if is_first() else ():
        say(f"data of {split}: {named.describe()}")
        if line := changed_since(splits[split], named.copy):
            warn(line)


def _copies(splits: Mapping[str, Records]) -> dict[str, DataCopy]:
    with Line("computing fingerprints of the data"):
        return dict(zip(splits, data_copies(splits.values()), strict=True))


class Evaluation:
    """Evaluates one view a video during training, all views at the end; keeps the last results."""

    def __init__(self, config: RunConfig, splits: Mapping[str, Records]):
        self.config, self.splits = config, splits
        self.results: dict[str, SplitResult] = {}
        self.finished = False
        self._store: FeatureStore | None = None

    def __call__(
        self, model: VTDCLIP, last: bool, check: Callable[[], None]
    ) -> dict[str, float | None]:
        """Top-1 and top-5 of every split; `check` is called before every batch and may raise."""
        # training never changes the image tower, so one store serves every evaluation
        self._store = self._store or feature_store(self.config, model)
        results = score(
            self.config, model, self.splits, all_views=last, check=check, store=self._store
        )
        self.results, self.finished = results, last
        accuracies: dict[str, float | None] = {}
        for name, result in results.items():
            accuracies |= {f"{name}_top1": result.top1, f"{name}_top5": result.top5}
        return accuracies


def has_table(workdir: Path, step: int) -> bool:
    """Whether the folder has the results of this step, from training or `experiments.evaluate`."""
    return table_step(workdir / "results.json", workdir / f"results{SUFFIX}") == step


def stem_of(workdir: Path, name: str, file: Path | None, trained: bool, own: bool) -> str:
    """Stem of the files of an evaluation; safe as a file name, whatever the config is called.

    Args:
      workdir: where they are written.
      name: of the config.
      file: that is evaluated; None for a run's checkpoint, or CLIP.
      trained: whether the workdir has checkpoints.
      own: whether the config is that of the workdir or the file.
    """
    if file and (trained or (workdir / CONFIG_FILE).exists()):
        return file_stem(f"results_{file.stem}")
    return file_stem(f"results_{name}") if not file and trained and not own else "results"
