"""Source in, module out; and every file written whole or not at all.

The source that is run is the source the compiler emits: a saved folder is compiled again from its specification
and must give the very text that lies in it, so loading a folder runs nothing a stranger wrote.
"""

from __future__ import annotations

import ast
import hashlib
import linecache
import math
import os
import re
import tempfile
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn

from ..compiler.errors import ConvergenceError, DeclarationError, SchemeError


def module_class(source: str) -> type[nn.Module]:
    """The network class that emitted source defines. Tracebacks through it show the emitted line."""
    name = f"pdeloom_net_{hashlib.sha256(source.encode()).hexdigest()[:12]}"
    filename = f"<{name}.py>"
    linecache.cache[filename] = (len(source), None, source.splitlines(keepends=True), filename)
    module = ModuleType(name)
    module.__file__ = filename
    exec(compile(ast.parse(source, filename), filename, "exec"), module.__dict__)  # our own emitted text
    if hasattr(module, "ConvergenceError"):  # a user of pdeloom catches ours
        module.__dict__["ConvergenceError"] = ConvergenceError
    found: type[nn.Module] = getattr(module, module.__all__[0])
    return found


def build(source: str, dtype: Any = None, device: Any = None) -> nn.Module:
    """A fresh module with the initial weights."""
    dtype = torch.float32 if dtype is None else dtype
    if not isinstance(dtype, torch.dtype) or not dtype.is_floating_point:
        raise DeclarationError(f"module(dtype={dtype!r}): give a floating point torch dtype, such as torch.float64")
    if dtype == torch.float16:
        raise DeclarationError(
            "module(dtype=torch.float16): its range is too small; use torch.bfloat16 or torch.float32"
        )
    try:
        return module_class(source)(dtype=dtype, device=device)
    except ValueError as error:
        raise SchemeError(f"module(dtype={dtype}): {error}") from None


def alike(a: Any, b: Any) -> bool:
    """Are two records the same, or two texts, but for numbers that another processor rounds differently?"""
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(alike(a[key], b[key]) for key in a)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(alike(x, y) for x, y in zip(a, b, strict=True))
    if isinstance(a, str) and isinstance(b, str):
        (words, numbers), (others, more) = _numbers(a), _numbers(b)
        return words == others and all(map(_close, numbers, more))
    if isinstance(a, float) and isinstance(b, float):
        return _close(a, b)
    return bool(a == b)


def _numbers(text: str) -> tuple[list[str], list[float]]:
    """A text between its decimal numbers, and these."""
    parts = re.split(r"(?<![\w.])(\d+\.\d+(?:e[+-]?\d+)?)", text)
    return parts[::2], [float(number) for number in parts[1::2]]


def _close(a: float, b: float) -> bool:
    return math.isclose(a, b, rel_tol=1e-5, abs_tol=1e-12)


def write_atomic(path: Path, content: bytes | str) -> None:
    """Write a file so that a reader, or a crash, sees the old content or the new, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    raw = content.encode("utf-8") if isinstance(content, str) else content
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(raw)
            file.flush()
            os.fsync(file.fileno())
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(temporary, 0o666 & ~umask)  # as if it had been opened the usual way
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
