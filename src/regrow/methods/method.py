"""What a method is: knobs, when it acts, and what it then does to the members of a network.

A plain model is a network of one member; the laboratory stacks hundreds. A method is written once, for any number:
its numbers are plain, or tensors (k) of as many members as act together.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from .dates import Dates
from .knobs import check_all, knobs_of
from .members import Members


@dataclass(frozen=True, kw_only=True)
class Method(ABC):
    """Keeps a network plastic. Subclass it as a frozen dataclass whose fields are `knobs.number`, `whole`, `choice`.

    A method acts at every multiple of its knob `every`, or at each update where it has none. It decides by masks and
    leaves the writing to `Members`, so that it works on a plain model and on a stack, and on any device.

    name: keys its random numbers, and names it in results; by default the name of the class in lower case.
    by_unit: whether it renews hidden units, and so needs them and their activations.
    draws: whether it draws from the laws of parameters, and so needs these.
    renews: whether it replaces entries, so that the optimizer's memory of them must be cleared.
    reads_inputs: whether it renews weights of linear and convolutional layers by their inputs.
    is_noise: whether it acts after all methods that renew.
    at_every_attempt: whether it acts at each step of the optimizer, also one that a gradient scaler skips: what it then
        does must come to nothing where `members.skipped` is nonzero.
    penalizes: whether `before` adds to the gradient, and so is called at every gradient that a closure computes.
    on_shards: whether it serves parameters of which every rank holds a part (FSDP2): it then works entry by
        entry, and leaves what depends on all entries to `members.select` and `members.unit_utility`.
    memory: the key of its memory in a stored state.

    Example:
        >>> from dataclasses import dataclass
        >>> from regrow import methods
        >>> @dataclass(frozen=True, kw_only=True)
        ... class Halve(methods.Method):
        ...     name = "halve"
        ...     every: int = methods.whole(1, "updates between halvings")
        ...     def act(self, members):
        ...         for name in members.parameters:
        ...             members.write(name, members.weights(name) / 2)
    """

    name: ClassVar[str]
    by_unit: ClassVar[bool] = False
    draws: ClassVar[bool] = True
    renews: ClassVar[bool] = True
    reads_inputs: ClassVar[bool] = False
    is_noise: ClassVar[bool] = False
    at_every_attempt: ClassVar[bool] = False
    penalizes: ClassVar[bool] = False
    on_shards: ClassVar[bool] = False
    memory: ClassVar[str] = "memory"

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if not hasattr(cls, "name"):
            cls.name = cls.__name__.lower()
        if cls.by_unit and cls.at_every_attempt:
            raise TypeError(
                f"{cls.__name__} is by_unit and acts at_every_attempt, but activations are read at updates that take "
                "place: leave one of the two False"
            )
        if cls.before is not Method.before and not cls.at_every_attempt:
            raise TypeError(
                f"{cls.__name__} has `before`, which is for methods that act at every step of the optimizer: set "
                "at_every_attempt = True"
            )

    def __post_init__(self) -> None:
        check_all(self)

    @property
    def off(self) -> bool:
        """True if with these knobs the method never does anything."""
        return False

    @property
    def needs_gradient(self) -> bool:
        """Whether it reads the gradient of the update."""
        return False

    @property
    def reads_activations(self) -> bool:
        """Whether it reads how active hidden units were."""
        return False

    @property
    def reads_positions(self) -> bool:
        """Whether it reads how active hidden units were at each of the positions that outgoing weights read."""
        return False

    def before(self, members: Members) -> None:  # noqa: B027
        """Do what comes before the optimizer's step: `members` has the weights and gradients it starts from."""

    def penalty(self, members: Members) -> Tensor:
        """What the method adds to the loss of each member, (k), where it `penalizes`."""
        raise NotImplementedError(f"{type(self).__name__} penalizes: define `penalty`, what it adds to the loss")

    @abstractmethod
    def act(self, members: Members) -> None:
        """Do what is due after the optimizer's step."""

    @property
    def observes(self) -> bool:
        """Whether it observes every update, even those at which it does nothing."""
        return False

    def observe(self, members: Members) -> None:  # noqa: B027
        """Observe an update, before anything is renewed; memory must not change where `members.skipped`."""

    @classmethod
    def dates(cls, methods: Sequence[Any]) -> Dates:
        """When each of some members acts, and what the method remembers of them."""
        return Dates([0 if method.off else getattr(method, "every", 1) for method in methods])

    def values(self) -> dict[str, Any]:
        """The knobs of the library, by name."""
        return {name: getattr(self, name) for name, knob in knobs_of(self).items() if not knob.laboratory}
