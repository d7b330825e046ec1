"""How the library's messages name its settings and functions while a command runs."""

from collections.abc import Collection

from vtd_jax.errors import Names

# library argument -> a flag of another name
_ARGUMENTS = {
    "override": "--override_config",
    "profile": "--profile_steps",
    "resume=False": "--noresume",
}
# library argument -> config field, for commands that have no such flag
_FIELDS = {
    "clip": "--config.clip.path",
    "activation": "--config.clip.activation",
    "head_width": "--config.clip.head_width",
    "parallel": "--config.parallel",
}
# settings that belong to another command
_OTHERS = {
    "build_records.labels": "build_data --labels",
    "build_records.overwrite": "build_data --overwrite",
    "checkpoint": "--checkpoint",
}
# library function -> the command or flag that does the same
_FUNCTIONS = {
    "build_records": "python -m experiments.build_data",
    "check_videos": "--check_only",
    "evaluate": "experiments.evaluate",
    "load": "experiments.predict as --model",
    "refreshed": "python -m experiments.weights get",
    "save_clip": "experiments.convert",
    "save_tuned": "experiments.export",
    "write_served": "experiments.export",
}


def flag_names(flags: Collection[str]) -> Names:
    """The names that a command's user knows.

    Args:
      flags: of the command, without dashes. Settings without a flag keep the library's name.
    """
    settings = {name: f"--{name}" for name in flags}
    if "config" in flags:
        settings = _FIELDS | settings
    if "download" in flags:
        settings["download=True"] = "--download"
    return Names(
        settings=settings | _ARGUMENTS | _OTHERS,
        fields="--config." if "config" in flags else None,
        functions=_FUNCTIONS,
    )
