"""The lines of Python that give what the page shows."""

from collections.abc import Mapping, Sequence
from typing import Any

from vtd_jax.app.requests import Asked
from vtd_jax.predict.predictor import Predictor

_ROOM = 88
# defaults of `vtd_jax.load`, other than None
_DEFAULTS = {"checkpoint": "last"}


def python_lines(
    model: Predictor, loaded: Mapping[str, Any], video: str, asked: Asked, beside: bool
) -> str:
    """The lines for an answer or a timeline.

    Args:
      model: that answers.
      loaded: arguments that `vtd_jax.load` was called with, beside the source and the templates.
      video: path of the file.
      asked: what was asked.
      beside: whether the zero-shot model answers too.
    """
    config, source = model.model.config, [repr(model.source)]
    given = {name: value for name, value in loaded.items() if value != _DEFAULTS.get(name)}
    if config.templates:
        given["templates"] = list(config.templates)
    names = ["model", "beside"] if beside else ["model"]
    lines = ["import vtd_jax"]
    lines += ["from vtd_jax.predict.zero_shot import zero_shot"] if beside else []
    lines += ["", _called("model = vtd_jax.load", source, given)]
    lines += ["beside = zero_shot(model)"] if beside else []
    if asked.temperature is not None:
        lines += [
            f"{name} = vtd_jax.Predictor({name}.model.with_temperature({asked.temperature!r}), "
            f"frames={asked.frames})"
            for name in names
        ]
    lines.append(_assigned("labels", asked.labels))
    how: dict[str, Any] = {"frames": asked.frames}
    if asked.window is not None:
        how |= {"window": asked.window, "threshold": asked.threshold}
        how |= {} if asked.stride is None else {"stride": asked.stride}
    arguments = [repr(video), "labels", *(f"{name}={value!r}" for name, value in how.items())]
    if asked.vocabulary is not None:
        lines.append(_assigned("vocabulary", asked.vocabulary))
        arguments.append("vocabulary=vocabulary")
    method = "explain" if asked.window is None else "timeline"
    seen = {"model": "seen", "beside": "seen_beside"}
    lines += [_called(f"{seen[name]} = {name}.{method}", arguments, {}) for name in names]
    return "\n".join([*lines, *(f"print({seen[name]})" for name in names), ""])


def _called(function: str, arguments: Sequence[str], given: Mapping[str, Any]) -> str:
    """A call, over several lines if it is long."""
    arguments = [*arguments, *(f"{name}={value!r}" for name, value in given.items())]
    line = f"{function}({', '.join(arguments)})"
    if len(line) <= _ROOM:
        return line
    return "\n".join([f"{function}(", *(f"    {one}," for one in arguments), ")"])


def _assigned(name: str, texts: Sequence[str]) -> str:
    line = f"{name} = {list(texts)!r}"
    if len(line) <= _ROOM:
        return line
    return "\n".join([f"{name} = [", *(f"    {text!r}," for text in texts), "]"])
