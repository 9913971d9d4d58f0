# The compiled library. Each op adds functions under its own name (see csrc/bindings), which take
# addresses, sizes and a stream as keyword integers and return None, or bytes of a workspace; only
# the build's facts are listed here.
from collections.abc import Callable
from typing import Any

cuda_compiled: bool
cuda_archs: str
cuda_left_out: str
compiler: str
source_digest: str

def __getattr__(name: str) -> Callable[..., Any]: ...
