"""The command line. Heavy imports wait until a command needs them, so `--help` answers at once."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from .net import Net

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Compile a PDE into the neural network that it is.")
SpecPath = Annotated[Path, typer.Argument(help="A TOML specification.", show_default=False)]


@app.command("compile")
def compile_(spec: SpecPath, output: Annotated[Path, typer.Option("-o", "--output")] = Path("net.py")) -> None:
    """Write the emitted torch module."""
    from .load import write_atomic

    net = _net(spec)
    write_atomic(output, net.source)
    typer.echo(f"{output}: {net!r}")


@app.command()
def inspect(
    spec: SpecPath, html: Annotated[Path | None, typer.Option(help="Write a report page instead.")] = None
) -> None:
    """Show the graph, the architecture and the stability table."""
    net = _net(spec)
    if html is not None:
        typer.echo(f"{net.report(html)}")
        return
    typer.echo(f"{net.explain()}\n\n{net.dump()}\n\n{net.stability}")


@app.command()
def check(spec: SpecPath) -> None:
    """Print the stability table; exit 1 if the governing notion is refuted."""
    from .spec import read_spec

    read = read_spec(spec)
    judging = {"unstable": "allow", "trainable": [name for name in read.compile.trainable if name != "tau"]}
    judged = _net_of(read.model_copy(update={"compile": read.compile.model_copy(update=judging)}), spec)
    typer.echo(str(judged.stability))
    if judged.stability[judged.stability.governing].status == "refuted":
        raise typer.Exit(1)


@app.command()
def train(spec: SpecPath, resume: Annotated[bool, typer.Option(help="Go on with a run that is there.")] = True) -> None:
    """Train the network as its spec says; run again to resume."""
    from ..compiler.errors import SpecError, TrainingError
    from .fit import fit
    from .spec import read_spec

    read = read_spec(spec)
    if read.train is None:
        raise SpecError(f"{spec}: no [train] table; add one, such as [train] data = 'skimage'")
    options = read.train.model_dump(exclude_none=True)
    out = Path(options["out"])
    if not resume and (out / "last.safetensors").exists():
        raise TrainingError(f"{out} holds a run already; delete it, choose another out, or drop --no-resume")
    net = _net_of(read, spec)
    fitted = fit(net.module(), **options)
    if not fitted.first:
        return
    net.save(out, fitted.module, train=options)
    certificate = f"{fitted.certificate['notion']} {fitted.certificate['status']}"
    typer.echo(f"{out}: {fitted.steps} steps, validation {fitted.best_psnr:.2f} dB, {certificate}")


@app.command()
def evaluate(
    run: Annotated[str, typer.Argument(help="The folder of a run, or the name of a network of the package.")],
    data: Annotated[str | None, typer.Option(help="A folder of images, all of which are taken.")] = None,
    sigma: Annotated[float | None, typer.Option(help="The noise, on the scale of 255.", min=0)] = None,
    ensemble: Annotated[bool, typer.Option("--self-ensemble", help="The mean over eight turns and flips.")] = False,
) -> None:
    """Score a trained network on images it was not trained on."""
    from inspect import signature

    from ..compiler.errors import CheckpointError, DataError
    from .data import load_images
    from .fit import denoiser
    from .metrics import score, self_ensemble
    from .net import PRETRAINED, load, pretrained
    from .spec import read_spec

    folder = Path(run)
    if not folder.exists():
        saved, folder = pretrained(run), PRETRAINED / run
    else:
        saved = load(folder)
    options = read_spec(folder / "spec.toml").train
    trained = options.sigma if options else 25 / 255
    strength = sigma / 255 if sigma is not None else trained if isinstance(trained, float) else sum(trained) / 2
    channels = saved.net.compiled.system.width
    source, held_out = (options.data if options else "skimage", True) if data is None else (data, None)
    images, module = load_images(source, held_out, channels), saved.module()
    denoise = denoiser(module, options.observed if options else None, options.level if options else None)

    read = [p.name for p in signature(module.forward).parameters.values() if p.default is p.empty][1:]
    known = [options.level] if options else []
    if options and options.observed:
        known += [options.observed] if isinstance(options.observed, str) else options.observed
    if unknown := [name for name in read if name not in known]:
        raise CheckpointError(
            f"{run}: the network reads the data field {unknown[0]}, and its specification has no [train] table that "
            f"says whether that is the noisy image (observed) or the noise level (level)"
        )

    def once(u: Any) -> Any:
        try:
            return denoise(u, strength)
        except ValueError as error:
            raise DataError(f"{run} at sigma = {strength * 255:g}: {error}") from None

    noisy = score(lambda u: u, images, strength)
    denoised = score(self_ensemble(once) if ensemble else once, images, strength)
    _table(
        f"{len(images)} {'held-out ' if held_out else ''}images, σ = {strength * 255:g}/255",
        ("", "PSNR dB", "SSIM", "ms/megapixel"),
        [
            ("noisy", f"{noisy.psnr:.2f}", f"{noisy.ssim:.4f}", ""),
            (saved.net.name, f"{denoised.psnr:.2f}", f"{denoised.ssim:.4f}", f"{denoised.ms_per_megapixel:.0f}"),
        ],
    )


@app.command()
def schemes() -> None:
    """List the time schemes."""
    from ..compiler.schemes import SCHEMES

    examples = [(name, cls.example()) for name, cls in SCHEMES.items()]
    rows = [(name, scheme.formula, scheme.architecture, scheme.citation) for name, scheme in examples]
    _table("time schemes", ("name", "step", "network", "source"), rows)


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Where to put everything.")] = Path("out/demo"),
    steps: Annotated[int, typer.Option(help="Training steps.", min=1)] = 1200,
) -> None:
    """Perona–Malik as a ResNet, trained on real images and compared with the classics."""
    from .demo import run

    run(out, steps)


def _net(spec: Path) -> Net:
    from .spec import read_spec

    return _net_of(read_spec(spec), spec)


def _net_of(spec: Any, where: Path) -> Net:
    from ..compiler.errors import PdeloomError
    from .net import from_spec
    from .spec import located

    try:
        return from_spec(spec)
    except PdeloomError as error:
        raise located(error, str(where)) from None


def _table(title: str, header: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(*header, title=title, title_justify="left")
    for row in rows:
        table.add_row(*row)
    Console().print(table)


def keep_memory() -> None:
    """Have glibc keep what large tensors free, for this process: returned to the system and asked for anew, page by
    page, it takes more time than the arithmetic."""
    trim_threshold, mmap_max = -1, -4  # M_TRIM_THRESHOLD and M_MMAP_MAX of mallopt(3)
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):  # another C library
            mallopt = ctypes.CDLL(None).mallopt
            mallopt(trim_threshold, 2**31 - 1)
            mallopt(mmap_max, 0)


def main() -> None:
    """Entry point: a user's error is one line and exit 2; Ctrl-C says how to go on."""
    keep_memory()
    try:
        app()
    except KeyboardInterrupt:
        typer.echo("\nstopped; run the same command again to resume", err=True)
        sys.exit(130)
    except Exception as error:
        from ..compiler.errors import PdeloomError

        if not isinstance(error, (PdeloomError, OSError)):
            raise
        typer.echo(f"error: {error}", err=True)
        sys.exit(2)


if __name__ == "__main__":
    main()
