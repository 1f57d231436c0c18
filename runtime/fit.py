"""Training: emitted module in, trained module out, with everything on disk that a resumed run needs.

    out/metrics.jsonl       one line per `save_every` steps
    out/last.safetensors    weights, optimiser state, step, settings, certificate
    out/best.safetensors    the same at the best validation PSNR

A run killed at any moment goes on from `last` and ends with the same bits as one that was not.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import math
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..compiler.errors import TrainingError, strict
from .checkpoint import read_checkpoint, read_record, write_checkpoint
from .data import Patches, load_images
from .load import write_atomic
from .metrics import psnr


@dataclass(frozen=True)
class Fitted:
    """The outcome of a run: the module with its last weights, and what was measured."""

    module: nn.Module
    steps: int
    best_psnr: float
    out: Path
    certificate: dict[str, Any]
    first: bool = True
    """Is this the process that writes?"""


@strict
def fit(
    module: nn.Module,
    data: Any = "skimage",
    steps: int = 1000,
    batch: int = 16,
    patch: int = 64,
    sigma: float = 25 / 255,
    rate: float = 0.05,
    seed: int = 0,
    out: str | Path = "out/train",
    save_every: int = 100,
    precision: str = "32-true",
    devices: int = 1,
    accelerator: str = "cpu",
    progress: bool = True,
) -> Fitted:
    """Train a denoiser: minimise the mean squared error on noisy patches by Adam with a cosine schedule.

    `data` is "skimage", a folder of images, or a list of arrays in [0, 1]; `sigma` the noise on that scale.
    A run in `out` with the same settings is resumed; other settings are a `TrainingError`. Precision and
    devices are those of Lightning Fabric.
    """
    settings = {"steps": steps, "batch": batch, "patch": patch, "sigma": sigma, "rate": rate, "seed": seed}
    for key, value in {**settings, "save_every": save_every, "devices": devices}.items():
        if isinstance(value, bool) or not isinstance(value, (int, float)) or value < (0 if key == "seed" else 1e-12):
            raise TrainingError(f"fit({key}={value!r}): must be a positive number")
    if not list(module.parameters()):
        raise TrainingError("the network has no weights; compile it with trainable=[…]")
    given = list(inspect.signature(module.forward).parameters.values())[1:]
    needs = [p.name for p in given if p.default is p.empty]
    if needs:
        raise TrainingError(
            f"the network reads the data fields {needs}; fit trains denoisers u ↦ u, call it in a loop of your own"
        )
    if hasattr(module, "pyramid"):
        raise TrainingError(
            "the network solves a steady problem, and u is but its first guess; fit trains denoisers u ↦ u, train it "
            "in a loop of your own"
        )
    from lightning_fabric import Fabric

    out = Path(out)
    try:
        fabric = Fabric(accelerator=accelerator, devices=devices, precision=precision)
    except (ValueError, RuntimeError, TypeError) as error:
        raise TrainingError(
            f"accelerator={accelerator!r}, devices={devices}, precision={precision!r}: {error}"
        ) from None
    fabric.launch()
    run = _Run(fabric, module, data, settings, out, save_every, precision)
    return run.train(progress and fabric.is_global_zero)


class _Run:
    def __init__(
        self,
        fabric: Any,
        module: nn.Module,
        data: Any,
        settings: dict[str, Any],
        out: Path,
        save_every: int,
        precision: str,
    ) -> None:
        self.fabric, self.module, self.settings, self.out, self.save_every = fabric, module, settings, out, save_every
        images = load_images(data)
        self.patches = Patches(images, settings["patch"], settings["batch"], settings["sigma"], settings["seed"])
        self.validation = Patches(images, settings["patch"], 32, settings["sigma"], settings["seed"] + 500_000).draw(0)
        self.optimiser = torch.optim.Adam(module.parameters(), lr=settings["rate"])
        self.identity = {
            **settings,
            "save_every": save_every,
            "precision": precision,
            "data": data if isinstance(data, (str, Path)) and not isinstance(data, Path) else _fingerprint(images),
            "network": _fingerprint(list(module.state_dict().values())) + type(module).__name__,
        }
        self.step, self.best = 0, -math.inf
        self._resume()
        self.wrapped, self.optimiser = fabric.setup(module, self.optimiser)

    def _resume(self) -> None:
        record = read_record(self.out / "last.safetensors")
        if record is None:
            if self.fabric.is_global_zero:
                write_atomic(self.out / "metrics.jsonl", "")
            return
        changed = [k for k, v in self.identity.items() if record["identity"].get(k) != v]
        if changed:
            raise TrainingError(
                f"{self.out} holds a run with {changed[0]} = {record['identity'].get(changed[0])!r}, not "
                f"{self.identity[changed[0]]!r}; choose another out, or delete the folder to start again"
            )
        read_checkpoint(self.out / "last.safetensors", self.module, self.optimiser)
        self.step, self.best = record["step"], record["best"]
        if self.fabric.is_global_zero:
            lines = (self.out / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
            kept = [line for line in lines if _complete(line) and json.loads(line)["step"] <= self.step]
            write_atomic(self.out / "metrics.jsonl", "".join(line + "\n" for line in kept))

    def train(self, progress: bool) -> Fitted:
        total, losses = self.settings["steps"], []
        with _bar(progress, total, self.step) as bar:
            while self.step < total:
                losses.append(self._one_step())
                self.step += 1
                if bar is not None:
                    bar(self.step, losses[-1])
                if self.step % self.save_every == 0 or self.step == total:
                    self._save(sum(losses) / len(losses))
                    losses = []
        certificate = self.module.certificate()  # type: ignore[operator]
        return Fitted(self.module, self.step, self.best, self.out, certificate, self.fabric.is_global_zero)

    def _one_step(self) -> float:
        world, rank = self.fabric.world_size, self.fabric.global_rank
        noisy, clean = (self.fabric.to_device(t[rank::world]) for t in self.patches.draw(self.step))
        for group in self.optimiser.param_groups:
            group["lr"] = self.settings["rate"] * _cosine(self.step, self.settings["steps"])
        dtype = next(self.module.parameters()).dtype
        loss = nn.functional.mse_loss(self.wrapped(noisy.to(dtype)).float(), clean)
        if not torch.isfinite(loss):
            raise TrainingError(f"the loss is {loss.item()} at step {self.step}; lower rate = {self.settings['rate']}")
        self.optimiser.zero_grad()
        self.fabric.backward(loss)
        self.optimiser.step()
        return float(loss.detach())

    def _save(self, loss: float) -> None:
        noisy, clean = (self.fabric.to_device(t) for t in self.validation)
        with torch.no_grad():
            dtype = next(self.module.parameters()).dtype
            value = psnr(self.module(noisy.to(dtype)).float().clamp(0, 1), clean)
        better = value > self.best
        self.best = max(self.best, value)
        if not self.fabric.is_global_zero:
            return
        certificate = self.module.certificate()  # type: ignore[operator]
        line = {"step": self.step, "loss": loss, "validation_psnr": value, "certificate": certificate["status"]}
        with (self.out / "metrics.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        record = {"step": self.step, "best": self.best, "identity": self.identity, "certificate": certificate}
        if better:
            write_checkpoint(self.out / "best.safetensors", self.module, self.optimiser, record)
        write_checkpoint(self.out / "last.safetensors", self.module, self.optimiser, record)


def _cosine(step: int, total: int) -> float:
    """One at the start, falling to 1 % along a half cosine."""
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * step / total))


def _complete(line: str) -> bool:
    try:
        return "step" in json.loads(line)
    except ValueError:
        return False


def _fingerprint(tensors: list[torch.Tensor]) -> str:
    digest = hashlib.sha256()
    for t in tensors:
        digest.update(str(tuple(t.shape)).encode() + t.detach().cpu().float().numpy().tobytes())
    return digest.hexdigest()[:16]


def _bar(show: bool, total: int, done: int) -> AbstractContextManager[Any]:
    if not show:
        return nullcontext()
    from contextlib import contextmanager

    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    @contextmanager
    def bar() -> Any:
        columns = (
            "training",
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("loss {task.fields[loss]}"),
        )
        with Progress(*columns) as progress:
            task = progress.add_task("", total=total, completed=done, loss="–")
            yield lambda step, loss: progress.update(task, completed=step, loss=f"{loss:.5f}")

    return bar()
