"""System tests: real kernels on emulated hosts. A file cases_*.py holds functions marked @case; `python3 -m tests.system` runs them."""
from .harness import case, expect, expect_eq, retry  # noqa: F401
