"""OpenAI's nine CLIPs: their files, hashes and sizes."""

from typing import NamedTuple


class Published(NamedTuple):
    """A file that OpenAI published.

    Attributes:
      file: its name.
      sha256: of its bytes; part of its address, too.
      parameters: that the model has.
      top1: on ImageNet, zero-shot, in percent, as open_clip's table of results has it.
      text_width: of its text tower.
    """

    file: str
    sha256: str
    parameters: int
    top1: float
    text_width: int

    @property
    def about_bytes(self) -> int:
        """The size of the file within 1 %: float16, and the token embedding as float32."""
        return 2 * (self.parameters + 49408 * self.text_width)


# hashes: clip/clip.py of github.com/openai/CLIP
OPENAI = {
    "RN50": Published(
        "RN50.pt",
        "afeb0e10f9e5a86da6080e35cf09123aca3b358a0c3e3b6c78a7b63bc04b6762",
        102_007_137,
        59.82,
        512,
    ),
    "RN101": Published(
        "RN101.pt",
        "8fa8567bab74a42d41c5915025a8e4538c3bdbe8804a470a72f30b0d94fab599",
        119_688_033,
        62.28,
        512,
    ),
    "RN50x4": Published(
        "RN50x4.pt",
        "7e526bd135e493cef0776de27d5f42653e6b4c8bf9e0f653bb11773263205fdd",
        178_300_601,
        66.27,
        640,
    ),
    "RN50x16": Published(
        "RN50x16.pt",
        "52378b407f34354e150460fe41077663dd5b39c54cd0bfd2b27167a4a06ec9aa",
        290_979_217,
        70.72,
        768,
    ),
    "RN50x64": Published(
        "RN50x64.pt",
        "be1cfb55d75a9666199fb2206c106743da0f6468c9d327f3e0d0a543a9919d9c",
        623_258_305,
        73.91,
        1024,
    ),
    "ViT-B/32": Published(
        "ViT-B-32.pt",
        "40d365715913c9da98579312b702a82c18be219cc2a73407c4526f58eba950af",
        151_277_313,
        63.32,
        512,
    ),
    "ViT-B/16": Published(
        "ViT-B-16.pt",
        "5806e77cd80f8b59890b7e101eabd078d9fb84e6937f9e85e4ecb61988df416f",
        149_620_737,
        68.34,
        512,
    ),
    "ViT-L/14": Published(
        "ViT-L-14.pt",
        "b8cca3fd41ae0c99ba7e8951adf17d267cdb84cd88be6f7c2e0eca1737a03836",
        427_616_513,
        75.54,
        768,
    ),
    "ViT-L/14@336px": Published(
        "ViT-L-14-336px.pt",
        "3035c92b350959924f9f00213499208652fc7ea050643e8b385c2dac08641f02",
        427_944_193,
        76.56,
        768,
    ),
}


def by_hash(sha256: str) -> str | None:
    """The name of the model whose file has this hash; None for another file."""
    return next((name for name, one in OPENAI.items() if one.sha256 == sha256), None)
