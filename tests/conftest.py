"""Make the zoo importable, and keep torch to one thread: tests run in parallel, and results must not depend on the machine."""

import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parent))
torch.set_num_threads(1)
