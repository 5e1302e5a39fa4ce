"""Names that look like secrets are kept; values never are."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ringfence.collect.process.environment import hint


@pytest.mark.parametrize(
    "name", ["DB_PASSWORD", "API_TOKEN", "AWS_SECRET_ACCESS_KEY", "api_key", "MY_PRIVATE_KEY",
             "SENTRY_DSN", "PGPASSWORD", "CREDENTIALS"],
)  # fmt: skip
def test_names_of_secrets(name: str) -> None:
    found = hint(f"{name}=value-of-it".encode())
    assert found is not None
    assert found.name == name
    assert "value" not in found.reason


@pytest.mark.parametrize(
    "entry", ["PATH=/usr/bin", "AUTHOR=me", "TOKENIZERS=fast", "PASSENGERS=3", "DB_PASSWORD=",
              "nothing", "HOME=/root"],
)  # fmt: skip
def test_names_of_nothing_secret(entry: str) -> None:
    assert hint(entry.encode()) is None


def test_a_url_with_a_password() -> None:
    found = hint(b"DATABASE=postgres://shop:hunter2@db/shop")
    assert found is not None
    assert "hunter2" not in repr(found)
    assert hint(b"DATABASE=postgres://db/shop") is None


@given(st.sampled_from(["TOKEN", "X_SECRET", "URL"]), st.text("0123456789#+", min_size=6))
def test_no_value_is_ever_kept(name: str, value: str) -> None:
    found = hint(f"{name}=a://u:{value}@h".encode())
    assert found is not None
    assert value not in repr(found)


def test_a_hostile_name_is_made_harmless() -> None:
    found = hint(b"A_TOKEN\x1b[31m\n" + b"x" * 500 + b"_TOKEN=1")
    assert found is None or (found.name.isprintable() and len(found.name) <= 64)
    named = hint(b"A\x1b]0;x_TOKEN=1")
    assert named is not None
    assert "\x1b" not in named.name
