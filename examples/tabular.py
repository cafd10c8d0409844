"""Regression on a table: AdamW's rate and weight decay.

scikit-learn's diabetes, 192 patients to train on. The cosine has its weight decay tuned as well.

explained variance in %, 8 fresh seeds: learned 54.58, cosine 54.12, difference +0.46 ± 0.43:
learned is better.

`python examples/tabular.py`, 17 s on one thread of an AMD EPYC, no GPU, torch 2.14.1; commit
59d24d3.
"""

from functools import partial
from itertools import product

import torch
from comparison import QUICK, chosen, compare, tuned
from sklearn.datasets import load_diabetes
from torch import Tensor, nn
from torch.nn.functional import mse_loss
from torch.optim.lr_scheduler import CosineAnnealingLR
from torch.utils.data import DataLoader, TensorDataset

from hypergrad import Hats, Hyperparameter, InnerOptimizer, Schedule, adamw, learn, supervised
from hypergrad.data import TensorBatches

EPOCHS, OUTER_STEPS = (2, 2) if QUICK else (30, 16)
torch.set_num_threads(1)
rows, targets = (torch.tensor(array).float() for array in load_diabetes(return_X_y=True))
rows, targets = rows * 442**0.5, (targets[:, None] - 152) / 77  # mean 0, variance 1
order = torch.randperm(442, generator=torch.Generator().manual_seed(0)).split([192, 100, 150])
train, held_out, test = ((rows[part], targets[part]) for part in order)


def network(seed: int) -> nn.Module:
    torch.manual_seed(seed)  # of the loader's order, too
    hidden = [nn.Linear(10, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh()]
    return nn.Sequential(*hidden, nn.Linear(64, 1))


def batches(outer_step: int) -> TensorBatches:
    return TensorBatches(train, 32, (outer_step, "order"))


def trained(plan: Schedule | tuple, seed: int, judged_on: tuple[Tensor, Tensor]) -> float:
    """Explained variance after a plain loop, by a learned schedule or a cosine."""
    net, loader = network(seed), DataLoader(TensorDataset(*train), 32, shuffle=True)
    total = EPOCHS * len(loader)
    if isinstance(plan, Schedule):
        optimizer = plan.optimizer(net)
        scheduler = plan.scheduler(optimizer, total)
    else:
        optimizer = torch.optim.AdamW(net.parameters(), lr=plan[0], weight_decay=plan[1])
        scheduler = CosineAnnealingLR(optimizer, total)
    for _ in range(EPOCHS):
        for x, y in loader:
            optimizer.zero_grad()
            mse_loss(net(x), y).backward()
            optimizer.step()
            scheduler.step()
    x, y = judged_on
    return 100 * (1 - mse_loss(net(x), y) / y.var(correction=0)).item()


rate = Hyperparameter("learning_rate", Hats(4), start=1e-3, scale="log", first_move=1.0)
decay = Hyperparameter("weight_decay", Hats(2), start=0.1, scale="log", first_move=1.0)
inner = InnerOptimizer(adamw(), (rate, decay))
many = {"epochs": EPOCHS, "outer_steps": OUTER_STEPS, "optimizer": inner}
history = learn(network(0), supervised(mse_loss), batches, [held_out], **many)
judge = partial(trained, judged_on=held_out)
schedule = chosen(history, judge)
grid = list(product((1e-3, 3e-3, 1e-2, 3e-2), (0.01, 0.1, 1.0)))  # rate, weight decay
cosine = tuned(grid, judge)
ours, theirs = (partial(trained, plan, judged_on=test) for plan in (schedule, cosine))
compare("explained variance in %", ours, theirs)
