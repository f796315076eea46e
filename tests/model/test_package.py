"""The public names of the package, imported when they are used."""

from __future__ import annotations

import subprocess
import sys

import pytest

import clmer_model


def test_importing_the_package_does_not_load_torch() -> None:
    """The names are there for completion, and torch comes with the first one that needs it."""
    code = (
        "import sys, clmer_model; assert {'Predictor', 'train'} <= set(dir(clmer_model)); "
        "assert 'torch' not in sys.modules; clmer_model.Prediction; assert 'torch' not in sys.modules; "
        "clmer_model.Predictor; assert 'torch' in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", clmer_model.__all__)
def test_every_public_name_is_there(name: str) -> None:
    """It is the object of the module that defines it."""
    assert getattr(clmer_model, name).__name__ == name


def test_another_name_is_an_attribute_error() -> None:
    """As of any module."""
    with pytest.raises(AttributeError, match="no attribute 'Unknown'"):
        _ = clmer_model.Unknown
