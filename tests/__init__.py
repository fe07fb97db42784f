"""Mirrors the modules. Set before torch is loaded: its threads sleep while they wait, for workers share the cores."""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
