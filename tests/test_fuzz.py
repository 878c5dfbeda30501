"""A fixed sample of the cases of `make fuzz`."""

import pytest
from fuzz import Fuzzer, run

pytestmark = pytest.mark.slow


def test_a_fixed_sample_of_damaged_inputs_is_refused_or_read(tmp_path):
    lost = [
        (name, problems, outcome.stderr[-600:])
        for name, outcome, problems in run(Fuzzer(tmp_path, 2), range(150), 2)
        if problems
    ]
    assert not lost
