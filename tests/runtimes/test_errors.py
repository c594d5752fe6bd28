"""What a runtime raises says what, where and what to do, in this process and in another one."""

from __future__ import annotations

import pickle

from prefect_hone.recipe.errors import InputError
from prefect_hone.runtimes.errors import RuntimeDied, RuntimeFailed, as_plain_data, telling_line


def test_of_several_lines_the_telling_one_is_said() -> None:
    text = "Exception from src/a.cpp:1:\nException from src/b.cpp:2:\nindex out of range\n"
    assert telling_line(RuntimeError(text)) == "index out of range"
    assert (
        telling_line(RuntimeError("Exception from src/a.cpp:1:")) == "Exception from src/a.cpp:1:"
    )
    assert telling_line(RuntimeError()) == ""


def test_it_says_what_where_and_what_to_do() -> None:
    error = RuntimeDied("it died", where="a.onnx", do="try again")
    assert str(error) == "a.onnx: it died\n  → try again"
    assert str(RuntimeFailed("no")) == "no"


def test_it_goes_to_another_process_as_plain_data() -> None:
    error = RuntimeDied("it died", where="a.onnx", do="try again")
    again = RuntimeFailed(**as_plain_data(error))
    assert (again.kind, again.what, again.where, again.do) == (
        "RuntimeDied", "it died", "a.onnx", "try again",
    )  # fmt: skip
    assert as_plain_data(again) == as_plain_data(error)
    assert str(pickle.loads(pickle.dumps(error))) == str(error)
    of_another = as_plain_data(InputError("no such file", where="x"))
    assert (of_another["kind"], of_another["what"]) == ("InputError", "no such file")
    other = as_plain_data(ValueError("bad file\nmore"))
    assert other["what"] == "the runtime raised ValueError: bad file"
