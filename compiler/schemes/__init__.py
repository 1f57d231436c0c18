"""The time schemes, one file each. Importing this package registers every scheme that lies in it."""

from __future__ import annotations

import importlib
import pkgutil

from .base import SCHEMES, Scheme, scheme

for _module in sorted(m.name for m in pkgutil.iter_modules(__path__)):
    importlib.import_module(f"{__name__}.{_module}")

__all__ = ["SCHEMES", "Scheme", "scheme"]
