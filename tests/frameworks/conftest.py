"""Tests with the frameworks' own packages, in the versions of requirements.txt beside this file.

They are collected where a package is installed. CI's part `agents_python` installs them all and sets CAPSULE_FRAMEWORKS, with
which nothing is passed over: what cannot be imported fails.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
PACKAGES = {
    "test_langchain.py": "langchain_tests",
    "test_openai.py": "openai",
    "test_anthropic.py": "anthropic",
    "test_openai_agents.py": "agents",
    "test_pages.py": "langchain_tests",
}
sys.path.insert(0, str(EXAMPLES))
collect_ignore = [
    name
    for name, package in PACKAGES.items()
    if "CAPSULE_FRAMEWORKS" not in os.environ and importlib.util.find_spec(package) is None
]
if "CAPSULE_SEED_LANGCHAIN" not in os.environ and "CAPSULE_FRAMEWORKS" not in os.environ:
    collect_ignore.append("test_seed_langchain.py")


@pytest.fixture
def stand_in(monkeypatch):
    """Starts a stand-in for a model, to which the SDKs then go: `stand_in(script)`."""
    from stand_in_model import StandIn

    running = []

    def start(script=None):
        model = StandIn(script).__enter__()
        running.append(model)
        for name, text in model.environment.items():
            monkeypatch.setenv(name, text)
        return model

    yield start
    for model in running:
        model.__exit__()
