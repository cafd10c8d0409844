"""Cleaning data: a weight for each of 64 groups of images, many of them mislabelled.

test accuracy in %, 8 fresh seeds: learned 87.89, uniform weights and cosine 59.37, difference
+28.52 ± 2.02: learned is better.
test accuracy in %, 8 fresh seeds: learned 87.89, its schedule with uniform weights 58.30,
difference +29.59 ± 2.22: learned is better.

`python examples/clean_data.py`, 25 s on one thread of an AMD EPYC, no GPU, torch 2.14.1; commit
59d24d3.
"""

from functools import partial
from pathlib import Path
from tempfile import gettempdir

import torch
from comparison import QUICK, chosen, compare, tuned
from digits import Shuffled, Split, accuracy, mislabelled, splits
from matplotlib import pyplot as plt
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR
from torch.utils.data import DataLoader, TensorDataset

from hypergrad import Hats, InnerOptimizer, ReverseOptions, Schedule, Vector, learn, sgd
from hypergrad import Hyperparameter as H
from hypergrad.core.losses import cross_entropy  # takes group_weights, and groups in the batch

EPOCHS, OUTER_STEPS, GROUPS = (2, 2, 64) if QUICK else (15, 30, 64)
FOLDER = Path(gettempdir()) if QUICK else Path(__file__).parent / "figures"
torch.set_num_threads(1)
clean, held_out, test = splits(1000, 250)
train, wrong = mislabelled(clean, GROUPS)  # images, labels and groups; the share of wrong labels


def network(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 48), nn.Tanh(), nn.Linear(48, 10))


def trained(plan: Schedule | float, seed: int, judged_on: Split, weigh: bool = True) -> float:
    """Accuracy after a plain loop, by a schedule with or without its weights, or a cosine."""
    net, values = network(seed), {}
    loader = DataLoader(TensorDataset(*train), 64, shuffle=True, drop_last=True)
    total = EPOCHS * len(loader)
    if isinstance(plan, Schedule):
        optimizer = plan.optimizer(net)
        scheduler = plan.scheduler(optimizer, total)
        if weigh:
            values = {name: torch.tensor(own) for name, own in plan.loss_values(0, total).items()}
    else:
        optimizer = torch.optim.SGD(net.parameters(), lr=plan, momentum=0.9)
        scheduler = CosineAnnealingLR(optimizer, total)
    for _ in range(EPOCHS):
        for batch in loader:
            optimizer.zero_grad()
            cross_entropy(net, batch, values)[0].backward()
            optimizer.step()
            scheduler.step()
    return accuracy(net, judged_on)


rate = H("learning_rate", Hats(3), start=0.03, scale="log", first_move=0.3)
weights = H("group_weights", Vector(GROUPS), start=1.0, low=0.0, first_move=0.2)
inner = InnerOptimizer(sgd(), (rate, H("momentum", start=0.9, learned=False), weights))
many = {"epochs": EPOCHS, "outer_steps": OUTER_STEPS, "options": ReverseOptions()}
batches = partial(Shuffled, train, 64)
history = learn(network(0), cross_entropy, batches, [held_out], optimizer=inner, **many)
judge = partial(trained, judged_on=held_out)
schedule, cosine = chosen(history, judge), tuned((0.01, 0.03, 0.1, 0.3, 1.0), judge)

plt.scatter(100 * wrong, schedule["group_weights"])
plt.axhline(1.0, color="grey", linestyle="--")  # where all have started
plt.xlabel("wrong labels in a group of images (%)")
plt.ylabel("learned weight of the group")
plt.savefig(FOLDER / "clean_data.png")

plans = (schedule, True), (cosine, False), (schedule, False)
ours, theirs, bare = (partial(trained, p, judged_on=test, weigh=weigh) for p, weigh in plans)
compare("test accuracy in %", ours, theirs, "uniform weights and cosine")
compare("test accuracy in %", ours, bare, "its schedule with uniform weights")
