"""Rows and tables of the report."""


class Row:
    """`cpu` is CPU time for each request, Squall's and its peer's."""

    def __init__(self, what, squall, peer="", ratio=None, bar="", met=None, cpu=""):
        self.what, self.squall, self.peer, self.cpu = what, squall, peer, cpu
        self.ratio, self.bar, self.met = ratio, bar, met


def at_least(what, ours, theirs, bar, peer_name, cpu=""):
    """Two rates of `load.rates`, and whether the first is `bar` times the second."""
    ratio = ours.over(theirs)
    return Row(what, f"{ours:,.0f}/s", f"{theirs:,.0f}/s {peer_name}", f"{ratio:.2f}",
               f"at least {bar:g}" if bar else "", ratio >= bar if bar else None, cpu)


def table(rows):
    columns = [("what", lambda row: row.what), ("Squall", lambda row: row.squall),
               ("beside", lambda row: row.peer), ("ratio", lambda row: row.ratio or "")]
    if any(row.cpu for row in rows):
        columns.append(("CPU per request", lambda row: row.cpu))
    columns += [("bar", lambda row: row.bar), ("met", met)]
    lines = [[title for title, _ in columns]]
    lines += [[cell(row) for _, cell in columns] for row in rows]
    head, *others = [f"| {' | '.join(line)} |" for line in lines]
    return "\n".join([head, "|" + "---|" * len(columns), *others])


def met(row):
    return "" if row.met is None else "yes" if row.met else "**no**"
