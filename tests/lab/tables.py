"""A table for people."""


def print_table(head, rows, indent=''):
    """Right-aligned columns; every cell is a string."""
    width = [max(len(r[i]) for r in (head, *rows)) for i in range(len(head))]
    for r in (head, *rows):
        print(indent + '  '.join(c.rjust(w) for c, w in zip(r, width)))
