"""The lines of Python that give what the page shows."""

from vtd_jax.app.requests import Asked
from vtd_jax.predict.loading import ZERO_SHOT_FRAMES
from vtd_jax.predict.predictor import Predictor

_ROOM = 88


def python_lines(model: Predictor, video: str, asked: Asked) -> str:
    """The lines for an answer or a timeline.

    Args:
      model: that answers.
      video: name of the file.
      asked: what was asked.
    """
    templates = model.model.config.templates
    how = f", templates={list(templates)!r}" if templates else ""
    lines = ["import vtd_jax", "", f"model = vtd_jax.load({model.source!r}{how})"]
    if asked.temperature not in (None, model.model.config.temperature):
        lines.append(
            f"model = vtd_jax.Predictor(model.model.with_temperature({asked.temperature!r}), "
            f"frames={model.frames})"
        )
    lines.append(_assigned("labels", asked.labels))
    arguments = [repr(video), "labels"]
    if asked.vocabulary is not None:
        lines.append(_assigned("vocabulary", asked.vocabulary))
    frames = asked.frames != (model.frames or ZERO_SHOT_FRAMES)
    arguments += [f"frames={asked.frames}"] if frames else []
    if asked.window is not None:
        arguments += [f"window={asked.window!r}"]
        arguments += [] if asked.stride is None else [f"stride={asked.stride!r}"]
        arguments += [] if asked.threshold == 0.25 else [f"threshold={asked.threshold!r}"]
    arguments += [] if asked.vocabulary is None else ["vocabulary=vocabulary"]
    name = "explain" if asked.window is None else "timeline"
    lines += [f"seen = model.{name}({', '.join(arguments)})", "print(seen)", ""]
    return "\n".join(lines)


def _assigned(name: str, texts: list[str]) -> str:
    line = f"{name} = {texts!r}"
    if len(line) <= _ROOM:
        return line
    return "\n".join([f"{name} = [", *(f"    {text!r}," for text in texts), "]"])
