"""What the tests of Ray run inside its actors."""

import os
import signal
from dataclasses import replace

from co2s_cli.inference.map_setup import ExtraOutputs
from co2s_cli.jobs import predict


def deadly_context(settings, progress):
    """Of predict, but for scenes whose name begins with `deadly`: they end the process that opens them."""

    def check(target, scene):
        if os.path.basename(target.source).startswith("deadly"):
            os.kill(os.getpid(), signal.SIGKILL)

    return replace(predict.context_of(settings, progress), extras=ExtraOutputs(check=check))
