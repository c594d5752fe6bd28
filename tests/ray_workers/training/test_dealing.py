"""Who gets which samples: each one once, with weights that make the average the whole batch's."""

from __future__ import annotations

import pytest
from prefect_hone.ray_workers.training.dealing import Fewest, count_steps, deal, shuffled


@pytest.mark.parametrize(("parts", "same_size"), [(1, False), (3, False), (4, True)])
@pytest.mark.parametrize(("samples", "batch", "world"), [(100, 32, 2), (65, 32, 4), (7, 16, 3)])
def test_every_sample_is_dealt_once(
    samples: int, batch: int, world: int, parts: int, same_size: bool
) -> None:
    seen: list[int] = []
    order = shuffled(samples, seed=0, epoch=0)
    weights: dict[int, float] = {}
    for rank in range(world):
        for step, shares in enumerate(deal(order, batch, world, rank, parts, same_size)):
            assert shares
            assert len({len(share.indices) for share in shares}) == 1 or not same_size
            for share in shares:
                assert 0 < len(share.indices) >= share.own
                seen += list(share.indices)[: share.own]
                weights[step] = weights.get(step, 0.0) + share.weight / world
    assert sorted(seen) == list(range(samples))
    assert all(weight == pytest.approx(1.0) for weight in weights.values())


def test_an_order_comes_again_by_its_seed_and_epoch() -> None:
    assert shuffled(50, 1, 0) == shuffled(50, 1, 0)
    assert shuffled(50, 1, 0) != shuffled(50, 1, 1) != shuffled(50, 2, 1)
    assert sorted(shuffled(50, 1, 3)) == list(range(50))


def test_a_reader_that_gets_nothing_has_a_sample_that_does_not_count() -> None:
    ((share,),) = deal(range(2), 4, readers=4, reader=3)
    assert (list(share.indices), share.own, share.weight) == ([0], 0, 0.0)


def test_parts_of_a_pipeline_are_filled_up_to_one_size() -> None:
    ((*_, last),) = deal(range(10), 16, readers=1, reader=0, parts=4, same_size=True)
    assert len(last.indices) == 4
    assert last.own == 0


def test_no_micro_batch_is_smaller_than_batch_norm_takes() -> None:
    for samples, batch, world, parts in (
        (129, 32, 1, 1),
        (131, 32, 2, 1),
        (33, 32, 1, 8),
        (35, 12, 3, 4),
    ):
        seen: list[int] = []
        for rank in range(world):
            steps = deal(
                range(samples), batch, world, rank, parts, fewest=Fewest.of(2, world, False)
            )
            assert len(steps) == count_steps(samples, batch, 2 * world)
            for share in (share for shares in steps for share in shares):
                assert len(share.indices) == share.own >= 2
                seen += share.indices
            whole = [sum(share.weight for share in shares) for shares in steps]
            assert sum(whole) == pytest.approx(len(whole), rel=0.2)
        assert sorted(seen) == list(range(samples))
    assert count_steps(129, 32) == 5
    assert count_steps(129, 32, 2) == 4
    assert count_steps(1, 32, 2) == 1


def test_every_reader_has_as_many_micro_batches() -> None:
    """With sharded weights each is a collective operation: a reader with more waits for ever."""
    for samples, batch, readers, parts in ((24, 7, 2, 3), (24, 3, 2, 2), (30, 9, 4, 2)):
        for least in (1, 2):
            fewest = Fewest.of(least, readers, False)
            dealt = [
                deal(range(samples), batch, readers, reader, parts, fewest=fewest)
                for reader in range(readers)
            ]
            for steps in zip(*dealt, strict=True):
                assert len({len(shares) for shares in steps}) == 1
                assert max(share.own for shares in steps for share in shares) <= 4


def test_workers_take_the_same_steps_as_one() -> None:
    """A small last batch joins another only where batch norm needs it."""
    for readers in (1, 2, 3):
        plain, synced = Fewest.of(1, readers, False), Fewest.of(2, readers, True)
        assert count_steps(9, 4, plain.step) == 3
        assert count_steps(7, 4, synced.step) == 2
        assert [len(deal(range(9), 4, readers, i, fewest=plain)) for i in range(readers)] == (
            [3] * readers
        )
    assert count_steps(9, 4, Fewest.of(2, 2, True).step) == 2
    assert Fewest.of(2, 2, False) == Fewest(2, 4)
