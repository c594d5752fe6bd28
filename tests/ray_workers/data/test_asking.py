"""A slow data factory is called once for all steps of a run, and those of what can't be kept again."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
from prefect_hone.ray_workers.data import asking, turns
from prefect_hone.ray_workers.data.asking import Asked, ask
from prefect_hone.recipe.errors import InputError
from prefect_hone.recipe.factories import Allowed, use_code
from prefect_hone.recipe.model import DataFactory
from steps_bench import InMemory

CODE = """
import threading
import torch
from prefect_hone import Data

KNOWN = {}
HELD = None
SCALAR = torch.tensor(3.0)  # has no length
GO = threading.Event()

class Rows:
    def __len__(self): return 4
    def __getitem__(self, index): return [0.0], index

class Needing(Rows):
    def __getitem__(self, index): return KNOWN["here"], index

class Open(Rows):
    def __init__(self): self.file = open(__file__)

def rows(kind="plain"):
    global HELD
    if kind == "waits": GO.wait(5)
    if kind == "fails": raise ValueError("no disk")
    if kind == "global": HELD = 3
    if kind == "filled": KNOWN[len(KNOWN)] = 3
    made = {"open": Open, "needs": Needing}.get(kind, Rows)
    return Data(train=made(), test=Rows(), collate=lambda samples: samples)
"""


class Factory:
    """A factory of the test's own module, whose calls are counted."""

    def __init__(self, module: str) -> None:
        self.allowed, self.module, self.calls = Allowed(modules=(module,)), module, 0
        call = self.allowed.call

        def counted(*args: Any) -> Any:
            self.calls += 1
            return call(*args)

        object.__setattr__(self.allowed, "call", counted)

    def ask(self, shared: Any, **args: Any) -> Asked:
        factory = DataFactory(factory=f"{self.module}:rows", args=args)
        return ask(factory, self.allowed, lambda _: None, shared)


@pytest.fixture
def made(
    tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Factory:
    monkeypatch.setattr(asking, "FAST", 0.0)
    name = f"asked_{abs(hash(request.node.name)) % 10**8}"
    (tmp_path / f"{name}.py").write_text(CODE)
    use_code(tmp_path)
    return Factory(name)


def test_other_steps_take_what_the_first_got(made: Factory) -> None:
    shared = InMemory()
    first, second = made.ask(shared), made.ask(shared)
    assert (first.taken, second.taken) == (False, True)
    assert made.calls == 1
    assert second.data.train[3] == ([0.0], 3)
    assert second.data.collate([1]) == [1]
    assert second.reference is first.reference is not None
    made.ask(shared, kind="other arguments")
    assert made.calls == 2


@pytest.mark.parametrize("kind", ["open", "global", "filled"])
def test_what_can_not_be_kept_is_made_again(made: Factory, kind: str) -> None:
    shared = InMemory()
    assert made.ask(shared, kind=kind).reference is None
    assert made.ask(shared, kind=kind).reference is None
    assert made.calls == 2


def test_a_fast_factory_is_called_by_each(made: Factory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "FAST", 60.0)
    shared = InMemory()
    assert made.ask(shared).reference is made.ask(shared).reference is None
    assert made.calls == 2


def test_samples_that_can_not_be_read_from_the_copy_are_made_again(made: Factory) -> None:
    shared = InMemory()
    made.ask(shared, kind="needs")
    assert made.ask(shared, kind="needs").reference is None
    assert made.calls == 2


def test_who_asks_meanwhile_waits_and_a_failure_passes_the_turn_on(made: Factory) -> None:
    shared, found = InMemory(), []
    module: Any = made.allowed.resolve(f"{made.module}:rows", "data.factory").__globals__
    threads = [
        threading.Thread(target=lambda: found.append(made.ask(shared, kind="waits")))
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    module["GO"].set()
    for thread in threads:
        thread.join()
    assert len(found) == 2
    assert made.calls == 1
    for _ in range(2):
        with pytest.raises(InputError, match="no disk"):
            made.ask(shared, kind="fails")


def test_one_that_is_silent_for_long_loses_its_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(turns.time, "monotonic", lambda: now[0])
    order = turns.Turns()
    assert order.turn("key") == ("make", None)
    assert order.turn("key") == ("wait", None)
    now[0] = 100.0
    order.renew("key")
    now[0] = 200.0
    assert order.turn("key") == ("wait", None)
    now[0] = 321.0
    assert order.turn("key") == ("make", None)
