"""Training: losses, the wake word, CTC pretraining; and itself callable, `kws.train(phrase, …)`."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any


class _CallableModule(ModuleType):
    """`kws.train` is this folder and, as the public API has it, a function; a module with `__call__` is both."""

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        """Returns `kws.train.wakeword.train_wakeword(…)`; see there."""
        from kws.train.wakeword import train_wakeword

        return train_wakeword(*arguments, **options)


sys.modules[__name__].__class__ = _CallableModule
