"""Every check on a CUDA device; their bodies run on a CPU in tests/jobs/gpu."""

import pytest

from co2s_cli.jobs.gpu import maps, runs
from co2s_cli.jobs.gpu.bench import SkippedError
from co2s_cli.jobs.gpu.task import bench_of

pytestmark = [pytest.mark.gpu, pytest.mark.filterwarnings("default")]  # other libraries' warnings are no failure
CHECKS = maps.CHECKS | runs.CHECKS


@pytest.mark.parametrize("name", CHECKS)
def test_on_the_gpu(name, tmp_path):
    try:
        CHECKS[name](bench_of(name, "cuda", tmp_path, small=False))
    except SkippedError as reason:
        pytest.skip(str(reason))
