"""Does it hold? The claims about PDE networks, each with the tables that were measured for it.

    python examples/does_it_hold.py       # writes docs/does_it_hold.md from the pages of the other examples

Every table is copied from the page that its own script writes, so that this page cannot say anything else.
"""

from __future__ import annotations

from pathlib import Path

from pdeloom.runtime.load import write_atomic

ROOT = Path(__file__).parents[1]

CLAIMS = (
    (
        "Half the weights, and as good?",
        "half_the_weights",
        """
Yes, at the same size: half the filters cost at most 0.05 dB, and mostly nothing that the intervals resolve. At the same
number of parameters the tied network wins only where networks are small. What matters more is the activation: with the
nonmonotone flux both are 0.8 to 1.7 dB above a ReLU ResNet.
""",
    ),
    (
        "What does a guarantee cost?",
        "denoising",
        """
On images, one seed: norms that provably cannot grow cost a third of a decibel against a network with three times as
many weights and no guarantee, at σ = 15, 25 and 50 alike; distances that cannot grow cost 0.7 to 1 decibel, a thirtieth
less with twice as many channels, filters of any shape and their reflections, trained half as long for the mean PSNR.
How much of the former is due to the number of weights was not tried; twice as many steps with a proof of their norms
gain a twentieth, and diffusivities that read a learned mixture of all channels a sixteenth more, with 26,800 weights
and a quarter of a decibel below the free network of half as many. A proof that the energy decreases, with weights of
either sign, gained nothing in the short run it had.
""",
    ),
    (
        "Does the certificate survive training, and does it matter?",
        "certified",
        """
It does. The certified network is as good on what it was trained for, and the free one amplifies what nobody showed it.
""",
    ),
    (
        "Do skips and recurrences replace layers?",
        "acceleration",
        """
Layers, yes: for an error of 1 % FSI, RKL1 and Du Fort–Frankel evaluate f a quarter to two fifths as often as explicit
Euler, and implicit Euler has a tenth of its layers. Milliseconds, not always: on grids this small a solve costs more
than the layers it replaces.
""",
    ),
    (
        "Is a U-net that starts as multigrid better than a free one?",
        "inpainting",
        """
By many orders of magnitude at equal cycles, with 49 weights against 20,841, and at four times the size it was trained
at. The free U-net had little data and time; what it could become with more was not tried.
""",
    ),
    (
        "The same for nonlinear diffusion",
        "diffusion_steps",
        """
It holds there as well.
""",
    ),
    (
        "Can an unknown term be found from data?",
        "closure",
        """
A reaction: to a per mille without noise, to a few per cent at 5 %. A diffusivity: to 7 %, as near as its mixture comes,
without noise and at 1 %; at 5 % it does not hold, some seeds find a flux that is wrong by several times its size.
""",
    ),
)


def tables(name: str) -> list[str]:
    """The tables of a page, each with the line that stands before it."""
    lines = (ROOT / "docs" / f"{name}.md").read_text(encoding="utf-8").splitlines()
    found, before = list[str](), ""
    for i, line in enumerate(lines):
        if line.startswith("|"):
            if not lines[i - 1].startswith("|"):
                heading = before.lstrip("# ") if before.startswith("##") or before.endswith((".", ":")) else ""
                found += ["", heading, ""] if heading else [""]
            found.append(line)
        elif line.strip():
            before = line
    return found


def page() -> str:
    lines = [
        "# Does it hold?",
        "",
        __doc__.split("\n\n", 2)[2].strip(),
        "Written by `python examples/does_it_hold.py`.",
    ]
    for question, name, verdict in CLAIMS:
        lines += ["", f"## {question}", "", verdict.strip(), "", f"How it was measured: [{name}.md]({name}.md)."]
        lines += tables(name)
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    write_atomic(ROOT / "docs" / "does_it_hold.md", page())
