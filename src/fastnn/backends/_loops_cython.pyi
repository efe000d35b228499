# loops.py, compiled: the names are those of loops.py, the types those of loops.pxd.

from typing import Any

def __getattr__(name: str) -> Any: ...
