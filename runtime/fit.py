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
import numbers
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from ..compiler.errors import TrainingError, strict, suggest
from .checkpoint import read_checkpoint, read_record, write_checkpoint
from .data import Patches, load_images
from .lift import NETS
from .load import write_atomic
from .metrics import psnr
from .spec import write_toml

_FRACTIONS = ("rate", "clip", "average")
"""The settings that are no whole numbers."""


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


LOSSES: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "mse": lambda error: error.square().mean(),
    "mae": lambda error: error.abs().mean(),
    "psnr": lambda error: 10 * error.square().mean((1, 2, 3)).log10().mean(),
}


@strict
def fit(
    module: nn.Module,
    data: Any = "skimage",
    steps: int = 1000,
    batch: int = 16,
    patch: int = 64,
    sigma: float | tuple[float, float] = 25 / 255,
    rate: float = 0.05,
    seed: int = 0,
    out: str | Path = "out/train",
    save_every: int = 100,
    observed: str | Sequence[str] | None = None,
    level: str | None = None,
    schedule: str = "cosine",
    loss: str = "mse",
    clip: float | None = None,
    average: float | None = None,
    patience: int | None = None,
    greedy: int | None = None,
    precision: str = "32-true",
    devices: int = 1,
    accelerator: str = "cpu",
    progress: bool = True,
) -> Fitted:
    """Train a denoiser on noisy patches by Adam.

    A run in `out` with the same settings is resumed; other settings are a `TrainingError`.

    Args:
        data: "skimage", a folder of images, an HDF5 file of images, or a list of arrays in [0, 1]; patches are turned
            and flipped at random. A system of three fields is trained on colour images, of n fields on (H, W, n).
        sigma: the standard deviation of the noise, on the scale of the images, or the lowest and the highest one,
            between which every patch has its own.
        rate, schedule: the learning rate, falling along a half "cosine" to 1 % of it, or "constant".
        loss: "mse", the mean squared error, which the noisiest textures dominate; "mae", the mean absolute error; or
            "psnr", the mean over all patches of the logarithm of their mean squared error, in dB, in
            which small smooth patches count most. A mean of PSNRs over images is the last of them for large patches.
        observed: the data field that is given the noisy image, as f in a reaction β(f − u); of a system one for every
            field.
        level: the data field that is given σ at every pixel, as in g(|∇u|²/σ²); without it the network is blind.
        clip: gradients of a larger norm are scaled down to it.
        average: weights are averaged with this decay per step, such as 0.999, but (1 + n)/(10 + n) in step n while that
            is less, so that a short run does not return what it started from. The averages are what is validated and
            returned. Every average of weights is within the bounds of the certificate, as any weights are.
        patience: stop after so many validations (one per `save_every` steps) without a better one. Validation draws
            other patches of the training images, with noise of its own.
        greedy: layer by layer first: for so many steps the output of the first layer (or cycle) is trained, then that
            of the first two, and so on, before the whole network is.
        precision, devices, accelerator: those of Lightning Fabric.
    """
    settings: dict[str, Any] = {"steps": steps, "batch": batch, "patch": patch, "rate": rate, "seed": seed}
    noise = tuple(sigma) if isinstance(sigma, (list, tuple)) else (sigma,)
    if not 1 <= len(noise) <= 2 or not all(_real(s) and 0 < s <= 1 for s in noise) or noise[0] > noise[-1]:
        raise TrainingError(
            f"fit(sigma={sigma!r}): must be a positive number, or the lowest and the highest, up to 1, the scale "
            f"of the images; 25 grey values of 255 are 25/255"
        )
    noise = tuple(map(float, noise))
    optional = {"clip": clip, "average": average, "patience": patience, "greedy": greedy}
    given = {k: v for k, v in optional.items() if v is not None}
    for key, value in {**settings, **given, "save_every": save_every, "devices": devices}.items():
        least = 0 if key == "seed" else 1e-12
        if not _real(value) or not least <= value < math.inf:
            raise TrainingError(f"fit({key}={value!r}): must be a {'positive number' if least else 'number from 0 on'}")
        if key not in _FRACTIONS and value != int(value):
            raise TrainingError(f"fit({key}={value!r}): must be a whole number")
    if seed >= 2**32:
        raise TrainingError(f"fit(seed={seed}): must be less than 2³²")
    settings, given = _plain(settings), _plain(given)
    save_every, devices = int(save_every), int(devices)
    if accelerator == "cpu" and devices > (os.cpu_count() or 1):
        raise TrainingError(f"fit(devices={devices}): every one is a process, and there are {os.cpu_count()} cores")
    if not isinstance(out, (str, Path)) or (Path(out).exists() and not Path(out).is_dir()):
        raise TrainingError(f"fit(out={str(out)!r}): give the path of a folder")
    if not isinstance(module, nn.Module) or not hasattr(module, "certificate"):
        raise TrainingError(f"fit({type(module).__name__}): give a module of a compiled network, net.module()")
    if schedule not in ("cosine", "constant"):
        raise TrainingError(f"fit(schedule={schedule!r}): {suggest(str(schedule), ['cosine', 'constant'])}")
    if loss not in LOSSES:
        raise TrainingError(f"fit(loss={loss!r}): {suggest(str(loss), list(LOSSES))}")
    if average is not None and average >= 1:
        raise TrainingError(f"fit(average={average!r}): the decay of an average lies between 0 and 1, such as 0.999")
    net = NETS.get(type(module))
    channels = 1 if net is None else net.compiled.system.width
    several = observed is not None and not isinstance(observed, str)
    if several and (not isinstance(observed, (list, tuple)) or len(observed) != channels):
        raise TrainingError(f"fit(observed={observed!r}): the network has {channels} fields; give one name for each")
    roles = {key: name for key, name in (("observed", observed), ("level", level)) if name is not None}
    recorded = {k: name if isinstance(name, str) else list(name) for k, name in roles.items()}
    settings |= {
        **given,
        **recorded,
        "sigma": list(noise) if len(noise) > 1 else noise[0],
        "schedule": schedule,
        "loss": loss,
    }
    if not list(module.parameters()):
        raise TrainingError("the network has no weights; compile it with trainable=[…]")
    read = [p.name for p in inspect.signature(module.forward).parameters.values() if p.default is p.empty][1:]
    given_to = [(key, n) for key, names in roles.items() for n in ([names] if isinstance(names, str) else names)]
    for key, name in given_to:
        if name not in read or [n for _, n in given_to].count(name) > 1:
            raise TrainingError(f"fit({key}={name!r}): no data field of its own; the network reads {read}")
    bounds = {str(f.func): getattr(f.func, "bounds", None) for f in net.compiled.problem.data} if net else {}
    if (
        level is not None
        and (promised := bounds.get(level))
        and not promised[0] <= noise[0] <= noise[-1] <= promised[1]
    ):
        raise TrainingError(
            f"fit(sigma={sigma!r}): outside the bounds {promised} that {level} was declared with; change one of them"
        )
    needs = [name for name in read if name not in [n for _, n in given_to]]
    if needs:
        raise TrainingError(
            f"the network reads the data fields {needs}; if one of them is the noisy image, say observed={needs[0]!r}, "
            f"if it is the noise level, level={needs[0]!r}, else train it in a loop of your own"
        )
    if hasattr(module, "pyramid"):
        raise TrainingError(
            "the network solves a steady problem, and u is but its first guess; fit trains denoisers u ↦ u, train it "
            "in a loop of your own"
        )
    dimension = 2 if net is None else net.compiled.problem.dimension
    if dimension != 2:
        raise TrainingError(
            f"fit trains on images (H, W), and the equation is {dimension}-D; train its network in a loop of your own"
        )
    from lightning_fabric import Fabric

    out = Path(out)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise TrainingError(f"fit(out={str(out)!r}): {error.strerror}; give another folder") from None
    try:
        fabric = Fabric(accelerator=accelerator, devices=devices, precision=precision)
    except (ValueError, RuntimeError, TypeError) as error:
        raise TrainingError(
            f"accelerator={accelerator!r}, devices={devices}, precision={precision!r}: {error}"
        ) from None
    fabric.launch()
    run = _Run(fabric, module, load_images(data, channels=channels), data, settings, out, save_every, precision)
    return run.train(progress and fabric.is_global_zero)


def denoiser(module: Any, observed: str | Sequence[str] | None, level: str | None) -> Callable[..., Any]:
    """(noisy, σ) ↦ the module's output, σ a number or a map: its data fields are given what they are for."""
    names = [observed] if isinstance(observed, str) else list(observed or ())

    def denoise(noisy: torch.Tensor, sigma: Any) -> Any:
        data = {name: noisy[:, i : i + 1] for i, name in enumerate(names)}
        if level is not None:
            data[level] = sigma if isinstance(sigma, torch.Tensor) else torch.full_like(noisy[:, :1], sigma)
        return module(noisy, **data)

    return denoise


class _Run:
    def __init__(
        self,
        fabric: Any,
        module: nn.Module,
        images: Sequence[torch.Tensor],
        data: Any,
        settings: dict[str, Any],
        out: Path,
        save_every: int,
        precision: str,
    ) -> None:
        self.fabric, self.module, self.settings, self.out, self.save_every = fabric, module, settings, out, save_every
        self.patches = Patches(images, settings["patch"], settings["batch"], settings["sigma"], settings["seed"])
        self.validation = Patches(images, settings["patch"], 32, settings["sigma"], settings["seed"] + 500_000).draw(0)
        net = NETS.get(type(module))
        what = type(module).__name__ if net is None else write_toml(net.spec())
        self.identity = {
            **settings,
            "save_every": save_every,
            "precision": precision,
            "data": _fingerprint(list(images)),
            "network": _fingerprint(list(module.state_dict().values())) + hashlib.sha256(what.encode()).hexdigest(),
        }
        self.step, self.best, self.worse = 0, -math.inf, 0
        decay = settings.get("average")
        optimiser = torch.optim.Adam(module.parameters(), lr=settings["rate"])
        self.wrapped, self.optimiser = fabric.setup(module, optimiser)  # of the precision that is asked for
        self.average = None if decay is None else _averaged(module, decay)
        self._resume(optimiser)

    def _resume(self, optimiser: torch.optim.Optimizer) -> None:
        record = read_record(self.out / "last.safetensors", "step", "best", "worse", "identity", "optimiser")
        if record is None:
            if self.fabric.is_global_zero:
                write_atomic(self.out / "metrics.jsonl", "")
            return
        old, new = record["identity"], self.identity
        changed = [k for k in {**new, **old} if old.get(k) != new.get(k)]
        if changed:
            (key, *_) = changed
            other = (
                f"other {key}" if key == "data" else f"another {key}" if key == "network" else
                f"{key} = {old.get(key)!r}, not {new.get(key)!r}"
            )  # fmt: skip
            raise TrainingError(
                f"{self.out} holds a run with {other}; choose another out, or delete the folder to start again"
            )
        read_checkpoint(self.out / "last.safetensors", self.module, optimiser, self.average)
        self.step, self.best, self.worse = record["step"], record["best"], record["worse"]
        if self.fabric.is_global_zero:
            written = self.out / "metrics.jsonl"
            lines = written.read_text(encoding="utf-8").splitlines() if written.exists() else []
            kept = [line for line in lines if (step := _step_of(line)) is not None and step <= self.step]
            write_atomic(written, "".join(line + "\n" for line in kept))

    def train(self, progress: bool) -> Fitted:
        total, losses = self.settings["steps"], []
        with _bar(progress, total, self.step) as bar:
            while self.step < total and not self._stalled:
                losses.append(self._one_step())
                self.step += 1
                if bar is not None:
                    bar(self.step, losses[-1])
                if self.step % self.save_every == 0 or self.step == total:
                    self._save(sum(losses) / len(losses))
                    losses = []
        if self.average is not None:
            self.module.load_state_dict(self.average.module.state_dict())
        certificate = self.module.certificate()  # type: ignore[operator]
        return Fitted(self.module, self.step, self.best, self.out, certificate, self.fabric.is_global_zero)

    @property
    def _stalled(self) -> bool:
        return bool(self.worse >= self.settings.get("patience", math.inf))

    @contextmanager
    def _layers(self) -> Iterator[None]:
        """The layers that are trained now: all, or while training is greedy the first ones."""
        full, cycle = type(self.module).steps, getattr(self.module, "length", 1)  # type: ignore[attr-defined]
        greedy = self.settings.get("greedy")
        if greedy is not None:
            self.module.steps = min(full, cycle * (1 + self.step // greedy))
        try:
            yield
        finally:
            vars(self.module).pop("steps", None)

    def _denoise(self, network: Any, noisy: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        dtype = next(self.module.parameters()).dtype
        denoise = denoiser(network, self.settings.get("observed"), self.settings.get("level"))
        try:
            output: torch.Tensor = denoise(noisy.to(dtype), sigma.to(dtype)).float()
        except ValueError as error:
            raise TrainingError(f"the network refuses what it is trained on: {error}") from None
        return output

    def _one_step(self) -> float:
        world, rank = self.fabric.world_size, self.fabric.global_rank
        noisy, clean, sigma = (self.fabric.to_device(t[rank::world]) for t in self.patches.draw(self.step))
        for group in self.optimiser.param_groups:
            part = _cosine(self.step, self.settings["steps"]) if self.settings["schedule"] == "cosine" else 1.0
            group["lr"] = self.settings["rate"] * part
        with self._layers():
            loss = LOSSES[self.settings["loss"]](self._denoise(self.wrapped, noisy, sigma) - clean)
        if not torch.isfinite(loss):
            raise TrainingError(f"the loss is {loss.item()} at step {self.step}; lower rate = {self.settings['rate']}")
        self.optimiser.zero_grad()
        self.fabric.backward(loss)
        if "clip" in self.settings:
            self.fabric.clip_gradients(self.wrapped, self.optimiser, max_norm=self.settings["clip"])
        self.optimiser.step()
        if self.average is not None:
            self.average.update_parameters(self.module)
        return float(loss.detach())

    def _save(self, loss: float) -> None:
        noisy, clean, sigma = (self.fabric.to_device(t) for t in self.validation)
        chosen: Any = self.module if self.average is None else self.average.module
        with torch.no_grad():
            value = psnr(self._denoise(chosen, noisy, sigma).clamp(0, 1), clean)
        better = value > self.best
        self.best, self.worse = max(self.best, value), 0 if better else self.worse + 1
        if not self.fabric.is_global_zero:
            return
        certificate = chosen.certificate()
        line = {"step": self.step, "loss": loss, "validation_psnr": value, "certificate": certificate["status"]}
        with (self.out / "metrics.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        record: dict[str, Any] = {"step": self.step, "best": self.best, "worse": self.worse}
        record |= {"identity": self.identity, "certificate": certificate}
        if better:
            write_checkpoint(self.out / "best.safetensors", self.module, self.optimiser, record, self.average)
        write_checkpoint(self.out / "last.safetensors", self.module, self.optimiser, record, self.average)


def _real(value: Any) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    """Numbers of Python, whatever library they come from."""
    return {key: float(v) if key in _FRACTIONS else int(v) for key, v in values.items()}


def _cosine(step: int, total: int) -> float:
    """One at the start, falling to 1 % along a half cosine."""
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * step / total))


def _averaged(module: nn.Module, decay: float) -> AveragedModel:
    def average(averaged: Any, current: Any, count: Any) -> None:
        least = float((1 + count) / (10 + count))
        get_ema_multi_avg_fn(min(decay, least))(averaged, current, count)  # type: ignore[no-untyped-call]

    return AveragedModel(module, multi_avg_fn=average)


def _step_of(line: str) -> int | None:
    """The step of a line of metrics; None if it was not written to its end."""
    try:
        return int(json.loads(line)["step"])
    except (ValueError, TypeError, KeyError):
        return None


def _fingerprint(tensors: list[torch.Tensor]) -> str:
    digest = hashlib.sha256()
    for t in tensors:
        digest.update(str(tuple(t.shape)).encode() + t.detach().cpu().float().numpy().tobytes())
    return digest.hexdigest()[:16]


def _bar(show: bool, total: int, done: int) -> AbstractContextManager[Any]:
    if not show:
        return nullcontext()
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
