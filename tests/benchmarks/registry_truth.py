"""Does the ledger tell the truth, on a real MLflow server, whatever is killed?

    python tests/benchmarks/registry_truth.py [ACTIONS [SEED]]

MLflow's server on PostgreSQL, as in `hone stack up`, but without users. Each promotion and rollback is a process, and
each kill is `kill -9`.

1. Two promotions of one model at once, 20 times.
2. A promotion and a rollback killed before each of their changes of the registry, and then killed at
   60 random moments; after each kill the next promotion or repair must leave exactly one champion.
3. ACTIONS (200) random promotions, rollbacks, changes past Hone, repairs and kills (hypothesis);
   `hone history` must equal the model of them after each.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

from hypothesis import HealthCheck, seed, settings
from hypothesis.stateful import run_state_machine_as_test
from prefect_hone.tasks.tracking.ledger import Ledger
from prefect_hone.tasks.tracking.ledger_state import state_of
from prefect_hone.tasks.tracking.registry import Promotable, promote
from prefect_hone.tasks.tracking.rollback import history, repair, rollback
from prefect_hone.tasks.tracking.tracker import quiet_mlflow
from stack_place import StackPlace

sys.path.append(str(Path(__file__).parents[2]))

from tests.support.killed_processes import start, wait
from tests.support.ledger_machine import LedgerMachine, World
from tests.support.real_world import RealWorld

ROUNDS, MOMENTS, STEPS = 20, 60, 25
_numbers = itertools.count()


def true(world: RealWorld) -> list[str]:
    """What is wrong of a ledger after a repair: it must say what happened, and where the alias is."""
    entries = Ledger(world.client, world.model).entries()
    state = state_of(entries)
    told = [(e.record.before, e.record.after) for e in state.changes]
    wrong = []
    if state.open:
        wrong.append(f"{len(state.open)} open intents")
    if any(one[1] != two[0] for one, two in pairwise([(None, None), *told])):
        wrong.append(f"the changes don't follow each other: {told}")
    if told != [(before, after) for before, after, _ in world.moved]:
        wrong.append(f"told {told[-3:]}, and it was {world.moved[-3:]}")
    if (told[-1][1] if told else None) != world.alias("champion"):
        wrong.append("the alias is elsewhere")
    counted = Counter(e.record.intent for e in state.changes if e.record.intent)
    if any(count > 1 for count in counted.values()):
        wrong.append("a change is told twice")
    digests = list(world.versions().values())
    if len(digests) != len(set(digests)):
        wrong.append("a content has two versions")
    return wrong


def at_once(uri: str) -> list[str]:
    """Two processes promote two contents of one model at the same time."""
    world, wrong = RealWorld(uri, f"at-once-{next(_numbers)}"), []
    for number in range(ROUNDS):
        asked = [world.asked(2 * number + i) for i in range(2)]
        reading, writing = os.pipe()

        def begin(reading: int = reading) -> None:
            os.read(reading, 1)

        before = world.alias("champion")
        working = [_promotion(uri, one, begin) for one in asked]
        os.write(writing, b"go")
        ends = [wait(pid) for pid in working]
        os.close(reading)
        os.close(writing)
        if ends != ["done", "done"]:
            wrong.append(f"round {number}: {ends}")
        told = [(e.record.before, e.record.after) for e in history(uri, world.model)][-2:]
        held = world.versions()
        if {held[str(after)] for _, after in told} != {one.digest for one in asked}:
            wrong.append(f"round {number}: {told} are not the two that were promoted")
        if told[0][0] != before or told[1][1] != world.alias("champion"):
            wrong.append(f"round {number}: {told}, from {before} to {world.alias('champion')}")
        if world.alias("previous") != told[1][0]:
            wrong.append(f"round {number}: previous is {world.alias('previous')}")
        world.moved += [(old, new, False) for old, new in told]
        wrong += true(world)
    return wrong


def _promotion(uri: str, asked: Promotable, begin: Callable[[], None]) -> int:
    return start(lambda: promote(uri, asked), before=begin)


def killed(uri: str, chance: random.Random) -> tuple[list[str], Counter[str]]:
    """Promotions and rollbacks killed at each step, and at random moments."""
    world, wrong, ends = RealWorld(uri, f"killed-{next(_numbers)}"), [], Counter[str]()
    contents = itertools.count()
    for _ in range(3):
        world.do(lambda: promote(uri, world.asked(next(contents))), None)
    took = time.monotonic()
    world.asked(99)
    world.do(lambda: promote(uri, world.asked(99)), None)
    took = time.monotonic() - took

    def one(what: str, changes: int | None, moment: float | None) -> None:
        if what == "promote":
            asked = world.asked(1000 + next(contents))
            end = world.do(lambda: promote(uri, asked), changes, moment)
        else:
            held = [v for v in world.versions() if v != world.alias("champion")]
            target = chance.choice(held)
            end = world.do(lambda: rollback(uri, world.model, target, "r", "bob"), changes, moment)
        ends[f"{what} {end}"] += 1
        if chance.random() < 0.5:
            repair(uri, world.model)
        else:  # the next promotion repairs, too
            asked = world.asked(1000 + next(contents))
            world.do(lambda: promote(uri, asked), None)
            if world.versions()[str(world.alias("champion"))] != asked.digest:
                wrong.append("the promotion after a kill is not the champion")
        wrong.extend(f"after {what} {changes} {moment}: {said}" for said in true(world))

    for what, steps in (("promote", 8), ("rollback", 6)):
        for step in range(steps):
            one(what, step, None)
    for _ in range(MOMENTS):
        one(chance.choice(("promote", "rollback")), None, chance.uniform(0, 1.2 * took))
    return wrong, ends


def machine(uri: str, actions: int, number: int) -> list[str]:
    """Random actions, each compared with the model; hypothesis shrinks what fails."""

    class Promotions(LedgerMachine):
        def make_world(self) -> World:
            return RealWorld(uri, f"machine-{next(_numbers)}")

    limits = settings(
        max_examples=max(1, actions // STEPS), stateful_step_count=STEPS, deadline=None,
        database=None, suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    try:
        seed(number)(Promotions)
        run_state_machine_as_test(Promotions, settings=limits)
    except AssertionError as error:
        return [
            str(error) or "the machine found a counterexample",
            *getattr(error, "__notes__", []),
        ]
    return []


def main() -> None:
    actions = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    number = int(sys.argv[2]) if len(sys.argv) > 2 else random.randrange(10_000)
    quiet_mlflow()
    logging.getLogger("hone").setLevel(logging.ERROR)
    folder = Path(tempfile.mkdtemp(prefix="truth-"))
    place = StackPlace(folder)
    failed = 0
    print(f"seed {number}\n| | seconds | wrong |\n| --- | --- | --- |", flush=True)
    try:
        uri = place.up_only("postgres", "mlflow")
        chance = random.Random(number)
        ends: Counter[str] = Counter()

        def kills() -> list[str]:
            wrong, counted = killed(uri, chance)
            ends.update(counted)
            return wrong

        parts: dict[str, Callable[[], list[str]]] = {
            f"two promotions at once, {ROUNDS} times": lambda: at_once(uri),
            f"killed at each step, and at {MOMENTS} random moments": kills,
            f"{actions} random actions": lambda: machine(uri, actions, number),
        }
        for name, part in parts.items():
            began = time.monotonic()
            wrong = part()
            failed += len(wrong)
            if wrong:
                print("\n".join(wrong[:20]), flush=True)
            print(
                f"| {name} | {time.monotonic() - began:.0f} | {len(wrong)} |",
                flush=True,
            )
        print(dict(ends))
    finally:
        with contextlib.suppress(SystemExit):
            place.down()
        shutil.rmtree(folder, ignore_errors=True)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
