"""Values of frozen attrs classes, made fast: for what is made once a request, or once an object of an answer.

A frozen class sets each field through object.__setattr__, which costs more than all else of a small value. An open twin
is a class with the same slots that isn't frozen: the fields are set on one of its instances, and then its class is
exchanged.
"""


class Value:
    """The base of a class with an open twin: its values can be referred to weakly.

    A slot for that beside those for the fields would make the two classes different to Python.
    """

    __slots__ = ("__weakref__",)


def open_twin(kind: type) -> type:
    """Make the open twin of a slotted class, without an __init__: make an instance, set all fields, then the class."""
    body = {
        "__slots__": kind.__slots__,  # type: ignore[attr-defined] # of a slotted class
        # Python sets in its own, quick way only where both of these are its own.
        "__setattr__": object.__setattr__,
        "__delattr__": object.__delattr__,
    }
    return type(f"Open{kind.__name__}", (kind.__base__ or object,), body)
