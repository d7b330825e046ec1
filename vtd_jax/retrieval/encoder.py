"""Which model made an index, and which models can read it."""

import contextlib
import inspect
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from vtd_jax.cache.tower import tower_fingerprint
from vtd_jax.clip.hub.names import OF_OPENAI, OPENAI, TINY, is_marked, is_name
from vtd_jax.clip.weights.planned import planned_config
from vtd_jax.console.consent import found_in
from vtd_jax.errors import UserError, function, setting
from vtd_jax.fields import check_known
from vtd_jax.fingerprints import fingerprint_all
from vtd_jax.model.vtd_clip import VTDCLIP
from vtd_jax.predict.loading import load
from vtd_jax.predict.predictor import Predictor
from vtd_jax.printable import listed
from vtd_jax.retrieval.store import FILE, Contents
from vtd_jax.terminal import log
from vtd_jax.video.scaling.fit import Fit

_SETTINGS = [name for name in inspect.signature(load).parameters if name != "source"]
# settings of `load` that change frame features, and that weights alone do not say
SETTINGS = ("preprocess", "dtype", "activation", "head_width")


def encoder_fingerprint(model: VTDCLIP) -> str:
    """The fingerprint of everything that frame features depend on, but for the videos.

    The image tower with its prompts, its dtype, and how frames are prepared. Text prompts, fusion
    and pooling are not part of it: a model that learnt only these reads the index of its CLIP.
    """
    prompts = [] if model.visual_prompts is None else [model.visual_prompts[...]]
    about = [
        tower_fingerprint(model),
        model.clip.config.image_resolution,
        list(Fit(**model.scaling).key),
        model.config.visual_depth if prompts else 0,
    ]
    return fingerprint_all([about, *map(np.asarray, jax.device_get(prompts))])


def check_settings(model: Any, settings: Mapping[str, Any]) -> None:
    """Refuses settings that would not be read.

    Args:
      model: a `Predictor`, a source for `load`, or None.
      settings: of `load`, to load it with.

    Raises:
      UserError: a setting that `load` does not have, or one of a model that is loaded already.
    """
    check_known(settings, _SETTINGS)
    # consent is for videos at addresses, too
    given = [
        setting(name)
        for name, value in settings.items()
        if value not in (None, ()) and name != "download"
    ]
    if isinstance(model, Predictor) and given:
        raise UserError(
            f"{listed(given)}: for a model that is loaded here, and {setting('model')} is loaded "
            f"already; give it to {function('load')}"
        )


def difference(contents: Contents, model: VTDCLIP) -> str:
    """Why a model's frame features are not those of an index; "" where they are."""
    width, fit = model.clip.config.embed_dim, Fit(**model.scaling)
    if width == contents.width and encoder_fingerprint(model) == contents.encoder:
        return ""
    here = fit.describe(model.clip.config.image_resolution)
    if here != contents.preprocess:
        return f"its frames are prepared as {here}, there as {contents.preprocess}"
    if width != contents.width:
        return f"its features have {width} numbers, there {contents.width}"
    return "its image tower is another"


def check_encoder(folder: Path, contents: Contents, predictor: Predictor) -> None:
    """Refuses a model whose frame features are not those of an index.

    Raises:
      UserError: says which model made the index, and what differs.
    """
    if why := difference(contents, predictor.model):
        raise _other(folder, contents, predictor.description or "this model", why)


def check_source(
    folder: Path, contents: Contents, source: Any, settings: Mapping[str, Any]
) -> None:
    """Compares a model that is still to be loaded with that of an index, by name and sizes.

    A big model is loaded in minutes. One whose frame features certainly differ is refused before;
    for one of another name, which may have the same image tower, the index's is logged.

    Args:
      folder: of the index.
      contents: its manifest.
      source: for `load`; None and a `Predictor` are not compared.
      settings: of `load`.

    Raises:
      UserError: as `check_encoder`.
    """
    if source is None or isinstance(source, Predictor):
        return
    given, said = _plain(source), _plain(contents.model)
    if given == said:
        return
    why = ""
    if given in OPENAI and said in OPENAI and is_name(source):
        why = "its image tower is another"
    # what is no CLIP, as a run or a tuned file, is known when it is loaded
    with contextlib.suppress(UserError):
        asked = {name: settings.get(name) for name in ("activation", "head_width")}
        width = planned_config(source, **asked, download=False)[0].embed_dim
        if width != contents.width:
            why = f"its features have {width} numbers, there {contents.width}"
    if why:
        raise _other(folder, contents, os.fspath(source), why)
    log(
        f"{folder}: was made with {contents.model}; {os.fspath(source)} is loaded, and has to be "
        "the same encoder"
    )


def _plain(source: str | os.PathLike) -> str:
    return os.fspath(source).removeprefix(OF_OPENAI)


def _other(folder: Path, contents: Contents, model: str, why: str) -> UserError:
    return UserError(
        f"{folder}: was made with {contents.model}, which {model} cannot read: {why}; give "
        f"{setting('model', contents.model)}, or another index"
    )


def load_encoder(folder: Path, contents: Contents, model: Any, settings: dict[str, Any]) -> Any:
    """The model that reads an index.

    Args:
      folder: of the index.
      contents: its manifest.
      model: a `Predictor`, a source for `load`, or None for the name that the index says. A path
        that the index says is not opened: it may come from a stranger.
      settings: others of `load`.

    Raises:
      UserError: the index says a path, or the model cannot read the index.
    """
    if isinstance(model, Predictor):
        check_encoder(folder, contents, model)
        return model
    check_source(folder, contents, model, settings)
    file, said = folder / FILE, contents.model
    named = contextlib.nullcontext()
    if model is None:
        if said != TINY and said not in OPENAI and not is_marked(said):
            raise UserError(
                f"{file}: was made with {said}, no name of weights, and a path is not opened "
                f"because an index says so: give {setting('model', said)}"
            )
        model = f"openai:{said}" if said in OPENAI else said
        named = found_in(file, model)
    kept: dict[str, Any] = {name: contents.settings.get(name) for name in SETTINGS}
    given = {name: value for name, value in settings.items() if value is not None}
    with named:
        predictor = load(os.fspath(model), **(kept | given))
    check_encoder(folder, contents, predictor)
    return predictor
