"""Published numbers that only OpenAI's weights and a right port give, and where they are from."""

import dataclasses

SKIMAGE, GIVEN = "scikit-image", "--pictures"


@dataclasses.dataclass(frozen=True)
class Picture:
    """Numbers of one picture and some texts.

    Attributes:
      file: its name.
      place: where it comes from: `SKIMAGE`, or `GIVEN` for a folder that the user names.
      texts: as they were.
      kind: of the numbers: "cosines", "probabilities" (a softmax over the texts) or "logits".
      values: one for each text.
      atol, rtol: how far ours may be from them: `atol + rtol * |value|`.
      source: who published them.
      sha256: of the file; "" where that is not known.
      address: of the file.
      rgb_first: whether it becomes RGB before it is scaled, and not after.
    """

    file: str
    place: str
    texts: tuple[str, ...]
    kind: str
    values: tuple[float, ...]
    atol: float
    rtol: float = 0.0
    source: str = ""
    sha256: str = ""
    address: str = ""
    rgb_first: bool = True


_NOTEBOOK = "OpenAI's notebook"
_NOTEBOOK_TEXTS = tuple(
    f"This is {text}"
    for text in (
        "a page of text about segmentation",
        "a portrait of an astronaut with the American flag",
        "a rocket standing on a launchpad",
        "a facial photo of a tabby cat",
        "a black-and-white silhouette of a horse",
        "a cup of coffee on a saucer",
        "a person looking at a camera on a tripod",
        "a red motorcycle standing in a garage",
    )
)
_CLIP_PNG = "308a3ca4503f1c7a07803916c369d78c4ef501e5ab7fc727da9b5e1d2f9ec85b"
_CLIP_PNG_ADDRESS = "https://github.com/openai/CLIP/raw/main/CLIP.png"


def _cosines(file: str, *values: float) -> Picture:
    # two decimals, computed in float16
    return Picture(file, SKIMAGE, _NOTEBOOK_TEXTS, "cosines", values, 0.01, source=_NOTEBOOK)


def _of_clip_png(texts: tuple[str, ...], values: tuple[float, ...], source: str) -> Picture:
    # the tolerance is that of OpenAI's own test
    return Picture(
        "CLIP.png", GIVEN, texts, "probabilities", values, 0.01, 0.1, source, _CLIP_PNG,
        _CLIP_PNG_ADDRESS, rgb_first=False,
    )  # fmt: skip


# architecture -> pictures
PUBLISHED = {
    "ViT-B/32": (
        _cosines("astronaut.png", 0.15, 0.28, 0.19, 0.12, 0.11, 0.15, 0.19, 0.15),
        _cosines("rocket.jpg", 0.16, 0.22, 0.30, 0.12, 0.15, 0.12, 0.21, 0.16),
        _cosines("chelsea.png", 0.20, 0.17, 0.18, 0.31, 0.15, 0.18, 0.21, 0.15),
        _cosines("horse.png", 0.20, 0.16, 0.17, 0.15, 0.35, 0.15, 0.20, 0.16),
        _cosines("coffee.png", 0.20, 0.15, 0.14, 0.17, 0.15, 0.29, 0.14, 0.13),
        _of_clip_png(
            ("a diagram", "a dog", "a cat"),
            (0.9927937, 0.00421068, 0.00299572),
            "OpenAI's README",
        ),
        Picture(
            "000000039769.jpg",
            GIVEN,
            ("a photo of a cat", "a photo of a dog"),
            "logits",
            (24.5701, 19.3049),
            1e-3,
            source="transformers' test",
            address="http://images.cocodataset.org/val2017/000000039769.jpg",
        ),
    ),
    "RN50": (
        _of_clip_png(
            ("a diagram", "a dog", "a cat", "a neural network"),
            (0.24351287, 0.00320374, 0.00082513, 0.7524583),
            "a TensorFlow port's README",
        ),
    ),
}
TOKENS = ("Hello World!", (49406, 3306, 1002, 256, 49407))
