"""What a person names and a tree does not have."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from ringfence.cli import harden
from ringfence.errors import InputError
from ringfence.harden import result
from ringfence.harden.build import absent_of
from ringfence.harden.source import open_source
from ringfence.harden.wishes import Wishes
from tests.unit.harden.trees import planted


class Report(msgspec.Struct):
    """As much of a report as --why reads."""

    files: tuple[object, ...] = ()


def test_what_is_to_be_kept_and_is_not_there_is_noted(tmp_path: Path) -> None:
    root = tmp_path / "root"
    planted(root, {"usr/lib/a": "", "srv/b*": ""}, {"lib": "usr/lib"})
    source = open_source(str(root), ("/srv/b",), tmp_path)
    (note,) = absent_of(source, Wishes(keep=("/lib/a", "/srv", "/nosuch")))
    assert note == "--keep /nosuch: the tree has nothing of that name"


@pytest.mark.parametrize(
    ("path", "remedy"),
    [("/usr/bin/vi", "keep it"), ("/bin/vi", "keep it"), ("/usr/bin", "keep it"),
     ("/nosuch", "left-out.txt"), ("/usr/bin/v", "left-out.txt")],
)  # fmt: skip
def test_why_advises_to_keep_only_what_was_left_out(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, path: str, remedy: str
) -> None:
    monkeypatch.setattr(result, "read_report", lambda folder: Report())
    (tmp_path / result.LEFT_OUT).write_text("usr/bin/vi\n")
    with pytest.raises(InputError) as caught:
        harden._why(tmp_path, path)
    assert remedy in caught.value.remedy
