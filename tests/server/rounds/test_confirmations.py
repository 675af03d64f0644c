"""Which sites are asked together: the most that have confirmed one another."""

from hypothesis import given
from hypothesis import strategies as st

from server.rounds.confirmations import Confirmations

NAMES = ("east", "fifth", "north", "south", "west")


def told(**unconfirmed: tuple[str, ...]) -> Confirmations:
    confirmations = Confirmations()
    for site, missing in unconfirmed.items():
        confirmations.note(site, missing)
    return confirmations


def test_a_newcomer_stands_behind_those_who_were_there() -> None:
    old = ("east", "north", "south", "west")
    nobody = told(**dict.fromkeys(old, ("fifth",)), fifth=())
    assert nobody.together(frozenset(NAMES)) == set(old)
    one = told(east=("fifth",), fifth=())
    assert len(one.together(frozenset(NAMES))) == 4
    most = told(east=("fifth",), north=(), fifth=())
    assert most.together(frozenset(NAMES)) == set(old), "of two, the doubted one waits"


def test_who_has_not_confirmed_whom_is_said() -> None:
    confirmations = told(east=("fifth",), north=("fifth", "west"))
    assert confirmations.in_words(frozenset(NAMES)) == (
        "east has not confirmed fifth",
        "north has not confirmed fifth, west",
    )
    assert confirmations.lacking == {"east", "north"}
    confirmations.note("east", ())
    assert confirmations.lacking == {"north"}


@given(st.dictionaries(st.sampled_from(NAMES), st.frozensets(st.sampled_from(NAMES))))
def test_no_two_are_asked_together_of_whom_one_has_not_confirmed_the_other(
    unconfirmed: dict[str, frozenset[str]],
) -> None:
    confirmations = Confirmations()
    for site, missing in unconfirmed.items():
        confirmations.note(site, missing - {site})
    chosen = confirmations.together(frozenset(NAMES))
    assert chosen
    for site in chosen:
        assert not (unconfirmed.get(site, frozenset()) - {site}) & chosen
