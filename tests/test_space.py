"""Spaces: candidates as published (paper 4.1, released code), coding, uniform draws; size files."""

import json
from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from tas_bench.backbones import find_backbone
from tas_bench.backbones.cifar_resnet import RESNET32, RESNET164
from tas_bench.backbones.tiny import TINY
from tas_bench.errors import InputError
from tas_bench.space import Size, SizeSpace, read_size

SMALL = SizeSpace(widths=((1, 2), (3, 4, 5)), depths=((1, 3),))

WIDTHS = {
    16: (4, 6, 8, 9, 11, 12, 14, 16),
    32: (9, 12, 16, 19, 22, 25, 28, 32),
    64: (19, 25, 32, 38, 44, 51, 57, 64),
    128: (38, 51, 64, 76, 89, 102, 115, 128),
    256: (76, 102, 128, 153, 179, 204, 230, 256),
}
DEPTHS = {
    "resnet20": (1, 2, 3),
    "resnet32": (1, 3, 5),
    "resnet56": (1, 3, 5, 7, 9),
    "resnet110": (1, 3, 5, 7, 9, 11, 13, 15, 17, 18),
    "resnet164": (1, 3, 5, 7, 9, 11, 13, 15, 17, 18),
}


@pytest.mark.parametrize("backbone", [RESNET32, RESNET164], ids=lambda b: b.name)
def test_width_candidates_are_the_published_ones(backbone):
    rows = dict(zip(backbone.full.widths, backbone.space().widths, strict=True))
    assert rows == {width: WIDTHS[width] for width in rows}


@pytest.mark.parametrize("name", DEPTHS)
def test_depth_candidates_are_the_published_ones(name):
    assert find_backbone(name).space().depths == (DEPTHS[name],) * 3


def test_width_only_and_depth_only_searches_have_one_candidate_elsewhere():
    both, widths, depths = (RESNET32.space(search) for search in ("WD", "W", "D"))
    assert (widths.widths, widths.depths) == (both.widths, ((5,), (5,), (5,)))
    assert (depths.widths, depths.depths) == (tuple((w,) for w in RESNET32.full.widths), both.depths)


def test_cardinality():
    assert SMALL.cardinality == 12
    assert RESNET32.space().cardinality == 8**31 * 3**3
    assert RESNET32.space("D").cardinality == 3**3


def test_enumerate_gives_every_size_once():
    sizes = list(SMALL.enumerate())
    assert len(sizes) == len(set(sizes)) == SMALL.cardinality
    assert all(size in SMALL for size in sizes)
    assert {s.widths for s in sizes} == {(a, b) for a in (1, 2) for b in (3, 4, 5)}


def test_membership():
    assert SMALL.full == Size((2, 5), (3,))
    assert SMALL.full in SMALL
    for outsider in (Size((3, 5), (3,)), Size((2, 5), (2,)), Size((2,), (3,)), Size((2, 5), (3, 3))):
        assert outsider not in SMALL


@given(st.data())
@pytest.mark.parametrize("space", [SMALL, RESNET32.space(), RESNET32.space("D")], ids=["small", "WD", "D"])
def test_encode_undoes_decode(space, data):
    indices = [data.draw(st.integers(0, len(row) - 1)) for row in space.rows]
    size = space.size(indices)
    assert size in space
    assert space.indices(size).tolist() == indices
    widths, depths = space.values(np.array([indices, indices]))
    assert tuple(widths[1]) == size.widths
    assert tuple(depths[1]) == size.depths


def test_draws_are_uniform():
    rng, sizes = np.random.default_rng(0), list(SMALL.enumerate())
    drawn = [SMALL.size(indices) for indices in SMALL.sample_indices(rng, 12_000)]
    counts = [drawn.count(size) for size in sizes]
    assert sum(counts) == 12_000
    assert stats.chisquare(counts).pvalue > 1e-3


def test_one_draw_is_a_size_of_the_space_and_repeats_with_its_seed():
    space = RESNET32.space()
    draws = [space.sample(np.random.default_rng(seed)) for seed in (1, 1, 2)]
    assert draws[0] in space
    assert draws[0] == draws[1] != draws[2]


def test_size_file_is_read_back(tmp_path):
    size = Size((16, 4), (1,))
    path = tmp_path / "size.json"
    path.write_text(json.dumps(asdict(size)))
    assert read_size(path) == size


BAD_FILES = {
    "empty": ("", "not JSON"),
    "not JSON": ("{widths: [1]}", "not JSON"),
    "cut off": ('{"widths": [1', "not JSON"),
    "not UTF-8": (b"\xff\xfe\x00", "not JSON"),
    "nested deep": ("[" * 100_000, "not JSON"),
    "nested deep in place": ('{"depths": [1], "widths": [' + "[" * 90 + "]" * 90 + "]}", "widths[0] is [["),
    "huge number": ('{"depths": [1], "widths": [' + "9" * 5000 + "]}", "not JSON"),
    "a list": ("[[16], [1]]", "must hold"),
    "null": ("null", "must hold"),
    "no depths": ('{"widths": [1]}', "must hold"),
    "wrong key": ('{"width": [1], "depths": [1]}', "must hold"),
    "a number": ('{"widths": 16, "depths": [1]}', "'widths' must be a list"),
    "text": ('{"widths": [1], "depths": "1"}', "'depths' must be a list"),
    "an object": ('{"widths": {"0": 1}, "depths": [1]}', "'widths' must be a list"),
    "bool": ('{"widths": [1, true], "depths": [1]}', "widths[1] is True"),
    "float": ('{"widths": [1.0], "depths": [1]}', "widths[0] is 1.0"),
    "NaN": ('{"widths": [NaN], "depths": [1]}', "widths[0] is nan"),
    "null entry": ('{"widths": [null], "depths": [1]}', "widths[0] is None"),
    "zero": ('{"widths": [0], "depths": [1]}', "widths[0] is 0"),
    "negative": ('{"widths": [1], "depths": [1, -3]}', "depths[1] is -3"),
    "line break": ('{"widths": ["1\\n"], "depths": [1]}', "widths[0] is '1\\n'"),
}


@pytest.mark.parametrize(("content", "reason"), BAD_FILES.values(), ids=BAD_FILES)
def test_bad_size_file_is_told_in_one_line(tmp_path, content, reason):
    path = tmp_path / "size.json"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    _refused(path, reason)


def test_missing_size_file_and_directory(tmp_path):
    _refused(tmp_path / "none.json", "No such file")
    _refused(tmp_path, "Is a directory")


def _refused(path, reason):
    with pytest.raises(InputError) as caught:
        read_size(path)
    message = str(caught.value)
    assert str(path) in message
    assert reason in message
    assert len(message.splitlines()) == 1


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 3) | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["widths", "depths"]), inner),
)


@given(found=json_values | st.fixed_dictionaries({"widths": json_values, "depths": json_values}))
def test_any_json_is_a_size_or_one_line(tmp_path_factory, found):
    path = tmp_path_factory.getbasetemp() / "any.json"
    path.write_text(json.dumps(found))
    try:
        size = read_size(path)
    except InputError as error:
        assert len(str(error).splitlines()) == 1  # noqa: PT017
    else:
        assert all(type(n) is int and n > 0 for n in size.widths + size.depths)
        assert {key: list(value) for key, value in asdict(size).items()} == {
            key: found[key] for key in ("widths", "depths")
        }


def test_a_size_with_its_parts_mixed_up_is_not_in_the_space():
    space = TINY.space()
    full = space.full
    assert full in space
    assert Size((*full.widths, full.depths[0]), full.depths[1:]) not in space
