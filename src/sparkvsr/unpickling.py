"""Reading pickles of others: only by names that are listed, so that a file stays data.

Source: https://docs.python.org/3/library/pickle.html#restricting-globals
"""

from __future__ import annotations

import io
import os
import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

_FORCE, _FORBID = "TORCH_FORCE_WEIGHTS_ONLY_LOAD", "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"


class ListedUnpickler(pickle.Unpickler):
    """Builds plain values and what a list of names allows.

    Args:
        data: the pickle.
        find: ``(module, name)`` to what the name stands for, None for whatever is not allowed.
    """

    def __init__(self, data: bytes, find: Callable[[str, str], Any]) -> None:
        super().__init__(io.BytesIO(data))
        self._find = find

    def find_class(self, module: str, name: str) -> Any:
        """See ``pickle.Unpickler.find_class``.

        Raises:
            pickle.UnpicklingError: the name is not listed.
        """
        found = self._find(module, name)
        if found is None:
            msg = f"it names {module}.{name}, which may run code"
            raise pickle.UnpicklingError(msg)
        return found


def unpickle_listed(data: bytes, find: Callable[[str, str], Any]) -> Any:
    """The value of a pickle that names nothing but what is listed.

    Args:
        data: the pickle.
        find: see ``ListedUnpickler``.

    Raises:
        pickle.UnpicklingError: another name, or the pickle is damaged in whatever way.
    """
    try:
        return ListedUnpickler(data, find).load()
    except pickle.UnpicklingError:
        raise
    except Exception as exc:  # damaged pickles end in every kind of exception
        msg = f"damaged pickle ({type(exc).__name__})"
        raise pickle.UnpicklingError(msg) from exc


@contextmanager
def weights_only() -> Iterator[None]:
    """Let every ``torch.load`` of any package read weights and plain values only, whatever its caller asked for."""
    before = {name: os.environ.get(name) for name in (_FORCE, _FORBID)}
    os.environ.pop(_FORBID, None)
    os.environ[_FORCE] = "1"
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
