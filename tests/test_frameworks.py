"""A learned schedule under Lightning, Accelerate and Hugging Face's Trainer: the plain loop's bits.

`pip install -e '.[frameworks]'`; each is skipped where it is not installed.
"""

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, SequentialSampler, TensorDataset

from hypergrad.core.basis import Hats
from hypergrad.core.functional_model import FlatModel
from hypergrad.core.gradient_transforms import NormClip
from hypergrad.core.hyperparameters import Hyperparameter as H
from hypergrad.core.inner_optimizer import InnerOptimizer
from hypergrad.core.rules import adamw
from hypergrad.core.schedule import Schedule
from hypergrad.data import load

# What they warn of in their own code is not ours to mend.
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

SIZE, STEPS, EPOCHS, CLIP = 16, 12, 2, 0.3
INSTALL = "is not installed: pip install -e '.[frameworks]'"


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.Tanh(), nn.Linear(8, 10))


@pytest.fixture
def digits() -> TensorDataset:
    train = load("digits", train_size=SIZE * STEPS).train
    return TensorDataset(train.images, train.labels)


@pytest.fixture
def schedule(tmp_path: Path) -> Schedule:
    """Of groups, with moving betas and a clip, from a file."""
    inner = InnerOptimizer(
        adamw(),
        (
            H("rate_head", Hats(3), (0.03, 0.01, 0.02), sets="learning_rate", where=_of_head),
            H("rate_body", Hats(2), (0.02, 0.01), sets="learning_rate", where=_of_body),
            H("beta1", Hats(2), (0.8, 0.95)),
            H("weight_decay", 2, (0.1, 0.3)),
        ),
        NormClip(CLIP),
    )
    start = inner.start()
    known = inner.learned_for(FlatModel(network()))
    Schedule(start, start.bases, known).save(tmp_path / "schedule.json")
    return Schedule.load(tmp_path / "schedule.json")


def _of_head(name: str, parameter: nn.Parameter) -> bool:
    return name.startswith("3.")


def _of_body(name: str, parameter: nn.Parameter) -> bool:
    return not name.startswith("3.")


def flat(module: nn.Module) -> Tensor:
    return nn.utils.parameters_to_vector(module.parameters()).detach()


def by_hand(
    schedule: Schedule, data: TensorDataset, accumulated: int = 1, epochs: int = 1
) -> Tensor:
    """The plain loop."""
    module = network()
    optimizer = schedule.optimizer(module)
    scheduler = schedule.scheduler(optimizer, epochs * STEPS // accumulated)
    for number, (x, y) in enumerate(list(DataLoader(data, SIZE)) * epochs):
        (F.cross_entropy(module(x), y) / accumulated).backward()
        if (number + 1) % accumulated == 0:
            schedule.clip(module.parameters())
            optimizer.step()
            scheduler.step()
            optimizer.zero_grad()
    return flat(module)


def test_lightning(schedule: Schedule, digits: TensorDataset, tmp_path: Path) -> None:
    lightning = pytest.importorskip("lightning", reason=f"Lightning {INSTALL}")

    class Digits(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.net = network()

        def training_step(self, batch: tuple[Tensor, Tensor], index: int) -> Tensor:
            return F.cross_entropy(self.net(batch[0]), batch[1])

        def configure_optimizers(self) -> dict[str, Any]:
            optimizer = schedule.optimizer(self.net)
            scheduler = schedule.scheduler(optimizer, EPOCHS * STEPS)
            return {
                "optimizer": optimizer,
                "lr_scheduler": {"scheduler": scheduler, "interval": "step"},
            }

    def trainer(epochs: int) -> Any:  # noqa: ANN401
        return lightning.Trainer(
            max_epochs=epochs,
            accelerator="cpu",
            gradient_clip_val=CLIP,
            gradient_clip_algorithm="norm",
            default_root_dir=tmp_path,
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )

    whole = Digits()
    trainer(EPOCHS).fit(whole, DataLoader(digits, SIZE))
    assert torch.equal(flat(whole), by_hand(schedule, digits, epochs=EPOCHS))

    half = trainer(1)
    half.fit(Digits(), DataLoader(digits, SIZE))
    half.save_checkpoint(tmp_path / "half.ckpt")
    again = Digits()
    trainer(EPOCHS).fit(again, DataLoader(digits, SIZE), ckpt_path=tmp_path / "half.ckpt")
    assert torch.equal(flat(again), flat(whole))


def test_accelerate_with_accumulated_gradients(schedule: Schedule, digits: TensorDataset) -> None:
    accelerate = pytest.importorskip("accelerate", reason=f"Accelerate {INSTALL}")
    accelerator = accelerate.Accelerator(cpu=True, gradient_accumulation_steps=3)
    plain = network()
    own = schedule.optimizer(plain)
    horizon = STEPS // 3
    module, optimizer, scheduler, loader = accelerator.prepare(
        plain, own, schedule.scheduler(own, horizon), DataLoader(digits, SIZE)
    )
    for x, y in loader:
        with accelerator.accumulate(module):
            accelerator.backward(F.cross_entropy(module(x), y))
            if accelerator.sync_gradients:
                accelerator.clip_grad_norm_(module.parameters(), CLIP)
            optimizer.step()
            scheduler.step()
            optimizer.zero_grad()
    assert torch.equal(flat(plain), by_hand(schedule, digits, accumulated=3))
    # Over the wrapped optimiser too.
    assert schedule.scheduler(optimizer, 5).optimizer is own


class Classifier(nn.Module):
    """As the Trainer wants a network: keywords in, loss out."""

    def __init__(self) -> None:
        super().__init__()
        self.net = network()

    def forward(self, x: Tensor, labels: Tensor) -> dict[str, Tensor]:
        logits = self.net(x)
        return {"loss": F.cross_entropy(logits, labels), "logits": logits}


class Named(Dataset):
    """Examples by name."""

    def __init__(self, data: TensorDataset) -> None:
        self._data = data

    def __len__(self) -> int:
        return len(self._data)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        x, y = self._data[index]
        return {"x": x, "labels": y}


def test_the_trainer_of_hugging_face(
    schedule: Schedule, digits: TensorDataset, tmp_path: Path
) -> None:
    transformers = pytest.importorskip("transformers", reason=f"Transformers {INSTALL}")
    pytest.importorskip("accelerate", reason=f"Accelerate {INSTALL}")

    class InOrder(transformers.Trainer):
        def _get_train_sampler(self, *given: object) -> SequentialSampler:
            return SequentialSampler(Named(digits))

    def trainer(steps: int, module: nn.Module) -> Any:  # noqa: ANN401
        arguments = transformers.TrainingArguments(
            output_dir=str(tmp_path / "trainer"),
            per_device_train_batch_size=SIZE,
            max_steps=steps,
            max_grad_norm=CLIP,
            use_cpu=True,
            save_strategy="steps",
            save_steps=7,
            report_to=[],
            disable_tqdm=True,
        )
        optimizer = schedule.optimizer(module.net)  # type: ignore[arg-type]
        both = optimizer, schedule.scheduler(optimizer, STEPS)
        return InOrder(module, arguments, train_dataset=Named(digits), optimizers=both)

    whole = Classifier()
    trainer(STEPS, whole).train()
    assert torch.equal(flat(whole), by_hand(schedule, digits))

    again = Classifier()  # from its own checkpoint in the middle
    checkpoint = tmp_path / "trainer" / "checkpoint-7"
    trainer(STEPS, again).train(resume_from_checkpoint=str(checkpoint))
    assert torch.equal(flat(again), flat(whole))
