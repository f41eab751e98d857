"""Device, precision, threads, matrix products and random numbers."""

# Shape suffixes: N = rows, I = inputs, O = outputs

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Literal

import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import linear

from xstilts.compute.dropout import Dropout
from xstilts.compute.private import ONEDNN, has_fast_bf16, onednn_linear
from xstilts.errors import UserError
from xstilts.utils.models import Precision

NARROW = 128
"""Hidden size below which one thread is used."""
THREADS = torch.get_num_threads()
"""Threads that torch uses by default (OMP_NUM_THREADS sets them)."""


def device() -> torch.device:
    """The accelerator if there is one, else the CPU; `XSTILTS_DEVICE` overrides (cpu, cuda, cuda:1, mps).

    Under torchrun each process has the GPU of its number.

    Raises:
        UserError: there is no such device, or not one for each process.
    """
    present = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    asked, several = os.environ.get("XSTILTS_DEVICE"), os.environ.get("WORLD_SIZE", "1") not in ("", "1")
    name = asked or present
    if name == "cuda":
        name = f"cuda:{os.environ.get('LOCAL_RANK') or 0}"
    elif several and not name.startswith("cpu"):
        what = f"'{name}' is one device, but each of torchrun's processes needs its own"
        raise UserError(what, where="XSTILTS_DEVICE", hint="cuda or cpu")
    try:
        found = torch.device(name)
        if asked or several:  # a trial takes some memory of the GPU, in a process that only plans, too
            torch.zeros(1, device=found).item()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        hint = "its values are cpu, cuda, cuda:1 or mps; unset it to use the accelerator if there is one"
        if several:
            hint = "start at most as many processes as there are GPUs, or use cpu"
        raise UserError(f"there is no device '{name}' here", where="XSTILTS_DEVICE", hint=hint) from error
    return found


def half(where: torch.device) -> torch.dtype:
    """The dtype of `bf16`: bfloat16, or float16 on GPUs that are too old for bfloat16."""
    if where.type != "cuda" or torch.version.hip is not None or torch.cuda.get_device_capability(where) >= (8, 0):
        return torch.bfloat16
    return torch.float16


def effective_precision(where: torch.device, precision: Precision) -> Literal["fp32", "bf16"]:
    """What `auto` is on a device: bf16 on an NVIDIA or AMD GPU that computes in bfloat16, else fp32."""
    if precision != "auto":
        return precision
    return "bf16" if where.type == "cuda" and half(where) == torch.bfloat16 else "fp32"


def precision_notes(where: torch.device, precisions: Collection[Precision]) -> list[str]:
    """A note if a CPU has no instructions for one of the precisions."""
    if where.type != "cpu" or "bf16" not in precisions or has_fast_bf16():
        return []
    return ["precision bf16: this processor has no bfloat16 instructions, so it may take 30 times as long as fp32"]


def autocast(where: torch.device, precision: Precision) -> AbstractContextManager[Any]:
    """Forward passes in `precision`; weights and updates stay float32."""
    if effective_precision(where, precision) == "fp32":
        return nullcontext()
    return torch.autocast(where.type, dtype=half(where))


def shared_casts(where: torch.device, precision: Precision) -> AbstractContextManager[Any]:
    """Within this block of several passes with gradients `autocast` casts each weight once on a GPU, not in each pass.

    On a CPU an update takes 5 % longer with it.
    """
    return autocast(where, precision) if where.type == "cuda" else nullcontext()


def without_autocast(where: torch.device) -> AbstractContextManager[Any]:
    """Within this block operations keep the type of their inputs; an `autocast` around it keeps its cast weights."""
    return torch.autocast(where.type, enabled=False)


def weights_cast_once(module: nn.Module, where: torch.device, precision: Precision) -> AbstractContextManager[None]:
    """Within this block without gradients a GPU casts the weights of linear layers once; autocast does it in each pass.

    A CPU goes without the copy, which takes memory.
    """
    narrow = where.type == "cuda" and effective_precision(where, precision) == "bf16"
    return linear_weights_as(half(where), module) if narrow else nullcontext()


@contextmanager
def linear_weights_as(dtype: torch.dtype, module: nn.Module) -> Iterator[None]:
    """Within this block the linear layers of a module hold copies of their weights in another type."""
    layers = [layer for layer in module.modules() if isinstance(layer, nn.Linear)]
    own = [(layer, name, weight) for layer in layers for name, weight in layer.named_parameters(recurse=False)]
    try:
        for layer, name, weight in own:
            setattr(layer, name, nn.Parameter(weight.detach().to(dtype), requires_grad=False))
        yield
    finally:
        for layer, name, weight in own:
            setattr(layer, name, weight)


class LossScale:
    """The factor of a float16 loss, which keeps small gradients from becoming 0; it is 1 in other precisions.

    It is halved when gradients overflow, and doubled after `PATIENCE` updates without overflow.
    """

    START, PATIENCE = 2.0**16, 2000

    def __init__(self, where: torch.device, precision: Precision) -> None:
        self._used = effective_precision(where, precision) == "bf16" and half(where) == torch.float16
        self.value, self._finite = self.START if self._used else 1.0, 0

    def update(self, norm: Tensor) -> None:
        """Adapt to the gradient norm of an update; if it is not finite, the update was skipped."""
        if not self._used:
            return
        self._finite += 1
        if not norm.isfinite():
            self.value, self._finite = max(self.value / 2, 1.0), 0
        elif self._finite == self.PATIENCE:
            self.value, self._finite = self.value * 2, 0

    def state_dict(self) -> dict[str, Any]:
        """The factor, and the number of updates since the last overflow."""
        return {"value": self.value, "good": self._finite}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore both."""
        self.value, self._finite = state["value"], state["good"]


GPU_SHARE = "XSTILTS_GPU_SHARE"
"""The environment variable with a worker's share of its GPU's memory."""


def use_fast_cuda(where: torch.device) -> None:
    """On CUDA compute float32 products in TF32, keep attention away from cuDNN, and keep to a worker's share of memory.

    cuDNN's attention makes a plan for each new shape, and rounds dropout's rate to sixteenths in torch 2.10 and 2.11.
    """
    if where.type == "cuda":
        torch.backends.cuda.matmul.allow_tf32 = True
        torch.backends.cuda.enable_cudnn_sdp(False)
        if (share := float(os.environ.get(GPU_SHARE, "1"))) < 1:
            torch.cuda.set_per_process_memory_fraction(share, where)


@contextmanager
def without_tf32() -> Iterator[None]:
    """Within this block CUDA computes float32 products in float32."""
    was = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32 = was


@contextmanager
def deterministic(where: torch.device) -> Iterator[None]:
    """Within this block a CPU adds numbers in a fixed order, so equal work gives equal bits."""
    was = torch.are_deterministic_algorithms_enabled()
    fill = torch.utils.deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]
    torch.use_deterministic_algorithms(was or where.type == "cpu")
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # filling costs a write of all memory
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(was)
        torch.utils.deterministic.fill_uninitialized_memory = fill  # type: ignore[attr-defined]


def has_room(where: torch.device, size: int) -> bool:
    """Whether so many bytes fit into half of the free memory of a CUDA device; false elsewhere."""
    return where.type == "cuda" and size <= torch.cuda.mem_get_info(where)[0] // 2


def send(values: NDArray[Any], where: torch.device) -> Tensor:
    """Numbers as a tensor on a device; CUDA copies them while the processor goes on."""
    tensor = torch.from_numpy(values)
    if where.type != "cuda":
        return tensor.to(where)
    with torch.cuda.device(where):  # else the first GPU would pin the memory
        return tensor.pin_memory().to(where, non_blocking=True)


def random_state(where: torch.device) -> list[Tensor]:
    """The states of the random number generators of CPU and accelerator."""
    accelerator = {"cuda": lambda: torch.cuda.get_rng_state(where), "mps": torch.mps.get_rng_state}
    return [torch.get_rng_state(), *([accelerator[where.type]()] if where.type in accelerator else [])]


def set_random_state(where: torch.device, state: Sequence[Tensor]) -> None:
    """Restore such states."""
    torch.set_rng_state(state[0])
    if where.type == "cuda" and len(state) > 1:
        torch.cuda.set_rng_state(state[1], where)
    if where.type == "mps" and len(state) > 1:
        torch.mps.set_rng_state(state[1])


def set_num_threads(hidden: int) -> None:
    """Use one thread for a narrow encoder, all threads for others.

    For such small matrices more threads cost more than they save, above all beside other programs. With one thread the
    numbers do not depend on the number of cores.
    """
    torch.set_num_threads(1 if hidden < NARROW else THREADS)


def product(x_NI: Tensor, weight_OI: Tensor, bias_O: Tensor | None = None) -> Tensor:
    """Compute x W' + b, forward and backward; in float32 on a CPU by oneDNN.

    oneDNN has AVX-512 kernels for all processors. torch's default, MKL, has none for AMD and takes twice as long. In
    bfloat16 torch itself uses oneDNN. torch's compiler makes its own choice.
    """
    default = x_NI.device.type != "cpu" or x_NI.dtype != torch.float32 or torch.is_autocast_enabled("cpu")
    if ONEDNN is None or default or torch.compiler.is_compiling() or not len(x_NI):
        return linear(x_NI, weight_OI, bias_O)
    result: Tensor = _Product.apply(x_NI, weight_OI, bias_O)  # type: ignore[no-untyped-call]
    return result


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x_NI: Tensor, weight_OI: Tensor, bias_O: Tensor | None) -> Tensor:
        ctx.save_for_backward(x_NI, weight_OI)
        return onednn_linear(x_NI, weight_OI, bias_O)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (grad_NO,), (x_NI, weight_OI), needed = grads, ctx.saved_tensors, ctx.needs_input_grad
        return (
            onednn_linear(grad_NO, weight_OI.T) if needed[0] else None,
            onednn_linear(x_NI.T, grad_NO.T).T if needed[1] else None,
            grad_NO.sum(0) if needed[2] else None,
        )


class Linear(nn.Linear):
    """A linear layer that computes with `product`."""

    def forward(self, input: Tensor) -> Tensor:
        """[..., O] of [..., I]."""
        return product(input.reshape(-1, self.in_features), self.weight, self.bias).view(
            *input.shape[:-1], self.out_features
        )


def use_fast_layers(module: nn.Module) -> None:
    """Replace linear layers within a module by `Linear` and dropout by `Dropout`; weights and names stay the same."""
    for parent in [*module.modules()]:
        for name, layer in [*parent.named_children()]:
            if type(layer) is nn.Dropout:
                setattr(parent, name, Dropout(layer.p).train(layer.training))
            if type(layer) is nn.Linear:
                # on the meta device nothing is allocated, and no random numbers are drawn
                new = Linear(layer.in_features, layer.out_features, layer.bias is not None, device="meta")
                new.weight, new.bias = layer.weight, layer.bias
                setattr(parent, name, new.train(layer.training))


def seed(value: int) -> None:
    """Seed torch's random numbers (new heads, dropout) on every device."""
    torch.manual_seed(value)
