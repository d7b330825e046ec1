"""How the library's messages name its settings and functions while a command runs."""

from collections.abc import Collection

from experiments.common import program
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
    "codebook_shards": "--config.codebook_shards",
    "on_nonfinite": "--config.on_nonfinite",
    "parallel": "--config.parallel",
}
_OWN = {"checkpoint": "--checkpoint"}


def _functions() -> dict[str, str]:
    """Library function -> the command or flag that does the same."""
    return {
        "Index.build": program.spelled("index"),
        "build_records": program.spelled("build_data"),
        "check_videos": "--check_only",
        "evaluate": program.spelled("evaluate"),
        "load": f"{program.spelled('predict')} as --model",
        "refreshed": f"{program.spelled('weights')} get",
        "save_clip": program.spelled("convert"),
        "save_tuned": program.spelled("export"),
        "write_served": program.spelled("export"),
    }


def _others() -> dict[str, str]:
    """Settings that belong to another command."""
    build = program.spelled("build_data") if program.is_vtd() else "build_data"
    of_records = {f"build_records.{name}": f"{build} --{name}" for name in ("labels", "overwrite")}
    return of_records | {"Index.build.restart": f"{program.spelled('index')} --restart"}


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
        settings=settings | _ARGUMENTS | _OWN | _others(),
        fields="--config." if "config" in flags else None,
        functions=_functions(),
    )
