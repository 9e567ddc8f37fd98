"""How many files a reader passes through who follows one run of the code."""

import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

STAGES = Path(__file__).resolve().parents[1] / "stages"


def files_entered(run: Callable[[], object]) -> set[str]:
    """Python files of stages/ whose functions ran, base/ left out; bodies of modules and classes aren't functions."""
    entered = set()

    def note(frame: FrameType, event: str, _: Any) -> None:
        code = frame.f_code
        if event == "call" and code.co_flags & inspect.CO_OPTIMIZED and code.co_filename.startswith(str(STAGES)):
            entered.add(str(Path(code.co_filename).relative_to(STAGES)))

    sys.setprofile(note)
    try:
        run()
    finally:
        sys.setprofile(None)
    return {name for name in entered if name.endswith(".py") and not name.startswith("base/")}
