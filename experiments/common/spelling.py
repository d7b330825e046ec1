"""What messages of the library call its settings and functions while a command runs: its flags, and
the commands.
"""

from collections.abc import Collection

from vtd_jax.errors import Names

# arguments of the library whose flag has another name
_ARGUMENTS = {
    "override": "--override_config",
    "profile": "--profile_steps",
    "resume=False": "--noresume",
}
# arguments that are fields of the config where a command has no such flag
_FIELDS = {
    "activation": "--config.clip.activation",
    "head_width": "--config.clip.head_width",
    "parallel": "--config.parallel",
}
# settings of other commands than the one that runs
_OTHERS = {
    "build_records.labels": "build_data --labels",
    "build_records.overwrite": "build_data --overwrite",
    "checkpoint": "--checkpoint",
}
# what does for a user of commands what a function of the library does
_FUNCTIONS = {
    "build_records": "python -m experiments.build_data",
    "check_videos": "--check_only",
    "evaluate": "experiments.evaluate",
    "load": "experiments.predict as --model",
    "save_clip": "experiments.convert",
    "save_tuned": "experiments.export",
    "write_served": "experiments.export",
}


def flag_names(flags: Collection[str]) -> Names:
    """The names that a command's user knows.

    Args:
      flags: of the command, without dashes; what it has no flag for keeps the library's name.
    """
    settings = {name: f"--{name}" for name in flags}
    if "config" in flags:
        settings = _FIELDS | settings
    return Names(
        settings=settings | _ARGUMENTS | _OTHERS,
        fields="--config." if "config" in flags else None,
        functions=_FUNCTIONS,
    )
