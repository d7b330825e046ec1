"""A machine on which only some packages and what they need are installed, made out of this one."""

from importlib.metadata import packages_distributions, requires

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

# code for a `sitecustomize.py`, behind a line `ALLOWED = {...}`
BLOCKER = '''
import sys
from importlib.machinery import BuiltinImporter, FrozenImporter, PathFinder

OURS = {"vtd_jax", "experiments"}


class Bare:
    """Finds what is installed here, but no more than a bare machine has."""

    @staticmethod
    def find_spec(name, path=None, target=None):
        first = name.split(".")[0]
        known = first in ALLOWED | OURS | sys.stdlib_module_names\
 or first.startswith("_sysconfigdata")
        return PathFinder.find_spec(name, path, target) if known else None


sys.meta_path[:] = [BuiltinImporter, FrozenImporter, Bare]
'''


def modules_of(*names: str) -> set[str]:
    """Top-level modules of these distributions and of everything that they need."""
    needed, found = [canonicalize_name(name) for name in names], set()
    while needed:
        name = needed.pop()
        if name in found:
            continue
        found.add(name)
        for text in requires(name) or ():
            requirement = Requirement(text)
            extras = requirement.extras or {""}
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                needed.append(canonicalize_name(requirement.name))
                needed += [
                    canonicalize_name(more.name)
                    for more in map(Requirement, requires(requirement.name) or ())
                    if more.marker is not None
                    and any(more.marker.evaluate({"extra": extra}) for extra in extras)
                ]
    return {
        module
        for module, distributions in packages_distributions().items()
        if any(canonicalize_name(distribution) in found for distribution in distributions)
    }
