"""Whoever the one liar is and whatever it does, nobody else is named; a constant one soon is."""

from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.model.suspects import Suspects

FIVE = frozenset("abcde")
LEAST = 3


def lost(*attempts: str) -> Suspects:
    suspects = Suspects()
    for attempt in attempts:
        suspects = suspects.lose(frozenset(attempt))
    return suspects


def search(sites: frozenset[str], least: int, liar: str, attempts: int = 100) -> tuple[int, int]:
    """A liar that always lies: (losses, subsets that opened) until it is named."""
    suspects, losses, opened = Suspects(), 0, 0
    for _ in range(attempts):
        if suspects.left_out:
            assert suspects.left_out == {liar}
            return losses, opened
        asked = suspects.ask(sites, least)
        assert least <= len(asked)
        if liar in asked:
            suspects, losses = suspects.lose(asked), losses + 1
        else:
            suspects, opened = suspects.open(asked), opened + 1
    raise AssertionError("not named")


@pytest.mark.parametrize("liar", sorted(FIVE))
def test_one_of_five_is_named_within_four_losses(liar: str) -> None:
    assert search(FIVE, LEAST, liar)[0] <= 4


@pytest.mark.parametrize("sites", [4, 6, 9, 27, 50])
def test_a_constant_liar_among_more_is_named_after_few_losses(sites: int) -> None:
    names = frozenset(f"site{k:02}" for k in range(sites))
    found = [search(names, LEAST, liar) for liar in names]
    assert max(losses for losses, _ in found) <= 6
    assert max(opened for _, opened in found) <= 9


@given(
    st.integers(4, 9).flatmap(
        lambda n: st.tuples(st.just(n), st.integers(0, n - 1), st.integers(3, n))
    ),
    st.lists(st.tuples(st.booleans(), st.sets(st.integers(0, 8))), max_size=60),
)
def test_a_liar_that_lies_when_it_likes_has_nobody_else_named(
    federation: tuple[int, int, int], attempts: list[tuple[bool, set[int]]]
) -> None:
    """In each attempt: does it lie, and which sites are away."""
    sites, liar, least = federation
    suspects = Suspects()
    for lies, away in attempts:
        here = frozenset(str(k) for k in range(sites) if k not in away) - suspects.left_out
        asked = suspects.ask(here, least) if len(here) >= least else frozenset()
        assert asked <= here
        assert not asked or len(asked) >= least
        if not asked:
            continue
        caught = lies and str(liar) in asked
        suspects = suspects.lose(asked) if caught else suspects.open(asked)
        assert suspects.left_out <= {str(liar)}
        assert suspects == Suspects.of_plain(suspects.to_plain())


def test_of_two_common_suspects_none_is_named() -> None:
    suspects = lost("abcde").lose(frozenset("abc")).lose(frozenset("ab"))
    assert (suspects.common, suspects.left_out) == (frozenset("ab"), frozenset())
    assert suspects.lose(frozenset("bc")).left_out == frozenset("b")


def test_one_loss_alone_asks_no_subset_and_two_apart_do_not_either() -> None:
    assert lost("abcde").ask(FIVE, LEAST) == FIVE
    apart = lost("abcde").open(FIVE).lose(FIVE)
    assert apart.ask(FIVE, LEAST) == FIVE
    assert len(lost("abcde", "abcde").ask(FIVE, LEAST)) == LEAST


def test_no_loss_alone_names_anybody() -> None:
    assert not lost("a").left_out
    assert lost("a", "a").left_out == {"a"}


def test_a_sum_that_opened_clears_nobody() -> None:
    suspects = lost("abcde", "abcde").open(frozenset("abc"))
    assert suspects.common == FIVE


def test_where_no_subset_says_more_nobody_is_asked_until_a_suspect_is_away() -> None:
    three = lost("abc", "abc")
    assert three.ask(frozenset("abc"), LEAST) == frozenset()
    assert three.ask(frozenset("abd"), LEAST) == frozenset("abd")


def test_a_liar_that_spares_every_subset_stops_the_study_for_people() -> None:
    suspects = lost("abcde", "abcde")
    while (asked := suspects.ask(FIVE, LEAST)) != FIVE:
        suspects = suspects.open(asked)
    suspects = suspects.lose(FIVE).lose(FIVE)
    assert suspects.ask(FIVE, LEAST) == frozenset()
    assert suspects.common == FIVE


def test_losses_that_no_single_site_explains_name_nobody() -> None:
    suspects = lost("abc", "abd", "cde")
    assert not suspects.left_out
    assert suspects.ask(FIVE, LEAST) == frozenset()


def test_after_one_site_is_left_out_no_other_is() -> None:
    suspects = lost("abcde", "ade", "abc")
    assert suspects.left_out == {"a"}
    for others in combinations("bcde", 3):
        suspects = suspects.lose(frozenset(others))
        assert suspects.left_out == {"a"}
    assert suspects.ask(frozenset("bcde"), LEAST) == frozenset()


def test_two_liars_can_have_a_third_named_which_is_why_one_is_assumed() -> None:
    assert lost("abc", "cde").left_out == {"c"}
