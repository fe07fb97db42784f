"""The door to the exporter, which the lean install does not have. It is imported when it is asked for."""

from __future__ import annotations

import importlib
from types import ModuleType

from embedrt.errors import DependencyError


def import_exporter() -> ModuleType:
    """The module embedrt_export.export.

    Raises:
        DependencyError: torch and the like are not installed, or of versions that do not fit each other.
    """
    try:
        return importlib.import_module("embedrt_export.export")
    except DependencyError:
        raise
    except ModuleNotFoundError as exc:
        raise DependencyError(
            f"this needs {exc.name or 'a package'}, which is not installed: pip install 'embedrt[export]'"
        ) from exc
    except ImportError as exc:  # a package that is there and lacks what another takes from it
        raise DependencyError(
            f"the packages installed do not fit each other ({exc}); pip install 'embedrt[export]' in a new environment"
        ) from exc
