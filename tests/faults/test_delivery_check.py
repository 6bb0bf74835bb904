"""Test that the checks of the fault tests detect faults."""

from __future__ import annotations

import pytest

from tests.faults.delivery_check import Sent, Stored, check_delivery, franz_program

A = [Sent("A", number) for number in range(4)]
B = [Sent("B", number) for number in range(2)]


def stored(*sent: Sent, partition: int = 0) -> list[Stored]:
    return [Stored(partition, offset, one) for offset, one in enumerate(sent)]


def test_finds_nothing_where_all_is_well() -> None:
    assert check_delivery([*A, *B], stored(*A, *B)).is_clean


def test_markets_may_mix() -> None:
    assert check_delivery([*A, *B], stored(B[0], A[0], A[1], B[1], A[2], A[3])).is_clean


def test_what_was_not_acknowledged_may_be_there_or_not() -> None:
    assert check_delivery(A[:3], stored(*A)).is_clean
    assert check_delivery(A[:3], stored(*A[:3])).is_clean


def test_finds_lost() -> None:
    assert check_delivery(A, stored(A[0], A[2], A[3])).lost == {A[1]}


def test_finds_duplicated() -> None:
    assert check_delivery(A, stored(A[0], A[1], A[1], A[2], A[3])).duplicated == {A[1]}


def test_finds_reordered() -> None:
    assert check_delivery(A, stored(A[0], A[2], A[1], A[3])).reordered == {"A"}


def test_finds_a_market_in_two_partitions() -> None:
    assert check_delivery(A, stored(*A[:2]) + stored(*A[2:], partition=1)).reordered == {"A"}


# It builds a Go program, which takes a minute at first.
@pytest.mark.system
def test_the_second_reader_is_built() -> None:
    program = franz_program()
    if isinstance(program, str):
        pytest.skip(program)
    assert program.is_file()
