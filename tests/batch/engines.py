"""What programs with a real engine need to run in a test."""

from __future__ import annotations

import os
import sys

ENVIRONMENT = {
    **os.environ,
    "PYSPARK_PYTHON": sys.executable,  # else Spark takes the first python3 of the PATH for its workers
    "PYSPARK_DRIVER_PYTHON": sys.executable,
    "SPARK_LOCAL_IP": "127.0.0.1",
    "RAY_AUTH_MODE": "disabled",  # no token is written into the home folder
    "RAY_USAGE_STATS_ENABLED": "0",
    "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
}
