"""Numbers of one byte with an exponent, compared with torch.float8_e4m3fn."""

import numpy as np
import pytest
import torch

from hpcembed.networks.retrieval import fit_reduction, nearest, recall
from hpcembed.networks.retrieval.float8 import LARGEST, decode_float8, encode_float8
from hpcembed.runtime.errors import ConfigError, InputError


def torch_codes(numbers):
    return torch.from_numpy(numbers).to(torch.float8_e4m3fn).view(torch.uint8).numpy()


def test_the_256_values_are_those_of_torch():
    codes = np.arange(256, dtype=np.uint8)
    values = torch.from_numpy(codes).view(torch.float8_e4m3fn).float().numpy()
    np.testing.assert_array_equal(decode_float8(codes), values)
    assert np.nanmax(decode_float8(codes)) == LARGEST


def test_numbers_are_rounded_as_by_torch():
    rng = np.random.default_rng(0)
    numbers = (rng.standard_normal(20_000) * 2.0 ** rng.integers(-12, 7, 20_000)).astype(np.float32)
    numbers = numbers[np.abs(numbers) <= LARGEST]
    np.testing.assert_array_equal(encode_float8(numbers), torch_codes(numbers))


def test_ties_go_to_the_even_code():
    values = decode_float8(np.arange(127, dtype=np.uint8))
    middles = (values[1:] + values[:-1]) / 2
    codes = encode_float8(middles)
    assert (codes % 2 == 0).all()
    np.testing.assert_array_equal(codes, torch_codes(middles))
    np.testing.assert_array_equal(encode_float8(-middles), torch_codes(-middles))


def test_codes_are_kept_and_large_numbers_become_the_largest():
    codes = np.arange(256, dtype=np.uint8)
    np.testing.assert_array_equal(encode_float8(decode_float8(codes)) & 0x7F, codes & 0x7F)
    finite = codes[(codes & 0x7F) != 0x7F]
    np.testing.assert_array_equal(encode_float8(decode_float8(finite)), finite)
    np.testing.assert_array_equal(
        decode_float8(encode_float8(np.array([1e9, -np.inf]))), [LARGEST, -LARGEST]
    )


def test_a_reduction_stores_float8_within_the_precision_of_its_mantissa():
    rows = np.random.default_rng(1).standard_normal((400, 24)) * 0.9 ** np.arange(24)
    reduction = fit_reduction(rows, 16)
    codes = reduction.codes(rows, "float8")
    assert codes.dtype == np.uint8
    z, decoded = reduction.transform(rows), reduction.decode(codes)
    smallest = reduction.steps * 127 / LARGEST * 2.0**-10
    assert (np.abs(decoded - z) <= np.maximum(np.abs(z) / 16, smallest) * (1 + 1e-5)).all()
    np.testing.assert_allclose(np.abs(decoded).max(axis=0), np.abs(z).max(axis=0), rtol=1e-5)
    assert recall(nearest(z, z[:50], 10), nearest(decoded, z[:50], 10)) > 0.85


def test_bad_codes_and_rows_are_refused():
    rows = np.random.default_rng(1).standard_normal((60, 8))
    reduction = fit_reduction(rows, 4)
    with pytest.raises(ConfigError, match="storage = 'float4' is not one of int8, float8"):
        reduction.codes(rows, "float4")
    with pytest.raises(InputError, match="codes of type int64"):
        reduction.decode(np.zeros((2, 4), np.int64))
    rows[3, 2] = np.nan
    for storage in ("int8", "float8"):
        with pytest.raises(InputError, match=r"embedding 3 \(counted from 0\) is not finite"):
            reduction.codes(rows, storage)
