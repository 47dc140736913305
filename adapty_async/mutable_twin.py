"""Fast creation of instances of frozen attrs classes, for objects that are created per request or per JSON object.

A frozen class sets each field by object.__setattr__, which takes most of the time for a small object. A "mutable twin"
is a class with the same slots that isn't frozen. The fields are set on an instance of the twin, then its class is
replaced.
"""


class WeakrefSlot:
    """The base of a class with a mutable twin, which allows weak references.

    A slot for weak references next to those of the fields would give the two classes incompatible layouts.
    """

    __slots__ = ("__weakref__",)


def make_mutable_twin(cls: type) -> type:
    """Return the mutable twin of a slotted class.

    It has no __init__: create an instance, set all fields, then assign its class.
    """
    body = {
        "__slots__": cls.__slots__,  # type: ignore[attr-defined] # the class is slotted
        # Python only uses its fast path if both are its own.
        "__setattr__": object.__setattr__,
        "__delattr__": object.__delattr__,
    }
    return type(f"Open{cls.__name__}", (cls.__base__ or object,), body)
