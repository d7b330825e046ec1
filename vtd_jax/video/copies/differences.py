"""How two copies of data differ, in words."""

from vtd_jax.terminal import counted
from vtd_jax.video.copies.data_copy import DataCopy


def differences(one: DataCopy, two: DataCopy) -> list[str]:
    """What makes two copies of a list's data other copies; empty if nothing does.

    Stored JPEGs are not compared: built from the same files with other versions of libraries, they
    may differ in their last bits (`notes` says so).
    """
    found = []
    if one.videos != two.videos:
        found.append(f"{one.videos} and {counted(two.videos, 'video')}")
    if one.list_digest != two.list_digest:
        found.append("other names or classes in the list")
    if one.frames != two.frames:
        found.append(f"{one.frames} and {counted(two.frames, 'frame')}")
    frames = _frames(one, two)
    if one.files_digest != two.files_digest:
        alike = "" if frames or not _comparable(one, two) else ", the sampled frames are the same"
        found.append(f"other files (SHA-256){alike}")
    if frames and not (one.storage.startswith("JPEG") and found == []):
        found.append(frames)
    return found


def sampled_differences(one: DataCopy, two: DataCopy) -> list[str]:
    """The same of copies of which only the videos that both have are compared."""
    if one.list_digest == two.list_digest:
        # these are all videos of both
        return differences(one, two)
    frames = _frames(one, two)
    return [frames] if frames else []


def sampled_in_common(one: DataCopy, two: DataCopy) -> list[str]:
    """The sampled videos that two copies have both, if they are stored in one way."""
    names = {name for name, _ in two.sample} if _comparable(one, two) else set()
    return [name for name, _ in one.sample if name in names]


def notes(one: DataCopy, two: DataCopy) -> list[str]:
    """What differs between two forms of one copy, and changes the pixels that a model sees."""
    if one.storage != two.storage:
        return [f"stored as {one.storage} and as {two.storage}"]
    if (frames := _frames(one, two)) and not differences(one, two):
        return [f"{frames}: JPEGs of the same files by other versions of libraries"]
    return []


def _comparable(one: DataCopy, two: DataCopy) -> bool:
    return one.storage == two.storage and bool(one.sample)


def _frames(one: DataCopy, two: DataCopy) -> str:
    """Which sampled videos, of those that both copies have, decode to other frames."""
    if not _comparable(one, two):
        return ""
    there, both = set(two.sample), sampled_in_common(one, two)
    other = [name for name, digest in one.sample if name in both and (name, digest) not in there]
    if not other:
        return ""
    return f"other frames in {len(other)} of {counted(len(both), 'sampled video')} ({other[0]})"
