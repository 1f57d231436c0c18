"""Checkpoints: one safetensors file with weights and optimiser state, and its record as JSON in the header.

One file, written atomically, cannot disagree with itself. Reading it runs no code.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from ..compiler.errors import CheckpointError
from .load import alike, write_atomic


def write_checkpoint(
    path: Path,
    module: nn.Module,
    optimiser: torch.optim.Optimizer,
    record: dict[str, Any],
    average: AveragedModel | None = None,
) -> None:
    """Write weights, optimiser state and record. With an average, "weights" are the averages and "moving" the weights
    they are averages of."""
    chosen = module if average is None else average.module
    tensors = {f"weights/{k}": v.detach().cpu().contiguous() for k, v in chosen.state_dict().items()}
    if average is not None:
        tensors |= {f"moving/{k}": v.detach().cpu().contiguous() for k, v in module.state_dict().items()}
        tensors["averaged"] = average.n_averaged.detach().cpu()
    scalars: dict[str, Any] = {}
    for index, state in optimiser.state_dict()["state"].items():
        for key, value in state.items():
            if isinstance(value, Tensor):
                tensors[f"optimiser/{index}/{key}"] = value.detach().cpu().contiguous()
            else:
                scalars[f"{index}/{key}"] = value
    header = {"record": json.dumps({**record, "optimiser": scalars})}
    write_atomic(path, save(tensors, metadata=header))


def read_record(path: Path, *needs: str) -> dict[str, Any] | None:
    """The record of a checkpoint, which has the keys it `needs`; None where there is no checkpoint."""
    if not path.exists():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            record: dict[str, Any] = json.loads(file.metadata()["record"])
            if missing := set(needs) - set(record):
                raise ValueError(f"its record has no {min(missing)}")
            return record
    except (SafetensorError, KeyError, TypeError, ValueError, OSError) as error:
        raise CheckpointError(f"{path} is damaged ({error}); delete it to start the run again") from None


def read_checkpoint(
    path: Path,
    module: nn.Module,
    optimiser: torch.optim.Optimizer | None = None,
    average: AveragedModel | None = None,
) -> None:
    """Put weights and, if given, optimiser state and the average back; the record is read by `read_record`."""
    record = read_record(path) or {}
    with safe_open(path, framework="pt") as file:
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a dict)
    try:
        module.load_state_dict({k.removeprefix("weights/"): v for k, v in tensors.items() if k.startswith("weights/")})
    except RuntimeError as error:
        raise CheckpointError(f"{path} holds the weights of another network: {error}") from None
    found = json.loads(json.dumps(module.certificate())) if "certificate" in record else None  # type: ignore[operator]
    if found is not None and not alike(found, record["certificate"]):
        raise CheckpointError(f"{path}: its certificate does not hold for its weights, one of them was changed")
    if average is not None:
        average.module.load_state_dict(module.state_dict())
        average.n_averaged.copy_(tensors["averaged"])
        module.load_state_dict({k.removeprefix("moving/"): v for k, v in tensors.items() if k.startswith("moving/")})
    if optimiser is None:
        return
    state: dict[int, dict[str, Any]] = {}
    values = {k.removeprefix("optimiser/"): v for k, v in tensors.items() if k.startswith("optimiser/")}
    for key, value in {**values, **record["optimiser"]}.items():
        index, name = key.split("/", 1)
        state.setdefault(int(index), {})[name] = value
    optimiser.load_state_dict({"state": state, "param_groups": optimiser.state_dict()["param_groups"]})
