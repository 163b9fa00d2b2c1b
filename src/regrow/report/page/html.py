"""HTML with every text escaped, unless it is HTML already."""

import html


class Html(str):
    """Text that is HTML."""


VOID = {"img", "br", "hr", "meta"}


def element(tag: str, *content: object, **attributes: object) -> Html:
    """An element; its content is escaped unless it is `Html`, attributes always.

    Args:
        tag: its name.
        content: children in order; None is left out.
        attributes: a trailing underscore is dropped (`class_`), others become hyphens; None leaves one out.

    Example:
        >>> print(element("p", "a < b ", element("b", "&"), class_="note", aria_label='"'))
        <p class="note" aria-label="&quot;">a &lt; b <b>&amp;</b></p>
    """
    listed = "".join(
        f' {name.rstrip("_").replace("_", "-")}="{html.escape(str(value))}"'
        for name, value in attributes.items()
        if value is not None
    )
    if tag in VOID:
        return Html(f"<{tag}{listed}>")
    return Html(f"<{tag}{listed}>{join(*content)}</{tag}>")


def join(*parts: object) -> Html:
    """Parts in order, escaped unless they are `Html`."""
    return Html("".join(p if isinstance(p, Html) else html.escape(str(p)) for p in parts if p is not None))
