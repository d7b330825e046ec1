"""Names of weights: which texts are names, and which are paths."""

import difflib
import os
import re
from pathlib import Path
from typing import NamedTuple

from vtd_jax.clip.config import known_architectures
from vtd_jax.clip.hub.open_clip import OPEN_CLIP, row_of
from vtd_jax.clip.hub.openai import OPENAI
from vtd_jax.errors import UserError
from vtd_jax.fields import check_switch
from vtd_jax.files import is_possible
from vtd_jax.printable import brief, listed

# the CLIP in this package
TINY = "tiny"
OF_OPENAI, OF_OPEN_CLIP, OF_HUB = "openai:", "open_clip:", "hf:"
# what `etils.epath` takes, also where its backend is not installed
_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]{1,20}://")
_PART_MOST = 96
_PART = re.compile(rf"[A-Za-z0-9_][A-Za-z0-9_.-]{{0,{_PART_MOST - 1}}}")
_REVISION = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*(/[A-Za-z0-9_][A-Za-z0-9_.+-]*)*")
# a `Path` of an address has lost a slash
_STORE = re.compile(r"(gs|gcs|s3|az|abfs):/{1,2}([^/].*)", re.IGNORECASE)
_HOW = "expected hf:ORG/MODEL, hf:ORG/MODEL@REVISION or hf:ORG/MODEL/FILE"
_HOW_DATA = "expected hf:ORG/DATASET, hf:ORG/DATASET@REVISION or hf:ORG/DATASET/FOLDER"
# what the hub puts before the names of data sets
_DATA = "datasets/"
_MOST = 1000


def list_architectures(*, weights: bool = False) -> list[str]:
    """Names of CLIPs.

    Example:
      >>> import vtd_jax
      >>> vtd_jax.list_architectures()[:3]
      ['ViT-B/32', 'ViT-B/16', 'ViT-L/14']
      >>> "open_clip:ViT-H-14/laion2b_s32b_b79k" in vtd_jax.list_architectures(weights=True)
      True

    Args:
      weights: False lists the architectures that `CLIPConfig.named` knows; True the names under
        which `load` and `load_clip` find published weights. They take `hf:ORG/MODEL`, too, which no
        list has.
    """
    if check_switch("weights", weights):
        return [*OPENAI, *(f"{OF_OPEN_CLIP}{name}" for name in OPEN_CLIP), TINY]
    return list(known_architectures())


class HubName(NamedTuple):
    """A repository of the Hugging Face Hub.

    Attributes:
      repository: "ORG/MODEL"; of a data set "datasets/ORG/NAME", as the hub's addresses have it.
      revision: a branch, tag or commit; "main" where none was given.
      file: a path in it; "" for the weights of the repository.
    """

    repository: str
    revision: str = "main"
    file: str = ""


def is_name(source: str | os.PathLike) -> bool:
    """Whether a source is a name, not a local path.

    A `Path` is a path, and so is a text that begins with `./` or `/`. One of OpenAI's nine names
    without `openai:` is a path where a file or folder of that name exists.
    """
    if not isinstance(source, str):
        # epath's own are paths whose text is an address
        return bool(_ADDRESS.match(os.fspath(source)))
    if source in OPENAI:
        return not is_possible(source) or not os.path.lexists(source)
    return is_marked(source)


def is_marked(source: str) -> bool:
    """Whether a text can only be a name: it has one of the prefixes, or is an address."""
    return source.startswith((OF_OPENAI, OF_OPEN_CLIP, OF_HUB)) or bool(_ADDRESS.match(source))


def is_address(source: str | os.PathLike) -> bool:
    """Whether a source is an address that `etils.epath` may take, as `gs://bucket/file`."""
    return bool(_ADDRESS.match(os.fspath(source)))


def absolute(source: str) -> str:
    """A path made absolute; a name, "tiny" and "" as they are, to be resolved where it is used."""
    return source if source in ("", TINY) or is_name(source) else str(Path(source).absolute())


def data_set_name(source: str) -> HubName:
    """Reads `hf:ORG/DATASET[@REVISION][/FOLDER]`, a data set of the hub.

    Raises:
      UserError: it is of another form.
    """
    name = hub_name(source, _HOW_DATA)
    return name._replace(repository=f"{_DATA}{name.repository}")


def hub_name(source: str, how: str = _HOW) -> HubName:
    """Reads `hf:ORG/MODEL[@REVISION][/FILE]`; a revision has no slash, except `refs/pr/N`.

    Raises:
      UserError: it is of another form; `how` says which is expected.
    """
    text = source.removeprefix(OF_HUB)
    wrong = UserError(f"{brief(source)}: not a name of the Hugging Face Hub, {how}")
    if len(text) > _MOST or not text.isprintable():
        raise wrong
    before, at, after = text.partition("@")
    organisation, slash, rest = before.partition("/")
    model, _, file = rest.partition("/")
    if not slash or not _PART.fullmatch(organisation) or not _PART.fullmatch(model):
        raise wrong
    if not _is_allowed(organisation) or not _is_allowed(model) or len(before) > _PART_MOST:
        raise wrong
    revision = "main"
    if at:
        if file:
            raise wrong
        revision, file = _revision_and_file(after)
        if not _REVISION.fullmatch(revision) or ".." in revision:
            raise wrong
    if file and not is_inside(file):
        raise wrong
    return HubName(f"{organisation}/{model}", revision, file)


def shown_name(name: HubName) -> str:
    """The name as it is written."""
    revision = "" if name.revision == "main" else f"@{name.revision}"
    repository = name.repository.removeprefix(_DATA)
    return f"{OF_HUB}{repository}{revision}" + (f"/{name.file}" if name.file else "")


def is_data_set(repository: str) -> bool:
    """Whether a repository is one of data, not of weights."""
    return repository.startswith(_DATA) and repository.count("/") == 2


def is_inside(file: str) -> bool:
    """Whether a file of a listing has a plain relative path, which leads nowhere else."""
    parts = file.split("/")
    return (
        len(file) <= _MOST
        and file.isprintable()
        and "\\" not in file
        and all(part not in ("", ".", "..") and len(part) <= 200 for part in parts)
    )


def meant(text: str) -> str:
    """What a path that is not there was probably meant as: a name, or "" for no guess."""
    text = text.strip()
    plain = _letters(text.rpartition(":")[2] if _prefix(text) == OF_OPENAI else text)
    # open_clip and others write ViT-L-14-336 and vit_b_16
    for name in OPENAI:
        if plain in (_letters(name), _letters(name.removesuffix("px"))):
            return name
    if prefix := _prefix(text):
        return f"{prefix}{text.partition(':')[2].lstrip('/')}"
    if store := _STORE.fullmatch(text):
        return f"{store[1].casefold()}://{store[2]}"
    parts = text.split("/")
    # a size of OpenAI's that there is not: no organisation is called ViT-B
    if _letters(parts[0]) in {_letters(name.partition("/")[0]) for name in OPENAI if "/" in name}:
        near = {_letters(name): name for name in OPENAI}
        return near[difflib.get_close_matches(plain, near, n=1, cutoff=0.0)[0]]
    if text.startswith(("hf.co/", "huggingface.co/")):
        parts = parts[1:]
    is_repository = len(parts) == 2 and all(_PART.fullmatch(part) for part in parts)
    # below a folder that is there a slip in a local name is likelier
    is_repository = is_repository and not Path(parts[0]).is_dir()
    if is_repository and Path(text).suffix not in (".pt", ".pth", ".bin", ".safetensors"):
        return f"{OF_HUB}{'/'.join(parts)}"
    return ""


def _prefix(text: str) -> str:
    """The prefix that a text has in other letters, or ""."""
    before, colon, _ = text.partition(":")
    plain = {_letters(prefix): prefix for prefix in (OF_OPENAI, OF_OPEN_CLIP, OF_HUB)}
    return plain.get(_letters(before), "") if colon else ""


def _letters(text: str) -> str:
    return "".join(c for c in text.casefold() if c.isalnum())


def openai_name(source: str) -> str:
    """The one of OpenAI's nine that a text names.

    Raises:
      UserError: it names none of them.
    """
    name = source.removeprefix(OF_OPENAI)
    if name not in OPENAI:
        raise UserError(f"{brief(source)}: OpenAI published {', '.join(OPENAI)}")
    return name


def check_open_clip(source: str) -> None:
    """Refuses a name of open_clip that the table does not have.

    Raises:
      UserError: says which tags the model has, or which models there are.
    """
    text = source.removeprefix(OF_OPEN_CLIP)
    if row_of(text) is not None:
        return
    model = text.partition("/")[0].removesuffix("-quickgelu")
    tags = [name for name in OPEN_CLIP if name.startswith(f"{model}/")]
    models = list(dict.fromkeys(name.partition("/")[0] for name in OPEN_CLIP))
    known = listed([f"{OF_OPEN_CLIP}{tag}" for tag in tags], 20) or (
        f"{OF_OPEN_CLIP}MODEL/TAG with one of {', '.join(models)}"
    )
    raise UserError(
        f"{brief(source)}: not in the table of open_clip's weights here, which has {known}; others "
        "by their repository, hf:ORG/MODEL"
    )


def _is_allowed(part: str) -> bool:
    """Whether the hub allows an organisation or model of this name."""
    return ".." not in part and "--" not in part and not part.endswith((".", "-", ".git"))


def _revision_and_file(text: str) -> tuple[str, str]:
    """Cuts `REVISION/FILE`; `refs/…` keeps its three parts."""
    parts = text.split("/")
    cut = 3 if parts[0] == "refs" and len(parts) >= 3 else 1
    return "/".join(parts[:cut]), "/".join(parts[cut:])
