"""Serves a page where labels are edited, and every frame's word and all scores follow at once.

Examples:
  python -m experiments.app --model=ViT-B/16
  python -m experiments.app --model=runs/hmdb51 clips/ --open
  python -m experiments.app --model=ViT-B-16.pt clips/ --port=8000
  python -m experiments.app --host=0.0.0.0 --token=AT-LEAST-SIXTEEN-CHARACTERS

FOLDER holds videos to choose from; others are dropped onto the page. The address that is printed
has a token: who has it may use the page. The server listens on this machine only, unless --host is
given with a --token. Ctrl-C ends it and removes what was uploaded. Beside a tuned model its CLIP
answers zero-shot, too.
"""

import datetime
import re
import secrets
import webbrowser
from pathlib import Path

from absl import flags

from experiments.common import cli, download_flag, limit_flags, program
from experiments.predict.job import load_model
from vtd_jax.app.guard import LEAST_TOKEN
from vtd_jax.app.server import serve
from vtd_jax.app.service import Service
from vtd_jax.backend import describe_devices
from vtd_jax.clip.toy import toy_note
from vtd_jax.errors import UserError
from vtd_jax.printable import brief, utf8
from vtd_jax.terminal import say

MODEL = flags.DEFINE_string(
    "model",
    "tiny",
    "CLIP by name (ViT-B/16, hf:ORG/MODEL) or file, tuned .safetensors, workdir of a run, or tiny",
)
CLIP = flags.DEFINE_string("clip", None, "CLIP of a tuned file or run, where it has moved")
CHECKPOINT = flags.DEFINE_string("checkpoint", "last", "of a workdir: last, best or a step")
TEMPLATES = flags.DEFINE_string(
    "templates", None, "zero-shot: a text with {} for the label, or a file of some"
)
DTYPE = flags.DEFINE_enum(
    "dtype", None, ["float32", "bfloat16"], "of the towers; default: as trained; float32"
)
POOLING = flags.DEFINE_enum(
    "pooling", None, ["confidence", "mean", "softmax_mean"], "default: as trained; confidence"
)
PREPROCESS = flags.DEFINE_enum(
    "preprocess", None, ["clip", "release"], "of frames; default: as trained; clip"
)
ACTIVATION = flags.DEFINE_enum(
    "activation",
    None,
    ["quick_gelu", "gelu", "gelu_tanh"],
    "of a CLIP whose weights have no config beside them",
)
HEAD_WIDTH = flags.DEFINE_integer(
    "head_width", None, "of its image tower's attention, likewise", lower_bound=1
)
HOST = flags.DEFINE_string(
    "host", "127.0.0.1", "address to listen at; one that others reach needs --token"
)
PORT = flags.DEFINE_integer("port", 0, "0 takes a free one", lower_bound=0, upper_bound=65535)
TOKEN = flags.DEFINE_string(
    "token", None, f"{LEAST_TOKEN} characters or more; default: a random one for each start"
)
NAME = flags.DEFINE_multi_string(
    "name", [], "a name by which browsers reach this server, as behind a proxy; may be repeated"
)
OPEN = flags.DEFINE_bool("open", False, "open the page in a browser")
flags.adopt_module_key_flags(limit_flags)
flags.adopt_module_key_flags(download_flag)

# arguments of `vtd_jax.load`
_MODEL = (CLIP, CHECKPOINT, DTYPE, POOLING, PREPROCESS, ACTIVATION, HEAD_WIDTH)
_LOOPBACK = ("127.0.0.1", "::1", "localhost")


def main(folder: str | None = None) -> str:
    """Checks the flags, loads the model, and serves until Ctrl-C."""
    local = HOST.value in _LOOPBACK
    token = _token(local)
    if folder is not None and not Path(folder).is_dir():
        raise UserError(f"{folder}: no such folder; expected one with videos, or none")
    settings = {holder.name: holder.value for holder in _MODEL}
    model = load_model(MODEL.value, TEMPLATES.value, **settings)
    about = {
        "Model": utf8(model.description),
        "Weights": model.weights,
        "Device": describe_devices(),
        "Started": f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d %H:%M} UTC",
        "Command": utf8(_line()),
    }

    def ready(host: str, port: int) -> None:
        address = f"http://{_shown(host)}:{port}/?token={token}"
        service.warm_up()
        say(address)
        if OPEN.value:
            webbrowser.open(address)

    place = None if folder is None else Path(folder)
    with Service(model, place, about, toy_note(model.model.clip.config)) as service:
        serve(service, token, HOST.value, PORT.value, ready, hosts=NAME.value, local=local)
    return "the page is closed, uploads are removed"


def _token(local: bool) -> str:
    """The token of this start.

    Raises:
      UserError: others could reach the server, and no token was chosen; or it is too short.
    """
    if TOKEN.value is None:
        if not local:
            raise UserError(
                f"--host={HOST.value}: others reach this address; choose who may with --token=…, "
                f"{LEAST_TOKEN} characters or more"
            )
        return secrets.token_urlsafe(24)
    if not re.fullmatch(rf"[A-Za-z0-9_-]{{{LEAST_TOKEN},}}", TOKEN.value):
        raise UserError(
            f"--token={brief(TOKEN.value)}: expected {LEAST_TOKEN} or more ASCII letters, digits, "
            "- and _"
        )
    return TOKEN.value


def _shown(host: str) -> str:
    """The host of an address that a browser on this machine can open."""
    if host in ("0.0.0.0", "::"):
        host = "127.0.0.1" if host == "0.0.0.0" else "::1"
    return f"[{host}]" if ":" in host else host


def _line() -> str:
    """The command line, without its token: reports have it."""
    line = program.line()
    return line if TOKEN.value is None else line.replace(TOKEN.value, "…")


if __name__ == "__main__":
    cli.run(main, __doc__, positional=("FOLDER",), device=True)
