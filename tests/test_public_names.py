"""What the package offers has a name and says what it is. (The examples run in test_doc_examples.py.)"""

from __future__ import annotations

import pytest

import fastnn
from fastnn import nn, optim


def test_public_names_have_docstrings():
    """What `__all__` offers, and the public methods of its classes, say what they are."""
    missing = []
    for module in (fastnn, nn, optim):
        for name in module.__all__:
            thing = getattr(module, name)
            if not (callable(thing) or isinstance(thing, type)):
                continue
            if not (thing.__doc__ or "").strip():
                missing.append(f"{module.__name__}.{name}")
            if isinstance(thing, type):
                for attribute, value in vars(thing).items():
                    inherited = any(hasattr(base, attribute) for base in thing.__mro__[1:])
                    described = getattr(value, "__doc__", None) or inherited
                    if (
                        not attribute.startswith("_")
                        and (callable(value) or isinstance(value, property))
                        and not described
                    ):
                        missing.append(f"{module.__name__}.{name}.{attribute}")
    assert missing == []


@pytest.mark.parametrize("module", [fastnn, nn, optim], ids=lambda module: module.__name__)
def test_public_names_exist_once(module):
    assert len(set(module.__all__)) == len(module.__all__)
    for name in module.__all__:
        assert hasattr(module, name)
