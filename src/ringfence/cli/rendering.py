"""From a result to the text of the chosen format."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast

from ringfence.cli.delivery import colour, width
from ringfence.cli.options import FORMATS

if TYPE_CHECKING:
    from ringfence.model.measurement import Comparison, Measurement
    from ringfence.report.look import Look


class Format(Protocol):
    """What a module of ringfence.report offers."""

    def measurements(self, results: tuple[Measurement, ...], look: Look) -> str:
        """Several measurements as text."""
        ...

    def comparison(self, result: Comparison, look: Look) -> str:
        """A comparison as text."""
        ...


def measurements(
    results: tuple[Measurement, ...], form: str, output: Path | None, least: int
) -> str:
    """Several measurements; `least` is the width where the output is no terminal."""
    return _format(form).measurements(results, _look(output, least))


def comparison(result: Comparison, form: str, output: Path | None, least: int) -> str:
    """One comparison; `least` as above."""
    return _format(form).comparison(result, _look(output, least))


def _format(name: str) -> Format:
    return cast(Format, importlib.import_module(f"ringfence.report.{FORMATS[name]}"))


def _look(output: Path | None, least: int) -> Look:
    from ringfence.report.look import Look

    return Look(colour=colour() and output is None, width=width(least))
