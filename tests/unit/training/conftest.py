import os
from pathlib import Path

import pytest
import torch

from training.models.contract import Vocabulary

torch.set_num_threads(1)


@pytest.fixture
def vocabulary() -> Vocabulary:
    return Vocabulary(source_size=23, target_size=23)


@pytest.fixture
def corpora() -> Path:
    if "DRAGOMAN_DATA" not in os.environ:
        pytest.skip("DRAGOMAN_DATA is not set: the test on the real enfr corpus is skipped")
    return Path(os.environ["DRAGOMAN_DATA"])
