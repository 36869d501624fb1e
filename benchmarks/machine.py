"""The machine and the packages of a measurement, and the memory in use."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
from typing import Any, Optional

CORE_PACKAGES = ('jax', 'jaxlib', 'flax', 'optax', 'numpy', 'ale-py')


def describe() -> dict[str, Any]:
  """Device and host; imports jax."""
  import jax

  device = jax.devices()[0]
  cpu = cpu_name()
  return {
      'device': cpu if device.platform == 'cpu' else device.device_kind,
      'platform': device.platform,
      'cpu': cpu,
      'cores': len(os.sched_getaffinity(0)),
  }


def cpu_name() -> str:
  """Name of the processor in Linux."""
  try:
    with open('/proc/cpuinfo') as f:
      found = re.search(r'^model name\s*:\s*(.+)$', f.read(), re.MULTILINE)
  except OSError:
    found = None
  return found.group(1) if found else platform.processor() or 'unknown'


def package_versions(*more: str) -> dict[str, Optional[str]]:
  """Versions by package; None if a package is not installed."""
  versions: dict[str, Optional[str]] = {'python': platform.python_version()}
  for name in CORE_PACKAGES + more:
    try:
      versions[name] = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
      versions[name] = None
  return versions


def resident_mebibytes(peak: bool = False) -> float:
  """Resident memory of this process, now or at its peak."""
  field = 'VmHWM' if peak else 'VmRSS'
  with open('/proc/self/status') as f:
    line = next(line for line in f if line.startswith(field))
  return int(line.split()[1]) / 2**10
