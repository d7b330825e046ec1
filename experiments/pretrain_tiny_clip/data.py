"""What the small CLIP learns from: captions of every combination, and a pool of rendered stills."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Int32

from vtd_jax.clip.tokenizer import tokenize
from vtd_jax.scenes.render import class_names, render_empty, render_noise, render_still

TEMPLATES = (
    "{}",
    "{}.",
    "a {}",
    "a photo of a {}.",
    "a video of a {}.",
    "a picture of a {}.",
    "a frame that shows a {}.",
    "there is a {} in the scene.",
    "a clip of one {} that moves.",
    "this is the {}.",
)
EMPTY = (
    "an empty scene.",
    "nothing.",
    "background",
    "a photo of nothing.",
    "there is no object.",
    "a blank video.",
)
NOISE = (
    "noise.",
    "static",
    "a photo of noise.",
    "a broken picture.",
    "random pixels.",
    "a frame of static noise.",
)
MOST_FILLERS = 16  # random words before a name, as many as the release has prompts
FILLERS = 1024  # token rows that stay random to serve as such words


@dataclass(frozen=True)
class PretrainOptions:
    """The recipe.

    Attributes:
      steps: optimizer updates.
      batch_size: images an update.
      fresh: images rendered an update; the others are drawn again from the pool.
      pool: images kept.
      lr: peak learning rate; linear warm-up over a twentieth of the steps, then cosine to zero.
      weight_decay: AdamW's, on matrices only.
      background: share of images without an object, half of them empty scenes and half noise.
      seed: of the weights, the scenes and the order.
    """

    steps: int = 3000
    batch_size: int = 96
    fresh: int = 64
    pool: int = 16384
    lr: float = 2e-3
    weight_decay: float = 0.02
    background: float = 0.11
    seed: int = 0


class Captions:
    """Captions of every class name, of empty scenes and of noise.

    Three of four draws are templates; the fourth has 1 to 16 random words before each name, which
    is what prompts look like before they are learned.

    Attributes:
      kept: ids of the token rows that captions touch, ascending: token i of a draw is row `kept[i]`
        of the full table.
      trained: False for the rows that stay random.
    """

    def __init__(self, options: PretrainOptions, vocab_size: int):
        self.rng = np.random.default_rng([options.seed, 2])
        subjects = [[template.format(name) for template in TEMPLATES] for name in class_names()] + [
            EMPTY,
            NOISE,
        ]
        variants = max(map(len, subjects))
        texts = [texts[v % len(texts)] for texts in subjects for v in range(variants)]
        tokens = tokenize(texts)
        tokens = tokens[:, : int(tokens.argmax(1).max()) + 1]
        bare = tokenize([f"{texts[0].rstrip('.')}." for texts in subjects])
        used = np.union1d(tokens, bare)
        free = np.setdiff1d(np.arange(vocab_size), used)
        fillers = self.rng.choice(free, FILLERS, replace=False)
        self.kept = np.union1d(used, fillers)
        self.trained = np.isin(self.kept, used)
        small = np.searchsorted(self.kept, tokens).astype(np.int32)
        self.templates = small.reshape(len(subjects), variants, -1)
        self.bare = np.searchsorted(self.kept, bare).astype(np.int32)
        self.fillers = np.searchsorted(self.kept, fillers).astype(np.int32)

    def draw(self) -> Int32[np.ndarray, "subjects length"]:
        """One caption of each subject."""
        rng, everyone = self.rng, np.arange(len(self.bare))
        if rng.random() < 0.75:
            return self.templates[everyone, rng.integers(0, self.templates.shape[1], len(everyone))]
        longest = int(self.bare.argmax(1).max())
        tokens = np.zeros((len(self.bare), 1 + MOST_FILLERS + longest), np.int32)
        for row, bare, count in zip(
            tokens, self.bare, rng.integers(1, MOST_FILLERS + 1, len(self.bare))
        ):
            row[: 1 + count] = [bare[0], *rng.choice(self.fillers, count)]
            row[1 + count : 1 + count + longest] = bare[1 : 1 + longest]
        return tokens


class StillPool:
    """Stills and their subjects; every batch replaces the oldest ones by new ones."""

    def __init__(self, options: PretrainOptions, size: int):
        self.options, self.size = options, size
        self.names = class_names()
        self.rng = np.random.default_rng([options.seed, 3])
        self.images = np.empty((options.pool, size, size, 3), np.uint8)
        self.subjects = np.empty(options.pool, np.int32)
        self.next = 0
        self.render(options.pool)

    def render(self, count: int) -> None:
        """Renders `count` images over the oldest ones."""
        rng = self.rng
        for _ in range(count):
            subject = int(rng.integers(len(self.names)))
            # Half of the images are cut out of larger ones: closer, and not always whole, as in a
            # cropped video.
            wide = self.size * 9 // 8 if rng.random() < 0.5 else self.size
            if rng.random() < self.options.background:
                subject = len(self.names) + int(rng.integers(2))
                image = (render_empty, render_noise)[subject - len(self.names)](rng, wide)
            else:
                image = render_still(self.names[subject], rng, wide)
            y, x = rng.integers(0, wide - self.size + 1, 2)
            self.images[self.next] = image[y : y + self.size, x : x + self.size]
            self.subjects[self.next] = subject
            self.next = (self.next + 1) % len(self.images)

    def batch(self) -> tuple[np.ndarray, np.ndarray]:
        """uint8 images, mirrored and lit at random, and their subjects, as distinct as possible."""
        self.render(self.options.fresh)
        rows = self.rng.choice(len(self.images), self.options.batch_size, replace=False)
        images = self.images[rows].astype(np.float32)
        mirrored = self.rng.random(len(rows)) < 0.5
        images[mirrored] = images[mirrored, :, ::-1]
        images *= self.rng.uniform(0.8, 1.2, (len(rows), 1, 1, 1)) * self.rng.uniform(
            0.94, 1.06, (len(rows), 1, 1, 3)
        )
        return np.clip(images, 0, 255).astype(np.uint8), self.subjects[rows]
