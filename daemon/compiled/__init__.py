"""A front's hot rooms as machine code, made from the same sources by mypyc: optional.

Rules
- The Python sources are the program. Compiled or not, they are the same to every test that is run
  with both; without a compiler nothing is missing but time.
- What was compiled lies in the environment, under a digest of all sources, of Python and of mypyc's
  version: sources that have changed in any way run as they are until they are compiled again.
- Only front processes load it: `use` comes before anything else is imported there.
"""
