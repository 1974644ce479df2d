"""What the tests are told about the service they run against."""

import json
import os
from pathlib import Path

import pytest


def _json_named_by(variable):
    path = os.environ.get(variable)
    return json.loads(Path(path).read_text(encoding="utf-8")) if path else None


@pytest.fixture(scope="session")
def url():
    """Where the service answers, without a final slash."""
    return os.environ.get("TEST_REMOTE_URL", "http://localhost:5000/").rstrip("/")


@pytest.fixture(scope="session")
def secret_json():
    """The content of secrets.json, where the tests were given it."""
    return _json_named_by("TEST_SECRET_JSON")


@pytest.fixture(scope="session")
def sealed_secret_json():
    """The content of the secrets to seal, where the tests were given it."""
    return _json_named_by("TEST_SEALED_SECRET_JSON")
