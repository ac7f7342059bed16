"""What the ranks of a training agree on."""

import torch
from processes import run_ranks

from kmunet.training.ranks import any_rank


def _ask(rank, count):
    flags = torch.tensor(rank == 1), rank == 0, False
    assert any_rank(*flags, device=torch.device("cpu")) == [True, True, False]


def test_a_flag_of_one_rank_is_a_flag_of_all():
    run_ranks(2, _ask)


def test_one_rank_agrees_with_itself():
    flags = torch.tensor(True), False, True
    assert any_rank(*flags, device=torch.device("cpu")) == [True, False, True]
