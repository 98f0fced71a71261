"""Tools for tests: andon's own, and yours.

- `andon.testing.bombs`: objects that go off (exit, crash, raise, hang) at a named moment of their
  way to a worker and back, for tests of what your program does when a worker dies;
- `andon.testing.clock`: `VirtualClock`, a clock that moves only when it is told to;
- `andon.testing.fake_engine`: `FakeEngine`, an engine that does nothing by itself: the test says
  what every task does, and when.
"""
