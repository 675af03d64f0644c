"""Epsilon of everything that was released about a patient, rounded conservatively.

The vocabulary first: an `Event` is a frozen value that knows nothing. Composition is the
concatenation of events; the order does not matter, so equal events merge wherever they stand.

Gaussian events are composed as privacy loss distributions, discretised conservatively
(dp-accounting: Doroshenko et al. 2022, "connect the dots"). Skellam events enter twice, and the
smaller of the two bounds is reported, as both hold:

1. As Gaussian events. Skellam noise of variance mu is close to N(0, mu - 1/12) rounded to integers,
   which on an integer sum is post-processing of the Gaussian mechanism: their Kullback-Leibler
   divergence is below KAPPA / mu^2 a coordinate (it tends to 1/48 / mu^2 from below). By the chain
   rule and data processing T releases of d coordinates differ from their Gaussian counterparts by
   T d KAPPA / mu^2, hence (Pinsker) in total variation by t = sqrt(T d KAPPA / (2 mu^2)). If the
   counterpart is (eps, delta')-private, the real thing is (eps, delta' + (1 + e^eps) t)-private.
2. By Renyi divergences (`renyi`).

A patient at k sites is drawn at each of them apart. Of one noised sum this is a mixture: with the
probabilities of Binomial(k, q) the sum moves by 0, C, ..., k C at most, in whatever directions; no
direction is worse than one and the same (Choquette-Choo, Ganesh, Steinke and Thakurta 2024, lemma
4.5: a mixture of Gaussians is dominated by that of the shifts' norms in one dimension). For Renyi
divergences the noise is cut into k parts, one for each of his sites (`_divergences`).

Releases with discrete Laplace noise are pure: their epsilons add up, and beside other events they
are composed as randomised response of the same epsilon.

The floating-point error of the sampler is charged as well, whichever way costs less: like t (small
eps), or as a factor e^(n h) between real and ideal probabilities, h the relative error of each of n
draws, so that (eps, delta) becomes (eps + 2 n h, delta e^(n h)) (large eps).
"""

from __future__ import annotations

import math
import struct
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from itertools import pairwise
from typing import Any, assert_never

import numpy as np

from protocol.errors import Code, WardroundError
from protocol.privacy import discrete_laplace, privacy_losses, renyi
from protocol.privacy.composition_cache import (
    TOGETHER,
    Kept,
    RecentlyUsed,
    blocks,
    halves,
    key_of,
)
from protocol.privacy.discrete_laplace import LONGEST
from protocol.privacy.events import MAX_EPSILON, MIN_VARIANCE, Event, require, share_alone
from protocol.privacy.randomness import Floats
from protocol.privacy.skellam import DIVERGENCE, RELATIVE_ERROR
from protocol.secagg.fixed_point import MAX_SCALE, Rounding, rounding_moves

__all__ = [
    "Event",
    "broken_epsilon",
    "calibrate",
    "deltas",
    "epsilon",
    "epsilon_over_bands",
    "recommended_scale",
]

KAPPA = 0.03
MAX_SITES = 1000
MAX_MULTIPLIER = 1e6
_NARROW, _HAIR = 1.0002, 1.00009
"""How near a calibration's bracket closes, and how far beside its aim it looks."""
_CELLS = 1500.0
_RECENT = RecentlyUsed()
_NUMBER = struct.Struct("<d")
_MAX_COVERS = 16
"""Combinations of bands by different names that are told apart."""
_TYPICAL_DELTA = 1e-5
_HARDLY = 1e-6
"""Of delta: what is not worth composing a second time."""
_RENYI_ONLY = 100.0
"""Above this epsilon nobody needs a tight bound, and its distribution would be huge."""
_MAX_COMPOSED = 500_000
"""Releases of one kind: from 2,000,000 on a composition takes minutes, and a hostile study may ask
for 20,000,000,000. Beyond, the Renyi bound stands, which takes no longer for more of them."""


def epsilon(events: Iterable[Event], delta: float) -> float:
    """Of the composition of all events at delta, whatever their bands. 0 of none; may be inf.

    Raises WardroundError(CONFIGURATION) for a delta outside (0, 1).
    """
    require(0 < delta < 1, "delta must be above 0 and below 1")
    return _composed(_merged(events), delta, _RECENT)


def epsilon_over_bands(events: Sequence[Event], delta: float, kept: Kept = _RECENT) -> float:
    """The largest epsilon of any patient: composed within, in parallel across bands of u, as far
    as one patient has one name (`_covers`).

    Distributions are composed only for bands whose Renyi bound exceeds what was found before.
    kept: where compositions are looked up and put.
    """
    require(0 < delta < 1, "delta must be above 0 and below 1")
    key = key_of("epsilon", events, delta)
    if (known := kept.get(key)) is not None:
        return float(_NUMBER.unpack(known)[0])
    # What one block holds is quickly composed: only its epsilon is worth keeping.
    where = {cover: kept if len(cover) > TOGETHER else _RECENT for cover in _covers(events)}
    bounds = {cover: _renyi_bound(cover, delta, at)[0] for cover, at in where.items()}
    largest = 0.0
    for cover in sorted(bounds, key=bounds.__getitem__, reverse=True):
        if bounds[cover] <= largest:
            break
        largest = max(largest, _composed(cover, delta, where[cover]))
    kept.put(key, _NUMBER.pack(largest))
    return largest


def keys_in_use(events: Sequence[Event], delta: float) -> set[bytes]:
    """All that `epsilon_over_bands` may look up for these events, or for one more."""
    return {key_of("epsilon", events, delta)} | {
        key
        for cover in _covers(events)
        for block in blocks(cover)
        for key in (key_of("divergences", block), key_of("losses", block, delta))
    }


def _covers(events: Sequence[Event]) -> set[tuple[Event, ...]]:
    """What a patient may be in: of each kind of names the events of one cell between two edges of
    bands, and all events that go by no certain names. How the cells of different names go together
    is not known, so every combination counts; where there would be too many, names count as
    uncertain."""
    by_names: dict[str, list[Event]] = defaultdict(list)
    for event in events:
        by_names[event.names].append(event)
    covers: set[tuple[Event, ...]] = {_merged(by_names.pop("", []))}
    for _, group in sorted(by_names.items()):
        edges = sorted({edge for event in group for edge in event.band})
        cells = {
            _merged(event for event in group if event.band[0] <= low and high <= event.band[1])
            for low, high in pairwise(edges)
        }
        if len(covers) * len(cells) > _MAX_COVERS:
            cells = {_merged(group)}
        covers = {_merged((*cover, *cell)) for cover in covers for cell in cells}
    return covers - {()}


def deltas(events: Iterable[Event], epsilons: Floats) -> Floats:
    """(n,) epsilons -> (n,) what delta the composition of all events has at each: the privacy
    profile. 1 at every epsilon where there is hardly any noise."""
    merged = _merged(events)
    parts = tuple(_part(event) for event in merged)
    rough = _renyi_bound(merged, _TYPICAL_DELTA, _RECENT)[0] if merged else 0.0
    if not rough <= _RENYI_ONLY:
        return np.ones(len(epsilons))
    apart = math.sqrt(sum(part.gap for part in parts) / 2) + _drawn(parts)
    apart += math.sqrt(_shares(parts) * DIVERGENCE / 2)
    total = (1 + np.exp(epsilons)) * apart
    if parts:
        losses = _all_losses(merged, _TYPICAL_DELTA, _RECENT)
        total += losses.get_delta_for_epsilon(list(epsilons))
    return np.asarray(np.minimum(1.0, total))


def broken_epsilon(
    events: Sequence[Event], delta: float, *, sites: int, colluding_sites: int
) -> float:
    """Epsilon if secure aggregation did not hold and a site's answers were seen one by one.

    Then only the site's own share protects, of variance mu / (|U| - x), least when all take part.
    """
    require(0 <= colluding_sites < sites, "colluding_sites must be below the number of sites")
    honest = sites - colluding_sites

    def alone(event: Event) -> Event | None:
        try:
            return share_alone(event, honest)
        except WardroundError:
            return None

    shares = [alone(event) for event in events]
    known = [share for share in shares if share is not None]
    return math.inf if len(known) < len(shares) else epsilon_over_bands(known, delta)


def calibrate(target: float, delta: float, event: Event, others: Sequence[Event] = ()) -> float:
    """The least noise multiplier, to four digits and rounded up, with which `event` and `others`
    together stay at or below epsilon `target` (over bands). That of `event` itself is ignored.

    Raises WardroundError(EPSILON_UNREACHABLE), or (CONFIGURATION) for a target or delta that make
    no sense.
    """
    require(0 < target < math.inf, "epsilon must be above 0")
    least, most = _multipliers(event)

    @cache
    def reached(multiplier: float) -> float:
        noised = replace(event, noise_multiplier=min(most, max(least, multiplier)))
        return epsilon_over_bands([noised, *others], delta)

    if reached(MAX_MULTIPLIER) > target:
        raise WardroundError(
            Code.EPSILON_UNREACHABLE,
            f"No noise brings epsilon down to {target:g} at delta {delta:g}.",
            remedy="Ask for a larger epsilon, fewer rounds or attempts, more noise on evaluation, "
            "or in mode distributed a larger aggregation.scale.",
        )
    low, high, guess = least, MAX_MULTIPLIER, 1.0
    while high > low * _NARROW:
        width = high / low
        for at in (guess, math.sqrt(low * high)):  # a guess that hardly narrows costs one halving
            if low < at < high and high / low > width**0.5:
                low, high = (low, at) if reached(at) <= target else (at, high)
        guess = _aimed(low, high, reached, target)
    step = 10.0 ** (math.floor(math.log10(high)) - 3)
    digits = math.ceil(high / step - 1e-9)
    while reached(round(digits * step, 12)) > target:
        digits += 1
    while (digits - 1) * step > low and reached(round((digits - 1) * step, 12)) <= target:
        digits -= 1
    return round(digits * step, 12)


def _aimed(low: float, high: float, reached: Callable[[float], float], target: float) -> float:
    """A multiplier between the two, where a power of it through both epsilons is `target`: a hair
    nearer to the end that is further away, which then most likely closes in."""
    above, below = reached(low), reached(high)
    if math.isinf(above) or below <= 0:
        return high / 2 if math.isinf(above) else low * above / target
    slope = math.log(high / low) / math.log(above / below) if above > below else 0.0
    at = low * math.exp(slope * math.log(above / target))
    return at * _HAIR if high / at > at / low else at / _HAIR


def _multipliers(event: Event) -> tuple[float, float]:
    """The least and the largest noise multiplier that the event may have."""
    match event.mechanism:
        case "gaussian":
            return 1e-3, MAX_MULTIPLIER
        case "skellam":
            least = 1.000001 * math.sqrt(MIN_VARIANCE) / event.scale
            return max(1e-3, least), MAX_MULTIPLIER
        case "laplace":
            return event.sites_per_patient / MAX_EPSILON, LONGEST / event.scale
    assert_never(event.mechanism)


def recommended_scale(
    dimension: int,
    *,
    rounding: Rounding = "patient",
    epsilon: float = 1.0,
    delta: float = 1e-5,
    attempts: int = 1000,
    noise_multiplier: float = 1.0,
) -> int:
    """S for the clip norm, a power of two: Skellam noise then costs below 1% more than Gaussian.

    Large against rounding (sqrt(d)/2 or sqrt(d), at most 1/512), and so large that what is taken
    from delta for the gap to the Gaussian, (1 + e^epsilon) t, is at most a twentieth of it.
    """
    moved = 512 * rounding_moves(rounding, dimension)
    gap = math.sqrt(attempts * dimension * KAPPA / 2) / noise_multiplier**2
    close = math.sqrt((1 + math.exp(min(epsilon, 50.0))) * gap / (0.05 * delta))
    return int(min(MAX_SCALE, max(2**16, 2 ** math.ceil(math.log2(max(moved, close))))))


def _merged(events: Iterable[Event]) -> tuple[Event, ...]:
    """Equal events as one, whatever their bands, in an order of their own."""
    counts: dict[Event, int] = defaultdict(int)
    for event in events:
        counts[_kind(event)] += event.count
    merged = [replace(event, count=count) for event, count in counts.items() if count]
    return tuple(sorted(merged, key=repr))


@lru_cache(maxsize=16384)
def _kind(event: Event) -> Event:
    """One such event, whatever its band and names."""
    return replace(event, count=1, band=(0.0, 1.0), names="", shared=True)


def _renyi_bound(events: tuple[Event, ...], delta: float, kept: Kept) -> tuple[float, float]:
    """Epsilon by Renyi divergences (inf where there is none), and what the sampler's relative
    errors take: epsilon grows by 2 * factor, delta shrinks by exp(-factor)."""
    divergences = _all_divergences(events, kept)
    parts = [_part(event) for event in events]
    factor = 2 * _shares(parts) * RELATIVE_ERROR
    left, drawn = delta * math.exp(-factor), _drawn(parts)
    bound = _private(lambda of: renyi.epsilon(divergences, of), left, drawn) + 2 * factor
    if all(part.pure for part in parts):
        pure = sum(part.count * part.parameter for part in parts)
        if pure < _RENYI_ONLY and (1 + math.exp(pure)) * drawn <= delta:
            bound = min(bound, pure)
    return bound, factor


def _shares(parts: Iterable[_Part]) -> int:
    """Skellam variables drawn, at most, by all sites together."""
    return sum(part.skellam for part in parts)


def _drawn(parts: Iterable[_Part]) -> float:
    """Total variation distance of all discrete Laplace noise, as it is drawn, from what it is."""
    return discrete_laplace.ERROR * sum(part.laplace for part in parts)


def _composed(events: tuple[Event, ...], delta: float, kept: Kept) -> float:
    """Events are merged, and of one band."""
    if not events:
        return 0.0
    rough, factor = _renyi_bound(events, delta, kept)
    if not rough <= _RENYI_ONLY or any(event.count > _MAX_COMPOSED for event in events):
        return rough
    parts = tuple(_part(event) for event in events)
    shares, gap = _shares(parts), sum(part.gap for part in parts)
    found = privacy_losses.epsilon_of(_all_losses(events, delta, kept))
    apart, drawn = math.sqrt(gap / 2) + _drawn(parts), math.sqrt(shares * DIVERGENCE / 2)
    near = _private(found, delta, drawn + apart, rough)
    if (1 + math.exp(rough)) * drawn <= _HARDLY * delta:
        return min(rough, near)
    far = _private(found, delta * math.exp(-factor), apart, rough) + 2 * factor
    return min(rough, near, far)


def _interval(rough: float) -> float:
    """Between the losses of a distribution whose epsilon is about `rough`."""
    return 2.0 ** math.floor(math.log2(max(rough, 1e-2) / _CELLS))


def _private(
    epsilon_at: Callable[[float], float], delta: float, distance: float, most: float = math.inf
) -> float:
    """The least eps with eps >= epsilon_at(delta - (1 + e^eps) distance); inf if there is none.

    Where the distance takes hardly anything off delta for an eps of `most`, what is left at `most`
    is used for any smaller one: one look is enough.
    """
    if most < 700 and (taken := (1 + math.exp(most)) * distance) <= _HARDLY * delta:
        return float(epsilon_at(delta - taken))
    value = 0.0
    while value < 700:
        left = delta - (1 + math.exp(value)) * distance
        if left <= 0:
            return math.inf
        found = float(epsilon_at(left))
        if found <= value or distance == 0:
            return max(found, value)
        value = found * (1 + 1e-7)
    return math.inf


@lru_cache(maxsize=4096)
def _divergences(event: Event) -> renyi.Floats:
    """Of one release. Gaussian and Skellam noise can be cut into k independent parts of a k-th of
    its variance; the sum is then made from k sums, each of one of the patient's sites with one
    part, which sample him apart: so k times their divergence bounds the sum's."""
    sites = event.sites_per_patient
    match event.mechanism:
        case "gaussian":
            bound = renyi.gaussian(event.noise_multiplier / math.sqrt(sites))
        case "laplace":
            return renyi.subsampled(renyi.pure(event.epsilon), 1.0)
        case "skellam":
            bound = renyi.skellam(event.sensitivity, event.variance / sites)
        case never:
            assert_never(never)
    return sites * renyi.subsampled(bound, event.sampling_rate)


def _all_divergences(events: tuple[Event, ...], kept: Kept) -> renyi.Floats:
    """(len(ORDERS),) of all of them."""
    key = key_of("divergences", events)
    known = kept.get(key)
    if known is None:
        with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
            if len(events) <= TOGETHER:
                alone = (event.count * _divergences(_kind(event)) for event in events)
            else:
                alone = (_all_divergences(half, kept) for half in halves(events))
            known = np.asarray(sum(alone), dtype="<f8").tobytes()
        kept.put(key, known)
    return np.frombuffer(known, dtype="<f8")


def _all_losses(events: tuple[Event, ...], delta: float, kept: Kept) -> Any:
    """The composed privacy loss distribution of a node of the tree, on a grid as fine as its own
    Renyi bound at `delta` is small."""
    key = key_of("losses", events, delta)
    if (known := kept.get(key)) is not None:
        return privacy_losses.decode(known)
    rough, _ = _renyi_bound(events, delta, kept)
    interval = _interval(rough)
    if len(events) <= TOGETHER:
        losses = privacy_losses.dense(_losses(tuple(_part(event) for event in events), interval))
    else:
        one, other = (
            privacy_losses.coarser(_all_losses(half, delta, kept), interval)
            for half in halves(events)
        )
        losses = one.compose(other)
    kept.put(key, privacy_losses.encode(losses))
    return losses


@dataclass(frozen=True)
class _Part:
    """What `count` releases of an event are in a composition.

    parameter: where they are pure, the epsilon of one; otherwise the noise multiplier of its
    Gaussian counterpart, from which all are `gap` away (Kullback-Leibler), for a patient at one
    site. sites: at how many he may be drawn. skellam, laplace: variables that all sites together
    draw for them, at most.
    """

    pure: bool
    parameter: float
    sampling_rate: float
    count: int
    sites: int = 1
    gap: float = 0.0
    skellam: int = 0
    laplace: int = 0


def _part(event: Event) -> _Part:
    sampling_rate, count, cells = event.sampling_rate, event.count, event.count * event.dimension
    match event.mechanism:
        case "gaussian":
            sites = event.sites_per_patient
            return _Part(False, event.noise_multiplier, sampling_rate, count, sites)
        case "skellam":
            multiplier = math.sqrt(event.variance - 1 / 12) / event.sensitivity.l2
            gap, sites = cells * KAPPA / event.variance**2, event.sites_per_patient
            draws = cells * MAX_SITES
            return _Part(False, multiplier, sampling_rate, count, sites, gap, skellam=draws)
        case "laplace":
            draws = 2 * cells * MAX_SITES
            return _Part(True, event.epsilon, sampling_rate, count, laplace=draws)
    assert_never(event.mechanism)


def _losses(parts: tuple[_Part, ...], interval: float) -> Any:
    """The composed privacy loss distribution."""
    total = None
    for part in parts:
        one = _loss(part.pure, part.parameter, part.sampling_rate, part.sites, interval)
        several = one.self_compose(part.count) if part.count > 1 else one
        total = several if total is None else total.compose(several)
    return total


@lru_cache(maxsize=256)
def _loss(pure: bool, parameter: float, sampling_rate: float, sites: int, interval: float) -> Any:
    """Pure: that of randomised response, of which every mechanism of this epsilon is a
    post-processing (Kairouz, Oh and Viswanath 2015, theorem 2.5's proof)."""
    from dp_accounting.pld import privacy_loss_distribution  # 1 s: not for whoever never asks

    if pure:
        from dp_accounting.pld.common import DifferentialPrivacyParameters

        return privacy_loss_distribution.from_privacy_parameters(
            DifferentialPrivacyParameters(parameter, 0.0), interval
        )
    if sites > 1 and sampling_rate < 1:
        from scipy.stats import binom

        drawn = np.arange(sites + 1)
        return privacy_loss_distribution.from_mixture_gaussian_mechanism(
            parameter,
            drawn.astype(np.float64).tolist(),
            binom.pmf(drawn, sites, sampling_rate).tolist(),
            value_discretization_interval=interval,
            pessimistic_estimate=True,
        )
    return privacy_loss_distribution.from_gaussian_mechanism(
        parameter / sites,
        value_discretization_interval=interval,
        sampling_prob=sampling_rate,
        pessimistic_estimate=True,
    )
