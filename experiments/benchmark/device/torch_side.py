"""The programs of `--what=device` in PyTorch."""

from collections.abc import Callable
from typing import Any

import torch

from experiments.benchmark import torch_side
from experiments.benchmark.tasks import GRADIENT, Setting


def program(
    setting: Setting, model: torch_side.TorchVTDCLIP, task: str, *, device: str
) -> Callable[[], Any]:
    """A task that runs once and waits; the first runs compile it if the device is a GPU.

    Args:
      setting: what is computed.
      model: see `torch_side.random_model`; moved to `device`.
      task: one of `choices.TASKS`.
      device: "cpu" or "cuda".
    """
    compiled = device == "cuda"
    if task != GRADIENT:
        (job,) = torch_side.jobs(
            setting, model, "", device=device, compiled=compiled, tasks=(task,)
        )
        return job.run
    model = model.to(device)
    frames = torch.from_numpy(setting.videos()["frames"]).to(device)
    weights = torch.from_numpy(setting.encoded()[0]).to(device)
    encode = torch.compile(model.encode_frames) if compiled else model.encode_frames

    def run() -> Any:
        model.visual_prompts.grad = None
        value = (encode(frames).float() * weights).sum()
        value.backward()
        if compiled:
            torch.cuda.synchronize()
        return value.detach(), model.visual_prompts.grad

    return run
