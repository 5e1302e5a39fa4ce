"""`ringfence explain ID...`"""

from __future__ import annotations

import click

from ringfence.cli.delivery import deliver


@click.command("explain")
@click.argument("ids", nargs=-1)
def command(ids: tuple[str, ...]) -> None:
    """What each ID of a report means, why it weighs what it weighs, its sources, how to close it;
    of a probe, what it tries and why that does no harm.

    Without an ID: every id that the knowledge base has, and every probe.
    """
    from difflib import get_close_matches

    from ringfence.errors import UsageError
    from ringfence.knowledge.loader import load
    from ringfence.probe.words import explain_probe, probe_ids
    from ringfence.report.explain import explain, known_ids

    knowledge = load()
    known = [*known_ids(knowledge), *probe_ids()]
    if not ids:
        deliver("\n".join(known) + "\n", None)
        return
    texts = []
    for name in ids:
        text = explain(name, knowledge) or explain_probe(name, knowledge)
        if text is None:
            near = get_close_matches(name, [*known, *knowledge.conditions], n=3)
            remedy = f"did you mean {', '.join(near)}?" if near else "ringfence explain lists all"
            raise UsageError(f"no id {name!r}", remedy=remedy)
        texts.append(text)
    deliver("\n\n".join(texts) + "\n", None)
