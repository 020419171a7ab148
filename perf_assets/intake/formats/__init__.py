"""One module a format: a source goes in, records and rejected lines come out.

A parser touches its two arguments and nothing else: no file system, no database, no clock, no other parser.
It is a module of this package with

* ``VERSION``: raised when its output changes; older records are then read again from the raw copies,
* ``SIGNS``: texts that every file of the format holds, of each group one: they explain what a file lacks,
* ``RULES``, where numbers do not stand in the file as they are published: column -> factor, or how it
  follows,
* ``sniff(head)``: does this look like mine? judged by content that only this format has, never by a name
  alone,
* ``parse(source, out)``: read ``source``, fill ``out``,
* for a format whose unit is a directory: ``MEMBERS``, the file names that make one run, and ``KEY_MEMBERS``,
  those of which at least one must be there.

The module's name is the format's name. ``registry.py`` lists them all.
"""
