"""`ringfence schema [RESULT]`"""

from __future__ import annotations

import click

from ringfence.cli.delivery import deliver
from ringfence.report.schemas import RESULTS


@click.command("schema")
@click.argument("result", type=click.Choice(list(RESULTS)), default="measurement")
def command(result: str) -> None:
    """The JSON Schema (2020-12) of a result, generated from the records themselves.

    `ledger` is that of one line of a ledger.
    """
    import json

    from ringfence.report.schemas import schema

    deliver(json.dumps(schema(result), indent=2, sort_keys=True) + "\n", None)
