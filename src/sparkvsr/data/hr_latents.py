"""Pairs whose ground truth was encoded beforehand: its latents are kept, the rest is made anew each time.

What is frozen is where a sample lies in its clip (and one draw of the VAE's posterior); degradation, keyframes and
their augmentation stay as varied as without. The ground truth is half of what the frozen VAE does in stage 1.
"""

from __future__ import annotations

from torch.utils.data import Dataset

from sparkvsr.data.datasets import PairedClips
from sparkvsr.data.precomputed import PrecomputedPairs
from sparkvsr.data.sample_files import SampleSource
from sparkvsr.data.sampler import clip_index
from sparkvsr.data.samples import SampleRequest, TrainSample
from sparkvsr.errors import DatasetError

HR_LATENTS = "hr_latents"


class PairsWithTargets(Dataset[TrainSample]):
    """Training pairs with kept latents of their ground truth.

    Args:
        pairs: make the rest.
        source: of the latents, by ``PrecomputedPairs.name``.
        num_samples: so many crops.
        seed: of the run; decides their order.

    Raises:
        DatasetError: ``num_samples`` is below 1.
    """

    def __init__(self, pairs: PairedClips, source: SampleSource, num_samples: int, *, seed: int) -> None:
        if num_samples < 1:
            msg = f"data.precompute.num_samples={num_samples} must be at least 1"
            raise DatasetError(msg)
        self._pairs, self._source, self._num_samples, self._seed = pairs, source, num_samples, seed
        self.made_on = pairs.made_on

    def __len__(self) -> int:
        """Crops."""
        return self._num_samples

    def __getitem__(self, request: SampleRequest) -> TrainSample:
        """Make a pair and add the latents of its ground truth.

        Raises:
            DatasetError: they are missing or damaged.
        """
        place = clip_index(self._seed, request.number, self._num_samples)
        sample = self._pairs.at(place, request)
        latents = self._source.read(PrecomputedPairs.name(place, is_image=request.is_image))[HR_LATENTS]
        sample.extras[HR_LATENTS] = latents.float()
        return sample
