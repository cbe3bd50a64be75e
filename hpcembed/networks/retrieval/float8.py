"""Numbers of one byte with an exponent: the format E4M3 (float8_e4m3fn).

A byte has a sign, 4 bits of exponent (bias 7) and 3 of mantissa. The largest modulus is 448, the
smallest 2**-9; there is no infinity, and the codes 0x7f and 0xff are not a number. Reference: P.
Micikevicius et al., FP8 formats for deep learning, arXiv 2209.05433. Deviation: a larger modulus
than 448 becomes 448.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["LARGEST", "decode_float8", "encode_float8"]

#: Largest modulus of the format.
LARGEST = 448.0

_NAN = 0x7F
_SIGN = 0x80


def _all_values() -> NDArray[np.float32]:
    """Return the values of the 256 codes."""
    codes = np.arange(256)
    exponents, mantissas = (codes >> 3) & 15, codes & 7
    normal = np.ldexp(1 + mantissas / 8, exponents - 7)
    moduli = np.where(exponents > 0, normal, np.ldexp(mantissas / 8, -6))
    moduli[(codes & _NAN) == _NAN] = np.nan
    return np.where(codes < _SIGN, moduli, -moduli).astype(np.float32)


_VALUES = _all_values()
_MODULI = _VALUES[:_NAN].astype(np.float64)
_MIDDLES = (_MODULI[1:] + _MODULI[:-1]) / 2


def encode_float8(numbers: NDArray[Any]) -> NDArray[np.uint8]:
    """Return the codes of the nearest values, of the even code where two are equally near.

    Examples
    --------
    >>> import numpy as np
    >>> decode_float8(encode_float8(np.array([0.3, -1.0, 1000.0]))).tolist()
    [0.3125, -1.0, 448.0]
    """
    numbers = np.asarray(numbers, dtype=np.float64)
    moduli = np.abs(numbers)
    codes = np.searchsorted(_MIDDLES, moduli, side="left")
    ties = (codes < len(_MIDDLES)) & (codes % 2 == 1)
    ties &= moduli == _MIDDLES[np.minimum(codes, len(_MIDDLES) - 1)]
    codes = np.where(np.isnan(numbers), _NAN, codes + ties)
    return (codes | np.where(np.signbit(numbers), _SIGN, 0)).astype(np.uint8)


def decode_float8(codes: NDArray[Any]) -> NDArray[np.float32]:
    """Return the values of codes (uint8), with their shape."""
    return _VALUES[codes]
