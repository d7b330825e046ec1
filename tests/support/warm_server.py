"""Forks a process for every command that `warm` asks for, with third-party libraries imported
already.

A process of its own that holds no JAX backend and nothing of ours: what a command imports from
`vtd_jax` and
`experiments` it imports itself, from the file system, and it reads its own arguments and
environment.
"""

import gc
import importlib
import json
import os
import resource
import runpy
import select
import signal
import socket
import sys

import jax

LIBRARIES = (
    "absl.app", "absl.logging", "array_record.python.array_record_module", "av", "cv2", "flax.nnx",
    "ftfy", "jax.numpy", "grain.python", "jax.experimental.multihost_utils", "jaxtyping",
    "ml_collections.config_flags", "optax", "regex", "orbax.checkpoint", "PIL.Image",
    "rich.progress", "safetensors.numpy", "scipy.stats", "simplejpeg", "tensorboardX",
    "tensorflow_datasets", "tensorstore", "tokenizers",
)  # fmt: skip


def next_command(listener: socket.socket) -> dict:
    """Returns in a new process, once for every command; ends when the pipe at the standard input is
    closed.
    """
    while True:
        ready, _, _ = select.select([listener, sys.stdin], [], [])
        if sys.stdin in ready:
            os._exit(0)
        connection, _ = listener.accept()
        if os.fork() == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            asked = json.loads(connection.makefile().readline())
            process = os.fork()
            if process == 0:
                connection.close()
                listener.close()
                return asked
            # the keeper of this command sends its number, its end, its CPU time and the memory that
            # it took
            connection.sendall(f"{process}\n".encode())
            _, status, usage = os.wait4(process, 0)
            spent = round(1000 * (usage.ru_utime + usage.ru_stime))
            taken = 1024 * usage.ru_maxrss - _resident()
            connection.sendall(f"{os.waitstatus_to_exitcode(status)}\n{spent}\n{taken}\n".encode())
            os._exit(0)
        connection.close()


def _resident() -> int:
    """Bytes of memory that this process has, and every fork from the start."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


def _check_settings(environment: dict[str, str]) -> None:
    """JAX read its own variables when it was imported; one that is another now would be lost."""
    names = {name for name in {*os.environ, *environment} if hasattr(jax.config, name.lower())}
    lost = sorted(name for name in names if os.environ.get(name) != environment.get(name))
    if lost:
        sys.exit(f"a command that is started warm cannot be given {lost}; start it with subprocess")


def become(asked: dict) -> None:
    """Takes over what a new process would be given: files, folder, environment, search path,
    arguments.
    """
    for number, (path, flags) in enumerate(
        ((os.devnull, os.O_RDONLY), (asked["stdout"], os.O_WRONLY), (asked["stderr"], os.O_WRONLY))
    ):
        opened = os.open(path, flags | os.O_APPEND * (number > 0))
        os.dup2(opened, number)
        os.close(opened)
    os.chdir(asked["cwd"])
    _check_settings(asked["env"])
    os.environ.clear()
    os.environ.update(asked["env"])
    first = os.path.dirname(asked["what"]) if asked["kind"] == "file" else asked["cwd"]
    sys.path[:] = [first, *filter(None, os.environ.get("PYTHONPATH", "").split(":")), *sys.path[1:]]
    sys.argv[:] = [asked["what"], *asked["arguments"]]


if __name__ == "__main__":
    asked_at = socket.socket(socket.AF_UNIX)
    asked_at.bind(sys.argv[1])
    for name in LIBRARIES:
        importlib.import_module(name)
    # keepers are not waited for
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    gc.freeze()
    asked_at.listen(16)
    print("ready", flush=True)
    command = next_command(asked_at)
    become(command)
    if command["kind"] == "module":
        runpy.run_module(command["what"], run_name="__main__", alter_sys=True)
    elif command["kind"] == "file":
        runpy.run_path(command["what"], run_name="__main__")
    else:
        sys.argv[0] = "-c"
        exec(compile(command["what"], "<string>", "exec"), {"__name__": "__main__"})
