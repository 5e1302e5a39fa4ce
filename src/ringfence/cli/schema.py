"""`ringfence schema [measurement|comparison]`"""

from __future__ import annotations

import click

from ringfence.cli.options import deliver


@click.command("schema")
@click.argument("result", type=click.Choice(["measurement", "comparison"]), default="measurement")
def command(result: str) -> None:
    """The JSON Schema (2020-12) of a result, generated from the records themselves."""
    import json

    from ringfence.model.measurement import Comparison, Measurement
    from ringfence.report.json_format import schema

    kind = Measurement if result == "measurement" else Comparison
    deliver(json.dumps(schema(kind), indent=2, sort_keys=True) + "\n", None)
