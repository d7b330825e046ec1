"""Labels videos with the model in this folder; needs jax, flatbuffers, numpy, av and opencv-python-headless only.

    python predict.py clip.mp4 another.avi      # the five best labels of every video; --json for one JSON object each

From Python:

    from predict import Served
    model = Served("labels.served")
    out = model(model.read_clip("clip.mp4")[None])    # {"scores" [1, K], …}, see about.json
"""

import argparse
import hashlib
import json
import sys
import zipfile
from pathlib import Path

import av
import cv2
import jax
import numpy as np
from jax import export


class Served:
    """The program and the weights of a folder; `labels` are its K labels, `frames` is T, `size` is R."""

    def __init__(self, folder: str | Path):
        folder = Path(folder)
        self.about = json.loads((folder / "about.json").read_text(encoding="utf-8"))
        self.labels, self.frames, self.size = (self.about[key] for key in ("labels", "frames", "size"))
        program = (folder / "program.jaxexport").read_bytes()
        if hashlib.sha256(program).hexdigest() != self.about["program_sha256"]:
            raise ValueError("program.jaxexport is damaged, copy it again")
        self._call = jax.jit(export.deserialize(bytearray(program)).call)
        try:
            with (folder / "weights.npz").open("rb") as file, np.load(file) as weights:
                self._weights = jax.device_put(dict(weights))
        except (zipfile.BadZipFile, EOFError, ValueError):
            raise ValueError("weights.npz is damaged, copy it again") from None

    def read_clip(self, path: str | Path) -> np.ndarray:
        """Frames of a video as this model sees them, uint8 RGB `[T, R, R, 3]`."""
        return read_clip(path, self.frames, self.size, squash=self.about["preprocessing"].get("squash", False))

    def __call__(self, frames: np.ndarray) -> dict[str, np.ndarray]:
        """Frames of b videos, uint8 RGB `[b, T, R, R, 3]`, to `scores [b, K]` and more; compiles once for every b."""
        expected = (self.frames, self.size, self.size, 3)
        if frames.dtype != np.uint8 or frames.shape[1:] != expected or not len(frames):
            raise ValueError(f"frames {frames.shape} of {frames.dtype}, expected uint8 (videos, {str(expected)[1:]}")
        return jax.device_get(self._call(self._weights, frames))


def read_clip(path: str | Path, frames: int, size: int, count: int = 0, squash: bool = False) -> np.ndarray:
    """The centre of each of T uniform segments, uint8 RGB `[T, R, R, 3]`, as the model saw videos in evaluation.

    `count` is how many frames decode; 0 believes the container, and reads the file again where that was wrong. `squash`
    scales frames to R × R as a whole, for a model whose `about.json` says so.
    """
    images, shape, decoded = {}, None, 0
    with av.open(str(path), metadata_errors="replace") as container:
        cover = av.stream.Disposition.attached_pic
        stream = next((s for s in container.streams.video if s.codec_context and not s.disposition & cover), None)
        if stream is None:
            raise ValueError("no video in it")
        count = count or stream.frames
        indices = [(2 * i + 1) * count // (2 * frames) for i in range(frames)]
        for packet in container.demux(stream):
            if packet.size == 0 and packet.dts is not None:
                continue  # AVI's "show the last frame again"; it would end the decoder
            try:
                pictures = packet.decode()
            except (av.error.InvalidDataError, EOFError):
                continue
            for frame in pictures:
                turns = frame.rotation // 90 if frame.rotation % 90 == 0 else 0
                shape = shape or ((frame.width, frame.height) if turns % 2 else (frame.height, frame.width))
                if decoded in indices:
                    images[decoded] = crop(np.rot90(frame.to_ndarray(format="rgb24"), turns), shape, size, squash)
                decoded += 1
    if not decoded:
        raise ValueError("no frame of it decodes")
    return (
        np.stack([images[i] for i in indices]) if decoded == count else read_clip(path, frames, size, decoded, squash)
    )


def crop(image: np.ndarray, shape: tuple[int, int], size: int, squash: bool) -> np.ndarray:
    """Short side to `size · 256 / 224`, bilinear, then the middle; `shape` is that of the video's first frame."""
    height, width = (int(side * round(size * (256 / 224)) / min(shape) + 0.5) for side in shape)
    height, width = (size, size) if squash else (height, width)
    for h, w in (shape, (height, width)):
        if image.shape[:2] != (h, w):
            image = cv2.resize(np.ascontiguousarray(image), (w, h), interpolation=cv2.INTER_LINEAR)
    y, x = (height - size) // 2, (width - size) // 2
    return image[y : y + size, x : x + size]


def main() -> int:
    """Prints the best labels of every video; 2 where one could not be read."""
    parser = argparse.ArgumentParser(description="Labels videos.")
    parser.add_argument("videos", nargs="+")
    parser.add_argument("--json", action="store_true", help="one JSON object a video")
    args, folder, status = parser.parse_args(), Path(__file__).parent, 0
    try:
        model = Served(folder)
    except (OSError, ValueError) as error:
        parser.exit(2, f"error: {folder}: {error}\n")
    for path in args.videos:
        try:
            out = model(model.read_clip(path)[None])
        except (OSError, ValueError, av.error.FFmpegError) as error:
            print(f"error: {path}: {getattr(error, 'strerror', None) or error}", file=sys.stderr)
            status = 2
            continue
        scores = out["scores"][0]
        best = [{"label": model.labels[k], "score": float(scores[k])} for k in np.argsort(-scores, kind="stable")[:5]]
        found = {"video": path, **best[0], "top": best, "words": [model.labels[k] for k in out["assignment"][0]]}
        lines = [path, *(f"  {100 * one['score']:5.1f} %  {one['label']}" for one in best)]
        print(json.dumps(found, ensure_ascii=False) if args.json else "\n".join(lines), flush=True)
    return status


if __name__ == "__main__":
    sys.exit(main())
