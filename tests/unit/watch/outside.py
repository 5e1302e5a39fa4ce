"""The verifier that docs/ledger.md prints for outsiders, as it stands there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

PAGE = Path(__file__).parents[3] / "docs" / "ledger.md"
_BLOCK = re.compile(r"```python\n(# verify_proof\.py\n.*?)```", re.DOTALL)


def source() -> str:
    """Its text."""
    match = _BLOCK.search(PAGE.read_text(encoding="utf-8"))
    assert match, "docs/ledger.md has no verifier"
    return match[1]


VERIFIER: dict[str, Any] = {"__name__": "verify_proof"}
exec(compile(source(), "verify_proof.py", "exec"), VERIFIER)  # noqa: S102 our own page
