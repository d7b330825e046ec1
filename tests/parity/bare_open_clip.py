"""open_clip and timm without torchvision, whose builds do not import beside every PyTorch.

They import it for image transforms and data sets, of which no tower is made.
"""

import importlib
import importlib.abc
import importlib.machinery
import sys
from types import ModuleType

from transformers.utils import is_torchvision_available


class _Anything(type):
    """A class with every attribute."""

    def __getattr__(cls, name: str):
        if name.startswith("__"):
            raise AttributeError(name)
        return f"{cls.__name__}.{name}"


class _Module(ModuleType):
    """A module with every name, each an empty class."""

    __path__ = ()

    def __getattr__(self, name: str):
        if name.startswith("__"):
            raise AttributeError(name)
        return _Anything(name, (), {})


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds such a module for torchvision and everything in it."""

    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "torchvision":
            return importlib.machinery.ModuleSpec(name, self, is_package=True)
        return None

    def create_module(self, spec):
        return _Module(spec.name)

    def exec_module(self, module):
        pass


def load() -> ModuleType:
    """The package `open_clip`; torchvision is as absent afterwards as before."""
    # transformers, which open_clip imports, remembers what it finds
    is_torchvision_available()
    finder = _Finder()
    sys.meta_path.insert(0, finder)
    try:
        return importlib.import_module("open_clip")
    finally:
        sys.meta_path.remove(finder)
        for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
            del sys.modules[name]
