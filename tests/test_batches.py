"""Batches of images in memory: every image once, augmented as stated, normalised as by torchvision."""

from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tas_bench.backbones.backbone import ImageShape
from tas_bench.data import Batches, DatasetInfo, Images, dataset_info, halves
from tas_bench.jobs import DataSpec

CIFAR10 = dataset_info("cifar10")


def numbered(n, info, seed=0):
    """Random images whose label is their number."""
    shape = (n, info.image.channels, info.image.side, info.image.side)
    images = torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))
    return Images(images, torch.arange(n))


def tiny(pad=1, flip=True, channels=3):
    mean, std = (0.5, 0.4, 0.3), (0.2, 0.3, 0.1)
    return DatasetInfo("tiny", 10, ImageShape(channels, 6), mean[:channels], std[:channels], pad, flip)


def pixels_of(x, info):
    """Undo the normalisation: uint8 (B, C, H, W)."""
    mean, std = (torch.tensor(v, dtype=torch.float64).view(-1, 1, 1) for v in (info.mean, info.std))
    exact = (x.double() * std + mean) * 255
    assert (exact - exact.round()).abs().max() < 1e-3
    return exact.round().to(torch.uint8)


def views(image, info):
    """Every crop of the padded image, plain and mirrored, by (top, left, mirrored): the naive oracle."""
    padded = np.pad(image.numpy(), ((0, 0), (info.pad, info.pad), (info.pad, info.pad)))
    side, offsets = info.image.side, range(2 * info.pad + 1)
    crops = {(y, x): padded[:, y : y + side, x : x + side] for y in offsets for x in offsets}
    plain = {(*at, False): crop.tobytes() for at, crop in crops.items()}
    mirrored = {(*at, True): crop[:, :, ::-1].tobytes() for at, crop in crops.items()}
    return plain | mirrored if info.flip else plain


@pytest.mark.parametrize("info", [CIFAR10, tiny(), tiny(pad=0), tiny(flip=False, channels=1)])
def test_augmented_images_are_views_of_their_source(info):
    data, seen = numbered(12, info), []
    batches = Batches(data, info, 5, augment=True, generator=torch.Generator().manual_seed(3))
    for _ in range(4):
        for x, y in batches:
            assert x.dtype == torch.float32
            assert x.is_contiguous(memory_format=torch.channels_last)
            for image, label in zip(pixels_of(x, info), y, strict=True):
                which = {v: k for k, v in views(data.images[label], info).items()}
                seen.append(which[image.numpy().tobytes()])
    assert len(seen) == 48
    assert len(set(seen)) > 1 or info.pad == 0


def test_offsets_and_mirrors_are_uniform_and_per_image():
    info = tiny()
    one = numbered(1, info)
    data = Images(one.images.expand(900, -1, -1, -1), torch.arange(900))
    which = {v: k for k, v in views(one.images[0], info).items()}
    batches = Batches(data, info, 100, augment=True, generator=torch.Generator().manual_seed(0))
    seen = Counter(which[i.numpy().tobytes()] for _ in range(2) for x, _ in batches for i in pixels_of(x, info))
    assert len(seen) == 18
    assert all(abs(n - 100) < 50 for n in seen.values())  # 5 sigma


def test_plain_batches_are_torchvisions_formula():
    data = numbered(23, CIFAR10)
    x, y = (torch.cat(part) for part in zip(*Batches(data, CIFAR10, 10, augment=False), strict=True))
    mean, std = (torch.tensor(v).view(-1, 1, 1) for v in (CIFAR10.mean, CIFAR10.std))
    torch.testing.assert_close(x, (data.images / 255 - mean) / std, atol=1e-6, rtol=1e-6)
    assert torch.equal(y, torch.arange(23))
    first, _ = next(iter(Batches(data, CIFAR10, 10, augment=False)))
    assert first.is_contiguous(memory_format=torch.channels_last)


def test_plain_batches_draw_nothing_and_leave_the_data_alone():
    data, generator = numbered(9, tiny()), torch.Generator().manual_seed(1)
    images, state, everyone = data.images.clone(), generator.get_state(), torch.get_rng_state()
    batches = Batches(data, tiny(), 4, augment=False, generator=generator)
    once, again = ([x for x, _ in batches] for _ in range(2))
    assert all(map(torch.equal, once, again))
    for _ in Batches(data, tiny(), 4, augment=True, generator=torch.Generator().manual_seed(1)):
        pass
    assert torch.equal(data.images, images)
    assert torch.equal(generator.get_state(), state)
    assert torch.equal(torch.get_rng_state(), everyone)


def test_the_generator_decides():
    def passes(seed):
        generator = torch.Generator().manual_seed(seed)
        batches = Batches(numbered(20, CIFAR10), CIFAR10, 6, augment=True, generator=generator)
        return [torch.cat([x for x, _ in batches]) for _ in range(2)]

    one, same, other = passes(1), passes(1), passes(2)
    assert torch.equal(one[0], same[0])
    assert torch.equal(one[1], same[1])
    assert not torch.equal(one[0], other[0])
    assert not torch.equal(one[0], one[1])


@settings(deadline=None)
@given(n=st.integers(1, 30), batch=st.integers(1, 12), augment=st.booleans(), seed=st.integers(0, 99))
def test_every_image_once(n, batch, augment, seed):
    info = tiny()
    generator = torch.Generator().manual_seed(seed)
    batches = Batches(numbered(n, info), info, batch, augment=augment, generator=generator)
    labels = [y.tolist() for _, y in batches]
    assert len(labels) == len(batches)
    assert all(len(y) == batch for y in labels[:-1])
    flat = [label for y in labels for label in y]
    assert sorted(flat) == list(range(n))
    assert augment or flat == list(range(n))


def test_batches_refuse_nonsense():
    with pytest.raises(ValueError, match="at least 1"):
        Batches(numbered(3, tiny()), tiny(), 0, augment=False)
    with pytest.raises(ValueError, match="need a generator"):
        Batches(numbered(3, tiny()), tiny(), 2, augment=True)
    with pytest.raises(ValueError, match="no images to make batches of"):
        Batches(numbered(0, tiny()), tiny(), 2, augment=False)


def test_images_take_and_to():
    data = numbered(5, tiny())
    taken = data.take(torch.tensor([3, 1])).to("cpu")
    assert taken.labels.tolist() == [3, 1]
    assert torch.equal(taken.images, data.images[[3, 1]])
    assert data.take(np.array([0, 0, 4])).labels.tolist() == [0, 0, 4]
    assert len(data) == 5


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_batches_on_a_gpu():
    data = numbered(50, CIFAR10).to("cuda")
    batches = Batches(data, CIFAR10, 16, augment=True, generator=torch.Generator("cuda").manual_seed(0))
    for x, y in batches:
        assert x.is_contiguous(memory_format=torch.channels_last)
        for image, label in zip(pixels_of(x.cpu(), CIFAR10), y.cpu(), strict=True):
            assert image.numpy().tobytes() in views(data.images[label].cpu(), CIFAR10).values()
    plain = torch.cat([x.cpu() for x, _ in Batches(data, CIFAR10, 16, augment=False)])
    on_cpu = torch.cat([x for x, _ in Batches(data.to("cpu"), CIFAR10, 16, augment=False)])
    torch.testing.assert_close(plain, on_cpu, atol=1e-6, rtol=1e-6)
    assert len(halves(data, DataSpec(name="cifar10"))[0]) == 25
