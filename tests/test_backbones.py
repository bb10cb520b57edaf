"""Every backbone keeps the contract, and a new file is all a new backbone takes."""

import dataclasses

import pytest

from tas_bench.backbones import all_backbones, find_backbone
from tas_bench.backbones.backbone import Backbone, Conv, ImageShape
from tas_bench.backbones.cifar_resnet import RESNET20, RESNET164
from tas_bench.backbones.imagenet_resnet import RESNET18, RESNET34, RESNET50
from tas_bench.backbones.tiny import TINY
from tas_bench.costs.macs import MACS
from tas_bench.costs.macs_search import MACS_SEARCH
from tas_bench.costs.params import PARAMS
from tas_bench.discover import instances
from tas_bench.errors import InputError
from tas_bench.space import Size
from tas_bench.testing import check_backbone, check_names


def every_backbone():
    """`make test-slow` has the deepest."""
    for name, backbone in all_backbones().items():
        yield pytest.param(backbone, id=name, marks=[pytest.mark.slow] * (len(backbone.convs) > 50))


@pytest.mark.parametrize("backbone", list(every_backbone()))
def test_contract(backbone):
    check_backbone(backbone)


@pytest.mark.parametrize("backbone", [TINY, RESNET18], ids=lambda b: b.name)
def test_contract_on_digits(backbone):
    check_backbone(backbone, ImageShape(1, 8), classes=3)


def test_contract_on_odd_sides():
    check_backbone(RESNET50, ImageShape(3, 67))


class NoMismatchShortcuts(Backbone):
    def layers(self, classes, image=None):
        return tuple(la for la in super().layers(classes, image) if not la.repairs_mismatch)


class NormedShortcuts(Backbone):
    def layers(self, classes, image=None):
        layers = super().layers(classes, image)
        return tuple(dataclasses.replace(la, norm=not la.bias) for la in layers)


class NoCheck(Backbone):
    def check(self, size):
        pass


class HalfCandidates(Backbone):
    def space(self, search="WD", ratios=(0.5, 1.0)):
        return super().space(search, ratios)


class ForgetfulCanonical(Backbone):
    def canonical(self, size):
        return Size(size.widths, self.full.depths)


@pytest.mark.parametrize(
    "broken", [NoMismatchShortcuts, NormedShortcuts, NoCheck, HalfCandidates, ForgetfulCanonical]
)
def test_contract_refuses_a_broken_backbone(broken):
    fields = {f.name: getattr(RESNET20, f.name) for f in dataclasses.fields(RESNET20)}
    with pytest.raises(AssertionError):
        check_backbone(broken(**fields))


def test_no_two_backbones_share_a_name():
    check_names("tas_bench.backbones", Backbone)


def test_a_new_file_is_found_by_itself(tmp_path, monkeypatch):
    package = tmp_path / "plugins"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "nets.py").write_text(
        "from dataclasses import replace\n"
        "from tas_bench.backbones.tiny import TINY\n"
        "MINE = replace(TINY, name='mine')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    assert instances("plugins", Backbone).keys() == {"mine", "tiny"}
    check_names("plugins", Backbone)
    (package / "more.py").write_text((package / "nets.py").read_text().replace("name=", "stem_width=4, name="))
    with pytest.raises(AssertionError, match="two Backbones are called 'mine'"):
        check_names("plugins", Backbone)


def test_finding_by_name():
    assert find_backbone("resnet20") is RESNET20
    with pytest.raises(InputError, match="unknown backbone 'ResNet-20'; did you mean 'resnet20'"):
        find_backbone("ResNet-20")


def test_depth_in_the_name_is_the_number_of_weighted_layers():
    found = {b.name: len(b.convs) + 1 for b in all_backbones().values() if b.name.startswith("resnet")}
    assert found == {name: int(name.removeprefix("resnet")) for name in found}
    assert len(found) == 9


def test_convolutions_of_a_bottleneck():
    """Stem, then 1 x 1, 3 x 3 with the stride, 1 x 1 to four times the width."""
    first = RESNET164.conv_index(1, 0, 0)
    assert RESNET164.convs[0] == Conv(16, 3, 1, None, 0)
    assert RESNET164.convs[first : first + 3] == (
        Conv(32, 1, 1, 1, 0),
        Conv(32, 3, 2, 1, 0),
        Conv(128, 1, 1, 1, 0),
    )
    assert RESNET164.conv_index(1, 0) == first + 2


@pytest.mark.parametrize(
    ("backbone", "macs", "params"),
    [
        (RESNET18, 1_814_074_344, 11_689_512),
        (RESNET34, 3_663_762_408, 21_797_672),
        (RESNET50, 4_089_185_256, 25_557_032),
    ],
    ids=lambda x: getattr(x, "name", None),
)
def test_unpruned_imagenet_resnets(backbone, macs, params):
    """Macs of ResNet-18 and 50 as published; parameters: torchvision's, whose shortcuts weigh the same."""
    layers = backbone.layers(1000)
    assert MACS.of(layers, backbone.full) == macs
    assert MACS_SEARCH.of(layers, backbone.full) == macs - 1000
    assert PARAMS.of(layers, backbone.full) == params


# fmt: off
PUBLISHED_R50 = Size(  # configs/NeurIPS-2019/ImageNet-ResNet50V1.config of the released code
    (45, 45, 30, 102, 33, 60, 154, 68, 70, 180, 38, 38, 307, 38, 38, 410, 64, 128, 358, 38, 51, 256, 76, 76, 512,
     76, 76, 512, 179, 256, 614, 100, 102, 307, 179, 230, 614, 204, 102, 307, 153, 153, 1228, 512, 512, 1434,
     512, 512, 1844),
    (3, 4, 5, 3),
)
# fmt: on


def test_published_resnet50():
    """Its macs by both rules, though it lies outside the space."""
    layers = RESNET50.layers(1000)
    assert MACS_SEARCH.of(layers, PUBLISHED_R50) == 2_281_569_049
    assert MACS.of(layers, PUBLISHED_R50) == 2_309_249_169
    assert PUBLISHED_R50 not in RESNET50.space()


def test_depths_of_imagenet_resnets():
    """int(blocks x j / fewest blocks), as the released code lists them."""
    assert RESNET18.space().depths == ((1, 2),) * 4
    assert RESNET34.space().depths == RESNET50.space().depths == ((1, 2, 3), (1, 2, 4), (2, 4, 6), (1, 2, 3))


def test_stem_of_imagenet_resnets_is_strided_and_pooled():
    stem, first = RESNET50.layers(1000)[:2]
    assert RESNET50.convs[0] == Conv(64, 7, 2, None, 0)
    assert (stem.positions, first.positions) == (112**2, 56**2)
    assert RESNET50.layers(1000) == RESNET50.layers(1000, ImageShape(3, 224))


def test_canonical_resets_dropped_blocks_only():
    size = Size((3,) * 9, (1, 2))
    assert TINY.canonical(size) == Size((3, 3, 3, 8, 8, 3, 3, 3, 3), (1, 2))


def test_absurd_widths_are_refused():
    widths = (10**20, *TINY.full.widths[1:])
    with pytest.raises(InputError, match="width 0"):
        TINY.check(Size(widths, TINY.full.depths))
