"""Named axes that split a batch and a codebook over devices, and the operations across them.

Without an axis every function is the plain one, the reference. With one, each device calls it on
its share.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Num

# a logit of padding: finite, so that no gradient becomes 0 · inf
_NEVER = -1e30


@dataclasses.dataclass(frozen=True)
class Axes:
    """How a step is split over devices.

    Videos are split over `data`. Over `codebook` the classes are split, and with them everything
    that has a class axis, and the frames of every video while they are encoded. Classes are split
    further over `data` while they are encoded.

    Attributes:
      data: axis of the videos; None where one device has them all.
      codebook: axis of the classes; None where every device holds all codes.
      classes: K, the number of classes over all devices; needed with either axis.
    """

    data: str | None = None
    codebook: str | None = None
    classes: int = 0

    @property
    def names(self) -> tuple[str, ...]:
        """The axes that are set."""
        return tuple(name for name in (self.data, self.codebook) if name is not None)

    @property
    def shards(self) -> int:
        """How many parts the codebook is in."""
        return 1 if self.codebook is None else jax.lax.axis_size(self.codebook)

    def varying(self, tree: Any, *names: str | None) -> Any:
        """The same arrays, which may now differ along these axes by their type.

        With `check_vma` JAX sums the gradient of what does not vary over the devices by itself; of
        what varies each device gets its own share. Without, this does nothing.
        """
        names = tuple(name for name in names if name is not None)
        return jax.lax.pcast(tree, names, to="varying") if names else tree

    def ids(self, rows: int) -> Int[Array, " r"]:
        """The classes of this device's `rows` codes; ids of `K` and above are padding."""
        first = 0 if self.codebook is None else jax.lax.axis_index(self.codebook) * rows
        return first + jnp.arange(rows)

    def real(self, rows: int) -> Bool[Array, " r"]:
        """Which of this device's codes are classes, not padding."""
        return self.ids(rows) < self.classes

    def gather_classes(
        self, encoded: Float[Array, "c d"], to: str = "varying"
    ) -> Float[Array, "r d"]:
        """This device's codes, from the rows that it and its neighbours on `data` encoded.

        `to` is as for `jax.lax.all_gather`: gradients are summed where they are scattered for
        "varying"; a result that is the same on all devices by its type is "invarying".
        """
        if self.data is None:
            return encoded
        rows = -(-self.classes // self.shards)
        return jax.lax.all_gather(encoded, self.data, axis=0, tiled=True, to=to)[:rows]

    def gather_frames(self, features: Float[Array, "b s d"]) -> Float[Array, "b t d"]:
        """Features of all frames, from those that this device encoded."""
        return (
            features
            if self.codebook is None
            else jax.lax.all_gather(features, self.codebook, axis=1, tiled=True)
        )

    def argmin(self, x: Float[Array, "... r"]) -> Int[Array, "..."]:
        """The class with the least value; the lowest class wins a tie."""
        if self.codebook is None:
            return x.argmin(axis=-1)
        x = jnp.where(self.real(x.shape[-1]), x, jnp.inf)
        return self.first(x.min(axis=-1), self.ids(x.shape[-1])[x.argmin(axis=-1)])

    def argmax(self, x: Float[Array, "... r"]) -> Int[Array, "..."]:
        """The class with the largest value; the lowest class wins a tie."""
        return x.argmax(axis=-1) if self.codebook is None else self.argmin(-x)

    def first(self, least: Float[Array, "*n"], classes: Int[Array, "*n"]) -> Int[Array, "*n"]:
        """The class of the least of all devices' values; the lowest class wins a tie."""
        if self.codebook is None:
            return classes
        # shards ascend, so the first least one has the lowest class
        least, classes = jax.lax.all_gather((least, classes), self.codebook, to="invarying")
        return jnp.take_along_axis(classes, least.argmin(axis=0)[None], axis=0)[0]

    def places(self, classes: Int[Array, "*n"], rows: int) -> Int[Array, "*n"]:
        """Places of classes among this device's codes; `rows` for those of other devices."""
        if self.codebook is None:
            return classes
        places = classes - self.ids(rows)[0]
        return jnp.where((places >= 0) & (places < rows), places, rows)

    def total(self, x: Num[Array, "..."]) -> Num[Array, "..."]:
        """The sum of the codebook shards' arrays."""
        return x if self.codebook is None else jax.lax.psum(x, self.codebook)

    def log_softmax(self, x: Float[Array, "... r"]) -> Float[Array, "... r"]:
        """Log-softmax over all classes, for this device's share of them."""
        if self.codebook is None:
            return jax.nn.log_softmax(x, axis=-1)
        x = jnp.where(self.real(x.shape[-1]), x, _NEVER)
        # subtracting the largest keeps exp in range; it cancels, so no gradient need pass
        x = x - jax.lax.pmax(jax.lax.stop_gradient(x.max(axis=-1, keepdims=True)), self.codebook)
        return x - jnp.log(jax.lax.psum(jnp.exp(x).sum(axis=-1, keepdims=True), self.codebook))

    def pick(self, x: Float[Array, "... r"], classes: Int[Array, "..."]) -> Float[Array, "..."]:
        """The values of these classes, on whichever device they are."""
        if self.codebook is None:
            return jnp.take_along_axis(x, classes[..., None], axis=-1)[..., 0]
        mine = self.ids(x.shape[-1]) == classes[..., None]
        return jax.lax.psum(jnp.where(mine, x, 0.0).sum(axis=-1), self.codebook)

    def most(self, x: Num[Array, "... r"]) -> Num[Array, "..."]:
        """The largest value over all classes, without gradient; padding must hold small values."""
        x = jax.lax.stop_gradient(x).max(axis=-1)
        return x if self.codebook is None else jax.lax.pmax(x, self.codebook)

    def rows(
        self, codebook: Float[Array, "r d"], classes: Int[Array, "*n"]
    ) -> Float[Array, "*n d"]:
        """The codes of these classes, from whichever device; gradients reach the codebook."""
        if self.codebook is None:
            return codebook[classes]
        places = self.places(classes, codebook.shape[0])
        return self.total(codebook.at[places].get(mode="fill", fill_value=0))

    def columns(
        self, x: Float[Array, "b t r"], classes: Int[Array, "b n"]
    ) -> Float[Array, "b t n"]:
        """The values of all frames of a video for N classes, on whichever device they are."""
        places = self.places(classes, x.shape[-1])[:, None]
        return self.total(jnp.take_along_axis(x, places, axis=2, mode="fill", fill_value=0))

    def best_rows(
        self, votes: Float[Array, "b r"], codebook: Float[Array, "r d"], count: int
    ) -> Float[Array, "b n d"]:
        """Codes of the `count` classes with the most votes; the lowest class wins a tie."""
        rows = votes.shape[-1]
        found, best = jax.lax.top_k(votes, min(count, rows))
        if self.codebook is None:
            return codebook[best]
        # padding comes last: it has the highest ids and no votes
        found = jax.lax.all_gather(found, self.codebook, axis=1, tiled=True)
        codes = jax.lax.all_gather(codebook[best], self.codebook, axis=1, tiled=True)
        _, best = jax.lax.top_k(found, min(count, self.classes))
        return jnp.take_along_axis(codes, best[..., None], axis=1)


WHOLE = Axes()


def cross_entropy(
    logits: Float[Array, "b r"], labels: Int[Array, " b"], axes: Axes = WHOLE
) -> Float[Array, " b"]:
    """Cross-entropy per video (paper section 3.5); logits stay on their devices."""
    return -axes.pick(axes.log_softmax(logits), labels)
