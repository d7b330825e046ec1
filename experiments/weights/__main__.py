"""Weights by name: lists them, downloads them, says where they are, and verifies them.

    python -m experiments.weights list
    python -m experiments.weights get ViT-B/16
    python -m experiments.weights get hf:openai/clip-vit-base-patch16@main --download
    python -m experiments.weights where open_clip:ViT-B-16/laion2b_s34b_b88k
    python -m experiments.weights verify ViT-B/32 --pictures=FOLDER

Names: ViT-B/16 or any other of OpenAI's nine, open_clip:MODEL/TAG, hf:ORG/MODEL[@REVISION][/FILE],
gs://… and s3://…. Every command takes them where it takes a CLIP. The last line that get and where
print is the path; where exits with status 2 if the weights are not on this machine, and asks no
server. get looks a branch of the hub up again, and asks before it downloads unless --download or
VTD_JAX_DOWNLOAD=1 is given. Files are kept in $VTD_JAX_CACHE, or ~/.cache/vtd_jax, those of the hub
in HF_HOME; HF_ENDPOINT, HF_TOKEN and HF_HUB_OFFLINE are those of huggingface_hub.

verify takes a name or a file. It says what the weights are, by their hash and sizes, and whether
they give the numbers that were published: for ViT-B/32 the cosines of OpenAI's notebook on pictures
of scikit-image (pip install scikit-image), the probabilities of CLIP.png and the logits of a COCO
picture; these two are read from --pictures, and it says where they are. Status 2 if one differs.
"""

from pathlib import Path

from absl import flags

from experiments.common import cli, download_flag, program
from experiments.weights.listing import show_list
from experiments.weights.verify import verify
from vtd_jax.clip.hub.names import TINY, is_name, meant
from vtd_jax.clip.hub.resolve import held, refreshed
from vtd_jax.clip.weights.checkpoints import TINY_CLIP
from vtd_jax.errors import UserError

flags.adopt_module_key_flags(download_flag)
PICTURES = flags.DEFINE_string(
    "pictures", None, "verify: folder with CLIP.png and 000000039769.jpg, or one of them"
)
ACTIONS = ("list", "get", "where", "verify")


def main(action: str, name: str | None = None) -> str:
    """Does one of `ACTIONS`; returns the line to print last."""
    if action not in ACTIONS:
        raise UserError(f"{_spelled(action)}: expected one of {', '.join(ACTIONS)}")
    if action == "list":
        if name is not None:
            raise UserError(f"{_spelled('list')} takes no name, got {name}")
        return show_list()
    if not name:
        raise UserError(
            f"{action}: a name is missing, as in {_spelled(action)} ViT-B/16; {_spelled('list')} "
            "lists them"
        )
    if PICTURES.value is not None and (action != "verify" or not Path(PICTURES.value).is_dir()):
        raise UserError(f"--pictures={PICTURES.value}: expected a folder that is there, for verify")
    if action == "verify":
        return verify(name, PICTURES.value)
    return get(name) if action == "get" else where(name)


def _spelled(action: str) -> str:
    """What a user types for an action."""
    return f"{program.spelled('weights')} {action}"


def get(name: str) -> str:
    """The path of weights, downloaded where they are not on this machine."""
    if name == TINY:
        return str(TINY_CLIP)
    if not is_name(name):
        guess = meant(name)
        raise UserError(
            f"{name}: no name of weights, expected one as {guess or 'ViT-B/16 or hf:ORG/MODEL'}; "
            f"{_spelled('list')} lists those with a name of their own"
        )
    return str(refreshed(name).path)


def where(name: str) -> str:
    """The path of weights on this machine.

    Raises:
      UserError: they are not on it.
    """
    found = TINY_CLIP if name == TINY else held(name)
    if found is None:
        cure = "no such file or folder, and no name"
        if is_name(name):
            cure = f"{_spelled('get')} {name} downloads it"
        raise UserError(f"{name}: not on this machine; {cure}")
    return str(found)


if __name__ == "__main__":
    cli.run(main, __doc__, ("ACTION", "NAME"), 1, keeps_programs=False)
