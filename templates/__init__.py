"""The templates of everything pdeloom writes: torch source and the HTML report."""

from functools import cache
from importlib.resources import files

from jinja2 import Environment, FunctionLoader, StrictUndefined


@cache  # with its compiled templates
def environment(html: bool = False) -> Environment:
    """A Jinja environment over this package that fails on any undefined name."""
    return Environment(
        loader=FunctionLoader(lambda name: files(__name__).joinpath(name).read_text(encoding="utf-8")),
        undefined=StrictUndefined,
        autoescape=html,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
