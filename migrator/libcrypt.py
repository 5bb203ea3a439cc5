"""crypt(3) of the system's libcrypt: DES, md5-crypt, bcrypt, sha-crypt, yescrypt and whatever else it knows.

Called through ctypes, which lets other threads run meanwhile; the standard library's `crypt` module does not, and is
gone from Python 3.13. Debian, Ubuntu, Fedora and RHEL (from 8) have libxcrypt; where a method is missing the call says
so (Unsupported) and never "wrong password".
"""

from __future__ import annotations

import ctypes
import ctypes.util
import threading
from functools import cache
from typing import Any, Final

_DATA: Final = 32768  # sizeof(struct crypt_data) in libxcrypt; glibc's own is larger and is asked for by crypt_r only
_GLIBC_DATA: Final = 131232 + 4096  # glibc's struct crypt_data, with room to spare
_LONGEST: Final = 511  # bytes: CRYPT_MAX_PASSPHRASE_SIZE with its end
_NAMES: Final = ("libcrypt.so.2", "libcrypt.so.1")  # libxcrypt without and with glibc's old interface

_workspace = threading.local()


class Unsupported(Exception):
    """This system's libcrypt cannot compute it. The text is one clean line."""


class MethodMissing(Unsupported):
    """This system's libcrypt has no such method, or refuses what stands in the hash; another may know better."""


@cache
def _function() -> Any:
    """crypt_r of libcrypt, which both libraries have. Unsupported where there is none."""
    for name in (*_NAMES, ctypes.util.find_library("crypt")):  # None is the C library itself: musl has it there
        try:
            function = ctypes.CDLL(name).crypt_r
        except (OSError, AttributeError):
            continue
        function.restype = ctypes.c_char_p
        function.argtypes = [ctypes.c_char_p, ctypes.c_char_p, ctypes.c_void_p]
        return function
    raise MethodMissing("this system has no libcrypt (Debian: libcrypt1)")


def crypt(password: bytes, setting: str) -> str:
    """The hash of `password` under `setting` (a whole hash will do). Other threads run meanwhile.

    Unsupported for a method or parameter that the library refuses, and for passwords that it would cut or refuse.
    """
    if b"\0" in password or len(password) > _LONGEST:
        raise Unsupported("a password with a zero byte or of more than 511 bytes")
    function = _function()
    data = getattr(_workspace, "data", None)
    if data is None:
        data = _workspace.data = ctypes.create_string_buffer(max(_DATA, _GLIBC_DATA))
    try:
        result: bytes | None = function(password, setting.encode("ascii"), data)
    finally:
        ctypes.memset(data, 0, len(data))  # the library keeps traces of the password there
    if not result or result.startswith(b"*"):
        raise MethodMissing("this system's libcrypt does not know the method or its parameters")
    return result.decode("ascii")
