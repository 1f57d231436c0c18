"""`torch.export` archives that carry their certificate as data.

The certificate is an extra file of the archive, with a digest of the raw weights beside it in the zip file. Reading it
opens the zip file alone: no tensor is built and no pickle is run, as `torch.export.load` may do.
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..compiler.errors import CheckpointError
from .load import write_atomic
from .net import plain

_NAME = "certificate.json"


def export(module: nn.Module, arguments: tuple[Any, ...], path: str | Path, **options: Any) -> Path:
    """Write `torch.export.export(module, arguments, **options)` with the module's certificate inside.

    Raises `CheckpointError` if the module has no certificate.
    """
    if not hasattr(module, "certificate"):
        raise CheckpointError(f"export({type(module).__name__}): not a module that pdeloom compiled")
    program = torch.export.export(module, arguments, **options)
    digest = _weights(_saved(program, {}))
    record = {"certificate": plain(module.certificate()), "weights": digest}  # type: ignore[operator]
    write_atomic(Path(path), _saved(program, {_NAME: json.dumps(record, ensure_ascii=False)}))
    return Path(path)


def exported_certificate(path: str | Path) -> dict[str, Any]:
    """The certificate in an exported archive.

    Raises `CheckpointError` if there is none, or if a weight was changed since: then the certificate is stale.
    """
    try:
        raw = Path(path).read_bytes()
        with zipfile.ZipFile(io.BytesIO(raw)) as archive:
            (name,) = [n for n in archive.namelist() if n.endswith(f"/extra/{_NAME}")]
            record = json.loads(archive.read(name))
        certificate, expected = dict(record["certificate"]), record["weights"]
    except (OSError, zipfile.BadZipFile, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path} holds no certificate ({error!r}); write it with pdeloom.export") from None
    if _weights(raw) != expected:
        raise CheckpointError(
            f"{path}: the weights were changed after the export, its certificate is stale; export again"
        )
    return certificate


def _saved(program: torch.export.ExportedProgram, extra: dict[str, Any]) -> bytes:
    buffer = io.BytesIO()
    torch.export.save(program, buffer, extra_files=extra)
    return buffer.getvalue()


def _weights(raw: bytes) -> str:
    """A digest of all weights and constants."""
    digest = hashlib.sha256()
    with zipfile.ZipFile(io.BytesIO(raw)) as archive:
        for name in sorted(archive.namelist()):
            where = name.split("/", 1)[1]
            if where.startswith(("data/weights/", "data/constants/")):
                digest.update(where.encode() + archive.read(name))
    return digest.hexdigest()
