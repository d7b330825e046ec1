"""Files of prompt templates: a text with `{}` for the class name on each line, `#` comments."""

from pathlib import Path

from vtd_jax.errors import UserError
from vtd_jax.untrusted.regular_files import read_text

FOLDER = Path(__file__).resolve().parent.parent / "templates"


def shipped() -> list[str]:
    """Names of the files in experiments/templates."""
    return sorted(path.stem for path in FOLDER.glob("*.txt"))


def read_templates(path_or_name: str) -> tuple[str, tuple[str, ...]]:
    """The texts of a file of templates, or a single one as it is.

    Args:
      path_or_name: one of `shipped()`, a text with `{}` in it, or a path. Empty lines and lines
        that start with `#` are skipped.

    Returns:
      The file's stem ("inline" for a text), for the run's name, and its texts in their order.

    Raises:
      UserError: no such file, no UTF-8, no template in it, or a line without exactly one `{}`.
    """
    if "{}" in path_or_name:
        if path_or_name.count("{}") != 1:
            raise UserError(
                f"templates={path_or_name}: expected {{}} once, where the class name goes"
            )
        return "inline", (path_or_name.strip(),)
    path = FOLDER / f"{path_or_name}.txt" if path_or_name in shipped() else Path(path_or_name)
    if not path.is_file():
        raise UserError(
            f"templates={path_or_name}: no such file; expected one of {', '.join(shipped())}, a "
            "path, or a text with {} where the class name goes, as 'a video of {}.'"
        )
    try:
        lines = read_text(path, "file of templates").splitlines()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); expected UTF-8 text") from None
    found = []
    for number, line in enumerate(map(str.strip, lines), 1):
        if not line or line.startswith("#"):
            continue
        if line.count("{}") != 1:
            raise UserError(
                f"{path}, line {number}: {line!r}, expected {{}} once, where the class name goes"
            )
        found.append(line)
    if not found:
        raise UserError(
            f"{path}: no templates in it, expected one text a line, as: a photo of {{}}."
        )
    return path.stem, tuple(found)
