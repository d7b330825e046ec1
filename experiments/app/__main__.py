"""Serves a page where labels are edited, and every frame's word and all scores follow at once.

Examples:
  python -m experiments.app --model=ViT-B/16
  python -m experiments.app --model=runs/hmdb51 clips/ --open
  python -m experiments.app --model=ViT-B-16.pt clips/ --port=8000
  VTD_JAX_APP_TOKEN=AT-LEAST-SIXTEEN-CHARACTERS python -m experiments.app --host=0.0.0.0
  python -m experiments.app --host=0.0.0.0 --public --name=demo.example

FOLDER holds videos to choose from; others are dropped onto the page. The address that is printed
has a token: who has it may use the page. The server listens on this machine only, unless --host is
given with a token, or with --public for everybody. Ctrl-C ends it and removes what was uploaded.
A tuned model brings its labels, and beside it its CLIP answers zero-shot. Without --model the small
CLIP of the package answers. It knows rendered shapes only, and without FOLDER has three clips of
these to try.
"""

import datetime
import os
import re
import secrets
import threading
import webbrowser
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from absl import flags

from experiments.app.examples import LABELS, examples
from experiments.common import cli, download_flag, limit_flags, program
from experiments.predict import model_flags, weight_flags
from experiments.predict.job import load_model
from experiments.predict.model_flags import CHECKPOINT, CLIP
from experiments.predict.weight_flags import ACTIVATION, HEAD_WIDTH
from vtd_jax.app.guard import LEAST_TOKEN, check_name, check_site
from vtd_jax.app.server import check_address, serve
from vtd_jax.app.service import Service
from vtd_jax.backend import describe_devices
from vtd_jax.clip.toy import toy_note
from vtd_jax.errors import UserError
from vtd_jax.predict.predictor import Predictor
from vtd_jax.printable import brief, utf8
from vtd_jax.terminal import log, say

# of the token
VARIABLE = "VTD_JAX_APP_TOKEN"

MODEL = flags.DEFINE_string(
    "model",
    "tiny",
    "CLIP by name (ViT-B/16, hf:ORG/MODEL) or file, tuned .safetensors, workdir of a run, or tiny",
)
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
HOST = flags.DEFINE_string(
    "host", "127.0.0.1", "address to listen at; one that others reach needs --token or --public"
)
PORT = flags.DEFINE_integer("port", 0, "0 takes a free one", lower_bound=0, upper_bound=65535)
TOKEN = flags.DEFINE_string(
    "token",
    None,
    f"{LEAST_TOKEN} characters or more; default: ${VARIABLE}, which no list of processes shows, or "
    "a random one for each start",
)
PUBLIC = flags.DEFINE_bool(
    "public",
    False,
    "without a token: whoever reaches --host may use the page; uploads are only their uploaders'",
)
NAME = flags.DEFINE_multi_string(
    "name",
    [],
    "a name by which browsers reach this server, as behind a proxy, with its port if browsers show "
    "one; may be repeated",
)
FRAME_ANCESTORS = flags.DEFINE_multi_string(
    "frame_ancestors",
    [],
    "a site whose frames may hold the page, as https://huggingface.co; may be repeated",
)
OPEN = flags.DEFINE_bool(
    "open", False, "open the page in a browser; a list of processes shows the token then"
)
flags.adopt_module_key_flags(model_flags)
flags.adopt_module_key_flags(weight_flags)
flags.adopt_module_key_flags(limit_flags)
flags.adopt_module_key_flags(download_flag)

# arguments of `vtd_jax.load`
_MODEL = (CLIP, CHECKPOINT, DTYPE, POOLING, PREPROCESS, ACTIVATION, HEAD_WIDTH)
_LOOPBACK = ("127.0.0.1", "::1", "localhost")


def main(folder: str | None = None) -> str:
    """Checks the flags, loads the model, and serves until Ctrl-C."""
    local = HOST.value in _LOOPBACK
    token = _token(local)
    for check, given in ((check_name, NAME.value), (check_site, FRAME_ANCESTORS.value)):
        for one in given:
            check(one)
    if folder is not None and not Path(folder).is_dir():
        if Path(folder).exists():
            raise UserError(f"{folder}: is a file; give its folder, or drop it onto the page")
        raise UserError(f"{folder}: no such folder; expected one with videos, or none")
    check_address(HOST.value, PORT.value)
    settings = {holder.name: holder.value for holder in _MODEL}
    model = load_model(MODEL.value, TEMPLATES.value, **settings)
    if PUBLIC.value:
        _hide_folders(model, settings)
    about = {
        "Model": utf8(model.description),
        "Weights": model.weights,
        "Device": describe_devices(),
        "Started": f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d %H:%M} UTC",
    }
    if PUBLIC.value:
        log(
            "note: --public: whoever reaches this address may use the page, "
            + ("" if folder is None else f"see the videos of {folder}, ")
            + "and upload videos, which only their uploaders find"
        )
    else:
        about["Command"] = utf8(_line())

    def ready(host: str, port: int) -> None:
        address = f"http://{_shown(host)}:{port}/{'' if token is None else f'?token={token}'}"
        service.warm_up()
        log("open this address in a browser; Ctrl-C ends the server")
        say(address)
        if OPEN.value:
            # a browser in the terminal does not return, and would wait for a server that waits
            threading.Thread(target=webbrowser.open, args=(address,), daemon=True).start()

    place, notice = None if folder is None else Path(folder), toy_note(model.model.clip.config)
    labels: Sequence[str] = ()
    if notice and not model.class_names and place is None and (place := examples()) is not None:
        labels = LABELS
    more = {"hosts": NAME.value, "local": local, "ancestors": FRAME_ANCESTORS.value}
    own = {"public": PUBLIC.value, "loaded": settings, "labels": labels}
    with Service(model, place, about, notice, **own) as service:
        serve(service, token, HOST.value, PORT.value, ready, **more)
    return "the page is closed, uploads are removed"


def _hide_folders(model: Predictor, settings: dict[str, Any]) -> None:
    """Leaves of paths the last name: strangers see what answers, and how it was loaded."""
    paths = (model.source, settings["clip"])
    for given in [one for one in paths if one and Path(one).exists()]:
        name = Path(given).resolve().name
        model.description = model.description.replace(given, name)
        if model.source == given:
            model.source = name
        if settings["clip"] == given:
            settings["clip"] = name


def _token(local: bool) -> str | None:
    """The token of this start; None for a page that everybody may use.

    Raises:
      UserError: others could reach the server, and no token was chosen; or it is too short.
    """
    # processes that are started here do not get it
    kept = os.environ.pop(VARIABLE, None)
    if PUBLIC.value:
        if not flags.FLAGS["host"].present:
            raise UserError("--public: say with --host where others may reach the page")
        if TOKEN.value is not None or kept:
            given = "--token" if TOKEN.value is not None else f"${VARIABLE}"
            raise UserError(f"--public: has no token; leave out {given}, or --public")
        return None
    if TOKEN.value is None and not kept:
        if not local:
            raise UserError(
                f"--host={HOST.value}: others reach this address; choose who may with "
                f"{VARIABLE}=… or --token=…, {LEAST_TOKEN} characters or more, or let everybody in "
                "with --public"
            )
        return secrets.token_urlsafe(24)
    if (token := TOKEN.value if TOKEN.value is not None else kept) is None or not re.fullmatch(
        rf"[A-Za-z0-9_-]{{{LEAST_TOKEN},}}", token
    ):
        # what is in the variable is for no log
        given = f"${VARIABLE}" if TOKEN.value is None else f"--token={brief(TOKEN.value)}"
        raise UserError(f"{given}: expected {LEAST_TOKEN} or more ASCII letters, digits, - and _")
    return token


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
