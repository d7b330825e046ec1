"""OpenAI's own modules from the PyPI package `clip-anytorch`, without its `__init__`, which needs
torchvision.
"""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType


def load(name: str) -> ModuleType:
    """`clip/NAME.py` of the installed package: "simple_tokenizer" or "model"."""
    for folder in sys.path:
        path = Path(folder) / "clip" / f"{name}.py"
        if path.is_file():
            spec = importlib.util.spec_from_file_location(f"openai_clip_{name}", path)
            module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
            return module
    raise ImportError("clip-anytorch is not installed: run `make parity`")
