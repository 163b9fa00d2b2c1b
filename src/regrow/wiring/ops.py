"""The operations that keep hidden units separate."""

from torch import fx, nn

# Elementwise and nonlinear: functions, in-place twins (with a trailing underscore) and tensor methods alike.
NONLINEAR = frozenset(
    "abs celu clamp clamp_max clamp_min clip cos elu erf exp expm1 ge gelu gt hardshrink hardsigmoid hardswish "
    "hardtanh le leaky_relu log log1p logsigmoid lt mish pow reciprocal relu relu6 rrelu rsqrt selu sigmoid sign silu "
    "sin softplus softshrink softsign sqrt square tanh tanhshrink threshold".split()
)
# Elementwise, and linear in each unit (or a copy of it).
LINEAR = frozenset(
    "add alpha_dropout bfloat16 clone contiguous detach div double dropout dropout1d dropout2d dropout3d "
    "feature_alpha_dropout feature_dropout float half iadd imul isub itruediv mul multiply nan_to_num neg positive sub "
    "subtract to true_divide truediv type type_as".split()
)
PRODUCTS = frozenset({"mul", "imul", "multiply"})
SUMS = frozenset({"add", "iadd", "sub", "isub", "subtract"})
COMMUTING = PRODUCTS | SUMS
"""Operations whose first argument may be a number."""
POOLS = frozenset(
    f"{kind}_pool{d}d" for kind in ("max", "avg", "lp", "adaptive_max", "adaptive_avg") for d in (1, 2, 3)
)
REDUCTIONS = frozenset({"mean", "sum", "amax", "amin"})
# What is asked about a tensor without reading its values.
QUESTIONS = frozenset({"size", "dim", "numel", "shape", "dtype", "device", "ndim", "is_floating_point", "nelement"})

_LINEAR_MODULES = (
    nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout,
)  # fmt: skip
_ACTIVATIONS = frozenset(
    vars(nn.modules.activation)[name]
    for name in nn.modules.activation.__all__
    if name not in ("GLU", "LogSoftmax", "MultiheadAttention", "PReLU", "Softmax", "Softmax2d", "Softmin")
)
POOL_MODULES = tuple(
    getattr(nn, f"{kind}Pool{d}d") for kind in ("Max", "Avg", "LP", "AdaptiveMax", "AdaptiveAvg") for d in (1, 2, 3)
)  # fmt: skip
RESIZING_MODULES = (
    nn.Upsample, nn.UpsamplingNearest2d, nn.UpsamplingBilinear2d, nn.ZeroPad1d, nn.ZeroPad2d, nn.ZeroPad3d,
    nn.ReflectionPad1d, nn.ReflectionPad2d, nn.ReflectionPad3d, nn.ReplicationPad1d, nn.ReplicationPad2d,
    nn.ReplicationPad3d,
)  # fmt: skip
LAYER_NORMS = (nn.LayerNorm, nn.RMSNorm)
CHANNEL_NORMS = (
    nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm, nn.GroupNorm,
    nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d,
)  # fmt: skip


def function_name(node: fx.Node) -> str:
    """The plain name of what a function or method node calls, without the underscore of in-place twins; else ""."""
    if node.op == "call_method":
        return str(node.target).rstrip("_")
    if node.op != "call_function":
        return ""
    target = node.target
    if target is getattr:
        return str(node.args[1])
    home = getattr(target, "__module__", None) or "torch"
    if home.split(".")[0] not in ("torch", "_operator", "operator", "math"):
        return ""  # a function of the user's, whatever its name
    return getattr(target, "__name__", "").lstrip("_").rstrip("_")


def is_linear(module: nn.Module) -> bool:
    """Elementwise and linear: dropout, identity."""
    return type(module) in _LINEAR_MODULES


def is_conv1d(module: nn.Module) -> bool:
    """Hugging Face's linear layer that holds its weight as (in, out)."""
    return type(module).__name__ == "Conv1D" and type(module).__module__.startswith("transformers.")


def keeps_batch(module: nn.Module) -> bool:
    """A module that leaves the first dimension alone, of those through which units may pass."""
    kinds = (*POOL_MODULES, *RESIZING_MODULES, *LAYER_NORMS, *CHANNEL_NORMS, nn.PReLU)
    return is_linear(module) or is_activation(module) or isinstance(module, kinds)


def is_activation(module: object) -> bool:
    """Elementwise and nonlinear: a module of torch's, or one of its functions."""
    if isinstance(module, nn.Module):
        return type(module) in _ACTIVATIONS
    home = (getattr(module, "__module__", None) or "torch").split(".")[0]
    return home == "torch" and getattr(module, "__name__", "").rstrip("_") in NONLINEAR
