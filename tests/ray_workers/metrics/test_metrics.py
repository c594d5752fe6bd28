"""A metric of one's own. What every metric is asked is in `tests/conformance/test_metrics.py`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from prefect_hone.ray_workers.metrics import MetricFunctions, metric, stacked
from prefect_hone.ray_workers.metrics.plain import PlainMetric
from prefect_hone.recipe.errors import InputError
from prefect_hone.recipe.factories import Allowed, use_code
from sklearn import metrics as sk

rng = np.random.default_rng(0)
LOGITS = rng.normal(size=(200, 5)).astype(np.float32)
LABELS = rng.integers(0, 5, 200)

OWN = """
import numpy as np

class Iou:
    def per_sample(self, outputs, targets):
        hit = outputs.argmax(1) == targets
        return np.stack([hit, np.ones(len(hit))], 1)

    def aggregate(self, statistics):
        hit, seen = statistics.sum(0)
        return hit / (2 * seen - hit)

iou = Iou()

class Flat(Iou):
    def per_sample(self, outputs, targets):
        return outputs.argmax(1) == targets

class Raises(Iou):
    def aggregate(self, statistics):
        raise KeyError("no such class")

class Asks(Iou):
    def __init__(self, classes):
        pass

def mcc(outputs, targets):
    from sklearn.metrics import matthews_corrcoef
    assert targets.dtype == np.int64 and outputs.dtype == np.float32
    return matthews_corrcoef(targets, outputs.argmax(1))

def right(outputs, targets):
    return outputs.argmax(1) == targets

def table(outputs, targets):
    return outputs

def fails(outputs, targets):
    return outputs @ targets

class Half:
    def per_sample(self, outputs, targets):
        return None
"""


def own(tmp_path: Path, name: str) -> MetricFunctions:
    (tmp_path / "own_measures.py").write_text(OWN)
    use_code(tmp_path)
    return metric(f"own_measures:{name}", Allowed.from_environment(tmp_path))


@pytest.mark.parametrize("name", ["iou", "Iou"])
def test_a_metric_of_your_own_by_its_import_path(tmp_path: Path, name: str) -> None:
    measure = own(tmp_path, name)
    right = sk.accuracy_score(LABELS, LOGITS.argmax(1))
    rows = measure.per_sample(LOGITS, LABELS)
    assert rows.dtype == np.float64
    assert measure.aggregate(rows) == pytest.approx(right / (2 - right))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("Flat", r"own_measures:Flat: per_sample gave an array of shape \(200,\) for 200 samples"),
        (
            "table",
            r"own_measures:table: the metric gave an array of shape \(200, 5\) for 200 sampl",
        ),
        ("fails", r"own_measures:fails: the metric raised ValueError.*own_measures.py:39"),
        ("Raises", r"own_measures:Raises: aggregate raised KeyError.*own_measures.py:21"),
        ("Asks", r"own_measures:Asks: the metric raised TypeError.*'classes'"),
        ("Half", r"own_measures:Half: the metric has no function 'aggregate'"),
        ("Iuo", r"'own_measures' has no 'Iuo': did you mean 'Iou'?"),
    ],
)
def test_what_is_wrong_with_a_metric_of_your_own_names_it(
    tmp_path: Path, name: str, said: str
) -> None:
    def judged() -> float:
        measure = own(tmp_path, name)
        return measure.aggregate(measure.per_sample(LOGITS, LABELS))

    with pytest.raises(InputError, match=said):
        judged()


def test_a_plain_function_judges_all_samples_at_once(tmp_path: Path) -> None:
    measure = own(tmp_path, "mcc")
    parts = [measure.per_sample(LOGITS[i : i + 70], LABELS[i : i + 70]) for i in (0, 70, 140)]
    wanted = sk.matthews_corrcoef(LABELS, LOGITS.argmax(1))
    assert measure.aggregate(np.concatenate(parts)) == pytest.approx(wanted)
    assert measure.aggregate(parts[2][:40]) == pytest.approx(
        sk.matthews_corrcoef(LABELS[140:180], LOGITS[140:180].argmax(1))
    )


def test_a_plain_function_may_return_a_number_for_each_sample(tmp_path: Path) -> None:
    measure = own(tmp_path, "right")
    rows = measure.per_sample(LOGITS, LABELS)
    assert measure.aggregate(rows) == pytest.approx(sk.accuracy_score(LABELS, LOGITS.argmax(1)))


def test_a_plain_function_can_not_judge_samples_of_different_sizes(tmp_path: Path) -> None:
    measure = own(tmp_path, "right")
    rows = stacked(
        [
            measure.per_sample(np.zeros((4, 5, 3), np.float32), np.zeros((4, 3), np.int64)),
            measure.per_sample(np.zeros((4, 5, 2), np.float32), np.zeros((4, 2), np.int64)),
        ]
    )
    with pytest.raises(InputError, match="the samples differ in size"):
        measure.aggregate(rows)


def test_a_plain_function_gets_several_outputs_and_targets_as_they_were(tmp_path: Path) -> None:
    outputs = {"kind": LOGITS, "höhe": np.arange(200, dtype=np.float32)}
    targets = {"kind": LABELS, "more": (np.arange(200.0), LABELS > 1, None)}
    seen: list[Any] = []

    def function(found: Any, wanted: Any) -> float:
        seen.append((found, wanted))
        return 1.0

    measure = PlainMetric("quality.metric: own", function)
    assert measure.aggregate(measure.per_sample(outputs, targets)) == 1.0
    (found, wanted) = seen[0]
    assert list(found) == ["kind", "höhe"]
    np.testing.assert_array_equal(found["kind"], LOGITS)
    np.testing.assert_array_equal(found["höhe"], outputs["höhe"])
    assert wanted["kind"].dtype == np.int64
    np.testing.assert_array_equal(wanted["kind"], LABELS)
    price, above, nothing = wanted["more"]
    assert (above.dtype, nothing) == (bool, None)
    np.testing.assert_array_equal(price, np.arange(200.0))
